//! A GGUF file of a Llama as a model to compute with: nothing is written anywhere.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::reader::{GgufError, GgufFile};
use super::to_hf::{ToHfError, check_tensors, config_from_gguf, read_vocabulary, weights};
use super::tokenizer_to_hf::{tokenizer_config_json, tokenizer_json};
use crate::config::LlamaConfig;
use crate::tensor::{RawTensor, TensorInfo};
use crate::weights::{Weights, WeightsError};

/// An open file whose config and tensors go together; tensors are decoded when they are read.
#[derive(Debug)]
pub struct GgufModel {
    file: GgufFile,
    config: LlamaConfig,
    tensors: Vec<TensorInfo>,
}

/// A model's tokenizer, as the files of a Hugging Face folder have it.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizerFiles {
    /// tokenizer.json
    pub tokenizer: Value,
    /// tokenizer_config.json, with the chat template
    pub config: Value,
}

impl GgufModel {
    /// Reads the header, and checks that every tensor of a Llama is there, in its shape, and can be decoded.
    pub fn open(path: &Path) -> Result<GgufModel, ToHfError> {
        let file = GgufFile::open(path)?;
        let config = config_from_gguf(&file)?;
        let tensors = check_tensors(&file, &config)?;
        Ok(GgufModel { file, config, tensors })
    }

    /// The tokenizer, rebuilt.
    pub fn tokenizer_files(&self) -> Result<TokenizerFiles, ToHfError> {
        let vocabulary = read_vocabulary(&self.file)?;
        let tokenizer = tokenizer_json(&vocabulary)
            .map_err(|source| ToHfError::Vocabulary { path: self.file.path().into(), source })?;
        let config = tokenizer_config_json(&vocabulary, self.config.max_position_embeddings);
        Ok(TokenizerFiles { tokenizer, config })
    }
}

impl Weights for GgufModel {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn config(&self) -> &LlamaConfig {
        &self.config
    }

    fn tensor(&self, name: &str) -> Result<RawTensor, WeightsError> {
        let info = self.tensors.iter().find(|info| info.name == name).ok_or_else(|| {
            let (path, name) = (self.file.path().into(), name.into());
            ToHfError::from(GgufError::MissingTensor { path, name })
        })?;
        let values = weights(&self.file, &self.config, name).map_err(ToHfError::from)?;
        Ok(RawTensor::from_f32(name, info.shape.clone(), &values))
    }

    fn eos_token_ids(&self) -> Vec<u32> {
        self.config.eos_token_id.clone()
    }

    fn formats(&self) -> BTreeSet<String> {
        let matrices = self.file.tensors().iter().filter(|tensor| tensor.shape.len() > 1);
        matrices.map(|tensor| tensor.kind.to_string()).collect()
    }

    fn bytes(&self) -> u64 {
        self.file.tensors().iter().map(|tensor| tensor.bytes).sum()
    }

    fn sha256(&self) -> Result<String, WeightsError> {
        let path = self.file.path();
        Ok(self.file.sha256().map_err(|source| ToHfError::from(GgufError::Io { path: path.into(), source }))?)
    }
}

/// Whether a path is a file that is called `.gguf`, or begins as one.
pub fn is_gguf(path: &Path) -> bool {
    if !path.is_file() {
        return false;
    }
    let mut magic = [0; 4];
    let begins = File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"GGUF";
    begins || path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}
