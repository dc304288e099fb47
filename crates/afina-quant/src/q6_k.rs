//! Q6_K: 256 values in 210 bytes: 128 bytes of two low halves, 64 bytes of four pairs of high bits, sixteen i8 scales of
//! sixteen values each, and at the end f16 `d`; value = d·scale·(q − 32). 6.5625 bits a weight.
//!
//! For each 128 values: low byte `j` of 64 holds value `j` and value `j + 64`, high byte `j` of 32 the upper two bits of
//! values `j`, `j + 32`, `j + 64`, `j + 96`.

use crate::{
    blocks::{self, Block},
    f16,
    lanes::Lanes,
    nearest::nearest_int,
    search,
};

/// Values that share a scale.
const GROUP: usize = 16;
/// Where a block's high bits, scales and `d` begin.
const HIGH: usize = 128;
const SCALES: usize = 192;
const D: usize = 208;

/// Values in a block.
const BLOCK: usize = 256;
/// Bytes of a block.
const BYTES: usize = 210;

/// Encoded: of 19 scales for each group the one of the smallest weighted square error, then numbers for the
/// rounded scale.
///
/// Source: ggml's `quantize_row_q6_K_ref`, on x86 without FMA; every sum is taken in its order.
#[allow(non_camel_case_types)]
pub(crate) struct Q6_K;

impl Block for Q6_K {
    const NAME: &'static str = "Q6_K";
    const VALUES: usize = BLOCK;
    const BYTES: usize = BYTES;

    #[inline(always)]
    fn encode_blocks<L: Lanes>(values: &[f32], bytes: &mut [u8]) {
        for (x, out) in values.as_chunks::<BLOCK>().0.iter().zip(bytes.as_chunks_mut::<BYTES>().0) {
            let mut columns = [[0.0; GROUP]; GROUP];
            for (group, values) in x.as_chunks::<GROUP>().0.iter().enumerate() {
                for (column, value) in columns.iter_mut().zip(values) {
                    column[group] = *value;
                }
            }
            let found = search::scale::<L>(&columns);
            let (mut largest, mut magnitude) = (0.0_f32, 0.0_f32);
            for scale in found.scale {
                if scale.abs() > magnitude {
                    (largest, magnitude) = (scale, scale.abs());
                }
            }
            if magnitude < search::ZERO {
                *out = [0; BYTES];
                continue;
            }
            let inverse = -128.0 / largest;
            f16::write::<L>(1.0 / inverse, &mut out[D..]);
            let d = f16::read::<L>(&out[D..]);

            let mut numbers = [0; BLOCK];
            let groups = numbers.as_chunks_mut::<GROUP>().0.iter_mut().zip(x.as_chunks::<GROUP>().0);
            for (j, (numbers, x)) in groups.enumerate() {
                let scale = nearest_int(inverse * found.scale[j]).min(127) as i8;
                out[SCALES + j] = scale as u8;
                let d = d * f32::from(scale);
                if d == 0.0 {
                    *numbers = x.map(|x| found.number(j, x));
                } else {
                    let number = L::nearest(L::div(L::load(x), L::splat(d)), -32, 31);
                    *numbers = L::bytes(L::add(number, L::splat(32.0)));
                }
            }
            let (low, rest) = out.split_at_mut(HIGH);
            for ((q, low), high) in
                numbers.as_chunks::<128>().0.iter().zip(low.as_chunks_mut::<64>().0).zip(rest.as_chunks_mut::<32>().0)
            {
                for (j, low) in low.iter_mut().enumerate() {
                    *low = (q[j] & 15) | (q[j + 64] << 4);
                }
                for (j, high) in high.iter_mut().enumerate() {
                    *high = (q[j] >> 4) | (q[j + 32] >> 4 << 2) | (q[j + 64] >> 4 << 4) | (q[j + 96] >> 4 << 6);
                }
            }
        }
    }

    #[inline(always)]
    fn decode_blocks<L: Lanes>(bytes: &[u8], values: &mut [f32]) {
        for (block, y) in bytes.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<BLOCK>().0) {
            let d = f16::read::<L>(&block[D..]);
            let scales: [f32; 16] = std::array::from_fn(|j| d * f32::from(block[SCALES + j] as i8));
            let (low, rest) = block.split_at(HIGH);
            let halves = low.as_chunks::<64>().0.iter().zip(rest.as_chunks::<32>().0);
            for (half, ((low, high), y)) in halves.zip(y.as_chunks_mut::<128>().0).enumerate() {
                for quarter in 0..4 {
                    let low = &low[quarter % 2 * 32..][..32];
                    let y: &mut [f32] = &mut y[quarter * 32..][..32];
                    for sixteenth in 0..2 {
                        let scale = scales[half * 8 + quarter * 2 + sixteenth];
                        for j in sixteenth * 16..sixteenth * 16 + 16 {
                            let q = (low[j] >> (quarter / 2 * 4)) & 15 | (((high[j] >> (quarter * 2)) & 3) << 4);
                            y[j] = scale * f32::from(q as i8 - 32);
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn is_finite(block: &[u8]) -> bool {
        blocks::f16_is_finite(&block[D..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_ggml_on_edges_and_random_values() {
        crate::golden::check_blocks::<Q6_K>("q6_k");
    }
}
