//! Activations rounded to bf16, two neighbouring features in one word: what `vdpbf16ps` multiplies.

use half::bf16;
use rayon::prelude::*;

use crate::cpu::{Cpu, Kernel, Simd, run};
use crate::panels::{Activations, LANES};

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
            let (low, high) = from.split_at(LANES);
            for (to, low) in to.iter_mut().zip(low) {
                *to = round(*low) >> 16;
            }
            for (to, high) in to.iter_mut().zip(high) {
                *to |= round(*high);
            }
        }
    }
}

/// The bits of the nearest bf16, ties to even, in the high half of a word. Infinities stay, and what is not a number stays none.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000;
    if x.is_nan() { 0x7FC0_0000 } else { rounded }
}

/// Two rows of a matrix as pairs, column by column.
#[inline(always)]
pub(crate) fn zip_rows(low: &[bf16], high: Option<&[bf16]>, to: &mut [u32]) {
    for (column, (to, low)) in to.iter_mut().zip(low).enumerate() {
        let high = high.map_or(0, |high| u32::from(high[column].to_bits()));
        *to = u32::from(low.to_bits()) | high << 16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_as_half_does() {
        let cases =
            [0.0, -0.0, 1.0, 1.003_906_2, 1.011_718_8, -3.3e38, 3.4e38, f32::INFINITY, f32::MIN_POSITIVE, 1e-40];
        for x in cases {
            assert_eq!(round(x) >> 16, u32::from(bf16::from_f32(x).to_bits()), "{x}");
        }
        assert!(bf16::from_bits((round(f32::NAN) >> 16) as u16).is_nan());
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
