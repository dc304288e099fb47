//! What models answer when they always take the likeliest token, and how far two of them agree.

use std::ops::ControlFlow;

use afina_chat::{ChatFormat, Conversation, EncodeError, Role};
use afina_model::{GenerateError, GenerateOptions, KvCache, Llama, SamplingOptions, Stop, generate};
use serde::Serialize;

/// One greedy answer to a conversation of a data file.
#[derive(Debug, Clone, PartialEq)]
pub struct GreedyAnswer {
    /// The last message before it.
    pub question: String,
    /// The answer that the file holds, as a model would write it, tool calls in the syntax of the template.
    pub expected: String,
    pub found: String,
    /// The end-of-turn token not among them.
    pub tokens: Vec<u32>,
    /// Whether an end-of-turn token came, and not the limit.
    pub ended: bool,
    /// Whether it means the expected one ([`afina_chat::Reply::means`]): the same text but for white space around it, and the
    /// same tool calls.
    pub exact: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error("failed to render a conversation")]
    Encode(#[from] EncodeError),
    #[error("failed to generate an answer")]
    Generate(#[from] GenerateError),
}

/// Answers every conversation up to its last assistant turn. Those without one are passed over.
pub fn greedy_answers(
    model: &Llama,
    format: &ChatFormat,
    stop_tokens: &[u32],
    conversations: &[&Conversation],
    max_tokens: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<GreedyAnswer>, AnswerError> {
    let mut answers = Vec::new();
    for (index, conversation) in conversations.iter().enumerate() {
        let Some(last) = conversation.messages.iter().rposition(|message| message.role == Role::Assistant) else {
            continue;
        };
        let asked = Conversation { messages: conversation.messages[..last].to_vec(), ..(*conversation).clone() };
        let (tokens, ended) = greedy(model, &format.prompt_tokens(&asked)?, stop_tokens, max_tokens)?;
        let expected = format.answer_text(&format.answer_tokens(conversation, last)?);
        let found = format.answer_text(&tokens);
        let read = [&expected, &found].map(|text| format.parse_answer(text));
        let same_text = expected.trim() == found.trim();
        let exact = same_text || matches!(read, [Ok(expected), Ok(found)] if expected.means(&found));
        let question = asked.messages.last().map_or(String::new(), |message| message.text().into_owned());
        answers.push(GreedyAnswer { question, expected: expected.trim().to_owned(), found, tokens, ended, exact });
        progress(index + 1, conversations.len());
    }
    Ok(answers)
}

/// The likeliest tokens behind a prompt, one after the other, and whether one of `stop_tokens` ended them.
pub fn greedy(
    model: &Llama,
    prompt: &[u32],
    stop_tokens: &[u32],
    max_tokens: usize,
) -> Result<(Vec<u32>, bool), GenerateError> {
    let options = GenerateOptions {
        max_tokens,
        sampling: SamplingOptions { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 },
        stop_tokens: stop_tokens.to_vec(),
    };
    let generated = generate(model, prompt, &mut KvCache::new(), &options, &mut |_| ControlFlow::Continue(()))?;
    Ok((generated.tokens, generated.stop == Stop::EndOfTurn))
}

/// A model's greedy answers beside a reference's to the same prompts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GreedyAgreement {
    pub answers: usize,
    /// Tokens before the first that differs, the mean of all answers.
    pub equal_prefix: f64,
    /// Tokens of the reference's answers, the mean.
    pub reference_tokens: f64,
    /// Answers that are the same to their end, or to the limit.
    pub equal: usize,
    /// Answers that the reference ended, and that the other ended.
    pub reference_ended: usize,
    pub ended: usize,
    /// Those that the reference ended and the other did not.
    pub end_missed: usize,
    /// Answers that are those of the data file.
    pub reference_exact: usize,
    pub exact: usize,
    /// Those that the reference gave so and the other did not.
    pub exact_missed: usize,
}

/// Compares answers to the same questions. The other may have been given more room; what is beyond the reference's tokens
/// does not count as a difference where the limit ended them.
pub fn greedy_agreement(reference: &[GreedyAnswer], other: &[GreedyAnswer]) -> GreedyAgreement {
    let pairs = || reference.iter().zip(other);
    let prefix =
        |(a, b): (&GreedyAnswer, &GreedyAnswer)| a.tokens.iter().zip(&b.tokens).take_while(|(a, b)| a == b).count();
    let equal = |&(a, b): &(&GreedyAnswer, &GreedyAnswer)| {
        prefix((a, b)) == a.tokens.len() && (!a.ended || b.ended && b.tokens.len() == a.tokens.len())
    };
    let count = |holds: &dyn Fn(&GreedyAnswer, &GreedyAnswer) -> bool| pairs().filter(|(a, b)| holds(a, b)).count();
    let mean = |total: usize| total as f64 / reference.len().max(1) as f64;
    GreedyAgreement {
        answers: reference.len(),
        equal_prefix: mean(pairs().map(prefix).sum()),
        reference_tokens: mean(reference.iter().map(|answer| answer.tokens.len()).sum()),
        equal: pairs().filter(equal).count(),
        reference_ended: count(&|a, _| a.ended),
        ended: count(&|_, b| b.ended),
        end_missed: count(&|a, b| a.ended && !b.ended),
        reference_exact: count(&|a, _| a.exact),
        exact: count(&|_, b| b.exact),
        exact_missed: count(&|a, b| a.exact && !b.exact),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(tokens: &[u32], ended: bool, exact: bool) -> GreedyAnswer {
        let text = String::new;
        GreedyAnswer { question: text(), expected: text(), found: text(), tokens: tokens.to_vec(), ended, exact }
    }

    #[test]
    fn equal_beginnings_ends_and_exact_answers_are_counted() {
        let reference = [
            answer(&[1, 2, 3], true, true),
            answer(&[1, 2, 3], true, true),
            answer(&[1, 2], true, false),
            answer(&[5, 6], false, false),
        ];
        let other = [
            answer(&[1, 2, 3], true, true),
            answer(&[1, 2, 3, 4], true, false),
            answer(&[9, 2, 7, 7], false, false),
            answer(&[5, 6, 7, 8], true, true),
        ];
        let found = greedy_agreement(&reference, &other);
        assert_eq!((found.answers, found.equal, found.equal_prefix, found.reference_tokens), (4, 2, 2.0, 2.5));
        assert_eq!((found.reference_ended, found.ended, found.end_missed), (3, 3, 1));
        assert_eq!((found.reference_exact, found.exact, found.exact_missed), (2, 2, 1));
        let same = greedy_agreement(&reference, &reference);
        assert_eq!((same.equal, same.end_missed, same.exact_missed), (4, 0, 0));
        assert_eq!(greedy_agreement(&[], &[]).equal_prefix, 0.0);
    }
}
