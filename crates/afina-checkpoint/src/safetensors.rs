//! safetensors files: read one tensor at a time, written as a stream.
//!
//! A header is never trusted: its length is checked against the file before it is read, and every tensor's place against
//! its shape, its dtype and the file before a byte is allocated.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ::safetensors::tensor::Metadata;
use serde_json::{Map, Value, json};

use crate::atomic::AtomicFile;
use crate::free_space::require;
use crate::positioned::read_exact_at;
use crate::tensor::{Dtype, RawTensor, TensorInfo};

/// The longest header that is read, in bytes; the same bound as the format's own library.
const MAX_HEADER: u64 = 100_000_000;

/// Why a safetensors file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("failed to read `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("`{}` is truncated: expected {expected} bytes, found {found}", path.display())]
    Truncated { path: PathBuf, expected: u64, found: u64 },
    #[error("`{}` is not a safetensors file: {reason}", path.display())]
    Header { path: PathBuf, reason: String },
    #[error("`{}`: tensor `{name}` has dtype `{dtype}`, which is not supported", path.display())]
    Dtype { path: PathBuf, name: String, dtype: String },
    #[error("`{}` has no tensor `{name}`", path.display())]
    Missing { path: PathBuf, name: String },
}

/// An open safetensors file whose header has been checked.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    file: File,
    data_start: u64,
    names: Vec<String>,
    tensors: HashMap<String, (TensorInfo, u64)>,
    metadata: BTreeMap<String, String>,
}

impl SafetensorsFile {
    /// Opens a file and checks its header: places are contiguous, fit shapes and dtypes, and fill the file exactly.
    pub fn open(path: &Path) -> Result<SafetensorsFile, ReadError> {
        let io_error = |source| ReadError::Io { path: path.into(), source };
        let header_error = |reason: String| ReadError::Header { path: path.into(), reason };

        let file = File::open(path).map_err(io_error)?;
        let file_length = file.metadata().map_err(io_error)?.len();
        let truncated = |expected| ReadError::Truncated { path: path.into(), expected, found: file_length };
        if file_length < 8 {
            return Err(truncated(8));
        }
        let mut length = [0; 8];
        read_exact_at(&file, &mut length, 0).map_err(io_error)?;
        let header_length = u64::from_le_bytes(length);
        if header_length > MAX_HEADER {
            return Err(header_error(format!("its header would have {header_length} bytes")));
        }
        let data_start = 8 + header_length;
        if data_start > file_length {
            return Err(truncated(data_start));
        }
        let mut header = vec![0; header_length as usize];
        read_exact_at(&file, &mut header, 8).map_err(io_error)?;
        let parsed: Metadata = serde_json::from_slice(&header).map_err(|error| header_error(error.to_string()))?;
        let expected = data_start.saturating_add(parsed.data_len() as u64);
        if expected > file_length {
            return Err(truncated(expected));
        }
        if expected < file_length {
            return Err(header_error(format!("{} bytes follow the last tensor", file_length - expected)));
        }

        let names = parsed.offset_keys();
        let mut tensors = HashMap::with_capacity(names.len());
        for name in &names {
            let info = parsed.info(name).expect("`offset_keys` gives names that are there");
            let dtype = Dtype::from_name(&info.dtype.to_string()).ok_or_else(|| ReadError::Dtype {
                path: path.into(),
                name: name.clone(),
                dtype: info.dtype.to_string(),
            })?;
            let entry = TensorInfo { name: name.clone(), dtype, shape: info.shape.clone() };
            tensors.insert(name.clone(), (entry, info.data_offsets.0 as u64));
        }
        let metadata = parsed.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(SafetensorsFile { path: path.into(), file, data_start, names, tensors, metadata })
    }

    /// Tensor names in the order in which they lie in the file.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The header's entry of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(info, _)| info)
    }

    /// The header's `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Reads one tensor; any number of threads may read at once.
    pub fn read(&self, name: &str) -> Result<RawTensor, ReadError> {
        let info = self.info(name).ok_or_else(|| self.missing(name))?;
        // `open` has checked that shape × size does not overflow and lies inside the file.
        let mut bytes = vec![0; info.bytes() as usize];
        self.read_at(name, 0, &mut bytes)?;
        Ok(RawTensor { name: name.into(), dtype: info.dtype, shape: info.shape.clone(), bytes })
    }

    /// Fills `bytes` with a part of a tensor, from its byte `start` on.
    ///
    /// # Panics
    /// If the tensor ends before.
    pub fn read_at(&self, name: &str, start: usize, bytes: &mut [u8]) -> Result<(), ReadError> {
        let (info, offset) = self.tensors.get(name).ok_or_else(|| self.missing(name))?;
        assert!((start + bytes.len()) as u64 <= info.bytes(), "a part of `{name}` is read");
        read_exact_at(&self.file, bytes, self.data_start + offset + start as u64)
            .map_err(|source| ReadError::Io { path: self.path.clone(), source })
    }

    fn missing(&self, name: &str) -> ReadError {
        ReadError::Missing { path: self.path.clone(), name: name.into() }
    }
}

/// What the caller of a streaming writer may fail with.
pub type AnyError = Box<dyn Error + Send + Sync>;

/// Why a safetensors file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("failed to write `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("failed to make tensor `{name}` of `{}`", path.display())]
    Tensor { path: PathBuf, name: String, source: AnyError },
    #[error("tensor `{name}`: expected `{expected}`, found `{found}`")]
    Mismatch { name: String, expected: String, found: String },
    #[error("tensor `{name}` is listed twice")]
    Twice { name: String },
}

/// Writes tensors that are in memory anyway.
pub fn write_tensors(path: &Path, tensors: &[RawTensor]) -> Result<(), WriteError> {
    let infos: Vec<TensorInfo> = tensors.iter().map(RawTensor::info).collect();
    write_safetensors(path, &infos, &BTreeMap::new(), &mut |name| {
        let tensor = tensors.iter().find(|tensor| tensor.name == name);
        Ok(tensor.expect("only the names given are asked for").clone())
    })
}

/// Writes `infos` as a stream, asking `next` for one tensor after the other, by name; at most one is held.
///
/// Tensors with wider elements come first, so that each is aligned to its element, otherwise in the given order.
/// The same input gives the same bytes. The file appears only when it is whole.
pub fn write_safetensors(
    path: &Path,
    infos: &[TensorInfo],
    metadata: &BTreeMap<String, String>,
    next: &mut dyn FnMut(&str) -> Result<RawTensor, AnyError>,
) -> Result<(), WriteError> {
    let io_error = |source| WriteError::Io { path: path.into(), source };
    let mut order: Vec<&TensorInfo> = infos.iter().collect();
    order.sort_by_key(|info| std::cmp::Reverse(info.dtype.size()));

    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    let mut offset = 0_usize;
    for info in &order {
        let end = info
            .elements()
            .and_then(|count| count.checked_mul(info.dtype.size())?.checked_add(offset))
            .ok_or_else(|| mismatch(&info.name, "a shape that fits in memory", &info.shape))?;
        let entry = json!({"dtype": info.dtype.as_str(), "shape": info.shape, "data_offsets": [offset, end]});
        if header.insert(info.name.clone(), entry).is_some() {
            return Err(WriteError::Twice { name: info.name.clone() });
        }
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    require(path, (8 + header.len() + offset) as u64).map_err(io_error)?;
    let mut file = AtomicFile::create(path).map_err(io_error)?;
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(io_error)?;
    file.write_all(&header).map_err(io_error)?;
    for info in order {
        let tensor = next(&info.name).map_err(|source| WriteError::Tensor {
            path: path.into(),
            name: info.name.clone(),
            source,
        })?;
        if tensor.dtype != info.dtype || tensor.shape != info.shape {
            let found = format!("{} {:?}", tensor.dtype, tensor.shape);
            return Err(mismatch(&info.name, format!("{} {:?}", info.dtype, info.shape), found));
        }
        let expected = info.shape.iter().product::<usize>() * info.dtype.size();
        if tensor.bytes.len() != expected {
            return Err(mismatch(&info.name, format!("{expected} bytes"), format!("{} bytes", tensor.bytes.len())));
        }
        file.write_all(&tensor.bytes).map_err(io_error)?;
    }
    file.commit().map_err(io_error)
}

fn mismatch(name: &str, expected: impl Into<String>, found: impl std::fmt::Debug) -> WriteError {
    let found = format!("{found:?}").trim_matches('"').to_owned();
    WriteError::Mismatch { name: name.into(), expected: expected.into(), found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic::write_file;
    use crate::testing::overwrite;

    fn two_tensors(path: &Path) {
        let a = RawTensor::from_f32_as("a", vec![3], &[1.0, 2.0, 3.0], Dtype::F16).unwrap();
        let b = RawTensor::from_f32("b", vec![2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        write_safetensors(path, &[a.info(), b.info()], &metadata, &mut |name| {
            Ok(if name == "a" { a.clone() } else { b.clone() })
        })
        .unwrap();
    }

    #[test]
    fn written_file_reads_back_and_the_format_library_agrees() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        two_tensors(&path);
        let file = SafetensorsFile::open(&path).unwrap();
        assert_eq!(file.names(), ["b", "a"]); // wider elements first
        assert_eq!(file.metadata()["format"], "pt");
        assert_eq!(file.read("a").unwrap().to_f32().unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(file.info("b").unwrap().shape, [2, 2]);

        let bytes = std::fs::read(&path).unwrap();
        let theirs = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.tensor("b").unwrap().data(), file.read("b").unwrap().bytes);
        assert_eq!(file.read("c").unwrap_err().to_string(), format!("`{}` has no tensor `c`", path.display()));
    }

    #[test]
    fn no_truncation_and_no_flipped_byte_panics() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        two_tensors(&path);
        let whole = std::fs::read(&path).unwrap();
        let header_end = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        for length in 0..whole.len() {
            overwrite(&path, &whole[..length]);
            assert!(SafetensorsFile::open(&path).is_err(), "truncated at {length}");
        }
        for position in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[position] ^= flip;
                overwrite(&path, &bytes);
                match SafetensorsFile::open(&path) {
                    Ok(file) => {
                        for name in file.names() {
                            let _ = file.read(name).unwrap().to_f32();
                        }
                    }
                    Err(_) => assert!(position < header_end, "data at {position} is not looked at"),
                }
            }
        }
    }

    #[test]
    fn absurd_lengths_are_refused_before_anything_is_allocated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let mut bytes = u64::MAX.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        write_file(&path, &bytes).unwrap();
        let error = SafetensorsFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("its header would have 18446744073709551615 bytes"), "{error}");

        let shape = format!("[{0},{0}]", u64::MAX);
        for header in [
            format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,4]}}}}"#),
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}}"#.to_owned(),
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#.to_owned(),
            r#"{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}"#.to_owned(),
        ] {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.extend([0; 4]);
            write_file(&path, &bytes).unwrap();
            assert!(SafetensorsFile::open(&path).is_err(), "{header}");
        }
    }

    #[test]
    fn failing_source_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let info = RawTensor::from_f32("a", vec![1], &[1.0]).info();
        let error = write_safetensors(&path, std::slice::from_ref(&info), &BTreeMap::new(), &mut |_| Err("no".into()))
            .unwrap_err();
        assert!(error.to_string().starts_with("failed to make tensor `a`"));
        let wrong = write_safetensors(&path, &[info], &BTreeMap::new(), &mut |_| {
            Ok(RawTensor::from_f32("a", vec![2], &[1.0, 2.0]))
        });
        assert_eq!(wrong.unwrap_err().to_string(), "tensor `a`: expected `F32 [1]`, found `F32 [2]`");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
