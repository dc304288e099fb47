//! Figures of a data file: how long its examples are, what is in them, what they repeat and what training on them
//! would cost. Fed record by record, in the order of the file.

mod billing;
mod histogram;
mod pairs;
mod quantile;
mod render;
mod shape;
mod tokens;

use serde::Serialize;

use crate::diagnostic::Diagnostic;

pub use billing::{
    Billing, COOKBOOK_MAX_TOKENS, CookbookTokens, Cost, PRICES_TOML, Price, Prices, cookbook_tokens, epochs, is_model,
    tokenizer_of, training_context,
};
pub use histogram::Bar;
pub use pairs::{PairReport, PairShape, Pairs};
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
    /// Of preference data.
    pub pairs: Pairs,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs: Option<PairReport>,
    pub repeats: Repeats,
    /// What was looked for and is not there.
    #[serde(skip)]
    pub not_found: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenReport>,
    /// Nobody said how to count tokens.
    #[serde(skip)]
    pub no_tokenizer: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billing: Option<Billing>,
}

/// What the report depends on besides the file.
#[derive(Clone, Debug)]
pub struct ReportOptions {
    /// Tokens that a row has place for: examples above it are listed, and packing is judged by it.
    pub seq_len: Option<u32>,
    /// Tokens of an example that are billed at most, where a model's own training context is not known:
    /// [`COOKBOOK_MAX_TOKENS`], or what the profile says.
    pub billed_per_example: u32,
    /// Without prices nothing is said of billing: what is trained here is not billed.
    pub prices: Option<Prices>,
    /// Training is done here: what is longer than `seq_len` is refused, not cut.
    pub local: bool,
    /// Rules that were checked, by id, as far as their findings are counted here: see [`COUNTED_RULES`].
    pub checked: Vec<&'static str>,
}

/// The rules whose findings are counted, and what they find: one, and several.
pub const COUNTED_RULES: [(&str, &str, &str); 6] = [
    ("duplicate-example", "exact copy", "exact copies"),
    ("near-duplicate-example", "near copy", "near copies"),
    ("conflicting-answers", "answer that contradicts an earlier one", "answers that contradict an earlier one"),
    (
        "train-validation-overlap",
        "example that the validation file has too",
        "examples that the validation file has too",
    ),
    ("secret-detected", "text with a secret", "texts with secrets"),
    ("pii-detected", "text with personal data", "texts with personal data"),
];

impl Statistics {
    /// Counts what a rule found.
    pub fn add_diagnostic(&mut self, diagnostic: &Diagnostic) {
        let place = COUNTED_RULES.iter().position(|(rule, ..)| *rule == diagnostic.rule);
        if let Some(place) = place {
            *self.repeats.counts_mut()[place] += 1;
        }
    }

    /// The figures of all that was added. Without token counts it says nothing of tokens and billing.
    pub fn report(&self, options: &ReportOptions) -> StatisticsReport {
        let tokens = self.tokens.report(options.seq_len, options.local);
        let prices = options.prices.as_ref().filter(|_| tokens.is_some());
        let billing =
            prices.map(|prices| Billing::new(self.tokens.lengths(), options.billed_per_example, Some(prices)));
        let counts = COUNTED_RULES.iter().zip(self.repeats.counts());
        let not_found = counts.filter(|((rule, ..), count)| *count == 0 && options.checked.contains(rule));
        let not_found = not_found.map(|((.., many), _)| *many).collect();
        StatisticsReport {
            shape: self.shape.report(),
            pairs: self.pairs.report(),
            repeats: self.repeats,
            not_found,
            no_tokenizer: tokens.is_none() && !options.local,
            tokens,
            billing,
        }
    }
}

impl Repeats {
    /// In the order of [`COUNTED_RULES`].
    pub(crate) fn counts(mut self) -> [usize; 6] {
        self.counts_mut().map(|count| *count)
    }

    fn counts_mut(&mut self) -> [&mut usize; 6] {
        [
            &mut self.exact_duplicates,
            &mut self.near_duplicates,
            &mut self.conflicting_answers,
            &mut self.in_validation,
            &mut self.secrets,
            &mut self.personal_data,
        ]
    }
}
