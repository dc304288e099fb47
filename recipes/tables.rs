//! The tables of a recipe file, with what each key is when it is not given.

use std::path::PathBuf;

use afina_train::LrScheduler;
use serde::{Deserialize, Serialize};

use crate::excess::ExcessLength;
use crate::train_file::TrainFile;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelTable {
    /// A Hugging Face model folder.
    pub base: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoraTable {
    pub r: usize,
    pub alpha: f64,
    pub target_modules: TargetModules,
}

/// `"all-linear"`, or names of projections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetModules {
    Word(String),
    Names(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataTable {
    pub train: Vec<TrainFile>,
    #[serde(default)]
    pub validation: Vec<PathBuf>,
    /// `model` (its own), the name of a template that comes with this program, or the path of a .jinja file.
    #[serde(default = "default_chat_template")]
    pub chat_template: String,
    #[serde(default = "default_train_on")]
    pub train_on: String,
    /// Tokens in a packed row, and the longest example allowed.
    #[serde(default = "default_seq_len")]
    pub seq_len: usize,
    /// What becomes of a longer one.
    #[serde(default)]
    pub excess_length: ExcessLength,
    #[serde(default = "yes")]
    pub packing: bool,
    #[serde(default = "yes")]
    pub shuffle: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainTable {
    pub epochs: usize,
    /// Optimizer steps; overrides `epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
    pub micro_batch_size: usize,
    pub gradient_accumulation_steps: usize,
    pub optimizer: String,
    pub learning_rate: f64,
    pub lr_scheduler: LrScheduler,
    pub warmup_ratio: f64,
    pub min_lr_ratio: f64,
    pub weight_decay: f64,
    pub betas: [f64; 2],
    pub eps: f64,
    pub max_grad_norm: f64,
    /// `on`, `off` or `auto` (on when a run that keeps every activation would not fit into the memory that can be had).
    pub gradient_checkpointing: String,
    /// `f32`, `bf16` or `auto` (as the checkpoint has them): how the base's weights are kept. Activations and the adapter are f32;
    /// a processor that multiplies bf16 rounds what it multiplies with a bf16 weight.
    pub precision: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EvalTable {
    /// 0: only at the end.
    pub every_steps: usize,
    /// Prompts that the model answers at each evaluation.
    pub samples: Vec<String>,
}

/// Stops when the validation loss has not become better for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlyStoppingTable {
    /// Evaluations in a row without a new lowest loss.
    pub patience: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SaveTable {
    /// 0: only at the end.
    pub every_steps: usize,
    /// The newest checkpoints kept; 0 keeps all.
    pub keep: usize,
    /// Keep the checkpoint with the lowest validation loss too, and make it the finished adapter.
    pub best: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceTable {
    /// `auto`, `cpu`, `cuda[:N]` or `wgpu[:N]`.
    pub device: String,
    /// CPU threads; 0 takes every core.
    pub threads: usize,
    /// A run whose forecast is above this much memory is refused: `7.5GB`; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub memory_limit: String,
}

/// What else to write when the run is over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExportTable {
    /// `peft`, `hf`, `gguf:q8_0`, `gguf:q4_k_m` or another of llama.cpp's types.
    #[serde(rename = "as")]
    pub kinds: Vec<String>,
}

impl Default for LoraTable {
    fn default() -> LoraTable {
        LoraTable { r: 16, alpha: 32.0, target_modules: TargetModules::Word("all-linear".to_owned()) }
    }
}

impl Default for TrainTable {
    fn default() -> TrainTable {
        TrainTable {
            epochs: 3,
            max_steps: None,
            micro_batch_size: 4,
            gradient_accumulation_steps: 4,
            optimizer: "adamw".to_owned(),
            learning_rate: 2e-4,
            lr_scheduler: LrScheduler::Cosine,
            warmup_ratio: 0.03,
            min_lr_ratio: 0.1,
            weight_decay: 0.01,
            betas: [0.9, 0.999],
            eps: 1e-8,
            max_grad_norm: 1.0,
            gradient_checkpointing: "auto".to_owned(),
            precision: "auto".to_owned(),
        }
    }
}

impl Default for EvalTable {
    fn default() -> EvalTable {
        EvalTable { every_steps: 50, samples: Vec::new() }
    }
}

impl Default for SaveTable {
    fn default() -> SaveTable {
        SaveTable { every_steps: 50, keep: 3, best: false }
    }
}

impl Default for DeviceTable {
    fn default() -> DeviceTable {
        DeviceTable { device: "auto".to_owned(), threads: 0, memory_limit: String::new() }
    }
}

fn default_chat_template() -> String {
    "model".to_owned()
}

fn default_train_on() -> String {
    "assistant".to_owned()
}

fn default_seq_len() -> usize {
    2048
}

fn yes() -> bool {
    true
}
