//! Everything under `checkpoints/`: read, written, merged, exported, brought from elsewhere. Bytes to bytes, no tensors.
//!
//! A header is never trusted, a file is complete or absent, and Hugging Face's tensor names are used throughout: PEFT's
//! and GGUF's live in [`names`] alone. Start with [`ModelDir`], a model folder, and [`pull`], which makes one.

pub mod atomic;
mod free_space;
pub mod hash;
pub mod manifest;
mod positioned;

pub mod config;
pub mod model_dir;
pub mod names;
pub mod safetensors;
mod same_file;
mod shard_index;
pub mod shards;
pub mod tensor;

pub mod adapter;
mod adapter_template;
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

pub use adapter::{AdapterConfig, AdapterError, LoraTensors, TrainedWith, read_adapter, write_adapter};
pub use adapter_template::{CHAT_TEMPLATE, adapter_template};
pub use afina_quant::format::Format;
pub use afina_quant::mix::{Mix, UnknownMix};
pub use atomic::{AtomicDir, AtomicFile, file_behind, write_file};
pub use config::{ConfigError, LlamaConfig, RopeScaling};
pub use export::{ExportError, export_gguf, export_hf, export_peft};
pub use gguf::{Fallback, GgufError, GgufFile, GgufReport, QuantizeError, StoredTensor, quantize_gguf};
pub use hash::{sha256_file, sha256_hex};
pub use inspect::{InspectError, Inspection, chat_template, inspect};
pub use manifest::{Manifest, ManifestError, Origin};
pub use merge::{MergeError, MergeReport, merge};
pub use model_dir::{ModelDir, ModelDirError};
pub use names::{LINEAR_MODULES, module_path, parse_module_path};
pub use ollama::{added_bos, export_ollama};
pub use pull::{HubError, HubSettings, PullError, PullEvent, PullRequest, Token, pull};
pub use run_dir::RunDir;
pub use safetensors::{ReadError, SafetensorsFile, WriteError, write_safetensors, write_tensors};
pub use same_file::is_same_file;
pub use shards::{SHARD_SIZE, write_weights};
pub use tensor::{Dtype, RawTensor, TensorError, TensorInfo};
