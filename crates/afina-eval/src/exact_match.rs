//! Greedy answers beside the expected ones.

use std::ops::ControlFlow;

use afina_chat::{ChatFormat, Conversation, EncodeError, Role};
use afina_model::{GenerateError, GenerateOptions, KvCache, Llama, SamplingOptions, generate};
use serde::Serialize;

/// One generated answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    pub question: String,
    pub expected: String,
    pub found: String,
    /// Generated, the end-of-turn token not counted.
    pub tokens: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExactMatch {
    /// Share of answers equal to the expected ones but for white space around them.
    pub exact_match: f64,
    pub tokens_per_answer: f64,
    pub answers: Vec<Answer>,
}

#[derive(Debug, thiserror::Error)]
pub enum ExactMatchError {
    #[error("failed to render a conversation")]
    Encode(#[from] EncodeError),
    #[error("failed to generate an answer")]
    Generate(#[from] GenerateError),
}

/// Answers every conversation up to its last assistant turn, greedily, and compares. Those without one are passed over.
pub fn exact_match(
    model: &Llama,
    format: &ChatFormat,
    stop_tokens: &[u32],
    conversations: &[&Conversation],
    max_tokens: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<ExactMatch, ExactMatchError> {
    let mut answers = Vec::new();
    for (index, conversation) in conversations.iter().enumerate() {
        let Some(last) = conversation.messages.iter().rposition(|message| message.role == Role::Assistant) else {
            continue;
        };
        let asked = Conversation { messages: conversation.messages[..last].to_vec(), ..(*conversation).clone() };
        let options = GenerateOptions {
            max_tokens,
            sampling: SamplingOptions { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 },
            stop_tokens: stop_tokens.to_vec(),
        };
        let prompt = format.prompt_tokens(&asked)?;
        let generated = generate(model, &prompt, &mut KvCache::new(), &options, &mut |_| ControlFlow::Continue(()))?;
        answers.push(Answer {
            question: asked.messages.last().map_or(String::new(), |message| message.text().into_owned()),
            expected: conversation.messages[last].text().into_owned(),
            found: format.tokenizer.decode(&generated.tokens, true),
            tokens: generated.tokens.len(),
        });
        progress(index + 1, conversations.len());
    }
    let count = answers.len().max(1) as f64;
    let equal = answers.iter().filter(|answer| answer.expected.trim() == answer.found.trim()).count();
    let tokens: usize = answers.iter().map(|answer| answer.tokens).sum();
    Ok(ExactMatch { exact_match: equal as f64 / count, tokens_per_answer: tokens as f64 / count, answers })
}
