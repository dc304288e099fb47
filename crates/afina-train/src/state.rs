//! What a run needs to go on as if it had never stopped: the adapter, the optimizer's two means, where in the data it was,
//! and what a step under way had accumulated.

use std::path::{Path, PathBuf};

use afina_checkpoint::{
    AdapterConfig, AtomicDir, CHAT_TEMPLATE, RawTensor, SafetensorsFile, read_adapter, write_adapter, write_file,
    write_tensors,
};
use afina_model::{Llama, LoraConfig, LoraSet};
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::{Accumulated, AdamWState, LossSum};

/// `state.json`. The order of the data is a pure function of the seed and the step, so the step is the whole cursor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainState {
    /// Optimizer steps done.
    pub step: usize,
    /// Tokens read since the start.
    pub num_tokens: u64,
    /// Of the last evaluation.
    pub eval_loss: Option<f64>,
    /// The evaluation with the lowest loss, the first of equals.
    pub best: Option<Best>,
    /// Evaluations since then.
    pub evaluations_since_best: usize,
    /// Whether blocks are run again in the backward pass: that rounds otherwise, so the choice is the run's and not the machine's.
    pub recompute: bool,
    /// What must not change under a run: name → sha256 of the base, the template, each data file, the recipe.
    pub fingerprints: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub step: usize,
    pub eval_loss: f64,
}

impl TrainState {
    /// Where a run begins.
    pub fn new(recompute: bool, fingerprints: std::collections::BTreeMap<String, String>) -> TrainState {
        TrainState {
            step: 0,
            num_tokens: 0,
            eval_loss: None,
            best: None,
            evaluations_since_best: 0,
            recompute,
            fingerprints,
        }
    }

    /// Takes note of an evaluation after `step`; says whether it is the best so far. One that is not a number never is.
    pub fn evaluated(&mut self, eval_loss: f64) -> bool {
        self.eval_loss = Some(eval_loss);
        let is_best = self.best.map_or(!eval_loss.is_nan(), |best| eval_loss < best.eval_loss);
        if is_best {
            self.best = Some(Best { step: self.step, eval_loss });
        }
        self.evaluations_since_best = if is_best { 0 } else { self.evaluations_since_best + 1 };
        is_best
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("failed to write the checkpoint `{}`", path.display())]
    Write { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("failed to read the checkpoint file `{}`", path.display())]
    Read { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("`{}`: tensor `{name}` has {found} numbers, the adapter has {expected}", path.display())]
    Length { path: PathBuf, name: &'static str, expected: usize, found: usize },
}

/// Writes `dir` whole or not at all: PEFT's two files, the chat template where it is not the base's,
/// `optimizer.safetensors` and `state.json`.
pub fn save_checkpoint(
    dir: &Path,
    config: &AdapterConfig,
    template: Option<&str>,
    lora: &LoraSet,
    optimizer: &AdamWState,
    state: &TrainState,
) -> Result<(), StateError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| StateError::Write { path: dir.to_owned(), source };
    let new = AtomicDir::create(dir).map_err(|error| failed(error.into()))?;
    write_adapter(new.path(), config, &lora.to_tensors()).map_err(|error| failed(error.into()))?;
    if let Some(template) = template {
        write_file(&new.path().join(CHAT_TEMPLATE), template.as_bytes()).map_err(|error| failed(error.into()))?;
    }
    let moments = [raw("exp_avg", &optimizer.exp_avg), raw("exp_avg_sq", &optimizer.exp_avg_sq)];
    write_tensors(&new.path().join("optimizer.safetensors"), &moments).map_err(|error| failed(error.into()))?;
    let json = serde_json::to_vec_pretty(state).map_err(|error| failed(error.into()))?;
    write_file(&new.path().join("state.json"), &json).map_err(|error| failed(error.into()))?;
    new.commit_replacing().map_err(|error| failed(error.into()))
}

/// Where a checkpoint's run was, and what it depended on.
pub fn read_state(dir: &Path) -> Result<TrainState, StateError> {
    let path = dir.join("state.json");
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| StateError::Read { path: path.clone(), source };
    let json = std::fs::read(&path).map_err(|error| failed(error.into()))?;
    serde_json::from_slice(&json).map_err(|error| failed(error.into()))
}

/// Reads back what [`save_checkpoint`] wrote.
pub fn load_checkpoint(
    dir: &Path,
    model: &Llama,
    config: LoraConfig,
) -> Result<(LoraSet, AdamWState, TrainState), StateError> {
    let failed = |name: &str, source: Box<dyn std::error::Error + Send + Sync>| StateError::Read {
        path: dir.join(name),
        source,
    };
    let (_, tensors) = read_adapter(dir).map_err(|error| failed("adapter_model.safetensors", error.into()))?;
    let lora = LoraSet::from_tensors(model, config, &tensors)
        .map_err(|error| failed("adapter_model.safetensors", error.into()))?;

    let state = read_state(dir)?;

    let path = dir.join("optimizer.safetensors");
    let file = SafetensorsFile::open(&path).map_err(|error| failed("optimizer.safetensors", error.into()))?;
    let moment = |name| flat(&file, &path, name, &lora);
    let optimizer = AdamWState { exp_avg: moment("exp_avg")?, exp_avg_sq: moment("exp_avg_sq")?, steps: state.step };
    Ok((lora, optimizer, state))
}

/// `partial.json`: all of an [`Accumulated`] but its gradient, and the step it follows.
#[derive(Serialize, Deserialize)]
struct Partial {
    after_step: usize,
    micro_batches: usize,
    tokens: usize,
    loss: LossSum,
}

/// Writes what a step under way has accumulated since `after_step` to the folder `dir`, whole or not at all.
pub fn save_partial(dir: &Path, after_step: usize, step: &Accumulated) -> Result<(), StateError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| StateError::Write { path: dir.to_owned(), source };
    let new = AtomicDir::create(dir).map_err(|error| failed(error.into()))?;
    let gradient: Vec<RawTensor> = step.gradient.iter().map(|gradient| raw("gradient", gradient)).collect();
    write_tensors(&new.path().join("gradient.safetensors"), &gradient).map_err(|error| failed(error.into()))?;
    let Accumulated { micro_batches, tokens, loss, .. } = step.clone();
    let json = serde_json::to_vec_pretty(&Partial { after_step, micro_batches, tokens, loss });
    let json = json.map_err(|error| failed(error.into()))?;
    write_file(&new.path().join("partial.json"), &json).map_err(|error| failed(error.into()))?;
    new.commit_replacing().map_err(|error| failed(error.into()))
}

/// Reads back what [`save_partial`] wrote; nothing where there is none, or one of another step than the one after `after_step`.
pub fn load_partial(dir: &Path, after_step: usize, lora: &LoraSet) -> Result<Option<Accumulated>, StateError> {
    let path = dir.join("partial.json");
    if !path.is_file() {
        return Ok(None);
    }
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| StateError::Read { path: path.clone(), source };
    let json = std::fs::read(&path).map_err(|error| failed(error.into()))?;
    let partial: Partial = serde_json::from_slice(&json).map_err(|error| failed(error.into()))?;
    if partial.after_step != after_step {
        return Ok(None);
    }
    let path = dir.join("gradient.safetensors");
    let file =
        SafetensorsFile::open(&path).map_err(|error| StateError::Read { path: path.clone(), source: error.into() })?;
    let gradient = Some(flat(&file, &path, "gradient", lora)?);
    let Partial { micro_batches, tokens, loss, .. } = partial;
    Ok(Some(Accumulated { micro_batches, loss, tokens, gradient }))
}

fn raw(name: &str, values: &Tensor<1>) -> RawTensor {
    let values: Vec<f32> = values.try_to_vec_as().expect("a run's tensors are f32 on a device that answers");
    RawTensor::from_f32(name.to_owned(), vec![values.len()], &values)
}

/// A tensor with one number for each of the adapter's.
fn flat(file: &SafetensorsFile, path: &Path, name: &'static str, lora: &LoraSet) -> Result<Tensor<1>, StateError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| StateError::Read { path: path.to_owned(), source };
    let tensor = file.read(name).map_err(|error| failed(error.into()))?;
    let values = tensor.to_f32().map_err(|error| failed(error.into()))?;
    let (expected, found) = (lora.parameters(), values.len());
    if expected != found {
        return Err(StateError::Length { path: path.to_owned(), name, expected, found });
    }
    Ok(Tensor::from_data(TensorData::new(values, [found]), &lora.values.device()))
}
