//! The figures of the examples: counted in batches, on all threads.

use std::path::Path;

use afina_chat::{ChatFormat, Conversation, Role, TemplateChoice, TrainOn};
use afina_data::stats::{Statistics, TokenCounts, cookbook_tokens};
use afina_data::{Diagnostic, Example, ReadOptions, check_counted_length, scan::language};
use afina_recipes::{cannot_render, chat_format};
use anyhow::{Context, Result};
use rayon::prelude::*;
use tiktoken_rs::CoreBPE;

use crate::args::OpenAiTokenizer;

/// Examples that are counted together.
const BATCH: usize = 1024;

pub struct Counting {
    pub statistics: Statistics,
    tokens: Option<Tokens>,
    /// Tokens of a row: what is behind it is cut.
    seq_len: Option<u32>,
    batch: Vec<Example>,
}

/// Whose tokens are counted.
pub enum Tokens {
    /// Those that the model is trained on.
    Model(Box<ChatFormat>),
    /// OpenAI's, by the cookbook's formula.
    OpenAi(Box<CoreBPE>),
}

impl Tokens {
    /// Those of a model folder, or else OpenAI's, or none. With a folder its own control tokens become errors in texts,
    /// and lengths are exact.
    pub fn new(
        model: Option<&Path>,
        template: &TemplateChoice,
        tokenizer: Option<OpenAiTokenizer>,
        options: &mut ReadOptions,
    ) -> Result<Option<Tokens>> {
        if let Some(dir) = model {
            let format = chat_format(dir, None, template)?;
            options.control_tokens = format.tokenizer.special_tokens().iter().map(|(text, _)| text.clone()).collect();
            options.training_context = None;
            return Ok(Some(Tokens::Model(Box::new(format))));
        }
        let Some(tokenizer) = tokenizer else { return Ok(None) };
        let tokenizer = match tokenizer {
            OpenAiTokenizer::Cl100kBase => tiktoken_rs::cl100k_base(),
            OpenAiTokenizer::O200kBase => tiktoken_rs::o200k_base(),
        };
        let tokenizer = tokenizer.map_err(|error| anyhow::anyhow!("{error}"));
        Ok(Some(Tokens::OpenAi(Box::new(tokenizer.context("failed to load the tokenizer")?))))
    }
}

/// What one example has.
struct Counted {
    counts: Option<TokenCounts>,
    language: Option<&'static str>,
    /// The template cannot carry it.
    fault: Option<Diagnostic>,
}

impl Counting {
    pub fn new(tokens: Option<Tokens>, seq_len: Option<u32>) -> Counting {
        Counting { statistics: Statistics::default(), tokens, seq_len, batch: Vec::with_capacity(BATCH) }
    }

    /// One more example; faults that only counting finds go to `faults`.
    pub fn add(&mut self, file: &str, example: Example, options: &ReadOptions, faults: &mut Vec<Diagnostic>) {
        self.batch.push(example);
        if self.batch.len() == BATCH {
            self.flush(file, options, faults);
        }
    }

    /// Counts what waits.
    pub fn flush(&mut self, file: &str, options: &ReadOptions, faults: &mut Vec<Diagnostic>) {
        let (tokens, seq_len) = (self.tokens.as_ref(), self.seq_len);
        let count = |example: &Example| count(tokens, seq_len, file, example);
        let counted: Vec<Counted> = match rayon::current_num_threads() {
            1 => self.batch.iter().map(count).collect(),
            _ => self.batch.par_iter().map(count).collect(),
        };
        for (example, counted) in self.batch.drain(..).zip(counted) {
            self.statistics.shape.add(example.conversation(), counted.language);
            if let Some(counts) = counted.counts {
                self.statistics.tokens.add(example.line(), counts);
                if let Some(seq_len) = seq_len.filter(|_| matches!(tokens, Some(Tokens::Model(_)))) {
                    faults.extend(check_counted_length(file, example.line(), counts, seq_len, options));
                }
            }
            faults.extend(counted.fault);
        }
    }
}

fn count(tokens: Option<&Tokens>, seq_len: Option<u32>, file: &str, example: &Example) -> Counted {
    let conversation = example.conversation();
    let language = sample(conversation).and_then(|text| language(&text));
    match tokens {
        None => Counted { counts: None, language, fault: None },
        Some(Tokens::Model(format)) => match format.training_tokens(conversation, TrainOn::Assistant) {
            Ok(tokens) => {
                let counts = TokenCounts::new(&tokens.loss_mask, seq_len);
                Counted { counts: Some(counts), language, fault: None }
            }
            Err(error) => Counted { counts: None, language, fault: Some(cannot_render(file, example, format, error)) },
        },
        Some(Tokens::OpenAi(tokenizer)) => {
            let counted = cookbook_tokens(conversation, &mut |text| tokenizer.encode_ordinary(text).len());
            let (total, trained) = (counted.total as u32, counted.assistant as u32);
            let counts = TokenCounts { total, trained, trained_kept: trained };
            Counted { counts: Some(counts), language, fault: None }
        }
    }
}

/// The text that tells an example's language: its answers.
fn sample(conversation: &Conversation) -> Option<String> {
    let answers = conversation.messages.iter().filter(|message| message.role == Role::Assistant);
    let text = answers.map(|message| message.text()).collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some(text)
}
