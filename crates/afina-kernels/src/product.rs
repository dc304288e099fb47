//! Products of matrices with activations: the bulk of a training step.
//!
//! Forward: `out = Σ M·x`, a feature of the result being a row of each matrix. Backward: `out = Σ Mᵀ·x`, a feature being a column.
//! The sum runs over several terms at once, so that an adapter's product and its base's never meet in memory.

use rayon::prelude::*;

use crate::cpu::{Cpu, Kernel, Simd, run};
use crate::matrix::{Matrix, Values};
use crate::panels::{Activations, LANES, WIDTH};
use crate::tile::{Shared, accumulate, load, store, with_rows};

/// A matrix and the features of some activations that it is multiplied with, from `first` on.
#[derive(Clone, Copy)]
pub(crate) struct Term<'a> {
    pub matrix: &'a Matrix,
    pub x: &'a Activations,
    pub first: usize,
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Onto<'a> {
    Nothing,
    /// Activations with the features of the result.
    Residual(&'a Activations),
}

/// Panels of tokens that a piece of work takes at once: a tile of the matrix is read once for all of them.
const GROUP: usize = 8;
/// Rows or columns of the matrix in a piece of work.
const SPAN: usize = 4 * WIDTH;
/// Length of a sum between two looks at memory, where it runs down a panel: a block of the matrix stays in the second-level cache.
const BLOCK: usize = 768;

/// `x · matrixᵀ`, `[tokens, rows]`.
pub fn linear(cpu: Cpu, x: &Activations, matrix: &Matrix) -> Activations {
    let mut out = Activations::unwritten(x.tokens(), matrix.rows());
    forward(cpu, &[Term { matrix, x, first: 0 }], Onto::Nothing, &mut out, 0);
    out
}

/// `out[.., first..first + rows] = onto + Σ M·x`; all matrices have the same rows.
pub(crate) fn forward(cpu: Cpu, terms: &[Term], onto: Onto, out: &mut Activations, first: usize) {
    let rows = terms[0].matrix.rows();
    for term in terms {
        assert_eq!(term.matrix.rows(), rows, "all terms have the same rows");
        assert!(term.first + term.matrix.columns() <= term.x.features(), "a term reads features that are there");
    }
    share(cpu, Direction::Forward, terms, onto, rows, out, first);
}

/// `out[.., first..first + columns] = onto + Σ Mᵀ·x`; all matrices have the same columns.
pub(crate) fn backward(cpu: Cpu, terms: &[Term], onto: Onto, out: &mut Activations, first: usize) {
    let columns = terms[0].matrix.columns();
    for term in terms {
        assert_eq!(term.matrix.columns(), columns, "all terms have the same columns");
        assert!(term.first + term.matrix.rows() <= term.x.features(), "a term reads features that are there");
    }
    share(cpu, Direction::Backward, terms, onto, columns, out, first);
}

#[derive(Clone, Copy)]
enum Direction {
    Forward,
    Backward,
}

/// Deals the result out in pieces: `SPAN` features × `GROUP` panels of tokens.
fn share(
    cpu: Cpu,
    direction: Direction,
    terms: &[Term],
    onto: Onto,
    features: usize,
    out: &mut Activations,
    first: usize,
) {
    assert!(first + features <= out.features(), "the result has room");
    for term in terms {
        assert_eq!(term.x.tokens(), out.tokens(), "as many tokens in as out");
    }
    if let Onto::Residual(residual) = onto {
        assert_eq!((residual.tokens(), residual.features()), (out.tokens(), out.features()), "what is added fits");
    }
    let (panels, out_features) = (out.panels(), out.features());
    let out = Shared::new(out.data_mut());
    let (spans, groups) = (features.div_ceil(SPAN), panels.div_ceil(GROUP));
    (0..spans * groups).into_par_iter().for_each(|piece| {
        let (span, group) = (piece / groups, piece % groups);
        run(
            cpu,
            Piece {
                direction,
                terms,
                onto,
                out,
                out_features,
                out_first: first,
                features: span * SPAN..((span + 1) * SPAN).min(features),
                panels: group * GROUP..((group + 1) * GROUP).min(panels),
            },
        );
    });
}

struct Piece<'a> {
    direction: Direction,
    terms: &'a [Term<'a>],
    onto: Onto<'a>,
    out: Shared,
    out_features: usize,
    out_first: usize,
    features: std::ops::Range<usize>,
    panels: std::ops::Range<usize>,
}

impl Kernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        match self.direction {
            Direction::Forward => self.forward::<S>(),
            Direction::Backward => self.backward::<S>(),
        }
    }
}

impl Piece<'_> {
    #[inline(always)]
    fn forward<S: Simd>(&self) {
        let mut scratch = Vec::new();
        let mut row = self.features.start;
        while row < self.features.end {
            let rows = S::ROWS.min(self.features.end - row);
            with_rows!(S, rows, R => self.forward_rows::<S, R>(row, &mut scratch));
            row += rows;
        }
    }

    /// `R` rows of the matrices with every panel of the piece.
    #[inline(always)]
    fn forward_rows<S: Simd, const R: usize>(&self, row: usize, scratch: &mut Vec<f32>) {
        scratch.clear();
        let staged: Vec<Staged> = self.terms.iter().map(|term| Staged::rows(term.matrix, row, R, scratch)).collect();
        let mut panel = self.panels.start;
        while panel < self.panels.end {
            if S::PANELS == 2 && panel + 1 < self.panels.end {
                self.forward_tile::<S, R, 2>(row, panel, &staged, scratch);
                panel += 2;
            } else {
                self.forward_tile::<S, R, 1>(row, panel, &staged, scratch);
                panel += 1;
            }
        }
    }

    #[inline(always)]
    fn forward_tile<S: Simd, const R: usize, const P: usize>(
        &self,
        row: usize,
        panel: usize,
        staged: &[Staged],
        scratch: &[f32],
    ) {
        let mut sums = self.begin::<S, R, P>(row, panel);
        for (term, staged) in self.terms.iter().zip(staged) {
            let b_panel = term.x.features() * LANES;
            let columns = term.matrix.columns();
            let (a, step) = match staged {
                Staged::Direct(values, step) => (*values, *step),
                Staged::Copied(start) => (scratch[*start..].as_ptr(), R * WIDTH),
            };
            for (segment, start) in (0..columns).step_by(WIDTH).enumerate() {
                let length = WIDTH.min(columns - start);
                // SAFETY: `a` holds R rows in every panel of the matrix; `x` has the term's features in `P` panels from `panel` on.
                unsafe {
                    let b = term.x.data().as_ptr().add(panel * b_panel + (term.first + start) * LANES);
                    accumulate::<S, R, P, WIDTH, 1>(&mut sums, a.add(segment * step), b, b_panel, length);
                }
            }
        }
        // SAFETY: the piece is this thread's own, and the result has room for its features in its panels.
        unsafe { store::<S, R, P>(&sums, self.at(row, panel), self.out_features * LANES) };
    }

    #[inline(always)]
    fn backward<S: Simd>(&self) {
        let mut scratch = Vec::new();
        let mut started = false;
        for term in self.terms {
            for block in (0..term.matrix.rows()).step_by(BLOCK) {
                let rows = block..(block + BLOCK).min(term.matrix.rows());
                let mut column = self.features.start;
                while column < self.features.end {
                    let staged = Staged::columns(term.matrix, column / WIDTH, &rows, &mut scratch);
                    let end = ((column / WIDTH + 1) * WIDTH).min(self.features.end);
                    while column < end {
                        let columns = S::ROWS.min(end - column);
                        with_rows!(S, columns, R => self.backward_columns::<S, R>(term, &rows, column, &staged, &scratch, started));
                        column += columns;
                    }
                }
                started = true;
            }
        }
    }

    /// `R` columns of a block of one matrix with every panel of the piece.
    #[inline(always)]
    fn backward_columns<S: Simd, const R: usize>(
        &self,
        term: &Term,
        rows: &std::ops::Range<usize>,
        column: usize,
        staged: &Staged,
        scratch: &[f32],
        started: bool,
    ) {
        let a = match staged {
            Staged::Direct(values, _) => *values,
            Staged::Copied(start) => scratch[*start..].as_ptr(),
        };
        let mut panel = self.panels.start;
        while panel < self.panels.end {
            if S::PANELS == 2 && panel + 1 < self.panels.end {
                self.backward_tile::<S, R, 2>(term, rows, column, panel, a, started);
                panel += 2;
            } else {
                self.backward_tile::<S, R, 1>(term, rows, column, panel, a, started);
                panel += 1;
            }
        }
    }

    #[inline(always)]
    fn backward_tile<S: Simd, const R: usize, const P: usize>(
        &self,
        term: &Term,
        rows: &std::ops::Range<usize>,
        column: usize,
        panel: usize,
        a: *const f32,
        started: bool,
    ) {
        let (to, out_panel) = (self.at(column, panel), self.out_features * LANES);
        let b_panel = term.x.features() * LANES;
        // SAFETY: `a` holds the block's rows of a whole panel of columns; `x` and the result as in `forward_tile`.
        unsafe {
            let mut sums =
                if started { load::<S, R, P>(to, out_panel) } else { self.begin::<S, R, P>(column, panel) };
            let b = term.x.data().as_ptr().add(panel * b_panel + (term.first + rows.start) * LANES);
            accumulate::<S, R, P, 1, WIDTH>(&mut sums, a.add(column % WIDTH), b, b_panel, rows.len());
            store::<S, R, P>(&sums, to, out_panel);
        }
    }

    /// What the sums of a tile begin with.
    #[inline(always)]
    fn begin<S: Simd, const R: usize, const P: usize>(&self, feature: usize, panel: usize) -> [[S::V; P]; R] {
        match self.onto {
            Onto::Nothing => [[S::zero(); P]; R],
            Onto::Residual(residual) => {
                let panel_size = self.out_features * LANES;
                // SAFETY: what is added has the features and the tokens of the result.
                unsafe {
                    let from =
                        residual.data().as_ptr().add(panel * panel_size + (self.out_first + feature) * LANES);
                    load::<S, R, P>(from, panel_size)
                }
            }
        }
    }

    /// Where a feature of a panel goes in the result.
    #[inline(always)]
    fn at(&self, feature: usize, panel: usize) -> *mut f32 {
        // SAFETY: the feature and the panel are the result's.
        unsafe { self.out.get().add((panel * self.out_features + self.out_first + feature) * LANES) }
    }
}

/// The part of a matrix that a tile reads, as f32.
enum Staged {
    /// In the matrix itself, with the distance between its panels.
    Direct(*const f32, usize),
    /// Converted into scratch memory, from here on.
    Copied(usize),
}

impl Staged {
    /// `count` rows from `row` on, of all columns.
    #[inline(always)]
    fn rows(matrix: &Matrix, row: usize, count: usize, scratch: &mut Vec<f32>) -> Staged {
        match matrix.values() {
            Values::F32(values) => Staged::Direct(values[row * WIDTH..].as_ptr(), matrix.rows() * WIDTH),
            Values::Bf16(values) => {
                let start = scratch.len();
                scratch.resize(start + matrix.columns().div_ceil(WIDTH) * count * WIDTH, 0.0);
                let panels = values.chunks_exact(matrix.rows() * WIDTH);
                for (to, from) in scratch[start..].chunks_exact_mut(count * WIDTH).zip(panels) {
                    widen(&from[row * WIDTH..][..count * WIDTH], to);
                }
                Staged::Copied(start)
            }
        }
    }

    /// Some rows of one panel of columns.
    #[inline(always)]
    fn columns(matrix: &Matrix, panel: usize, rows: &std::ops::Range<usize>, scratch: &mut Vec<f32>) -> Staged {
        let from = (panel * matrix.rows() + rows.start) * WIDTH;
        match matrix.values() {
            Values::F32(values) => Staged::Direct(values[from..].as_ptr(), 0),
            Values::Bf16(values) => {
                scratch.resize(rows.len() * WIDTH, 0.0);
                widen(&values[from..from + scratch.len()], scratch);
                Staged::Copied(0)
            }
        }
    }
}

#[inline(always)]
fn widen(from: &[half::bf16], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = f32::from_bits(u32::from(from.to_bits()) << 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Precision;
    use crate::testing::{assert_close, numbers, on_any_threads, product, transposed, wide};

    /// Ragged everywhere: tokens around a panel, sums around a matrix panel and a block, outputs around a tile and a piece.
    const SHAPES: [[usize; 3]; 7] =
        [[1, 1, 1], [15, 25, 7], [16, 24, 6], [33, 100, 50], [130, 60, 97], [17, 800, 13], [20, 13, 900]];

    #[test]
    fn both_directions_equal_their_definition() {
        for cpu in Cpu::available() {
            for [tokens, input, out] in SHAPES {
                for precision in [Precision::F32, Precision::Bf16] {
                    let what = format!("{cpu:?} {precision:?} {tokens} × {input} → {out}");
                    let matrix = Matrix::new(&numbers(out * input, 1), out, input, precision);
                    let weight = wide(&matrix.to_rows());
                    let (x, dy) = (numbers(tokens * input, 2), numbers(tokens * out, 3));
                    let y = on_any_threads(|| linear(cpu, &Activations::from_rows(&x, input), &matrix).to_rows());
                    assert_close(&y, &product(&wide(&x), &weight, input), 2e-6, &what);
                    let dx = on_any_threads(|| {
                        let mut dx = Activations::unwritten(tokens, input);
                        let term = Term { matrix: &matrix, x: &Activations::from_rows(&dy, out), first: 0 };
                        backward(cpu, &[term], Onto::Nothing, &mut dx, 0);
                        dx
                    });
                    assert_close(&dx.to_rows(), &product(&wide(&dy), &transposed(&weight, input), out), 2e-6, &what);
                }
            }
        }
    }

    #[test]
    fn terms_are_added_to_what_was_there() {
        let (tokens, out) = (37, 50);
        let (a, b) = (Matrix::new(&numbers(out * 60, 1), out, 60, Precision::Bf16), numbers(out * 5, 2));
        let b = Matrix::new(&b, out, 5, Precision::F32);
        let (x, low, residual) = (numbers(tokens * 70, 3), numbers(tokens * 5, 4), numbers(tokens * out, 5));
        let x_panels = Activations::from_rows(&x, 70);
        let low_panels = Activations::from_rows(&low, 5);
        let terms = [Term { matrix: &a, x: &x_panels, first: 10 }, Term { matrix: &b, x: &low_panels, first: 0 }];
        let read: Vec<f64> = x.chunks_exact(70).flat_map(|row| wide(&row[10..])).collect();
        let expected: Vec<f64> = product(&read, &wide(&a.to_rows()), 60)
            .iter()
            .zip(product(&wide(&low), &wide(&b.to_rows()), 5))
            .zip(&residual)
            .map(|((a, b), residual)| a + b + f64::from(*residual))
            .collect();
        for cpu in Cpu::available() {
            let mut y = Activations::zeros(tokens, out);
            let onto = Activations::from_rows(&residual, out);
            forward(cpu, &terms, Onto::Residual(&onto), &mut y, 0);
            assert_close(&y.to_rows(), &expected, 2e-6, &format!("{cpu:?}"));
            // Pad lanes stay zero.
            let sum = |values: &[f32]| values.iter().map(|&value| f64::from(value).abs()).sum::<f64>();
            assert_eq!(sum(y.data()), sum(&Activations::from_rows(&y.to_rows(), out).data().to_vec()));
        }
    }

    #[test]
    fn gradients_of_several_matrices_are_one_sum() {
        let (tokens, input) = (21, 30);
        let (a, b) = (numbers(40 * input, 1), numbers(9 * input, 2));
        let dy = numbers(tokens * 49, 3);
        let all = [wide(&a), wide(&b)].concat();
        let expected = product(&wide(&dy), &transposed(&all, input), 49);
        let (a, b) = (Matrix::new(&a, 40, input, Precision::F32), Matrix::new(&b, 9, input, Precision::F32));
        let dy = Activations::from_rows(&dy, 49);
        for cpu in Cpu::available() {
            let mut dx = Activations::unwritten(tokens, input);
            let terms = [Term { matrix: &a, x: &dy, first: 0 }, Term { matrix: &b, x: &dy, first: 40 }];
            backward(cpu, &terms, Onto::Nothing, &mut dx, 0);
            assert_close(&dx.to_rows(), &expected, 2e-6, &format!("{cpu:?}"));
        }
    }
}
