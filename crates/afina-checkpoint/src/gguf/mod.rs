//! GGUF, the file of llama.cpp: read and written, and both ways between it and a Hugging Face folder.

mod header;
mod model;
mod permute;
mod pre_tokenizers;
mod quantize;
mod reader;
mod rope_freqs;
mod split;
mod store;
mod to_hf;
mod tokenizer_from_hf;
mod tokenizer_to_hf;
mod types;
mod vocabulary;
mod writer;

#[cfg(test)]
mod golden;

pub use model::{GgufModel, TokenizerFiles, is_gguf};
pub(crate) use permute::{permute, unpermute};
pub(crate) use quantize::quantization_keys;
pub use quantize::{QuantizeError, quantize_gguf};
pub use reader::{GgufError, GgufFile, GgufTensor};
pub(crate) use rope_freqs::ROPE_FREQS;
pub(crate) use split::cut_name;
pub use store::{Fallback, GgufReport, StoredTensor};
pub(crate) use store::{Planned, RowSource, Rows, Squares, plan, sort, write_mix};
pub(crate) use to_hf::file_type;
pub use to_hf::{ToHfError, config_from_gguf, gguf_to_hf};
pub use tokenizer_from_hf::vocabulary_from_hf;
pub use types::{GgmlType, Value};
pub use vocabulary::{TokenType, TokenizerModel, Vocabulary, VocabularyError};
pub(crate) use writer::Metadata;
pub use writer::{GgufWriteError, write_gguf};

/// tokenizer.json and tokenizer_config.json of a vocabulary, for tests of other modules.
#[cfg(test)]
pub(crate) fn tokenizer_files(
    vocabulary: &Vocabulary,
) -> Result<(serde_json::Value, serde_json::Value), VocabularyError> {
    let tokenizer = tokenizer_to_hf::tokenizer_json(vocabulary)?;
    Ok((tokenizer, tokenizer_to_hf::tokenizer_config_json(vocabulary, 128)))
}
