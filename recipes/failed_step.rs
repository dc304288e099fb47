//! A step whose loss or gradient is not finite: what the run leaves to look into it.

use std::path::{Path, PathBuf};

use afina_checkpoint::{RunDir, write_file};
use afina_data::TokenizedExample;
use afina_model::{Llama, LoraSet};
use afina_train::{ExampleLoss, MicroBatch, loss_and_gradient};
use anyhow::{Context, Result};
use burn::tensor::Tensor;
use serde::Serialize;

/// The run stops before the step is applied; the last checkpoint is as it was.
#[derive(Debug, thiserror::Error)]
#[error(
    "step {step}: {fault}; the step was not applied\n  micro-batch {} of {}, {}",
    micro_batch + 1, micro_batches, rows.join("; ")
)]
pub struct StepFailed {
    pub step: usize,
    pub fault: Fault,
    /// From 0.
    pub micro_batch: usize,
    pub micro_batches: usize,
    /// Each row's examples, in words.
    pub rows: Vec<String>,
    /// `failed-step-000123`: the adapter and the optimizer before the step, and `batch.json`.
    pub folder: PathBuf,
}

/// Where the first number that is not finite was found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    #[error("the loss itself is not finite")]
    Loss,
    /// In the order of the backward pass: from the head down.
    #[error("the gradient of `{module}` is not finite (the loss is)")]
    Gradient { module: String },
    #[error("no number of the gradient is infinite, but their sum or its norm is")]
    Sum,
}

/// Computes the micro-batches of a failed step again, one by one, and finds the first that fails: its number, the fault, and
/// the loss of each of its examples.
pub(crate) fn find_fault(
    model: &Llama,
    lora: &LoraSet,
    micro_batches: &[MicroBatch],
    recompute: bool,
) -> (usize, Fault, Vec<ExampleLoss>) {
    let mut first = None;
    for (index, batch) in micro_batches.iter().enumerate() {
        let (loss, gradient) = loss_and_gradient(model, lora, batch, recompute);
        if !loss.nats.is_finite() {
            return (index, Fault::Loss, loss.examples);
        }
        if let Some(module) = not_finite(lora, &gradient) {
            return (index, Fault::Gradient { module }, loss.examples);
        }
        first.get_or_insert(loss.examples);
    }
    (0, Fault::Sum, first.unwrap_or_default())
}

/// The first module, in the order of the backward pass, whose gradient is not finite.
fn not_finite(lora: &LoraSet, gradient: &Tensor<1>) -> Option<String> {
    let values: Vec<f32> = gradient.try_to_vec_as().expect("gradients are f32 on a device that answers");
    let is_broken = |module: &&afina_model::LoraModule| {
        let length = lora.config.r * (module.in_features + module.out_features);
        values[module.offset..module.offset + length].iter().any(|value| !value.is_finite())
    };
    lora.modules.iter().rev().find(is_broken).map(|module| module.path())
}

/// `batch.json`: what it takes to compute the micro-batch again.
#[derive(Serialize)]
struct FailedBatch<'a> {
    step: usize,
    micro_batch: usize,
    learning_rate: f64,
    fault: String,
    /// A row's examples see nothing of each other.
    rows: Vec<Vec<FailedExample<'a>>>,
}

#[derive(Serialize)]
struct FailedExample<'a> {
    file: &'a Path,
    line: usize,
    /// Nats per trained token; null where it is not finite.
    loss: f64,
    tokens: &'a [u32],
    loss_mask: &'a [bool],
}

/// What is known of a failed step.
pub(crate) struct Failed<'a> {
    /// From 1.
    pub(crate) step: usize,
    pub(crate) learning_rate: f64,
    /// The step's micro-batches as rows of examples.
    pub(crate) rows: &'a [Vec<Vec<usize>>],
    pub(crate) examples: &'a [TokenizedExample],
    /// Of each example.
    pub(crate) files: &'a [&'a Path],
}

/// Writes `failed-step-000123/` and returns the error that ends the run. `save` writes the adapter and the optimizer.
pub(crate) fn leave(
    run_dir: &RunDir,
    failed: &Failed<'_>,
    (micro_batch, fault, losses): (usize, Fault, Vec<ExampleLoss>),
    save: impl FnOnce(&Path) -> Result<()>,
) -> Result<StepFailed> {
    let Failed { step, learning_rate, rows: micro_batches, examples, files } = *failed;
    let folder = run_dir.file(&format!("failed-step-{step:06}"));
    let mut losses = losses.into_iter();
    let rows: Vec<Vec<FailedExample<'_>>> = micro_batches[micro_batch]
        .iter()
        .map(|row| {
            let example = |&index: &usize| {
                let TokenizedExample { line, tokens, loss_mask } = &examples[index];
                let loss = losses.next().map_or(f64::NAN, |loss| loss.nats / loss.tokens as f64);
                FailedExample { file: files[index], line: *line, loss, tokens, loss_mask }
            };
            row.iter().map(example).collect()
        })
        .collect();
    let in_words = rows.iter().enumerate().map(|(index, row)| in_words(index, row)).collect();
    let batch = FailedBatch { step, micro_batch, learning_rate, fault: fault.to_string(), rows };
    save(&folder)?;
    write_file(&folder.join("batch.json"), &serde_json::to_vec(&batch)?)
        .with_context(|| format!("failed to write `{}`", folder.display()))?;
    Ok(StepFailed { step, fault, micro_batch, micro_batches: micro_batches.len(), rows: in_words, folder })
}

/// row 1: train.jsonl:17, train.jsonl:4 (loss not finite)
fn in_words(index: usize, row: &[FailedExample<'_>]) -> String {
    let example = |example: &FailedExample<'_>| {
        let mark = if example.loss.is_finite() { "" } else { " (its loss is not finite)" };
        format!("{}:{}{mark}", example.file.display(), example.line)
    };
    format!("row {}: {}", index + 1, row.iter().map(example).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use afina_checkpoint::ModelDir;
    use afina_data::Batch;
    use afina_model::{LoraConfig, load_llama};
    use afina_ops::test_device;
    use afina_train::load_checkpoint;
    use burn::tensor::TensorData;

    use super::*;
    use crate::testing::{model_dir, recipe, train};

    fn model(dir: &Path) -> Llama {
        load_llama(
            &ModelDir::open(&dir.join("base")).unwrap(),
            &test_device(),
            afina_model::Precision::F32,
            &mut |_, _| {},
        )
        .unwrap()
    }

    fn lora_config() -> LoraConfig {
        let target_modules = afina_checkpoint::LINEAR_MODULES.iter().map(|&name| name.to_owned()).collect();
        LoraConfig { r: 4, alpha: 32.0, target_modules }
    }

    #[test]
    fn a_failed_step_can_be_computed_again_from_what_it_left() {
        let dir = tempfile::tempdir().unwrap();
        model_dir(&dir.path().join("base"));
        let recipe = recipe(dir.path(), "r", &["train.learning_rate=1e30", "train.warmup_ratio=0"]);
        let error = train(&recipe, false, None).unwrap_err();
        let failed = error.downcast_ref::<StepFailed>().unwrap_or_else(|| panic!("{error:#}"));
        assert_eq!((failed.step, &failed.fault), (2, &Fault::Loss));

        let model = model(dir.path());
        let (lora, _, state) = load_checkpoint(&failed.folder, &model, lora_config()).unwrap();
        assert_eq!(state.step, 1);
        let json = std::fs::read(failed.folder.join("batch.json")).unwrap();
        let batch: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let list = |value: &serde_json::Value| value.as_array().unwrap().clone();
        let mut examples = Vec::new();
        let mut rows = Vec::new();
        for row in list(&batch["rows"]) {
            let first = examples.len();
            examples.extend(list(&row).iter().map(|example| TokenizedExample {
                line: example["line"].as_u64().unwrap() as usize,
                tokens: list(&example["tokens"]).iter().map(|token| token.as_u64().unwrap() as u32).collect(),
                loss_mask: list(&example["loss_mask"]).iter().map(|trained| trained.as_bool().unwrap()).collect(),
            }));
            rows.push((first..examples.len()).collect());
        }
        let batch = MicroBatch::new(&Batch::new(&examples, &rows));
        let (loss, _) = loss_and_gradient(&model, &lora, &batch, false);
        assert!(!loss.nats.is_finite(), "{loss:?}");
    }

    #[test]
    fn the_module_next_to_the_head_is_the_one_named() {
        let dir = tempfile::tempdir().unwrap();
        model_dir(&dir.path().join("base"));
        let lora = LoraSet::init(&model(dir.path()), lora_config(), 1);
        let broken = |places: &[usize]| {
            let mut values = vec![1f32; lora.parameters()];
            places.iter().for_each(|&at| values[at] = f32::NAN);
            not_finite(&lora, &Tensor::from_data(TensorData::new(values, [lora.parameters()]), &test_device()))
        };
        let offset = |module: usize| lora.modules[module].offset;
        assert_eq!(broken(&[]), None);
        assert_eq!(broken(&[offset(0)]), Some(lora.modules[0].path()));
        assert_eq!(broken(&[offset(0), offset(8) - 1]), Some(lora.modules[7].path()), "the last number of its factors");
        assert_eq!(broken(&[lora.parameters() - 1]).as_deref(), Some("model.layers.1.mlp.down_proj"));
    }
}
