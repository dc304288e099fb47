//! Q4_0: 32 values in 18 bytes: an f16 scale `d`, then 16 bytes of two 4-bit numbers; value = d·(q − 8). 4.5 bits a weight.
//!
//! Byte `j` holds value `j` in its low half and value `j + 16` in its high half.

use crate::{
    blocks::{self, Block},
    even_steps::{around_zero, pack},
    f16,
    lanes::Lanes,
};

/// Values in a block.
const BLOCK: usize = 32;
/// Bytes of a block.
const BYTES: usize = 18;

/// Encoded: d = (the value of largest magnitude, with its sign) / −8, q = x / d + 8.5 cut to 0..=15.
///
/// Source: ggml's `quantize_row_q4_0_ref`; the first of equal magnitudes gives the sign.
#[allow(non_camel_case_types)]
pub(crate) struct Q4_0;

impl Block for Q4_0 {
    const NAME: &'static str = "Q4_0";
    const VALUES: usize = BLOCK;
    const BYTES: usize = BYTES;

    #[inline(always)]
    fn encode_blocks<L: Lanes>(values: &[f32], bytes: &mut [u8]) {
        for (x, out) in values.as_chunks::<BLOCK>().0.iter().zip(bytes.as_chunks_mut::<BYTES>().0) {
            let numbers = around_zero::<L>(x, -8.0, 8.5, out);
            pack(numbers, &mut out[2..]);
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
