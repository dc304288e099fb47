//! What `[export]` asks for: written when the run is over, and once before it begins, aside, to see that it can be.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use afina_checkpoint::{AtomicDir, GgufType, ModelDir, export_gguf, merge};
use anyhow::{Context, Result};

/// An entry of `export.as`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportAs {
    /// The finished adapter itself, at the top of the run's folder.
    Peft,
    /// `export-hf/`, the base with the adapter merged into it.
    Hf,
    /// `export-q8_0.gguf`, the same in one file.
    Gguf(GgufType),
}

/// What `export.as` may hold.
pub(crate) const EXPORTS: [&str; 4] = ["peft", "hf", "gguf:q8_0", "gguf:f32"];

impl FromStr for ExportAs {
    type Err = ();

    fn from_str(name: &str) -> Result<ExportAs, ()> {
        match name {
            "peft" => Ok(ExportAs::Peft),
            "hf" => Ok(ExportAs::Hf),
            "gguf:q8_0" => Ok(ExportAs::Gguf(GgufType::Q8_0)),
            "gguf:f32" => Ok(ExportAs::Gguf(GgufType::F32)),
            _ => Err(()),
        }
    }
}

impl ExportAs {
    fn name(self) -> &'static str {
        match self {
            ExportAs::Peft => "",
            ExportAs::Hf => "export-hf",
            ExportAs::Gguf(GgufType::F32) => "export-f32.gguf",
            ExportAs::Gguf(GgufType::Q8_0) => "export-q8_0.gguf",
        }
    }
}

/// Writes the adapter's exports into the folder `to`, in place of earlier ones. Returns where they are.
pub(crate) fn export(kinds: &[ExportAs], base: &ModelDir, adapter: &Path, to: &Path) -> Result<Vec<PathBuf>> {
    let kinds: Vec<ExportAs> = kinds.iter().copied().filter(|&kind| kind != ExportAs::Peft).collect();
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    // A GGUF is made from a merged folder: the one that stays, else one aside that goes when this function is over.
    let hf = to.join(ExportAs::Hf.name());
    let aside = AtomicDir::create(&to.join("export-merged"))
        .with_context(|| format!("failed to make a folder in `{}`", to.display()))?;
    let merged = if kinds.contains(&ExportAs::Hf) { hf.clone() } else { aside.path().join("merged") };
    if hf.exists() {
        std::fs::remove_dir_all(&hf).with_context(|| format!("failed to remove `{}`", hf.display()))?;
    }
    merge(base, adapter, &merged, &mut |_, _| {})
        .with_context(|| format!("failed to merge the adapter into `{}`", merged.display()))?;
    let mut paths = Vec::new();
    for kind in kinds {
        let path = to.join(kind.name());
        if let ExportAs::Gguf(kind) = kind {
            let model = ModelDir::open(&merged).with_context(|| format!("failed to open `{}`", merged.display()))?;
            export_gguf(&model, &path, kind, &mut |_, _| {})
                .with_context(|| format!("failed to export to `{}`", path.display()))?;
        }
        paths.push(path);
    }
    Ok(paths)
}
