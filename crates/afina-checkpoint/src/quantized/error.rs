//! Why quantized weights are not read, and what to do about it.

use crate::safetensors::ReadError;
use crate::tensor::TensorError;

/// Why the quantized weights of a folder are not read.
#[derive(Debug, thiserror::Error)]
pub enum QuantizationError {
    #[error("weights quantized with `{scheme}` are not read, expected bitsandbytes nf4, gptq or awq")]
    Scheme { scheme: String },
    #[error("`quantization_config`: `{key}`: expected {expected}, found `{found}`")]
    Setting { key: &'static str, expected: &'static str, found: String },
    #[error("config.json has no `quantization_config`, and `{name}` is a part of a quantized weight")]
    Unsaid { name: String },
    #[error("config.json says that weights are quantized with {scheme}, and `{name}` is a part of another scheme")]
    OtherScheme { scheme: String, name: String },
    #[error("the quantized weight of `{module}` has no `{missing}`")]
    MissingPart { module: String, missing: String },
    #[error("tensor `{name}`: expected {expected}, found {found}")]
    Part { name: String, expected: String, found: String },
    #[error("`{name}` is not the JSON of a quantization state")]
    State { name: String, source: serde_json::Error },
    #[error("`{name}`: `{key}`: expected {expected}, found `{found}`")]
    StateValue { name: String, key: &'static str, expected: String, found: String },
    #[error("`{name}` puts input {input} into group {found}, and there are {groups} groups")]
    Group { name: String, input: usize, found: i32, groups: usize },
    #[error("`{name}` is not zero, and a Llama's linear layers have no bias")]
    Bias { name: String },
    #[error("failed to read the weights")]
    Read(#[from] ReadError),
    #[error("failed to decode the weights")]
    Values(#[from] TensorError),
}

impl QuantizationError {
    /// What to do about it, where there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            QuantizationError::Scheme { .. } | QuantizationError::Setting { .. } => Some(
                "take the model that it was made from, unquantized; or dequantize it once with the program that wrote it \
                 (transformers: `model.dequantize()`, then `save_pretrained`)",
            ),
            QuantizationError::Unsaid { .. } => Some(
                "put the scheme into config.json as `quantization_config`, as transformers writes it (`quantize_config.json` \
                 or the model's card tell it)",
            ),
            QuantizationError::OtherScheme { .. }
            | QuantizationError::MissingPart { .. }
            | QuantizationError::Part { .. }
            | QuantizationError::StateValue { .. } => Some(
                "config.json and the weights come from different models, or the weights are damaged: fetch both again",
            ),
            _ => None,
        }
    }
}
