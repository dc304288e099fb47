//! A GGUF file into another one with fewer bits, as llama.cpp's `llama-quantize` writes it: the same bytes.

use std::ops::Range;
use std::path::{Path, PathBuf};

use afina_quant::format::{Format, FormatError};
use afina_quant::mix::{Mix, Model};

use super::reader::{GgufError, GgufFile};
use super::store::{GgufReport, Planned, RowSource, Rows, plan, sort, write_mix};
use super::to_hf::{ToHfError, check_architecture};
use super::types::{GgmlType, Value};
use super::writer::{GgufWriteError, Metadata};
use crate::safetensors::AnyError;
use crate::same_file::is_same_file;

/// Why a GGUF file cannot be quantized; nothing is left at the target.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    #[error("failed to read the GGUF file")]
    Read(#[from] GgufError),
    #[error("failed to understand the GGUF file")]
    Model(#[from] ToHfError),
    #[error(
        "`{}` is quantized already: {tensors} tensors would be quantized again, the first is `{name}` in `{found}`",
        path.display()
    )]
    Requantize { path: PathBuf, name: String, found: GgmlType, tensors: usize },
    #[error("`{}` would be overwritten by what is made of it", path.display())]
    OverSource { path: PathBuf },
    #[error("failed to write the GGUF file")]
    Write(#[from] GgufWriteError),
}

/// Writes the tensors of a GGUF file to `to` in the formats of a mix.
///
/// All metadata are copied byte for byte but `general.quantization_version` and `general.file_type`, which are written anew
/// behind the others. A tensor that has its format already is copied. `requantize` allows to encode again what was
/// quantized: its first errors stay, and others are added. `measure` tells the error of each tensor.
pub fn quantize_gguf(
    gguf: &GgufFile,
    to: &Path,
    mix: Mix,
    requantize: bool,
    measure: bool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<GgufReport, QuantizeError> {
    if let Some(path) = gguf.paths().find(|path| is_same_file(path, to)) {
        return Err(QuantizeError::OverSource { path: path.into() });
    }
    let model = model(gguf)?;
    let mut tensors: Vec<Planned> =
        gguf.tensors().iter().map(|tensor| plan(mix, &model, &tensor.name, &tensor.shape, tensor.kind)).collect();
    sort(&mut tensors);
    if !requantize {
        refuse_requantizing(gguf, &tensors)?;
    }
    let metadata = metadata(gguf, mix)?;
    let mut source = Source { gguf, bytes: Vec::new(), values: Vec::new() };
    Ok(write_mix(to, &metadata, mix, &tensors, &mut source, measure, progress)?)
}

/// What a mix goes by.
fn model(gguf: &GgufFile) -> Result<Model, QuantizeError> {
    check_architecture(gguf)?;
    let number = |key: &str| Ok::<_, GgufError>(gguf.u64(key)?.map(|n| n as usize));
    let required = |key: &str| number(key).and_then(|n| n.ok_or_else(|| gguf.missing_key(key)));
    let heads = required("llama.attention.head_count")?;
    Ok(Model {
        layers: required("llama.block_count")?,
        heads,
        kv_heads: number("llama.attention.head_count_kv")?.unwrap_or(heads),
        has_output: gguf.tensor("output.weight").is_some(),
    })
}

fn refuse_requantizing(gguf: &GgufFile, tensors: &[Planned]) -> Result<(), QuantizeError> {
    let again: Vec<(&str, GgmlType)> = tensors
        .iter()
        .filter_map(|tensor| {
            let found = gguf.tensor(&tensor.entry.name)?.kind;
            let is_quantized = !matches!(found.format(), None | Some(Format::F32 | Format::F16 | Format::BF16));
            (is_quantized && found != tensor.entry.kind).then_some((tensor.entry.name.as_str(), found))
        })
        .collect();
    match again.first() {
        None => Ok(()),
        Some((name, found)) => Err(QuantizeError::Requantize {
            path: gguf.path().into(),
            name: (*name).to_owned(),
            found: *found,
            tensors: again.len(),
        }),
    }
}

/// The file's keys as they are, but for those that tell of the quantization and of parts.
fn metadata(gguf: &GgufFile, mix: Mix) -> Result<Metadata, QuantizeError> {
    let mut metadata = Metadata::default();
    for (index, (key, value)) in gguf.metadata().iter().enumerate() {
        if key == "general.quantization_version" || key == "general.file_type" || key.starts_with("split.") {
            continue;
        }
        if key == "general.alignment" {
            metadata.alignment = value.as_u64();
        }
        metadata.bytes.extend(gguf.raw_metadata(index)?);
        metadata.count += 1;
    }
    for (key, value) in quantization_keys(mix) {
        metadata.push(key, &value)?;
    }
    Ok(metadata)
}

/// The two keys that tell of a quantization, in llama.cpp's order.
pub(crate) fn quantization_keys(mix: Mix) -> [(&'static str, Value); 2] {
    [("general.quantization_version", Value::U32(2)), ("general.file_type", Value::U32(mix.file_type()))]
}

/// Rows of a file's tensors: as they lie there, where they have their format already.
struct Source<'a> {
    gguf: &'a GgufFile,
    bytes: Vec<u8>,
    values: Vec<f32>,
}

impl RowSource for Source<'_> {
    fn rows(&mut self, name: &str, kind: GgmlType, rows: Range<usize>) -> Result<Rows<'_>, AnyError> {
        let tensor = self.gguf.tensor(name).ok_or("an unknown name")?;
        let columns = *tensor.shape.last().expect("an open file's tensors have a shape");
        let row_bytes = tensor.kind.bytes(&[columns]).expect("an open file's tensors are whole blocks");
        self.bytes.resize(rows.len() * row_bytes as usize, 0);
        self.gguf.read_at(tensor, rows.start as u64 * row_bytes, &mut self.bytes)?;
        let Some(format) = tensor.kind.format() else { return Ok(Rows::Raw(&self.bytes)) };
        self.values.resize(rows.len() * columns, 0.0);
        format.decode(&self.bytes, columns, &mut self.values)?;
        if tensor.kind != kind {
            return Ok(Rows::Values(&self.values));
        }
        match self.values.iter().position(|value| !value.is_finite()) {
            None => Ok(Rows::Raw(&self.bytes)),
            Some(index) => {
                let value = self.values[index];
                Err(FormatError::NotFinite { index: rows.start * columns + index, value }.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Fallback;
    use super::super::writer::{Entry, write_entries, write_gguf};
    use super::*;
    use crate::testing::noise;

    fn keys(architecture: &str) -> Vec<(String, Value)> {
        [
            ("general.architecture", Value::String(architecture.into())),
            ("llama.block_count", Value::U32(1)),
            ("llama.attention.head_count", Value::U32(4)),
            ("general.file_type", Value::U32(0)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }

    /// A file of a few of a layer's tensors; `change` gets the values of `blk.0.ffn_down.weight`, of `[512, 768]`.
    fn file(path: &Path, change: impl Fn(&mut [f32])) -> GgufFile {
        let tensors = [
            ("token_embd.weight", vec![40, 512], Format::F32),
            ("blk.0.attn_norm.weight", vec![512], Format::F32),
            ("blk.0.attn_q.weight", vec![32, 96], Format::BF16),
            ("blk.0.attn_k.weight", vec![8, 100], Format::F32),
            ("blk.0.ffn_down.weight", vec![512, 768], Format::F32),
        ]
        .map(|(name, shape, format)| (name.to_owned(), shape, format));
        write_gguf(path, &keys("llama"), &tensors, &mut |name| {
            let (_, shape, _) = tensors.iter().find(|(other, ..)| other == name).unwrap();
            let mut values = noise(7, shape.iter().product());
            if name == "blk.0.ffn_down.weight" {
                change(&mut values);
            }
            Ok(values)
        })
        .unwrap();
        GgufFile::open(path).unwrap()
    }

    fn quantize(gguf: &GgufFile, to: &Path, mix: Mix, requantize: bool) -> Result<GgufReport, QuantizeError> {
        quantize_gguf(gguf, to, mix, requantize, true, &mut |_, _| ())
    }

    /// An error with its causes.
    fn chain(error: &dyn std::error::Error) -> String {
        error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", chain(source)))
    }

    #[test]
    fn every_tensor_has_the_bytes_of_its_format_and_its_error_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let gguf = file(&dir.path().join("a.gguf"), |_| ());
        let to = dir.path().join("b.gguf");
        for mix in Mix::ALL {
            let report = quantize(&gguf, &to, mix, false).unwrap();
            let out = GgufFile::open(&to).unwrap();
            assert_eq!(out.u64("general.file_type").unwrap(), Some(u64::from(mix.file_type())));
            assert_eq!(out.u64("general.quantization_version").unwrap(), Some(2));
            assert_eq!(report.bytes, out.tensors().iter().map(|tensor| tensor.bytes).sum::<u64>());
            assert_eq!(report.parameters, 40 * 512 + 512 + 32 * 96 + 8 * 100 + 512 * 768);
            for (tensor, told) in out.tensors().iter().zip(&report.tensors) {
                let name = &tensor.name;
                let format = tensor.kind.format().unwrap();
                let values = gguf.read_f32(name).unwrap();
                let columns = *tensor.shape.last().unwrap();
                let mut bytes = vec![0; tensor.bytes as usize];
                format.encode(&values, columns, &mut bytes).unwrap();
                assert!(out.read_raw(name).unwrap() == bytes, "{mix} {name}");
                let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>();
                let stored = out.read_f32(name).unwrap();
                let wrong = square(&mut values.iter().zip(&stored).map(|(a, b)| a - b));
                let expected = (wrong / square(&mut values.iter().copied())).sqrt();
                let error = told.relative_rmse.unwrap();
                assert!((error - expected).abs() <= 1e-6 * expected, "{mix} {name}: {error} {expected}");
                if format == Format::F32 || gguf.tensor(name).unwrap().kind == tensor.kind {
                    assert_eq!(error, 0.0, "{mix} {name}");
                }
                assert_eq!((&told.name, told.kind, told.bytes), (name, tensor.kind, tensor.bytes));
            }
        }
    }

    #[test]
    fn rows_that_are_no_whole_blocks_are_told_with_what_they_got() {
        let dir = tempfile::tempdir().unwrap();
        let gguf = file(&dir.path().join("a.gguf"), |_| ());
        let report = quantize(&gguf, &dir.path().join("b.gguf"), Mix::Q4_K_M, false).unwrap();
        let fallback =
            |columns, format: Format| Fallback { columns, wanted: Format::Q4_K, format: format.into(), tensors: 1 };
        assert_eq!(report.fallbacks(), [fallback(100, Format::F16), fallback(96, Format::Q5_0)]);
        assert!(quantize(&gguf, &dir.path().join("c.gguf"), Mix::F16, false).unwrap().fallbacks().is_empty());
    }

    #[test]
    fn other_metadata_and_the_alignment_are_copied_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a.gguf"), dir.path().join("b.gguf"));
        let mut metadata = Metadata { alignment: Some(128), ..Metadata::default() };
        let mut all = keys("llama");
        all.insert(1, ("general.quantization_version".into(), Value::U32(1)));
        all.push(("general.alignment".into(), Value::U32(128)));
        all.push(("a.nan".into(), Value::F32(f32::from_bits(0x7fc0_1234))));
        all.push(("split.count".into(), Value::U16(1)));
        all.push(("a.text".into(), Value::String("fin".into())));
        for (key, value) in &all {
            metadata.push(key, value).unwrap();
        }
        // An array of text without any: as a `Value`, it does not know of what it is one.
        let mut empty = 7_u64.to_le_bytes().to_vec();
        empty.extend(b"a.empty\x09\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0");
        metadata.bytes.extend(&empty);
        metadata.count += 1;
        let entries = ["blk.0.ffn_up.weight", "blk.0.ffn_gate.weight"].map(|name| Entry {
            name: name.into(),
            shape: vec![3, 32],
            kind: Format::F32.into(),
        });
        let values: Vec<u8> = noise(3, 96).into_iter().flat_map(f32::to_le_bytes).collect();
        write_entries(&from, &metadata, &entries, &mut |_, sink| sink.write(&values)).unwrap();
        let gguf = GgufFile::open(&from).unwrap();
        quantize(&gguf, &to, Mix::Q8_0, false).unwrap();

        let out = GgufFile::open(&to).unwrap();
        let raw = |file: &GgufFile| -> Vec<(String, Vec<u8>)> {
            let keys = file.metadata().iter().enumerate();
            keys.map(|(index, (key, _))| (key.clone(), file.raw_metadata(index).unwrap())).collect()
        };
        let mut expected = raw(&gguf);
        let ours = ["general.quantization_version", "general.file_type", "split.count"];
        expected.retain(|(key, _)| !ours.contains(&key.as_str()));
        let mut found = raw(&out);
        let last = found.split_off(found.len() - 2);
        assert_eq!(found, expected);
        assert_eq!(found.last().unwrap().1, empty);
        assert_eq!([&*last[0].0, &*last[1].0], ["general.quantization_version", "general.file_type"]);
        assert_eq!(out.u64("general.quantization_version").unwrap(), Some(2));
        // Two tensors of 102 bytes, each padded to 128; the second is ffn_up, which comes first in the source.
        assert_eq!(out.read_f32("blk.0.ffn_up.weight").unwrap(), out.read_f32("blk.0.ffn_gate.weight").unwrap());
        assert_eq!(std::fs::metadata(&to).unwrap().len() % 128, 0);
    }

    #[test]
    fn what_is_quantized_is_not_quantized_again_unless_that_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let gguf = file(&at("a.gguf"), |_| ());
        quantize(&gguf, &at("q8.gguf"), Mix::Q8_0, false).unwrap();
        let q8 = GgufFile::open(&at("q8.gguf")).unwrap();
        let error = quantize(&q8, &at("b.gguf"), Mix::Q4_K_M, false).unwrap_err().to_string();
        let told =
            "is quantized already: 3 tensors would be quantized again, the first is `token_embd.weight` in `Q8_0`";
        assert!(error.ends_with(told), "{error}");
        assert!(!at("b.gguf").exists());
        let report = quantize(&q8, &at("b.gguf"), Mix::Q4_K_M, true).unwrap();
        assert!(report.tensors.iter().any(|tensor| tensor.kind.format() == Some(Format::Q6_K)));
        // What has its format already is copied, and needs no leave.
        quantize(&q8, &at("same.gguf"), Mix::Q8_0, false).unwrap();
        assert!(std::fs::read(at("same.gguf")).unwrap() == std::fs::read(at("q8.gguf")).unwrap());
    }

    #[test]
    fn weight_that_is_not_finite_is_named_with_its_index_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a.gguf"), dir.path().join("b.gguf"));
        file(&from, |_| ());
        // The writer refuses it too, so it is put into the file afterwards: value 300,000 of the last tensor.
        let mut bytes = std::fs::read(&from).unwrap();
        let at = bytes.len() - 512 * 768 * 4 + 300_000 * 4;
        bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        crate::testing::overwrite(&from, &bytes);
        let gguf = GgufFile::open(&from).unwrap();
        for mix in Mix::ALL {
            let error = chain(&quantize(&gguf, &to, mix, false).unwrap_err());
            let named = error.contains("tensor `blk.0.ffn_down.weight`") && error.contains("value 300000 is NaN");
            assert!(named, "{mix}: {error}");
        }
        let large = file(&from, |values| values[300_000] = 1e12);
        let error = chain(&quantize(&large, &to, Mix::Q4_0, false).unwrap_err());
        assert!(error.contains("tensor `blk.0.ffn_down.weight`") && error.contains("too large for `Q4_0`"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "only the source");
    }

    #[test]
    fn source_and_other_models_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("a.gguf");
        let gguf = file(&from, |_| ());
        let before = std::fs::read(&from).unwrap();
        let again = dir.path().join("./a.gguf");
        assert!(matches!(quantize(&gguf, &again, Mix::Q8_0, false), Err(QuantizeError::OverSource { .. })));
        #[cfg(unix)]
        {
            let link = dir.path().join("link.gguf");
            std::os::unix::fs::symlink(&from, &link).unwrap();
            assert!(matches!(quantize(&gguf, &link, Mix::Q8_0, false), Err(QuantizeError::OverSource { .. })));
        }
        assert!(std::fs::read(&from).unwrap() == before);

        let other = |keys: Vec<(String, Value)>| {
            let path = dir.path().join("other.gguf");
            write_gguf(&path, &keys, &[], &mut |_| unreachable!()).unwrap();
            chain(&quantize(&GgufFile::open(&path).unwrap(), &dir.path().join("b.gguf"), Mix::Q8_0, false).unwrap_err())
        };
        assert!(other(keys("qwen2")).contains("holds architecture `qwen2`, which is not supported"));
        assert!(other(keys("llama")[..2].to_vec()).ends_with("has no `llama.attention.head_count`"));
    }
}
