//! A GGUF file into a Hugging Face model folder: config, tokenizer with its template, weights in F32.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use afina_quant::format::Format;
use serde_json::{Value, json};

use super::permute::unpermute;
use super::reader::{GgufError, GgufFile};
use super::rope_freqs::{ROPE_FREQS, llama3_scaling};
use super::tokenizer_to_hf::{special_tokens_map_json, tokenizer_config_json, tokenizer_json};
use super::types::GgmlType;
use super::vocabulary::{Vocabulary, VocabularyError};
use crate::atomic::write_file;
use crate::config::{ConfigError, LlamaConfig, RopeScaling};
use crate::names::{expected_tensors, gguf_name};
use crate::safetensors::WriteError;
use crate::shards::{SHARD_SIZE, write_weights};
use crate::tensor::{Dtype, RawTensor, TensorInfo};

/// Why a GGUF file cannot become a model folder.
#[derive(Debug, thiserror::Error)]
pub enum ToHfError {
    #[error("`{}` holds architecture `{found}`, which is not supported, expected `llama`", path.display())]
    Architecture { path: PathBuf, found: String },
    #[error("failed to read the model file")]
    Gguf(#[from] GgufError),
    #[error("`{}` does not describe a usable model", path.display())]
    Config { path: PathBuf, source: ConfigError },
    #[error("failed to rebuild the tokenizer of `{}`", path.display())]
    Vocabulary { path: PathBuf, source: VocabularyError },
    #[error("`{}`: tensor `{name}`: {reason}", path.display())]
    Tensor { path: PathBuf, name: String, reason: String },
    #[error("failed to write the weights")]
    Weights(#[from] WriteError),
    #[error("failed to write `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Writes the model folder's files into `folder`: config.json, generation_config.json, tokenizer.json,
/// tokenizer_config.json, special_tokens_map.json and model.safetensors.
///
/// Everything that can be refused is refused before the first file is written. `progress` is told how many tensors of
/// how many are done. The manifest is the caller's, who knows where the file came from.
pub fn gguf_to_hf(gguf: &GgufFile, folder: &Path, progress: &mut dyn FnMut(usize, usize)) -> Result<(), ToHfError> {
    let config = config_from_gguf(gguf)?;
    let vocabulary = read_vocabulary(gguf)?;
    let infos = check_tensors(gguf, &config)?;
    let tokenizer =
        tokenizer_json(&vocabulary).map_err(|source| ToHfError::Vocabulary { path: gguf.path().into(), source })?;

    let files = [
        ("config.json", config.to_json()),
        ("generation_config.json", generation_config_json(&vocabulary)),
        ("tokenizer_config.json", tokenizer_config_json(&vocabulary, config.max_position_embeddings)),
        ("special_tokens_map.json", special_tokens_map_json(&vocabulary)),
    ];
    for (name, json) in files {
        write_json(&folder.join(name), &json, true)?;
    }
    write_json(&folder.join("tokenizer.json"), &tokenizer, false)?;

    let mut done = 0;
    write_weights(folder, &infos, SHARD_SIZE, &mut |name| {
        let shape = infos.iter().find(|info| info.name == name).map(|info| info.shape.clone());
        let tensor = RawTensor::from_f32(name, shape.ok_or("an unknown name")?, &weights(gguf, &config, name)?);
        done += 1;
        progress(done, infos.len());
        Ok(tensor)
    })?;
    Ok(())
}

/// The config of a GGUF file of architecture `llama`; another is refused by name.
pub fn config_from_gguf(gguf: &GgufFile) -> Result<LlamaConfig, ToHfError> {
    check_architecture(gguf)?;
    let optional = |key: &str| -> Result<Option<usize>, GgufError> {
        // A size that does not fit is caught by `from_json`'s bound.
        Ok(gguf.u64(&format!("llama.{key}"))?.map(|n| n as usize))
    };
    let required = |key: &str| optional(key).and_then(|n| n.ok_or_else(|| gguf.missing_key(&format!("llama.{key}"))));

    let hidden_size = required("embedding_length")?;
    let heads = required("attention.head_count")?;
    let head_dim = match optional("attention.key_length")? {
        Some(length) => length,
        None => hidden_size.checked_div(heads).unwrap_or(0),
    };
    for key in ["rope.dimension_count", "attention.value_length"] {
        if let Some(found) = optional(key)?.filter(|found| *found != head_dim) {
            return Err(bad_key(gguf, &format!("llama.{key}"), "the width of a head", found.to_string()));
        }
    }
    let rope_theta = gguf.f64("llama.rope.freq_base")?.unwrap_or(10_000.0);
    let vocabulary_size = match gguf.tensor("token_embd.weight") {
        Some(tensor) => tensor.shape[0],
        None => return Err(missing_tensor(gguf, "token_embd.weight")),
    };
    let vocabulary = read_vocabulary(gguf)?;
    let config = LlamaConfig {
        hidden_size,
        intermediate_size: required("feed_forward_length")?,
        num_hidden_layers: required("block_count")?,
        num_attention_heads: heads,
        num_key_value_heads: optional("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        vocab_size: vocabulary_size,
        max_position_embeddings: required("context_length")?,
        rms_norm_eps: gguf
            .f64("llama.attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| gguf.missing_key("llama.attention.layer_norm_rms_epsilon"))?,
        rope_theta,
        rope_scaling: None,
        tie_word_embeddings: gguf.tensor("output.weight").is_none(),
        bos_token_id: vocabulary.bos,
        eos_token_id: vocabulary.end_ids(),
    };
    // The one check of all bounds, whichever file the numbers came from.
    let mut config = LlamaConfig::from_json(&config.to_json())
        .map_err(|source| ToHfError::Config { path: gguf.path().into(), source })?;
    config.rope_scaling = rope_scaling(gguf, &config)?;
    config.check().map_err(|source| ToHfError::Config { path: gguf.path().into(), source })?;
    if vocabulary.tokens.len() != vocabulary_size {
        let found = format!("{} tokens for {vocabulary_size} embeddings", vocabulary.tokens.len());
        return Err(bad_key(gguf, "tokenizer.ggml.tokens", "a token for each row of the embeddings", found));
    }
    Ok(config)
}

/// Fails unless the file holds a Llama without experts.
pub(crate) fn check_architecture(gguf: &GgufFile) -> Result<(), ToHfError> {
    let architecture = gguf.str("general.architecture")?.ok_or_else(|| gguf.missing_key("general.architecture"))?;
    if architecture != "llama" {
        return Err(ToHfError::Architecture { path: gguf.path().into(), found: architecture.into() });
    }
    if let Some(experts) = gguf.u64("llama.expert_count")?.filter(|experts| *experts > 0) {
        let found = format!("llama with {experts} experts");
        return Err(ToHfError::Architecture { path: gguf.path().into(), found });
    }
    Ok(())
}

/// The type of most weights, in lower case: what a quantized folder's name ends in.
pub(crate) fn file_type(gguf: &GgufFile) -> GgmlType {
    let mut counts: Vec<(GgmlType, usize)> = Vec::new();
    for tensor in gguf.tensors().iter().filter(|tensor| tensor.shape.len() > 1) {
        let elements = tensor.shape.iter().product::<usize>();
        match counts.iter_mut().find(|(kind, _)| *kind == tensor.kind) {
            Some((_, count)) => *count += elements,
            None => counts.push((tensor.kind, elements)),
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map_or(Format::F32.into(), |(kind, _)| kind)
}

fn rope_scaling(gguf: &GgufFile, config: &LlamaConfig) -> Result<Option<RopeScaling>, ToHfError> {
    if let Some(scaling) = llama3_scaling(gguf, config.head_dim, config.rope_theta)? {
        return Ok(Some(scaling));
    }
    let factor = match gguf.f64("llama.rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => gguf.f64("llama.rope.scale_linear")?, // before the scaling type existed
    };
    match (gguf.str("llama.rope.scaling.type")?, factor) {
        (None | Some("none"), None) | (Some("none"), _) => Ok(None),
        (None | Some("linear"), Some(factor)) => Ok((factor != 1.0).then_some(RopeScaling::Linear { factor })),
        (Some("linear"), None) => Err(gguf.missing_key("llama.rope.scaling.factor").into()),
        (Some(other), _) => Err(bad_key(gguf, "llama.rope.scaling.type", "none or linear", other.to_owned())),
    }
}

pub(super) fn read_vocabulary(gguf: &GgufFile) -> Result<Vocabulary, ToHfError> {
    Vocabulary::from_gguf(gguf).map_err(|source| ToHfError::Vocabulary { path: gguf.path().into(), source })
}

fn generation_config_json(vocabulary: &Vocabulary) -> Value {
    let ends = vocabulary.end_ids();
    let mut json = json!({"_from_model_config": true});
    if let Some(bos) = vocabulary.bos {
        json["bos_token_id"] = json!(bos);
    }
    match ends[..] {
        [] => {}
        [id] => json["eos_token_id"] = json!(id),
        _ => json["eos_token_id"] = json!(ends),
    }
    if let Some(pad) = vocabulary.pad {
        json["pad_token_id"] = json!(pad);
    }
    json
}

/// Every tensor the config asks for is there, in its shape and decodable; and no other is.
pub(super) fn check_tensors(gguf: &GgufFile, config: &LlamaConfig) -> Result<Vec<TensorInfo>, ToHfError> {
    let mut infos = Vec::new();
    let mut known: HashSet<String> = HashSet::from([ROPE_FREQS.to_owned()]);
    for (name, shape) in expected_tensors(config) {
        let in_file = gguf_name(&name).expect("every expected tensor is in the table");
        let tensor = gguf.tensor(&in_file).ok_or_else(|| missing_tensor(gguf, &in_file))?;
        if tensor.shape != shape {
            let reason = format!("expected shape {shape:?}, found {:?}", tensor.shape);
            return Err(ToHfError::Tensor { path: gguf.path().into(), name: in_file, reason });
        }
        if tensor.kind.format().is_none() {
            let (path, name) = (gguf.path().into(), in_file);
            return Err(GgufError::UnsupportedType { path, name, found: tensor.kind }.into());
        }
        known.insert(in_file);
        infos.push(TensorInfo { name, dtype: Dtype::F32, shape });
    }
    match gguf.tensors().iter().find(|tensor| !known.contains(&tensor.name)) {
        Some(tensor) => Err(ToHfError::Tensor {
            path: gguf.path().into(),
            name: tensor.name.clone(),
            reason: format!("it is not one of a Llama model of {} layers", config.num_hidden_layers),
        }),
        None => Ok(infos),
    }
}

/// A tensor's values in Hugging Face's order.
pub(super) fn weights(gguf: &GgufFile, config: &LlamaConfig, name: &str) -> Result<Vec<f32>, GgufError> {
    let in_file = gguf_name(name).expect("every expected tensor is in the table");
    let values = gguf.read_f32(&in_file)?;
    Ok(if name.ends_with("q_proj.weight") {
        unpermute(&values, config.num_attention_heads, config.head_dim)
    } else if name.ends_with("k_proj.weight") {
        unpermute(&values, config.num_key_value_heads, config.head_dim)
    } else {
        values
    })
}

fn write_json(path: &Path, json: &Value, pretty: bool) -> Result<(), ToHfError> {
    // tokenizer.json is long enough without an indent on each of its hundred thousand lines.
    let mut text = if pretty { format!("{json:#}") } else { json.to_string() };
    text.push('\n');
    write_file(path, text.as_bytes()).map_err(|source| ToHfError::Io { path: path.into(), source })
}

fn missing_tensor(gguf: &GgufFile, name: &str) -> ToHfError {
    GgufError::MissingTensor { path: gguf.path().into(), name: name.into() }.into()
}

fn bad_key(gguf: &GgufFile, key: &str, expected: &'static str, found: String) -> ToHfError {
    GgufError::Key { path: gguf.path().into(), key: key.into(), expected, found }.into()
}

#[cfg(test)]
mod tests {
    use super::super::types::Value as GgufValue;
    use super::super::writer::write_gguf;
    use super::*;
    use crate::model_dir::ModelDir;
    use crate::testing::{bpe_vocabulary, noise};

    type Tensors = Vec<(String, Vec<usize>, Format)>;

    /// Metadata and tensors of a one-layer model, changed by `change`, converted.
    fn convert(change: fn(&mut Vec<(String, GgufValue)>, &mut Tensors)) -> Result<ModelDir, String> {
        let dir = tempfile::tempdir().unwrap();
        let vocabulary = bpe_vocabulary();
        let number = GgufValue::U32;
        let mut metadata: Vec<(String, GgufValue)> = [
            ("general.architecture", GgufValue::String("llama".into())),
            ("llama.embedding_length", number(64)),
            ("llama.feed_forward_length", number(96)),
            ("llama.block_count", number(1)),
            ("llama.attention.head_count", number(4)),
            ("llama.attention.head_count_kv", number(2)),
            ("llama.context_length", number(128)),
            ("llama.attention.layer_norm_rms_epsilon", GgufValue::F32(1e-5)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        metadata.extend(vocabulary.to_metadata());
        let mut tensors: Tensors = [
            ("token_embd.weight", vec![vocabulary.tokens.len(), 64], Format::Q8_0),
            ("blk.0.attn_norm.weight", vec![64], Format::F32),
            ("blk.0.attn_q.weight", vec![64, 64], Format::Q4_0),
            ("blk.0.attn_k.weight", vec![32, 64], Format::Q4_0),
            ("blk.0.attn_v.weight", vec![32, 64], Format::Q4_0),
            ("blk.0.attn_output.weight", vec![64, 64], Format::F16),
            ("blk.0.ffn_norm.weight", vec![64], Format::F32),
            ("blk.0.ffn_gate.weight", vec![96, 64], Format::BF16),
            ("blk.0.ffn_up.weight", vec![96, 64], Format::F32),
            ("blk.0.ffn_down.weight", vec![64, 96], Format::Q4_1),
            ("output_norm.weight", vec![64], Format::F32),
        ]
        .map(|(name, shape, kind)| (name.to_owned(), shape, kind))
        .to_vec();
        change(&mut metadata, &mut tensors);
        let path = dir.path().join("x.gguf");
        let shapes = tensors.clone();
        write_gguf(&path, &metadata, &tensors, &mut |name| {
            let (_, shape, _) = shapes.iter().find(|(other, ..)| other == name).unwrap();
            if name == ROPE_FREQS {
                let scaling = RopeScaling::Llama3 {
                    factor: 32.0,
                    low_freq_factor: 1.0,
                    high_freq_factor: 4.0,
                    original_max_position_embeddings: 8192,
                };
                return Ok(scaling.factors(16, 10_000.0));
            }
            Ok(noise(1, shape.iter().product()))
        })
        .unwrap();
        let gguf = GgufFile::open(&path).unwrap();
        let folder = dir.path().join("model");
        let result = gguf_to_hf(&gguf, &folder, &mut |_, _| ());
        let text = |error: &dyn std::error::Error| match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        if result.is_err() {
            assert!(!folder.exists(), "nothing is written before everything is checked");
        }
        result.map_err(|error| text(&error).replace(&path.display().to_string(), "x.gguf"))?;
        Ok(ModelDir::open(&folder).unwrap())
    }

    #[test]
    fn every_type_is_decoded_and_the_config_follows() {
        let model = convert(|_, _| ()).unwrap();
        assert!(model.config.tie_word_embeddings);
        assert_eq!((model.config.head_dim, model.config.rms_norm_eps), (16, 1e-5));
        assert_eq!((model.config.bos_token_id, model.eos_token_ids()), (Some(1), vec![2]));
        assert_eq!(model.config.rope_scaling, None);
    }

    #[test]
    fn llama3_scaling_is_found_from_its_factors() {
        let model = convert(|_, tensors| tensors.push((ROPE_FREQS.into(), vec![8], Format::F32))).unwrap();
        assert!(matches!(model.config.rope_scaling, Some(RopeScaling::Llama3 { factor: 32.0, .. })));
    }

    #[test]
    fn what_is_not_this_model_is_refused_by_name() {
        let error = |change| convert(change).map(|_| ()).unwrap_err();
        let message = error(|metadata, _| metadata[0].1 = GgufValue::String("qwen2".into()));
        assert_eq!(message, "`x.gguf` holds architecture `qwen2`, which is not supported, expected `llama`");
        let message = error(|metadata, _| metadata.push(("llama.expert_count".into(), GgufValue::U32(8))));
        assert!(message.contains("`llama with 8 experts`"), "{message}");
        let message = error(|_, tensors| tensors.push(("blk.0.attn_q.bias".into(), vec![64], Format::F32)));
        assert!(
            message.contains("tensor `blk.0.attn_q.bias`: it is not one of a Llama model of 1 layers"),
            "{message}"
        );
        let message = error(|_, tensors| tensors[3].1 = vec![64, 64]);
        assert!(message.contains("tensor `blk.0.attn_k.weight`: expected shape [32, 64], found [64, 64]"), "{message}");
        let message = error(|_, tensors| drop(tensors.pop()));
        assert!(message.ends_with("has no tensor `output_norm.weight`"), "{message}");
        let message = error(|metadata, _| metadata[1].1 = GgufValue::U32(0));
        assert!(message.contains("`hidden_size`: expected a whole number from 1 to 2^24, found `0`"), "{message}");
        let message = error(|metadata, _| metadata[3].1 = GgufValue::U32(u32::MAX));
        assert!(message.contains("num_hidden_layers"), "{message}");
        let message = error(|metadata, _| {
            metadata.push(("llama.rope.scaling.type".into(), GgufValue::String("yarn".into())));
        });
        assert!(message.contains("`llama.rope.scaling.type`: expected none or linear, found yarn"), "{message}");
        let message = error(|_, tensors| tensors[0].1[0] += 1);
        assert!(message.contains("a token for each row of the embeddings"), "{message}");
    }
}
