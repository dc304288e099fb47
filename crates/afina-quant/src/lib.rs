//! Weights in fewer bits, and back: a block format a file, the same bytes as ggml's reference functions.
//!
//! Each format has `BLOCK` (values in a block), `BYTES` (bytes of a block), `encode` and `decode`; [`f16`] and [`bf16`]
//! have blocks of one value. All of them work on whole blocks of little-endian bytes, keep no state and allocate nothing.

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
