//! The reference: a base with its adapter on it, as training and serving run them, and the conversations that are compared.

use std::path::Path;

use afina_chat::{ChatFormat, Conversation, TemplateChoice, TrainOn};
use afina_data::TokenizedExample;
use afina_eval::{Divergence, GreedyAnswer, divergence, greedy_answers, likelihood};
use afina_model::Llama;
use afina_recipes::{ExcessLength, chat_format, read_examples};
use anyhow::{Context, Result, bail};
use burn::tensor::Device;

use super::pair::beyond;
use crate::args::ModelArgs;
use crate::commands::{model, train};
use crate::engine::LlamaEngine;
use crate::output::Output;

/// Logits that an adapter moves by less than this, on average, it does not move: a merged model in F32, which adds the same
/// numbers in another order, differs by 3e-4 in the worst of 18 million (SmolLM2-135M), and an adapter that was trained by more
/// than a whole logit.
const MOVES: f64 = 1e-4;
/// Conversations on which it is seen whether an adapter moves anything.
const MOVED_ROWS: usize = 4;

/// A model and what it is asked; what was made of it is compared with it.
pub struct TrainingGraph {
    engine: LlamaEngine,
    id: &'static str,
    pub examples: Vec<TokenizedExample>,
    pub conversations: Vec<Conversation>,
}

/// Loads a base and its adapter, and the first `rows` conversations of a file (0: all of them).
///
/// What was merged of the two is then held against them by [`TrainingGraph::beside`].
pub fn training_graph(
    args: &ModelArgs,
    template: &TemplateChoice,
    data: &Path,
    rows: usize,
    device: &Device,
    output: &Output,
) -> Result<TrainingGraph> {
    let (engine, id) = model::load(args, template, device, output)?;
    let llama = engine.llama(id).expect("the model was just loaded under this id");
    let format = engine.format(id).expect("the model was just loaded under this id");
    let context = llama.config.max_position_embeddings;
    let files = [data.to_owned()];
    let read = read_examples(&files, format, TrainOn::Assistant, context, ExcessLength::Error);
    let mut examples = train::show_refused(read, output)?;
    if rows > 0 {
        examples.tokenized.truncate(rows);
        examples.conversations.truncate(rows);
    }
    let (examples, conversations) = (examples.tokenized, examples.conversations);
    Ok(TrainingGraph { engine, id, examples, conversations })
}

impl TrainingGraph {
    pub fn llama(&self) -> &Llama {
        self.engine.llama(self.id).expect("the model is loaded under this id")
    }

    pub fn format(&self) -> &ChatFormat {
        self.engine.format(self.id).expect("the model is loaded under this id")
    }

    pub fn stop_tokens(&self) -> &[u32] {
        self.engine.stop_tokens(self.id).unwrap_or_default()
    }

    /// Nats per trained token, by the code that trains.
    pub fn training_loss(&self, output: &Output) -> f64 {
        let bar = output.progress(self.examples.len() as u64, "training graph {bar:30} {pos}/{len}");
        let likelihood = likelihood(self.llama(), &self.examples, &mut |done, _| bar.set_position(done as u64));
        bar.finish_and_clear();
        likelihood.loss
    }

    /// How much an adapter moves the logits, on average, and whether that is anything; nothing without an adapter.
    pub fn moved(&self) -> Option<(f64, bool)> {
        let base = self.engine.llama(model::BASE).filter(|_| self.id != model::BASE)?;
        let rows = &self.examples[..self.examples.len().min(MOVED_ROWS)];
        let moved = divergence(base, self.llama(), rows, &mut |_, _| ()).mean_abs_logit;
        Some((moved, beyond(moved, MOVES)))
    }

    /// Loads what was made of this model, a merged folder or a GGUF file, and tells how far it is from it over the same tokens.
    pub fn beside(&self, path: &Path, device: &Device, output: &Output) -> Result<(LlamaEngine, Divergence)> {
        let format = chat_format(path, None, &TemplateChoice::Model)?;
        let engine = model::load_base(path, model::BASE, format, device, output)?;
        let other = engine.llama(model::BASE).expect("the model was just loaded under this id");
        let (expected, found) = (self.llama().config.vocab_size, other.config.vocab_size);
        if expected != found {
            bail!(
                "the vocabulary has {found} tokens, and the training graph's has {expected}: they cannot be compared"
            );
        }
        let bar = output.progress(self.examples.len() as u64, "logits {bar:30} {pos}/{len}");
        let divergence = divergence(self.llama(), other, &self.examples, &mut |done, _| bar.set_position(done as u64));
        bar.finish_and_clear();
        Ok((engine, divergence))
    }

    /// The answers of a model with its stop tokens to the first `count` conversations, asked as this one is.
    pub fn answers(
        &self,
        llama: &Llama,
        stop_tokens: &[u32],
        count: usize,
        max_tokens: usize,
        output: &Output,
    ) -> Result<Vec<GreedyAnswer>> {
        let asked: Vec<&Conversation> = self.conversations.iter().take(count).collect();
        let bar = output.progress(asked.len() as u64, "answers {bar:30} {pos}/{len}");
        let answers = greedy_answers(llama, self.format(), stop_tokens, &asked, max_tokens, &mut |done, _| {
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        answers.context("failed to generate answers")
    }
}
