//! Adapters into their base's weights: W + scaling · B·A, in f32, one tensor in memory at a time.

mod add;
mod combination;
mod companions;
mod targets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::adapter::{ADAPTER_WEIGHTS, Adapter, AdapterConfig, AdapterError, template_of};
use crate::atomic::{AtomicDir, write_file};
use crate::card::{Card, CardKind, file_name, repo_of, run_of, write_card};
use crate::hash::sha256_file;
use crate::inspect::chat_template;
use crate::manifest::{Manifest, MergedAdapter, Origin};
use crate::model_dir::{ModelDir, ModelDirError};
use crate::safetensors::WriteError;
use crate::shards::write_weights;
use crate::tensor::{Dtype, RawTensor, TensorError, TensorInfo};
use add::{Sums, add};
pub use combination::{Combination, MajoritySign};
use targets::{Target, Targets, targets};

/// What a merge did, in the folder it wrote.
pub const MERGE_RECEIPT: &str = "merge_receipt.json";

/// What is merged, and how.
#[derive(Debug)]
pub struct MergeOptions<'a> {
    /// Adapter folders and what each is multiplied by.
    pub adapters: &'a [(PathBuf, f64)],
    pub combination: Combination,
    /// The unquantized model that the adapters are added to in place of the base they were trained on.
    pub original: Option<&'a ModelDir>,
    /// Float dtype of the merged weights; the base's own without.
    pub dtype: Option<Dtype>,
    /// The most bytes of weights in a file.
    pub shard_size: u64,
}

/// What a merge did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MergeReport {
    /// Tensors that an adapter changed.
    pub merged: usize,
    /// Tensors written, merged or copied.
    pub tensors: usize,
    /// Whether the adapters say that they were trained on this base; `None` if one says nothing.
    pub base_matches: Option<bool>,
    /// Whether the base's embeddings are its head, and the merged model has one of each: the adapter changes one alone.
    pub untied: bool,
    /// ‖ΔW‖ / ‖W‖ over all tensors that an adapter changed.
    pub relative_change: f64,
    /// ‖rounding‖ / ‖ΔW‖ over them: above 1, rounding to the dtype changes the weights more than the adapter does.
    pub relative_rounding: f64,
    /// Share of the changed values that rounding to the dtype put back where they were.
    pub lost_to_rounding: f64,
    /// ‖W − W trained on‖ / ‖ΔW‖ over them, where the adapter was added to the original.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_distance: Option<f64>,
    /// Each tensor that an adapter changed, in the order of the forward pass.
    pub layers: Vec<MergedTensor>,
    /// [`ModelDir::weights_sha256`] of the merged weights; not in the receipt, whose folder's manifest has it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub weights_sha256: String,
}

/// What was done to a tensor; the figures as in [`MergeReport`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MergedTensor {
    pub name: String,
    pub dtype: Dtype,
    pub relative_change: f64,
    pub relative_rounding: f64,
    pub lost_to_rounding: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_distance: Option<f64>,
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
    #[error("the adapter's own `{name}`: expected shape {expected:?}, found {found:?}")]
    Whole { name: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("`{name}` of the original: expected the base's shape {expected:?}, found {found:?}")]
    Original { name: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("adapters on `{module}` have ranks {} and {}: only `cat` combines different ranks", ranks[0], ranks[1])]
    Ranks { module: String, ranks: [usize; 2] },
    #[error("the adapter `{}` has {what}: it can only be merged alone, by `cat` and with weight 1", path.display())]
    NotCombined { path: PathBuf, what: &'static str },
    #[error("adapters trained with different chat templates cannot be combined: `{}` and `{}`", one.display(), other.display())]
    Templates { one: PathBuf, other: PathBuf },
    #[error("failed to read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("factors on a tied head with `ensure_weight_tying` are not supported")]
    TiedFactors,
    #[error("failed to merge into `{name}`")]
    Tensor { name: String, source: TensorError },
    #[error("failed to write the merged weights")]
    Write(#[from] WriteError),
    #[error("failed to write `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A merged model that lies aside, to be looked at; dropped, nothing is left of it.
#[derive(Debug)]
pub struct Merged {
    pub report: MergeReport,
    folder: AtomicDir,
    to: PathBuf,
    license: Option<String>,
    origin: Origin,
}

/// Merges adapters into the base: a model folder in the base's dtypes or the one asked for, with all the base's other files,
/// and with the adapter's chat template where it was trained with one of its own. [`Merged::commit`] puts it at `to`.
///
/// A base whose weights are quantized is merged as it was trained on: dequantized; the merged model is not quantized. A head
/// that shares its weight with the embeddings gets its own where the adapter changes one of the two.
///
/// `progress` is told how many tensors of how many are done. A folder with anything in it is not overwritten.
pub fn merge(
    base: &ModelDir,
    options: &MergeOptions,
    to: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Merged, MergeError> {
    let io_error = |source| MergeError::Io { path: to.into(), source };
    let adapters = open_all(options)?;
    let template = template(base, &adapters)?;
    let Targets { targets, untied } = targets(base, options, &adapters)?;
    let base_sha256 = base.weights_sha256()?;
    let onto = options.original.unwrap_or(base);

    let folder = AtomicDir::create_new(to).map_err(io_error)?;
    let of_original = |original: &ModelDir| original.info("model.embed_tokens.weight").map(|info| info.dtype);
    let changes = companions::Changes { untied, dtype: options.dtype.or(options.original.and_then(of_original)) };
    companions::write(base, folder.path(), &changes, template.as_deref())?;

    let dtype_of = |name: &str| {
        let own = onto.info(name).expect("`targets` has looked it up").dtype;
        if own.is_float() { options.dtype.unwrap_or(own) } else { own }
    };
    let infos: Vec<TensorInfo> = targets
        .iter()
        .map(|target| TensorInfo {
            name: target.name.clone(),
            dtype: dtype_of(&target.source),
            shape: target.shape.clone(),
        })
        .collect();
    let by_name: BTreeMap<&str, &Target> = targets.iter().map(|target| (target.name.as_str(), target)).collect();
    let mut measured: BTreeMap<&str, Sums> = BTreeMap::new();
    let mut done = 0;
    write_weights(folder.path(), &infos, options.shard_size, &mut |name| {
        let target = by_name[name];
        let dtype = dtype_of(&target.source);
        let mut tensor = RawTensor { name: name.to_owned(), ..onto.tensor(&target.source)? };
        if let Some(change) = target.change(&adapters, options.combination)? {
            let trained = options.original.map(|_| base.tensor(&target.source)).transpose()?;
            let (merged, sums) = add(tensor, trained.as_ref(), &change, dtype)?;
            measured.insert(&target.name, sums);
            tensor = merged;
        } else {
            tensor = tensor.cast(dtype)?;
        }
        done += 1;
        progress(done, infos.len());
        Ok(tensor)
    })?;

    let mut merged_adapters = Vec::with_capacity(adapters.len());
    for (adapter, (path, weight)) in adapters.iter().zip(options.adapters) {
        let weights = adapter.path.join(ADAPTER_WEIGHTS);
        let sha256 = sha256_file(&weights).map_err(|source| MergeError::Read { path: weights, source })?;
        merged_adapters.push(MergedAdapter { path: path.display().to_string(), sha256, weight: *weight });
    }
    let said: Vec<Option<bool>> = adapters.iter().map(|adapter| trained_on(&adapter.config, &base_sha256)).collect();
    // One that says another base is enough; one that says nothing leaves it open.
    let matches = [Some(false), None].into_iter().find(|answer| said.contains(answer)).unwrap_or(Some(true));
    let report = report(&infos, &measured, options.original.is_some(), untied, matches);
    let license = base.origin().ok().flatten().and_then(|manifest| manifest.license);
    let mut made_of = vec![(format!("base `{}`", file_name(&base.path)), base_sha256.clone())];
    for (adapter, merged) in adapters.iter().zip(&merged_adapters) {
        let weight = if merged.weight == 1.0 { String::new() } else { format!(", times {}", merged.weight) };
        made_of.push((format!("adapter `{}`{weight}", file_name(&adapter.path)), merged.sha256.clone()));
        made_of.extend(run_of(&adapter.path));
    }
    let card = Card {
        name: &file_name(to),
        license: license.as_deref(),
        base: Some(&base.path),
        repo: repo_of(&base.path),
        kind: CardKind::Merged { adapter: &adapters[0].path },
        made_of,
    };
    write_card(folder.path(), &card).map_err(io_error)?;
    let origin = Origin::Merge {
        base: base.path.display().to_string(),
        base_sha256,
        onto: options.original.map(|original| original.path.display().to_string()),
        combination: (adapters.len() > 1 || options.combination != Combination::Cat)
            .then(|| format!("{:?}", options.combination)),
        adapters: merged_adapters,
    };
    Ok(Merged { report, folder, to: to.into(), license, origin })
}

/// Merges one adapter into the base it was trained on, in the base's dtypes, and puts the model at `to`.
pub fn merge_adapter(
    base: &ModelDir,
    adapter: &Path,
    to: &Path,
    shard_size: u64,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<MergeReport, MergeError> {
    let adapters = [(adapter.to_path_buf(), 1.0)];
    let combination = Combination::Cat;
    let options = MergeOptions { adapters: &adapters, combination, original: None, dtype: None, shard_size };
    merge(base, &options, to, progress)?.commit(None)
}

impl Merged {
    /// The merged model, until it is at its place: a folder like any other.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the receipt, with what was `measured` of the merged model, and the manifest; puts the folder in its place.
    pub fn commit(self, measured: Option<&serde_json::Value>) -> Result<MergeReport, MergeError> {
        let Merged { mut report, folder, to, license, origin } = self;
        let io_error = |source| MergeError::Io { path: to.clone(), source };
        ModelDir::open(folder.path())?;
        let mut receipt = serde_json::to_value(&report).map_err(|error| io_error(error.into()))?;
        receipt["origin"] = serde_json::to_value(&origin).map_err(|error| io_error(error.into()))?;
        if let Some(measured) = measured {
            receipt["measured"] = measured.clone();
        }
        let mut json = serde_json::to_vec_pretty(&receipt).map_err(|error| io_error(error.into()))?;
        json.push(b'\n');
        write_file(&folder.path().join(MERGE_RECEIPT), &json).map_err(io_error)?;
        let manifest = Manifest::write(folder.path(), file_name(&to), license, origin).map_err(io_error)?;
        report.weights_sha256 = manifest.weights_sha256();
        folder.commit().map_err(io_error)?;
        Ok(report)
    }
}

/// Whether an adapter says that it was trained on the base of this hash; `None` if it says nothing.
pub fn trained_on(config: &AdapterConfig, base_sha256: &str) -> Option<bool> {
    config.afina.as_ref().map(|trained| trained.base_sha256 == base_sha256)
}

fn open_all(options: &MergeOptions) -> Result<Vec<Adapter>, MergeError> {
    let mut adapters = Vec::with_capacity(options.adapters.len());
    for (path, weight) in options.adapters {
        let adapter = Adapter::open(path)?;
        let alone = options.adapters.len() == 1 && *weight == 1.0 && options.combination == Combination::Cat;
        let what = match (adapter.config.use_dora, adapter.whole_tensors().next().is_some()) {
            (true, _) => "DoRA's magnitudes",
            (_, true) => "whole tensors (`modules_to_save`)",
            _ => "",
        };
        if !alone && !what.is_empty() {
            return Err(MergeError::NotCombined { path: path.clone(), what });
        }
        adapters.push(adapter);
    }
    Ok(adapters)
}

/// The chat template that the adapters were trained with, if it is not the base's; it must be the same for all.
fn template(base: &ModelDir, adapters: &[Adapter]) -> Result<Option<PathBuf>, MergeError> {
    let mut first: Option<(Option<PathBuf>, Option<String>)> = None;
    for adapter in adapters {
        let own = template_of(&base.path, &adapter.path, &adapter.config)?;
        let folder = if own.is_some() { &adapter.path } else { &base.path };
        let text = chat_template(folder)
            .map_err(|source| AdapterError::ReadTemplate { path: folder.clone(), source: Box::new(source) })?;
        match &first {
            Some((of_first, other)) if *other != text => {
                let place = |own: &Option<PathBuf>| own.clone().unwrap_or_else(|| base.path.clone());
                return Err(MergeError::Templates { one: place(of_first), other: place(&own) });
            }
            Some(_) => {}
            None => first = Some((own, text)),
        }
    }
    Ok(first.and_then(|(own, _)| own))
}

fn report(
    infos: &[TensorInfo],
    measured: &BTreeMap<&str, Sums>,
    original: bool,
    untied: bool,
    base_matches: Option<bool>,
) -> MergeReport {
    let layers: Vec<MergedTensor> = infos
        .iter()
        .filter_map(|info| Some((info, measured.get(info.name.as_str())?)))
        .map(|(info, sums)| MergedTensor {
            name: info.name.clone(),
            dtype: info.dtype,
            relative_change: sums.relative_change(),
            relative_rounding: sums.relative_rounding(),
            lost_to_rounding: sums.share_lost(),
            relative_distance: original.then(|| sums.relative_distance()),
        })
        .collect();
    let all = measured.values().fold(Sums::default(), |all, sums| all.plus(*sums));
    MergeReport {
        merged: layers.len(),
        tensors: infos.len(),
        base_matches,
        untied,
        relative_change: all.relative_change(),
        relative_rounding: all.relative_rounding(),
        lost_to_rounding: all.share_lost(),
        relative_distance: original.then(|| all.relative_distance()),
        layers,
        weights_sha256: String::new(),
    }
}
