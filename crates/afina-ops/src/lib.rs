//! The operations of a Llama that burn lacks, one function each, over a flat batch: every example's tokens follow one another on one axis, and
//! [`Segments`] says where each begins. `reference` holds each operation in plain burn: its definition, and what runs where there is no faster
//! kernel. On the CPU there is: see `afina-kernels`.

mod choose;
pub mod reference;
mod segments;
mod testing;
mod weight;

pub use afina_kernels::Precision;
pub use afina_kernels::adamw::Update;
pub use choose::{adamw_step, linear, linear_cross_entropy, norm, rms_norm};
pub use reference::{attention, rotary, swiglu};
pub use segments::Segments;
#[doc(hidden)]
pub use testing::test_device;
pub use weight::Weight;
