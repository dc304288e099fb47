//! The gradients of factors: sums over all tokens.

use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::{Cpu, Kernel, run};
use crate::panels::{Activations, LANES};
use crate::simd::Simd;
use crate::tile::Shared;

/// Some features of some activations: `count` from `first` on.
#[derive(Clone, Copy)]
pub(crate) struct Features<'a> {
    pub of: &'a Activations,
    pub first: usize,
    pub count: usize,
}

/// `to[i][j] = scale · Σ_t left[t][i] · right[t][j]`, rows of `to` being `right.count` long.
///
/// The sum runs over whole panels: pad lanes are zero.
pub(crate) struct WeightGradient<'a> {
    pub left: Features<'a>,
    pub right: Features<'a>,
    pub scale: f32,
    pub to: &'a mut [f32],
}

/// Features on each side of a piece of work.
const SPAN: usize = 64;

/// The same additions in the same order, whatever the threads.
pub(crate) fn weight_gradients(cpu: Cpu, gradients: Vec<WeightGradient>) {
    let mut pieces = Vec::new();
    for WeightGradient { left, right, scale, to } in gradients {
        assert_eq!(left.of.tokens(), right.of.tokens(), "the same tokens on both sides");
        assert_eq!(to.len(), left.count * right.count, "one number a pair of features");
        let to = Shared::new(to);
        for i in (0..left.count).step_by(SPAN) {
            for j in (0..right.count).step_by(SPAN) {
                let (rows, columns) = (i..(i + SPAN).min(left.count), j..(j + SPAN).min(right.count));
                pieces.push(Piece { left, right, scale, rows, columns, to });
            }
        }
    }
    pieces.into_par_iter().for_each(|piece| run(cpu, piece));
}

struct Piece<'a> {
    left: Features<'a>,
    right: Features<'a>,
    scale: f32,
    rows: Range<usize>,
    columns: Range<usize>,
    to: Shared,
}

impl Kernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // As many sums as registers hold.
        if S::PANELS == 2 { self.tiles::<S, 4>() } else { self.tiles::<S, 2>() }
    }
}

impl Piece<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const T: usize>(&self) {
        for i in self.rows.clone().step_by(T) {
            for j in self.columns.clone().step_by(T) {
                let (rows, columns) = (i..(i + T).min(self.rows.end), j..(j + T).min(self.columns.end));
                if rows.len() == T && columns.len() == T {
                    self.tile::<S, T, T>(i, j);
                    continue;
                }
                for i in rows {
                    for j in columns.clone() {
                        self.tile::<S, 1, 1>(i, j);
                    }
                }
            }
        }
    }

    /// `I` features of the left with `J` of the right.
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
                // SAFETY: a place inside `to`, in a tile that is this piece's own.
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
            for [tokens, left, right] in [[1, 1, 1], [16, 3, 5], [40, 8, 130], [33, 7, 64], [20, 130, 6]] {
                let (a, b) = (numbers(tokens * (left + 2), 1), numbers(tokens * right, 2));
                let wanted: Vec<f64> = a.chunks_exact(left + 2).flat_map(|row| wide(&row[2..])).collect();
                let expected: Vec<f64> = product(&transposed(&wanted, left), &transposed(&wide(&b), right), tokens)
                    .iter()
                    .map(|x| 0.5 * x)
                    .collect();
                let (a, b) = (Activations::from_rows(&a, left + 2), Activations::from_rows(&b, right));
                let found = on_any_threads(|| {
                    let mut to = vec![0.0; left * right];
                    let (left, right) =
                        (Features { of: &a, first: 2, count: left }, Features { of: &b, first: 0, count: right });
                    weight_gradients(cpu, vec![WeightGradient { left, right, scale: 0.5, to: &mut to }]);
                    to
                });
                assert_close(&found, &expected, 2e-6, &format!("{cpu:?} {tokens} {left} {right}"));
            }
        }
    }
}
