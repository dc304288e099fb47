//! Products of matrices with activations: the bulk of a training step.
//!
//! Forward: `out = Σ M·x`, a feature of the result being a row of each matrix. Backward: `out = Σ Mᵀ·x`, a feature being a column.
//! The sum runs over several terms at once, so that an adapter's product and its base's never meet in memory.

use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::{Cpu, Kernel, run};
use crate::matrix::{Matrix, Values};
use crate::pairs::Pairs;
use crate::panels::{Activations, LANES, WIDTH};
use crate::simd::Simd;
use crate::staged::{Staged, prefetch_columns, prefetch_rows};
use crate::tile::{Shared, accumulate, accumulate_pairs, load, store, tile_rows, with_rows};

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
/// The same where rows of the matrix are paired first, and for all of them once.
const PAIRED_GROUP: usize = 16;
/// Rows or columns of the matrix in a piece of work, where there are enough.
const SPAN: usize = 4 * WIDTH;
/// A sum so long that what it reads of the tokens fills the caches: a thread takes as much of the result as it can at once.
const LONG: usize = 8192;
/// Length of a sum between two looks at memory, where it runs down a panel: a block of the matrix stays in the second-level cache.
const BLOCK: usize = 768;

/// `x · matrixᵀ`, `[tokens, rows]`.
pub fn linear(cpu: Cpu, x: &Activations, matrix: &Matrix) -> Activations {
    let mut out = Activations::unwritten(x.tokens(), matrix.rows());
    forward(cpu, &[&[Term { matrix, x, first: 0 }]], Onto::Nothing, &mut out);
    out
}

/// `out = onto + Σ M·x` of each part, their features side by side; the matrices of a part have the same rows.
pub(crate) fn forward<'a>(cpu: Cpu, parts: &[impl AsRef<[Term<'a>]>], onto: Onto, out: &mut Activations) {
    share(cpu, Direction::Forward, parts, onto, out, cpu.rounds_activations());
}

/// `out = onto + Σ Mᵀ·x` of each part, their features side by side; the matrices of a part have the same columns.
pub(crate) fn backward<'a>(cpu: Cpu, parts: &[impl AsRef<[Term<'a>]>], onto: Onto, out: &mut Activations) {
    share(cpu, Direction::Backward, parts, onto, out, cpu.rounds_activations());
}

#[derive(Clone, Copy)]
enum Direction {
    Forward,
    Backward,
}

impl Direction {
    /// Features of the result, and of what is read.
    fn features(self, matrix: &Matrix) -> (usize, usize) {
        match self {
            Direction::Forward => (matrix.rows(), matrix.columns()),
            Direction::Backward => (matrix.columns(), matrix.rows()),
        }
    }
}

/// A term, and the tokens it reads rounded to pairs, where they are multiplied so.
#[derive(Clone, Copy)]
struct Operand<'a> {
    term: Term<'a>,
    pairs: Option<&'a Pairs>,
}

/// Deals the result out in pieces: `SPAN` features × a group of panels of tokens. With `rounds`, what is multiplied with a bf16 matrix is
/// rounded to bf16 as well.
fn share<'a>(
    cpu: Cpu,
    direction: Direction,
    parts: &[impl AsRef<[Term<'a>]>],
    onto: Onto,
    out: &mut Activations,
    rounds: bool,
) {
    if let Onto::Residual(residual) = onto {
        assert_eq!((residual.tokens(), residual.features()), (out.tokens(), out.features()), "what is added fits");
    }
    let in_pairs =
        |term: &&Term| rounds && matches!(term.matrix.values(), Values::Bf16(_)) && term.first.is_multiple_of(2);
    let mut rounded: Vec<(&Activations, Pairs)> = Vec::new(); // each once, whatever reads it
    for term in parts.iter().flat_map(|terms| terms.as_ref()).filter(in_pairs) {
        if !rounded.iter().any(|(x, _)| std::ptr::eq(*x, term.x)) {
            rounded.push((term.x, Pairs::new(cpu, term.x)));
        }
    }
    let of_term = |term: &Term| rounded.iter().find(|(x, _)| in_pairs(&term) && std::ptr::eq(*x, term.x));

    let operand = |&term: &Term<'a>| Operand { term, pairs: of_term(&term).map(|(_, pairs)| pairs) };
    let parts: Vec<Vec<Operand>> = parts.iter().map(|terms| terms.as_ref().iter().map(operand).collect()).collect();

    let (tokens, out_panels, out_features) = (out.tokens(), out.panels(), out.features());
    let out = Shared::new(out.data_mut());
    let mut pieces = Vec::new();
    let mut out_first = 0;
    for operands in &parts {
        let Operand { term: Term { matrix, .. }, pairs } = operands[0];
        let (written, _) = direction.features(matrix);
        for Operand { term, .. } in operands {
            let (features, read) = direction.features(term.matrix);
            assert_eq!(features, written, "all terms of a part have the same features");
            assert!(term.first + read <= term.x.features(), "a term reads features that are there");
            assert_eq!(term.x.tokens(), tokens, "as many tokens in as out");
        }
        let share_of_thread = written.div_ceil(rayon::current_num_threads()).next_multiple_of(WIDTH);
        let (span, group) = match direction {
            Direction::Forward => (SPAN, GROUP),
            Direction::Backward => (
                if matrix.rows() >= LONG { share_of_thread } else { SPAN },
                if pairs.is_some() { PAIRED_GROUP } else { GROUP },
            ),
        };
        for start in (0..written).step_by(span) {
            for panel in (0..out_panels).step_by(group) {
                let (features, panels) = (start..(start + span).min(written), panel..(panel + group).min(out_panels));
                pieces.push(Piece { direction, operands, onto, out, out_features, out_first, features, panels });
            }
        }
        out_first += written;
    }
    assert_eq!(out_first, out_features, "the parts are the result");
    pieces.into_par_iter().with_max_len(1).for_each(|piece| run(cpu, piece));
}

struct Piece<'a> {
    direction: Direction,
    operands: &'a [Operand<'a>],
    onto: Onto<'a>,
    out: Shared,
    out_features: usize,
    out_first: usize,
    features: Range<usize>,
    panels: Range<usize>,
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
            let rows = tile_rows::<S>(self.features.end - row);
            with_rows!(S, rows, R => self.forward_rows::<S, R>(row, &mut scratch));
            row += rows;
        }
    }

    /// `R` rows of the matrices with every panel of the piece.
    #[inline(always)]
    fn forward_rows<S: Simd, const R: usize>(&self, row: usize, scratch: &mut Vec<u32>) {
        scratch.clear();
        let staged = self.operands.iter();
        let staged: Vec<Staged> =
            staged.map(|Operand { term, pairs }| Staged::rows(term.matrix, row, R, pairs.is_some(), scratch)).collect();
        let mut panel = self.panels.start;
        while panel < self.panels.end {
            if row + R < self.features.end {
                let (part, parts) = (panel - self.panels.start, self.panels.len());
                prefetch_rows(self.operands[0].term.matrix, row + R..row + 2 * R, part, parts);
            }
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
        scratch: &[u32],
    ) {
        let mut sums = self.begin::<S, R, P>(row, panel);
        for (Operand { term, pairs }, staged) in self.operands.iter().zip(staged) {
            let columns = term.matrix.columns();
            let (a, step) = staged.values(scratch);
            for (segment, start) in (0..columns).step_by(WIDTH).enumerate() {
                let length = WIDTH.min(columns - start);
                // SAFETY: `a` holds R rows in every panel of the matrix; `x` has the term's features in `P` panels from `panel` on.
                unsafe {
                    let a = a.add(segment * step);
                    match pairs {
                        None => {
                            let b_panel = term.x.features() * LANES;
                            let b = term.x.data().as_ptr().add(panel * b_panel + (term.first + start) * LANES);
                            accumulate::<S, R, P, WIDTH, 1>(&mut sums, a.cast(), b, b_panel, length);
                        }
                        Some(pairs) => {
                            let b_panel = pairs.panel();
                            let b = pairs.data().as_ptr().add(panel * b_panel + (term.first + start) / 2 * LANES);
                            let length = length.div_ceil(2);
                            accumulate_pairs::<S, R, P, { WIDTH / 2 }, 1>(&mut sums, a, b, b_panel, length);
                        }
                    }
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
        for Operand { term, pairs } in self.operands {
            for block in (0..term.matrix.rows()).step_by(BLOCK) {
                let rows = block..(block + BLOCK).min(term.matrix.rows());
                let mut column = self.features.start;
                while column < self.features.end {
                    let staged = Staged::columns(term.matrix, column / WIDTH, &rows, pairs.is_some(), &mut scratch);
                    let of_block =
                        Block { term, pairs: *pairs, rows: rows.clone(), values: staged.values(&scratch).0, started };
                    let end = ((column / WIDTH + 1) * WIDTH).min(self.features.end);
                    while column < end {
                        let columns = tile_rows::<S>(end - column);
                        with_rows!(S, columns, R => self.backward_columns::<S, R>(&of_block, column));
                        column += columns;
                    }
                }
                started = true;
            }
        }
    }

    /// `R` columns of a block with every panel of the piece.
    #[inline(always)]
    fn backward_columns<S: Simd, const R: usize>(&self, block: &Block, column: usize) {
        let (parts, width) = (self.panels.len() * WIDTH.div_ceil(R), column % WIDTH / R);
        let mut panel = self.panels.start;
        while panel < self.panels.end {
            let part = width * self.panels.len() + panel - self.panels.start;
            if part < parts && column / WIDTH * WIDTH + WIDTH < self.features.end {
                prefetch_columns(block.term.matrix, column / WIDTH + 1, &block.rows, part, parts);
            }
            if S::PANELS == 2 && panel + 1 < self.panels.end {
                self.backward_tile::<S, R, 2>(block, column, panel);
                panel += 2;
            } else {
                self.backward_tile::<S, R, 1>(block, column, panel);
                panel += 1;
            }
        }
    }

    #[inline(always)]
    fn backward_tile<S: Simd, const R: usize, const P: usize>(&self, block: &Block, column: usize, panel: usize) {
        let Block { term, pairs, rows, values, started } = block;
        let (to, out_panel) = (self.at(column, panel), self.out_features * LANES);
        // SAFETY: the block holds its rows of a whole panel of columns; `x` and the result as in `forward_tile`.
        unsafe {
            let mut sums = if *started { load::<S, R, P>(to, out_panel) } else { self.begin::<S, R, P>(column, panel) };
            let a = values.add(column % WIDTH);
            match pairs {
                None => {
                    let b_panel = term.x.features() * LANES;
                    let b = term.x.data().as_ptr().add(panel * b_panel + (term.first + rows.start) * LANES);
                    accumulate::<S, R, P, 1, WIDTH>(&mut sums, a.cast(), b, b_panel, rows.len());
                }
                Some(pairs) => {
                    let b_panel = pairs.panel();
                    let b = pairs.data().as_ptr().add(panel * b_panel + (term.first + rows.start) / 2 * LANES);
                    accumulate_pairs::<S, R, P, 1, WIDTH>(&mut sums, a, b, b_panel, rows.len().div_ceil(2));
                }
            }
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
                    let from = residual.data().as_ptr().add(panel * panel_size + (self.out_first + feature) * LANES);
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

/// Some rows of one panel of columns of a term's matrix.
struct Block<'a> {
    term: &'a Term<'a>,
    pairs: Option<&'a Pairs>,
    rows: Range<usize>,
    /// Floats, or pairs where the term has them.
    values: *const u32,
    /// Whether the result holds sums already.
    started: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Precision;
    use crate::testing::{assert_close, numbers, on_any_threads, product, transposed, wide};

    /// Ragged everywhere: tokens around a panel, sums around a matrix panel and a block, outputs around a tile and a piece.
    const SHAPES: [[usize; 3]; 7] =
        [[1, 1, 1], [15, 25, 7], [16, 24, 6], [33, 100, 50], [130, 60, 97], [17, 800, 13], [20, 13, 900]];

    fn rounded(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&x| half::bf16::from_f32(x).to_f64()).collect()
    }

    /// Activations as a product of this level multiplies them with a matrix of this precision.
    fn multiplied(cpu: Cpu, precision: Precision, x: &[f32]) -> Vec<f64> {
        if cpu.rounds_activations() && precision == Precision::Bf16 { rounded(x) } else { wide(x) }
    }

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
                    let read = |x: &[f32]| multiplied(cpu, precision, x);
                    assert_close(&y, &product(&read(&x), &weight, input), 2e-6, &what);
                    let dx = on_any_threads(|| {
                        let mut dx = Activations::unwritten(tokens, input);
                        let term = Term { matrix: &matrix, x: &Activations::from_rows(&dy, out), first: 0 };
                        backward(cpu, &[&[term]], Onto::Nothing, &mut dx);
                        dx
                    });
                    assert_close(&dx.to_rows(), &product(&read(&dy), &transposed(&weight, input), out), 2e-6, &what);
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
        for cpu in Cpu::available() {
            let read: Vec<f64> =
                x.chunks_exact(70).flat_map(|row| multiplied(cpu, Precision::Bf16, &row[10..])).collect();
            let expected: Vec<f64> = product(&read, &wide(&a.to_rows()), 60)
                .iter()
                .zip(product(&wide(&low), &wide(&b.to_rows()), 5))
                .zip(&residual)
                .map(|((a, b), residual)| a + b + f64::from(*residual))
                .collect();
            let mut y = Activations::zeros(tokens, out);
            let onto = Activations::from_rows(&residual, out);
            forward(cpu, &[&terms], Onto::Residual(&onto), &mut y);
            assert_close(&y.to_rows(), &expected, 2e-6, &format!("{cpu:?}"));
            // Pad lanes stay zero.
            let sum = |values: &[f32]| values.iter().map(|&value| f64::from(value).abs()).sum::<f64>();
            assert_eq!(sum(y.data()), sum(Activations::from_rows(&y.to_rows(), out).data()));
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
            backward(cpu, &[&terms], Onto::Nothing, &mut dx);
            assert_close(&dx.to_rows(), &expected, 2e-6, &format!("{cpu:?}"));
        }
    }

    #[test]
    fn parts_lie_side_by_side() {
        let (tokens, input) = (21, 30);
        let (x, low) = (numbers(tokens * input, 1), numbers(tokens * 7, 2));
        let (x, low) = (Activations::from_rows(&x, input), Activations::from_rows(&low, 7));
        for precision in [Precision::F32, Precision::Bf16] {
            let a = Matrix::new(&numbers(40 * input, 3), 40, input, precision);
            let b = Matrix::new(&numbers(9 * input, 4), 9, input, precision);
            let small = Matrix::new(&numbers(9 * 3, 5), 9, 3, Precision::F32);
            let first = [Term { matrix: &a, x: &x, first: 0 }];
            let second = [Term { matrix: &b, x: &x, first: 0 }, Term { matrix: &small, x: &low, first: 4 }];
            for cpu in Cpu::available() {
                let part = |terms: &[Term], features| {
                    let mut y = Activations::unwritten(tokens, features);
                    forward(cpu, &[terms], Onto::Nothing, &mut y);
                    y.to_rows()
                };
                let parts = (part(&first, 40), part(&second, 9));
                let rows = parts.0.chunks_exact(40).zip(parts.1.chunks_exact(9));
                let expected: Vec<f32> = rows.flat_map(|(a, b)| [a, b].concat()).collect();
                let mut y = Activations::unwritten(tokens, 49);
                forward(cpu, &[&first[..], &second], Onto::Nothing, &mut y);
                assert_eq!(y.to_rows(), expected, "{cpu:?} {precision:?}");
            }
        }
    }

    #[test]
    fn rounded_activations_are_multiplied_as_they_were_rounded() {
        for cpu in Cpu::available() {
            for [tokens, input, out] in SHAPES {
                let what = format!("{cpu:?} {tokens} × {input} → {out}");
                let matrix = Matrix::new(&numbers(out * input, 1), out, input, Precision::Bf16);
                let weight = wide(&matrix.to_rows());
                let (x, dy) = (numbers(tokens * input, 2), numbers(tokens * out, 3));
                let share = |direction, x: &Activations, features| {
                    let mut y = Activations::unwritten(tokens, features);
                    let term = Term { matrix: &matrix, x, first: 0 };
                    share(cpu, direction, &[&[term]], Onto::Nothing, &mut y, true);
                    y.to_rows()
                };
                let y = share(Direction::Forward, &Activations::from_rows(&x, input), out);
                assert_close(&y, &product(&rounded(&x), &weight, input), 2e-6, &what);
                let dx = share(Direction::Backward, &Activations::from_rows(&dy, out), input);
                assert_close(&dx, &product(&rounded(&dy), &transposed(&weight, input), out), 2e-6, &what);
            }
        }
    }
}
