//! Greedy answers beside the expected ones.

use std::ops::ControlFlow;

use afina_chat::{ChatFormat, Conversation, EncodeError, Role};
use afina_model::{GenerateError, GenerateOptions, KvCache, Llama, SamplingOptions, generate};
use serde::Serialize;

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
    let mut equal = 0;
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
        let expected = format.answer_text(&format.answer_tokens(conversation, last)?);
        let found = format.answer_text(&generated.tokens);
        let read = [&expected, &found].map(|text| format.parse_answer(text));
        let same_text = expected.trim() == found.trim();
        equal += usize::from(same_text || matches!(read, [Ok(expected), Ok(found)] if expected.means(&found)));
        answers.push(Answer {
            question: asked.messages.last().map_or(String::new(), |message| message.text().into_owned()),
            expected: expected.trim().to_owned(),
            found,
            tokens: generated.tokens.len(),
        });
        progress(index + 1, conversations.len());
    }
    let count = answers.len().max(1) as f64;
    let tokens: usize = answers.iter().map(|answer| answer.tokens).sum();
    Ok(ExactMatch { exact_match: equal as f64 / count, tokens_per_answer: tokens as f64 / count, answers })
}
