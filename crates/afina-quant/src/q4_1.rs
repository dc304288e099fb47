//! Q4_1: 32 values in 20 bytes: f16 scale `d`, f16 minimum `m`, then 16 bytes of two 4-bit numbers; value = d·q + m.
//! 5 bits a weight.
//!
//! Byte `j` holds value `j` in its low half and value `j + 16` in its high half.

use crate::{
    blocks::{self, Block},
    f16,
    lanes::Lanes,
    nearest::{halves, range},
};

/// Values in a block.
pub const BLOCK: usize = 32;
/// Bytes of a block.
pub const BYTES: usize = 20;

/// Encodes whole blocks: m = min x, d = (max x − m) / 15, q = (x − m) / d + 0.5 cut to 0..=15.
///
/// Source: ggml's `quantize_row_q4_1_ref`: `d` and `m` divide and subtract in f32, before they are rounded to f16.
///
/// # Panics
/// If `values` is not a number of whole blocks, `bytes` not as many, or a value not finite.
pub fn encode(values: &[f32], bytes: &mut [u8]) {
    blocks::encode::<Q4_1>(values, bytes);
}

/// Decodes whole blocks: value = d·q + m.
///
/// # Panics
/// If `bytes` is not a number of whole blocks, or `values` not as many.
pub fn decode(bytes: &[u8], values: &mut [f32]) {
    blocks::decode::<Q4_1>(bytes, values);
}

#[allow(non_camel_case_types)]
pub(crate) struct Q4_1;

impl Block for Q4_1 {
    const NAME: &'static str = "Q4_1";
    const VALUES: usize = BLOCK;
    const BYTES: usize = BYTES;

    #[inline(always)]
    fn encode_blocks<L: Lanes>(values: &[f32], bytes: &mut [u8]) {
        for (x, out) in values.as_chunks::<BLOCK>().0.iter().zip(bytes.as_chunks_mut::<BYTES>().0) {
            let (min, max) = range::<L>(x);
            let d = (max - min) / 15.0;
            let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
            f16::write::<L>(d, out);
            f16::write::<L>(min, &mut out[2..]);
            let [low, high] = halves::<L>(x);
            let (low, high) = (
                L::truncate(L::add(L::mul(L::sub(low, L::splat(min)), L::splat(inverse)), L::splat(0.5))),
                L::truncate(L::add(L::mul(L::sub(high, L::splat(min)), L::splat(inverse)), L::splat(0.5))),
            );
            for (out, (low, high)) in out[4..].iter_mut().zip(low.iter().zip(&high)) {
                *out = (*low).min(15) as u8 | ((*high).min(15) as u8) << 4;
            }
        }
    }

    #[inline(always)]
    fn decode_blocks<L: Lanes>(bytes: &[u8], values: &mut [f32]) {
        for (block, y) in bytes.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<BLOCK>().0) {
            let d = f16::read::<L>(block);
            let m = f16::read::<L>(&block[2..]);
            let (low, high) = y.split_at_mut(BLOCK / 2);
            for (q, (low, high)) in block[4..].iter().zip(low.iter_mut().zip(high)) {
                *low = f32::from(q & 15) * d + m;
                *high = f32::from(q >> 4) * d + m;
            }
        }
    }

    #[inline(always)]
    fn is_finite(block: &[u8]) -> bool {
        blocks::f16_is_finite(block) & blocks::f16_is_finite(&block[2..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_ggml_on_edges_and_random_values() {
        crate::golden::check_values::<Q4_1>("q4_1");
    }
}
