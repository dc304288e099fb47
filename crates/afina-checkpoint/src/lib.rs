//! Everything under `checkpoints/`: read, written, merged, exported, brought from elsewhere. Bytes to bytes, no tensors.
//!
//! A header is never trusted, a file is complete or absent, and Hugging Face's tensor names are used throughout: PEFT's,
//! MLX's and GGUF's live in [`names`] alone. Start with [`ModelDir`], a model folder, and [`pull`], which makes one.

pub mod atomic;
mod free_space;
pub mod hash;
pub mod manifest;
mod positioned;

pub mod config;
pub mod model_dir;
pub mod names;
pub mod quantized;
pub mod safetensors;
mod same_file;
mod shard_index;
pub mod shards;
mod stored;
pub mod tensor;
mod weights;

pub mod adapter;
mod adapter_formats;
mod card;
pub mod export;
pub mod gguf;
pub mod inspect;
pub mod merge;
pub mod ollama;
pub mod pull;
pub mod run_dir;

#[cfg(test)]
mod testing;

pub use adapter::{
    Adapter, AdapterConfig, AdapterError, CHAT_TEMPLATE, LoraTensors, Patterns, TrainedWith, adapter_template,
    read_adapter, write_adapter,
};
pub use adapter_formats::{AdapterFormatError, AdapterKind, AdapterReport, adapter_kind, base_config, convert_adapter};
pub use afina_quant::format::Format;
pub use afina_quant::mix::{Mix, UnknownMix};
pub use atomic::{AtomicDir, AtomicFile, file_behind, write_file};
pub use config::{ConfigError, LlamaConfig, RopeScaling};
pub use export::{ExportError, copy_plain_companions, export_gguf, export_hf, export_peft};
pub use gguf::{
    Fallback, GgufError, GgufFile, GgufModel, GgufReport, QuantizeError, StoredTensor, ToHfError, TokenizerFiles,
    is_gguf, quantize_gguf,
};
pub use hash::{sha256_file, sha256_hex};
pub use inspect::{InspectError, Inspection, chat_template, inspect};
pub use manifest::{Manifest, ManifestError, Origin};
pub use merge::{
    Combination, MERGE_RECEIPT, MajoritySign, MergeError, MergeOptions, MergeReport, Merged, MergedTensor, merge,
    merge_adapter,
};
pub use model_dir::{ModelDir, ModelDirError};
pub use names::{LINEAR_MODULES, module_path, parse_module_path};
pub use ollama::{added_bos, export_ollama};
pub use pull::{HubError, HubSettings, PullError, PullEvent, PullRequest, Token, pull};
pub use quantized::{Nf4Error, Nf4Report, Nf4Tensor, Quantization, QuantizationError, quantize_nf4};
pub use run_dir::RunDir;
pub use safetensors::{ReadError, SafetensorsFile, WriteError, write_safetensors, write_tensors};
pub use same_file::is_same_file;
pub use shards::{SHARD_SIZE, write_weights};
pub use tensor::{Dtype, RawTensor, TensorError, TensorInfo};
pub use weights::{Weights, WeightsError, open_weights};
