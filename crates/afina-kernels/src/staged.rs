//! The part of a matrix that a tile reads, in the form that the innermost loop takes.

use std::ops::Range;

use half::bf16;

use crate::matrix::{Matrix, Values};
use crate::pairs::zip_rows;
use crate::panels::WIDTH;

/// Bytes that come from memory together.
const CACHE_LINE: usize = 64;

pub(crate) enum Staged {
    /// In the matrix itself, with the distance between its panels, in words.
    Direct(*const u32, usize),
    /// Converted into scratch memory, from here on, with that distance.
    Copied(usize, usize),
}

impl Staged {
    /// Where the numbers are, and words between two panels of columns.
    #[inline(always)]
    pub(crate) fn values(&self, scratch: &[u32]) -> (*const u32, usize) {
        match self {
            Staged::Direct(values, step) => (*values, *step),
            Staged::Copied(start, step) => (scratch[*start..].as_ptr(), *step),
        }
    }

    /// `count` rows from `row` on, of all columns; a bf16 matrix as pairs of neighbouring columns, or widened.
    #[inline(always)]
    pub(crate) fn rows(matrix: &Matrix, row: usize, count: usize, in_pairs: bool, scratch: &mut Vec<u32>) -> Staged {
        match matrix.values() {
            Values::F32(values) => Staged::Direct(values[row * WIDTH..].as_ptr().cast(), matrix.rows() * WIDTH),
            Values::Bf16(values) if in_pairs => {
                Staged::Direct(values[row * WIDTH..].as_ptr().cast(), matrix.rows() * WIDTH / 2)
            }
            Values::Bf16(values) => {
                let start = scratch.len();
                scratch.resize(start + matrix.columns().div_ceil(WIDTH) * count * WIDTH, 0);
                let panels = values.chunks_exact(matrix.rows() * WIDTH);
                for (to, from) in scratch[start..].chunks_exact_mut(count * WIDTH).zip(panels) {
                    widen(&from[row * WIDTH..][..count * WIDTH], to);
                }
                Staged::Copied(start, count * WIDTH)
            }
        }
    }

    /// Some rows of one panel of columns; a bf16 matrix as pairs of neighbouring rows, or widened.
    #[inline(always)]
    pub(crate) fn columns(
        matrix: &Matrix,
        panel: usize,
        rows: &Range<usize>,
        in_pairs: bool,
        scratch: &mut Vec<u32>,
    ) -> Staged {
        let from = (panel * matrix.rows() + rows.start) * WIDTH;
        let block = from..from + rows.len() * WIDTH;
        match matrix.values() {
            Values::F32(values) => Staged::Direct(values[block].as_ptr().cast(), 0),
            Values::Bf16(values) if in_pairs => {
                scratch.resize(rows.len().div_ceil(2) * WIDTH, 0);
                zip_rows(&values[block], scratch);
                Staged::Copied(0, 0)
            }
            Values::Bf16(values) => {
                scratch.resize(rows.len() * WIDTH, 0);
                widen(&values[block], scratch);
                Staged::Copied(0, 0)
            }
        }
    }
}

/// Asks for a part of some rows, of all columns, before they are needed: a matrix comes from memory, and a tile cannot wait for it.
#[inline(always)]
pub(crate) fn prefetch_rows(matrix: &Matrix, rows: Range<usize>, part: usize, parts: usize) {
    let panels = matrix.columns().div_ceil(WIDTH);
    let rows = rows.start..rows.end.min(matrix.rows());
    for panel in panels * part / parts..panels * (part + 1) / parts {
        prefetch(matrix, panel * matrix.rows() + rows.start..panel * matrix.rows() + rows.end);
    }
}

/// Asks for a part of some rows of one panel of columns.
#[inline(always)]
pub(crate) fn prefetch_columns(matrix: &Matrix, panel: usize, rows: &Range<usize>, part: usize, parts: usize) {
    if panel < matrix.columns().div_ceil(WIDTH) {
        let first = panel * matrix.rows() + rows.start;
        prefetch(matrix, first + rows.len() * part / parts..first + rows.len() * (part + 1) / parts);
    }
}

/// Lines of `WIDTH` numbers.
#[inline(always)]
fn prefetch(matrix: &Matrix, lines: Range<usize>) {
    let (start, size) = match matrix.values() {
        Values::F32(values) => (values.as_ptr().cast::<i8>(), WIDTH * size_of::<f32>()),
        Values::Bf16(values) => (values.as_ptr().cast::<i8>(), WIDTH * size_of::<bf16>()),
    };
    for at in (lines.start * size..lines.end * size).step_by(CACHE_LINE) {
        // SAFETY: an address inside the matrix, and only a hint.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(at));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (start, at);
    }
}

#[inline(always)]
fn widen(from: &[bf16], to: &mut [u32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = u32::from(from.to_bits()) << 16;
    }
}
