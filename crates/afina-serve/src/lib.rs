//! The OpenAI-compatible HTTP API over any [`Engine`]: chat completions whole and streamed, models, scores of given
//! continuations. One worker thread owns the engine behind a bounded queue; a client that hangs up stops its own
//! generation. [`router`] makes the routes, [`serve`] runs them on a listener until told to stop; both leave addresses,
//! printing and signals to the program.
//!
//! What holds: a streamed answer is, piece after piece, the whole answer; a stop string never shows, not even its first
//! half; an unknown model is a 404 and never answered by another; a request field that cannot change the answer is
//! accepted and listed in the `x-afina-ignored` header, any other field that is not honoured is a 400; every failure,
//! unknown urls and broken JSON included, has OpenAI's error shape.

mod engine;
mod queue;
mod stop;
mod worker;

mod body;
mod error;
mod fields;
mod messages;

mod auth;
mod chat_completions;
mod chat_request;
mod models;
mod router;
mod score;
mod server;
mod stream;
mod wire;

#[cfg(test)]
mod testing;

pub use engine::{
    ContinuationScore, Engine, EngineError, FinishReason, GenerateRequest, Generated, ModelCard, ScoreRequest, Scored,
};
pub use router::{ServeOptions, router};
pub use server::{StopHandle, serve, stop_signal};
