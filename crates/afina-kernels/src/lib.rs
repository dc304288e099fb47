//! CPU kernels of a Llama and of its LoRA training, over plain slices: no tensor library here.
//!
//! Activations lie in panels of sixteen tokens, so that everything computed for a token is computed for sixteen at once, and matrices in
//! panels that products with them and with their transposes both read in order. No result depends on the number of threads.

mod cpu;
mod exp;
mod pool;
mod simd;
#[cfg(test)]
mod testing;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

mod matrix;
mod pairs;
mod panels;
mod product;
mod staged;
mod weight_gradient;

pub mod adamw;
pub mod attention;
pub mod attention_backward;
pub mod block;
mod cross_entropy;
pub mod rms_norm;
mod rope;
pub mod swiglu;

pub use cpu::Cpu;
pub use cross_entropy::{CHUNK as HEAD_CHUNK, HeadLoss, linear_cross_entropy};
pub use matrix::{Matrix, Precision};
pub use panels::{Activations, LANES, WIDTH as MATRIX_WIDTH};
pub use pool::on_pool;
pub use product::linear;
pub use rope::RopeAngles;
