//! IEEE half precision: one value in two bytes, rounded half to even.

use half::{f16, slice::HalfFloatSliceExt};

use crate::{
    blocks::{self, Block},
    lanes::Lanes,
};

/// Values in a block.
pub const BLOCK: usize = 1;
/// Bytes of a block.
pub const BYTES: usize = 2;

/// Values that are converted together.
const TOGETHER: usize = 128;

/// Rounds each value to the nearest half; what is too large becomes an infinity.
///
/// # Panics
/// If `bytes` does not have two bytes for each value.
pub fn encode(values: &[f32], bytes: &mut [u8]) {
    assert_eq!(bytes.len(), values.len() * BYTES, "f16 takes two bytes a value");
    for (values, out) in values.chunks(TOGETHER).zip(bytes.chunks_mut(TOGETHER * BYTES)) {
        let mut halves = [f16::ZERO; TOGETHER];
        halves[..values.len()].convert_from_f32_slice(values);
        for (half, out) in halves.iter().zip(out.as_chunks_mut::<BYTES>().0) {
            *out = half.to_le_bytes();
        }
    }
}

/// Widens each half; nothing is lost.
///
/// # Panics
/// If `bytes` does not have two bytes for each value.
pub fn decode(bytes: &[u8], values: &mut [f32]) {
    assert_eq!(bytes.len(), values.len() * BYTES, "f16 takes two bytes a value");
    for (bytes, values) in bytes.chunks(TOGETHER * BYTES).zip(values.chunks_mut(TOGETHER)) {
        let mut halves = [f16::ZERO; TOGETHER];
        for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks::<BYTES>().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        halves[..values.len()].convert_to_f32_slice(values);
    }
}

/// The half in the first two bytes, as the block formats store their scales.
#[inline(always)]
pub(crate) fn read<L: Lanes>(bytes: &[u8]) -> f32 {
    L::of_half(u16::from_le_bytes([bytes[0], bytes[1]]))
}

/// Stores `value` as a half in the first two bytes.
#[inline(always)]
pub(crate) fn write<L: Lanes>(value: f32, bytes: &mut [u8]) {
    bytes[..BYTES].copy_from_slice(&L::to_half(value).to_le_bytes());
}

pub(crate) struct F16;

impl Block for F16 {
    const NAME: &'static str = "F16";
    const VALUES: usize = BLOCK;
    const BYTES: usize = BYTES;

    #[inline(always)]
    fn encode_blocks<L: Lanes>(values: &[f32], bytes: &mut [u8]) {
        encode(values, bytes);
    }

    #[inline(always)]
    fn decode_blocks<L: Lanes>(bytes: &[u8], values: &mut [f32]) {
        decode(bytes, values);
    }

    #[inline(always)]
    fn is_finite(block: &[u8]) -> bool {
        blocks::f16_is_finite(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_ggml_on_edges_and_random_values() {
        crate::golden::check_values::<F16>("f16");
        crate::golden::check_public("f16", BLOCK, BYTES, encode, decode);
    }
}
