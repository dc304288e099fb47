//! How good a model is on a file: loss and perplexity of the expected answers, and whether its own answers equal them. And how far
//! two models are apart: logits over the same tokens, greedy answers to the same prompts.

mod divergence;
mod exact_match;
mod greedy;
mod likelihood;

pub use divergence::{Divergence, divergence, divergence_of_logits};
pub use exact_match::{Answer, ExactMatch, exact_match};
pub use greedy::{AnswerError, GreedyAgreement, GreedyAnswer, greedy, greedy_agreement, greedy_answers};
pub use likelihood::{Likelihood, likelihood};
