//! A model to compute with, whatever holds it: a Hugging Face folder, or one GGUF file.

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::LlamaConfig;
use crate::gguf::{GgufModel, ToHfError, is_gguf};
use crate::model_dir::{ModelDir, ModelDirError};
use crate::tensor::RawTensor;

/// An open model whose tensors are read one at a time. Names, shapes and the order of rows are Hugging Face's.
pub trait Weights {
    /// The folder or file.
    fn path(&self) -> &Path;

    fn config(&self) -> &LlamaConfig;

    /// Reads one tensor, in a float dtype.
    fn tensor(&self, name: &str) -> Result<RawTensor, WeightsError>;

    /// The tokens that end an answer.
    fn eos_token_ids(&self) -> Vec<u32>;

    /// In what formats its matrices are stored: `F32`, `BF16`, `Q4_K`, `NF4`, …
    fn formats(&self) -> BTreeSet<String>;

    /// Of its weights in the file or files.
    fn bytes(&self) -> u64;

    /// SHA-256 as [`crate::GgufFile::sha256`] says, or as [`ModelDir::weights_sha256`] says.
    fn sha256(&self) -> Result<String, WeightsError>;
}

/// Why a model cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error(transparent)]
    Folder(#[from] ModelDirError),
    #[error(transparent)]
    Gguf(#[from] ToHfError),
}

/// Opens a model folder or a GGUF file of a Llama.
pub fn open_weights(path: &Path) -> Result<Box<dyn Weights>, WeightsError> {
    if is_gguf(path) { Ok(Box::new(GgufModel::open(path)?)) } else { Ok(Box::new(ModelDir::open(path)?)) }
}

impl Weights for ModelDir {
    fn path(&self) -> &Path {
        &self.path
    }

    fn config(&self) -> &LlamaConfig {
        &self.config
    }

    fn tensor(&self, name: &str) -> Result<RawTensor, WeightsError> {
        Ok(ModelDir::tensor(self, name)?)
    }

    fn eos_token_ids(&self) -> Vec<u32> {
        ModelDir::eos_token_ids(self)
    }

    fn formats(&self) -> BTreeSet<String> {
        let is_matrix = |name: &&String| self.info(name).is_some_and(|info| info.shape.len() > 1);
        let matrices = self.tensor_names().iter().filter(is_matrix);
        matrices.filter_map(|name| self.stored_as(name)).map(|(format, _)| format).collect()
    }

    fn bytes(&self) -> u64 {
        self.tensor_names().iter().filter_map(|name| self.stored_as(name)).map(|(_, bytes)| bytes).sum()
    }

    fn sha256(&self) -> Result<String, WeightsError> {
        Ok(self.weights_sha256()?)
    }
}

#[cfg(test)]
mod tests {
    use afina_quant::mix::Mix;

    use super::*;
    use crate::export::export_gguf;
    use crate::gguf::{GgufFile, gguf_to_hf};
    use crate::testing::{store_as_gptq, tiny_model, tiny_tokenizer};

    /// A folder and its GGUF of a type, both open.
    fn both(dir: &Path, tied: bool, mix: Mix) -> (ModelDir, Box<dyn Weights>) {
        let (folder, file) = (dir.join("m"), dir.join("m.gguf"));
        tiny_model(&folder, tied);
        tiny_tokenizer(&folder, 320);
        let model = ModelDir::open(&folder).unwrap();
        export_gguf(&model, &file, mix, false, &mut |_, _| ()).unwrap();
        (model, open_weights(&file).unwrap())
    }

    #[test]
    fn an_f32_file_has_the_bytes_of_its_folder() {
        for tied in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let (folder, file) = both(dir.path(), tied, Mix::F32);
            assert_eq!(&folder.config, file.config());
            assert_eq!(ModelDir::eos_token_ids(&folder), file.eos_token_ids());
            assert_eq!(Weights::formats(&folder), file.formats());
            assert_eq!((folder.bytes(), folder.bytes()), (file.bytes(), 4 * folder.config.parameters()));
            for name in folder.tensor_names() {
                assert_eq!(ModelDir::tensor(&folder, name).unwrap(), file.tensor(name).unwrap());
            }
            assert_eq!(file.sha256().unwrap(), crate::hash::sha256_file(file.path()).unwrap());
        }
    }

    #[test]
    fn a_quantized_file_has_the_values_of_the_folder_that_is_made_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (_, file) = both(dir.path(), true, Mix::Q4_0);
        let made = dir.path().join("made");
        gguf_to_hf(&GgufFile::open(file.path()).unwrap(), &made, &mut |_, _| ()).unwrap();
        let made = open_weights(&made).unwrap();
        assert_eq!(made.config(), file.config());
        for name in ["model.embed_tokens.weight", "model.layers.1.self_attn.q_proj.weight", "model.norm.weight"] {
            assert_eq!(made.tensor(name).unwrap(), file.tensor(name).unwrap());
        }
        assert_eq!(file.formats().into_iter().collect::<Vec<_>>(), ["Q4_0", "Q8_0"]);
    }

    #[test]
    fn a_folder_of_quantized_weights_says_what_they_are_stored_as() {
        let dir = tempfile::tempdir().unwrap();
        tiny_model(dir.path(), true);
        let whole = ModelDir::open(dir.path()).unwrap().bytes();
        store_as_gptq(dir.path());
        let model = ModelDir::open(dir.path()).unwrap();
        assert_eq!(Weights::formats(&model).into_iter().collect::<Vec<_>>(), ["F32", "GPTQ 4-bit"]);
        assert!(model.bytes() < whole / 2, "{} of {whole}", model.bytes());
    }

    #[test]
    fn what_a_model_has_not_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, file) = both(dir.path(), true, Mix::F32);
        for model in [&folder as &dyn Weights, file.as_ref()] {
            let error = model.tensor("model.layers.9.mlp.up_proj.weight").unwrap_err();
            let mut text = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                text = source.to_string();
            }
            assert!(text.contains("9") && text.contains("up"), "{text}");
            assert!(model.tensor("lm_head.weight").is_err(), "a tied head is the embeddings'");
        }
        let error = open_weights(&dir.path().join("none")).err().unwrap().to_string();
        assert!(error.ends_with("is not a model folder: it has no `config.json`"), "{error}");
    }
}
