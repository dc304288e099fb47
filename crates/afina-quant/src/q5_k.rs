//! Q5_K: 256 values in 176 bytes: f16 `d`, f16 `dmin`, twelve bytes of eight six-bit scales and minima, 32 bytes of fifth
//! bits, 128 bytes of two 4-bit numbers; value = d·scale·q − dmin·min. 5.5 bits a weight.
//!
//! The low four bits lie as in [`q4_k`](crate::q4_k); the fifth of value `j` of group `g` is bit `g` of the `j`th byte.

use crate::{
    blocks::{self, Block},
    k_scales::{self, HEAD, scales_and_mins},
    lanes::Lanes,
    search::Steps,
};

/// Values in a block.
const BLOCK: usize = 256;
/// Bytes of a block.
const BYTES: usize = 176;

/// Encoded: of 17 scales and minima for each group the pair of the smallest weighted square error, then
/// numbers for the rounded pair.
///
/// Source: ggml's `quantize_row_q5_K_ref`, on x86 without FMA; every sum is taken in its order.
#[allow(non_camel_case_types)]
pub(crate) struct Q5_K;

impl Block for Q5_K {
    const NAME: &'static str = "Q5_K";
    const VALUES: usize = BLOCK;
    const BYTES: usize = BYTES;

    #[inline(always)]
    fn encode_blocks<L: Lanes>(values: &[f32], bytes: &mut [u8]) {
        let steps = Steps { largest: 31, first: -0.5, count: 16 };
        k_scales::encode::<L>(values, bytes, BYTES, &steps, |numbers, out| {
            let (high, low) = out.split_at_mut(32);
            let high: &mut [u8; 32] = high.try_into().expect("split at 32");
            *high = [0; 32];
            for (group, q) in numbers.as_chunks::<32>().0.iter().enumerate() {
                for (high, q) in high.iter_mut().zip(q) {
                    *high |= (q >> 4) << group;
                }
            }
            for (q, out) in numbers.as_chunks::<64>().0.iter().zip(low.as_chunks_mut::<32>().0) {
                for (j, out) in out.iter_mut().enumerate() {
                    *out = (q[j] & 15) | (q[j + 32] << 4);
                }
            }
        });
    }

    #[inline(always)]
    fn decode_blocks<L: Lanes>(bytes: &[u8], values: &mut [f32]) {
        for (block, y) in bytes.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<BLOCK>().0) {
            let scales = scales_and_mins::<L>(block);
            let high: &[u8; 32] = block[HEAD..HEAD + 32].try_into().expect("32 bytes");
            let pairs = scales.as_chunks::<2>().0.iter().zip(block[HEAD + 32..].as_chunks::<32>().0);
            for (pair, (([first, second], q), y)) in pairs.zip(y.as_chunks_mut::<64>().0).enumerate() {
                for (j, (q, high)) in q.iter().zip(high).enumerate() {
                    let fifths = high >> (2 * pair);
                    y[j] = first.0 * f32::from((q & 15) | ((fifths & 1) << 4)) - first.1;
                    y[j + 32] = second.0 * f32::from((q >> 4) | (((fifths >> 1) & 1) << 4)) - second.1;
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
        crate::golden::check_blocks::<Q5_K>("q5_k");
    }
}
