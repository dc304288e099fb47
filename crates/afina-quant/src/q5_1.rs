//! Q5_1: 32 values in 24 bytes: f16 scale `d`, f16 minimum `m`, 32 high bits, then 16 bytes of two 4-bit numbers;
//! value = d·q + m. 6 bits a weight.
//!
//! The numbers lie as in [`q5_0`](crate::q5_0).

use crate::{
    blocks::{self, Block},
    f16,
    high_bits::{pack, unpack},
    lanes::Lanes,
    nearest::{halves, range},
};

/// Values in a block.
pub const BLOCK: usize = 32;
/// Bytes of a block.
pub const BYTES: usize = 24;

/// Encodes whole blocks: m = min x, d = (max x − m) / 31, q = (x − m) / d + 0.5 without its fraction.
///
/// Source: ggml's `quantize_row_q5_1_ref`: `d` and `m` divide and subtract in f32, before they are rounded to f16.
///
/// # Panics
/// If `values` is not a number of whole blocks, `bytes` not as many, or a value not finite.
pub fn encode(values: &[f32], bytes: &mut [u8]) {
    blocks::encode::<Q5_1>(values, bytes);
}

/// Decodes whole blocks: value = d·q + m.
///
/// # Panics
/// If `bytes` is not a number of whole blocks, or `values` not as many.
pub fn decode(bytes: &[u8], values: &mut [f32]) {
    blocks::decode::<Q5_1>(bytes, values);
}

#[allow(non_camel_case_types)]
pub(crate) struct Q5_1;

impl Block for Q5_1 {
    const NAME: &'static str = "Q5_1";
    const VALUES: usize = BLOCK;
    const BYTES: usize = BYTES;

    #[inline(always)]
    fn encode_blocks<L: Lanes>(values: &[f32], bytes: &mut [u8]) {
        for (x, out) in values.as_chunks::<BLOCK>().0.iter().zip(bytes.as_chunks_mut::<BYTES>().0) {
            let (min, max) = range::<L>(x);
            let d = (max - min) / 31.0;
            let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
            f16::write::<L>(d, out);
            f16::write::<L>(min, &mut out[2..]);
            let [low, high] = halves::<L>(x);
            let (low, high) = (
                L::truncate(L::add(L::mul(L::sub(low, L::splat(min)), L::splat(inverse)), L::splat(0.5))),
                L::truncate(L::add(L::mul(L::sub(high, L::splat(min)), L::splat(inverse)), L::splat(0.5))),
            );
            pack(low, high, i8::MAX, &mut out[4..]);
        }
    }

    #[inline(always)]
    fn decode_blocks<L: Lanes>(bytes: &[u8], values: &mut [f32]) {
        for (block, y) in bytes.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<BLOCK>().0) {
            let d = f16::read::<L>(block);
            let m = f16::read::<L>(&block[2..]);
            let q = unpack(&block[4..]);
            for (value, q) in y.iter_mut().zip(q) {
                *value = f32::from(q) * d + m;
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
        crate::golden::check_blocks::<Q5_1>("q5_1");
    }
}
