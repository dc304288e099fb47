//! What each tensor of a merged model is made of.

use std::collections::HashMap;

use super::add::Change;
use super::combination::{Combination, Factors};
use super::{MergeError, MergeOptions};
use crate::adapter::{Adapter, AdapterError};
use crate::model_dir::ModelDir;
use crate::tensor::{RawTensor, TensorError};

const EMBEDDINGS: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// The tensors that are written.
pub(super) struct Targets {
    pub targets: Vec<Target>,
    /// Whether the head gets a weight of its own that it shares with the embeddings in the base.
    pub untied: bool,
}

/// A tensor that is written.
pub(super) struct Target {
    pub name: String,
    /// The base's tensor that it begins with.
    pub source: String,
    pub shape: Vec<usize>,
    /// The module that the adapters' factors are on.
    module: String,
    /// Whether an adapter brings a tensor that takes the base's place.
    replaced: bool,
    factors: Vec<Place>,
}

/// Where the factors of an adapter are.
struct Place {
    /// The adapter's place among those that are merged.
    adapter: usize,
    /// The factors' place in the adapter.
    place: usize,
    /// What the adapter is multiplied by.
    weight: f64,
}

/// Lists what is written, in the order of the forward pass, and checks that everything of every adapter finds its place.
pub(super) fn targets(base: &ModelDir, options: &MergeOptions, adapters: &[Adapter]) -> Result<Targets, MergeError> {
    let tied = base.config.tie_word_embeddings;
    let untied = tied && splits_head(adapters)?;
    let mut names = base.tensor_names().to_vec();
    if untied {
        names.push(HEAD.to_owned());
    }
    let mut factors: HashMap<String, Vec<Place>> = HashMap::new();
    let mut whole: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, (adapter, (_, weight))) in adapters.iter().zip(options.adapters).enumerate() {
        for (place, lora) in adapter.lora.iter().enumerate() {
            let places = factors.entry(format!("{}.weight", lora.module)).or_default();
            places.push(Place { adapter: index, place, weight: *weight });
        }
        for (name, info) in adapter.whole_tensors() {
            if !info.dtype.is_float() {
                let source = TensorError::NotFloat { name: info.name.clone(), dtype: info.dtype };
                return Err(MergeError::Tensor { name: name.to_owned(), source });
            }
            let name = if name == HEAD && tied && !untied { EMBEDDINGS } else { name };
            whole.insert(name.to_owned(), info.shape.clone());
        }
    }

    let mut targets = Vec::with_capacity(names.len());
    for name in names {
        let source = if name == HEAD && untied { EMBEDDINGS.to_owned() } else { name.clone() };
        let module = name.trim_end_matches(".weight").to_owned();
        let shape = base.info(&source).expect("`ModelDir::open` has checked every tensor").shape.clone();
        if let Some(original) = options.original {
            let found = original.info(&source).map(|info| info.shape.clone()).unwrap_or_default();
            if found != shape {
                return Err(MergeError::Original { name, expected: shape, found });
            }
        }
        let factors = factors.remove(&name).unwrap_or_default();
        let lora = |place: &Place| &adapters[place.adapter].lora[place.place];
        for lora in factors.iter().map(lora) {
            let ranks = [lora.a.shape[0], adapters[factors[0].adapter].lora[factors[0].place].a.shape[0]];
            if ranks[0] != ranks[1] && options.combination != Combination::Cat {
                return Err(MergeError::Ranks { module, ranks });
            }
            let found = vec![lora.b.shape[0], lora.a.shape[1]];
            if shape != found {
                return Err(MergeError::Shape { module, expected: shape, found });
            }
        }
        let replaced = match whole.remove(&name) {
            Some(found) if found != shape => return Err(MergeError::Whole { name, expected: shape, found }),
            found => found.is_some(),
        };
        targets.push(Target { name, source, shape, module, replaced, factors });
    }
    match factors.keys().chain(whole.keys()).min() {
        Some(name) => Err(MergeError::NoLayer { module: name.trim_end_matches(".weight").to_owned() }),
        None => Ok(Targets { targets, untied }),
    }
}

/// Whether the adapters change a tied head and its embeddings apart: in training, PEFT changes the one it is told of alone,
/// unless `ensure_weight_tying` is set.
fn splits_head(adapters: &[Adapter]) -> Result<bool, MergeError> {
    let mut splits = false;
    for adapter in adapters {
        let factors =
            adapter.lora.iter().any(|lora| [EMBEDDINGS, HEAD].contains(&format!("{}.weight", lora.module).as_str()));
        if factors && adapter.config.ensure_weight_tying {
            return Err(MergeError::TiedFactors);
        }
        let has = |name: &str| adapter.whole_tensors().any(|(own, _)| own == name);
        let apart = match (has(EMBEDDINGS), has(HEAD)) {
            (false, false) => false,
            (true, true) => !adapter.has_equal(EMBEDDINGS, HEAD)?,
            _ => !adapter.config.ensure_weight_tying,
        };
        splits |= factors || apart;
    }
    Ok(splits)
}

impl Target {
    /// What the adapters do to it; nothing where none has anything to say.
    pub fn change(&self, adapters: &[Adapter], combination: Combination) -> Result<Option<Change>, MergeError> {
        let own = self.whole(adapters)?;
        if self.factors.is_empty() && own.is_none() {
            return Ok(None);
        }
        let read = |tensor: &RawTensor| {
            tensor.to_f32().map_err(|source| MergeError::Tensor { name: self.name.clone(), source })
        };
        let magnitude = adapters.iter().find_map(|adapter| adapter.magnitudes.get(&self.module));
        let mut terms = Vec::new();
        if !self.factors.is_empty() {
            let factors: Vec<Factors> = self
                .factors
                .iter()
                .map(|factors| {
                    let adapter = &adapters[factors.adapter];
                    Factors {
                        adapter: factors.adapter,
                        weight: factors.weight,
                        scaling: adapter.config.scaling(&self.module),
                        lora: &adapter.lora[factors.place],
                    }
                })
                .collect();
            terms = combination.terms(&factors)?;
        }
        Ok(Some(Change { own, terms, magnitude: magnitude.map(read).transpose()? }))
    }

    /// The adapter's tensor that takes the base's place.
    fn whole(&self, adapters: &[Adapter]) -> Result<Option<RawTensor>, AdapterError> {
        if !self.replaced {
            return Ok(None);
        }
        for adapter in adapters {
            let tensor = match adapter.whole_tensor(&self.name)? {
                // What replaces a head that stays tied replaces the embeddings.
                None if self.name == EMBEDDINGS => adapter.whole_tensor(HEAD)?,
                found => found,
            };
            if tensor.is_some() {
                return Ok(tensor);
            }
        }
        Ok(None)
    }
}
