//! The report for people.

use super::Report;
use super::pair::{Pair, number};

const HEADER: [&str; 11] = [
    "made of it",
    "format",
    "max |Δlogit|",
    "mean KL",
    "max KL",
    "same top",
    "perplexity",
    "equal tokens",
    "ended",
    "exact",
    "passed",
];

/// What was compared, a line a pair, and each number that is beyond its limit.
pub fn text(report: &Report) -> String {
    let reference = &report.reference;
    let mut text = format!(
        "training graph: {} conversations, {} tokens, {} of them trained; loss {:.4}, perplexity {:.3}",
        reference.rows, reference.tokens, reference.trained_tokens, reference.loss, reference.perplexity
    );
    if let Some(answers) = &reference.answers {
        text += &format!(
            "\n  {} greedy answers of {:.1} tokens, {} ended, {} as in the data file",
            answers.answers, answers.tokens_per_answer, answers.ended, answers.exact
        );
    }
    if let Some(adapter) = &report.adapter {
        text += &format!("\n  the adapter moves a logit by {}, on average", number(adapter.mean_abs_logit));
    }
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(report.pairs.iter().map(cells));
    let widths: Vec<usize> =
        (0..HEADER.len()).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    text.push('\n');
    for row in rows {
        let [first, rest @ ..] = &row;
        text += &format!("\n{first:<0$}", widths[0]);
        for (cell, width) in rest.iter().zip(&widths[1..]) {
            text += &format!("  {cell:>width$}");
        }
    }
    if !report.failures.is_empty() {
        text += &format!("\n\nnot passed:\n  {}", report.failures.join("\n  "));
    }
    text
}

fn cells(pair: &Pair) -> [String; HEADER.len()] {
    let found = &pair.divergence;
    let none = || "-".to_owned();
    let answers = |show: &dyn Fn(&afina_eval::GreedyAgreement) -> String| pair.answers.as_ref().map_or_else(none, show);
    [
        pair.b.clone(),
        pair.format.clone().unwrap_or_else(none),
        number(found.max_abs_logit),
        number(found.mean_kl),
        number(found.max_kl),
        format!("{:.2} %", 100.0 * found.top1),
        format!("{:.3}", found.perplexity),
        answers(&|answers| format!("{:.1} of {:.1}", answers.equal_prefix, answers.reference_tokens)),
        answers(&|answers| format!("{}/{}", answers.ended, answers.answers)),
        answers(&|answers| format!("{}/{}", answers.exact, answers.answers)),
        if pair.failures.is_empty() { "yes" } else { "NO" }.to_owned(),
    ]
}
