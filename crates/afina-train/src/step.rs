//! One optimizer step: micro-batches in, moved adapter out.

use afina_model::{Llama, LoraSet};

use crate::{AdamW, AdamWState, LossSum, MicroBatch, clip_factor, loss_and_gradient};

#[derive(Debug, Clone)]
pub struct TrainSettings {
    pub adamw: AdamW,
    pub max_grad_norm: f64,
    /// Run each block again in the backward pass instead of keeping what it computed.
    pub recompute: bool,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// Over all micro-batches of the step, before the update.
    pub loss: LossSum,
    /// Of the mean loss, before clipping.
    pub grad_norm: f64,
    /// Tokens read, trained or not.
    pub tokens: usize,
}

/// Accumulates the summed gradients of the micro-batches, divides once by the trained tokens of them all, clips and moves the adapter.
///
/// Dividing once makes 8 micro-batches of 1 the same step as 1 of 8, whatever the lengths of their answers.
/// A step without a trained token, or whose loss or gradient is not finite, moves nothing.
pub fn train_step(
    model: &Llama,
    lora: &mut LoraSet,
    optimizer: &mut AdamWState,
    micro_batches: &[MicroBatch],
    learning_rate: f64,
    settings: &TrainSettings,
) -> StepOutcome {
    let mut loss = LossSum::default();
    let mut accumulated = None;
    let mut tokens = 0;
    for batch in micro_batches {
        let (sum, gradient) = loss_and_gradient(model, lora, batch, settings.recompute);
        loss.add(sum);
        tokens += batch.tokens.len();
        accumulated = Some(match accumulated {
            None => gradient,
            Some(accumulated) => gradient.add(accumulated),
        });
    }
    let Some(gradient) = accumulated.filter(|_| loss.tokens > 0) else {
        return StepOutcome { loss, grad_norm: 0.0, tokens };
    };
    let mean = 1.0 / loss.tokens as f64;
    let grad_norm = afina_ops::norm(&gradient) * mean;
    if loss.nats.is_finite() && grad_norm.is_finite() {
        let scale = mean * clip_factor(grad_norm, settings.max_grad_norm);
        lora.values = settings.adamw.step(optimizer, lora.values.clone(), gradient, scale, learning_rate);
    }
    StepOutcome { loss, grad_norm, tokens }
}
