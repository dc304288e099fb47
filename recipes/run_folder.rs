//! A run's folder, and what must stay the same under it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use afina_chat::ChatFormat;
use afina_checkpoint::{AdapterConfig, ModelDir, RunDir, TrainedWith, chat_template, sha256_file, sha256_hex};
use anyhow::{Context, Result, bail};

use crate::{Recipe, ResumeRefused};

/// The folder of a new run, or of one that goes on. One that was stopped before its first checkpoint begins anew.
pub(crate) fn run_dir(recipe: &Recipe, resume: bool) -> Result<RunDir> {
    let path =
        if recipe.run.contains('/') { PathBuf::from(&recipe.run) } else { Path::new("checkpoints").join(&recipe.run) };
    if resume && !path.is_dir() {
        bail!("`{}` holds no run to resume", path.display());
    }
    let run_dir =
        RunDir::create(&path).with_context(|| format!("failed to make the run's folder `{}`", path.display()))?;
    if !resume && run_dir.is_used() {
        bail!(
            "`{}` holds an earlier run: go on with it (--resume), name another (run=NAME), or remove it",
            path.display()
        );
    }
    Ok(run_dir)
}

/// sha256 of everything that decides what the run computes.
pub(crate) fn fingerprints(recipe: &Recipe, base: &ModelDir, format: &ChatFormat) -> Result<BTreeMap<String, String>> {
    let mut decisive = recipe.clone();
    (decisive.save, decisive.eval, decisive.device, decisive.export) = Default::default();
    decisive.save.best = recipe.save.best;
    if recipe.save.best || recipe.early_stopping.is_some() {
        decisive.eval.every_steps = recipe.eval.every_steps;
    }
    let file = |name: &str| {
        let path = base.path.join(name);
        sha256_file(&path).with_context(|| format!("failed to read `{}`", path.display()))
    };
    let mut fingerprints = BTreeMap::from([
        ("the base model".to_owned(), base.weights_sha256()?),
        ("the chat template".to_owned(), sha256_hex(format.template.source().as_bytes())),
        ("the base's config.json".to_owned(), file("config.json")?),
        ("the base's tokenizer.json".to_owned(), file("tokenizer.json")?),
        ("the recipe".to_owned(), sha256_hex(decisive.resolved().as_bytes())),
    ]);
    for path in recipe.data.train.iter().map(|file| &file.path).chain(&recipe.data.validation) {
        let hash = sha256_file(path).with_context(|| format!("failed to read `{}`", path.display()))?;
        fingerprints.insert(format!("the data file `{}`", path.display()), hash);
    }
    Ok(fingerprints)
}

/// Refuses to go on with a run when something it depends on is not what it was.
pub(crate) fn check_unchanged(found: &BTreeMap<String, String>, began: &BTreeMap<String, String>) -> Result<()> {
    match found.iter().find(|(what, hash)| began.get(*what) != Some(*hash)) {
        Some((what, _)) => Err(ResumeRefused { what: what.clone() }.into()),
        None => Ok(()),
    }
}

/// The template to keep with the adapter: nothing where it is the base's.
pub(crate) fn own_template<'f>(base: &ModelDir, format: &'f ChatFormat) -> Option<&'f str> {
    let of_base = chat_template(&base.path).ok().flatten(); // one that cannot be read is not the one in use
    Some(format.template.source()).filter(|source| of_base.as_deref() != Some(*source))
}

/// PEFT's config of the adapter, with what it was trained on.
pub(crate) fn adapter_config(
    recipe: &Recipe,
    base: &ModelDir,
    fingerprints: &BTreeMap<String, String>,
) -> AdapterConfig {
    let trained_with = TrainedWith {
        base_sha256: fingerprints["the base model"].clone(),
        template_sha256: fingerprints["the chat template"].clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let base = base.path.display().to_string();
    AdapterConfig::lora(recipe.lora.r, recipe.lora.alpha, recipe.target_modules(), base, trained_with)
}
