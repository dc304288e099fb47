//! AdamW over one flat buffer, in one pass.

use rayon::prelude::*;

use crate::cpu::{Cpu, Kernel, run};
use crate::simd::Simd;

/// The numbers of one update; corrections of the means' bias are in `step_size` and `root_bias`.
///
/// Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019; `torch.optim.AdamW`.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    /// `learning_rate / (1 − beta1^steps)`
    pub step_size: f32,
    /// `sqrt(1 − beta2^steps)`
    pub root_bias: f32,
    /// `1 − learning_rate · weight_decay`
    pub decay: f32,
    /// What the gradient is multiplied with first.
    pub gradient_scale: f32,
}

const CHUNK: usize = 1 << 15;

/// Moves `values` and both means.
pub fn step(cpu: Cpu, update: Update, values: &mut [f32], mean: &mut [f32], square: &mut [f32], gradient: &[f32]) {
    values
        .par_chunks_mut(CHUNK)
        .zip(mean.par_chunks_mut(CHUNK))
        .zip(square.par_chunks_mut(CHUNK))
        .zip(gradient.par_chunks(CHUNK))
        .for_each(|(((values, mean), square), gradient)| run(cpu, Step { update, values, mean, square, gradient }));
}

struct Step<'a> {
    update: Update,
    values: &'a mut [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
    gradient: &'a [f32],
}

impl Kernel for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Update { beta1, beta2, eps, step_size, root_bias, decay, gradient_scale } = self.update;
        let state = self.mean.iter_mut().zip(self.square);
        for ((value, (mean, square)), &gradient) in self.values.iter_mut().zip(state).zip(self.gradient) {
            let gradient = gradient * gradient_scale;
            *mean = *mean * beta1 + gradient * (1.0 - beta1);
            *square = *square * beta2 + gradient * gradient * (1.0 - beta2);
            *value = *value * decay - *mean / (square.sqrt() / root_bias + eps) * step_size;
        }
    }
}

/// The 2-norm, summed in f64 over fixed parts: the same whatever the number of threads.
pub fn norm(gradient: &[f32]) -> f64 {
    let parts: Vec<f64> = gradient
        .par_chunks(CHUNK)
        .map(|part| part.iter().map(|&value| f64::from(value) * f64::from(value)).sum())
        .collect();
    parts.iter().sum::<f64>().sqrt()
}
