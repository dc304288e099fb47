//! Diagnostics as text for people.

use std::{collections::BTreeMap, fmt::Write};

use crate::{
    diagnostic::{Diagnostic, Severity},
    read::Summary,
    report::Window,
};

/// Diagnostics as text, one by one: of each rule the first few in full, the rest as one line at the end.
///
/// A file with one fault on every line stays readable, and nothing is left unsaid: the total is.
pub struct TextReport {
    limit: usize,
    counts: BTreeMap<(Severity, &'static str), usize>,
}

impl TextReport {
    /// Of each rule, `limit` diagnostics are shown.
    pub fn new(limit: usize) -> TextReport {
        TextReport { limit, counts: BTreeMap::new() }
    }

    /// The diagnostic in full, or nothing where its rule has been shown often enough.
    pub fn show(&mut self, diagnostic: &Diagnostic) -> Option<String> {
        let count = self.counts.entry((diagnostic.severity, diagnostic.rule)).or_default();
        *count += 1;
        (*count <= self.limit).then(|| block(diagnostic, diagnostic.window.as_deref()))
    }

    /// What was not shown, a line a rule; then the verdict.
    pub fn finish(&self, summary: &Summary) -> String {
        let mut text = String::new();
        for ((severity, rule), &count) in &self.counts {
            if count > self.limit {
                let (hidden, severity) = (count - self.limit, severity.as_str());
                let _ = writeln!(text, "… {severity}[{rule}]: {hidden} more, {count} in all");
            }
        }
        text + &verdict(summary) + "\n"
    }
}

/// The line that editors and `grep` read; the place in the data, carets under it; the hint; and a blank line, where
/// there is a window.
fn block(diagnostic: &Diagnostic, window: Option<&Window>) -> String {
    let shown = diagnostic.to_string();
    let Some(window) = window else { return shown + "\n" };
    let (head, hint) = shown.split_once('\n').unwrap_or((&shown, ""));
    let mut text = format!("{head}\n");
    for line in window.lines() {
        let _ = writeln!(text, "    | {line}");
    }
    if !hint.is_empty() {
        let _ = writeln!(text, "{hint}");
    }
    text + "\n"
}

/// All diagnostics as text, `limit` of each rule in full, and the verdict.
pub fn render_text(diagnostics: &[Diagnostic], summary: &Summary, limit: usize) -> String {
    let mut report = TextReport::new(limit);
    let shown: String = diagnostics.iter().filter_map(|diagnostic| report.show(diagnostic)).collect();
    shown + &report.finish(summary)
}

/// `512 examples: 511 valid, 1 invalid; 1 error, 3 warnings`
pub fn verdict(summary: &Summary) -> String {
    let counted = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let mut text = format!(
        "{}: {} valid, {} invalid",
        counted(summary.examples, "example"),
        summary.valid,
        summary.examples - summary.valid
    );
    let counts = [(summary.errors, "error"), (summary.warnings, "warning")];
    let counts: Vec<_> =
        counts.iter().filter(|(count, _)| *count > 0).map(|&(count, noun)| counted(count, noun)).collect();
    if !counts.is_empty() {
        let _ = write!(text, "; {}", counts.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::block;
    use crate::{Method, Profile, ReadOptions, render_text, report::Window, testing::read_all};

    #[test]
    fn a_window_stands_between_the_line_and_the_hint() {
        let line = r#"{"messages":[{"role":"bot","content":"日本語"}]}"#;
        let (diagnostics, ..) = read_all(line.as_bytes(), &ReadOptions::new(Method::Sft, Profile::Together));
        let role = diagnostics.iter().find(|found| found.rule == "unknown-role").unwrap();
        let window = Window::new(line, line.find("\"bot\"").unwrap(), 5);
        expect![[r#"
            x.jsonl:1:22: error[unknown-role] /messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `bot`
                | {"messages":[{"role":"bot","content":"日本語"}]}
                |                      ^^^^^
              hint: write `assistant`

        "#]].assert_eq(&block(role, Some(&window)));
    }

    #[test]
    fn a_fault_on_every_line_is_shown_a_few_times_and_counted() {
        let file: String =
            (0..5).map(|index| format!(r#"{{"messages":[{{"role":"bot","content":"{index}"}}]}}"#) + "\n").collect();
        let (diagnostics, _, summary) = read_all(file.as_bytes(), &ReadOptions::new(Method::Sft, Profile::Together));
        expect![[r#"
            x.jsonl:1:13: warning[missing-user-message] /messages: expected a user message, found none
              hint: add what the assistant answers to
            x.jsonl:1:22: error[unknown-role] /messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `bot`
              hint: write `assistant`
            x.jsonl:2:13: warning[missing-user-message] /messages: expected a user message, found none
              hint: add what the assistant answers to
            x.jsonl:2:22: error[unknown-role] /messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `bot`
              hint: write `assistant`
            x.jsonl:1:1: info[few-examples]: expected 50 examples to start with, found 5
              hint: add examples if the answers do not get better
            x.jsonl:1:1: info[missing-system-message]: 5 of 5 examples have no system message, the first is here
              hint: train with the system prompt that you will use
            … error[unknown-role]: 3 more, 5 in all
            … warning[missing-user-message]: 3 more, 5 in all
            5 examples: 0 valid, 5 invalid; 5 errors, 5 warnings
        "#]].assert_eq(&render_text(&diagnostics, &summary, 2));
    }
}
