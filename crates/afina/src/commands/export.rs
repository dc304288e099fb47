//! `afina export`: what other programs load.

use std::path::Path;

use afina_checkpoint::{GgufType, ModelDir, export_gguf, export_hf, export_peft};
use anyhow::{Context, Result};
use serde_json::json;

use super::{OK, merge};
use crate::Usage;
use crate::args::{Export, ExportKind, GgufTypeArg};
use crate::output::Output;

pub fn run(args: &Export, output: &Output) -> Result<u8> {
    let (model, adapter) = (&args.model.model, args.model.adapter.as_deref());
    match (args.kind, adapter) {
        (ExportKind::Peft, None) => {
            return Err(Usage::error("a PEFT export needs an adapter", "give it with --adapter DIR"));
        }
        (ExportKind::Peft, Some(adapter)) => {
            export_peft(adapter, &args.to).with_context(|| format!("failed to export to `{}`", args.to.display()))?;
        }
        (ExportKind::Hf, None) => {
            export_hf(&open(model)?, &args.to)
                .with_context(|| format!("failed to export to `{}`", args.to.display()))?;
        }
        (ExportKind::Hf, Some(adapter)) => {
            merge::merge(model, adapter, &args.to, output)?;
        }
        (ExportKind::Gguf, None) => gguf(model, &args.to, args.gguf_type, output)?,
        (ExportKind::Gguf, Some(adapter)) => {
            // Merged aside, in a folder beside the file, so that one disk holds both; it goes when the file is there.
            let aside = tempdir_beside(&args.to)?;
            let merged = aside.path().join("merged");
            merge::merge(model, adapter, &merged, output)?;
            gguf(&merged, &args.to, args.gguf_type, output)?;
        }
    }
    let path = args.to.display().to_string();
    output.result(&path, &json!({ "path": path }));
    Ok(OK)
}

/// Writes a model folder as one GGUF file behind a progress bar.
pub fn gguf(model: &Path, to: &Path, kind: GgufTypeArg, output: &Output) -> Result<()> {
    let kind = match kind {
        GgufTypeArg::F32 => GgufType::F32,
        GgufTypeArg::Q8_0 => GgufType::Q8_0,
    };
    let bar = output.progress(1, "writing {bar:30} {pos}/{len} tensors");
    let result = export_gguf(&open(model)?, to, kind, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    result.with_context(|| format!("failed to export to `{}`", to.display()))
}

fn open(model: &Path) -> Result<ModelDir> {
    ModelDir::open(model).with_context(|| format!("failed to open the model `{}`", model.display()))
}

fn tempdir_beside(to: &Path) -> Result<tempfile::TempDir> {
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).with_context(|| format!("failed to make `{}`", parent.display()))?;
    tempfile::Builder::new()
        .prefix(".afina-merge-")
        .tempdir_in(parent)
        .with_context(|| format!("failed to make a folder in `{}`", parent.display()))
}
