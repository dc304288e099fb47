//! A tensor as it lies in a file: name, dtype, shape and little-endian bytes, row-major.

use std::fmt;

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
}

impl RawTensor {
    /// A tensor of `values` in F32.
    ///
    /// # Panics
    /// If `shape` does not hold as many values.
    pub fn from_f32(name: impl Into<String>, shape: Vec<usize>, values: &[f32]) -> RawTensor {
        RawTensor::from_f32_as(name, shape, values, Dtype::F32)
    }

    /// A tensor of `values`, rounded to `dtype`.
    ///
    /// # Panics
    /// If `shape` does not hold as many values, or `dtype` is not a float dtype.
    pub fn from_f32_as(name: impl Into<String>, shape: Vec<usize>, values: &[f32], dtype: Dtype) -> RawTensor {
        assert_eq!(elements(&shape), Some(values.len()), "shape {shape:?} holds all values");
        let mut bytes = vec![0; values.len() * dtype.size()];
        match dtype {
            Dtype::F64 => copy(values, &mut bytes, |value| f64::from(value).to_le_bytes()),
            Dtype::F32 => copy(values, &mut bytes, f32::to_le_bytes),
            Dtype::F16 => afina_quant::f16::encode(values, &mut bytes),
            Dtype::BF16 => afina_quant::bf16::encode(values, &mut bytes),
            _ => panic!("`{dtype}` is not a float dtype"),
        }
        RawTensor { name: name.into(), dtype, shape, bytes }
    }

    /// The values in F32 (F64 is rounded, the others are widened).
    pub fn to_f32(&self) -> Result<Vec<f32>, TensorError> {
        let count = elements(&self.shape).unwrap_or(usize::MAX);
        let expected = count.saturating_mul(self.dtype.size());
        if expected != self.bytes.len() {
            let (name, shape) = (self.name.clone(), self.shape.clone());
            return Err(TensorError::Length { name, shape, expected, found: self.bytes.len() });
        }
        match self.dtype {
            Dtype::F64 => Ok(self
                .bytes
                .chunks_exact(8)
                .map(|b| f64::from_le_bytes(b.try_into().expect("chunks of 8")) as f32)
                .collect()),
            Dtype::F32 => Ok(f32_values(&self.bytes)),
            Dtype::F16 | Dtype::BF16 => {
                let mut values = vec![0.0; count];
                match self.dtype {
                    Dtype::F16 => afina_quant::f16::decode(&self.bytes, &mut values),
                    _ => afina_quant::bf16::decode(&self.bytes, &mut values),
                }
                Ok(values)
            }
            dtype => Err(TensorError::NotFloat { name: self.name.clone(), dtype }),
        }
    }

    /// The header entry of this tensor.
    pub fn info(&self) -> TensorInfo {
        TensorInfo { name: self.name.clone(), dtype: self.dtype, shape: self.shape.clone() }
    }
}

/// Little-endian F32 bytes as values; a ragged end is left out.
pub(crate) fn f32_values(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("chunks of 4"))).collect()
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
            let tensor = RawTensor::from_f32_as("x", vec![2, 2], &values, dtype);
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
}
