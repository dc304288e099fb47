//! Brain floating point: the upper half of an f32, rounded half to even.

use half::bf16;

use crate::{blocks::Block, lanes::Lanes};

/// Values in a block.
pub const BLOCK: usize = 1;
/// Bytes of a block.
pub const BYTES: usize = 2;

/// Rounds each value to the nearest bf16.
///
/// # Panics
/// If `bytes` does not have two bytes for each value.
#[inline]
pub fn encode(values: &[f32], bytes: &mut [u8]) {
    assert_eq!(bytes.len(), values.len() * BYTES, "bf16 takes two bytes a value");
    for (value, out) in values.iter().zip(bytes.as_chunks_mut::<BYTES>().0) {
        *out = bf16::from_f32(*value).to_le_bytes();
    }
}

/// Widens each bf16; nothing is lost.
///
/// # Panics
/// If `bytes` does not have two bytes for each value.
#[inline]
pub fn decode(bytes: &[u8], values: &mut [f32]) {
    assert_eq!(bytes.len(), values.len() * BYTES, "bf16 takes two bytes a value");
    for (brain, out) in bytes.as_chunks::<BYTES>().0.iter().zip(values) {
        *out = bf16::from_le_bytes(*brain).to_f32();
    }
}

pub(crate) struct Bf16;

impl Block for Bf16 {
    const NAME: &'static str = "BF16";
    const VALUES: usize = BLOCK;
    const BYTES: usize = BYTES;

    #[inline(always)]
    fn encode_blocks<L: Lanes>(values: &[f32], bytes: &mut [u8]) {
        for (value, out) in values.iter().zip(bytes.as_chunks_mut::<BYTES>().0) {
            // The values are finite: what `encode` does, without a branch for NaN.
            let bits = value.to_bits();
            *out = (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) as u16).to_le_bytes();
        }
    }

    #[inline(always)]
    fn decode_blocks<L: Lanes>(bytes: &[u8], values: &mut [f32]) {
        for (brain, out) in bytes.as_chunks::<BYTES>().0.iter().zip(values) {
            *out = f32::from_bits(u32::from(u16::from_le_bytes(*brain)) << 16);
        }
    }

    #[inline(always)]
    fn is_finite(block: &[u8]) -> bool {
        u16::from_le_bytes([block[0], block[1]]) & 0x7F80 != 0x7F80
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_ggml_on_edges_and_random_values() {
        crate::golden::check_values::<Bf16>("bf16");
        crate::golden::check_public("bf16", BLOCK, BYTES, encode, decode);
    }
}
