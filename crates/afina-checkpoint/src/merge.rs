//! An adapter into its base's weights: W + scaling · B·A, in f32, one tensor in memory at a time.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use crate::adapter::{ADAPTER_WEIGHTS, AdapterConfig, AdapterError, LoraTensors, read_adapter};
use crate::adapter_template::{CHAT_TEMPLATE, template_of};
use crate::atomic::AtomicDir;
use crate::atomic::write_file;
use crate::card::{Card, CardKind, file_name, repo_of, run_of, write_card};
use crate::export::copy_companions;
use crate::hash::sha256_file;
use crate::manifest::{Manifest, Origin};
use crate::model_dir::{ModelDir, ModelDirError};
use crate::safetensors::WriteError;
use crate::shards::write_weights;
use crate::tensor::{RawTensor, TensorError};

/// What a merge did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MergeReport {
    /// Linear layers that an adapter was added to.
    pub merged: usize,
    /// Tensors written, merged or copied.
    pub tensors: usize,
    /// Whether the adapter says that it was trained on this base; `None` if it says nothing.
    pub base_matches: Option<bool>,
    /// Share of the changed weights that rounding to the base's dtype put back where they were.
    pub lost_to_rounding: f64,
    /// SHA-256 of the merged weights.
    pub weights_sha256: String,
}

/// Why a merge failed; nothing is left at its target.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    #[error("failed to read the adapter")]
    Adapter(#[from] AdapterError),
    #[error("failed to read the base model")]
    Base(#[from] ModelDirError),
    #[error("adapter on `{module}`: the base has no such layer")]
    NoLayer { module: String },
    #[error("adapter on `{module}`: expected B·A of shape {expected:?}, found {found:?}")]
    Shape { module: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("failed to merge into `{name}`")]
    Tensor { name: String, source: TensorError },
    #[error("failed to write the merged weights")]
    Write(#[from] WriteError),
    #[error("failed to write `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Merges the adapter into the base and writes a model folder at `to`, in the base's dtypes, with all its other files, and
/// with the adapter's chat template where it was trained with one of its own.
///
/// `progress` is told how many tensors of how many are done. The folder appears only when it is whole; a folder with
/// anything in it is not overwritten.
pub fn merge(
    base: &ModelDir,
    adapter_dir: &Path,
    to: &Path,
    shard_size: u64,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<MergeReport, MergeError> {
    let io_error = |source| MergeError::Io { path: to.into(), source };
    let (config, adapters) = read_adapter(adapter_dir)?;
    let template = template_of(&base.path, adapter_dir, &config)?;
    let adapters = by_weight(base, adapters)?;
    let base_sha256 = base.weights_sha256()?;
    let adapter_sha256 = sha256_file(&adapter_dir.join(ADAPTER_WEIGHTS)).map_err(io_error)?;

    let folder = AtomicDir::create_new(to).map_err(io_error)?;
    copy_companions(base, folder.path())?;
    if let Some(template) = &template {
        set_template(template, folder.path()).map_err(io_error)?;
    }
    let total = base.tensor_names().len();
    let (mut done, mut changed, mut lost) = (0, 0_usize, 0_usize);
    write_weights(folder.path(), &base.infos(), shard_size, &mut |name| {
        let mut tensor = base.tensor(name)?;
        if let Some(lora) = adapters.get(name) {
            let before = tensor;
            let (merged, moved) = add(&before, lora, config.scaling(&lora.module))?;
            changed += moved;
            let kept = before.dtype.size();
            lost += moved.saturating_sub(
                merged.bytes.chunks_exact(kept).zip(before.bytes.chunks_exact(kept)).filter(|(a, b)| a != b).count(),
            );
            tensor = merged;
        }
        done += 1;
        progress(done, total);
        Ok(tensor)
    })?;

    let license = base.origin().ok().flatten().and_then(|manifest| manifest.license);
    let mut made_of = vec![
        (format!("base `{}`", file_name(&base.path)), base_sha256.clone()),
        (format!("adapter `{}`", file_name(adapter_dir)), adapter_sha256.clone()),
    ];
    made_of.extend(run_of(adapter_dir));
    let card = Card {
        name: &file_name(to),
        license: license.as_deref(),
        base: Some(&base.path),
        repo: repo_of(&base.path),
        kind: CardKind::Merged { adapter: adapter_dir },
        made_of,
    };
    write_card(folder.path(), &card).map_err(io_error)?;
    let origin = Origin::Merge {
        base: base.path.display().to_string(),
        base_sha256: base_sha256.clone(),
        adapter: adapter_dir.display().to_string(),
        adapter_sha256,
    };
    let name = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let manifest = Manifest::write(folder.path(), name, license, origin).map_err(io_error)?;
    folder.commit().map_err(io_error)?;
    Ok(MergeReport {
        merged: adapters.len(),
        tensors: total,
        base_matches: trained_on(&config, &base_sha256),
        lost_to_rounding: if changed == 0 { 0.0 } else { lost as f64 / changed as f64 },
        weights_sha256: manifest.weights_sha256(),
    })
}

/// Puts a chat template where every program looks for one: in its file, and in tokenizer_config.json if that names one.
fn set_template(template: &Path, folder: &Path) -> io::Result<()> {
    let text = std::fs::read_to_string(template)?;
    write_file(&folder.join(CHAT_TEMPLATE), text.as_bytes())?;
    let path = folder.join("tokenizer_config.json");
    if !path.is_file() {
        return Ok(());
    }
    let mut config: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&std::fs::read(&path)?)?;
    if let Some(named) = config.get_mut("chat_template") {
        *named = text.into();
        write_file(&path, &serde_json::to_vec_pretty(&config)?)?;
    }
    Ok(())
}

/// Whether an adapter says that it was trained on the base of this hash; `None` if it says nothing.
pub fn trained_on(config: &AdapterConfig, base_sha256: &str) -> Option<bool> {
    config.afina.as_ref().map(|trained| trained.base_sha256 == base_sha256)
}

/// The adapters by the tensor they change, each checked against the base.
fn by_weight(base: &ModelDir, adapters: Vec<LoraTensors>) -> Result<HashMap<String, LoraTensors>, MergeError> {
    let mut by_weight = HashMap::with_capacity(adapters.len());
    for lora in adapters {
        let weight = format!("{}.weight", lora.module);
        let Some(info) = base.info(&weight) else {
            return Err(MergeError::NoLayer { module: lora.module });
        };
        let found = vec![lora.b.shape[0], lora.a.shape[1]];
        if info.shape != found {
            let expected = info.shape.clone();
            return Err(MergeError::Shape { module: lora.module, expected, found });
        }
        by_weight.insert(weight, lora);
    }
    Ok(by_weight)
}

/// `weight + scaling · B·A` in f32, rounded to the weight's dtype; and how many values B·A changes.
fn add(weight: &RawTensor, lora: &LoraTensors, scaling: f64) -> Result<(RawTensor, usize), MergeError> {
    let values =
        |tensor: &RawTensor| tensor.to_f32().map_err(|source| MergeError::Tensor { name: weight.name.clone(), source });
    let (mut merged, a, b) = (values(weight)?, values(&lora.a)?, values(&lora.b)?);
    let (rank, columns) = (lora.a.shape[0], lora.a.shape[1]);
    let moved = merged
        .par_chunks_mut(columns)
        .zip(b.par_chunks(rank))
        .map(|(row, b)| {
            let mut delta = vec![0.0_f32; columns];
            for (b, a) in b.iter().zip(a.chunks_exact(columns)) {
                delta.iter_mut().zip(a).for_each(|(delta, a)| *delta += b * a);
            }
            row.iter_mut().zip(&delta).for_each(|(weight, delta)| *weight += scaling as f32 * delta);
            delta.iter().filter(|delta| **delta != 0.0).count()
        })
        .sum();
    let merged = RawTensor::from_f32_as(&weight.name, weight.shape.clone(), &merged, weight.dtype)
        .map_err(|source| MergeError::Tensor { name: weight.name.clone(), source })?;
    Ok((merged, moved))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SHARD_SIZE;
    use crate::adapter::{TrainedWith, write_adapter};
    use crate::testing::{tiny_adapter, tiny_model};
    use std::fs;

    #[test]
    fn merged_is_base_plus_scaled_product_and_the_rest_is_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let (base_dir, adapter_dir, to) =
            (dir.path().join("base"), dir.path().join("adapter"), dir.path().join("merged"));
        tiny_model(&base_dir, true);
        crate::atomic::write_file(&base_dir.join("tokenizer.json"), b"{}").unwrap();
        let (mut config, adapters) = tiny_adapter(&adapter_dir);
        let base = ModelDir::open(&base_dir).unwrap();
        config.afina = Some(TrainedWith {
            base_sha256: base.weights_sha256().unwrap(),
            template_sha256: String::new(),
            version: "0.1.0".into(),
        });
        write_adapter(&adapter_dir, &config, &adapters).unwrap();

        let mut calls = Vec::new();
        let report = merge(&base, &adapter_dir, &to, SHARD_SIZE, &mut |done, total| calls.push((done, total))).unwrap();
        assert_eq!((report.merged, report.tensors, report.base_matches), (adapters.len(), 20, Some(true)));
        assert_eq!(calls.last(), Some(&(20, 20)));
        let merged = ModelDir::open(&to).unwrap();
        assert_eq!(merged.weights_sha256().unwrap(), report.weights_sha256);
        assert_eq!(fs::read(to.join("tokenizer.json")).unwrap(), b"{}");

        for name in base.tensor_names() {
            let (before, after) = (base.tensor(name).unwrap(), merged.tensor(name).unwrap());
            let Some(lora) = adapters.iter().find(|lora| format!("{}.weight", lora.module) == *name) else {
                assert_eq!(before, after);
                continue;
            };
            let (w, m) = (before.to_f32().unwrap(), after.to_f32().unwrap());
            let (a, b) = (lora.a.to_f32().unwrap(), lora.b.to_f32().unwrap());
            let columns = before.shape[1];
            for (index, (w, m)) in w.iter().zip(&m).enumerate() {
                let (row, column) = (index / columns, index % columns);
                let delta: f64 = (0..4).map(|k| f64::from(b[row * 4 + k]) * f64::from(a[k * columns + column])).sum();
                assert!((f64::from(*w) + 2.0 * delta - f64::from(*m)).abs() < 1e-6, "{name} {index}");
            }
        }
    }

    #[test]
    fn merged_model_has_the_template_that_the_adapter_was_trained_with() {
        let dir = tempfile::tempdir().unwrap();
        let (base_dir, adapter_dir, to) =
            (dir.path().join("base"), dir.path().join("adapter"), dir.path().join("merged"));
        tiny_model(&base_dir, true);
        crate::testing::tiny_tokenizer(&base_dir, 320);
        tiny_adapter(&adapter_dir);
        write_file(&adapter_dir.join(CHAT_TEMPLATE), b"{{ tools }}").unwrap();
        let base = ModelDir::open(&base_dir).unwrap();
        merge(&base, &adapter_dir, &to, SHARD_SIZE, &mut |_, _| ()).unwrap();
        assert_eq!(crate::inspect::chat_template(&to).unwrap().unwrap(), "{{ tools }}");
        let json = |folder: &Path| -> serde_json::Value {
            serde_json::from_slice(&fs::read(folder.join("tokenizer_config.json")).unwrap()).unwrap()
        };
        let (mut before, after) = (json(&base_dir), json(&to));
        before["chat_template"] = "{{ tools }}".into();
        assert_eq!(after, before, "nothing else changes");

        crate::export::export_gguf(
            &ModelDir::open(&to).unwrap(),
            &dir.path().join("m.gguf"),
            afina_quant::mix::Mix::F32,
            false,
            &mut |_, _| (),
        )
        .unwrap();
        let gguf = crate::gguf::GgufFile::open(&dir.path().join("m.gguf")).unwrap();
        assert_eq!(gguf.str("tokenizer.chat_template").unwrap(), Some("{{ tools }}"));
    }

    #[test]
    fn adapter_of_another_model_and_full_target_are_refused_and_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (base_dir, adapter_dir, to) =
            (dir.path().join("base"), dir.path().join("adapter"), dir.path().join("merged"));
        tiny_model(&base_dir, true);
        let (config, mut adapters) = tiny_adapter(&adapter_dir);
        let base = ModelDir::open(&base_dir).unwrap();
        let count = || fs::read_dir(dir.path()).unwrap().count();

        let good = adapters[0].clone();
        adapters[0].module = "model.layers.7.self_attn.q_proj".into();
        write_adapter(&adapter_dir, &config, &adapters).unwrap();
        assert_eq!(
            merge(&base, &adapter_dir, &to, SHARD_SIZE, &mut |_, _| ()).unwrap_err().to_string(),
            "adapter on `model.layers.7.self_attn.q_proj`: the base has no such layer"
        );
        adapters[0] = good.clone();
        adapters[0].a = RawTensor::from_f32("a", vec![4, 3], &[0.0; 12]);
        write_adapter(&adapter_dir, &config, &adapters).unwrap();
        assert!(matches!(merge(&base, &adapter_dir, &to, SHARD_SIZE, &mut |_, _| ()), Err(MergeError::Shape { .. })));
        adapters[0] = good;
        adapters[0].a = RawTensor::from_f32("a", vec![4, 64], &[f32::INFINITY; 256]);
        write_adapter(&adapter_dir, &config, &adapters).unwrap();
        assert!(matches!(merge(&base, &adapter_dir, &to, SHARD_SIZE, &mut |_, _| ()), Err(MergeError::Write(_))));
        assert_eq!(count(), 2);

        tiny_adapter(&adapter_dir);
        crate::atomic::write_file(&to.join("mine.txt"), b"x").unwrap();
        assert!(merge(&base, &adapter_dir, &to, SHARD_SIZE, &mut |_, _| ()).is_err());
        assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    }
}
