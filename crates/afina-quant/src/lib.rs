//! Weights in fewer bits, and back: a block format a file, the same bytes as ggml's reference functions and bitsandbytes.
//!
//! Each format of ggml has `BLOCK` (values in a block), `BYTES` (bytes of a block), `encode` and `decode`, on one thread and
//! over whole blocks of little-endian bytes; [`f16`] and [`bf16`] have blocks of one value. [`format`] is all of them, over
//! rows and all threads, and refuses what has no meaning by its index; [`mix`] is llama.cpp's choice of a format for each
//! tensor of a model. [`nf4`] is bitsandbytes' format, whose scales are a tensor of their own.
//!
//! "The same bytes" are those of libggml-base as node-llama-cpp 3.22.1 ships it for x86-64 (llama.cpp v0.5.0):
//! built without FMA, every product is rounded before it is added, and every sum is taken in the order of the values. A
//! build of ggml with FMA differs from it in ties. `tests/peers/quant_blocks.py` compares.

pub mod bf16;
pub mod dynamic_map;
pub mod f16;
pub mod format;
pub mod mix;
pub mod nf4;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;

mod blocks;
#[cfg(test)]
mod golden;
mod high_bits;
mod k_scales;
mod lanes;
mod nearest;
mod search;
