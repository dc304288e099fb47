//! What B·A is multiplied by, where a file has one number for all modules.

use std::borrow::Cow;

use crate::tensor::{Dtype, RawTensor, TensorError};

/// Factors that differ by less are the same: a quotient and its product again are a few units of f64's last place apart.
const SAME: f64 = 1e-12;

/// The one number for all modules with which the fewest matrices have to change: the most frequent of those that each would
/// have, and of equally frequent ones the first. `sayable` tells what the file can hold; without any it is 1.
pub(super) fn shared(wanted: &[f64], sayable: impl Fn(f64) -> bool) -> f64 {
    let mut counts: Vec<(f64, usize)> = Vec::new();
    for &value in wanted.iter().filter(|value| sayable(**value)) {
        match counts.iter_mut().find(|(other, _)| is_same(value / other)) {
            Some((_, count)) => *count += 1,
            None => counts.push((value, 1)),
        }
    }
    // `max_by_key` gives the last of equals.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(1.0, |(value, _)| value)
}

/// Whether a matrix stays as it is under this factor.
pub(super) fn is_same(factor: f64) -> bool {
    (factor - 1.0).abs() < SAME
}

/// The matrix times a factor: F32, unless the factor is 1.
pub(super) fn fold(matrix: &RawTensor, factor: f64) -> Result<Cow<'_, RawTensor>, TensorError> {
    if is_same(factor) {
        return Ok(Cow::Borrowed(matrix));
    }
    let mut values = matrix.to_f32()?;
    for value in &mut values {
        *value = (f64::from(*value) * factor) as f32;
    }
    RawTensor::from_f32_as(matrix.name.clone(), matrix.shape.clone(), &values, Dtype::F32).map(Cow::Owned)
}

/// The dtype that a matrix has once it is folded.
pub(super) fn folded_dtype(dtype: Dtype, factor: f64) -> Dtype {
    if is_same(factor) { dtype } else { Dtype::F32 }
}

/// The transposed matrix, its elements as they are.
///
/// # Panics
/// If it has not two dimensions, or not as many bytes as they say.
pub(super) fn transposed(matrix: &RawTensor) -> RawTensor {
    let (&[rows, columns], size) = (&matrix.shape[..], matrix.dtype.size()) else {
        panic!("a matrix has two dimensions")
    };
    assert_eq!(matrix.bytes.len(), rows * columns * size, "`{}` is whole", matrix.name);
    let mut bytes = Vec::with_capacity(matrix.bytes.len());
    for column in 0..columns {
        for row in 0..rows {
            let at = (row * columns + column) * size;
            bytes.extend_from_slice(&matrix.bytes[at..at + size]);
        }
    }
    RawTensor { name: matrix.name.clone(), dtype: matrix.dtype, shape: vec![columns, rows], bytes }
}

/// `[r, in]` with rows of zeros behind it up to `rank`: the product with a B that has columns of zeros there is the same.
pub(super) fn with_rows(matrix: &RawTensor, rank: usize) -> RawTensor {
    let row = matrix.shape[1] * matrix.dtype.size();
    let mut bytes = matrix.bytes.clone();
    bytes.resize(rank * row, 0); // zero is all bits zero in every float dtype
    RawTensor { name: matrix.name.clone(), dtype: matrix.dtype, shape: vec![rank, matrix.shape[1]], bytes }
}

/// An alpha that gives this scale over a rank, whole where a whole one does.
pub(super) fn alpha_of(scale: f64, rank: usize) -> f64 {
    let alpha = scale * rank as f64;
    if alpha.round() / rank as f64 == scale { alpha.round() } else { alpha }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_frequent_factor_is_the_shared_one() {
        let any = |_| true;
        assert_eq!(shared(&[2.0, 4.0, 4.0], any), 4.0);
        assert_eq!(shared(&[2.0, 4.0], any), 2.0);
        assert_eq!(shared(&[0.0, 0.0, 4.0], |value| value != 0.0), 4.0);
        assert_eq!(shared(&[0.0], |value| value != 0.0), 1.0);
        assert_eq!(shared(&[16.0, 16.0 / 3.0 * 3.0, 1.0, 16.0 / 49.0 * 49.0, 1.0], any), 16.0);
    }

    #[test]
    fn folding_widens_and_one_changes_nothing() {
        let b = RawTensor::from_f32_as("b", vec![2, 1], &[0.1, -3.0], Dtype::F16).unwrap();
        assert_eq!(*fold(&b, 1.0).unwrap(), b);
        let folded = fold(&b, 1.0 / 3.0).unwrap();
        assert_eq!((folded.dtype, folded_dtype(b.dtype, 1.0 / 3.0)), (Dtype::F32, Dtype::F32));
        assert_eq!(folded.to_f32().unwrap()[1], -1.0);
        assert!(fold(&RawTensor::from_f32("b", vec![1], &[1e38]), 1e3).is_err(), "what overflows is refused");
    }

    #[test]
    fn transposing_twice_and_zeros_keep_the_bytes() {
        let a = RawTensor::from_f32_as("a", vec![2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], Dtype::BF16).unwrap();
        let turned = transposed(&a);
        assert_eq!(
            (turned.shape.as_slice(), turned.to_f32().unwrap()),
            (&[3, 2][..], vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0])
        );
        assert_eq!(transposed(&turned), a);
        assert_eq!(with_rows(&a, 3).to_f32().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 0.0, 0.0]);
        assert_eq!((alpha_of(20.0 / 7.0, 7), alpha_of(0.3, 3)), (20.0, 0.3 * 3.0));
    }
}
