//! What a recipe reads before any weight: its base model's folder, the chat format, and its examples.

use std::path::PathBuf;

use afina_chat::{ChatFormat, TrainOn};
use afina_checkpoint::ModelDir;
use afina_data::Share;
use anyhow::{Context, Result};

use crate::{
    Recipe,
    chat_format::chat_format,
    examples::{Examples, read_examples},
};

pub(crate) struct Data {
    pub(crate) base: ModelDir,
    pub(crate) format: ChatFormat,
    pub(crate) train_on: TrainOn,
    /// Tokens of the longest example that is taken whole.
    pub(crate) longest: usize,
    pub(crate) train: Examples,
    /// How much of an epoch each file is.
    pub(crate) shares: Vec<Share>,
    pub(crate) validation: Examples,
}

impl Data {
    pub(crate) fn read(recipe: &Recipe) -> Result<Data> {
        let base = ModelDir::open(&recipe.model.base)
            .with_context(|| format!("failed to open the base model `{}`", recipe.model.base.display()))?;
        let format = chat_format(&recipe.model.base, None, &recipe.template_choice()?)?;
        let train_on = match recipe.data.train_on.as_str() {
            "last" => TrainOn::Last,
            "all" => TrainOn::All,
            _ => TrainOn::Assistant,
        };
        let longest = recipe.data.seq_len.min(base.config.max_position_embeddings);
        let read = |files: &[PathBuf]| read_examples(files, &format, train_on, longest, recipe.data.excess_length);
        let train = read(&recipe.train_files())?;
        let with_weight = train.per_file.iter().zip(&recipe.data.train);
        let shares = with_weight.map(|(&examples, file)| Share { examples, weight: file.weight }).collect();
        let validation = read(&recipe.data.validation)?;
        Ok(Data { base, format, train_on, longest, train, shares, validation })
    }
}
