//! Q5_1: 32 values in 24 bytes: f16 scale `d`, f16 minimum `m`, 32 high bits, then 16 bytes of two 4-bit numbers;
//! value = d·q + m. 6 bits a weight.
//!
//! The numbers lie as in [`q5_0`](crate::q5_0).

use crate::{
    blocks::{self, Block},
    even_steps::from_smallest,
    f16,
    high_bits::{pack, unpack},
    lanes::Lanes,
};

/// Values in a block.
const BLOCK: usize = 32;
/// Bytes of a block.
const BYTES: usize = 24;

/// Encoded: m = min x, d = (max x − m) / 31, q = (x − m) / d + 0.5 without its fraction.
///
/// Source: ggml's `quantize_row_q5_1_ref`: `d` and `m` divide and subtract in f32, before they are rounded to f16.
#[allow(non_camel_case_types)]
pub(crate) struct Q5_1;

impl Block for Q5_1 {
    const NAME: &'static str = "Q5_1";
    const VALUES: usize = BLOCK;
    const BYTES: usize = BYTES;

    #[inline(always)]
    fn encode_blocks<L: Lanes>(values: &[f32], bytes: &mut [u8]) {
        for (x, out) in values.as_chunks::<BLOCK>().0.iter().zip(bytes.as_chunks_mut::<BYTES>().0) {
            let [first, last] = from_smallest::<L>(x, 31.0, out);
            pack(first, last, i8::MAX, &mut out[4..]);
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
