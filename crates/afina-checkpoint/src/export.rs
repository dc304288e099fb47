//! What other programs load: a Hugging Face folder, PEFT's two files, a GGUF file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use afina_quant::format::Format;

use crate::adapter::{AdapterError, read_adapter, write_adapter};
use crate::adapter_template::CHAT_TEMPLATE;
use crate::atomic::AtomicDir;
use crate::config::RopeScaling;
use crate::gguf::{GgufWriteError, ROPE_FREQS, Value, VocabularyError, permute, vocabulary_from_hf, write_gguf};
use crate::manifest::{Manifest, Origin};
use crate::model_dir::{ModelDir, ModelDirError};
use crate::names::gguf_name;

/// How the weights of a GGUF file are stored; norms are always F32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GgufType {
    F32,
    Q8_0,
}

/// Why an export failed; nothing is left at its target.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("failed to read the model")]
    Model(#[from] ModelDirError),
    #[error("failed to export the adapter")]
    Adapter(#[from] AdapterError),
    #[error("failed to carry the tokenizer over")]
    Vocabulary(#[from] VocabularyError),
    #[error("failed to write the GGUF file")]
    Gguf(#[from] GgufWriteError),
    #[error("failed to write `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Copies the model folder to `to` with a manifest that says where it came from. A folder with anything in it is not
/// overwritten.
pub fn export_hf(model: &ModelDir, to: &Path) -> Result<(), ExportError> {
    let io_error = |source| ExportError::Io { path: to.into(), source };
    let weights_sha256 = model.weights_sha256()?;
    let folder = AtomicDir::create_new(to).map_err(io_error)?;
    copy_companions(model, folder.path())?;
    for name in model.weight_files() {
        copy(&model.path, folder.path(), name)?;
    }
    if model.weight_files().count() > 1 {
        copy(&model.path, folder.path(), crate::model_dir::WEIGHTS_INDEX)?;
    }
    let license = model.origin().ok().flatten().and_then(|manifest| manifest.license);
    let origin = Origin::Export { model: model.path.display().to_string(), weights_sha256 };
    Manifest::write(folder.path(), name_of(to), license, origin).map_err(io_error)?;
    folder.commit().map_err(io_error)
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
    folder.commit().map_err(io_error)
}

/// Writes the model as one GGUF file with its whole tokenizer, its chat template and every end-of-turn token.
///
/// A matrix whose rows are no whole blocks is kept in F16. `progress` is told how many tensors of how many are done.
pub fn export_gguf(
    model: &ModelDir,
    to: &Path,
    kind: GgufType,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(), ExportError> {
    let config = &model.config;
    let mut metadata = general_metadata(model, to, kind);
    let vocabulary = vocabulary_from_hf(&model.path, config.vocab_size, &model.eos_token_ids())?;
    metadata.extend(vocabulary.to_metadata());

    // Hugging Face name (empty for the scaling's factors), GGUF name, shape, type.
    let mut tensors: Vec<(String, String, Vec<usize>, Format)> = Vec::new();
    let scaling = match &config.rope_scaling {
        Some(scaling @ RopeScaling::Llama3 { .. }) => {
            tensors.push((String::new(), ROPE_FREQS.into(), vec![config.head_dim / 2], Format::F32));
            scaling.factors(config.head_dim, config.rope_theta)
        }
        _ => Vec::new(),
    };
    for name in model.tensor_names() {
        let shape = model.info(name).expect("`ModelDir::open` has checked every tensor").shape.clone();
        let in_file = gguf_name(name).expect("every tensor of a Llama model is in the table");
        let kind = storage(kind, &shape);
        tensors.push((name.clone(), in_file, shape, kind));
    }

    let listed: Vec<_> = tensors.iter().map(|(_, name, shape, kind)| (name.clone(), shape.clone(), *kind)).collect();
    let mut done = 0;
    write_gguf(to, &metadata, &listed, &mut |in_file| {
        let (name, ..) = tensors.iter().find(|(_, other, ..)| other == in_file).ok_or("an unknown name")?;
        done += 1;
        progress(done, listed.len());
        if name.is_empty() {
            return Ok(scaling.clone());
        }
        let values = model.tensor(name)?.to_f32()?;
        Ok(if name.ends_with("q_proj.weight") {
            permute(&values, config.num_attention_heads, config.head_dim)
        } else if name.ends_with("k_proj.weight") {
            permute(&values, config.num_key_value_heads, config.head_dim)
        } else {
            values
        })
    })?;
    Ok(())
}

fn storage(kind: GgufType, shape: &[usize]) -> Format {
    match kind {
        GgufType::Q8_0 if shape.len() < 2 => Format::F32,
        GgufType::Q8_0 if !shape[1].is_multiple_of(Format::Q8_0.block()) => Format::F16,
        GgufType::Q8_0 => Format::Q8_0,
        GgufType::F32 => Format::F32,
    }
}

fn general_metadata(model: &ModelDir, to: &Path, kind: GgufType) -> Vec<(String, Value)> {
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
    push(
        "general.file_type",
        Value::U32(match kind {
            GgufType::F32 => 0,
            GgufType::Q8_0 => 7,
        }),
    );
    push("general.quantization_version", Value::U32(2));
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

/// Copies every file of the model folder but weights and manifest.
pub(crate) fn copy_companions(model: &ModelDir, to: &Path) -> Result<(), ModelDirError> {
    for name in model.companion_files()? {
        copy(&model.path, to, &name)?;
    }
    Ok(())
}

/// Copies one file and sees it to the disk.
pub(crate) fn copy(from: &Path, to: &Path, name: &str) -> Result<(), ModelDirError> {
    let target = to.join(name);
    let copied = fs::copy(from.join(name), &target).and_then(|_| File::open(&target)?.sync_all());
    copied.map_err(|source| ModelDirError::Io { path: from.join(name), source })
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::atomic::write_file;
    use crate::gguf::{GgufFile, TokenType, Vocabulary, gguf_to_hf};
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
            export_gguf(&model, &file, GgufType::F32, &mut |_, _| calls += 1).unwrap();
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
        export_gguf(&model, &file, GgufType::Q8_0, &mut |_, _| ()).unwrap();
        let gguf = GgufFile::open(&file).unwrap();
        assert_eq!(gguf.tensor("blk.0.attn_q.weight").unwrap().kind.format(), Some(Format::Q8_0));
        assert_eq!(gguf.tensor("blk.0.attn_norm.weight").unwrap().kind.format(), Some(Format::F32));
        assert_eq!(storage(GgufType::Q8_0, &[4, 33]), Format::F16);
        let found = gguf.read_f32("blk.1.ffn_down.weight").unwrap();
        let expected = model.tensor("model.layers.1.mlp.down_proj.weight").unwrap().to_f32().unwrap();
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst > 0.0 && worst < 0.1 / 127.0, "{worst}"); // half a step of a block up to 0.1, and a bit for f16
    }

    #[test]
    fn model_without_a_tokenizer_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        tiny_model(dir.path(), true);
        let model = ModelDir::open(dir.path()).unwrap();
        let file = dir.path().join("a.gguf");
        assert!(matches!(export_gguf(&model, &file, GgufType::F32, &mut |_, _| ()), Err(ExportError::Vocabulary(_))));
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
        export_hf(&model, &out).unwrap();
        let copy = ModelDir::open(&out).unwrap();
        assert_eq!(copy.weights_sha256().unwrap(), model.weights_sha256().unwrap());
        let manifest = copy.origin().unwrap().unwrap();
        manifest.verify(&out).unwrap();
        let names: Vec<_> = manifest.files.keys().map(String::as_str).collect();
        assert_eq!(names, ["LICENSE", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]);
        assert!(export_hf(&model, &out).is_err(), "nothing is overwritten");

        let adapter = dir.path().join("adapter");
        tiny_adapter(&adapter);
        export_peft(&adapter, &dir.path().join("peft")).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("peft")).unwrap().count(), 2);
        write_file(&adapter.join(CHAT_TEMPLATE), b"{{ tools }}").unwrap();
        export_peft(&adapter, &dir.path().join("peft2")).unwrap();
        assert_eq!(fs::read(dir.path().join("peft2").join(CHAT_TEMPLATE)).unwrap(), b"{{ tools }}");
    }
}
