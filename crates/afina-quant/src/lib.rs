//! Weights in fewer bits, and back: a block format a file, the same bytes as ggml's reference functions and bitsandbytes.
//!
//! [`format`] is all formats of ggml, over rows and all threads, and refuses what has no meaning by its index; a file says what a
//! block of each holds. [`f16`] and [`bf16`] also convert values alone, infinities too. [`mix`] is llama.cpp's choice of a format
//! for each tensor of a model. [`nf4`] is bitsandbytes' format, whose scales are a tensor of their own.
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

mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;

mod blocks;
mod even_steps;
#[cfg(test)]
mod golden;
mod high_bits;
mod k_scales;
mod lanes;
mod nearest;
mod search;
