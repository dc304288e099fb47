//! Greedy answers beside the expected ones.

use afina_chat::{ChatFormat, Conversation};
use afina_model::Llama;
use serde::Serialize;

use crate::greedy::{AnswerError, greedy_answers};

/// One generated answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    pub question: String,
    /// The answer as a model would write it, tool calls in the syntax of the template.
    pub expected: String,
    pub found: String,
    /// Generated, the end-of-turn token not counted.
    pub tokens: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExactMatch {
    /// Share of answers that mean the expected ones ([`afina_chat::Reply::means`]): the same text but for white space around it,
    /// and the same tool calls.
    pub exact_match: f64,
    pub tokens_per_answer: f64,
    pub answers: Vec<Answer>,
}

/// Answers every conversation up to its last assistant turn, greedily, and compares. Those without one are passed over.
pub fn exact_match(
    model: &Llama,
    format: &ChatFormat,
    stop_tokens: &[u32],
    conversations: &[&Conversation],
    max_tokens: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<ExactMatch, AnswerError> {
    let given = greedy_answers(model, format, stop_tokens, conversations, max_tokens, progress)?;
    let count = given.len().max(1) as f64;
    let equal = given.iter().filter(|answer| answer.exact).count();
    let answers: Vec<Answer> = given
        .into_iter()
        .map(|given| Answer {
            question: given.question,
            expected: given.expected,
            found: given.found,
            tokens: given.tokens.len(),
        })
        .collect();
    let tokens: usize = answers.iter().map(|answer| answer.tokens).sum();
    Ok(ExactMatch { exact_match: equal as f64 / count, tokens_per_answer: tokens as f64 / count, answers })
}
