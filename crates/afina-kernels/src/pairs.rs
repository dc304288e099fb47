//! Activations rounded to bf16, two neighbouring features in one word: what `vdpbf16ps` multiplies.

use half::bf16;
use rayon::prelude::*;

use crate::cpu::{Cpu, Kernel, run};
use crate::panels::{Activations, LANES, WIDTH};
use crate::simd::Simd;

/// `[panels][features / 2][16]`; the even feature is the low half of a word, and a last odd one is paired with zero.
pub(crate) struct Pairs {
    features: usize,
    data: Vec<u32>,
}

impl Pairs {
    pub(crate) fn new(cpu: Cpu, x: &Activations) -> Pairs {
        let features = x.features().div_ceil(2);
        let mut data = vec![0u32; x.panels() * features * LANES];
        data.par_chunks_exact_mut(features * LANES)
            .zip(x.data().par_chunks_exact(x.features() * LANES))
            .for_each(|(to, from)| run(cpu, Round { to, from }));
        Pairs { features, data }
    }

    /// Words between two panels.
    pub(crate) fn panel(&self) -> usize {
        self.features * LANES
    }

    pub(crate) fn data(&self) -> &[u32] {
        &self.data
    }
}

struct Round<'a> {
    to: &'a mut [u32],
    from: &'a [f32],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        for (to, from) in self.to.chunks_exact_mut(LANES).zip(self.from.chunks(2 * LANES)) {
            let high = if from.len() > LANES { S::of(&from[LANES..]) } else { S::zero() };
            S::round_pairs(S::of(from), high, to.first_chunk_mut().expect("sixteen words"));
        }
    }
}

/// Rows of [`WIDTH`] columns as pairs of neighbouring rows, column by column; a last row without a neighbour is paired with zero.
#[inline(always)]
pub(crate) fn zip_rows(rows: &[bf16], to: &mut [u32]) {
    let zero = [bf16::ZERO; WIDTH];
    for (to, rows) in to.chunks_exact_mut(WIDTH).zip(rows.chunks(2 * WIDTH)) {
        let to: &mut [u32; WIDTH] = to.try_into().expect("a row of words");
        let low: &[bf16; WIDTH] = rows.first_chunk().expect("a whole row");
        let high: &[bf16; WIDTH] = rows[WIDTH..].first_chunk().unwrap_or(&zero);
        for column in 0..WIDTH {
            to[column] = u32::from(low[column].to_bits()) | u32::from(high[column].to_bits()) << 16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_as_half_does() {
        let cases =
            [0.0, -0.0, 1.0, 1.003_906_2, 1.011_718_8, -3.3e38, 3.4e38, f32::INFINITY, f32::MIN_POSITIVE, 1e-40];
        for cpu in Cpu::available() {
            let pairs = Pairs::new(cpu, &Activations::from_rows(&cases, cases.len()));
            for (i, x) in cases.into_iter().enumerate() {
                let half = pairs.data()[i / 2 * LANES] >> (i % 2 * 16) & 0xFFFF;
                assert_eq!(half, u32::from(bf16::from_f32(x).to_bits()), "{cpu:?} {x}");
            }
            let nan = Pairs::new(cpu, &Activations::from_rows(&[f32::NAN, -f32::NAN], 2)).data()[0];
            assert!(bf16::from_bits(nan as u16).is_nan() && bf16::from_bits((nan >> 16) as u16).is_nan());
        }
    }

    #[test]
    fn neighbouring_features_share_a_word() {
        for cpu in Cpu::available() {
            let pairs = Pairs::new(cpu, &Activations::from_rows(&[1.0, 2.0, 3.0], 3));
            assert_eq!((pairs.panel(), pairs.data().len()), (32, 32));
            assert_eq!((pairs.data()[0], pairs.data()[16]), (0x4000_3F80, 0x0000_4040));
        }
    }
}
