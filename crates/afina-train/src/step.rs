//! One optimizer step: micro-batches in, moved adapter out.

use afina_model::{Llama, LoraSet};
use burn::tensor::Tensor;

use crate::{AdamW, AdamWState, LossSum, MicroBatch, clip_factor, loss_and_gradient};

#[derive(Debug, Clone)]
pub struct TrainSettings {
    pub adamw: AdamW,
    pub max_grad_norm: f64,
    /// Run each block again in the backward pass instead of keeping what it computed.
    pub recompute: bool,
}

/// A step under way: what its first micro-batches gave.
#[derive(Debug, Clone, Default)]
pub struct Accumulated {
    /// How many: the index of the next one.
    pub micro_batches: usize,
    pub loss: LossSum,
    /// Tokens read, trained or not.
    pub tokens: usize,
    /// Of the summed loss, not divided; `None` before the first micro-batch.
    pub gradient: Option<Tensor<1>>,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepOutcome {
    /// Over all micro-batches of the step, before the update.
    pub loss: LossSum,
    /// Of the mean loss, before clipping.
    pub grad_norm: f64,
    /// Tokens read, trained or not.
    pub tokens: usize,
}

impl StepOutcome {
    /// Whether the step was applied.
    pub fn is_finite(&self) -> bool {
        self.loss.nats.is_finite() && self.grad_norm.is_finite()
    }
}

/// Takes a whole step: [`accumulate`] for every micro-batch, then [`finish_step`].
pub fn train_step(
    model: &Llama,
    lora: &mut LoraSet,
    optimizer: &mut AdamWState,
    micro_batches: &[MicroBatch],
    learning_rate: f64,
    settings: &TrainSettings,
) -> StepOutcome {
    let mut step = Accumulated::default();
    micro_batches.iter().for_each(|batch| accumulate(model, lora, batch, settings.recompute, &mut step));
    finish_step(lora, optimizer, step, learning_rate, settings)
}

/// Adds the summed loss and gradient of the step's next micro-batch.
pub fn accumulate(model: &Llama, lora: &LoraSet, batch: &MicroBatch, recompute: bool, step: &mut Accumulated) {
    let (loss, gradient) = loss_and_gradient(model, lora, batch, recompute);
    step.micro_batches += 1;
    step.loss.add(loss);
    step.tokens += batch.tokens.len();
    step.gradient = Some(match step.gradient.take() {
        None => gradient,
        Some(accumulated) => gradient.add(accumulated),
    });
}

/// Divides the gradient once by the trained tokens of all micro-batches, clips and moves the adapter.
///
/// Dividing once makes 8 micro-batches of 1 the same step as 1 of 8, whatever the lengths of their answers.
/// A step without a trained token, or whose loss or gradient is not finite, moves nothing.
pub fn finish_step(
    lora: &mut LoraSet,
    optimizer: &mut AdamWState,
    step: Accumulated,
    learning_rate: f64,
    settings: &TrainSettings,
) -> StepOutcome {
    let Accumulated { loss, tokens, gradient, .. } = step;
    let Some(gradient) = gradient.filter(|_| loss.tokens > 0) else {
        return StepOutcome { loss, grad_norm: 0.0, tokens };
    };
    let mean = 1.0 / loss.tokens as f64;
    let outcome = StepOutcome { grad_norm: afina_ops::norm(&gradient) * mean, loss, tokens };
    if outcome.is_finite() {
        let scale = mean * clip_factor(outcome.grad_norm, settings.max_grad_norm);
        lora.values = settings.adamw.step(optimizer, lora.values.clone(), gradient, scale, learning_rate);
    }
    outcome
}
