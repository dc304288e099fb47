//! Writing a GGUF file (version 3) as a stream: one tensor in memory at a time.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use afina_quant::format::{Format, FormatError};

use super::types::{GgmlType, Value};
use crate::atomic::AtomicFile;
use crate::free_space::require;
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
    #[error("tensor `{name}` cannot be stored as `{format}`")]
    Encode { name: String, format: Format, source: FormatError },
    #[error("failed to make tensor `{name}`")]
    Tensor { name: String, source: AnyError },
    #[error("`{key}`: an array must hold values of one type")]
    MixedArray { key: String },
}

/// A tensor that a file will hold.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub name: String,
    /// Row-major.
    pub shape: Vec<usize>,
    pub kind: GgmlType,
}

/// Keys and values as they lie in a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metadata {
    pub count: u64,
    pub bytes: Vec<u8>,
    /// What tensors are aligned to: `general.alignment`, where it is one of the keys.
    pub alignment: Option<u64>,
}

impl Metadata {
    pub(crate) fn push(&mut self, key: &str, value: &Value) -> Result<(), GgufWriteError> {
        push_string(&mut self.bytes, key);
        self.bytes.extend(value.type_id().to_le_bytes());
        push_value(&mut self.bytes, key, value)?;
        self.count += 1;
        Ok(())
    }
}

/// Writes metadata and tensors (name, row-major shape, format), asking `next` for one tensor's values after the other.
///
/// The same input gives the same bytes. The file appears only when it is whole. A value that is not finite, or too large for
/// its format, is refused by its index.
pub fn write_gguf(
    path: &Path,
    metadata: &[(String, Value)],
    tensors: &[(String, Vec<usize>, Format)],
    next: &mut dyn FnMut(&str) -> Result<Vec<f32>, AnyError>,
) -> Result<(), GgufWriteError> {
    let mut keys = Metadata::default();
    for (key, value) in metadata {
        keys.push(key, value)?;
    }
    let entries: Vec<Entry> = tensors
        .iter()
        .map(|(name, shape, format)| Entry { name: name.clone(), shape: shape.clone(), kind: (*format).into() })
        .collect();
    let mut bytes = Vec::new();
    write_entries(path, &keys, &entries, &mut |index, file| {
        let (name, shape, format) = &tensors[index];
        let values = next(name).map_err(|source| GgufWriteError::Tensor { name: name.clone(), source })?;
        let expected = shape.iter().product();
        if values.len() != expected {
            return Err(GgufWriteError::Count { name: name.clone(), expected, found: values.len() });
        }
        encode(*format, &values, shape, &mut bytes).map_err(|source| GgufWriteError::Encode {
            name: name.clone(),
            format: *format,
            source,
        })?;
        file.write(&bytes)
    })
}

/// Encodes the values of a tensor, or of some of its rows, in place of what `bytes` holds.
pub(crate) fn encode(format: Format, values: &[f32], shape: &[usize], bytes: &mut Vec<u8>) -> Result<(), FormatError> {
    let columns = shape.last().copied().unwrap_or(0);
    let rows = values.len().checked_div(columns).unwrap_or(0);
    bytes.resize(rows * format.row_bytes(columns)?, 0);
    format.encode(values, columns, bytes)
}

/// Where a tensor's bytes go.
pub(crate) struct TensorSink<'a> {
    path: &'a Path,
    file: &'a mut AtomicFile,
    written: u64,
}

impl TensorSink<'_> {
    /// Appends bytes of the tensor.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), GgufWriteError> {
        self.written += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|source| GgufWriteError::Io { path: self.path.into(), source })
    }
}

/// Writes metadata and tensors; `data` writes the bytes of the tensor of the index it is given.
///
/// # Panics
/// If `data` writes more or fewer bytes than the tensor's type and shape take.
pub(crate) fn write_entries(
    path: &Path,
    metadata: &Metadata,
    tensors: &[Entry],
    data: &mut dyn FnMut(usize, &mut TensorSink<'_>) -> Result<(), GgufWriteError>,
) -> Result<(), GgufWriteError> {
    let alignment = metadata.alignment.unwrap_or(ALIGNMENT);
    let (header, bytes) = header(metadata, tensors, alignment)?;
    let io_error = |source| GgufWriteError::Io { path: path.into(), source };
    require(path, bytes).map_err(io_error)?;
    let mut file = AtomicFile::create(path).map_err(io_error)?;
    file.write_all(&header).map_err(io_error)?;
    for (index, tensor) in tensors.iter().enumerate() {
        let mut sink = TensorSink { path, file: &mut file, written: 0 };
        data(index, &mut sink)?;
        let written = sink.written;
        assert_eq!(Some(written), tensor.kind.bytes(&tensor.shape), "`{}` is written whole", tensor.name);
        let padding = written.next_multiple_of(alignment) - written;
        file.write_all(&vec![0; padding as usize]).map_err(io_error)?;
    }
    file.commit().map_err(io_error)
}

/// What stands before the tensors, and how long the file will be.
fn header(metadata: &Metadata, tensors: &[Entry], alignment: u64) -> Result<(Vec<u8>, u64), GgufWriteError> {
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(metadata.count.to_le_bytes());
    out.extend_from_slice(&metadata.bytes);
    let mut offset = 0_u64;
    for Entry { name, shape, kind } in tensors {
        let bad = || GgufWriteError::Shape { name: name.clone(), shape: shape.clone(), kind: *kind };
        let bytes = kind.bytes(shape).ok_or_else(bad)?;
        if shape.len() > 4 || name.len() >= MAX_NAME {
            return Err(bad());
        }
        push_string(&mut out, name);
        out.extend((shape.len() as u32).to_le_bytes());
        for dim in shape.iter().rev() {
            out.extend((*dim as u64).to_le_bytes());
        }
        out.extend(kind.id().to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += bytes.next_multiple_of(alignment);
    }
    out.resize((out.len() as u64).next_multiple_of(alignment) as usize, 0);
    let bytes = out.len() as u64 + offset;
    Ok((out, bytes))
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
            write(vec![2, 33], Format::Q8_0, vec![0.0; 66]),
            "tensor `w`: shape [2, 33] cannot be stored as `Q8_0`"
        );
        assert_eq!(write(vec![2], Format::F32, vec![0.0]), "tensor `w`: expected 2 values, found 1");
        let mixed = ("k".to_owned(), Value::Array(vec![Value::U8(1), Value::Bool(true)]));
        assert!(write_gguf(&path, &[mixed], &[], &mut |_| Ok(vec![])).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn value_that_no_format_holds_is_refused_by_tensor_and_index() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gguf");
        for format in Format::ALL {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut values = vec![0.5; 3 * 256];
                values[300] = bad;
                let tensors = [("blk.0.ffn_up.weight".to_owned(), vec![3, 256], format)];
                let error = write_gguf(&path, &[], &tensors, &mut |_| Ok(values.clone())).unwrap_err();
                assert_eq!(error.to_string(), format!("tensor `blk.0.ffn_up.weight` cannot be stored as `{format}`"));
                let cause = std::error::Error::source(&error).unwrap().to_string();
                assert!(cause.starts_with(&format!("value 300 is {bad}")), "{cause}");
            }
        }
        let tensors = [("w".to_owned(), vec![2, 32], Format::Q4_0)];
        let error = write_gguf(&path, &[], &tensors, &mut |_| Ok(vec![1e7; 64])).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.starts_with("values from 0 on are too large for `Q4_0`"), "{cause}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn every_format_survives_the_way_through_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gguf");
        let tensors: Vec<_> =
            Format::ALL.iter().map(|format| (format.name().to_owned(), vec![3, 512], *format)).collect();
        let values = crate::testing::noise(5, 3 * 512);
        write_gguf(&path, &[], &tensors, &mut |_| Ok(values.clone())).unwrap();
        let file = crate::gguf::GgufFile::open(&path).unwrap();
        for (tensor, format) in file.tensors().iter().zip(Format::ALL) {
            assert_eq!((tensor.kind.format(), tensor.shape.as_slice()), (Some(format), &[3, 512][..]));
            let mut bytes = vec![0; tensor.bytes as usize];
            format.encode(&values, 512, &mut bytes).unwrap();
            assert_eq!(file.read_raw(&tensor.name).unwrap(), bytes, "{format}");
            let mut decoded = vec![0.0; values.len()];
            format.decode(&bytes, 512, &mut decoded).unwrap();
            assert_eq!(file.read_f32(&tensor.name).unwrap(), decoded, "{format}");
        }
    }
}
