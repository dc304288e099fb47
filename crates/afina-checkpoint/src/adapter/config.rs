//! adapter_config.json. Nothing is passed over: a key that would change the result and is not obeyed is refused by name.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::AdapterError;
use super::patterns::Patterns;
use crate::names::LINEAR_MODULES;

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
    pub rank_pattern: Patterns<usize>,
    #[serde(default)]
    pub alpha_pattern: Patterns<f64>,
    #[serde(default)]
    pub modules_to_save: Option<Vec<String>>,
    /// Whether what replaces a tied head's embeddings replaces the head, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ensure_weight_tying: bool,
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
            rank_pattern: Patterns::default(),
            alpha_pattern: Patterns::default(),
            modules_to_save: None,
            ensure_weight_tying: false,
            fan_in_fan_out: false,
            init_lora_weights: default_init(),
            afina: Some(trained_with),
        }
    }

    /// Reads adapter_config.json alone.
    pub fn read(path: &Path) -> Result<AdapterConfig, AdapterError> {
        let bytes = fs::read(path).map_err(|source| AdapterError::Io { path: path.into(), source })?;
        let json_error = |source| AdapterError::Json { path: path.into(), source };
        let object: Map<String, Value> = serde_json::from_slice(&bytes).map_err(json_error)?;
        refuse_unknown_keys(&object)?;
        let config = AdapterConfig::deserialize(Value::Object(object)).map_err(json_error)?;
        config.check()?;
        Ok(config)
    }

    /// The rank on a module: `rank_pattern`'s, else `r`.
    pub fn rank(&self, module: &str) -> usize {
        self.rank_pattern.lookup(module).unwrap_or(self.r)
    }

    /// What B·A is multiplied by on a module: alpha / r, or alpha / √r with `use_rslora`.
    pub fn scaling(&self, module: &str) -> f64 {
        let rank = self.rank(module) as f64;
        let alpha = self.alpha_pattern.lookup(module).unwrap_or(self.lora_alpha);
        if self.use_rslora { alpha / rank.sqrt() } else { alpha / rank }
    }

    /// Takes the rank of a module from its factors where several patterns match it: PEFT writes patterns in another order
    /// than it trained with, by their names. Several values of alpha are refused: nothing tells which it was.
    pub(super) fn settle(&mut self, module: &str, rank: usize) -> Result<(), AdapterError> {
        if self.rank(module) != rank && self.rank_pattern.matching(module).any(|value| value == rank) {
            self.rank_pattern.set(module, rank);
        }
        let alphas: Vec<f64> = self.alpha_pattern.matching(module).collect();
        match alphas.iter().find(|alpha| **alpha != alphas[0]) {
            Some(other) => Err(AdapterError::Unsupported {
                key: "alpha_pattern".into(),
                expected: "one value for each module",
                found: format!("{} and {other} for {module}", alphas[0]),
            }),
            None => Ok(()),
        }
    }

    pub(super) fn check(&self) -> Result<(), AdapterError> {
        let refuse =
            |key: &str, expected, found: String| Err(AdapterError::Unsupported { key: key.into(), expected, found });
        if self.peft_type != "LORA" {
            return refuse("peft_type", "LORA", self.peft_type.clone());
        }
        for (key, zero) in [("r", self.r == 0), ("rank_pattern", self.rank_pattern.values().any(|r| r == 0))] {
            if zero {
                return refuse(key, "ranks above 0", "0".into());
            }
        }
        if !self.lora_alpha.is_finite() || self.alpha_pattern.values().any(|alpha| !alpha.is_finite()) {
            return refuse("lora_alpha", "a finite number", self.lora_alpha.to_string());
        }
        if self.bias != "none" {
            return refuse("bias", "none", self.bias.clone());
        }
        if self.fan_in_fan_out {
            return refuse("fan_in_fan_out", "false", "true".into());
        }
        if let Some(init) = self.init_lora_weights.as_str().filter(|init| changes_the_base(init)) {
            let expected = "an adapter over the base's own weights (PEFT's `save_pretrained` writes one with \
                            `path_initial_model_for_weight_conversion`)";
            return refuse("init_lora_weights", expected, init.to_owned());
        }
        for (key, pattern) in
            [("rank_pattern", self.rank_pattern.unreadable()), ("alpha_pattern", self.alpha_pattern.unreadable())]
        {
            if let Some(pattern) = pattern {
                let expected = "regular expressions of modest size, without look-around or back references";
                return refuse(key, expected, pattern.to_owned());
            }
        }
        Ok(())
    }
}

/// Whether PEFT takes a part out of the base's weights where training with this initialization begins: what is left, and
/// not the base, is what such an adapter was trained on.
fn changes_the_base(init: &str) -> bool {
    let init = init.to_lowercase();
    ["pissa", "olora", "corda", "loftq", "lora_ga"].iter().any(|start| init.starts_with(start))
}

/// Keys of PEFT's config that change nothing in a finished LoRA adapter: its tensors tell which modules it is on.
const HARMLESS: [&str; 14] = [
    "peft_version",
    "auto_mapping",
    "megatron_core",
    "megatron_config",
    "layers_pattern",
    "layers_to_transform",
    "exclude_modules",
    "runtime_config",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "velora_config",
    "qalora_group_size",
];

fn refuse_unknown_keys(object: &Map<String, Value>) -> Result<(), AdapterError> {
    let trained_with =
        TrainedWith { base_sha256: String::new(), template_sha256: String::new(), version: String::new() };
    let known = json!(AdapterConfig {
        ensure_weight_tying: true,
        ..AdapterConfig::lora(1, 1.0, Vec::new(), String::new(), trained_with)
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
    use crate::adapter::{ADAPTER_CONFIG, Adapter, read_adapter};
    use crate::atomic::write_file;
    use crate::testing::tiny_adapter;

    #[test]
    fn scaling_follows_patterns_and_rank_stabilization() {
        let dir = tempfile::tempdir().unwrap();
        let (mut config, _) = tiny_adapter(dir.path());
        let module = "model.layers.1.self_attn.q_proj";
        assert_eq!(config.scaling(module), 2.0); // alpha 8 over rank 4
        config.use_rslora = true;
        assert_eq!(config.scaling(module), 4.0);
        config.rank_pattern.push("layers.1.self_attn.q_proj", 16);
        config.alpha_pattern.push("q_proj", 32.0);
        assert_eq!(config.scaling(module), 8.0);
        assert_eq!(config.rank("model.layers.0.self_attn.q_proj"), 4);
        assert_eq!(config.rank("model.layers.11.self_attn.q_proj"), 4); // no match inside a word
    }

    fn change(folder: &Path, changes: Value) {
        let path = folder.join(ADAPTER_CONFIG);
        let mut config: Map<String, Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config.extend(changes.as_object().unwrap().clone());
        write_file(&path, &serde_json::to_vec(&config).unwrap()).unwrap();
    }

    #[test]
    fn what_would_change_the_result_is_refused_by_name() {
        let error = |changes: &Value| {
            let dir = tempfile::tempdir().unwrap();
            tiny_adapter(dir.path());
            change(dir.path(), changes.clone());
            Adapter::open(dir.path()).map(|_| ()).unwrap_err().to_string()
        };
        assert_eq!(error(&json!({"bias": "all"})), "adapter_config.json: `bias`: expected none, found `all`");
        for changes in [
            json!({"peft_type": "LOHA"}),
            json!({"rank_pattern": {"(?!model)x": 8}}),
            json!({"lora_bias": true}),
            json!({"target_parameters": ["experts.weight"]}),
            json!({"layer_replication": [[0, 2]]}),
            json!({"trainable_token_indices": [1, 2]}),
            json!({"use_qalora": true}),
            json!({"alora_invocation_tokens": [1]}),
            json!({"init_lora_weights": "pissa_niter_16"}),
            json!({"init_lora_weights": "olora"}),
            json!({"init_lora_weights": "loftq"}),
            json!({"modules_to_save": ["lm_head"]}),
            json!({"r": 0}),
            json!({"r": 8}),
        ] {
            let key = changes.as_object().unwrap().keys().next().unwrap().clone();
            let error = error(&changes);
            assert!(error.contains(&format!("`{key}`")) || error.contains("lora_A"), "{key}: {error}");
        }
    }

    #[test]
    fn of_several_patterns_the_factors_tell_the_rank_and_nothing_tells_alpha() {
        let dir = tempfile::tempdir().unwrap();
        tiny_adapter(dir.path());
        change(dir.path(), json!({"rank_pattern": {"down_proj": 16, "layers.0.mlp.down_proj": 4}, "r": 4}));
        let error = Adapter::open(dir.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("layers.1.mlp.down_proj`: expected `lora_A` with 16"), "{error}");
        change(dir.path(), json!({"rank_pattern": {"down_proj": 16, ".*down_proj": 4}}));
        let adapter = Adapter::open(dir.path()).unwrap();
        assert_eq!(adapter.config.rank("model.layers.1.mlp.down_proj"), 4);
        assert_eq!(adapter.config.rank("down_proj"), 16);
        change(dir.path(), json!({"alpha_pattern": {"down_proj": 1, ".*down_proj": 2}}));
        let error = Adapter::open(dir.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("found `1 and 2 for model.layers.0.mlp.down_proj`"), "{error}");
    }

    #[test]
    fn keys_that_peft_writes_and_are_off_are_read() {
        let dir = tempfile::tempdir().unwrap();
        tiny_adapter(dir.path());
        change(
            dir.path(),
            json!({"lora_bias": false, "layer_replication": null, "exclude_modules": null, "use_qalora": false,
                   "qalora_group_size": 16, "megatron_core": "megatron.core", "loftq_config": {},
                   "peft_version": "0.21.2", "target_modules": "all-linear", "trainable_token_indices": null,
                   "init_lora_weights": "gaussian", "layers_to_transform": [0, 1], "ensure_weight_tying": false}),
        );
        let (config, _) = read_adapter(dir.path()).unwrap();
        assert_eq!(config.target_modules, LINEAR_MODULES);
    }
}
