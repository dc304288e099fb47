//! The header of a GGUF file, read piece by piece: every length is checked against what is left of the file first.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::reader::{GgufError, GgufTensor};
use super::types::{GgmlType, Value};

/// Arrays inside arrays deeper than this are taken for damage.
const MAX_DEPTH: usize = 4;
/// Longer arrays are taken for damage; the longest real ones are a vocabulary's merges, under a million.
const MAX_ARRAY: usize = 1 << 24;
/// ggml's own bound.
const MAX_DIMENSIONS: u32 = 4;

/// The header being read; knows where it is and how much the file has.
pub(super) struct Header<'a> {
    pub path: &'a Path,
    pub reader: BufReader<&'a File>,
    pub at: u64,
    pub length: u64,
}

impl Header<'_> {
    pub(super) fn damaged(&self, reason: String) -> GgufError {
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

    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A count of things that take at least `least` bytes each, so that as many can be allocated.
    pub(super) fn count(&mut self, least: u64) -> Result<usize, GgufError> {
        let count = u64::from_le_bytes(self.fixed()?);
        self.need(count.saturating_mul(least))?;
        Ok(count as usize)
    }

    pub(super) fn string(&mut self) -> Result<String, GgufError> {
        let length = self.count(1)?;
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| self.damaged("text is not valid UTF-8".into()))
    }

    pub(super) fn value(&mut self, kind: u32, depth: usize) -> Result<Value, GgufError> {
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

    pub(super) fn tensor(&mut self) -> Result<GgufTensor, GgufError> {
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
        Ok(GgufTensor { name, shape, kind, bytes, part: 0, offset })
    }
}
