//! What `[export]` asks for: written when the run is over, and once before it begins, aside, to see that it can be.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use afina_checkpoint::{AtomicDir, Mix, ModelDir, SHARD_SIZE, export_gguf, merge_adapter};
use anyhow::{Context, Result};

/// An entry of `export.as`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportAs {
    /// The finished adapter itself, at the top of the run's folder.
    Peft,
    /// `export-hf/`, the base with the adapter merged into it.
    Hf,
    /// `export-q8_0.gguf`, the same in one file, in one of llama.cpp's mixes.
    Gguf(Mix),
}

/// What `export.as` may hold.
pub(crate) const EXPORTS: &str = "peft | hf | gguf:TYPE";

impl FromStr for ExportAs {
    /// What to do about it.
    type Err = String;

    fn from_str(name: &str) -> Result<ExportAs, String> {
        match (name, name.strip_prefix("gguf:")) {
            ("peft", _) => Ok(ExportAs::Peft),
            ("hf", _) => Ok(ExportAs::Hf),
            (_, Some(mix)) => mix.parse().map(ExportAs::Gguf).map_err(|unknown: afina_checkpoint::UnknownMix| {
                match unknown.nearest() {
                    Some(mix) => format!("did you mean `gguf:{}`? TYPE is one of {}", lower(mix), Mix::names()),
                    None => format!("TYPE is one of {}", Mix::names()),
                }
            }),
            (_, None) => Err(match name.parse::<Mix>() {
                Ok(mix) => format!("did you mean `gguf:{}`?", lower(mix)),
                Err(_) => "set export.as=peft".to_owned(),
            }),
        }
    }
}

fn lower(mix: Mix) -> String {
    mix.name().to_lowercase()
}

impl ExportAs {
    fn name(self) -> String {
        match self {
            ExportAs::Peft => String::new(),
            ExportAs::Hf => "export-hf".to_owned(),
            ExportAs::Gguf(mix) => format!("export-{}.gguf", lower(mix)),
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
    merge_adapter(base, adapter, &merged, SHARD_SIZE, &mut |_, _| {})
        .with_context(|| format!("failed to merge the adapter into `{}`", merged.display()))?;
    let mut paths = Vec::new();
    for kind in kinds {
        let path = to.join(kind.name());
        if let ExportAs::Gguf(mix) = kind {
            let model = ModelDir::open(&merged).with_context(|| format!("failed to open `{}`", merged.display()))?;
            export_gguf(&model, &path, mix, false, &mut |_, _| {})
                .with_context(|| format!("failed to export to `{}`", path.display()))?;
        }
        paths.push(path);
    }
    Ok(paths)
}
