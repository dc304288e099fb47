//! Q8_0: 32 values in 34 bytes: an f16 scale `d`, then 32 signed bytes; value = d·q. 8.5 bits a weight.

use crate::{
    blocks::{self, Block},
    f16,
    lanes::Lanes,
    nearest::{largest_magnitude, truncate_to_i8},
};

/// Values in a block.
const BLOCK: usize = 32;
/// Bytes of a block.
const BYTES: usize = 34;

/// Encoded: d = max |x| / 127, q = x / d rounded half away from zero.
///
/// The quotient is taken with `d` in f32, before it is rounded to f16, as ggml's `quantize_row_q8_0_ref` does.
#[allow(non_camel_case_types)]
pub(crate) struct Q8_0;

impl Block for Q8_0 {
    const NAME: &'static str = "Q8_0";
    const VALUES: usize = BLOCK;
    const BYTES: usize = BYTES;

    #[inline(always)]
    fn encode_blocks<L: Lanes>(values: &[f32], bytes: &mut [u8]) {
        for (x, out) in values.as_chunks::<BLOCK>().0.iter().zip(bytes.as_chunks_mut::<BYTES>().0) {
            let d = largest_magnitude::<L>(x) / 127.0;
            let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
            f16::write::<L>(d, out);
            for (q, value) in out[2..].iter_mut().zip(x) {
                *q = truncate_to_i8((value * inverse).round()) as u8;
            }
        }
    }

    #[inline(always)]
    fn decode_blocks<L: Lanes>(bytes: &[u8], values: &mut [f32]) {
        for (block, y) in bytes.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<BLOCK>().0) {
            let d = f16::read::<L>(block);
            for (value, q) in y.iter_mut().zip(&block[2..]) {
                *value = f32::from(*q as i8) * d;
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
        crate::golden::check_values::<Q8_0>("q8_0");
    }
}
