//! What a run would take, before it is begun: its data is read and its steps are decided, but no weight is loaded.

use afina_checkpoint::ModelDir;
use afina_data::{Share, TokenizedExample};
use afina_model::Precision;
use afina_train::{BatchShape, MemoryForecast, MicroBatch, parameters, resident_memory_bytes};
use anyhow::Result;

use crate::{
    Recipe,
    data::Data,
    memory::Workload,
    plan::{Plan, in_order},
};

/// A recipe's base and data, read as its loop reads them.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) base: ModelDir,
    pub(crate) train: Vec<TokenizedExample>,
    shares: Vec<Share>,
    validation: Vec<TokenizedExample>,
    /// Bytes that the program takes with this: read once, or settings could not be compared.
    pub(crate) resident: u64,
}

/// What a recipe comes to.
#[derive(Debug)]
pub struct Forecast {
    pub memory: MemoryForecast,
    /// How the base's weights are kept: bf16, or f32.
    pub is_bf16: bool,
    pub recompute: bool,
    pub trainable_parameters: usize,
    /// Steps → micro-batches.
    pub steps: Vec<Vec<BatchShape>>,
}

impl Prepared {
    pub fn read(recipe: &Recipe) -> Result<Prepared> {
        let Data { base, train, shares, validation, .. } = Data::read(recipe)?;
        let resident = resident_memory_bytes();
        Ok(Prepared { base, train: train.tokenized, shares, validation: validation.tokenized, resident })
    }

    pub(crate) fn plan(&self, recipe: &Recipe) -> Result<(Plan, Vec<MicroBatch>)> {
        Ok((Plan::new(recipe, &self.train, &self.shares)?, in_order(recipe, &self.validation)))
    }

    /// `recipe` may differ from the one that was read in its tables `lora` and `train`.
    pub fn forecast(&self, recipe: &Recipe) -> Result<Forecast> {
        let (plan, validation) = self.plan(recipe)?;
        let workload = Workload::new(recipe, &self.base, &plan, &self.train, &validation, self.resident);
        let recompute = workload.recompute()?;
        Ok(Forecast {
            memory: workload.forecast(recompute),
            is_bf16: workload.precision() == Precision::Bf16,
            recompute,
            trainable_parameters: parameters(&self.base.config, recipe.lora.r, &recipe.target_modules()),
            steps: workload.steps,
        })
    }
}
