//! A Hugging Face model folder: config.json, weights in one safetensors file or in shards, tokenizer files, manifest.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::config::{ConfigError, LlamaConfig};
use crate::hash::sha256_file;
use crate::manifest::{Manifest, ManifestError, weights_sha256};
use crate::names::expected_tensors;
use crate::quantized::{self, Parts, Quantization, QuantizationError};
use crate::safetensors::{ReadError, SafetensorsFile};
use crate::shard_index::ShardIndex;
use crate::stored::StoredTensors;
use crate::tensor::{RawTensor, TensorError, TensorInfo};

/// The weights of a folder that has one file of them.
pub const WEIGHTS: &str = "model.safetensors";
/// The list of shards of a folder that has several.
pub const WEIGHTS_INDEX: &str = "model.safetensors.index.json";

/// Why a folder is not a model this project can use.
#[derive(Debug, thiserror::Error)]
pub enum ModelDirError {
    #[error("`{}` is not a model folder: it has no `{missing}`", path.display())]
    NotModel { path: PathBuf, missing: &'static str },
    #[error("failed to read `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("failed to copy `{}`", path.display())]
    Copy { path: PathBuf, source: io::Error },
    #[error("`{}` is not valid JSON", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("`{}` does not describe a usable model", path.display())]
    Config { path: PathBuf, source: ConfigError },
    #[error(
        "`{}` has only pickled weights (`{file}`), which can run code when opened; convert them with \
         `AutoModelForCausalLM.from_pretrained(...).save_pretrained(..., safe_serialization=True)`", path.display()
    )]
    Pickle { path: PathBuf, file: String },
    #[error("failed to open the weights")]
    Weights(#[from] ReadError),
    #[error("`{}` names the shard `{shard}`, which is not a plain file name", path.display())]
    Shard { path: PathBuf, shard: String },
    #[error("`{}` names the shard `{shard}`, which is not there", path.display())]
    MissingShard { path: PathBuf, shard: String },
    #[error("tensor `{name}` is in two shards: `{}` and `{}`", shards[0], shards[1])]
    InTwoShards { name: String, shards: [String; 2] },
    #[error("`{}`: tensor `{name}`: expected in `{shard}`, found in {}", path.display(), place(found))]
    NotInShard { path: PathBuf, name: String, shard: String, found: Option<Box<str>> },
    #[error("tensor `{name}` is in no weights file of `{}`", path.display())]
    MissingTensor { path: PathBuf, name: String },
    #[error("tensor `{name}`: expected shape {expected:?}, found {found:?}")]
    Shape { name: String, expected: Vec<usize>, found: Vec<usize> },
    #[error(transparent)]
    NotFloat(#[from] TensorError),
    #[error("tensor `{name}` is not one of a Llama model of {layers} layers")]
    ForeignTensor { name: String, layers: usize },
    #[error("`{}` has quantized weights that cannot be used", path.display())]
    Quantized { path: PathBuf, source: Box<QuantizationError> },
    #[error("failed to read the manifest")]
    Manifest(#[from] ManifestError),
}

/// An open model folder whose config and tensor shapes go together.
///
/// Weights that are stored quantized are given decoded, under their plain names.
#[derive(Debug)]
pub struct ModelDir {
    pub path: PathBuf,
    pub config: LlamaConfig,
    quantization: Option<Quantization>,
    stored: StoredTensors,
    /// The weights that lie in several tensors, by name.
    quantized: HashMap<String, Parts>,
    names: Vec<String>,
}

impl ModelDir {
    /// Opens a folder: reads config.json and the headers of the weights, and checks every tensor's shape.
    pub fn open(path: &Path) -> Result<ModelDir, ModelDirError> {
        let config_path = path.join("config.json");
        if !config_path.is_file() {
            return Err(ModelDirError::NotModel { path: path.into(), missing: "config.json" });
        }
        let json = read_json(&config_path)?;
        let config =
            LlamaConfig::from_json(&json).map_err(|source| ModelDirError::Config { path: config_path, source })?;
        let quantized_error = |source| ModelDirError::Quantized { path: path.into(), source: Box::new(source) };
        let quantization = Quantization::of_config(&json).map_err(quantized_error)?;

        let stored = StoredTensors::new(open_weights(path)?);
        let expected = expected_tensors(&config);
        let (quantized, parts) = quantized::find(quantization, &expected, &stored).map_err(quantized_error)?;
        let mut model = ModelDir { path: path.into(), config, quantization, stored, quantized, names: Vec::new() };
        model.check_tensors(expected, &parts)?;
        Ok(model)
    }

    fn check_tensors(
        &mut self,
        expected: Vec<(String, Vec<usize>)>,
        parts: &HashSet<String>,
    ) -> Result<(), ModelDirError> {
        for (name, shape) in &expected {
            let info = self
                .info(name)
                .ok_or_else(|| ModelDirError::MissingTensor { path: self.path.clone(), name: name.clone() })?;
            if info.shape != *shape {
                let (expected, found) = (shape.clone(), info.shape.clone());
                return Err(ModelDirError::Shape { name: name.clone(), expected, found });
            }
        }
        self.names = expected.into_iter().map(|(name, _)| name).collect();
        let known: HashSet<&String> = self.names.iter().chain(parts).collect();
        let foreign = self.stored.names().filter(|name| !known.contains(name) && !is_redundant(name));
        match foreign.min() {
            Some(name) => {
                Err(ModelDirError::ForeignTensor { name: name.clone(), layers: self.config.num_hidden_layers })
            }
            None => Ok(()),
        }
    }

    /// The model's tensors, in the order of the forward pass; a tied head is not among them.
    pub fn tensor_names(&self) -> &[String] {
        &self.names
    }

    /// How the weights are stored, where they are quantized.
    pub fn quantization(&self) -> Option<Quantization> {
        self.quantization
    }

    /// Whether the weights hold a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.info(name).is_some()
    }

    /// Dtype and shape of a tensor, as [`ModelDir::tensor`] gives it.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.quantized.get(name).map(|parts| &parts.info).or_else(|| self.stored.info(name))
    }

    /// Dtype and shape of each, in the same order.
    pub fn infos(&self) -> Vec<TensorInfo> {
        let info = |name: &String| self.info(name).expect("`open` has checked every tensor").clone();
        self.names.iter().map(info).collect()
    }

    /// What a tensor is stored as, `F32` or `NF4`, and the bytes that it takes in the files.
    pub fn stored_as(&self, name: &str) -> Option<(String, u64)> {
        if let (Some(parts), Some(quantization)) = (self.quantized.get(name), self.quantization) {
            return Some((quantization.format(), parts.bytes));
        }
        let info = self.stored.info(name)?;
        let bytes = info.elements().unwrap_or(0) as u64 * info.dtype.size() as u64;
        Some((info.dtype.as_str().to_owned(), bytes))
    }

    /// Reads one tensor, and decodes it where it is stored quantized.
    pub fn tensor(&self, name: &str) -> Result<RawTensor, ModelDirError> {
        if let Some(parts) = self.quantized.get(name) {
            return parts
                .read(&self.stored)
                .map_err(|source| ModelDirError::Quantized { path: self.path.clone(), source: Box::new(source) });
        }
        match self.stored.read(name) {
            Some(tensor) => Ok(tensor?),
            None => Err(ModelDirError::MissingTensor { path: self.path.clone(), name: name.into() }),
        }
    }

    /// Whether a tensor is stored quantized, and can only be had whole.
    pub(crate) fn is_quantized(&self, name: &str) -> bool {
        self.quantized.contains_key(name)
    }

    /// Reads some rows of a tensor that is stored plain, in F32: `bytes` holds what lies in the file, `values` what it means.
    ///
    /// # Panics
    /// If the tensor has fewer rows.
    pub(crate) fn rows(
        &self,
        name: &str,
        rows: Range<usize>,
        bytes: &mut Vec<u8>,
        values: &mut Vec<f32>,
    ) -> Result<(), ModelDirError> {
        let missing = || ModelDirError::MissingTensor { path: self.path.clone(), name: name.into() };
        let file = self.stored.file_of(name).ok_or_else(missing)?;
        let info = file.info(name).ok_or_else(missing)?;
        if !info.dtype.is_float() {
            return Err(TensorError::NotFloat { name: name.into(), dtype: info.dtype }.into());
        }
        let columns = info.shape.last().copied().unwrap_or(1);
        let row_bytes = columns * info.dtype.size();
        bytes.resize(rows.len() * row_bytes, 0);
        file.read_at(name, rows.start * row_bytes, bytes)?;
        values.resize(rows.len() * columns, 0.0);
        info.dtype.decode(bytes, values);
        Ok(())
    }

    /// The names of the weights files in the folder.
    pub fn weight_files(&self) -> impl Iterator<Item = &str> {
        self.stored.files.iter().map(|(name, _)| name.as_str())
    }

    /// The name of the file that holds a tensor.
    pub(crate) fn weight_file(&self, tensor: &str) -> Option<&str> {
        self.stored.name_of_file(tensor)
    }

    /// The same, and that of the index that leads to them where there is one.
    pub(crate) fn weight_files_with_index(&self) -> Vec<&str> {
        let mut files: Vec<&str> = self.weight_files().collect();
        if files != [WEIGHTS] {
            files.push(WEIGHTS_INDEX);
        }
        files
    }

    /// SHA-256 of the weights file; of shards, the SHA-256 of the lines `<sha256>  <name>` that `sha256sum` would print.
    pub fn weights_sha256(&self) -> Result<String, ModelDirError> {
        let mut files = Vec::with_capacity(self.stored.files.len());
        for name in self.weight_files() {
            let path = self.path.join(name);
            files.push((name, sha256_file(&path).map_err(|source| ModelDirError::Io { path, source })?));
        }
        Ok(weights_sha256(files.into_iter()))
    }

    /// The tokens that end an answer: generation_config.json's, else config.json's.
    pub fn eos_token_ids(&self) -> Vec<u32> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Ids {
            One(u32),
            Many(Vec<u32>),
        }
        let generation = read_json(&self.path.join("generation_config.json")).ok();
        match generation.and_then(|config| Ids::deserialize(config.get("eos_token_id")?).ok()) {
            Some(Ids::One(id)) => vec![id],
            Some(Ids::Many(ids)) => ids,
            None => self.config.eos_token_id.clone(),
        }
    }

    /// Where the folder came from, if it says so.
    pub fn origin(&self) -> Result<Option<Manifest>, ModelDirError> {
        Ok(Manifest::read(&self.path)?)
    }

    /// Every other plain file of the folder: config, tokenizer, template, licence; not weights, manifest, receipt or hidden files.
    pub fn companion_files(&self) -> Result<Vec<String>, ModelDirError> {
        let io_error = |source| ModelDirError::Io { path: self.path.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(io_error)? {
            let entry = entry.map_err(io_error)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let wanted = [".json", ".jinja", ".model", ".txt", ".md"].iter().any(|end| name.ends_with(end))
                || ["LICENSE", "LICENCE", "NOTICE"].iter().any(|start| name.starts_with(start));
            let of_this_folder = [WEIGHTS_INDEX, crate::manifest::MANIFEST, crate::merge::MERGE_RECEIPT];
            let left_out = of_this_folder.contains(&name.as_str()) || name.starts_with('.');
            if wanted && !left_out && entry.path().is_file() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// What other programs look for to tell that weights are quantized, beside config.json.
pub(crate) const QUANTIZATION_FILES: [&str; 2] = ["quantize_config.json", "quant_config.json"];

/// Tensors that old exporters wrote and nobody needs: they follow from the config, or repeat the embeddings.
fn is_redundant(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || name == "lm_head.weight"
}

fn open_weights(path: &Path) -> Result<Vec<(String, SafetensorsFile)>, ModelDirError> {
    let whole = path.join(WEIGHTS);
    if whole.is_file() {
        return Ok(vec![(WEIGHTS.to_owned(), SafetensorsFile::open(&whole)?)]);
    }
    let index = path.join(WEIGHTS_INDEX);
    if index.is_file() {
        return ShardIndex::read(&index)?.open_shards();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    Err(match names.find(|name| is_pickle(name)) {
        Some(file) => ModelDirError::Pickle { path: path.into(), file },
        None => ModelDirError::NotModel { path: path.into(), missing: WEIGHTS },
    })
}

/// Whether a file of this name holds weights as PyTorch pickles them.
pub(crate) fn is_pickle(name: &str) -> bool {
    let bin = name.starts_with("pytorch_model") && name.ends_with(".bin");
    bin || [".pt", ".pth", ".ckpt"].iter().any(|end| name.ends_with(end))
}

fn place(found: &Option<Box<str>>) -> String {
    found.as_ref().map_or("no shard".to_owned(), |shard| format!("`{shard}`"))
}

pub(crate) fn read_json(path: &Path) -> Result<Value, ModelDirError> {
    let bytes = fs::read(path).map_err(|source| ModelDirError::Io { path: path.into(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| ModelDirError::Json { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::atomic::write_file;
    use crate::testing::tiny_model;

    #[test]
    fn opens_and_reads_every_tensor() {
        let dir = tempfile::tempdir().unwrap();
        tiny_model(dir.path(), true);
        let model = ModelDir::open(dir.path()).unwrap();
        assert_eq!(model.tensor_names().len(), 2 + 2 * 9);
        for name in model.tensor_names() {
            assert_eq!(model.tensor(name).unwrap().shape, model.info(name).unwrap().shape);
        }
        assert!(!model.has("lm_head.weight"));
        assert_eq!(model.weights_sha256().unwrap(), sha256_file(&dir.path().join(WEIGHTS)).unwrap());
        assert_eq!(model.eos_token_ids(), [2]);
        write_file(&dir.path().join("generation_config.json"), br#"{"eos_token_id":[5,6]}"#).unwrap();
        assert_eq!(model.eos_token_ids(), [5, 6]);
        assert!(model.origin().unwrap().is_none());
    }

    #[test]
    fn config_and_weights_of_different_models_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        tiny_model(dir.path(), true);
        let path = dir.path().join("config.json");
        let mut config = read_json(&path).unwrap();
        config["num_key_value_heads"] = json!(4);
        write_file(&path, config.to_string().as_bytes()).unwrap();
        assert_eq!(
            ModelDir::open(dir.path()).unwrap_err().to_string(),
            "tensor `model.layers.0.self_attn.k_proj.weight`: expected shape [64, 64], found [32, 64]"
        );
        config["num_key_value_heads"] = json!(2);
        config["num_hidden_layers"] = json!(1);
        write_file(&path, config.to_string().as_bytes()).unwrap();
        assert_eq!(
            ModelDir::open(dir.path()).unwrap_err().to_string(),
            "tensor `model.layers.1.input_layernorm.weight` is not one of a Llama model of 1 layers"
        );
    }

    #[test]
    fn folders_without_usable_weights_say_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let error = ModelDir::open(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("is not a model folder: it has no `config.json`"), "{error}");
        tiny_model(dir.path(), true);
        fs::rename(dir.path().join(WEIGHTS), dir.path().join("pytorch_model.bin")).unwrap();
        let error = ModelDir::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("only pickled weights (`pytorch_model.bin`)"), "{error}");
    }
}
