//! `LlamaConfig`: what config.json says of a Llama model, with its own field names, checked once.

use serde_json::{Map, Value, json};

/// The shape of a Llama model. Field names are those of Hugging Face's `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    /// Width of one attention head; `hidden_size / num_attention_heads` unless config.json says otherwise.
    pub head_dim: usize,
    pub vocab_size: usize,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub rope_scaling: Option<RopeScaling>,
    pub tie_word_embeddings: bool,
    pub bos_token_id: Option<u32>,
    /// One or several; empty if config.json names none.
    pub eos_token_id: Vec<u32>,
}

/// How rotary frequencies are stretched beyond the context a model was trained on.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Every position divided by `factor`.
    Linear { factor: f64 },
    /// Llama 3.1's: low frequencies divided by `factor`, high ones kept, a smooth blend between.
    Llama3 { factor: f64, low_freq_factor: f64, high_freq_factor: f64, original_max_position_embeddings: usize },
}

/// Why a config.json is not that of a model this project can run.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ConfigError {
    #[error("config.json: expected an object, found {found}")]
    NotObject { found: String },
    #[error("config.json: architecture `{found}` is not supported, expected `LlamaForCausalLM`")]
    Architecture { found: String },
    #[error("config.json: `{key}` is missing")]
    Missing { key: &'static str },
    #[error("config.json: `{key}`: expected {expected}, found `{found}`")]
    Value { key: &'static str, expected: &'static str, found: String },
}

/// Sizes above this are taken for damage; with `MAX_LAYERS` it keeps the number of parameters inside 64 bits.
const MAX_SIZE: u64 = 1 << 24;
const MAX_LAYERS: usize = 4096;

impl LlamaConfig {
    /// Reads a config.json: classic `rope_theta` + `rope_scaling`, or transformers 5's `rope_parameters`.
    ///
    /// What the model code here does not do (biases, another activation, another rope scaling) is refused.
    pub fn from_json(value: &Value) -> Result<LlamaConfig, ConfigError> {
        let object = value.as_object().ok_or_else(|| ConfigError::NotObject { found: shorten(value) })?;
        check_architecture(object)?;
        for key in ["attention_bias", "mlp_bias"] {
            expect(object, key, "false", |value| value == &Value::Bool(false))?;
        }
        expect(object, "hidden_act", "silu", |value| value == "silu")?;

        let hidden_size = size(object, "hidden_size")?.ok_or(ConfigError::Missing { key: "hidden_size" })?;
        let required = |key| size(object, key)?.ok_or(ConfigError::Missing { key });
        let num_attention_heads = required("num_attention_heads")?;
        let rope = Rope::from_json(object)?;
        let config = LlamaConfig {
            hidden_size,
            intermediate_size: required("intermediate_size")?,
            num_hidden_layers: required("num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads: size(object, "num_key_value_heads")?.unwrap_or(num_attention_heads),
            head_dim: size(object, "head_dim")?.unwrap_or(hidden_size / num_attention_heads),
            vocab_size: required("vocab_size")?,
            max_position_embeddings: size(object, "max_position_embeddings")?.unwrap_or(2048),
            rms_norm_eps: number(object, "rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta: rope.theta,
            rope_scaling: rope.scaling,
            tie_word_embeddings: match present(object, "tie_word_embeddings") {
                None => false,
                Some(value) => value.as_bool().ok_or_else(|| bad("tie_word_embeddings", "true or false", value))?,
            },
            bos_token_id: token_ids(object, "bos_token_id")?.first().copied(),
            eos_token_id: token_ids(object, "eos_token_id")?,
        };
        config.check()?;
        Ok(config)
    }

    /// The config.json of this model, classic keys that every version of transformers reads.
    pub fn to_json(&self) -> Value {
        let eos = match self.eos_token_id[..] {
            [] => Value::Null,
            [id] => json!(id),
            ref ids => json!(ids),
        };
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": eos,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "mlp_bias": false,
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": self.rope_scaling.as_ref().map(RopeScaling::to_json),
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": "float32",
            "use_cache": true,
            "vocab_size": self.vocab_size,
        })
    }

    /// Number of parameters, a tied head counted once.
    pub fn parameters(&self) -> u64 {
        crate::names::expected_tensors(self)
            .iter()
            .map(|(_, shape)| shape.iter().map(|dim| *dim as u64).product::<u64>())
            .sum()
    }

    /// Checks how the numbers go together; `from_json` and the GGUF reader both end here.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let found = |value: f64| value.to_string();
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let expected = "a divisor of `num_attention_heads`";
            return Err(ConfigError::Value {
                key: "num_key_value_heads",
                expected,
                found: self.num_key_value_heads.to_string(),
            });
        }
        let width = self.head_dim.saturating_mul(self.num_attention_heads);
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) || width as u64 > MAX_SIZE {
            let found = self.head_dim.to_string();
            let expected = "an even number above 0, its product with the heads at most 2^24";
            return Err(ConfigError::Value { key: "head_dim", expected, found });
        }
        if self.num_hidden_layers > MAX_LAYERS {
            let found = self.num_hidden_layers.to_string();
            return Err(ConfigError::Value { key: "num_hidden_layers", expected: "at most 4096", found });
        }
        let positive = [
            ("rms_norm_eps", self.rms_norm_eps),
            ("rope_theta", self.rope_theta),
            (
                "factor",
                match &self.rope_scaling {
                    Some(RopeScaling::Linear { factor } | RopeScaling::Llama3 { factor, .. }) => *factor,
                    None => 1.0,
                },
            ),
        ];
        for (key, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Err(ConfigError::Value { key, expected: "a number above 0", found: found(value) });
            }
        }
        if let Some(RopeScaling::Llama3 { low_freq_factor, high_freq_factor, .. }) = self.rope_scaling
            && !(low_freq_factor > 0.0 && high_freq_factor > low_freq_factor && high_freq_factor.is_finite())
        {
            return Err(ConfigError::Value {
                key: "high_freq_factor",
                expected: "a number above `low_freq_factor`, itself above 0",
                found: found(high_freq_factor),
            });
        }
        Ok(())
    }
}

impl RopeScaling {
    fn to_json(&self) -> Value {
        match self {
            RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                json!({
                    "rope_type": "llama3",
                    "factor": factor,
                    "low_freq_factor": low_freq_factor,
                    "high_freq_factor": high_freq_factor,
                    "original_max_position_embeddings": original_max_position_embeddings,
                })
            }
        }
    }

    /// What each rotary frequency is divided by, `head_dim / 2` numbers in f32.
    ///
    /// Source: transformers `modeling_rope_utils.py`, `_compute_llama3_parameters`.
    pub fn factors(&self, head_dim: usize, rope_theta: f64) -> Vec<f32> {
        (0..head_dim / 2)
            .map(|i| match *self {
                RopeScaling::Linear { factor } => factor as f32,
                RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                    let frequency = rope_theta.powf(-((2 * i) as f64) / head_dim as f64);
                    let wavelength = 2.0 * std::f64::consts::PI / frequency;
                    let turns = original_max_position_embeddings as f64 / wavelength;
                    if turns > high_freq_factor {
                        1.0
                    } else if turns < low_freq_factor {
                        factor as f32
                    } else {
                        let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                        (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
                    }
                }
            })
            .collect()
    }
}

struct Rope {
    theta: f64,
    scaling: Option<RopeScaling>,
}

impl Rope {
    fn from_json(config: &Map<String, Value>) -> Result<Rope, ConfigError> {
        let as_object = |key: &'static str| match present(config, key) {
            None => Ok(None),
            Some(value) => value.as_object().map(Some).ok_or_else(|| bad(key, "an object", value)),
        };
        let parameters = as_object("rope_parameters")?;
        let theta = match parameters {
            Some(parameters) => number(parameters, "rope_theta")?,
            None => None,
        };
        let theta = match theta {
            Some(theta) => theta,
            None => number(config, "rope_theta")?.unwrap_or(10_000.0),
        };
        let Some(scaling) = parameters.or(as_object("rope_scaling")?) else {
            return Ok(Rope { theta, scaling: None });
        };
        // transformers before 4.43 wrote `type`.
        let kind = present(scaling, "rope_type").or_else(|| present(scaling, "type"));
        let required = |key| number(scaling, key)?.ok_or(ConfigError::Missing { key });
        let scaling = match kind.and_then(Value::as_str) {
            None | Some("default") => None,
            Some("linear") => Some(RopeScaling::Linear { factor: required("factor")? }),
            Some("llama3") => Some(RopeScaling::Llama3 {
                factor: required("factor")?,
                low_freq_factor: required("low_freq_factor")?,
                high_freq_factor: required("high_freq_factor")?,
                original_max_position_embeddings: size(scaling, "original_max_position_embeddings")?
                    .ok_or(ConfigError::Missing { key: "original_max_position_embeddings" })?,
            }),
            Some(other) => {
                let found = other.to_owned();
                return Err(ConfigError::Value { key: "rope_type", expected: "default, linear or llama3", found });
            }
        };
        Ok(Rope { theta, scaling })
    }
}

fn check_architecture(config: &Map<String, Value>) -> Result<(), ConfigError> {
    if let Some(names) = present(config, "architectures") {
        let names: Vec<_> = names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !names.is_empty() && !names.contains(&"LlamaForCausalLM") {
            return Err(ConfigError::Architecture { found: names.join(", ") });
        }
    }
    match present(config, "model_type") {
        Some(Value::String(kind)) if kind == "llama" => Ok(()),
        Some(other) => Err(ConfigError::Architecture { found: shorten(other).trim_matches('"').to_owned() }),
        None => Err(ConfigError::Missing { key: "model_type" }),
    }
}

fn expect(
    object: &Map<String, Value>,
    key: &'static str,
    expected: &'static str,
    accept: impl Fn(&Value) -> bool,
) -> Result<(), ConfigError> {
    match present(object, key) {
        Some(value) if !accept(value) => Err(bad(key, expected, value)),
        _ => Ok(()),
    }
}

/// The value of a key that is there and not null.
fn present<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

fn size(object: &Map<String, Value>, key: &'static str) -> Result<Option<usize>, ConfigError> {
    let Some(value) = present(object, key) else { return Ok(None) };
    // transformers reads a float that is whole (8192.0) as well.
    let whole = value.as_u64().or_else(|| value.as_f64().filter(|x| x.fract() == 0.0 && *x > 0.0).map(|x| x as u64));
    match whole {
        Some(n) if n > 0 && n <= MAX_SIZE => Ok(Some(n as usize)),
        _ => Err(bad(key, "a whole number from 1 to 2^24", value)),
    }
}

fn number(object: &Map<String, Value>, key: &'static str) -> Result<Option<f64>, ConfigError> {
    match present(object, key) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| bad(key, "a number", value)),
    }
}

fn token_ids(object: &Map<String, Value>, key: &'static str) -> Result<Vec<u32>, ConfigError> {
    let Some(value) = present(object, key) else { return Ok(Vec::new()) };
    let list = match value {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    list.iter()
        .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
        .collect::<Option<Vec<u32>>>()
        .ok_or_else(|| bad(key, "a token id or a list of them", value))
}

fn bad(key: &'static str, expected: &'static str, found: &Value) -> ConfigError {
    ConfigError::Value { key, expected, found: shorten(found) }
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(57).chain("...".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama(changes: Value) -> Value {
        let mut config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,
            "eos_token_id": 2,
        });
        let object = config.as_object_mut().unwrap();
        for (key, value) in changes.as_object().unwrap() {
            object.insert(key.clone(), value.clone());
        }
        config
    }

    fn error(changes: Value) -> String {
        LlamaConfig::from_json(&llama(changes)).unwrap_err().to_string()
    }

    #[test]
    fn what_is_left_out_has_transformers_defaults() {
        let config = LlamaConfig::from_json(&llama(json!({}))).unwrap();
        assert_eq!((config.head_dim, config.max_position_embeddings), (16, 2048));
        assert_eq!((config.rms_norm_eps, config.rope_theta), (1e-6, 10_000.0));
        assert_eq!((config.rope_scaling.clone(), config.tie_word_embeddings), (None, false));
        assert_eq!((config.bos_token_id, config.eos_token_id.clone()), (None, vec![2]));
        // embeddings and head, two norms and seven matrices a layer, last norm
        assert_eq!(config.parameters(), 2 * 6400 + 2 * (128 + 2 * 4096 + 2 * 2048 + 3 * 8192) + 64);
    }

    #[test]
    fn both_ways_to_write_rope_give_the_same() {
        let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 8192});
        let classic = llama(json!({"rope_theta": 500000.0, "rope_scaling": scaling}));
        let mut parameters = scaling.clone();
        parameters["rope_theta"] = json!(500000.0);
        let new = llama(json!({"rope_parameters": parameters}));
        let config = LlamaConfig::from_json(&classic).unwrap();
        assert_eq!(config, LlamaConfig::from_json(&new).unwrap());
        assert_eq!(config.rope_theta, 500000.0);
        assert_eq!(config, LlamaConfig::from_json(&config.to_json()).unwrap());
    }

    #[test]
    fn several_ends_of_turn_and_old_scaling_names_are_read() {
        let changes =
            json!({"eos_token_id": [7, 8], "bos_token_id": 1, "rope_scaling": {"type": "linear", "factor": 4}});
        let config = LlamaConfig::from_json(&llama(changes)).unwrap();
        assert_eq!(config.eos_token_id, [7, 8]);
        assert_eq!(config.rope_scaling, Some(RopeScaling::Linear { factor: 4.0 }));
        assert_eq!(config, LlamaConfig::from_json(&config.to_json()).unwrap());
    }

    #[test]
    fn llama3_factors_go_from_one_to_the_factor() {
        let scaling = RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        let factors = scaling.factors(64, 500_000.0);
        assert_eq!((factors[0], factors[31], factors.len()), (1.0, 32.0, 32));
        assert!(factors.is_sorted());
        assert!(factors.iter().any(|factor| (1.5..30.0).contains(factor)));
    }

    #[test]
    fn what_the_model_code_does_not_do_is_refused_by_name() {
        assert_eq!(
            error(json!({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"})),
            "config.json: architecture `Qwen2ForCausalLM` is not supported, expected `LlamaForCausalLM`"
        );
        assert_eq!(
            error(json!({"attention_bias": true})),
            "config.json: `attention_bias`: expected false, found `true`"
        );
        assert_eq!(error(json!({"hidden_act": "gelu"})), "config.json: `hidden_act`: expected silu, found `\"gelu\"`");
        assert_eq!(
            error(json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}})),
            "config.json: `rope_type`: expected default, linear or llama3, found `yarn`"
        );
    }

    #[test]
    fn numbers_that_do_not_go_together_are_refused() {
        assert_eq!(error(json!({"hidden_size": null})), "config.json: `hidden_size` is missing");
        for changes in [
            json!({"hidden_size": 0}),
            json!({"hidden_size": -4}),
            json!({"hidden_size": 1e300}),
            json!({"num_key_value_heads": 3}),
            json!({"head_dim": 7}),
            json!({"rms_norm_eps": 0}),
            json!({"eos_token_id": -1}),
            json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}),
        ] {
            assert!(LlamaConfig::from_json(&llama(changes.clone())).is_err(), "{changes}");
        }
        assert_eq!(LlamaConfig::from_json(&json!([1])).unwrap_err(), ConfigError::NotObject { found: "[1]".into() });
    }
}
