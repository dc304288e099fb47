//! Prompt in, tokens out; and the likelihood of given answers.

use std::ops::ControlFlow;

use afina_ops::Segments;
use burn::tensor::{Int, Tensor, TensorData, activation};

use crate::{KvCache, Llama, Sampler, SamplingOptions};

#[derive(Debug, Clone)]
pub struct GenerateOptions {
    pub max_tokens: usize,
    pub sampling: SamplingOptions,
    /// Tokens that end the answer; the one that did is not part of it.
    pub stop_tokens: Vec<u32>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    EndOfTurn,
    Length,
    /// The caller's `on_token` said so.
    Caller,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    pub tokens: Vec<u32>,
    pub stop: Stop,
}

#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error("the prompt has {prompt} tokens; the model's context is {context}")]
    PromptTooLong { prompt: usize, context: usize },
    #[error("token {id} is outside the model's vocabulary of {vocab_size}")]
    TokenOutOfRange { id: u32, vocab_size: usize },
}

/// Continues `prompt`. What `cache` shares with the prompt is not computed again; afterwards it holds the prompt and the answer.
pub fn generate(
    model: &Llama,
    prompt: &[u32],
    cache: &mut KvCache,
    options: &GenerateOptions,
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> Result<Generated, GenerateError> {
    check_prompt(model, prompt)?;
    let room = (model.config.max_position_embeddings - prompt.len()).min(options.max_tokens);
    let mut sampler = Sampler::new(options.sampling.clone());
    let mut tokens = Vec::new();
    cache.keep_common_prefix(prompt);
    let mut next = prompt[cache.len()..].to_vec();
    loop {
        if tokens.len() == room {
            return Ok(Generated { tokens, stop: Stop::Length });
        }
        let hidden = model.forward(&next, Segments::one(next.len()), Some(cache));
        let last = hidden.narrow(0, next.len() - 1, 1);
        let logits: Vec<f32> = values(model.logits(last));
        let token = sampler.sample(&logits) as u32;
        if options.stop_tokens.contains(&token) {
            return Ok(Generated { tokens, stop: Stop::EndOfTurn });
        }
        tokens.push(token);
        if on_token(token).is_break() {
            return Ok(Generated { tokens, stop: Stop::Caller });
        }
        next = vec![token];
    }
}

/// The natural-log probability of every token of each continuation, given the prompt and the continuation's tokens before it.
///
/// The prompt is read once, but for what `cache` shares with it, then all continuations in one pass. Afterwards the cache holds the prompt.
pub fn score_continuations(
    model: &Llama,
    prompt: &[u32],
    continuations: &[Vec<u32>],
    cache: &mut KvCache,
) -> Result<Vec<Vec<f32>>, GenerateError> {
    check_prompt(model, prompt)?;
    for continuation in continuations {
        check_vocabulary(model, continuation)?;
        let whole = prompt.len() + continuation.len();
        if whole > model.config.max_position_embeddings {
            return Err(GenerateError::PromptTooLong { prompt: whole, context: model.config.max_position_embeddings });
        }
    }
    let lengths: Vec<usize> = continuations.iter().map(Vec::len).collect();
    let targets: Vec<u32> = continuations.concat();
    if targets.is_empty() {
        return Ok(lengths.iter().map(|_| Vec::new()).collect());
    }
    // Each branch starts with the prompt's last token, whose logits predict the first token of the continuation.
    let (&last, before) = prompt.split_last().expect("the prompt was checked not to be empty");
    let branches: Vec<Vec<u32>> = continuations
        .iter()
        .filter(|continuation| !continuation.is_empty())
        .map(|continuation| [&[last], &continuation[..continuation.len() - 1]].concat())
        .collect();
    let hidden = if before.is_empty() {
        model.forward(&branches.concat(), Segments::from_lengths(&lengths), None)
    } else {
        cache.keep_common_prefix(before);
        let unread = &before[cache.len()..];
        model.forward_branches(unread, &branches, cache)
    };
    let mut logprobs = token_logprobs(model, hidden, &targets).into_iter();
    Ok(lengths.iter().map(|&length| logprobs.by_ref().take(length).collect()).collect())
}

/// `hidden`: `[targets, hidden]`
fn token_logprobs(model: &Llama, hidden: Tensor<2>, targets: &[u32]) -> Vec<f32> {
    let ids: Vec<i32> = targets.iter().map(|&id| id as i32).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [targets.len(), 1]), &model.device());
    values(activation::log_softmax(model.logits(hidden), 1).gather(1, ids))
}

fn check_prompt(model: &Llama, prompt: &[u32]) -> Result<(), GenerateError> {
    let context = model.config.max_position_embeddings;
    if prompt.is_empty() {
        return Err(GenerateError::EmptyPrompt);
    }
    if prompt.len() > context {
        return Err(GenerateError::PromptTooLong { prompt: prompt.len(), context });
    }
    check_vocabulary(model, prompt)
}

fn check_vocabulary(model: &Llama, tokens: &[u32]) -> Result<(), GenerateError> {
    let vocab_size = model.config.vocab_size;
    match tokens.iter().find(|&&id| id as usize >= vocab_size) {
        Some(&id) => Err(GenerateError::TokenOutOfRange { id, vocab_size }),
        None => Ok(()),
    }
}

fn values(x: Tensor<2>) -> Vec<f32> {
    x.try_into_vec_as().expect("logits are f32 and lie on a device that answers")
}
