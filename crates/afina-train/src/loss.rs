//! Next-token cross-entropy over the trained tokens, summed: whoever steps divides once.

use afina_model::{Llama, PackedLlama};
use burn::tensor::{Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::{MicroBatch, packed};

/// A loss before it is divided.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LossSum {
    /// Summed over `tokens`, in nats.
    pub nats: f64,
    /// Trained tokens.
    pub tokens: usize,
    /// Trained tokens whose logit is the largest of their row.
    pub correct: usize,
    /// Of each example of the batches, in their order; none of a batch that trains nothing.
    pub examples: Vec<ExampleLoss>,
}

/// One example's part.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ExampleLoss {
    pub nats: f64,
    pub tokens: usize,
}

impl LossSum {
    pub fn add(&mut self, other: LossSum) {
        self.nats += other.nats;
        self.tokens += other.tokens;
        self.correct += other.correct;
        self.examples.extend(other.examples);
    }

    /// Nats per trained token.
    pub fn mean(&self) -> f64 {
        self.nats / self.tokens as f64
    }

    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.tokens as f64
    }
}

/// The loss of a batch from the last block's output, and its gradient there.
///
/// Only rows whose target is trained pass the final norm and the head.
///
/// # Shapes
/// - `hidden`: `[tokens, hidden]`, before the final norm
///
/// Returns the gradient of the summed loss, `[tokens, hidden]`.
pub fn head_loss(model: &Llama, hidden: Tensor<2>, batch: &MicroBatch) -> (LossSum, Tensor<2>) {
    let hidden = hidden.inner().autodiff().require_grad();
    let normed = model.final_norm(hidden.clone().select(0, trained_rows(model, batch)));
    let (losses, correct, gradient) =
        afina_ops::linear_cross_entropy(normed.clone().inner(), &model.lm_head, &batch.targets, true);
    let gradient = gradient.expect("the gradient was asked for");
    let mut gradients = normed.mul(gradient).sum().backward();
    let d_hidden = hidden.grad_remove(&mut gradients).expect("the hidden states are a leaf that requires gradients");
    (sum(batch, &losses, &correct), d_hidden)
}

/// The loss of a batch, nothing trained. `model` carries its adapter, if any.
pub fn evaluate(model: &Llama, batch: &MicroBatch) -> LossSum {
    if batch.targets.is_empty() {
        return LossSum::default();
    }
    if let Some(packed) = PackedLlama::new(model) {
        return packed::evaluate(&packed, batch);
    }
    let context = model.context(batch.segments.clone(), 0);
    let hidden = model.layers.iter().fold(model.embed(&batch.tokens), |hidden, layer| layer.forward(hidden, &context));
    let normed = model.final_norm(hidden.select(0, trained_rows(model, batch)));
    let (losses, correct, _) = afina_ops::linear_cross_entropy(normed, &model.lm_head, &batch.targets, false);
    sum(batch, &losses, &correct)
}

fn trained_rows(model: &Llama, batch: &MicroBatch) -> Tensor<1, Int> {
    let rows: Vec<i32> = batch.trained.iter().map(|&row| row as i32).collect();
    Tensor::from_data(TensorData::new(rows, [batch.trained.len()]), &model.device())
}

pub(crate) fn sum(batch: &MicroBatch, losses: &[f32], correct: &[bool]) -> LossSum {
    let nats = |losses: &[f32]| losses.iter().map(|&loss| f64::from(loss)).sum();
    let examples = batch.segments.ranges().iter().map(|range| {
        let [start, end] = [range.start, range.end].map(|at| batch.trained.partition_point(|&trained| trained < at));
        ExampleLoss { nats: nats(&losses[start..end]), tokens: end - start }
    });
    LossSum {
        nats: nats(losses),
        tokens: losses.len(),
        correct: correct.iter().filter(|&&correct| correct).count(),
        examples: examples.collect(),
    }
}
