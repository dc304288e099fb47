//! The quickstart's before and after.

use std::collections::BTreeSet;
use std::fmt::Write;

use afina_router::{Report, Share};
use serde_json::{Value, json};

use super::scoring::{Questions, Score};

/// A stage that is over.
pub struct Stage {
    pub name: &'static str,
    pub seconds: f64,
    /// Of the process, bytes.
    pub peak_memory: u64,
}

pub struct Results<'q> {
    pub base: Score,
    pub tuned: Score,
    pub questions: &'q Questions,
    pub stages: Vec<Stage>,
}

impl Results<'_> {
    pub fn text(&self) -> String {
        let (base, tuned) = (&self.base, &self.tuned);
        let mut text = String::new();
        let mut row = |name: &str, base: String, tuned: String| {
            writeln!(text, "{name:<34} {base:>18} {tuned:>18}").expect("a string takes every line");
        };
        row(&format!("{} questions never seen", base.report.total.cases), "base".to_owned(), "tuned".to_owned());
        row("accuracy", percent(base.report.total), percent(tuned.report.total));
        row("  95 % interval", interval(base.report.total), interval(tuned.report.total));
        for (language, name) in [("es", "Spanish"), ("en", "English"), ("unknown", "language unknown")] {
            let share = |report: &Report| report.languages.get(language).copied().unwrap_or_default();
            if share(&base.report).cases > 0 {
                row(
                    &format!("  {name} ({})", share(&base.report).cases),
                    percent(share(&base.report)),
                    percent(share(&tuned.report)),
                );
            }
        }
        let agents: BTreeSet<&String> = base.report.routes.keys().chain(tuned.report.routes.keys()).collect();
        for agent in agents {
            let found = |report: &Report| {
                let score = report.routes.get(agent).copied().unwrap_or_default();
                format!("{:.0} % (F1 {:.2})", 100.0 * score.recall.unwrap_or(0.0), score.f1)
            };
            row(&format!("  {agent}, found"), found(&base.report), found(&tuned.report));
        }
        let loss = |score: &Score| format!("{:.3}", score.validation_loss);
        row("validation loss (nats per token)", loss(base), loss(tuned));
        let exact = |score: &Score| format!("{:.0} %", 100.0 * score.greedy.exact_match);
        row(&format!("free answer exactly right ({} rows)", base.greedy.answers.len()), exact(base), exact(tuned));
        let tokens = |score: &Score| format!("{:.1}", score.greedy.tokens_per_answer);
        row("tokens per free answer", tokens(base), tokens(tuned));
        let (majority, bayes) = (self.questions.majority(), self.questions.naive_bayes());
        let _ = writeln!(
            text,
            "\nwithout a neural network: majority class {}, naive Bayes on words {}",
            percent(majority),
            percent(bayes)
        );
        let _ = writeln!(text, "\n{:<20} {:>8} {:>14}", "stage", "seconds", "peak memory");
        for stage in &self.stages {
            let _ =
                writeln!(text, "{:<20} {:>8.1} {:>11.0} MB", stage.name, stage.seconds, stage.peak_memory as f64 / 1e6);
        }
        let total: f64 = self.stages.iter().map(|stage| stage.seconds).sum();
        let _ = writeln!(text, "{:<20} {total:>8.1}", "all");
        text
    }

    pub fn json(&self) -> Value {
        let seconds: serde_json::Map<String, Value> =
            self.stages.iter().map(|stage| (stage.name.replace(' ', "_"), json!(stage.seconds))).collect();
        json!({
            "base": score_json(&self.base),
            "tuned": score_json(&self.tuned),
            "majority": self.questions.majority().accuracy(),
            "naive_bayes": self.questions.naive_bayes().accuracy(),
            "seconds": seconds,
            "peak_memory": self.stages.iter().map(|stage| stage.peak_memory).max(),
        })
    }
}

fn score_json(score: &Score) -> Value {
    let mut json = score.report.json();
    json["validation_loss"] = json!(score.validation_loss);
    json["exact_match"] = json!(score.greedy.exact_match);
    json["tokens_per_answer"] = json!(score.greedy.tokens_per_answer);
    json
}

fn percent(share: Share) -> String {
    format!("{:.1} %", 100.0 * share.accuracy())
}

fn interval(share: Share) -> String {
    let [low, high] = share.interval();
    format!("{:.1} – {:.1} %", 100.0 * low, 100.0 * high)
}
