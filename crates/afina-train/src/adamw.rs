//! AdamW over one flat buffer.

use afina_ops::Update;
use burn::tensor::Tensor;

/// Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019; numbers as `torch.optim.AdamW` computes them.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    pub betas: [f64; 2],
    pub eps: f64,
    pub weight_decay: f64,
}

/// Running means of the gradient and of its square, `[parameters]`, and how many steps they hold.
#[derive(Debug, Clone)]
pub struct AdamWState {
    pub exp_avg: Tensor<1>,
    pub exp_avg_sq: Tensor<1>,
    pub steps: usize,
}

impl AdamWState {
    pub fn new(values: &Tensor<1>) -> AdamWState {
        AdamWState { exp_avg: values.zeros_like(), exp_avg_sq: values.zeros_like(), steps: 0 }
    }
}

impl AdamW {
    /// One update with the gradient times `gradient_scale`; returns the new values.
    pub fn step(
        &self,
        state: &mut AdamWState,
        values: Tensor<1>,
        gradient: Tensor<1>,
        gradient_scale: f64,
        learning_rate: f64,
    ) -> Tensor<1> {
        let [beta1, beta2] = self.betas;
        state.steps += 1;
        let steps = state.steps as i32;
        let update = Update {
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            eps: self.eps as f32,
            step_size: (learning_rate / (1.0 - beta1.powi(steps))) as f32,
            root_bias: (1.0 - beta2.powi(steps)).sqrt() as f32,
            decay: (1.0 - learning_rate * self.weight_decay) as f32,
            gradient_scale: gradient_scale as f32,
        };
        let mut values = values;
        afina_ops::adamw_step(update, [&mut values, &mut state.exp_avg, &mut state.exp_avg_sq], gradient);
        values
    }
}

/// What a gradient is to be multiplied with so that its 2-norm, `norm`, is `max_norm` at most.
///
/// Source: `torch.nn.utils.clip_grad_norm_`, with its 1e-6.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}
