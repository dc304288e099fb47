//! One pair of the report: the training graph and something made of it.

use afina_eval::{Divergence, GreedyAgreement};
use serde::Serialize;

use super::chat::ChatAgreement;
use super::facts::Recall;
use super::limits::Limits;

/// The name of the training graph in a report.
pub const TRAINING: &str = "training";
/// Lines that are named where many are at fault.
const NAMED: usize = 3;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    pub a: &'static str,
    /// A path, or a peer's name.
    pub b: String,
    /// The coarsest in which its matrices are stored, where that is known.
    pub format: Option<String>,
    /// Of the weights, where they are a file or folder.
    pub bytes: Option<u64>,
    #[serde(flatten)]
    pub divergence: Divergence,
    /// Tokens of a greedy answer before the first that differs, the mean; nothing where none was generated.
    pub greedy_prefix: Option<f64>,
    pub answers: Option<GreedyAgreement>,
    pub chat: Option<ChatAgreement>,
    pub facts: Vec<Recall>,
    pub limits: Limits,
    /// In words; with one of them, the pair has not passed.
    pub failures: Vec<String>,
}

impl Pair {
    /// Finds everything that is further apart than its limits. `known` is what the training graph answers to each fact.
    pub fn judge(&mut self, known: &[Recall]) {
        let mut failures = Vec::new();
        let mut fail = |text: String| failures.push(format!("{}: {text}", self.b));
        let Limits { max_kl, min_top1 } = self.limits;
        let why = self.format.as_ref().map_or_else(String::new, |format| format!(" ({format})"));
        if beyond(self.divergence.mean_kl, max_kl) {
            let found = number(self.divergence.mean_kl);
            fail(format!("mean KL is {found} nats per token, expected at most {}{why}", number(max_kl)));
        }
        if beyond(min_top1, self.divergence.top1) {
            let [found, expected] = [self.divergence.top1, min_top1].map(|share| format!("{:.2} %", 100.0 * share));
            fail(format!(
                "the same token is the likeliest behind {found} of tokens, expected at least {expected}{why}"
            ));
        }
        if let Some(answers) = &self.answers {
            if answers.end_missed > 0 {
                fail(format!(
                    "{} of {} answers do not end that the training graph ends",
                    answers.end_missed, answers.reference_ended
                ));
            }
            // An answer that was learned is as sure as the tokens it is made of.
            let missed = answers.exact_missed as f64 / answers.reference_exact.max(1) as f64;
            if missed > 1.0 - min_top1 {
                fail(format!(
                    "{} of {} answers are no longer the data file's{why}",
                    answers.exact_missed, answers.reference_exact
                ));
            }
        }
        if let Some(chat) = &self.chat {
            if !chat.template_equal {
                fail("the chat template is not the one that was trained with".to_owned());
            }
            if let Some(lines) = named(&chat.rendered_otherwise) {
                fail(format!("the chat template renders {lines} to other bytes"));
            }
            if let Some(lines) = named(&chat.tokens_otherwise) {
                fail(format!("its own template and tokenizer give other tokens for {lines}"));
            }
            if !chat.stop_tokens_equal {
                fail(format!("it stops at tokens {:?}, not where the training graph does", chat.stop_tokens));
            }
        }
        for (fact, _) in self.facts.iter().zip(known).filter(|(fact, known)| known.recalled && !fact.recalled) {
            fail(format!("`{}` is answered by `{}`, without `{}`", fact.question, fact.found.trim(), fact.expected));
        }
        self.failures = failures;
    }
}

/// `line 3`, `lines 1, 2, 3 and 17 more`; nothing for none.
fn named(lines: &[usize]) -> Option<String> {
    let first: Vec<String> = lines.iter().take(NAMED).map(usize::to_string).collect();
    match lines.len() {
        0 => None,
        1 => Some(format!("line {}", lines[0])),
        many if many > NAMED => Some(format!("lines {} and {} more", first.join(", "), many - NAMED)),
        _ => Some(format!("lines {}", first.join(", "))),
    }
}

/// Whether a number is above a limit; what is no number is.
pub fn beyond(found: f64, limit: f64) -> bool {
    found > limit || found.is_nan() || limit.is_nan()
}

/// In the form that its size asks for.
pub fn number(value: f64) -> String {
    if value == 0.0 || (0.01..1000.0).contains(&value) { format!("{value:.3}") } else { format!("{value:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_numbers_are_short() {
        assert_eq!(
            [&[][..], &[3], &[1, 2], &[1, 2, 3, 4, 5]].map(named),
            [
                None,
                Some("line 3".to_owned()),
                Some("lines 1, 2".to_owned()),
                Some("lines 1, 2, 3 and 2 more".to_owned()),
            ]
        );
        assert_eq!(
            [0.0, 1.25, 3.1e-7, f64::NAN, f64::INFINITY].map(number),
            ["0.000", "1.250", "3.1e-7", "NaN", "inf"]
        );
    }
}
