//! How long a run will take, from three of its own steps. Nothing is written.

use std::time::Instant;

use afina_model::{LoraConfig, LoraSet, load_llama};
use afina_train::{Accumulated, AdamW, AdamWState, TrainSettings, accumulate, finish_step, peak_memory_bytes};
use anyhow::{Result, bail};
use burn::tensor::Device;
use serde::Serialize;

use crate::{Prepared, Recipe, memory::Workload, work::Work};

/// What was measured, and what follows for the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Probe {
    pub measured: Vec<MeasuredStep>,
    pub seconds_per_token: f64,
    pub seconds_per_trained_token: f64,
    pub median_step_seconds: f64,
    /// Over all steps.
    pub tokens_per_second: f64,
    /// Rehearsal, steps and evaluations; not loading, saving and answers to `eval.samples`.
    pub run_seconds: f64,
    /// Of this process, which took no rehearsal and wrote no checkpoint.
    pub peak_memory: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeasuredStep {
    /// From 1.
    pub step: usize,
    pub tokens: usize,
    pub trained_tokens: usize,
    pub seconds: f64,
}

/// Seconds of a step of so much work.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rate {
    fixed: f64,
    of_an_operation: f64,
}

/// Loads the model and takes the steps with the least, the median and the most work, after a micro-batch that is not timed: the first
/// touch of memory is slow.
pub fn probe(
    recipe: &Recipe,
    prepared: &Prepared,
    device: &Device,
    on_load: &mut dyn FnMut(usize, usize),
) -> Result<Probe> {
    let (plan, validation) = prepared.plan(recipe)?;
    let workload = Workload::new(recipe, &prepared.base, &plan, &prepared.train, &validation, prepared.resident);
    let recompute = workload.recompute()?;
    let model = load_llama(&prepared.base, device, workload.precision(), on_load)?;
    let config = LoraConfig { r: recipe.lora.r, alpha: recipe.lora.alpha, target_modules: recipe.target_modules() };
    let mut lora = LoraSet::init(&model, config, recipe.seed);
    let mut optimizer = AdamWState::new(&lora.values);
    let settings = TrainSettings {
        adamw: AdamW { betas: recipe.train.betas, eps: recipe.train.eps, weight_decay: recipe.train.weight_decay },
        max_grad_norm: recipe.train.max_grad_norm,
        recompute,
    };

    let work = Work::new(&prepared.base.config, recipe);
    let of_steps: Vec<f64> =
        workload.steps.iter().map(|step| step.iter().map(|batch| work.step(batch, recompute)).sum()).collect();
    let mut order: Vec<usize> = (0..of_steps.len()).collect();
    order.sort_by(|&a, &b| of_steps[a].total_cmp(&of_steps[b]));
    let chosen = [order[order.len() - 1], order[order.len() / 2], order[0]];

    let first = plan.micro_batches(chosen[0], &prepared.train);
    accumulate(&model, &lora, &first[0], recompute, &mut Accumulated::default());
    let mut measured = Vec::with_capacity(chosen.len());
    for step in chosen {
        let began = Instant::now();
        let mut sum = Accumulated::default();
        for batch in plan.micro_batches(step, &prepared.train) {
            accumulate(&model, &lora, &batch, recompute, &mut sum);
        }
        let outcome = finish_step(&mut lora, &mut optimizer, sum, recipe.train.learning_rate, &settings);
        device.sync()?;
        if !outcome.is_finite() {
            bail!("step {}: the loss is {}, the gradient's norm {}", step + 1, outcome.loss.mean(), outcome.grad_norm);
        }
        let (tokens, trained_tokens) = (outcome.tokens, outcome.loss.tokens);
        measured.push(MeasuredStep { step: step + 1, tokens, trained_tokens, seconds: began.elapsed().as_secs_f64() });
    }

    let rate = Rate::of(
        &chosen.iter().zip(&measured).map(|(&step, found)| (of_steps[step], found.seconds)).collect::<Vec<_>>(),
    );
    let steps: f64 = of_steps.iter().map(|&work| rate.seconds(work)).sum();
    let evaluation: f64 = workload.validation.iter().map(|batch| work.forward(batch)).sum();
    let evaluations = match recipe.eval.every_steps {
        0 => 1,
        every => of_steps.len().div_ceil(every),
    };
    let rehearsed: f64 =
        plan.worst_micro_batches(&prepared.train).iter().map(|batch| work.step(&batch.into(), recompute)).sum();
    let tokens: usize = workload.steps.iter().flatten().map(|batch| batch.tokens).sum();
    let (of_token, of_trained) = work.of_a_token(recompute);
    Ok(Probe {
        measured,
        seconds_per_token: rate.of_an_operation * of_token,
        seconds_per_trained_token: rate.of_an_operation * of_trained,
        median_step_seconds: rate.seconds(of_steps[order[order.len() / 2]]),
        tokens_per_second: tokens as f64 / steps,
        run_seconds: rate.seconds(rehearsed) + steps + evaluations as f64 * rate.of_an_operation * evaluation,
        peak_memory: peak_memory_bytes(),
    })
}

impl Rate {
    /// From (operations, seconds): the line through them by least squares, or the one through zero where steps of about the same work
    /// cannot tell what does not depend on it.
    fn of(measured: &[(f64, f64)]) -> Rate {
        let count = measured.len() as f64;
        let [mean_work, mean_seconds] = [
            measured.iter().map(|(work, _)| work).sum::<f64>() / count,
            measured.iter().map(|(_, seconds)| seconds).sum::<f64>() / count,
        ];
        let through_zero = Rate { fixed: 0.0, of_an_operation: mean_seconds / mean_work };
        let spread: f64 = measured.iter().map(|(work, _)| (work - mean_work).powi(2)).sum();
        if spread.sqrt() < 0.2 * mean_work {
            return through_zero;
        }
        let together: f64 = measured.iter().map(|(work, seconds)| (work - mean_work) * (seconds - mean_seconds)).sum();
        let line = Rate { fixed: mean_seconds - together / spread * mean_work, of_an_operation: together / spread };
        if line.fixed < 0.0 || line.of_an_operation <= 0.0 { through_zero } else { line }
    }

    fn seconds(&self, work: f64) -> f64 {
        self.fixed + self.of_an_operation * work
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_different_work_tell_what_does_not_depend_on_it() {
        let rate = Rate::of(&[(10.0, 3.0), (20.0, 5.0), (30.0, 7.0)]);
        assert!((rate.fixed - 1.0).abs() < 1e-12 && (rate.of_an_operation - 0.2).abs() < 1e-12, "{rate:?}");
        // Steps of the same work, and noise that would make the fixed part negative.
        for same in [[(10.0, 3.0), (10.0, 5.0), (10.1, 4.0)], [(10.0, 1.0), (20.0, 4.0), (30.0, 7.0)]] {
            let rate = Rate::of(&same);
            let mean =
                same.iter().map(|(_, seconds)| seconds).sum::<f64>() / same.iter().map(|(work, _)| work).sum::<f64>();
            assert_eq!(rate.fixed, 0.0);
            assert!((rate.of_an_operation - mean).abs() < 1e-12, "{rate:?}");
        }
    }
}
