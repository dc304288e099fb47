//! How well the router did: accuracy with its interval, per route, per language, and what was taken for what.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use serde::Serialize;

use crate::{
    cases::Case,
    decide::{Decision, LabelScore, Reason},
    language::guess_language,
    ledger::Totals,
};

/// The result of [`crate::check`]; [`Report::json`] and [`Report::text`] show it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub total: Share,
    /// By agent: those that a case expects or that were chosen.
    pub routes: BTreeMap<String, RouteScore>,
    /// Expected → chosen → cases. Several agents are one entry, joined by `+` in alphabetical order.
    pub confusion: BTreeMap<String, BTreeMap<String, usize>>,
    /// By guessed language: `es`, `en`, or `unknown` where nothing tells.
    pub languages: BTreeMap<String, Share>,
    pub reasons: BTreeMap<Reason, usize>,
    /// Of all cases together.
    pub tokens: Totals,
    pub cases: Vec<CaseResult>,
}

/// How many of how many are right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    pub correct: usize,
    pub cases: usize,
}

/// How well one agent is told from the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct RouteScore {
    /// Of the cases it got, the share that was its own; `None` if it got none.
    pub precision: Option<f64>,
    /// Of its own cases, the share that it got; `None` if it has none.
    pub recall: Option<f64>,
    /// Harmonic mean of the two: 2·both / (own + got).
    pub f1: f64,
    /// Cases that are its own.
    pub cases: usize,
    /// Cases that it got.
    pub chosen: usize,
}

/// One case and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseResult {
    pub line: usize,
    pub q: String,
    /// Guessed from the question.
    pub language: String,
    /// The agents that should answer, in alphabetical order.
    pub route: Vec<String>,
    /// The agents that would, in the order of the decision.
    pub chosen: Vec<String>,
    /// Whether they are the same agents, in whatever order.
    pub correct: bool,
    pub reason: Reason,
    pub rule: String,
    pub scores: Option<Vec<LabelScore>>,
    pub tokens: Totals,
}

impl CaseResult {
    pub(crate) fn new(case: &Case, decision: Decision, tokens: Totals) -> CaseResult {
        let chosen: BTreeSet<&String> = decision.agents.iter().collect();
        CaseResult {
            line: case.line,
            q: case.question.clone(),
            language: guess_language(&case.question).map_or("unknown", |language| language.as_str()).to_string(),
            correct: case.route.iter().collect::<BTreeSet<_>>() == chosen,
            route: case.route.clone(),
            chosen: decision.agents,
            reason: decision.reason,
            rule: decision.rule,
            scores: decision.scores,
            tokens,
        }
    }
}

impl Report {
    pub(crate) fn new(cases: Vec<CaseResult>) -> Report {
        let mut report = Report {
            total: Share::default(),
            routes: BTreeMap::new(),
            confusion: BTreeMap::new(),
            languages: BTreeMap::new(),
            reasons: BTreeMap::new(),
            tokens: Totals::default(),
            cases: Vec::new(),
        };
        for case in &cases {
            report.total.count(case.correct);
            report.languages.entry(case.language.clone()).or_default().count(case.correct);
            *report.reasons.entry(case.reason).or_default() += 1;
            let chosen = report.confusion.entry(joined(&case.route)).or_default();
            *chosen.entry(joined(&case.chosen)).or_default() += 1;
            report.tokens.input += case.tokens.input;
            report.tokens.output += case.tokens.output;
            report.tokens.reasoning += case.tokens.reasoning;
            report.tokens.total += case.tokens.total;
            report.tokens.calls += case.tokens.calls;
        }
        let names: BTreeSet<&String> = cases.iter().flat_map(|case| case.route.iter().chain(&case.chosen)).collect();
        report.routes = names.into_iter().map(|name| (name.clone(), score(name, &cases))).collect();
        report.cases = cases;
        report
    }

    /// From 0 to 1.
    pub fn accuracy(&self) -> f64 {
        self.total.accuracy()
    }

    /// The whole report; keys may be added, never renamed.
    pub fn json(&self) -> serde_json::Value {
        let share = |share: &Share| {
            let Share { correct, cases } = share;
            serde_json::json!({"accuracy": share.accuracy(), "interval": share.interval(), "correct": correct, "cases": cases})
        };
        let languages: BTreeMap<&String, serde_json::Value> =
            self.languages.iter().map(|(name, of)| (name, share(of))).collect();
        serde_json::json!({
            "accuracy": self.accuracy(),
            "interval": self.total.interval(),
            "correct": self.total.correct,
            "total": self.total.cases,
            "routes": self.routes,
            "confusion": self.confusion,
            "languages": languages,
            "reasons": self.reasons,
            "tokens": self.tokens,
            "cases": self.cases,
        })
    }

    /// The report without its cases, as tables.
    pub fn text(&self) -> String {
        let mut text = format!("accuracy {}\n", self.total);
        for (language, share) in &self.languages {
            let _ = writeln!(text, "  {language:<7} {share}");
        }
        let width = self.routes.keys().chain(self.confusion.keys()).map(|name| name.chars().count()).max();
        let width = width.unwrap_or(0).max(8);
        let _ = writeln!(text, "\n{:<width$}  precision  recall     f1  cases  chosen", "route");
        for (name, score) in &self.routes {
            let RouteScore { precision, recall, f1, cases, chosen } = score;
            let number = |value: &Option<f64>| value.map_or("–".to_string(), |value| format!("{value:.3}"));
            let (precision, recall) = (number(precision), number(recall));
            let _ = writeln!(text, "{name:<width$}  {precision:>9}  {recall:>6}  {f1:.3}  {cases:>5}  {chosen:>6}");
        }
        let columns: BTreeSet<&String> = self.confusion.values().flat_map(BTreeMap::keys).collect();
        let _ = write!(text, "\n{:<width$}", "is ↓ taken for →");
        let width = width.max("is ↓ taken for →".chars().count());
        let widths: Vec<usize> = columns.iter().map(|name| name.chars().count().max(4)).collect();
        for (name, width) in columns.iter().zip(&widths) {
            let _ = write!(text, "  {name:>width$}");
        }
        text.push('\n');
        for (name, row) in &self.confusion {
            let _ = write!(text, "{name:<width$}");
            for (column, width) in columns.iter().zip(&widths) {
                let count = row.get(*column).map_or("·".to_string(), ToString::to_string);
                let _ = write!(text, "  {count:>width$}");
            }
            text.push('\n');
        }
        let Totals { input, output, reasoning, total, calls } = self.tokens;
        let _ = writeln!(
            text,
            "\ntokens: {input} input + {output} output + {reasoning} reasoning = {total} in {calls} calls"
        );
        text
    }
}

impl Share {
    fn count(&mut self, correct: bool) {
        self.cases += 1;
        self.correct += usize::from(correct);
    }

    /// From 0 to 1; 0 without cases.
    pub fn accuracy(self) -> f64 {
        if self.cases == 0 { 0.0 } else { self.correct as f64 / self.cases as f64 }
    }

    /// Its 95 % interval.
    pub fn interval(self) -> [f64; 2] {
        wilson_interval(self.correct, self.cases)
    }
}

impl std::fmt::Display for Share {
    /// `81.4 % (215 of 264), 95 % interval 76.3 to 85.7 %`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Share { correct, cases } = self;
        let [low, high] = self.interval().map(|bound| bound * 100.0);
        let accuracy = self.accuracy() * 100.0;
        write!(f, "{accuracy:.1} % ({correct} of {cases}), 95 % interval {low:.1} to {high:.1} %")
    }
}

/// Wilson's score interval at 95 % for a share: where the true one lies, given how few cases there are.
///
/// From 0 to 1 without cases. Source: Wilson 1927, "Probable inference, the law of succession, and statistical
/// inference", without continuity correction.
pub fn wilson_interval(correct: usize, cases: usize) -> [f64; 2] {
    if cases == 0 {
        return [0.0, 1.0];
    }
    const Z: f64 = 1.959_963_984_540_054;
    let n = cases as f64;
    let p = correct as f64 / n;
    let middle = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    [((middle - spread) / scale).max(0.0), ((middle + spread) / scale).min(1.0)]
}

fn score(name: &String, cases: &[CaseResult]) -> RouteScore {
    let own = cases.iter().filter(|case| case.route.contains(name)).count();
    let got = cases.iter().filter(|case| case.chosen.contains(name)).count();
    let both = cases.iter().filter(|case| case.route.contains(name) && case.chosen.contains(name)).count();
    let share = |of: usize| (of > 0).then(|| both as f64 / of as f64);
    let f1 = 2.0 * both as f64 / (own + got) as f64;
    RouteScore { precision: share(got), recall: share(own), f1, cases: own, chosen: got }
}

fn joined(names: &[String]) -> String {
    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    names.into_iter().collect::<Vec<_>>().join("+")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn report(cases: &[(&str, &str, &str)]) -> Report {
        let split = |names: &str| names.split('+').map(String::from).collect::<Vec<_>>();
        let results = cases.iter().enumerate().map(|(index, (question, route, chosen))| {
            let case = Case { line: index + 1, question: question.to_string(), route: split(route) };
            let decision = Decision {
                agents: split(chosen),
                reason: Reason::Model,
                rule: "route_model".to_string(),
                span: None,
                scores: None,
                trace: Vec::new(),
            };
            CaseResult::new(&case, decision, Totals { input: 10, output: 0, reasoning: 2, total: 12, calls: 1 })
        });
        Report::new(results.collect())
    }

    fn sample() -> Report {
        report(&[
            ("¿Dónde está mi pedido?", "envios", "envios"),
            ("Where is my order?", "envios", "envios"),
            ("¿Cuánto cuesta la lavadora?", "ventas", "envios"),
            ("How much is the washer?", "ventas", "ventas"),
            ("Hola, buenos días", "recepcion", "ventas"),
            ("el precio y el pedido", "envios+ventas", "ventas+envios"),
            ("the price and the order", "envios+ventas", "ventas"),
            ("xyzzy", "recepcion", "legal"),
        ])
    }

    #[test]
    fn the_text_shows_every_table() {
        expect![[r#"
            accuracy 50.0 % (4 of 8), 95 % interval 21.5 to 78.5 %
              en      66.7 % (2 of 3), 95 % interval 20.8 to 93.9 %
              es      50.0 % (2 of 4), 95 % interval 15.0 to 85.0 %
              unknown 0.0 % (0 of 1), 95 % interval 0.0 to 79.3 %

            route          precision  recall     f1  cases  chosen
            envios             0.750   0.750  0.750      4       4
            legal              0.000       –  0.000      0       1
            recepcion              –   0.000  0.000      2       0
            ventas             0.750   0.750  0.750      4       4

            is ↓ taken for →  envios  envios+ventas  legal  ventas
            envios                 2              ·      ·       ·
            envios+ventas          ·              1      ·       1
            recepcion              ·              ·      1       1
            ventas                 1              ·      ·       1

            tokens: 80 input + 0 output + 16 reasoning = 96 in 8 calls
        "#]]
        .assert_eq(&sample().text());
    }

    #[test]
    fn the_json_has_the_keys_that_scripts_rely_on() {
        let json = sample().json();
        assert_eq!(json["accuracy"], 0.5);
        assert_eq!((&json["correct"], &json["total"]), (&4.into(), &8.into()));
        assert_eq!(json["confusion"]["ventas"]["envios"], 1);
        assert_eq!(json["languages"]["en"]["cases"], 3);
        assert_eq!(json["routes"]["recepcion"]["precision"], serde_json::Value::Null);
        expect![[r#"{"precision":0.75,"recall":0.75,"f1":0.75,"cases":4,"chosen":4}"#]]
            .assert_eq(&json["routes"]["ventas"].to_string());
        expect![[r#"{"line":6,"q":"el precio y el pedido","language":"es","route":["envios","ventas"],"chosen":["ventas","envios"],"correct":true,"reason":"model","rule":"route_model","scores":null,"tokens":{"input":10,"output":0,"reasoning":2,"total":12,"calls":1}}"#]].assert_eq(&json["cases"][5].to_string());
    }

    #[test]
    fn the_interval_is_wilsons() {
        // Reference: scipy 1.17.1, binomtest(correct, cases).proportion_ci(method="wilson").
        for (correct, cases, low, high) in [
            (0, 10, 0.0, 0.277_532_799_9),
            (8, 10, 0.490_162_471_5, 0.943_317_848_5),
            (96, 120, 0.719_633_264_9, 0.861_755_235_2),
            (264, 264, 0.985_657_713_9, 1.0),
        ] {
            let [l, h] = wilson_interval(correct, cases);
            assert!((l - low).abs() < 1e-9 && (h - high).abs() < 1e-9, "{correct} of {cases}: {l} {h}");
        }
    }
}
