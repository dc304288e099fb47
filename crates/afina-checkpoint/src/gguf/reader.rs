//! Reading a GGUF file: metadata, tensor list, tensors decoded to f32.
//!
//! Nothing in the file is trusted: every length is checked against what is left of it before anything is allocated, every
//! tensor's place against the file, so a truncated or damaged file is an error at opening and never a panic.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::header::Header;
use super::split::all_parts;
use super::types::{GgmlType, Value};
use crate::hash::{sha256_file, sha256_hex};
use crate::positioned::read_exact_at;

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
    #[error("`{}` is one of {count} parts of a model, and `{}` is not there", path.display(), part.display())]
    MissingPart { path: PathBuf, part: PathBuf, count: u64 },
    #[error("`{}` is no usable part of a model: {reason}", path.display())]
    Part { path: PathBuf, reason: String },
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
    /// Which of the model's files it lies in.
    pub(super) part: usize,
    pub(super) offset: u64,
}

/// An open GGUF file whose header has been checked; or all files of a model that llama.cpp's `gguf-split` has cut.
#[derive(Debug)]
pub struct GgufFile {
    /// One, or the parts of the model in order.
    files: Vec<(PathBuf, File)>,
    version: u32,
    /// Of the first file.
    metadata: Vec<(String, Value)>,
    /// Where each key and its value lie in the first file.
    metadata_at: Vec<Range<u64>>,
    keys: HashMap<String, usize>,
    tensors: Vec<GgufTensor>,
    names: HashMap<String, usize>,
}

/// One file, whether it is a whole model or a part.
pub(super) struct OneFile {
    pub path: PathBuf,
    file: File,
    version: u32,
    pub metadata: Vec<(String, Value)>,
    metadata_at: Vec<Range<u64>>,
    keys: HashMap<String, usize>,
    pub tensors: Vec<GgufTensor>,
}

impl OneFile {
    pub(super) fn open(path: &Path) -> Result<OneFile, GgufError> {
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
        Ok(OneFile { path: path.into(), file, version, metadata, metadata_at, keys, tensors })
    }
}

impl GgufFile {
    /// Opens a file of version 2 or 3, little-endian, and checks that every tensor lies inside it. Of a model in several
    /// files, any opens them all.
    pub fn open(path: &Path) -> Result<GgufFile, GgufError> {
        let mut parts = all_parts(OneFile::open(path)?)?;
        let first = &mut parts[0];
        let (metadata, metadata_at) = (std::mem::take(&mut first.metadata), std::mem::take(&mut first.metadata_at));
        let (version, keys) = (first.version, std::mem::take(&mut first.keys));
        let (mut files, mut tensors) = (Vec::with_capacity(parts.len()), Vec::new());
        for (part, one) in parts.into_iter().enumerate() {
            files.push((one.path, one.file));
            tensors.extend(one.tensors.into_iter().map(|tensor| GgufTensor { part, ..tensor }));
        }
        let names = tensors.iter().enumerate().map(|(index, tensor)| (tensor.name.clone(), index)).collect();
        Ok(GgufFile { files, version, metadata, metadata_at, keys, tensors, names })
    }

    /// The file, or the first of several.
    pub fn path(&self) -> &Path {
        &self.files[0].0
    }

    /// The file, or all parts in their order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// SHA-256 of the file; of parts, the SHA-256 of the lines `<sha256>  <name>` that `sha256sum` would print.
    pub fn sha256(&self) -> io::Result<String> {
        let [_] = &self.files[..] else {
            let mut lines = String::new();
            for path in self.paths() {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                lines.push_str(&format!("{}  {name}\n", sha256_file(path)?));
            }
            return Ok(sha256_hex(lines.as_bytes()));
        };
        sha256_file(self.path())
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
        read_exact_at(&self.files[0].1, &mut bytes, at.start)
            .map_err(|source| GgufError::Io { path: self.path().into(), source })?;
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
            path: self.path().into(),
            key: key.into(),
            expected,
            found: value.kind().into(),
        })
    }

    pub(crate) fn missing_key(&self, key: &str) -> GgufError {
        GgufError::MissingKey { path: self.path().into(), key: key.into() }
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
        let (path, file) = &self.files[tensor.part];
        read_exact_at(file, bytes, tensor.offset + from).map_err(|source| GgufError::Io { path: path.clone(), source })
    }

    /// Reads and decodes one tensor.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, GgufError> {
        let tensor = self.find(name)?;
        let format = tensor.kind.format().ok_or_else(|| GgufError::UnsupportedType {
            path: self.path().into(),
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
        self.tensor(name).ok_or_else(|| GgufError::MissingTensor { path: self.path().into(), name: name.into() })
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
