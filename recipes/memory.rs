//! How much memory a run may take, and how much it would.

use afina_checkpoint::ModelDir;
use afina_data::TokenizedExample;
use afina_model::Precision;
use afina_train::{
    BatchShape, MemoryForecast, MemorySettings, MicroBatch, available_memory_bytes, memory_forecast,
    rounds_activations, threads,
};
use anyhow::Result;

use crate::{Recipe, plan::Plan, precision::precision};

/// The forecast of a run is above what it may take.
#[derive(Debug, thiserror::Error)]
pub enum WouldNotFit {
    #[error("the run would take {} of memory, `device.memory_limit` allows {}", in_bytes(*needs), in_bytes(*limit))]
    Limit { needs: u64, limit: u64 },
    #[error("no setting fits into {}: it takes {} at least, with {}", in_bytes(*limit), in_bytes(*needs), overrides.join(" "))]
    NoSetting { needs: u64, limit: u64, overrides: Vec<String> },
}

/// What a run does, as far as memory and time go.
#[derive(Debug)]
pub(crate) struct Workload<'a> {
    recipe: &'a Recipe,
    base: &'a ModelDir,
    /// Steps → micro-batches.
    pub(crate) steps: Vec<Vec<BatchShape>>,
    pub(crate) validation: Vec<BatchShape>,
    accumulates: bool,
    /// Bytes taken already by the program, the tokenizer and the data.
    rest: u64,
}

impl<'a> Workload<'a> {
    pub(crate) fn new(
        recipe: &'a Recipe,
        base: &'a ModelDir,
        plan: &Plan,
        examples: &[TokenizedExample],
        validation: &[MicroBatch],
        rest: u64,
    ) -> Workload<'a> {
        // The rehearsal takes the largest micro-batch and the one with the longest example in one step.
        let rehearsed = plan.worst_micro_batches(examples).len();
        Workload {
            recipe,
            base,
            steps: plan.shapes(examples),
            validation: validation.iter().map(BatchShape::from).collect(),
            accumulates: rehearsed > 1 || plan.steps.iter().any(|step| step.len() > 1),
            rest,
        }
    }

    /// As the recipe says it, in the precision that it names.
    pub(crate) fn forecast(&self, recompute: bool) -> MemoryForecast {
        let stored_bytes = self.base.info("model.embed_tokens.weight").map_or(4, |info| info.dtype.size());
        let settings = MemorySettings {
            config: &self.base.config,
            stored_bytes,
            precision: self.precision(),
            r: self.recipe.lora.r,
            target_modules: &self.recipe.target_modules(),
            recompute,
            accumulates: self.accumulates,
            threads: threads(),
            rounds_activations: rounds_activations(),
            rest: self.rest,
        };
        memory_forecast(&settings, self.steps.iter().flatten().copied(), self.validation.iter().copied())
    }

    pub(crate) fn precision(&self) -> Precision {
        precision(&self.recipe.train.precision, self.base)
    }

    /// `auto` computes blocks again when a run that keeps all would not fit into the memory that can be had, the limit, or both.
    pub(crate) fn recompute(&self) -> Result<bool> {
        Ok(match self.recipe.train.gradient_checkpointing.as_str() {
            "on" => true,
            "off" => false,
            _ => {
                let needed = self.forecast(false).peak_bytes();
                let available = available_memory_bytes().map(|bytes| bytes + self.rest);
                // A tenth is left for what the forecast may miss.
                let is_short = available.is_some_and(|available| needed > available / 10 * 9);
                is_short || self.recipe.memory_limit()?.is_some_and(|limit| needed > limit)
            }
        })
    }

    /// The same, `began` being what the run was begun with; a run that would be above its limit is refused.
    pub(crate) fn recompute_within_limit(&self, began: Option<bool>) -> Result<bool> {
        let recompute = began.map_or_else(|| self.recompute(), Ok)?;
        check_limit(self.recipe, &self.forecast(recompute))?;
        Ok(recompute)
    }
}

/// Refuses a run that would be above its `device.memory_limit`.
pub fn check_limit(recipe: &Recipe, forecast: &MemoryForecast) -> Result<()> {
    let needs = forecast.peak_bytes();
    match recipe.memory_limit()? {
        Some(limit) if needs > limit => Err(WouldNotFit::Limit { needs, limit }.into()),
        _ => Ok(()),
    }
}

const UNITS: [(&str, u64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];

/// `7.5GB`, `800MB` or `64kB`, in bytes.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = UNITS.iter().find_map(|(name, unit)| Some((text.trim().strip_suffix(name)?, unit)))?;
    let number: f64 = number.trim().parse().ok()?;
    let bytes = number * *unit as f64;
    (1.0..1e18).contains(&bytes).then_some(bytes as u64)
}

/// `1.25 GB`, `538.1 MB`, `12.0 kB`.
pub fn in_bytes(bytes: u64) -> String {
    match bytes {
        1_000_000_000.. => format!("{:.2} GB", bytes as f64 / 1e9),
        1_000_000.. => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} kB", bytes as f64 / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_a_thousand() {
        for (text, bytes) in [("7.5GB", 7_500_000_000), ("4 GB", 4_000_000_000), ("800MB", 800_000_000), ("1kB", 1000)]
        {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "4", "4GiB", "-1GB", "0MB", "GB", "nanGB", "infGB", "4gb"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
        assert_eq!([1_254_000_000, 538_100_000, 12_000].map(in_bytes), ["1.25 GB", "538.1 MB", "12.0 kB"]);
    }
}
