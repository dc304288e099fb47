//! Tensors into a GGUF file in the formats of a mix, a piece at a time, and what became of each.

use std::cmp::Ordering;
use std::ops::Range;
use std::path::Path;

use afina_quant::format::Format;
use afina_quant::mix::{Mix, Model};
use rayon::prelude::*;
use serde::{Serialize, Serializer};

use super::types::GgmlType;
use super::writer::{Entry, GgufWriteError, Metadata, encode, write_entries};
use crate::merge::MergeReport;
use crate::names::gguf_name;
use crate::safetensors::AnyError;

/// Values that are encoded at once: 16 MiB in F32. Only a tensor's source may hold more of it. Few in tests, so that a small
/// tensor has many pieces.
const PIECE: usize = if cfg!(test) { 1 << 10 } else { 4 << 20 };

/// What a GGUF file in the formats of a mix holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GgufReport {
    /// The mix, as llama.cpp spells it.
    #[serde(rename = "type", serialize_with = "as_text")]
    pub mix: Mix,
    /// Of all tensors, without metadata and padding.
    pub bytes: u64,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// In the order of the file.
    pub tensors: Vec<StoredTensor>,
}

/// What became of a tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoredTensor {
    /// GGUF's.
    pub name: String,
    pub shape: Vec<usize>,
    #[serde(rename = "format", serialize_with = "as_text")]
    pub kind: GgmlType,
    /// What the mix has for it, where its rows are no whole blocks of that.
    #[serde(rename = "in_place_of", serialize_with = "as_text_or_null")]
    pub wanted: Option<Format>,
    pub bytes: u64,
    /// √(Σ(stored − given)² / Σ given²), if it was measured and the tensor has numbers that can be read.
    pub relative_rmse: Option<f64>,
}

/// Tensors that have rows of one length and got another format than the mix has for them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fallback {
    pub columns: usize,
    #[serde(serialize_with = "as_text")]
    pub wanted: Format,
    #[serde(serialize_with = "as_text")]
    pub format: GgmlType,
    pub tensors: usize,
}

impl GgufReport {
    /// Bits that a number takes, over all tensors.
    pub fn bits_per_weight(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.parameters.max(1) as f64
    }

    /// The tensors whose rows are no whole blocks of their format, counted by length and formats, in the order of the file.
    pub fn fallbacks(&self) -> Vec<Fallback> {
        let mut fallbacks: Vec<Fallback> = Vec::new();
        for tensor in &self.tensors {
            let (Some(wanted), Some(&columns)) = (tensor.wanted, tensor.shape.last()) else { continue };
            let same =
                |seen: &&mut Fallback| (seen.columns, seen.wanted, seen.format) == (columns, wanted, tensor.kind);
            match fallbacks.iter_mut().find(same) {
                Some(seen) => seen.tensors += 1,
                None => fallbacks.push(Fallback { columns, wanted, format: tensor.kind, tensors: 1 }),
            }
        }
        fallbacks
    }

    /// How many of the tensors that an adapter changed the format changes more, and of how many: ‖rounding‖ above ‖ΔW‖. Only
    /// what was measured counts.
    pub fn drowned(&self, merge: &MergeReport) -> (usize, usize) {
        let mut counts = (0, 0);
        for layer in &merge.layers {
            let Some(name) = gguf_name(&layer.name) else { continue };
            let stored = self.tensors.iter().find(|tensor| tensor.name == name);
            let Some(error) = stored.and_then(|tensor| tensor.relative_rmse) else { continue };
            counts.0 += usize::from(error > layer.relative_change);
            counts.1 += 1;
        }
        counts
    }
}

/// Rows of a tensor.
pub(crate) enum Rows<'a> {
    /// To be encoded.
    Values(&'a [f32]),
    /// As they are to lie in the file.
    Raw(&'a [u8]),
}

/// Where the rows of tensors come from.
pub(crate) trait RowSource {
    /// Some rows of a tensor; those of one come in their order, a tensor after the other. `kind` is what they become.
    fn rows(&mut self, name: &str, kind: GgmlType, rows: Range<usize>) -> Result<Rows<'_>, AnyError>;
}

/// A tensor that will be written.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub entry: Entry,
    pub wanted: Option<Format>,
}

/// What a tensor of type `kind` becomes.
pub(crate) fn plan(mix: Mix, model: &Model, name: &str, shape: &[usize], kind: GgmlType) -> Planned {
    let readable = kind.format().is_some();
    let format = mix.format_of(model, name, shape).filter(|_| readable);
    let wanted = mix.wished_of(model, name, shape).filter(|wanted| format.is_some_and(|format| format != *wanted));
    let kind = format.map_or(kind, GgmlType::from);
    Planned { entry: Entry { name: name.to_owned(), shape: shape.to_vec(), kind }, wanted }
}

/// Sorts tensors as llama.cpp writes them: what is outside the layers, then layer by layer, by name.
pub(crate) fn sort(tensors: &mut [Planned]) {
    tensors.sort_by(|a, b| by_layer(&a.entry.name, &b.entry.name));
}

/// Source: llama.cpp's `weight_name_comparer`.
fn by_layer(a: &str, b: &str) -> Ordering {
    let layer = |name: &str| name.strip_prefix("blk.")?.split('.').next()?.parse::<u32>().ok();
    layer(a).cmp(&layer(b)).then_with(|| a.cmp(b))
}

/// Writes the file; `measure` decodes what was encoded, to tell the error. `progress` is told how many tensors of how many
/// are done.
pub(crate) fn write_mix(
    path: &Path,
    metadata: &Metadata,
    mix: Mix,
    tensors: &[Planned],
    source: &mut dyn RowSource,
    measure: bool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<GgufReport, GgufWriteError> {
    let entries: Vec<Entry> = tensors.iter().map(|tensor| tensor.entry.clone()).collect();
    let mut report = GgufReport { mix, bytes: 0, parameters: 0, tensors: Vec::with_capacity(tensors.len()) };
    let (mut bytes, mut decoded) = (Vec::new(), Vec::new());
    write_entries(path, metadata, &entries, &mut |index, sink| {
        let Planned { entry: Entry { name, shape, kind }, wanted } = &tensors[index];
        let columns = *shape.last().expect("`write_entries` has looked at the shape");
        let all = shape[..shape.len() - 1].iter().product::<usize>();
        let (mut error, mut written) = (Squares::default(), 0);
        let step = (PIECE / columns.max(1)).max(1);
        for first in (0..all).step_by(step) {
            let piece = first..all.min(first + step);
            let rows = source.rows(name, *kind, piece);
            match rows.map_err(|source| GgufWriteError::Tensor { name: name.clone(), source })? {
                Rows::Raw(raw) => {
                    written += raw.len() as u64;
                    sink.write(raw)?;
                }
                Rows::Values(values) => {
                    let format = kind.format().expect("a source gives values of what can be encoded");
                    encode(format, values, shape, &mut bytes).map_err(|source| GgufWriteError::Encode {
                        name: name.clone(),
                        format,
                        source: source.behind(first * columns),
                    })?;
                    if measure {
                        decoded.resize(values.len(), 0.0);
                        format.decode(&bytes, columns, &mut decoded).expect("what was encoded is decoded");
                        error.add(values, &decoded);
                    }
                    written += bytes.len() as u64;
                    sink.write(&bytes)?;
                }
            }
        }
        report.bytes += written;
        report.parameters += shape.iter().product::<usize>() as u64;
        report.tensors.push(StoredTensor {
            name: name.clone(),
            shape: shape.clone(),
            kind: *kind,
            wanted: *wanted,
            bytes: written,
            relative_rmse: (measure && kind.format().is_some()).then(|| error.relative()),
        });
        progress(index + 1, tensors.len());
        Ok(())
    })?;
    Ok(report)
}

/// Sums of squares: of the values, and of what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Squares {
    values: f64,
    errors: f64,
}

impl Squares {
    pub(crate) fn add(&mut self, values: &[f32], stored: &[f32]) {
        const CHUNK: usize = 1 << 14;
        // Collected before they are added up, so that the sum does not depend on threads.
        let sums: Vec<(f64, f64)> = values
            .par_chunks(CHUNK)
            .zip(stored.par_chunks(CHUNK))
            .map(|(values, stored)| {
                values.iter().zip(stored).fold((0.0, 0.0), |(squares, errors), (value, stored)| {
                    let (value, error) = (f64::from(*value), f64::from(*stored) - f64::from(*value));
                    (squares + value * value, errors + error * error)
                })
            })
            .collect();
        for (squares, errors) in sums {
            self.values += squares;
            self.errors += errors;
        }
    }

    /// √(Σ error² / Σ value²).
    pub(crate) fn relative(&self) -> f64 {
        if self.errors == 0.0 { 0.0 } else { (self.errors / self.values).sqrt() }
    }
}

fn as_text<S: Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_text_or_null<S: Serializer>(value: &Option<Format>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(Format::name).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_come_as_llama_cpp_writes_them() {
        let mut names = [
            "blk.10.attn_k.weight",
            "token_embd.weight",
            "blk.2.ffn_up.weight",
            "blk.2.attn_q.weight",
            "output_norm.weight",
            "rope_freqs.weight",
            "output.weight",
        ];
        names.sort_by(|a, b| by_layer(a, b));
        assert_eq!(
            names,
            [
                "output.weight",
                "output_norm.weight",
                "rope_freqs.weight",
                "token_embd.weight",
                "blk.2.attn_q.weight",
                "blk.2.ffn_up.weight",
                "blk.10.attn_k.weight",
            ]
        );
    }

    #[test]
    fn error_of_a_tensor_is_relative_to_its_size() {
        let mut squares = Squares::default();
        squares.add(&[3.0, 4.0], &[3.0, 4.5]);
        assert!((squares.relative() - 0.1).abs() < 1e-12);
        assert_eq!(Squares::default().relative(), 0.0, "a tensor of zeros has no error");
    }
}
