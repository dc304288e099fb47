//! Q5_0: 32 values in 22 bytes: f16 scale `d`, 32 high bits, then 16 bytes of two 4-bit numbers; value = d·(q − 16).
//! 5.5 bits a weight.
//!
//! Byte `j` holds the low bits of value `j` in its low half and of value `j + 16` in its high half; the fifth bit of
//! value `j` is bit `j` of the little-endian 32.

use crate::{
    blocks::{self, Block},
    even_steps::around_zero,
    f16,
    high_bits::{pack, unpack},
    lanes::Lanes,
};

/// Values in a block.
const BLOCK: usize = 32;
/// Bytes of a block.
const BYTES: usize = 22;

/// Encoded: d = (the value of largest magnitude, with its sign) / −16, q = x / d + 16.5 cut to 0..=31.
///
/// Source: ggml's `quantize_row_q5_0_ref`; the first of equal magnitudes gives the sign.
#[allow(non_camel_case_types)]
pub(crate) struct Q5_0;

impl Block for Q5_0 {
    const NAME: &'static str = "Q5_0";
    const VALUES: usize = BLOCK;
    const BYTES: usize = BYTES;

    #[inline(always)]
    fn encode_blocks<L: Lanes>(values: &[f32], bytes: &mut [u8]) {
        for (x, out) in values.as_chunks::<BLOCK>().0.iter().zip(bytes.as_chunks_mut::<BYTES>().0) {
            let [first, last] = around_zero::<L>(x, -16.0, 16.5, out);
            pack(first, last, 31, &mut out[2..]);
        }
    }

    #[inline(always)]
    fn decode_blocks<L: Lanes>(bytes: &[u8], values: &mut [f32]) {
        for (block, y) in bytes.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<BLOCK>().0) {
            let d = f16::read::<L>(block);
            let q = unpack(&block[2..]);
            for (value, q) in y.iter_mut().zip(q) {
                *value = f32::from(q as i8 - 16) * d;
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
        crate::golden::check_blocks::<Q5_0>("q5_0");
    }
}
