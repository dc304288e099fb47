//! Q4_K: 256 values in 144 bytes: f16 `d`, f16 `dmin`, twelve bytes of eight six-bit scales and minima, 128 bytes of two
//! 4-bit numbers; value = d·scale·q − dmin·min. 4.5 bits a weight.
//!
//! Each 32 bytes of numbers hold two groups of 32 values: the first in the low halves, the second in the high ones.

use crate::{
    blocks::{self, Block},
    k_scales::{self, HEAD, scales_and_mins},
    lanes::Lanes,
    search::Steps,
};

/// Values in a block.
const BLOCK: usize = 256;
/// Bytes of a block.
const BYTES: usize = 144;

/// Encoded: of 22 scales and minima for each group the pair of the smallest weighted square error, then
/// numbers for the rounded pair.
///
/// Source: ggml's `quantize_row_q4_K_ref`, on x86 without FMA; every sum is taken in its order.
#[allow(non_camel_case_types)]
pub(crate) struct Q4_K;

impl Block for Q4_K {
    const NAME: &'static str = "Q4_K";
    const VALUES: usize = BLOCK;
    const BYTES: usize = BYTES;

    #[inline(always)]
    fn encode_blocks<L: Lanes>(values: &[f32], bytes: &mut [u8]) {
        let steps = Steps { largest: 15, first: -1.0, count: 21 };
        k_scales::encode::<L>(values, bytes, BYTES, &steps, |numbers, out| {
            for (q, out) in numbers.as_chunks::<64>().0.iter().zip(out.as_chunks_mut::<32>().0) {
                for (j, out) in out.iter_mut().enumerate() {
                    *out = q[j] | (q[j + 32] << 4);
                }
            }
        });
    }

    #[inline(always)]
    fn decode_blocks<L: Lanes>(bytes: &[u8], values: &mut [f32]) {
        for (block, y) in bytes.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<BLOCK>().0) {
            let scales = scales_and_mins::<L>(block);
            let pairs = scales.as_chunks::<2>().0.iter().zip(block[HEAD..].as_chunks::<32>().0);
            for (([low, high], q), y) in pairs.zip(y.as_chunks_mut::<64>().0) {
                for (j, q) in q.iter().enumerate() {
                    y[j] = low.0 * f32::from(q & 15) - low.1;
                    y[j + 32] = high.0 * f32::from(q >> 4) - high.1;
                }
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
        crate::golden::check_blocks::<Q4_K>("q4_k");
    }
}
