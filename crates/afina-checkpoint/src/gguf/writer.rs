//! Writing a GGUF file (version 3) as a stream: one tensor in memory at a time.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::types::{GgmlType, Value};
use crate::atomic::AtomicFile;
use crate::safetensors::AnyError;

/// What tensors are aligned to; the format's default, so it needs no key.
const ALIGNMENT: u64 = 32;
/// ggml's bound on a tensor's name, with its closing zero.
const MAX_NAME: usize = 64;

/// Why a GGUF file cannot be written; nothing is left at its path.
#[derive(Debug, thiserror::Error)]
pub enum GgufWriteError {
    #[error("failed to write `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("tensor `{name}`: shape {shape:?} cannot be stored as `{kind}`")]
    Shape { name: String, shape: Vec<usize>, kind: GgmlType },
    #[error("tensor `{name}`: expected {expected} values, found {found}")]
    Count { name: String, expected: usize, found: usize },
    #[error("tensor `{name}` holds a value that is not finite")]
    NotFinite { name: String },
    #[error("failed to make tensor `{name}`")]
    Tensor { name: String, source: AnyError },
    #[error("`{key}`: an array must hold values of one type")]
    MixedArray { key: String },
}

/// Writes metadata and tensors (name, row-major shape, type), asking `next` for one tensor's values after the other.
///
/// The same input gives the same bytes. The file appears only when it is whole. Values must be finite: a block format
/// cannot hold anything else.
pub fn write_gguf(
    path: &Path,
    metadata: &[(String, Value)],
    tensors: &[(String, Vec<usize>, GgmlType)],
    next: &mut dyn FnMut(&str) -> Result<Vec<f32>, AnyError>,
) -> Result<(), GgufWriteError> {
    let header = header(metadata, tensors)?;
    let io_error = |source| GgufWriteError::Io { path: path.into(), source };
    let mut file = AtomicFile::create(path).map_err(io_error)?;
    file.write_all(&header).map_err(io_error)?;
    for (name, shape, kind) in tensors {
        let values = next(name).map_err(|source| GgufWriteError::Tensor { name: name.clone(), source })?;
        let expected = shape.iter().product();
        if values.len() != expected {
            return Err(GgufWriteError::Count { name: name.clone(), expected, found: values.len() });
        }
        if !values.iter().all(|value| value.is_finite()) {
            return Err(GgufWriteError::NotFinite { name: name.clone() });
        }
        let mut bytes = encode(*kind, &values);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
        file.write_all(&bytes).map_err(io_error)?;
    }
    file.commit().map_err(io_error)
}

fn header(metadata: &[(String, Value)], tensors: &[(String, Vec<usize>, GgmlType)]) -> Result<Vec<u8>, GgufWriteError> {
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        push_string(&mut out, key);
        out.extend(value.type_id().to_le_bytes());
        push_value(&mut out, key, value)?;
    }
    let mut offset = 0_u64;
    for (name, shape, kind) in tensors {
        let bad = || GgufWriteError::Shape { name: name.clone(), shape: shape.clone(), kind: *kind };
        let bytes = kind.bytes(shape).ok_or_else(bad)?;
        if shape.len() > 4 || name.len() >= MAX_NAME || matches!(kind, GgmlType::Other(_)) {
            return Err(bad());
        }
        push_string(&mut out, name);
        out.extend((shape.len() as u32).to_le_bytes());
        for dim in shape.iter().rev() {
            out.extend((*dim as u64).to_le_bytes());
        }
        out.extend(kind.id().to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += bytes.next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
    Ok(out)
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn push_value(out: &mut Vec<u8>, key: &str, value: &Value) -> Result<(), GgufWriteError> {
    match value {
        Value::U8(x) => out.push(*x),
        Value::I8(x) => out.extend(x.to_le_bytes()),
        Value::U16(x) => out.extend(x.to_le_bytes()),
        Value::I16(x) => out.extend(x.to_le_bytes()),
        Value::U32(x) => out.extend(x.to_le_bytes()),
        Value::I32(x) => out.extend(x.to_le_bytes()),
        Value::F32(x) => out.extend(x.to_le_bytes()),
        Value::Bool(x) => out.push(u8::from(*x)),
        Value::String(x) => push_string(out, x),
        Value::U64(x) => out.extend(x.to_le_bytes()),
        Value::I64(x) => out.extend(x.to_le_bytes()),
        Value::F64(x) => out.extend(x.to_le_bytes()),
        Value::Array(values) => {
            let kind = values.first().map_or(Value::U8(0).type_id(), Value::type_id);
            if values.iter().any(|value| value.type_id() != kind) {
                return Err(GgufWriteError::MixedArray { key: key.into() });
            }
            out.extend(kind.to_le_bytes());
            out.extend((values.len() as u64).to_le_bytes());
            for value in values {
                push_value(out, key, value)?;
            }
        }
    }
    Ok(())
}

/// `header` has checked that the values are whole blocks of a type that can be written.
fn encode(kind: GgmlType, values: &[f32]) -> Vec<u8> {
    let (block, block_bytes) = kind.block().expect("a type that can be written");
    let mut bytes = vec![0; values.len() / block as usize * block_bytes as usize];
    match kind {
        GgmlType::F32 => {
            for (value, out) in values.iter().zip(bytes.chunks_exact_mut(4)) {
                out.copy_from_slice(&value.to_le_bytes());
            }
        }
        GgmlType::F16 => afina_quant::f16::encode(values, &mut bytes),
        GgmlType::BF16 => afina_quant::bf16::encode(values, &mut bytes),
        GgmlType::Q4_0 => afina_quant::q4_0::encode(values, &mut bytes),
        GgmlType::Q4_1 => afina_quant::q4_1::encode(values, &mut bytes),
        GgmlType::Q8_0 => afina_quant::q8_0::encode(values, &mut bytes),
        GgmlType::Other(_) => unreachable!("`header` refuses it"),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_stored_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gguf");
        let write = |shape: Vec<usize>, kind, values: Vec<f32>| {
            write_gguf(&path, &[], &[("w".to_owned(), shape, kind)], &mut |_| Ok(values.clone()))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            write(vec![2, 33], GgmlType::Q8_0, vec![0.0; 66]),
            "tensor `w`: shape [2, 33] cannot be stored as `Q8_0`"
        );
        assert_eq!(write(vec![2], GgmlType::F32, vec![0.0]), "tensor `w`: expected 2 values, found 1");
        assert_eq!(write(vec![1], GgmlType::F32, vec![f32::NAN]), "tensor `w` holds a value that is not finite");
        let mixed = ("k".to_owned(), Value::Array(vec![Value::U8(1), Value::Bool(true)]));
        assert!(write_gguf(&path, &[mixed], &[], &mut |_| Ok(vec![])).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
