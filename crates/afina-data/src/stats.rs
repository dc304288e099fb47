//! Figures of a data file: how long its examples are, what is in them, what they repeat and what training on them
//! would cost. Fed record by record, in the order of the file.

mod billing;
mod histogram;
mod quantile;
mod render;
mod shape;
mod tokens;

use serde::Serialize;

use crate::diagnostic::Diagnostic;

pub use billing::{
    Billing, COOKBOOK_MAX_TOKENS, CookbookTokens, Cost, PRICES_TOML, Price, Prices, cookbook_tokens, epochs,
    training_context,
};
pub use histogram::Bar;
pub use quantile::quantile;
pub use render::render_statistics;
pub use shape::{Named, Shape, ShapeReport};
pub use tokens::{OverLength, Packing, TokenCounts, TokenReport, Tokens};

/// The figures so far. Each part can be fed alone: what was not fed is not reported.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// What the examples are made of.
    pub shape: Shape,
    /// How long they are, where a tokenizer is at hand.
    pub tokens: Tokens,
    repeats: Repeats,
}

/// What several records have in common, as the rules of the dataset found it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Repeats {
    pub exact_duplicates: usize,
    pub near_duplicates: usize,
    pub conflicting_answers: usize,
    /// Records, or their prompts, that the validation file has too.
    pub in_validation: usize,
    pub secrets: usize,
    pub personal_data: usize,
}

/// The figures of a whole file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatisticsReport {
    #[serde(flatten)]
    pub shape: ShapeReport,
    pub repeats: Repeats,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billing: Option<Billing>,
}

/// What the report depends on besides the file.
#[derive(Clone, Debug)]
pub struct ReportOptions {
    /// Tokens that a row has place for: examples above it are listed, and packing is judged by it.
    pub seq_len: Option<u32>,
    /// Tokens of an example that are billed at most: [`COOKBOOK_MAX_TOKENS`], or the model's training context.
    pub billed_per_example: u32,
    /// Without prices nothing is said of cost.
    pub prices: Option<Prices>,
}

impl Statistics {
    /// Counts what a rule found.
    pub fn add_diagnostic(&mut self, diagnostic: &Diagnostic) {
        let repeats = &mut self.repeats;
        let count = match diagnostic.rule {
            "duplicate-example" => &mut repeats.exact_duplicates,
            "near-duplicate-example" => &mut repeats.near_duplicates,
            "conflicting-answers" => &mut repeats.conflicting_answers,
            "train-validation-overlap" => &mut repeats.in_validation,
            "secret-detected" => &mut repeats.secrets,
            "pii-detected" => &mut repeats.personal_data,
            _ => return,
        };
        *count += 1;
    }

    /// The figures of all that was added. Without token counts it says nothing of tokens and billing.
    pub fn report(&self, options: &ReportOptions) -> StatisticsReport {
        let tokens = self.tokens.report(options.seq_len);
        let billing = tokens
            .is_some()
            .then(|| Billing::new(self.tokens.lengths(), options.billed_per_example, options.prices.as_ref()));
        StatisticsReport { shape: self.shape.report(), repeats: self.repeats, tokens, billing }
    }
}
