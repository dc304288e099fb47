//! A tensor as it lies in a file: name, dtype, shape and little-endian bytes, row-major.

use std::fmt;

use afina_quant::format::{Format, FormatError};
use serde::Serialize;

/// The element types that checkpoints of this project's models use; the names are those of safetensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Dtype {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    #[serde(rename = "BOOL")]
    Bool,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Dtype::F64 | Dtype::I64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::BF16 | Dtype::I16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
        }
    }

    /// The name in a safetensors header.
    pub fn as_str(self) -> &'static str {
        match self {
            Dtype::F64 => "F64",
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
            Dtype::I64 => "I64",
            Dtype::I32 => "I32",
            Dtype::I16 => "I16",
            Dtype::I8 => "I8",
            Dtype::U8 => "U8",
            Dtype::Bool => "BOOL",
        }
    }

    /// The format of ggml that is the same, if there is one.
    fn format(self) -> Option<Format> {
        match self {
            Dtype::F32 => Some(Format::F32),
            Dtype::F16 => Some(Format::F16),
            Dtype::BF16 => Some(Format::BF16),
            _ => None,
        }
    }

    /// Whether values of it are numbers that can be had in F32.
    pub fn is_float(self) -> bool {
        self == Dtype::F64 || self.format().is_some()
    }

    /// Values of a float dtype in F32 (F64 is rounded, the others are widened).
    ///
    /// # Panics
    /// If it is not a float dtype, or the bytes are not of as many values.
    pub(crate) fn decode(self, bytes: &[u8], values: &mut [f32]) {
        assert_eq!(bytes.len(), values.len() * self.size(), "bytes of all values");
        match self.format() {
            Some(format) => format.decode(bytes, values.len(), values).expect("as many bytes as were checked above"),
            None => {
                assert_eq!(self, Dtype::F64, "a float dtype");
                for (bytes, value) in bytes.as_chunks::<8>().0.iter().zip(values) {
                    *value = f64::from_le_bytes(*bytes) as f32;
                }
            }
        }
    }

    /// Rounds values to a float dtype. A value that is not finite, or is not once it is rounded, is refused by its index.
    ///
    /// # Panics
    /// As [`Dtype::decode`].
    pub(crate) fn encode(self, values: &[f32], bytes: &mut [u8]) -> Result<(), FormatError> {
        match self.format() {
            Some(format) => format.encode(values, values.len(), bytes),
            None => {
                assert_eq!(self, Dtype::F64, "a float dtype");
                copy(values, bytes, |value| f64::from(value).to_le_bytes());
                match values.iter().position(|value| !value.is_finite()) {
                    Some(index) => Err(FormatError::NotFinite { index, value: values[index] }),
                    None => Ok(()),
                }
            }
        }
    }

    /// The dtype of this name in a safetensors header, if it is one of ours.
    pub fn from_name(name: &str) -> Option<Dtype> {
        use Dtype::*;
        [F64, F32, F16, BF16, I64, I32, I16, I8, U8, Bool].into_iter().find(|d| d.as_str() == name)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a header says of a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorInfo {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// Number of elements, or `None` if it does not fit in memory's addresses.
    pub fn elements(&self) -> Option<usize> {
        elements(&self.shape)
    }

    /// Bytes in a file; as many as there can be for a shape that no file holds.
    pub fn bytes(&self) -> u64 {
        self.elements().map_or(u64::MAX, |count| (count as u64).saturating_mul(self.dtype.size() as u64))
    }
}

/// A tensor's name, dtype, shape and bytes (little-endian, row-major).
#[derive(Debug, Clone, PartialEq)]
pub struct RawTensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// Why a tensor's values cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    #[error("tensor `{name}`: expected a float dtype, found `{dtype}`")]
    NotFloat { name: String, dtype: Dtype },
    #[error("tensor `{name}`: expected {expected} bytes for shape {shape:?}, found {found}")]
    Length { name: String, shape: Vec<usize>, expected: usize, found: usize },
    #[error("tensor `{name}`: expected a matrix, found shape {shape:?}")]
    NotMatrix { name: String, shape: Vec<usize> },
    #[error("tensor `{name}` cannot be stored as `{dtype}`")]
    Encode { name: String, dtype: Dtype, source: FormatError },
}

impl RawTensor {
    /// A tensor of `values` in F32.
    ///
    /// # Panics
    /// If `shape` does not hold as many values.
    pub fn from_f32(name: impl Into<String>, shape: Vec<usize>, values: &[f32]) -> RawTensor {
        assert_eq!(elements(&shape), Some(values.len()), "shape {shape:?} holds all values");
        let mut bytes = vec![0; values.len() * 4];
        copy(values, &mut bytes, f32::to_le_bytes);
        RawTensor { name: name.into(), dtype: Dtype::F32, shape, bytes }
    }

    /// A tensor of `values`, rounded to `dtype`. A value that is not finite, or is not once it is rounded, is refused by
    /// its index.
    ///
    /// # Panics
    /// If `shape` does not hold as many values, or `dtype` is not a float dtype.
    pub fn from_f32_as(
        name: impl Into<String>,
        shape: Vec<usize>,
        values: &[f32],
        dtype: Dtype,
    ) -> Result<RawTensor, TensorError> {
        assert_eq!(elements(&shape), Some(values.len()), "shape {shape:?} holds all values");
        let name = name.into();
        let mut bytes = vec![0; values.len() * dtype.size()];
        match dtype.encode(values, &mut bytes) {
            Ok(()) => Ok(RawTensor { name, dtype, shape, bytes }),
            Err(source) => Err(TensorError::Encode { name, dtype, source }),
        }
    }

    /// The values in F32 (F64 is rounded, the others are widened).
    pub fn to_f32(&self) -> Result<Vec<f32>, TensorError> {
        let count = elements(&self.shape).unwrap_or(usize::MAX);
        let expected = count.saturating_mul(self.dtype.size());
        if expected != self.bytes.len() {
            let (name, shape) = (self.name.clone(), self.shape.clone());
            return Err(TensorError::Length { name, shape, expected, found: self.bytes.len() });
        }
        if !self.dtype.is_float() {
            return Err(TensorError::NotFloat { name: self.name.clone(), dtype: self.dtype });
        }
        let mut values = vec![0.0; count];
        self.dtype.decode(&self.bytes, &mut values);
        Ok(values)
    }

    /// The same values in another float dtype; as it is where the dtype stays.
    pub fn cast(self, dtype: Dtype) -> Result<RawTensor, TensorError> {
        if self.dtype == dtype {
            return Ok(self);
        }
        let values = self.to_f32()?;
        let (name, shape) = (self.name, self.shape);
        drop(self.bytes); // before the next copy is made
        RawTensor::from_f32_as(name, shape, &values, dtype)
    }

    /// A matrix with its rows as columns, in F32.
    pub fn transposed(&self) -> Result<RawTensor, TensorError> {
        let values = self.to_f32()?;
        let &[rows, columns] = self.shape.as_slice() else {
            return Err(TensorError::NotMatrix { name: self.name.clone(), shape: self.shape.clone() });
        };
        let turned: Vec<f32> = (0..columns * rows).map(|at| values[at % rows * columns + at / rows]).collect();
        Ok(RawTensor::from_f32(&self.name, vec![columns, rows], &turned))
    }

    /// The header entry of this tensor.
    pub fn info(&self) -> TensorInfo {
        TensorInfo { name: self.name.clone(), dtype: self.dtype, shape: self.shape.clone() }
    }
}

/// Number of elements of a shape, or `None` if it overflows.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim))
}

fn copy<const N: usize>(values: &[f32], bytes: &mut [u8], to: impl Fn(f32) -> [u8; N]) {
    for (value, out) in values.iter().zip(bytes.chunks_exact_mut(N)) {
        out.copy_from_slice(&to(*value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_every_float_dtype() {
        let values = [0.0, -1.5, 2.0, 1024.0];
        for dtype in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16] {
            let tensor = RawTensor::from_f32_as("x", vec![2, 2], &values, dtype).unwrap();
            assert_eq!(tensor.bytes.len(), 4 * dtype.size());
            assert_eq!(tensor.to_f32().unwrap(), values);
        }
    }

    #[test]
    fn integers_and_wrong_lengths_are_refused_by_name() {
        let ids = RawTensor { name: "ids".into(), dtype: Dtype::I64, shape: vec![1], bytes: vec![0; 8] };
        assert_eq!(ids.to_f32().unwrap_err().to_string(), "tensor `ids`: expected a float dtype, found `I64`");
        let short = RawTensor { name: "w".into(), dtype: Dtype::F32, shape: vec![2], bytes: vec![0; 7] };
        assert_eq!(short.to_f32().unwrap_err().to_string(), "tensor `w`: expected 8 bytes for shape [2], found 7");
    }

    #[test]
    fn what_a_dtype_cannot_hold_is_refused_by_name_and_index() {
        let refused = |values: &[f32], dtype| {
            let error = RawTensor::from_f32_as("w", vec![values.len()], values, dtype).unwrap_err();
            format!("{error}: {}", std::error::Error::source(&error).unwrap())
        };
        for dtype in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16] {
            assert_eq!(
                refused(&[1.0, f32::NAN], dtype),
                format!(
                    "tensor `w` cannot be stored as `{dtype}`: value 1 is NaN, and only finite numbers can be encoded"
                )
            );
        }
        assert!(refused(&[0.0, 0.0, 70_000.0], Dtype::F16).contains("values from 2 on are too large for `F16`"));
        assert!(refused(&[0.0, f32::MAX], Dtype::BF16).contains("values from 1 on are too large for `BF16`"));
    }
}
