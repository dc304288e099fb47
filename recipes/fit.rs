//! The fastest setting whose forecast fits into so much memory.

use afina_model::Precision;
use afina_train::rounds_activations;
use anyhow::Result;

use crate::{Forecast, Prepared, Recipe, WouldNotFit, work::Work};

/// Operations that a processor does while one byte of a matrix comes from memory. It decides between sizes of a micro-batch alone: the
/// matrices are read once for each.
const OPERATIONS_OF_A_BYTE: f64 = 8.0;

/// The time of a step with bf16 matrices, that with f32 ones being 1, where the processor multiplies bf16: 0.66 s for 0.78 s
/// (SmolLM2-135M, 512 tokens, two cores of a Zen 5). Elsewhere they are equally fast.
const OF_BF16: f64 = 0.85;

/// A way to run a recipe.
#[derive(Debug)]
pub struct Setting {
    pub recipe: Recipe,
    /// `KEY=VALUE` that make it of the recipe that was given.
    pub overrides: Vec<String>,
    pub forecast: Forecast,
}

/// Among sizes of a micro-batch (its product with the accumulation stays), `gradient_checkpointing` on and off and, where the recipe
/// leaves the precision open, f32 and bf16. None of them changes what a step trains on.
pub fn fit(recipe: &Recipe, prepared: &Prepared, limit: u64) -> Result<Setting> {
    let rows = recipe.train.micro_batch_size * recipe.train.gradient_accumulation_steps;
    let (mut best, mut least): (Option<(f64, Setting)>, Option<Setting>) = (None, None);
    // The first of equally fast ones is taken: the precision that the checkpoint has.
    for precision in precisions(recipe, prepared) {
        for micro_batch_size in (1..=rows).rev().filter(|&size| rows.is_multiple_of(size)) {
            for gradient_checkpointing in ["off", "on"] {
                let mut candidate = recipe.clone();
                candidate.train.micro_batch_size = micro_batch_size;
                candidate.train.gradient_accumulation_steps = rows / micro_batch_size;
                candidate.train.gradient_checkpointing = gradient_checkpointing.to_owned();
                candidate.train.precision = precision.to_owned();
                let forecast = prepared.forecast(&candidate)?;
                let (needs, work) = (forecast.memory.peak_bytes(), operations(&candidate, prepared, &forecast));
                let setting = Setting { overrides: overrides(&candidate), recipe: candidate, forecast };
                if needs <= limit && best.as_ref().is_none_or(|(least_work, _)| work < *least_work) {
                    best = Some((work, setting));
                } else if least.as_ref().is_none_or(|least| needs < least.forecast.memory.peak_bytes()) {
                    least = Some(setting);
                }
            }
        }
    }
    match (best, least) {
        (Some((_, setting)), _) => Ok(setting),
        (None, Some(Setting { overrides, forecast, .. })) => {
            Err(WouldNotFit::NoSetting { needs: forecast.memory.peak_bytes(), limit, overrides }.into())
        }
        (None, None) => unreachable!("a micro-batch of one row is always tried"),
    }
}

fn precisions(recipe: &Recipe, prepared: &Prepared) -> Vec<&'static str> {
    match crate::precision::precision(&recipe.train.precision, &prepared.base) {
        Precision::F32 if recipe.train.precision == "auto" => vec!["f32", "bf16"],
        Precision::Bf16 if recipe.train.precision == "auto" => vec!["bf16", "f32"],
        Precision::F32 => vec!["f32"],
        Precision::Bf16 => vec!["bf16"],
    }
}

/// The whole run's, with what waiting for the matrices comes to; those in bf16 count for less where they are faster.
fn operations(recipe: &Recipe, prepared: &Prepared, forecast: &Forecast) -> f64 {
    let work = Work::new(&prepared.base.config, recipe);
    let passes = if forecast.recompute { 3.0 } else { 2.0 };
    let matrices = OPERATIONS_OF_A_BYTE * passes * 4.0 * prepared.base.config.parameters() as f64;
    let of_f32: f64 =
        forecast.steps.iter().flatten().map(|batch| work.step(batch, forecast.recompute) + matrices).sum();
    if forecast.is_bf16 && rounds_activations() { OF_BF16 * of_f32 } else { of_f32 }
}

fn overrides(recipe: &Recipe) -> Vec<String> {
    let train = &recipe.train;
    vec![
        format!("train.micro_batch_size={}", train.micro_batch_size),
        format!("train.gradient_accumulation_steps={}", train.gradient_accumulation_steps),
        format!("train.gradient_checkpointing={}", train.gradient_checkpointing),
        format!("train.precision={}", train.precision),
    ]
}
