//! Which agent answers a question, and how we know that it is the right one.
//!
//! A `routes.toml` ([`Routes`] documents its keys) names models, agents and rules: words, regular expressions, and a model
//! that chooses among labels by their log-probability. [`decide`] turns a question into a [`Decision`] with a trace of
//! every rule tried, [`dispatch`] lets the chosen agents answer, [`Ledger`] accounts for each token of it, [`check`]
//! measures labelled cases, and [`baseline`] says what two methods without a neural network reach on them.
//!
//! What holds: models are seen through [`ChatClient`] alone; input + output + reasoning is the sum of the usage that the
//! servers reported; the same question and the same scores give the same decision.

mod fold;
mod lint;
mod problem;
mod routes;
mod toml_table;

mod client;
mod http;
mod ledger;

mod decide;
mod dispatch;
mod explain;

pub mod baseline;
mod cases;
mod check;
mod language;
mod report;

#[cfg(test)]
mod testing;

pub use cases::{Case, CasesError, read_cases};
pub use check::{CheckError, check};
pub use client::{ChatClient, ChatReply, ClientError, Clients, ScoreReply, Usage, http_clients};
pub use decide::{Decision, LabelScore, Outcome, Reason, RouteError, Span, TraceStep, decide};
pub use dispatch::{Dispatch, Reply, dispatch};
pub use explain::explain;
pub use http::HttpClient;
pub use language::{Language, guess_language};
pub use ledger::{Call, Ledger, Purpose, Totals};
pub use problem::{Problem, Severity};
pub use report::{CaseResult, Report, RouteScore, Share, wilson_interval};
pub use routes::{Agent, Limits, Mode, ModelEntry, Multi, Phrase, Route, RouteModel, Routes, RoutesError, When};
