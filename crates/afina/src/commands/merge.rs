//! `afina merge`: an adapter into the weights of its base.

use std::path::Path;

use afina_checkpoint::{MergeReport, ModelDir};
use anyhow::{Context, Result};

use super::OK;
use crate::args::Merge;
use crate::output::Output;

pub fn run(args: &Merge, output: &Output) -> Result<u8> {
    let report = merge(&args.base, &args.adapter, &args.to, args.shards.shard_size, output)?;
    let to = args.to.display();
    output.result(
        &format!("{to}\n  {} layers merged, weights sha256 {}…", report.merged, &report.weights_sha256[..12]),
        &serde_json::to_value(&report)?,
    );
    Ok(OK)
}

/// Merges behind a progress bar and warns of what looks wrong.
pub fn merge(base: &Path, adapter: &Path, to: &Path, shard_size: u64, output: &Output) -> Result<MergeReport> {
    let model = ModelDir::open(base).with_context(|| format!("failed to open the base model `{}`", base.display()))?;
    let bar = output.progress(1, "merging {bar:30} {pos}/{len} tensors");
    let report = afina_checkpoint::merge(&model, adapter, to, shard_size, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let report =
        report.with_context(|| format!("failed to merge `{}` into `{}`", adapter.display(), base.display()))?;
    if report.base_matches == Some(false) {
        output.warn("the adapter was trained on another base: the merged model is not what was trained");
    }
    Ok(report)
}
