//! What a run would take, before it is begun: its data is read and its steps are decided, but no weight is loaded.

use std::path::PathBuf;

use afina_chat::{ChatFormat, TrainOn};
use afina_checkpoint::ModelDir;
use afina_data::{Share, TokenizedExample};
use afina_model::Precision;
use afina_train::{BatchShape, MemoryForecast, MicroBatch, parameters};
use anyhow::{Context, Result};

use crate::{
    Recipe,
    examples::read_examples,
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
        let base = ModelDir::open(&recipe.model.base)
            .with_context(|| format!("failed to open the base model `{}`", recipe.model.base.display()))?;
        let format = ChatFormat::load_with_template(&recipe.model.base, &recipe.template_choice()?)
            .with_context(|| format!("failed to load the chat format of `{}`", recipe.model.base.display()))?;
        let train_on = match recipe.data.train_on.as_str() {
            "last" => TrainOn::Last,
            "all" => TrainOn::All,
            _ => TrainOn::Assistant,
        };
        let longest = recipe.data.seq_len.min(base.config.max_position_embeddings);
        let read = |files: &[PathBuf]| read_examples(files, &format, train_on, longest, recipe.data.excess_length);
        let files: Vec<PathBuf> = recipe.data.train.iter().map(|file| file.path.clone()).collect();
        let examples = read(&files)?;
        let with_weight = examples.per_file.iter().zip(&recipe.data.train);
        let shares = with_weight.map(|(&examples, file)| Share { examples, weight: file.weight }).collect();
        let validation = read(&recipe.data.validation)?.tokenized;
        Ok(Prepared { base, train: examples.tokenized, shares, validation })
    }

    pub(crate) fn plan(&self, recipe: &Recipe) -> Result<(Plan, Vec<MicroBatch>)> {
        Ok((Plan::new(recipe, &self.train, &self.shares)?, in_order(recipe, &self.validation)))
    }

    /// `recipe` may differ from the one that was read in its tables `lora` and `train`.
    pub fn forecast(&self, recipe: &Recipe) -> Result<Forecast> {
        let (plan, validation) = self.plan(recipe)?;
        let workload = Workload::new(recipe, &self.base, &plan, &self.train, &validation);
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
