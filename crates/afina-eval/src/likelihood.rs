//! The likelihood of a file's trained tokens.

use afina_data::{Batch, TokenizedExample};
use afina_model::Llama;
use afina_train::{LossSum, MicroBatch, evaluate};
use serde::Serialize;

/// Tokens read at once: enough to keep the matrix products busy, little enough for any machine.
const BATCH_TOKENS: usize = 1024;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Likelihood {
    /// Nats per trained token.
    pub loss: f64,
    /// e to the loss.
    pub perplexity: f64,
    /// Share of trained tokens whose logit is the largest.
    pub token_accuracy: f64,
    pub examples: usize,
    /// Trained tokens.
    pub tokens: usize,
}

/// Over all examples together, every trained token weighing the same. `progress` gets (examples done, examples in all).
pub fn likelihood(model: &Llama, examples: &[TokenizedExample], progress: &mut dyn FnMut(usize, usize)) -> Likelihood {
    let mut sum = LossSum::default();
    let mut row = Vec::new();
    let mut tokens = 0;
    for (index, example) in examples.iter().enumerate() {
        row.push(index);
        tokens += example.tokens.len();
        if tokens >= BATCH_TOKENS || index + 1 == examples.len() {
            sum.add(evaluate(model, &MicroBatch::new(&Batch::new(examples, &[std::mem::take(&mut row)]))));
            tokens = 0;
            progress(index + 1, examples.len());
        }
    }
    Likelihood {
        loss: sum.mean(),
        perplexity: sum.mean().exp(),
        token_accuracy: sum.accuracy(),
        examples: examples.len(),
        tokens: sum.tokens,
    }
}
