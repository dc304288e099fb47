//! Reading a GGUF file: metadata, tensor list, tensors decoded to f32.
//!
//! Nothing in the file is trusted: every length is checked against what is left of it before anything is allocated, every
//! tensor's place against the file, so a truncated or damaged file is an error at opening and never a panic.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::types::{GgmlType, Value};
use crate::positioned::read_exact_at;

/// Arrays inside arrays deeper than this are taken for damage.
const MAX_DEPTH: usize = 4;
/// Longer arrays are taken for damage; the longest real ones are a vocabulary's merges, under a million.
const MAX_ARRAY: usize = 1 << 24;
/// ggml's own bound.
const MAX_DIMENSIONS: u32 = 4;

/// Why a GGUF file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    #[error("failed to read `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("`{}` is not a GGUF file: it begins with {found:?}", path.display())]
    NotGguf { path: PathBuf, found: String },
    #[error("`{}` has GGUF version {found}, expected 2 or 3", path.display())]
    Version { path: PathBuf, found: u32 },
    #[error("`{}` is truncated: expected at least {expected} bytes, found {found}", path.display())]
    Truncated { path: PathBuf, expected: u64, found: u64 },
    #[error("`{}` is damaged at byte {at}: {reason}", path.display())]
    Damaged { path: PathBuf, at: u64, reason: String },
    #[error("`{}`: tensor `{name}`: {reason}", path.display())]
    Tensor { path: PathBuf, name: String, reason: String },
    #[error("`{}`: tensor `{name}` has type `{found}`, which cannot be decoded", path.display())]
    UnsupportedType { path: PathBuf, name: String, found: GgmlType },
    #[error("`{}` has no tensor `{name}`", path.display())]
    MissingTensor { path: PathBuf, name: String },
    #[error("`{}` has no `{key}`", path.display())]
    MissingKey { path: PathBuf, key: String },
    #[error("`{}`: `{key}`: expected {expected}, found {found}", path.display())]
    Key { path: PathBuf, key: String, expected: &'static str, found: String },
}

/// A tensor as the file lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufTensor {
    pub name: String,
    /// Row-major: the file's dimensions, which count from the fastest, turned round.
    pub shape: Vec<usize>,
    pub kind: GgmlType,
    /// Of its data in the file.
    pub bytes: u64,
    offset: u64,
}

/// An open GGUF file whose header has been checked.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    file: File,
    version: u32,
    metadata: Vec<(String, Value)>,
    /// Where each key and its value lie in the file.
    metadata_at: Vec<Range<u64>>,
    keys: HashMap<String, usize>,
    tensors: Vec<GgufTensor>,
    names: HashMap<String, usize>,
}

impl GgufFile {
    /// Opens a file of version 2 or 3, little-endian, and checks that every tensor lies inside it.
    pub fn open(path: &Path) -> Result<GgufFile, GgufError> {
        let io_error = |source| GgufError::Io { path: path.into(), source };
        let file = File::open(path).map_err(io_error)?;
        let length = file.metadata().map_err(io_error)?.len();
        let mut header = Header { path, reader: BufReader::with_capacity(1 << 16, &file), at: 0, length };

        let magic: [u8; 4] = header.fixed()?;
        if magic != *b"GGUF" {
            let found = String::from_utf8_lossy(&magic).into_owned();
            return Err(GgufError::NotGguf { path: path.into(), found });
        }
        let version = u32::from_le_bytes(header.fixed()?);
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version { path: path.into(), found: version });
        }
        let tensor_count = header.count(24)?; // name's length, dimensions, type, offset
        let key_count = header.count(13)?; // key's length, type, a byte

        let mut metadata = Vec::with_capacity(key_count);
        let mut metadata_at = Vec::with_capacity(key_count);
        let mut keys = HashMap::with_capacity(key_count);
        for index in 0..key_count {
            let begin = header.at;
            let key = header.string()?;
            let kind = u32::from_le_bytes(header.fixed()?);
            let value = header.value(kind, 0)?;
            if keys.insert(key.clone(), index).is_some() {
                return Err(header.damaged(format!("key `{key}` is there twice")));
            }
            metadata.push((key, value));
            metadata_at.push(begin..header.at);
        }

        let mut tensors = Vec::with_capacity(tensor_count);
        let mut names = HashMap::with_capacity(tensor_count);
        for index in 0..tensor_count {
            let tensor = header.tensor()?;
            if names.insert(tensor.name.clone(), index).is_some() {
                return Err(header.damaged(format!("tensor `{}` is there twice", tensor.name)));
            }
            tensors.push(tensor);
        }

        let alignment = match keys.get("general.alignment").map(|index| &metadata[*index].1) {
            None => 32,
            Some(Value::U32(alignment)) if alignment.is_power_of_two() && *alignment <= 1 << 20 => {
                u64::from(*alignment)
            }
            Some(_) => return Err(header.damaged("`general.alignment` is not a power of two".into())),
        };
        let data_start = header.at.next_multiple_of(alignment);
        for tensor in &mut tensors {
            if !tensor.offset.is_multiple_of(alignment) {
                let reason = format!("offset {} is not a multiple of {alignment}", tensor.offset);
                return Err(GgufError::Tensor { path: path.into(), name: tensor.name.clone(), reason });
            }
            tensor.offset = tensor.offset.saturating_add(data_start);
            let end = tensor.offset.saturating_add(tensor.bytes);
            if end > length {
                return Err(GgufError::Truncated { path: path.into(), expected: end, found: length });
            }
        }
        Ok(GgufFile { path: path.into(), file, version, metadata, metadata_at, keys, tensors, names })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The format's version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All metadata, in the file's order.
    pub fn metadata(&self) -> &[(String, Value)] {
        &self.metadata
    }

    /// The bytes of the key and value of an index in `metadata`, as they lie in the file.
    pub(crate) fn raw_metadata(&self, index: usize) -> Result<Vec<u8>, GgufError> {
        let at = &self.metadata_at[index];
        let mut bytes = vec![0; (at.end - at.start) as usize];
        read_exact_at(&self.file, &mut bytes, at.start)
            .map_err(|source| GgufError::Io { path: self.path.clone(), source })?;
        Ok(bytes)
    }

    /// All tensors, in the file's order.
    pub fn tensors(&self) -> &[GgufTensor] {
        &self.tensors
    }

    pub fn tensor(&self, name: &str) -> Option<&GgufTensor> {
        self.names.get(name).map(|index| &self.tensors[*index])
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).map(|index| &self.metadata[*index].1)
    }

    /// An integer that is not negative; `None` if the key is not there.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.typed(key, "an integer that is not negative", Value::as_u64)
    }

    /// A float; `None` if the key is not there.
    pub fn f64(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.typed(key, "a float", Value::as_f64)
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub fn str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "text", Value::as_str)
    }

    pub fn array(&self, key: &str) -> Result<Option<&[Value]>, GgufError> {
        self.typed(key, "an array", Value::as_array)
    }

    fn typed<'a, T: 'a>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| GgufError::Key {
            path: self.path.clone(),
            key: key.into(),
            expected,
            found: value.kind().into(),
        })
    }

    pub(crate) fn missing_key(&self, key: &str) -> GgufError {
        GgufError::MissingKey { path: self.path.clone(), key: key.into() }
    }

    /// Reads one tensor's bytes as they lie in the file; any number of threads may read at once.
    pub fn read_raw(&self, name: &str) -> Result<Vec<u8>, GgufError> {
        let tensor = self.find(name)?;
        let mut bytes = vec![0; tensor.bytes as usize];
        self.read_at(tensor, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `bytes` with those of a tensor from byte `from` on.
    ///
    /// # Panics
    /// If the tensor has not as many.
    pub(crate) fn read_at(&self, tensor: &GgufTensor, from: u64, bytes: &mut [u8]) -> Result<(), GgufError> {
        // `open` has checked that the tensor lies inside the file.
        assert!(from + bytes.len() as u64 <= tensor.bytes, "only bytes of `{}` are read", tensor.name);
        read_exact_at(&self.file, bytes, tensor.offset + from)
            .map_err(|source| GgufError::Io { path: self.path.clone(), source })
    }

    /// Reads and decodes one tensor.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, GgufError> {
        let tensor = self.find(name)?;
        let format = tensor.kind.format().ok_or_else(|| GgufError::UnsupportedType {
            path: self.path.clone(),
            name: name.into(),
            found: tensor.kind,
        })?;
        let bytes = self.read_raw(name)?;
        let mut values = vec![0.0; tensor.shape.iter().product()];
        let columns = *tensor.shape.last().expect("`open` has checked that there is one");
        format.decode(&bytes, columns, &mut values).expect("`open` has checked shape and size");
        Ok(values)
    }

    fn find(&self, name: &str) -> Result<&GgufTensor, GgufError> {
        self.tensor(name).ok_or_else(|| GgufError::MissingTensor { path: self.path.clone(), name: name.into() })
    }
}

/// The header being read; knows where it is and how much the file has.
struct Header<'a> {
    path: &'a Path,
    reader: BufReader<&'a File>,
    at: u64,
    length: u64,
}

impl Header<'_> {
    fn damaged(&self, reason: String) -> GgufError {
        GgufError::Damaged { path: self.path.into(), at: self.at, reason }
    }

    fn left(&self) -> u64 {
        self.length - self.at
    }

    /// Fails unless the file has `bytes` more.
    fn need(&self, bytes: u64) -> Result<(), GgufError> {
        if bytes > self.left() {
            let expected = self.at.saturating_add(bytes);
            return Err(GgufError::Truncated { path: self.path.into(), expected, found: self.length });
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), GgufError> {
        self.need(buffer.len() as u64)?;
        self.reader.read_exact(buffer).map_err(|source| GgufError::Io { path: self.path.into(), source })?;
        self.at += buffer.len() as u64;
        Ok(())
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A count of things that take at least `least` bytes each, so that as many can be allocated.
    fn count(&mut self, least: u64) -> Result<usize, GgufError> {
        let count = u64::from_le_bytes(self.fixed()?);
        self.need(count.saturating_mul(least))?;
        Ok(count as usize)
    }

    fn string(&mut self) -> Result<String, GgufError> {
        let length = self.count(1)?;
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| self.damaged("text is not valid UTF-8".into()))
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, GgufError> {
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.fixed()?)),
            1 => Value::I8(i8::from_le_bytes(self.fixed()?)),
            2 => Value::U16(u16::from_le_bytes(self.fixed()?)),
            3 => Value::I16(i16::from_le_bytes(self.fixed()?)),
            4 => Value::U32(u32::from_le_bytes(self.fixed()?)),
            5 => Value::I32(i32::from_le_bytes(self.fixed()?)),
            6 => Value::F32(f32::from_le_bytes(self.fixed()?)),
            7 => match self.fixed()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(self.damaged(format!("a truth value of {other}"))),
            },
            8 => Value::String(self.string()?),
            9 => self.array(depth)?,
            10 => Value::U64(u64::from_le_bytes(self.fixed()?)),
            11 => Value::I64(i64::from_le_bytes(self.fixed()?)),
            12 => Value::F64(f64::from_le_bytes(self.fixed()?)),
            other => return Err(self.damaged(format!("a value of unknown type {other}"))),
        })
    }

    fn array(&mut self, depth: usize) -> Result<Value, GgufError> {
        if depth == MAX_DEPTH {
            return Err(self.damaged(format!("arrays nested more than {MAX_DEPTH} deep")));
        }
        let kind = u32::from_le_bytes(self.fixed()?);
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => 12,
            other => return Err(self.damaged(format!("an array of unknown type {other}"))),
        };
        let count = self.count(least)?;
        if count > MAX_ARRAY {
            return Err(self.damaged(format!("an array of {count} values")));
        }
        // A `Value` is wider than what it takes in the file, so this grows as the file is read instead.
        let mut values = Vec::with_capacity(count.min(1 << 16));
        for _ in 0..count {
            values.push(self.value(kind, depth + 1)?);
        }
        Ok(Value::Array(values))
    }

    fn tensor(&mut self) -> Result<GgufTensor, GgufError> {
        let name = self.string()?;
        let bad = |path: &Path, reason: String| GgufError::Tensor { path: path.into(), name: name.clone(), reason };
        let dimensions = u32::from_le_bytes(self.fixed()?);
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            return Err(bad(self.path, format!("it has {dimensions} dimensions, expected 1 to {MAX_DIMENSIONS}")));
        }
        let mut shape = Vec::with_capacity(dimensions as usize);
        for _ in 0..dimensions {
            let dim = u64::from_le_bytes(self.fixed()?);
            match usize::try_from(dim) {
                Ok(dim) if dim > 0 => shape.push(dim),
                _ => return Err(bad(self.path, format!("it has a dimension of {dim}"))),
            }
        }
        shape.reverse();
        let kind = GgmlType::from_id(u32::from_le_bytes(self.fixed()?));
        let offset = u64::from_le_bytes(self.fixed()?);
        if kind.block().is_none() {
            return Err(GgufError::UnsupportedType { path: self.path.into(), name, found: kind });
        }
        let bytes = kind
            .bytes(&shape)
            .ok_or_else(|| bad(self.path, format!("shape {shape:?} does not go with type `{kind}`")))?;
        Ok(GgufTensor { name, shape, kind, bytes, offset })
    }
}

#[cfg(test)]
mod tests {
    use afina_quant::format::Format;

    use super::super::writer::write_gguf;
    use super::*;
    use crate::atomic::write_file;
    use crate::testing::{noise, overwrite};

    fn small(path: &Path) {
        let metadata = [
            ("general.architecture".to_owned(), Value::String("llama".into())),
            ("a.number".to_owned(), Value::U32(7)),
            ("a.float".to_owned(), Value::F32(1e-5)),
            ("a.truth".to_owned(), Value::Bool(true)),
            ("some.words".to_owned(), Value::Array(vec![Value::String("á".into()), Value::String("".into())])),
            ("deep".to_owned(), Value::Array(vec![Value::Array(vec![Value::I64(-1)])])),
        ];
        let tensors = [
            ("a".to_owned(), vec![2, 32], Format::Q8_0),
            ("b".to_owned(), vec![3], Format::F32),
            ("c".to_owned(), vec![2, 2], Format::BF16),
        ];
        write_gguf(path, &metadata, &tensors, &mut |name| {
            Ok(match name {
                "a" => noise(1, 64),
                "b" => vec![1.0, 2.0, 3.0],
                _ => vec![0.5; 4],
            })
        })
        .unwrap();
    }

    #[test]
    fn written_file_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gguf");
        small(&path);
        let file = GgufFile::open(&path).unwrap();
        assert_eq!((file.version(), file.metadata().len(), file.tensors().len()), (3, 6, 3));
        assert_eq!(file.u64("a.number").unwrap(), Some(7));
        assert_eq!(file.f64("a.float").unwrap(), Some(1e-5));
        assert_eq!(file.array("deep").unwrap().unwrap(), [Value::Array(vec![Value::I64(-1)])]);
        assert_eq!(file.tensor("a").unwrap().shape, [2, 32]);
        assert_eq!(file.read_f32("b").unwrap(), [1.0, 2.0, 3.0]);
        for (found, expected) in file.read_f32("a").unwrap().iter().zip(noise(1, 64)) {
            assert!((found - expected).abs() < 1e-3);
        }
        assert_eq!(file.str("nothing").unwrap(), None);
        let error = file.bool("a.number").unwrap_err().to_string();
        assert!(error.ends_with("`a.number`: expected true or false, found an integer"), "{error}");
    }

    #[test]
    fn no_truncation_and_no_flipped_byte_panics() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gguf");
        small(&path);
        let whole = std::fs::read(&path).unwrap();
        let last = GgufFile::open(&path).unwrap().tensors().iter().map(|t| t.offset + t.bytes).max().unwrap();
        for length in 0..whole.len() {
            overwrite(&path, &whole[..length]);
            assert_eq!(GgufFile::open(&path).is_err(), (length as u64) < last, "truncated at {length}");
        }
        for position in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[position] ^= flip;
                overwrite(&path, &bytes);
                if let Ok(file) = GgufFile::open(&path) {
                    for tensor in file.tensors() {
                        let _ = file.read_f32(&tensor.name);
                    }
                }
            }
        }
    }

    #[test]
    fn foreign_files_and_versions_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gguf");
        let open = |bytes: &[u8]| {
            write_file(&path, bytes).unwrap();
            GgufFile::open(&path).unwrap_err().to_string()
        };
        assert!(open(b"PK\x03\x04....").contains("is not a GGUF file"));
        assert!(open(b"GGUF\x01\0\0\0").ends_with("has GGUF version 1, expected 2 or 3"));
        assert!(open(b"GG").ends_with("is truncated: expected at least 4 bytes, found 2"));
        let mut huge = b"GGUF\x03\0\0\0".to_vec();
        huge.extend(u64::MAX.to_le_bytes());
        huge.extend(u64::MAX.to_le_bytes());
        assert!(open(&huge).contains("is truncated"));
    }

    #[test]
    fn type_that_cannot_be_decoded_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gguf");
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.push(b'w');
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(256_u64.to_le_bytes());
        bytes.extend(10_u32.to_le_bytes()); // Q2_K
        bytes.extend(0_u64.to_le_bytes());
        bytes.resize(64 + 84, 0);
        write_file(&path, &bytes).unwrap();
        let file = GgufFile::open(&path).unwrap();
        let error = file.read_f32("w").unwrap_err().to_string();
        assert!(error.ends_with("tensor `w` has type `Q2_K`, which cannot be decoded"), "{error}");
    }
}
