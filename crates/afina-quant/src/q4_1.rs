//! Q4_1: 32 values in 20 bytes: f16 scale `d`, f16 minimum `m`, then 16 bytes of two 4-bit numbers; value = d·q + m.
//! 5 bits a weight.
//!
//! Byte `j` holds value `j` in its low half and value `j + 16` in its high half.

use crate::{
    blocks::{self, Block},
    even_steps::{from_smallest, pack},
    f16,
    lanes::Lanes,
};

/// Values in a block.
const BLOCK: usize = 32;
/// Bytes of a block.
const BYTES: usize = 20;

/// Encoded: m = min x, d = (max x − m) / 15, q = (x − m) / d + 0.5 cut to 0..=15.
///
/// Source: ggml's `quantize_row_q4_1_ref`: `d` and `m` divide and subtract in f32, before they are rounded to f16.
#[allow(non_camel_case_types)]
pub(crate) struct Q4_1;

impl Block for Q4_1 {
    const NAME: &'static str = "Q4_1";
    const VALUES: usize = BLOCK;
    const BYTES: usize = BYTES;

    #[inline(always)]
    fn encode_blocks<L: Lanes>(values: &[f32], bytes: &mut [u8]) {
        for (x, out) in values.as_chunks::<BLOCK>().0.iter().zip(bytes.as_chunks_mut::<BYTES>().0) {
            let numbers = from_smallest::<L>(x, 15.0, out);
            pack(numbers, &mut out[4..]);
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
