//! Llama in burn: the forward pass, adapters and generation. It defines what a checkpoint computes, on every device burn runs on.
//!
//! Tokens of a batch lie on one flat axis (see [`afina_ops::Segments`]); weights keep the names and the `[out, in]` layout of the checkpoint.

mod generate;
mod kv_cache;
mod linear;
mod llama;
mod load;
mod lora;
mod packed;
mod rope;
mod sampling;

#[cfg(test)]
mod golden;

pub use afina_ops::{Precision, Segments};
pub use generate::{GenerateError, GenerateOptions, Generated, Stop, generate, score_continuations};
pub use kv_cache::KvCache;
pub use linear::{Linear, LoraPair};
pub use llama::{Attention, Block, Context, Llama, Mlp};
pub use load::{LoadError, load_llama};
pub use lora::{AttachError, LoraConfig, LoraModule, LoraSet, apply_adapter};
pub use packed::{PackedBlock, PackedLlama};
pub use rope::RopeTable;
pub use sampling::{Sampler, SamplingOptions};
