//! What other programs load: a Hugging Face folder, PEFT's two files, a GGUF file.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use afina_quant::format::Format;
use afina_quant::mix::{Mix, Model};

use crate::adapter::{ADAPTER_WEIGHTS, AdapterConfig, AdapterError, CHAT_TEMPLATE, read_adapter, write_adapter};
use crate::atomic::{AtomicDir, write_file};
use crate::card::{BASE_CARD, CARD, Card, CardKind, file_name, repo_of, run_of, write_card};
use crate::config::RopeScaling;
use crate::free_space::require;
use crate::gguf::{
    GgmlType, GgufReport, GgufWriteError, Metadata, Planned, ROPE_FREQS, RowSource, Rows, Value, VocabularyError,
    permute, plan, quantization_keys, sort, vocabulary_from_hf, write_mix,
};
use crate::hash::sha256_file;
use crate::manifest::{Manifest, Origin};
use crate::model_dir::{ModelDir, ModelDirError, QUANTIZATION_FILES, read_json};
use crate::names::gguf_name;
use crate::quantized::QUANTIZATION_CONFIG;
use crate::safetensors::{AnyError, WriteError};
use crate::shards::{is_cut, write_weights};

/// Why an export failed; nothing is left at its target.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("failed to read the model")]
    Model(#[from] ModelDirError),
    #[error("failed to export the adapter")]
    Adapter(#[from] AdapterError),
    #[error("failed to carry the tokenizer over")]
    Vocabulary(#[from] VocabularyError),
    #[error("failed to write the weights")]
    Weights(#[from] WriteError),
    #[error("failed to write the GGUF file")]
    Gguf(#[from] GgufWriteError),
    #[error("failed to write `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Copies the model folder to `to`, its weights in files of at most `shard_size` bytes (quantized ones in the files that they
/// are in), with a manifest that says where it came from. A folder with anything in it is not overwritten.
pub fn export_hf(model: &ModelDir, to: &Path, shard_size: u64) -> Result<(), ExportError> {
    let io_error = |source| ExportError::Io { path: to.into(), source };
    let folder = AtomicDir::create_new(to).map_err(io_error)?;
    let weights_sha256 = model.weights_sha256()?;
    copy_companions(model, folder.path())?;
    write_or_copy_weights(model, folder.path(), shard_size)?;
    let license = model.origin().ok().flatten().and_then(|manifest| manifest.license);
    let card = Card {
        name: &file_name(to),
        license: license.as_deref(),
        base: Some(&model.path),
        repo: repo_of(&model.path),
        kind: CardKind::Copied,
        made_of: vec![(format!("model `{}`", file_name(&model.path)), weights_sha256.clone())],
    };
    write_card(folder.path(), &card).map_err(io_error)?;
    let origin = Origin::Export { model: model.path.display().to_string(), weights_sha256 };
    Manifest::write(folder.path(), file_name(to), license, origin).map_err(io_error)?;
    folder.commit().map_err(io_error)
}

/// Files that are cut as they would be written keep their bytes, and so the hash that adapters know their base by.
fn write_or_copy_weights(model: &ModelDir, to: &Path, shard_size: u64) -> Result<(), ExportError> {
    // Quantized weights are copied as they are: their config goes along.
    if model.quantization().is_none() && !is_cut(model, shard_size) {
        return Ok(write_weights(to, &model.infos(), shard_size, &mut |name| Ok(model.tensor(name)?))?);
    }
    let files = model.weight_files_with_index();
    let mut bytes = 0;
    for path in files.iter().map(|name| model.path.join(name)) {
        bytes += fs::metadata(&path).map_err(|source| ExportError::Io { path, source })?.len();
    }
    require(to, bytes).map_err(|source| ExportError::Io { path: to.into(), source })?;
    for name in files {
        copy(&model.path, to, name)?;
    }
    Ok(())
}

/// Reads the adapter, which checks it, and writes PEFT's two files to `to`, with its chat template where it has one.
pub fn export_peft(adapter_dir: &Path, to: &Path) -> Result<(), ExportError> {
    let io_error = |source| ExportError::Io { path: to.into(), source };
    let (config, adapters) = read_adapter(adapter_dir)?;
    let folder = AtomicDir::create_new(to).map_err(io_error)?;
    write_adapter(folder.path(), &config, &adapters)?;
    if adapter_dir.join(CHAT_TEMPLATE).is_file() {
        copy(adapter_dir, folder.path(), CHAT_TEMPLATE)?;
    }
    write_card(folder.path(), &adapter_card(adapter_dir, &config, &file_name(to)).map_err(io_error)?)
        .map_err(io_error)?;
    folder.commit().map_err(io_error)
}

fn adapter_card<'a>(adapter: &'a Path, config: &'a AdapterConfig, name: &'a str) -> io::Result<Card<'a>> {
    let base = config.base_model_name_or_path.as_deref().map(Path::new);
    let mut made_of = Vec::new();
    if let (Some(base), Some(trained)) = (base, &config.afina) {
        made_of.push((format!("base `{}`", file_name(base)), trained.base_sha256.clone()));
    }
    made_of.push((format!("adapter `{}`", file_name(adapter)), sha256_file(&adapter.join(ADAPTER_WEIGHTS))?));
    made_of.extend(run_of(adapter));
    // What other tools write there is a repo of the hub, unless it is a folder.
    let named = |base: &&Path| !base.exists() && base.is_relative() && base.components().count() == 2;
    let repo = base.and_then(|base| repo_of(base).or_else(|| Some(base).filter(named)?.to_str().map(str::to_owned)));
    Ok(Card { name, license: None, base, repo, kind: CardKind::Adapter, made_of })
}

/// Writes the model as one GGUF file with its whole tokenizer, its chat template and every end-of-turn token: the file that
/// llama.cpp would make of the same model in F32.
///
/// Matrices have the formats of the mix, everything else is F32. `measure` tells the error of each tensor. `progress` is told
/// how many tensors of how many are done.
pub fn export_gguf(
    model: &ModelDir,
    to: &Path,
    mix: Mix,
    measure: bool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<GgufReport, ExportError> {
    let config = &model.config;
    let mut keys = general_metadata(model, to);
    keys.extend(vocabulary_from_hf(&model.path, config.vocab_size, &model.eos_token_ids())?.to_metadata());
    keys.extend(quantization_keys(mix).map(|(key, value)| (key.to_owned(), value)));
    let mut metadata = Metadata::default();
    for (key, value) in &keys {
        metadata.push(key, value)?;
    }

    let shape_of_mix = Model {
        layers: config.num_hidden_layers,
        heads: config.num_attention_heads,
        kv_heads: config.num_key_value_heads,
        has_output: !config.tie_word_embeddings,
    };
    let mut hf_names = HashMap::new();
    let mut tensors: Vec<Planned> = Vec::new();
    for name in model.tensor_names() {
        let shape = &model.info(name).expect("`ModelDir::open` has checked every tensor").shape;
        let in_file = gguf_name(name).expect("every tensor of a Llama model is in the table");
        tensors.push(plan(mix, &shape_of_mix, &in_file, shape, Format::F32.into()));
        hf_names.insert(in_file, name.clone());
    }
    let mut scaling = Vec::new();
    if let Some(rope_scaling @ RopeScaling::Llama3 { .. }) = &config.rope_scaling {
        scaling = rope_scaling.factors(config.head_dim, config.rope_theta);
        tensors.push(plan(mix, &shape_of_mix, ROPE_FREQS, &[config.head_dim / 2], Format::F32.into()));
    }
    sort(&mut tensors);
    let mut source =
        Source { model, hf_names, scaling, bytes: Vec::new(), values: Vec::new(), decoded: Default::default() };
    Ok(write_mix(to, &metadata, mix, &tensors, &mut source, measure, progress)?)
}

/// Rows of a folder's tensors, in GGUF's order, read as they are asked for.
struct Source<'a> {
    model: &'a ModelDir,
    /// Hugging Face's names by GGUF's.
    hf_names: HashMap<String, String>,
    /// What `rope_freqs.weight` holds.
    scaling: Vec<f32>,
    bytes: Vec<u8>,
    values: Vec<f32>,
    /// Hugging Face's name and the values of a tensor that is stored quantized, and so is decoded whole.
    decoded: (String, Vec<f32>),
}

impl RowSource for Source<'_> {
    fn rows(&mut self, name: &str, _: GgmlType, rows: Range<usize>) -> Result<Rows<'_>, AnyError> {
        if name == ROPE_FREQS {
            return Ok(Rows::Values(&self.scaling));
        }
        let hf_name = self.hf_names.get(name).ok_or("an unknown name")?.clone();
        if !name.ends_with("attn_q.weight") && !name.ends_with("attn_k.weight") {
            self.read(&hf_name, rows)?;
            return Ok(Rows::Values(&self.values));
        }
        // Rows change places inside their head: whole heads are read.
        let head_dim = self.model.config.head_dim;
        let heads = rows.start / head_dim..rows.end.div_ceil(head_dim);
        self.read(&hf_name, heads.start * head_dim..heads.end * head_dim)?;
        self.values = permute(&self.values, heads.len(), head_dim);
        let columns = self.values.len() / (heads.len() * head_dim);
        let skipped = rows.start - heads.start * head_dim;
        Ok(Rows::Values(&self.values[skipped * columns..(skipped + rows.len()) * columns]))
    }
}

impl Source<'_> {
    /// Reads rows into `values`.
    fn read(&mut self, hf_name: &str, rows: Range<usize>) -> Result<(), AnyError> {
        if !self.model.is_quantized(hf_name) {
            return Ok(self.model.rows(hf_name, rows, &mut self.bytes, &mut self.values)?);
        }
        if self.decoded.0 != hf_name {
            self.decoded.1 = Vec::new(); // before the next tensor is read
            self.decoded = (hf_name.to_owned(), self.model.tensor(hf_name)?.to_f32()?);
        }
        let info = self.model.info(hf_name).ok_or("an unknown name")?;
        let columns = info.shape.last().copied().unwrap_or(0);
        self.values.clear();
        self.values.extend_from_slice(&self.decoded.1[rows.start * columns..rows.end * columns]);
        Ok(())
    }
}

fn general_metadata(model: &ModelDir, to: &Path) -> Vec<(String, Value)> {
    let config = &model.config;
    let text = |text: &str| Value::String(text.into());
    let number = |n: usize| Value::U32(n as u32);
    let manifest = model.origin().ok().flatten();
    let name = match &manifest {
        Some(manifest) => manifest.name.clone(),
        None => to.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let mut metadata = vec![
        ("general.architecture".to_owned(), text("llama")),
        ("general.type".to_owned(), text("model")),
        ("general.name".to_owned(), text(&name)),
    ];
    let mut push = |key: &str, value: Value| metadata.push((key.to_owned(), value));
    if let Some(license) = manifest.and_then(|manifest| manifest.license) {
        push("general.license", text(&license));
    }
    push("llama.block_count", number(config.num_hidden_layers));
    push("llama.context_length", number(config.max_position_embeddings));
    push("llama.embedding_length", number(config.hidden_size));
    push("llama.feed_forward_length", number(config.intermediate_size));
    push("llama.attention.head_count", number(config.num_attention_heads));
    push("llama.attention.head_count_kv", number(config.num_key_value_heads));
    push("llama.attention.key_length", number(config.head_dim));
    push("llama.attention.value_length", number(config.head_dim));
    push("llama.attention.layer_norm_rms_epsilon", Value::F32(config.rms_norm_eps as f32));
    push("llama.rope.dimension_count", number(config.head_dim));
    push("llama.rope.freq_base", Value::F32(config.rope_theta as f32));
    if let Some(RopeScaling::Linear { factor }) = config.rope_scaling {
        push("llama.rope.scaling.type", text("linear"));
        push("llama.rope.scaling.factor", Value::F32(factor as f32));
    }
    push("llama.vocab_size", number(config.vocab_size));
    metadata
}

/// Copies every file of the model folder but weights and manifest; its card gives its place to one of the new weights.
pub(crate) fn copy_companions(model: &ModelDir, to: &Path) -> Result<(), ModelDirError> {
    copy_those(model, to, &|_| true)
}

/// As [`copy_companions`], for a folder whose weights are plain whatever the model's are: config.json without
/// `quantization_config`, and no other file that would tell of a quantization.
pub fn copy_plain_companions(model: &ModelDir, to: &Path) -> Result<(), ModelDirError> {
    copy_those(model, to, &|name| !QUANTIZATION_FILES.contains(&name))?;
    let path = to.join("config.json");
    let mut config = read_json(&path)?;
    if config.as_object_mut().and_then(|config| config.remove(QUANTIZATION_CONFIG)).is_some() {
        write_file(&path, format!("{config:#}\n").as_bytes()).map_err(|source| ModelDirError::Io { path, source })?;
    }
    Ok(())
}

fn copy_those(model: &ModelDir, to: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<(), ModelDirError> {
    let names = model.companion_files()?;
    for name in names.iter().filter(|name| wanted(name)) {
        match name.as_str() {
            CARD if names.iter().any(|name| name == BASE_CARD) => {} // of a copy of the base: ours
            CARD => copy_as(&model.path, to, CARD, BASE_CARD)?,
            name => copy(&model.path, to, name)?,
        }
    }
    Ok(())
}

/// Copies one file and sees it to the disk.
pub(crate) fn copy(from: &Path, to: &Path, name: &str) -> Result<(), ModelDirError> {
    copy_as(from, to, name, name)
}

fn copy_as(from: &Path, to: &Path, name: &str, new_name: &str) -> Result<(), ModelDirError> {
    let target = to.join(new_name);
    let copied = fs::copy(from.join(name), &target).and_then(|_| File::open(&target)?.sync_all());
    copied.map_err(|source| ModelDirError::Copy { path: from.join(name), source })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::SHARD_SIZE;
    use crate::gguf::{GgufFile, TokenType, Vocabulary, gguf_to_hf, quantize_gguf};
    use crate::testing::{tiny_adapter, tiny_model, tiny_tokenizer};

    fn change_config(folder: &Path, change: serde_json::Value) {
        let path = folder.join("config.json");
        let mut config: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config.extend(change.as_object().unwrap().clone());
        write_file(&path, &serde_json::to_vec(&config).unwrap()).unwrap();
    }

    #[test]
    fn model_survives_the_way_to_gguf_and_back() {
        for tied in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let (folder, file, back) = (dir.path().join("a"), dir.path().join("a.gguf"), dir.path().join("b"));
            tiny_model(&folder, tied);
            tiny_tokenizer(&folder, 320);
            change_config(
                &folder,
                json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}),
            );
            let model = ModelDir::open(&folder).unwrap();
            let mut calls = 0;
            export_gguf(&model, &file, Mix::F32, false, &mut |_, _| calls += 1).unwrap();
            assert_eq!(calls, model.tensor_names().len() + 1);
            let gguf = GgufFile::open(&file).unwrap();
            gguf_to_hf(&gguf, &back, &mut |_, _| ()).unwrap();
            let again = ModelDir::open(&back).unwrap();
            assert_eq!(again.config, model.config);
            for name in model.tensor_names() {
                assert_eq!(again.tensor(name).unwrap(), model.tensor(name).unwrap(), "{name}");
            }
            let vocabulary = Vocabulary::from_gguf(&gguf).unwrap();
            assert_eq!(vocabulary.chat_template.as_deref(), Some("{{ messages }}"));
            assert_eq!(vocabulary.types[300], TokenType::Unused);
            assert_eq!(gguf.f64("llama.rope.freq_base").unwrap(), Some(10_000.0));
        }
    }

    #[test]
    fn quantized_export_keeps_norms_and_ragged_rows() {
        let dir = tempfile::tempdir().unwrap();
        tiny_model(dir.path(), true);
        tiny_tokenizer(dir.path(), 320);
        let model = ModelDir::open(dir.path()).unwrap();
        let file = dir.path().join("a.gguf");
        export_gguf(&model, &file, Mix::Q8_0, false, &mut |_, _| ()).unwrap();
        let gguf = GgufFile::open(&file).unwrap();
        assert_eq!(gguf.tensor("blk.0.attn_q.weight").unwrap().kind.format(), Some(Format::Q8_0));
        assert_eq!(gguf.tensor("blk.0.attn_norm.weight").unwrap().kind.format(), Some(Format::F32));
        let found = gguf.read_f32("blk.1.ffn_down.weight").unwrap();
        let expected = model.tensor("model.layers.1.mlp.down_proj.weight").unwrap().to_f32().unwrap();
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst > 0.0 && worst < 0.1 / 127.0, "{worst}"); // half a step of a block up to 0.1, and a bit for f16
    }

    #[test]
    fn every_type_of_a_folder_is_the_file_that_its_f32_file_becomes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).join("model.gguf"); // a model without a name gets the file's
        for tied in [true, false] {
            let folder = dir.path().join(format!("tied {tied}"));
            tiny_model(&folder, tied);
            tiny_tokenizer(&folder, 320);
            let model = ModelDir::open(&folder).unwrap();
            export_gguf(&model, &at("f32"), Mix::F32, false, &mut |_, _| ()).unwrap();
            let f32_file = GgufFile::open(&at("f32")).unwrap();
            for mix in Mix::ALL {
                let direct = export_gguf(&model, &at("direct"), mix, true, &mut |_, _| ()).unwrap();
                let through = quantize_gguf(&f32_file, &at("through"), mix, false, true, &mut |_, _| ()).unwrap();
                assert_eq!(direct, through);
                assert!(fs::read(at("direct")).unwrap() == fs::read(at("through")).unwrap(), "{mix}, tied {tied}");
            }
        }
    }

    #[test]
    fn weight_that_is_not_finite_is_named_by_gguf_name_and_index() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, file) = (dir.path().join("a"), dir.path().join("a.gguf"));
        tiny_model(&folder, true);
        tiny_tokenizer(&folder, 320);
        let weights = folder.join("model.safetensors");
        let mut bytes = fs::read(&weights).unwrap();
        let last = bytes.len() - 4;
        bytes[last..].copy_from_slice(&f32::INFINITY.to_le_bytes());
        crate::testing::overwrite(&weights, &bytes);
        let model = ModelDir::open(&folder).unwrap();
        let ExportError::Gguf(error) = export_gguf(&model, &file, Mix::Q4_0, false, &mut |_, _| ()).unwrap_err() else {
            panic!("the file could not be written");
        };
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.to_string().contains("cannot be stored as"), "{error}");
        assert!(cause.contains("is inf, and only finite numbers can be encoded"), "{cause}");
        assert!(!file.exists());
    }

    #[test]
    fn model_without_a_tokenizer_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        tiny_model(dir.path(), true);
        let model = ModelDir::open(dir.path()).unwrap();
        let file = dir.path().join("a.gguf");
        assert!(matches!(export_gguf(&model, &file, Mix::F32, false, &mut |_, _| ()), Err(ExportError::Vocabulary(_))));
        assert!(!file.exists());
    }

    #[test]
    fn folder_and_adapter_are_copied_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, out) = (dir.path().join("a"), dir.path().join("b"));
        tiny_model(&folder, true);
        tiny_tokenizer(&folder, 320);
        write_file(&folder.join("LICENSE"), b"text").unwrap();
        write_file(&folder.join("optimizer.bin"), b"not this").unwrap();
        let model = ModelDir::open(&folder).unwrap();
        export_hf(&model, &out, SHARD_SIZE).unwrap();
        let copy = ModelDir::open(&out).unwrap();
        assert_eq!(copy.weights_sha256().unwrap(), model.weights_sha256().unwrap());
        let manifest = copy.origin().unwrap().unwrap();
        manifest.verify(&out).unwrap();
        let names: Vec<_> = manifest.files.keys().map(String::as_str).collect();
        let copied =
            ["LICENSE", "README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
        assert_eq!(names, copied);
        assert!(export_hf(&model, &out, SHARD_SIZE).is_err(), "nothing is overwritten");

        // The base's card goes along under another name, however often the weights are copied.
        write_file(&folder.join("README.md"), b"The base's own.").unwrap();
        let (second, third) = (dir.path().join("second"), dir.path().join("third"));
        export_hf(&model, &second, 100_000).unwrap();
        export_hf(&ModelDir::open(&second).unwrap(), &third, 100_000).unwrap();
        for (folder, name) in [(&second, "second"), (&third, "third")] {
            let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
            assert_eq!(read("BASE_README.md"), "The base's own.");
            assert!(read("README.md").contains(&format!("\n# {name}\n")));
            let sharded = ModelDir::open(folder).unwrap();
            assert_eq!(sharded.weight_files().count(), 4);
            for tensor in model.tensor_names() {
                assert_eq!(sharded.tensor(tensor).unwrap(), model.tensor(tensor).unwrap());
            }
        }
        let weights = |folder: &Path| ModelDir::open(folder).unwrap().weights_sha256().unwrap();
        assert_eq!(weights(&third), weights(&second), "files that are cut already keep their bytes");

        let adapter = dir.path().join("adapter");
        tiny_adapter(&adapter);
        export_peft(&adapter, &dir.path().join("peft")).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("peft")).unwrap().count(), 3);
        write_file(&adapter.join(CHAT_TEMPLATE), b"{{ tools }}").unwrap();
        export_peft(&adapter, &dir.path().join("peft2")).unwrap();
        assert_eq!(fs::read(dir.path().join("peft2").join(CHAT_TEMPLATE)).unwrap(), b"{{ tools }}");
    }
}
