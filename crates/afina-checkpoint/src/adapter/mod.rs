//! A LoRA adapter in PEFT's two files: adapter_config.json and adapter_model.safetensors.
//!
//! Nothing is passed over: a key of the config that would change the result and is not obeyed is refused by name, and so
//! is a tensor without its other half.

mod config;
mod patterns;
mod template;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::atomic::write_file;
use crate::names::{LINEAR_MODULES, PeftKey, parse_module_path, parse_peft_key, peft_key};
use crate::safetensors::{ReadError, SafetensorsFile, WriteError, write_safetensors};
use crate::tensor::{RawTensor, TensorError, TensorInfo};

pub use config::{AdapterConfig, TrainedWith};
pub use patterns::Patterns;
pub(crate) use template::template_of;
pub use template::{CHAT_TEMPLATE, adapter_template};

/// PEFT's config file in an adapter folder.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// PEFT's weights file in an adapter folder.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

pub(crate) const EMBEDDINGS: &str = "model.embed_tokens";
const HEAD: &str = "lm_head";

/// Whatever PEFT saves of a LoRA adapter: on linear layers, embeddings and the head, with DoRA's magnitudes, with whole tensors.
#[derive(Debug)]
pub struct Adapter {
    pub path: PathBuf,
    pub config: AdapterConfig,
    /// In the order of the forward pass; an embedding's as if it were a linear layer, `b` `[vocabulary, r]`, `a` `[r, hidden]`.
    pub lora: Vec<LoraTensors>,
    /// DoRA's length of each row of W + scaling · B·A, `[out]`, by module; of every module or of none.
    pub magnitudes: BTreeMap<String, RawTensor>,
    file: SafetensorsFile,
    /// Keys in the file by the Hugging Face name of the tensor they replace.
    whole: BTreeMap<String, String>,
}

/// The two matrices on one linear layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraTensors {
    /// `model.layers.0.self_attn.q_proj`
    pub module: String,
    /// `[r, in]`
    pub a: RawTensor,
    /// `[out, r]`
    pub b: RawTensor,
}

/// Why an adapter folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    #[error("`{}` is not an adapter folder: it has no `{missing}`", path.display())]
    NotAdapter { path: PathBuf, missing: &'static str },
    #[error("failed to read or write `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("`{}` is not an adapter's config", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("adapter_config.json: `{key}`: expected {expected}, found `{found}`")]
    Unsupported { key: String, expected: &'static str, found: String },
    #[error("failed to read the adapter's weights")]
    Read(#[from] ReadError),
    #[error("failed to read the adapter's values")]
    Tensor { source: TensorError },
    #[error("failed to write the adapter's weights")]
    Write(#[from] WriteError),
    #[error("adapter tensor `{name}` is not one of a LoRA adapter on a Llama model")]
    Foreign { name: String },
    #[error("adapter tensor `{name}` is there twice, under another spelling of its name")]
    Twice { name: String },
    #[error("adapter_config.json names `{module}` in `modules_to_save`, and the weights hold no tensor of it")]
    NotSaved { module: String },
    #[error("adapter on `{module}` has no `{missing}`")]
    Unpaired { module: String, missing: &'static str },
    #[error("adapter on `{module}`: expected {expected}, found {found:?}")]
    Shape { module: String, expected: String, found: Vec<usize> },
    #[error("adapter on `{module}`: DoRA on an embedding is not supported")]
    DoraEmbedding { module: String },
    #[error("the adapter has {what}: merged into its base it can run, on top of it not yet")]
    OnlyMerged { what: String },
    #[error("adapter holds no LoRA matrices")]
    Empty,
    #[error("the adapter `{}` was trained with another chat template: expected sha256 {expected}, found {found} in `{}`", adapter.display(), template.display())]
    Template { adapter: PathBuf, template: PathBuf, expected: String, found: String },
    #[error("failed to read the chat template of `{}`", path.display())]
    ReadTemplate { path: PathBuf, source: Box<crate::inspect::InspectError> },
}

impl Adapter {
    /// Opens an adapter folder and reads its factors; whole tensors stay in the file until they are asked for.
    pub fn open(dir: &Path) -> Result<Adapter, AdapterError> {
        for missing in [ADAPTER_CONFIG, ADAPTER_WEIGHTS] {
            if !dir.join(missing).is_file() {
                return Err(AdapterError::NotAdapter { path: dir.into(), missing });
            }
        }
        let mut config = AdapterConfig::read(&dir.join(ADAPTER_CONFIG))?;
        let file = SafetensorsFile::open(&dir.join(ADAPTER_WEIGHTS))?;
        let mut halves: BTreeMap<String, [Option<RawTensor>; 2]> = BTreeMap::new();
        let (mut magnitudes, mut whole) = (BTreeMap::new(), BTreeMap::new());
        let mut twice = false;
        for name in file.names() {
            let foreign = || AdapterError::Foreign { name: name.clone() };
            match parse_peft_key(name).ok_or_else(foreign)? {
                PeftKey::Lora { module, half } if parse_module_path(&module).is_some() || module == HEAD => {
                    let place = &mut halves.entry(module).or_default()[usize::from(half == "lora_B")];
                    twice |= place.replace(file.read(name)?).is_some();
                }
                // ΔW = (B·A)ᵀ = Aᵀ·Bᵀ there: the halves change places.
                PeftKey::Embedding { module, half } if module == EMBEDDINGS => {
                    let tensor = file.read(name)?.transposed().map_err(|source| AdapterError::Tensor { source })?;
                    let place = &mut halves.entry(module).or_default()[usize::from(half == "lora_A")];
                    twice |= place.replace(tensor).is_some();
                }
                PeftKey::Magnitude { module } => {
                    twice |= magnitudes.insert(module, file.read(name)?).is_some();
                }
                PeftKey::Whole { tensor } => {
                    twice |= whole.insert(tensor, name.clone()).is_some();
                }
                _ => return Err(foreign()),
            }
            if twice {
                return Err(AdapterError::Twice { name: name.clone() });
            }
        }
        let mut lora = Vec::with_capacity(halves.len());
        for (module, pair) in halves {
            let (a, b) = match pair {
                [Some(a), Some(b)] => (a, b),
                // The halves of embeddings have changed places.
                [None, _] if module == EMBEDDINGS => {
                    return Err(AdapterError::Unpaired { module, missing: "lora_embedding_B" });
                }
                [_, None] if module == EMBEDDINGS => {
                    return Err(AdapterError::Unpaired { module, missing: "lora_embedding_A" });
                }
                [None, _] => return Err(AdapterError::Unpaired { module, missing: "lora_A" }),
                [_, None] => return Err(AdapterError::Unpaired { module, missing: "lora_B" }),
            };
            config.settle(&module, a.shape.first().copied().unwrap_or(0))?;
            check_shapes(&module, config.rank(&module), &a, &b)?;
            lora.push(LoraTensors { module, a, b });
        }
        for module in config.modules_to_save.iter().flatten() {
            let is_of_module = |tensor: &String| format!(".{tensor}").contains(&format!(".{module}."));
            if !whole.keys().any(is_of_module) {
                return Err(AdapterError::NotSaved { module: module.clone() });
            }
        }
        if lora.is_empty() && whole.is_empty() {
            return Err(AdapterError::Empty);
        }
        lora.sort_by_key(|lora| in_forward_pass(&lora.module));
        let adapter = Adapter { path: dir.into(), config, lora, magnitudes, file, whole };
        adapter.check_magnitudes()?;
        Ok(adapter)
    }

    /// The tensors that take the place of the base's, by their Hugging Face names.
    pub fn whole_tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        let info = |key: &String| self.file.info(key).expect("a key of this file");
        self.whole.iter().map(move |(name, key)| (name.as_str(), info(key)))
    }

    /// Reads the tensor that takes the place of the base's, if there is one.
    pub fn whole_tensor(&self, name: &str) -> Result<Option<RawTensor>, AdapterError> {
        let Some(key) = self.whole.get(name) else { return Ok(None) };
        Ok(Some(RawTensor { name: name.into(), ..self.file.read(key)? }))
    }

    /// Whether two whole tensors are the same, byte for byte; they are read a piece at a time.
    pub(crate) fn has_equal(&self, one: &str, other: &str) -> Result<bool, AdapterError> {
        const PIECE: usize = 1 << 20;
        let (Some(one), Some(other)) = (self.whole.get(one), self.whole.get(other)) else { return Ok(false) };
        let infos = [one, other].map(|key| self.file.info(key).expect("a key of this file"));
        if (infos[0].dtype, &infos[0].shape) != (infos[1].dtype, &infos[1].shape) {
            return Ok(false);
        }
        let length = infos[0].bytes() as usize;
        for start in (0..length).step_by(PIECE) {
            let mut pieces = [vec![0; PIECE.min(length - start)], vec![0; PIECE.min(length - start)]];
            self.file.read_at(one, start, &mut pieces[0])?;
            self.file.read_at(other, start, &mut pieces[1])?;
            if pieces[0] != pieces[1] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn check_magnitudes(&self) -> Result<(), AdapterError> {
        if !self.config.use_dora {
            return match self.magnitudes.keys().next() {
                Some(module) => Err(AdapterError::Unpaired { module: module.clone(), missing: "use_dora" }),
                None => Ok(()),
            };
        }
        for lora in &self.lora {
            if lora.module == EMBEDDINGS {
                return Err(AdapterError::DoraEmbedding { module: lora.module.clone() });
            }
            let module = lora.module.clone();
            let Some(magnitude) = self.magnitudes.get(&module) else {
                return Err(AdapterError::Unpaired { module, missing: "lora_magnitude_vector" });
            };
            if magnitude.shape != [lora.b.shape[0]] {
                let expected = format!("`lora_magnitude_vector` of shape [{}]", lora.b.shape[0]);
                return Err(AdapterError::Shape { module, expected, found: magnitude.shape.clone() });
            }
        }
        match self.magnitudes.keys().find(|module| self.lora.iter().all(|lora| lora.module != **module)) {
            Some(module) => Err(AdapterError::Unpaired { module: module.clone(), missing: "lora_A" }),
            None => Ok(()),
        }
    }

    /// What keeps the adapter from being put on a model as it runs; nothing of a plain LoRA on linear layers.
    fn only_merged(&self) -> Option<String> {
        if self.config.use_dora {
            return Some("DoRA's magnitudes".into());
        }
        if let Some(name) = self.whole.keys().next() {
            return Some(format!("a tensor of its own for `{name}`"));
        }
        let outside = self.lora.iter().find(|lora| parse_module_path(&lora.module).is_none())?;
        Some(format!("factors on `{}`", outside.module))
    }
}

/// Embeddings, then the layers, then the head.
fn in_forward_pass(module: &str) -> (usize, usize) {
    match parse_module_path(module) {
        Some((layer, name)) => (layer + 1, LINEAR_MODULES.iter().position(|module| *module == name).unwrap_or(0)),
        None => (if module == HEAD { usize::MAX } else { 0 }, 0),
    }
}

/// Reads a plain LoRA on linear layers, as training makes it; what more PEFT may save of one is refused by name. Modules come
/// in the order of the model's layers.
pub fn read_adapter(dir: &Path) -> Result<(AdapterConfig, Vec<LoraTensors>), AdapterError> {
    let adapter = Adapter::open(dir)?;
    match adapter.only_merged() {
        Some(what) => Err(AdapterError::OnlyMerged { what }),
        None => Ok((adapter.config, adapter.lora)),
    }
}

/// Writes an adapter folder, each of its two files whole or not at all; the folder is made if need be.
pub fn write_adapter(dir: &Path, config: &AdapterConfig, adapters: &[LoraTensors]) -> Result<(), AdapterError> {
    config.check()?;
    let mut tensors = Vec::with_capacity(adapters.len() * 2);
    for lora in adapters {
        check_shapes(&lora.module, config.rank(&lora.module), &lora.a, &lora.b)?;
        for (half, tensor) in [("lora_A", &lora.a), ("lora_B", &lora.b)] {
            tensors.push((peft_key(&lora.module, half), tensor));
        }
    }
    let infos: Vec<_> =
        tensors.iter().map(|(name, tensor)| TensorInfo { name: name.clone(), ..tensor.info() }).collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write_safetensors(&dir.join(ADAPTER_WEIGHTS), &infos, &metadata, &mut |name| {
        let (_, tensor) = tensors.iter().find(|(key, _)| key == name).ok_or("an unknown name")?;
        Ok((*tensor).clone())
    })?;
    let path = dir.join(ADAPTER_CONFIG);
    let mut json =
        serde_json::to_vec_pretty(config).map_err(|source| AdapterError::Json { path: path.clone(), source })?;
    json.push(b'\n');
    write_file(&path, &json).map_err(|source| AdapterError::Io { path, source })
}

fn check_shapes(module: &str, rank: usize, a: &RawTensor, b: &RawTensor) -> Result<(), AdapterError> {
    for (tensor, axis, name) in [(a, 0, "lora_A"), (b, 1, "lora_B")] {
        if tensor.shape.len() != 2 || tensor.shape[axis] != rank || tensor.shape[1 - axis] == 0 {
            let expected = format!("`{name}` with {rank} in dimension {axis} of 2");
            return Err(AdapterError::Shape { module: module.into(), expected, found: tensor.shape.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_adapter;

    #[test]
    fn written_adapter_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let (config, adapters) = tiny_adapter(dir.path());
        let (read, read_adapters) = read_adapter(dir.path()).unwrap();
        assert_eq!(read, config);
        assert_eq!(read_adapters, adapters);
        let file = SafetensorsFile::open(&dir.path().join(ADAPTER_WEIGHTS)).unwrap();
        assert!(file.info("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight").is_some());
    }

    /// The adapter of [`tiny_adapter`] with its tensors changed, and DoRA switched on if asked.
    fn changed(dora: bool, change: impl FnOnce(&mut Vec<RawTensor>)) -> Result<Adapter, AdapterError> {
        let dir = tempfile::tempdir().unwrap();
        let (mut config, _) = tiny_adapter(dir.path());
        config.use_dora = dora;
        let path = dir.path().join(ADAPTER_WEIGHTS);
        let file = SafetensorsFile::open(&path).unwrap();
        let mut tensors: Vec<_> = file.names().iter().map(|name| file.read(name).unwrap()).collect();
        change(&mut tensors);
        crate::safetensors::write_tensors(&path, &tensors).unwrap();
        write_file(&dir.path().join(ADAPTER_CONFIG), &serde_json::to_vec(&config).unwrap()).unwrap();
        Adapter::open(dir.path())
    }

    fn zeros(name: &str, shape: &[usize]) -> RawTensor {
        let name = format!("base_model.model.{name}");
        RawTensor::from_f32(name, shape.to_vec(), &vec![0.0; shape.iter().product()])
    }

    #[test]
    fn half_pairs_and_foreign_tensors_are_refused_by_name() {
        let error = |change: fn(&mut Vec<RawTensor>)| changed(false, change).unwrap_err().to_string();
        assert_eq!(
            error(|tensors| tensors.retain(|tensor| !tensor.name.contains("layers.0.self_attn.q_proj.lora_B"))),
            "adapter on `model.layers.0.self_attn.q_proj` has no `lora_B`"
        );
        assert_eq!(
            error(|tensors| tensors.push(zeros("score.lora_A.weight", &[4, 64]))),
            "adapter tensor `base_model.model.score.lora_A.weight` is not one of a LoRA adapter on a Llama model"
        );
        assert_eq!(error(Vec::clear), "adapter holds no LoRA matrices");
        assert_eq!(
            error(|tensors| tensors.push(zeros("model.layers.0.self_attn.q_proj.lora_A.default.weight", &[4, 64]))),
            "adapter tensor `base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight` is there twice, under \
             another spelling of its name"
        );
        assert_eq!(
            error(|tensors| tensors.push(zeros("model.embed_tokens.lora_embedding_B", &[64, 4]))),
            "adapter on `model.embed_tokens` has no `lora_embedding_A`"
        );
    }

    #[test]
    fn magnitudes_are_of_every_module_and_only_with_dora() {
        let magnitudes = |tensors: &mut Vec<RawTensor>| {
            for layer in 0..2 {
                for name in ["self_attn.q_proj", "mlp.down_proj"] {
                    tensors.push(zeros(&format!("model.layers.{layer}.{name}.lora_magnitude_vector"), &[64]));
                }
            }
        };
        let error = |dora, change: &dyn Fn(&mut Vec<RawTensor>)| {
            changed(dora, |tensors| {
                magnitudes(tensors);
                change(tensors);
            })
            .map(|_| ())
            .unwrap_err()
            .to_string()
        };
        assert_eq!(changed(true, magnitudes).unwrap().magnitudes.len(), 4);
        assert_eq!(error(false, &|_| ()), "adapter on `model.layers.0.mlp.down_proj` has no `use_dora`");
        assert_eq!(
            error(true, &|tensors| {
                tensors.pop();
            }),
            "adapter on `model.layers.1.mlp.down_proj` has no `lora_magnitude_vector`"
        );
        assert_eq!(
            error(true, &|tensors| tensors.push(zeros("model.layers.0.mlp.up_proj.lora_magnitude_vector", &[96]))),
            "adapter on `model.layers.0.mlp.up_proj` has no `lora_A`"
        );
        assert_eq!(
            error(true, &|tensors| tensors.last_mut().unwrap().shape = vec![8, 8]),
            "adapter on `model.layers.1.mlp.down_proj`: expected `lora_magnitude_vector` of shape [64], found [8, 8]"
        );
    }

    #[test]
    fn what_can_only_be_merged_is_not_put_on_a_model() {
        let error = |change: fn(&mut Vec<RawTensor>)| {
            let adapter = changed(false, change).unwrap();
            AdapterError::OnlyMerged { what: adapter.only_merged().unwrap() }.to_string()
        };
        assert_eq!(
            error(|tensors| tensors.push(zeros("model.norm.weight", &[64]))),
            "the adapter has a tensor of its own for `model.norm.weight`: merged into its base it can run, on top of it not yet"
        );
        assert_eq!(
            error(|tensors| {
                tensors.push(zeros("model.embed_tokens.lora_embedding_A", &[4, 320]));
                tensors.push(zeros("model.embed_tokens.lora_embedding_B", &[64, 4]));
            }),
            "the adapter has factors on `model.embed_tokens`: merged into its base it can run, on top of it not yet"
        );
    }

    #[test]
    fn missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = read_adapter(dir.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.ends_with("is not an adapter folder: it has no `adapter_config.json`"), "{error}");
    }
}
