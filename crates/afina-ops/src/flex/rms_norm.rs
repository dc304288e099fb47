//! Root mean square normalization, a row at a time.

use rayon::prelude::*;

/// Rows a thread takes at once.
const ROWS: usize = 16;

/// Returns the normalized rows and each row's `1 / rms`, which the backward pass needs.
pub(crate) fn forward(x: &[f32], weight: &[f32], eps: f32) -> (Vec<f32>, Vec<f32>) {
    let columns = weight.len();
    let (mut y, mut inverse) = (vec![0f32; x.len()], vec![0f32; x.len() / columns]);
    y.par_chunks_mut(ROWS * columns).zip(inverse.par_chunks_mut(ROWS)).zip(x.par_chunks(ROWS * columns)).for_each(
        |((y, inverse), x)| {
            for ((y, inverse), x) in y.chunks_exact_mut(columns).zip(inverse).zip(x.chunks_exact(columns)) {
                *inverse = 1.0 / (sum(x.iter().map(|x| x * x)) / columns as f32 + eps).sqrt();
                for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                    *y = x * *inverse * weight;
                }
            }
        },
    );
    (y, inverse)
}

/// With n = `1 / rms` and g = `weight · dy`: `dx = n · g − x · n³ · Σ(x · g) / columns`.
pub(crate) fn backward(dy: &[f32], x: &[f32], weight: &[f32], inverse: &[f32]) -> Vec<f32> {
    let columns = weight.len();
    let mut dx = vec![0f32; x.len()];
    dx.par_chunks_mut(ROWS * columns)
        .zip(dy.par_chunks(ROWS * columns).zip(x.par_chunks(ROWS * columns)))
        .zip(inverse.par_chunks(ROWS))
        .for_each(|((dx, (dy, x)), inverse)| {
            let rows = dx.chunks_exact_mut(columns).zip(dy.chunks_exact(columns)).zip(x.chunks_exact(columns));
            for (((dx, dy), x), &inverse) in rows.zip(inverse) {
                let dot = sum(x.iter().zip(dy).zip(weight).map(|((x, dy), weight)| x * dy * weight));
                let back = dot * inverse * inverse * inverse / columns as f32;
                for (((dx, dy), x), weight) in dx.iter_mut().zip(dy).zip(x).zip(weight) {
                    *dx = inverse * dy * weight - x * back;
                }
            }
        });
    dx
}

/// A sum in sixteen lanes: the compiler may not reorder float additions, so they are laid out for it.
#[inline(always)]
fn sum(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let mut lanes = [0f32; 16];
    for (index, value) in values.enumerate() {
        lanes[index % 16] += value;
    }
    lanes.iter().sum()
}
