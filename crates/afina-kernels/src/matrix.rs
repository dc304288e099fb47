//! A matrix laid out once so that products with it and with its transpose both read it in order.

use half::bf16;
use rayon::prelude::*;

use crate::panels::{Activations, LANES, WIDTH};

/// A matrix `[rows, columns]` as panels of [`WIDTH`] columns, `[columns / WIDTH][rows][WIDTH]`, zero beyond the last column.
///
/// A product with the matrix takes some rows along a panel; a product with its transpose takes some columns down a panel. Both are
/// contiguous, so one copy serves the forward and the backward pass.
#[derive(Debug, Clone)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    values: Values,
}

/// The numbers of a matrix as they are kept; sums are f32 always.
#[derive(Debug, Clone)]
pub(crate) enum Values {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

/// How the numbers of a matrix are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    F32,
    /// Rounded to nearest, ties to even: half the memory.
    Bf16,
}

impl Matrix {
    /// `values`: `[rows, columns]`.
    pub fn new(values: &[f32], rows: usize, columns: usize, precision: Precision) -> Matrix {
        assert_eq!(values.len(), rows * columns, "one number a place");
        let values = match precision {
            Precision::F32 => Values::F32(packed(values, rows, columns, 0.0, |x| x)),
            Precision::Bf16 => Values::Bf16(packed(values, rows, columns, bf16::ZERO, bf16::from_f32)),
        };
        Matrix { rows, columns, values }
    }

    /// Scaled by `scale`.
    pub(crate) fn scaled(values: &[f32], rows: usize, columns: usize, scale: f32) -> Matrix {
        Matrix { rows, columns, values: Values::F32(packed(values, rows, columns, 0.0, |x| x * scale)) }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn precision(&self) -> Precision {
        match self.values {
            Values::F32(_) => Precision::F32,
            Values::Bf16(_) => Precision::Bf16,
        }
    }

    /// Bytes that the numbers take.
    pub fn bytes(&self) -> usize {
        match &self.values {
            Values::F32(values) => size_of_val(values.as_slice()),
            Values::Bf16(values) => size_of_val(values.as_slice()),
        }
    }

    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// One row.
    pub fn row(&self, row: usize) -> Vec<f32> {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        (0..self.columns)
            .map(|column| {
                let at = (column / WIDTH * self.rows + row) * WIDTH + column % WIDTH;
                match &self.values {
                    Values::F32(values) => values[at],
                    Values::Bf16(values) => values[at].to_f32(),
                }
            })
            .collect()
    }

    /// All rows, `[rows, columns]`.
    pub fn to_rows(&self) -> Vec<f32> {
        (0..self.rows).flat_map(|row| self.row(row)).collect()
    }

    /// The rows of some tokens, as an embedding gives them: `[ids, columns]`.
    pub fn embed(&self, ids: &[u32]) -> Activations {
        let mut embedded = Activations::zeros(ids.len(), self.columns);
        let columns = self.columns;
        embedded.data_mut().par_chunks_mut(LANES * columns).zip(ids.par_chunks(LANES)).for_each(|(panel, ids)| {
            for (lane, &id) in ids.iter().enumerate() {
                for (column, value) in self.row(id as usize).into_iter().enumerate() {
                    panel[column * LANES + lane] = value;
                }
            }
        });
        embedded
    }
}

/// Numbers that are sooner copied than shared out: an adapter's factors are small.
const ALONE: usize = 1 << 16;

fn packed<T: Copy + Send + Sync>(
    values: &[f32],
    rows: usize,
    columns: usize,
    zero: T,
    convert: impl Fn(f32) -> T + Sync,
) -> Vec<T> {
    let mut packed = vec![zero; columns.div_ceil(WIDTH) * rows * WIDTH];
    if packed.is_empty() {
        return packed;
    }
    let panels = packed.par_chunks_mut(rows * WIDTH).enumerate();
    panels.with_min_len(ALONE / (rows * WIDTH)).for_each(|(panel, to)| {
        let first = panel * WIDTH;
        let width = WIDTH.min(columns - first);
        for (row, to) in to.chunks_exact_mut(WIDTH).enumerate() {
            for (to, &value) in to.iter_mut().zip(&values[row * columns + first..][..width]) {
                *to = convert(value);
            }
        }
    });
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_kept() {
        for (rows, columns) in [(1, 1), (3, 23), (5, 24), (7, 25), (2, 100)] {
            let values: Vec<f32> = (0..rows * columns).map(|i| i as f32 + 0.25).collect();
            let matrix = Matrix::new(&values, rows, columns, Precision::F32);
            assert_eq!(matrix.to_rows(), values);
            let rounded: Vec<f32> = values.iter().map(|&value| bf16::from_f32(value).to_f32()).collect();
            assert_eq!(Matrix::new(&values, rows, columns, Precision::Bf16).to_rows(), rounded);
        }
    }

    #[test]
    fn an_embedding_is_its_rows() {
        let values: Vec<f32> = (0..10 * 30).map(|i| i as f32).collect();
        let matrix = Matrix::new(&values, 10, 30, Precision::F32);
        let embedded = matrix.embed(&[3, 9, 3]).to_rows();
        assert_eq!(embedded, [&values[90..120], &values[270..300], &values[90..120]].concat());
    }
}
