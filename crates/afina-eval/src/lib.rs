//! How good a model is on a file: loss and perplexity of the expected answers, and whether its own answers equal them.

mod exact_match;
mod likelihood;

pub use exact_match::{Answer, ExactMatch, ExactMatchError, exact_match};
pub use likelihood::{Likelihood, likelihood};
