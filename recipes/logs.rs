//! The files of a run beside its checkpoints: what it was made from, and what was measured.

use std::collections::BTreeMap;

use afina_checkpoint::RunDir;
use afina_train::{Metrics, csv_header};
use anyhow::Result;

use crate::Recipe;

/// Starts the run's files, or cuts the logs back to where a resumed run goes on.
pub(crate) fn begin_logs(
    recipe: &Recipe,
    run_dir: &RunDir,
    fingerprints: &BTreeMap<String, String>,
    step: usize,
) -> Result<()> {
    let manifest = serde_json::json!({
        "program": concat!("afina ", env!("CARGO_PKG_VERSION")),
        "seed": recipe.seed,
        "device": recipe.device.device,
        "chat_template": recipe.data.chat_template,
        "sha256": fingerprints,
    });
    run_dir.write("recipe.toml", recipe.resolved().as_bytes())?;
    run_dir.write("manifest.json", &serde_json::to_vec_pretty(&manifest)?)?;
    if step == 0 {
        run_dir.write("metrics.jsonl", b"")?;
        run_dir.write("metrics.csv", format!("{}\n", csv_header()).as_bytes())?;
        return Ok(());
    }
    run_dir.retain_lines("metrics.jsonl", |line| {
        serde_json::from_str::<Metrics>(line).is_ok_and(|metrics| metrics.step <= step)
    })?;
    run_dir.retain_lines("metrics.csv", |line| {
        line.split(',').next().is_none_or(|first| first.parse::<usize>().map_or(true, |logged| logged <= step))
    })?;
    Ok(())
}

/// What the log's last line says: where a run that is resumed with nothing left to do stands.
pub(crate) fn last_metrics(run_dir: &RunDir) -> Option<Metrics> {
    let log = std::fs::read_to_string(run_dir.file("metrics.jsonl")).ok()?;
    serde_json::from_str(log.lines().last()?).ok()
}
