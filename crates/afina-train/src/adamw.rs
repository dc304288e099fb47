//! AdamW over one flat buffer.

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
    /// One update; returns the new values.
    pub fn step(
        &self,
        state: &mut AdamWState,
        values: Tensor<1>,
        gradient: Tensor<1>,
        learning_rate: f64,
    ) -> Tensor<1> {
        let [beta1, beta2] = self.betas;
        state.steps += 1;
        let steps = state.steps as i32;
        let exp_avg = state.exp_avg.clone().mul_scalar(beta1).add(gradient.clone().mul_scalar(1.0 - beta1));
        let exp_avg_sq = state.exp_avg_sq.clone().mul_scalar(beta2).add(gradient.square().mul_scalar(1.0 - beta2));
        let root = exp_avg_sq.clone().sqrt().div_scalar((1.0 - beta2.powi(steps)).sqrt()).add_scalar(self.eps);
        let update = exp_avg.clone().div(root).mul_scalar(learning_rate / (1.0 - beta1.powi(steps)));
        state.exp_avg = exp_avg;
        state.exp_avg_sq = exp_avg_sq;
        values.mul_scalar(1.0 - learning_rate * self.weight_decay).sub(update)
    }
}

/// Scales the whole gradient down to `max_norm` when its 2-norm is larger. Returns it and the norm before.
///
/// Source: `torch.nn.utils.clip_grad_norm_`, with its 1e-6.
pub fn clip_by_global_norm(gradient: Tensor<1>, max_norm: f64) -> (Tensor<1>, f64) {
    let norm = f64::from(gradient.clone().square().sum().sqrt().into_scalar::<f32>());
    let factor = max_norm / (norm + 1e-6);
    if factor < 1.0 { (gradient.mul_scalar(factor), norm) } else { (gradient, norm) }
}
