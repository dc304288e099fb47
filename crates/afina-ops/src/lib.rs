//! The operations of a Llama that burn lacks, one function each, over a flat batch: every example's tokens follow one another on one axis, and
//! [`Segments`] says where each begins. `reference` holds each operation in plain burn: its definition, and what runs where `flex` has no faster kernel.

mod choose;
mod flex;
mod reference;
mod segments;
mod testing;

pub use choose::{rms_norm, swiglu};
pub use reference::{attention, linear, linear_cross_entropy, rotary};
pub use segments::Segments;
#[doc(hidden)]
pub use testing::test_device;
