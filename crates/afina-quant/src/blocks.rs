//! What the block formats have in common.

use crate::lanes::{self, Lanes, Level};

/// A format in which every so many values become a block of so many bytes.
pub(crate) trait Block {
    /// As ggml spells it.
    const NAME: &'static str;
    /// Values in a block.
    const VALUES: usize;
    /// Bytes of a block.
    const BYTES: usize;

    /// Encodes whole blocks of finite values. `#[inline(always)]`, and so all it calls: only so is it compiled for a level.
    fn encode_blocks<L: Lanes>(values: &[f32], bytes: &mut [u8]);

    /// Decodes whole blocks. `#[inline(always)]` too.
    fn decode_blocks(bytes: &[u8], values: &mut [f32]);

    /// Whether what a block is multiplied with is finite: a scale above f16's 65504 is not.
    fn is_finite(block: &[u8]) -> bool;
}

/// Encodes whole blocks.
///
/// # Panics
/// If `values` is not a number of whole blocks, `bytes` not as many, or a value not finite.
pub(crate) fn encode<B: Block>(values: &[f32], bytes: &mut [u8]) {
    assert_whole::<B>(values.len(), bytes.len());
    if let Some(index) = first_not_finite(values) {
        panic!("value {index} is {}: {} holds finite numbers", values[index], B::NAME);
    }
    lanes::encode::<B>(Level::detect(), values, bytes);
}

/// Decodes whole blocks.
///
/// # Panics
/// If `bytes` is not a number of whole blocks, or `values` not as many.
pub(crate) fn decode<B: Block>(bytes: &[u8], values: &mut [f32]) {
    assert_whole::<B>(values.len(), bytes.len());
    lanes::decode::<B>(Level::detect(), bytes, values);
}

fn assert_whole<B: Block>(values: usize, bytes: usize) {
    assert_eq!(values % B::VALUES, 0, "{} has blocks of {} values", B::NAME, B::VALUES);
    assert_eq!(bytes, values / B::VALUES * B::BYTES, "{} has {} bytes a block", B::NAME, B::BYTES);
}

/// The index of the first infinity or NaN.
pub(crate) fn first_not_finite(values: &[f32]) -> Option<usize> {
    const EXPONENT: u32 = 0x7F80_0000;
    // Without a way out of the inner loop, it is vectorized.
    let piece = values
        .chunks(1024)
        .position(|piece| piece.iter().fold(false, |found, value| found | (value.to_bits() & EXPONENT == EXPONENT)))?;
    let index = values[piece * 1024..].iter().position(|value| !value.is_finite())?;
    Some(piece * 1024 + index)
}

/// Whether the f16 in the first two bytes is finite.
#[inline(always)]
pub(crate) fn f16_is_finite(bytes: &[u8]) -> bool {
    bytes[1] & 0x7C != 0x7C
}
