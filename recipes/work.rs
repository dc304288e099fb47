//! The arithmetic of a micro-batch: what its time is in proportion to.

use afina_checkpoint::{LINEAR_MODULES, LlamaConfig, names::linear_shape};
use afina_train::{BatchShape, parameters};

use crate::Recipe;

/// Operations, a multiply-add being two, of the forward pass: a token's, a trained token's, and those of a pair of tokens of which one
/// sees the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    frozen: f64,
    adapter: f64,
    head: f64,
    attention: f64,
}

impl Work {
    pub(crate) fn new(config: &LlamaConfig, recipe: &Recipe) -> Work {
        let block: usize = LINEAR_MODULES.iter().map(|name| linear_shape(config, name).iter().product::<usize>()).sum();
        let layers = config.num_hidden_layers;
        Work {
            frozen: 2.0 * (layers * block) as f64,
            adapter: 2.0 * parameters(config, recipe.lora.r, &recipe.target_modules()) as f64,
            head: 2.0 * (config.vocab_size * config.hidden_size) as f64,
            attention: 4.0 * (layers * config.num_attention_heads * config.head_dim) as f64,
        }
    }

    pub(crate) fn forward(&self, batch: &BatchShape) -> f64 {
        self.blocks(batch) + self.head * batch.trained as f64
    }

    /// The gradient at an input is as much work as the product; an adapter's own gradient is as much again, and attention's backward
    /// pass has four products for the forward pass's two. With `recompute` the blocks run twice.
    pub(crate) fn step(&self, batch: &BatchShape, recompute: bool) -> f64 {
        let tokens = batch.padded() as f64;
        let backward = (self.frozen + 2.0 * self.adapter) * tokens
            + self.head * batch.trained as f64
            + 2.0 * self.attention * batch.pairs as f64;
        self.forward(batch) + backward + if recompute { self.blocks(batch) } else { 0.0 }
    }

    /// A step's operations for each token, and for each trained one.
    pub(crate) fn of_a_token(&self, recompute: bool) -> (f64, f64) {
        let again = if recompute { self.frozen + self.adapter } else { 0.0 };
        (2.0 * self.frozen + 3.0 * self.adapter + again, 2.0 * self.head)
    }

    fn blocks(&self, batch: &BatchShape) -> f64 {
        (self.frozen + self.adapter) * batch.padded() as f64 + self.attention * batch.pairs as f64
    }
}
