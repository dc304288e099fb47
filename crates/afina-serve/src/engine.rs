//! What the server asks of a model: [`Engine`], its requests and its answers.

use std::ops::ControlFlow;

use afina_chat::Conversation;

/// One or more models that share a machine: a base and its adapters, say.
///
/// The server's worker thread owns the engine and calls it for one request at a time. A call that panics is answered
/// with a 500 and the engine is used again, so a call must leave nothing behind that the next one relies on.
pub trait Engine: Send + 'static {
    /// The models that can be asked for, the default one first. Asked once, when the server starts.
    fn models(&self) -> Vec<ModelCard>;

    /// Answers a conversation.
    ///
    /// `on_text` gets the text as it grows, in whole characters. Call it once per token, with `""` when a token completes
    /// no character: [`ControlFlow::Break`] is how the engine hears of a reached stop string and of a client that hung
    /// up, and it must return soon after, with the tokens generated so far. The server itself finds and cuts the
    /// request's `stop` strings, so an engine may leave them alone.
    fn generate(
        &mut self,
        request: &GenerateRequest,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generated, EngineError>;

    /// The log-probability of each given continuation as the whole next turn of the conversation.
    fn score(&mut self, request: &ScoreRequest) -> Result<Scored, EngineError>;
}

/// A model as `/v1/models` lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCard {
    pub id: String,
    /// Unix time in seconds.
    pub created: i64,
    pub owned_by: String,
    /// The id of the base, where this is an adapter.
    pub parent: Option<String>,
    /// Hash of the weights, in hexadecimal.
    pub sha256: Option<String>,
}

/// A conversation to be answered.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    /// The id of one of [`Engine::models`].
    pub model: String,
    pub conversation: Conversation,
    /// At least 1; without it, as many as the context holds.
    pub max_tokens: Option<usize>,
    /// From 0 (greedy) to 2.
    pub temperature: f32,
    /// From 0 to 1; the most likely token always stays, so 0 is greedy.
    pub top_p: f32,
    /// 0: off.
    pub top_k: usize,
    pub seed: Option<u64>,
    /// At most four, none empty.
    pub stop: Vec<String>,
}

/// An answer, with what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// All that went through `on_text`. A tail that did not is added by the server.
    pub text: String,
    pub finish_reason: FinishReason,
    pub prompt_tokens: usize,
    /// Every generated token, with the end-of-turn token and those of a stop string.
    pub completion_tokens: usize,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its turn, or a stop string was reached.
    Stop,
    /// `max_tokens` or the end of the context was reached.
    Length,
}

impl FinishReason {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        }
    }
}

/// Continuations to be scored after the same conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreRequest {
    /// The id of one of [`Engine::models`].
    pub model: String,
    pub conversation: Conversation,
    pub continuations: Vec<String>,
}

/// The scores, in the order of the continuations.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    pub prompt_tokens: usize,
    pub scores: Vec<ContinuationScore>,
}

/// What the model thinks of one continuation; its end-of-turn token is part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ContinuationScore {
    /// Sum of `token_logprobs`, in nats, unnormalized.
    pub logprob: f64,
    /// One per token, in nats.
    pub token_logprobs: Vec<f32>,
    pub tokens: Vec<u32>,
}

/// Why an engine could not answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// Answered with a 404.
    #[error("the model `{model}` does not exist")]
    ModelNotFound { model: String },
    /// Answered with a 400, `context_length_exceeded`. `max_tokens` is what the request asked for, if it did.
    #[error("the context holds {context} tokens, found {prompt_tokens} in the messages and {max_tokens:?} to generate")]
    ContextLength { context: usize, prompt_tokens: usize, max_tokens: Option<usize> },
    /// The model's chat template drops or cannot render something in the conversation. Answered with a 400.
    #[error("{0}")]
    Template(String),
    /// Answered with a 500.
    #[error("{0}")]
    Internal(String),
}
