//! Q4_0: 32 values in 18 bytes: an f16 scale `d`, then 16 bytes of two 4-bit numbers; value = d·(q − 8). 4.5 bits a weight.
//!
//! Byte `j` holds value `j` in its low half and value `j + 16` in its high half.

use crate::{
    blocks::{self, Block},
    f16,
    lanes::Lanes,
    nearest::{halves, largest},
};

/// Values in a block.
pub const BLOCK: usize = 32;
/// Bytes of a block.
pub const BYTES: usize = 18;

/// Encodes whole blocks: d = (the value of largest magnitude, with its sign) / −8, q = x / d + 8.5 cut to 0..=15.
///
/// Source: ggml's `quantize_row_q4_0_ref`; the first of equal magnitudes gives the sign.
///
/// # Panics
/// If `values` is not a number of whole blocks, `bytes` not as many, or a value not finite.
pub fn encode(values: &[f32], bytes: &mut [u8]) {
    blocks::encode::<Q4_0>(values, bytes);
}

/// Decodes whole blocks: value = d·(q − 8).
///
/// # Panics
/// If `bytes` is not a number of whole blocks, or `values` not as many.
pub fn decode(bytes: &[u8], values: &mut [f32]) {
    blocks::decode::<Q4_0>(bytes, values);
}

#[allow(non_camel_case_types)]
pub(crate) struct Q4_0;

impl Block for Q4_0 {
    const NAME: &'static str = "Q4_0";
    const VALUES: usize = BLOCK;
    const BYTES: usize = BYTES;

    #[inline(always)]
    fn encode_blocks<L: Lanes>(values: &[f32], bytes: &mut [u8]) {
        for (x, out) in values.as_chunks::<BLOCK>().0.iter().zip(bytes.as_chunks_mut::<BYTES>().0) {
            let d = largest::<L>(x) / -8.0;
            let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
            f16::write::<L>(d, out);
            let [low, high] = halves::<L>(x);
            let (low, high) = (
                L::truncate(L::add(L::mul(low, L::splat(inverse)), L::splat(8.5))),
                L::truncate(L::add(L::mul(high, L::splat(inverse)), L::splat(8.5))),
            );
            for (out, (low, high)) in out[2..].iter_mut().zip(low.iter().zip(&high)) {
                *out = (*low).min(15) as u8 | ((*high).min(15) as u8) << 4;
            }
        }
    }

    #[inline(always)]
    fn decode_blocks<L: Lanes>(bytes: &[u8], values: &mut [f32]) {
        for (block, y) in bytes.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<BLOCK>().0) {
            let d = f16::read::<L>(block);
            let (low, high) = y.split_at_mut(BLOCK / 2);
            for (q, (low, high)) in block[2..].iter().zip(low.iter_mut().zip(high)) {
                *low = f32::from((q & 15) as i8 - 8) * d;
                *high = f32::from((q >> 4) as i8 - 8) * d;
            }
        }
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
        crate::golden::check_values::<Q4_0>("q4_0");
    }
}
