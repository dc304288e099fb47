//! What was taught, asked for again.

use afina_chat::{ChatFormat, Conversation, Message, Role};
use afina_eval::greedy;
use afina_model::Llama;
use anyhow::{Context, Result};
use serde::Serialize;

use crate::args::Fact;

/// A model's answer to a fact's question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recall {
    pub question: String,
    pub expected: String,
    pub found: String,
    /// The answer holds the expected text; capitals and small letters are the same.
    pub recalled: bool,
}

/// Asks a model each fact's question, by its own template and tokenizer.
pub fn recall(
    (llama, format, stop_tokens): (&Llama, &ChatFormat, &[u32]),
    facts: &[Fact],
    system: Option<&str>,
    max_tokens: usize,
) -> Result<Vec<Recall>> {
    let ask = |Fact { question, answer }: &Fact| -> Result<Recall> {
        let system = system.map(|text| Message::new(Role::System, text));
        let messages = system.into_iter().chain([Message::new(Role::User, question.as_str())]).collect();
        let prompt = format.prompt_tokens(&Conversation::new(messages))?;
        let (tokens, _) = greedy(llama, &prompt, stop_tokens, max_tokens)?;
        let found = format.answer_text(&tokens);
        let recalled = found.to_lowercase().contains(&answer.to_lowercase());
        Ok(Recall { question: question.clone(), expected: answer.clone(), found, recalled })
    };
    facts.iter().map(ask).collect::<Result<_>>().context("failed to ask for a fact")
}
