//! Step 0 is the worst step: the run goes once through everything that is largest in it, so that what would fail later fails
//! before the first step. It leaves nothing behind and changes nothing of the run.

use std::path::Path;
use std::time::Instant;

use afina_checkpoint::{AtomicDir, RunDir};
use afina_model::{Llama, LoraSet};
use afina_train::{AdamWState, MicroBatch, TrainSettings, evaluate, peak_memory_bytes, train_step};
use anyhow::{Context, Result, bail};

/// What the rehearsal took.
#[derive(Debug, Clone, Copy)]
pub struct Rehearsal {
    pub seconds: f64,
    /// Largest resident memory of the process so far, bytes.
    pub peak_memory: u64,
}

/// What is largest in a run.
pub(crate) struct Worst<'a> {
    /// The micro-batch with the most tokens, and the one with the longest example.
    pub(crate) micro_batches: &'a [MicroBatch],
    pub(crate) validation: Option<&'a MicroBatch>,
    pub(crate) learning_rate: f64,
    pub(crate) settings: &'a TrainSettings,
}

/// Forward, backward and optimizer on copies of the adapter and its optimizer, evaluation, and with `save` a checkpoint and the
/// exports in a folder that is then removed.
pub(crate) fn rehearse(
    model: &Llama,
    lora: &LoraSet,
    optimizer: &AdamWState,
    worst: &Worst<'_>,
    run_dir: &RunDir,
    save: impl FnOnce(&Path, &LoraSet, &AdamWState) -> Result<()>,
) -> Result<Rehearsal> {
    let began = Instant::now();
    let (mut lora, mut optimizer) = (lora.clone(), optimizer.clone());
    let Worst { micro_batches, validation, learning_rate, settings } = *worst;
    let outcome = train_step(model, &mut lora, &mut optimizer, micro_batches, learning_rate, settings);
    if !outcome.is_finite() {
        bail!("the loss of the base model is {}, the gradient's norm {}", outcome.loss.mean(), outcome.grad_norm);
    }
    if let Some(batch) = validation {
        evaluate(&lora.attach(model), batch);
    }
    let aside = AtomicDir::create(&run_dir.file("rehearsal"))
        .with_context(|| format!("failed to make a folder in `{}`", run_dir.path().display()))?;
    save(aside.path(), &lora, &optimizer)?;
    Ok(Rehearsal { seconds: began.elapsed().as_secs_f64(), peak_memory: peak_memory_bytes() })
}
