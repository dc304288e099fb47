//! A LoRA adapter in PEFT's two files: adapter_config.json and adapter_model.safetensors.
//!
//! Nothing is passed over: a key of the config that would change the result and is not obeyed is refused by name, and so
//! is a tensor without its other half.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::atomic::write_file;
use crate::names::{LINEAR_MODULES, parse_module_path, parse_peft_key, peft_key};
use crate::safetensors::{ReadError, SafetensorsFile, WriteError, write_safetensors};
use crate::tensor::RawTensor;

/// PEFT's config file in an adapter folder.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// PEFT's weights file in an adapter folder.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// PEFT's adapter_config.json, with its own names, and what this project adds under `afina`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterConfig {
    pub peft_type: String,
    #[serde(default)]
    pub task_type: Option<String>,
    pub r: usize,
    #[serde(serialize_with = "whole_number")]
    pub lora_alpha: f64,
    #[serde(default)]
    pub lora_dropout: f64,
    #[serde(default = "no_bias")]
    pub bias: String,
    /// Names of modules; PEFT's `"all-linear"` is read as the seven linear layers.
    #[serde(deserialize_with = "target_modules")]
    pub target_modules: Vec<String>,
    #[serde(default)]
    pub base_model_name_or_path: Option<String>,
    #[serde(default)]
    pub revision: Option<String>,
    #[serde(default)]
    pub inference_mode: bool,
    #[serde(default)]
    pub use_rslora: bool,
    #[serde(default)]
    pub use_dora: bool,
    #[serde(default)]
    pub rank_pattern: BTreeMap<String, usize>,
    #[serde(default)]
    pub alpha_pattern: BTreeMap<String, f64>,
    #[serde(default)]
    pub modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    pub fan_in_fan_out: bool,
    #[serde(default = "default_init")]
    pub init_lora_weights: Value,
    /// Which base and template the adapter was trained with; absent in adapters of other tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub afina: Option<TrainedWith>,
}

/// What an adapter of this project was trained with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainedWith {
    /// [`crate::ModelDir::weights_sha256`] of the base.
    pub base_sha256: String,
    /// SHA-256 of the chat template's text.
    pub template_sha256: String,
    /// This project's version.
    pub version: String,
}

/// The two matrices on one linear layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraTensors {
    /// `model.layers.0.self_attn.q_proj`
    pub module: String,
    /// `[r, in]`
    pub a: RawTensor,
    /// `[out, r]`
    pub b: RawTensor,
}

/// Why an adapter folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    #[error("`{}` is not an adapter folder: it has no `{missing}`", path.display())]
    NotAdapter { path: PathBuf, missing: &'static str },
    #[error("failed to read or write `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("`{}` is not an adapter's config", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("adapter_config.json: `{key}`: expected {expected}, found `{found}`")]
    Unsupported { key: String, expected: &'static str, found: String },
    #[error("failed to read the adapter's weights")]
    Read(#[from] ReadError),
    #[error("failed to write the adapter's weights")]
    Write(#[from] WriteError),
    #[error("adapter tensor `{name}` is not a LoRA matrix on a linear layer of a Llama model")]
    Foreign { name: String },
    #[error("adapter on `{module}` has no `{missing}`")]
    Unpaired { module: String, missing: &'static str },
    #[error("adapter on `{module}`: expected {expected}, found {found:?}")]
    Shape { module: String, expected: String, found: Vec<usize> },
    #[error("adapter holds no LoRA matrices")]
    Empty,
    #[error("the adapter `{}` was trained with another chat template: expected sha256 {expected}, found {found} in `{}`", adapter.display(), template.display())]
    Template { adapter: PathBuf, template: PathBuf, expected: String, found: String },
    #[error("failed to read the chat template of `{}`", path.display())]
    ReadTemplate { path: PathBuf, source: Box<crate::inspect::InspectError> },
}

impl AdapterConfig {
    /// A plain LoRA as it is written after training.
    pub fn lora(
        r: usize,
        lora_alpha: f64,
        target_modules: Vec<String>,
        base: String,
        trained_with: TrainedWith,
    ) -> AdapterConfig {
        AdapterConfig {
            peft_type: "LORA".into(),
            task_type: Some("CAUSAL_LM".into()),
            r,
            lora_alpha,
            lora_dropout: 0.0,
            bias: no_bias(),
            target_modules,
            base_model_name_or_path: Some(base),
            revision: None,
            inference_mode: true,
            use_rslora: false,
            use_dora: false,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            modules_to_save: None,
            fan_in_fan_out: false,
            init_lora_weights: default_init(),
            afina: Some(trained_with),
        }
    }

    /// The rank on a module: `rank_pattern`'s, else `r`.
    pub fn rank(&self, module: &str) -> usize {
        lookup(&self.rank_pattern, module).unwrap_or(self.r)
    }

    /// What B·A is multiplied by on a module: alpha / r, or alpha / √r with `use_rslora`.
    pub fn scaling(&self, module: &str) -> f64 {
        let rank = self.rank(module) as f64;
        let alpha = lookup(&self.alpha_pattern, module).unwrap_or(self.lora_alpha);
        if self.use_rslora { alpha / rank.sqrt() } else { alpha / rank }
    }

    fn check(&self) -> Result<(), AdapterError> {
        let refuse =
            |key: &str, expected, found: String| Err(AdapterError::Unsupported { key: key.into(), expected, found });
        if self.peft_type != "LORA" {
            return refuse("peft_type", "LORA", self.peft_type.clone());
        }
        if self.r == 0 || self.rank_pattern.values().any(|r| *r == 0) {
            return refuse("r", "a rank above 0", "0".into());
        }
        if !self.lora_alpha.is_finite() || self.alpha_pattern.values().any(|alpha| !alpha.is_finite()) {
            return refuse("lora_alpha", "a finite number", self.lora_alpha.to_string());
        }
        if self.use_dora {
            return refuse("use_dora", "false (merge it with PEFT instead)", "true".into());
        }
        if self.bias != "none" {
            return refuse("bias", "none", self.bias.clone());
        }
        if self.fan_in_fan_out {
            return refuse("fan_in_fan_out", "false", "true".into());
        }
        if let Some(modules) = self.modules_to_save.as_ref().filter(|modules| !modules.is_empty()) {
            return refuse("modules_to_save", "none", modules.join(", "));
        }
        for (map, keys) in [
            ("rank_pattern", self.rank_pattern.keys().collect::<Vec<_>>()),
            ("alpha_pattern", self.alpha_pattern.keys().collect()),
        ] {
            // PEFT takes them for regular expressions; only plain names are obeyed here.
            let plain = |key: &&String| key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
            if let Some(key) = keys.into_iter().find(|key| !plain(key)) {
                return refuse(map, "plain module names", key.clone());
            }
        }
        Ok(())
    }
}

/// Reads an adapter folder. Modules come in the order of the model's layers.
pub fn read_adapter(dir: &Path) -> Result<(AdapterConfig, Vec<LoraTensors>), AdapterError> {
    for missing in [ADAPTER_CONFIG, ADAPTER_WEIGHTS] {
        if !dir.join(missing).is_file() {
            return Err(AdapterError::NotAdapter { path: dir.into(), missing });
        }
    }
    let config = read_config(&dir.join(ADAPTER_CONFIG))?;
    let file = SafetensorsFile::open(&dir.join(ADAPTER_WEIGHTS))?;
    let mut halves: BTreeMap<String, [Option<RawTensor>; 2]> = BTreeMap::new();
    for name in file.names() {
        let (module, half) = parse_peft_key(name)
            .filter(|(module, _)| parse_module_path(module).is_some())
            .ok_or_else(|| AdapterError::Foreign { name: name.clone() })?;
        let pair = halves.entry(module.to_owned()).or_default();
        pair[usize::from(half == "lora_B")] = Some(file.read(name)?);
    }
    let mut adapters = Vec::with_capacity(halves.len());
    for (module, pair) in halves {
        let (a, b) = match pair {
            [Some(a), Some(b)] => (a, b),
            [None, _] => return Err(AdapterError::Unpaired { module, missing: "lora_A" }),
            [_, None] => return Err(AdapterError::Unpaired { module, missing: "lora_B" }),
        };
        let rank = config.rank(&module);
        check_shapes(&module, rank, &a, &b)?;
        adapters.push(LoraTensors { module, a, b });
    }
    if adapters.is_empty() {
        return Err(AdapterError::Empty);
    }
    adapters.sort_by_key(|lora| {
        let (layer, name) = parse_module_path(&lora.module).expect("checked when it was read");
        (layer, LINEAR_MODULES.iter().position(|module| *module == name))
    });
    Ok((config, adapters))
}

/// Writes an adapter folder, each of its two files whole or not at all; the folder is made if need be.
pub fn write_adapter(dir: &Path, config: &AdapterConfig, adapters: &[LoraTensors]) -> Result<(), AdapterError> {
    config.check()?;
    let mut tensors = Vec::with_capacity(adapters.len() * 2);
    for lora in adapters {
        check_shapes(&lora.module, config.rank(&lora.module), &lora.a, &lora.b)?;
        for (half, tensor) in [("lora_A", &lora.a), ("lora_B", &lora.b)] {
            tensors.push((peft_key(&lora.module, half), tensor));
        }
    }
    let infos: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| crate::tensor::TensorInfo { name: name.clone(), ..tensor.info() })
        .collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write_safetensors(&dir.join(ADAPTER_WEIGHTS), &infos, &metadata, &mut |name| {
        let (_, tensor) = tensors.iter().find(|(key, _)| key == name).ok_or("an unknown name")?;
        Ok((*tensor).clone())
    })?;
    let path = dir.join(ADAPTER_CONFIG);
    let mut json =
        serde_json::to_vec_pretty(config).map_err(|source| AdapterError::Json { path: path.clone(), source })?;
    json.push(b'\n');
    write_file(&path, &json).map_err(|source| AdapterError::Io { path, source })
}

/// Reads adapter_config.json alone.
pub fn read_config(path: &Path) -> Result<AdapterConfig, AdapterError> {
    let bytes = fs::read(path).map_err(|source| AdapterError::Io { path: path.into(), source })?;
    let json_error = |source| AdapterError::Json { path: path.into(), source };
    let object: Map<String, Value> = serde_json::from_slice(&bytes).map_err(json_error)?;
    refuse_unknown_keys(&object)?;
    let config = AdapterConfig::deserialize(Value::Object(object)).map_err(json_error)?;
    config.check()?;
    Ok(config)
}

/// Keys of PEFT's config that change nothing in a finished LoRA adapter.
const HARMLESS: [&str; 9] = [
    "peft_version",
    "auto_mapping",
    "megatron_core",
    "megatron_config",
    "layers_pattern",
    "loftq_config",
    "eva_config",
    "corda_config",
    "qalora_group_size",
];

fn refuse_unknown_keys(object: &Map<String, Value>) -> Result<(), AdapterError> {
    let known = json!(AdapterConfig {
        peft_type: String::new(),
        task_type: None,
        r: 1,
        lora_alpha: 1.0,
        lora_dropout: 0.0,
        bias: no_bias(),
        target_modules: Vec::new(),
        base_model_name_or_path: None,
        revision: None,
        inference_mode: true,
        use_rslora: false,
        use_dora: false,
        rank_pattern: BTreeMap::new(),
        alpha_pattern: BTreeMap::new(),
        modules_to_save: None,
        fan_in_fan_out: false,
        init_lora_weights: default_init(),
        afina: Some(TrainedWith { base_sha256: String::new(), template_sha256: String::new(), version: String::new() }),
    });
    for (key, value) in object {
        let off = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        if !off && known.get(key).is_none() && !HARMLESS.contains(&key.as_str()) {
            let expected = "a key this project obeys, or one that is off";
            return Err(AdapterError::Unsupported { key: key.clone(), expected, found: value.to_string() });
        }
    }
    Ok(())
}

fn check_shapes(module: &str, rank: usize, a: &RawTensor, b: &RawTensor) -> Result<(), AdapterError> {
    for (tensor, axis, name) in [(a, 0, "lora_A"), (b, 1, "lora_B")] {
        if tensor.shape.len() != 2 || tensor.shape[axis] != rank || tensor.shape[1 - axis] == 0 {
            let expected = format!("`{name}` with {rank} in dimension {axis} of 2");
            return Err(AdapterError::Shape { module: module.into(), expected, found: tensor.shape.clone() });
        }
    }
    Ok(())
}

/// PEFT's rule for patterns: a key names a module if the module's path ends in it, at a dot.
fn lookup<T: Copy>(pattern: &BTreeMap<String, T>, module: &str) -> Option<T> {
    let names =
        |key: &&String| module.strip_suffix(key.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    pattern.keys().find(names).map(|key| pattern[key])
}

fn target_modules<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Modules {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Modules::deserialize(deserializer)? {
        Modules::List(list) => list,
        Modules::Text(text) if text == "all-linear" => LINEAR_MODULES.map(str::to_owned).to_vec(),
        Modules::Text(pattern) => vec![pattern],
    })
}

/// PEFT's own files have `lora_alpha` as an integer.
fn whole_number<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        serializer.serialize_i64(*value as i64)
    } else {
        serializer.serialize_f64(*value)
    }
}

fn no_bias() -> String {
    "none".to_owned()
}

fn default_init() -> Value {
    Value::Bool(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_adapter;

    #[test]
    fn written_adapter_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let (config, adapters) = tiny_adapter(dir.path());
        let (read, read_adapters) = read_adapter(dir.path()).unwrap();
        assert_eq!(read, config);
        assert_eq!(read_adapters, adapters);
        let file = SafetensorsFile::open(&dir.path().join(ADAPTER_WEIGHTS)).unwrap();
        assert!(file.info("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight").is_some());
    }

    #[test]
    fn scaling_follows_patterns_and_rank_stabilization() {
        let dir = tempfile::tempdir().unwrap();
        let (mut config, _) = tiny_adapter(dir.path());
        let module = "model.layers.1.self_attn.q_proj";
        assert_eq!(config.scaling(module), 2.0); // alpha 8 over rank 4
        config.use_rslora = true;
        assert_eq!(config.scaling(module), 4.0);
        config.rank_pattern.insert("layers.1.self_attn.q_proj".into(), 16);
        config.alpha_pattern.insert("q_proj".into(), 32.0);
        assert_eq!(config.scaling(module), 8.0);
        assert_eq!(config.rank("model.layers.0.self_attn.q_proj"), 4);
        assert_eq!(config.rank("model.layers.11.self_attn.q_proj"), 4); // no match inside a word
    }

    fn config_error(changes: Value) -> String {
        let dir = tempfile::tempdir().unwrap();
        tiny_adapter(dir.path());
        let path = dir.path().join(ADAPTER_CONFIG);
        let mut config: Map<String, Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config.extend(changes.as_object().unwrap().clone());
        write_file(&path, &serde_json::to_vec(&config).unwrap()).unwrap();
        read_adapter(dir.path()).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn what_would_change_the_result_is_refused_by_name() {
        assert_eq!(
            config_error(json!({"use_dora": true})),
            "adapter_config.json: `use_dora`: expected false (merge it with PEFT instead), found `true`"
        );
        for changes in [
            json!({"peft_type": "LOHA"}),
            json!({"bias": "all"}),
            json!({"modules_to_save": ["lm_head"]}),
            json!({"rank_pattern": {"^model.*": 8}}),
            json!({"lora_bias": true}),
            json!({"layers_to_transform": [0]}),
            json!({"r": 0}),
            json!({"r": 8}),
        ] {
            let key = changes.as_object().unwrap().keys().next().unwrap().clone();
            let error = config_error(changes);
            assert!(error.contains(&key) || error.contains("lora_A"), "{key}: {error}");
        }
    }

    #[test]
    fn keys_that_peft_writes_and_are_off_are_read() {
        let dir = tempfile::tempdir().unwrap();
        tiny_adapter(dir.path());
        let path = dir.path().join(ADAPTER_CONFIG);
        let mut config: Map<String, Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let off = json!({"lora_bias": false, "layer_replication": null, "exclude_modules": null, "use_qalora": false,
                         "qalora_group_size": 16, "megatron_core": "megatron.core", "loftq_config": {},
                         "peft_version": "0.21.2", "target_modules": "all-linear", "trainable_token_indices": null});
        config.extend(off.as_object().unwrap().clone());
        write_file(&path, &serde_json::to_vec(&config).unwrap()).unwrap();
        let (config, _) = read_adapter(dir.path()).unwrap();
        assert_eq!(config.target_modules, LINEAR_MODULES);
    }

    #[test]
    fn half_pairs_and_foreign_tensors_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        tiny_adapter(dir.path());
        let path = dir.path().join(ADAPTER_WEIGHTS);
        let a = peft_key("model.layers.0.self_attn.q_proj", "lora_A");
        let write = |name: &str, shape: Vec<usize>| {
            let values = vec![0.0; shape.iter().product()];
            let tensor = RawTensor::from_f32(name, shape, &values);
            write_safetensors(&path, &[tensor.info()], &BTreeMap::new(), &mut |_| Ok(tensor.clone())).unwrap();
            read_adapter(dir.path()).map(|_| ()).unwrap_err().to_string()
        };
        assert_eq!(write(&a, vec![4, 64]), "adapter on `model.layers.0.self_attn.q_proj` has no `lora_B`");
        assert_eq!(
            write("base_model.model.lm_head.lora_A.weight", vec![4, 64]),
            "adapter tensor `base_model.model.lm_head.lora_A.weight` is not a LoRA matrix on a linear layer of a Llama model"
        );
    }

    #[test]
    fn missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = read_adapter(dir.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.ends_with("is not an adapter folder: it has no `adapter_config.json`"), "{error}");
    }
}
