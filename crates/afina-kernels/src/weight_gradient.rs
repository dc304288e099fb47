//! The gradient of a factor: a sum over all tokens.

use rayon::prelude::*;

use crate::cpu::{Cpu, Kernel, Simd, run};
use crate::panels::{Activations, LANES};
use crate::tile::Shared;

/// Some features of some activations: `count` from `first` on.
#[derive(Clone, Copy)]
pub(crate) struct Features<'a> {
    pub of: &'a Activations,
    pub first: usize,
    pub count: usize,
}

/// Columns that a piece of work takes.
const SPAN: usize = 64;

/// `to[i][j] = scale · Σ_t left[t][i] · right[t][j]`, rows of `to` being `right.count` long.
///
/// The sum runs over whole panels: pad lanes are zero.
pub(crate) fn weight_gradient(cpu: Cpu, left: Features, right: Features, scale: f32, to: &mut [f32]) {
    assert_eq!(left.of.tokens(), right.of.tokens(), "the same tokens on both sides");
    assert_eq!(to.len(), left.count * right.count, "one number a pair of features");
    let to = Shared::new(to);
    (0..right.count.div_ceil(SPAN)).into_par_iter().for_each(|piece| {
        let columns = piece * SPAN..((piece + 1) * SPAN).min(right.count);
        run(cpu, Piece { left, right, scale, columns, to });
    });
}

struct Piece<'a> {
    left: Features<'a>,
    right: Features<'a>,
    scale: f32,
    columns: std::ops::Range<usize>,
    to: Shared,
}

impl Kernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        for i in (0..self.left.count).step_by(2) {
            let two_rows = i + 1 < self.left.count;
            for j in self.columns.clone().step_by(2) {
                match (two_rows, j + 1 < self.columns.end) {
                    (true, true) => self.tile::<S, 2, 2>(i, j),
                    (true, false) => self.tile::<S, 2, 1>(i, j),
                    (false, true) => self.tile::<S, 1, 2>(i, j),
                    (false, false) => self.tile::<S, 1, 1>(i, j),
                }
            }
        }
    }
}

impl Piece<'_> {
    #[inline(always)]
    fn tile<S: Simd, const I: usize, const J: usize>(&self, i: usize, j: usize) {
        let (left, right) = (&self.left, &self.right);
        let mut sums = [[S::zero(); J]; I];
        for panel in 0..left.of.panels() {
            // SAFETY: the features are there in every panel.
            unsafe {
                let a = left.of.data().as_ptr().add((panel * left.of.features() + left.first + i) * LANES);
                let b = right.of.data().as_ptr().add((panel * right.of.features() + right.first + j) * LANES);
                let mut lanes = [S::zero(); J];
                for (j, lanes) in lanes.iter_mut().enumerate() {
                    *lanes = S::load(b.add(j * LANES));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let factor = S::load(a.add(i * LANES));
                    for (sum, &lanes) in sums.iter_mut().zip(&lanes) {
                        *sum = S::mul_add(factor, lanes, *sum);
                    }
                }
            }
        }
        for (di, sums) in sums.iter().enumerate() {
            for (dj, &sum) in sums.iter().enumerate() {
                // SAFETY: a place inside `to`, in a column that is this piece's own.
                unsafe { *self.to.get().add((i + di) * self.right.count + j + dj) = self.scale * S::sum(sum) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers, on_any_threads, product, transposed, wide};

    #[test]
    fn equals_its_definition() {
        for cpu in Cpu::available() {
            for [tokens, left, right] in [[1, 1, 1], [16, 3, 5], [40, 8, 130], [33, 7, 64]] {
                let (a, b) = (numbers(tokens * (left + 2), 1), numbers(tokens * right, 2));
                let wanted: Vec<f64> = a.chunks_exact(left + 2).flat_map(|row| wide(&row[2..])).collect();
                let expected: Vec<f64> = product(&transposed(&wanted, left), &transposed(&wide(&b), right), tokens)
                    .iter()
                    .map(|x| 0.5 * x)
                    .collect();
                let (a, b) = (Activations::from_rows(&a, left + 2), Activations::from_rows(&b, right));
                let found = on_any_threads(|| {
                    let mut to = vec![0.0; left * right];
                    let left = Features { of: &a, first: 2, count: left };
                    weight_gradient(cpu, left, Features { of: &b, first: 0, count: right }, 0.5, &mut to);
                    to
                });
                assert_close(&found, &expected, 2e-6, &format!("{cpu:?} {tokens} {left} {right}"));
            }
        }
    }
}
