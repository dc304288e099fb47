//! Models as the router sees them.

use std::collections::BTreeMap;

use afina_chat::Conversation;
use serde::{Deserialize, Serialize};

use crate::{http::HttpClient, routes::Routes};

/// A server of models, or something that stands in for one.
pub trait ChatClient {
    /// Answers a conversation; `max_tokens` of `None` leaves the length to the server.
    fn chat(
        &self,
        model: &str,
        conversation: &Conversation,
        max_tokens: Option<usize>,
        temperature: f32,
    ) -> Result<ChatReply, ClientError>;

    /// The log-probability of each continuation as the whole next turn, in nats, in the order given.
    fn score(
        &self,
        model: &str,
        conversation: &Conversation,
        continuations: &[String],
    ) -> Result<ScoreReply, ClientError>;
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatReply {
    pub text: String,
    pub finish_reason: String,
    pub usage: Usage,
}

/// Scores of continuations.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreReply {
    pub logprobs: Vec<f64>,
    pub usage: Usage,
}

/// Tokens as the server counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
    pub total_tokens: usize,
}

/// A client for each name under `[models]`.
pub type Clients = BTreeMap<String, Box<dyn ChatClient>>;

/// HTTP clients for the models of a routes file. `key` looks up the variables that `api_key_env` names.
pub fn http_clients(routes: &Routes, key: &dyn Fn(&str) -> Option<String>) -> Result<Clients, ClientError> {
    let client = |(name, model): (&String, &crate::routes::ModelEntry)| {
        let api_key = match &model.api_key_env {
            None => None,
            Some(variable) => Some(
                key(variable).ok_or_else(|| ClientError::NoKey { model: name.clone(), variable: variable.clone() })?,
            ),
        };
        let client: Box<dyn ChatClient> = Box::new(HttpClient::new(&model.url, api_key));
        Ok((name.clone(), client))
    };
    routes.models.iter().map(client).collect()
}

/// Why a model could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("model `{model}` wants its key in the variable `{variable}`, which is not set")]
    NoKey { model: String, variable: String },
    #[error("failed to reach `{url}`")]
    Connect { url: String, source: Box<ureq::Error> },
    #[error("`{url}` answered {status}: {message}")]
    Status { url: String, status: u16, message: String },
    #[error("`{url}` did not answer in JSON")]
    Json { url: String, source: serde_json::Error },
    #[error("`{url}` answered with {found}, expected {expected}")]
    Answer { url: String, expected: &'static str, found: String },
}
