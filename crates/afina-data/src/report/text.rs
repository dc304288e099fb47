//! Diagnostics as text for people.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

use rapidhash::v3::rapidhash_v3;

use super::{
    closing::{closing, table},
    paint::Paint,
};
use crate::{
    diagnostic::{Diagnostic, Severity, readable},
    number::{counted, grouped},
    read::Summary,
    report::Window,
};

/// Diagnostics that say the same but for their place are shown so often.
const SAME: usize = 3;

/// Diagnostics as text, one by one: of each rule the first few in full, and fewer where they say the same; the rest as
/// one line at the end of the file, with the lines they are on. Then a table of the rules, the verdict, and what to do.
///
/// A file with one fault on every line stays readable, and nothing is left unsaid: the total is.
pub struct TextReport {
    limit: usize,
    paint: Paint,
    /// Of the last diagnostic.
    file: String,
    several_files: bool,
    counts: BTreeMap<(Severity, &'static str), Counts>,
    /// How often each message with its hint came, in this file: as many as are shown, at most.
    causes: HashMap<u64, usize>,
}

/// The diagnostics of a rule.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) total: usize,
    /// Where the first one is.
    pub(super) first: (String, usize),
    shown: usize,
    hidden: Option<Hidden>,
}

/// Those of one file that are not shown.
struct Hidden {
    count: usize,
    from: usize,
    to: usize,
    /// They are on every line from the first to the last.
    in_a_row: bool,
}

impl TextReport {
    /// Of each rule, `limit` diagnostics are shown.
    pub fn new(limit: usize) -> TextReport {
        TextReport {
            limit,
            paint: Paint { color: false },
            file: String::new(),
            several_files: false,
            counts: BTreeMap::new(),
            causes: HashMap::new(),
        }
    }

    /// With the colours of a terminal, or without.
    pub fn colored(self, color: bool) -> TextReport {
        TextReport { paint: Paint { color }, ..self }
    }

    /// The diagnostic in full, or nothing where its rule, or its like, has been shown often enough.
    pub fn show(&mut self, diagnostic: &Diagnostic) -> Option<String> {
        let mut text = String::new();
        if diagnostic.file != self.file {
            text = self.end_file();
            self.several_files |= !self.file.is_empty();
            self.file.clone_from(&diagnostic.file);
        }
        let counts = self.counts.entry((diagnostic.severity, diagnostic.rule)).or_default();
        if counts.total == 0 {
            counts.first = (diagnostic.file.clone(), diagnostic.line);
        }
        counts.total += 1;
        let again = counts.shown < self.limit && {
            let same = self.causes.entry(cause(diagnostic)).or_default();
            *same += 1;
            *same <= SAME
        };
        if again {
            counts.shown += 1;
            text += &block(diagnostic, diagnostic.window.as_deref(), self.paint);
        } else {
            counts.hide(diagnostic.line);
        }
        (!text.is_empty()).then_some(text)
    }

    /// What was not shown of a file, a line a rule.
    fn end_file(&mut self) -> String {
        let mut text = String::new();
        self.causes.clear();
        for ((_, rule), counts) in &mut self.counts {
            if let Some(hidden) = counts.hidden.take() {
                let _ = writeln!(text, "… and {} more {} ({rule})", grouped(hidden.count as u64), hidden.lines());
            }
        }
        text
    }

    /// What was not shown; the table of the rules; then the verdict, and how to go on.
    pub fn finish(mut self, summary: &Summary) -> String {
        let hidden = self.counts.values().any(|counts| counts.total > counts.shown);
        let mut text = self.end_file();
        text += &table(&self.counts, self.several_files);
        text += &verdict(summary);
        text.push('\n');
        let file = if self.several_files { "FILE" } else { &self.file };
        text + &closing(&self.counts, file, hidden)
    }
}

impl Counts {
    fn hide(&mut self, line: usize) {
        match &mut self.hidden {
            None => self.hidden = Some(Hidden { count: 1, from: line, to: line, in_a_row: true }),
            Some(hidden) => {
                hidden.count += 1;
                hidden.in_a_row &= line == hidden.to || line == hidden.to + 1;
                (hidden.from, hidden.to) = (hidden.from.min(line), hidden.to.max(line));
            }
        }
    }
}

impl Hidden {
    fn lines(&self) -> String {
        let Hidden { from, to, in_a_row, .. } = self;
        match (from == to, in_a_row) {
            (true, _) => format!("on line {from}"),
            (false, true) => format!("on lines {from}-{to}"),
            (false, false) => format!("between lines {from} and {to}"),
        }
    }
}

/// The same number for the same words: the numbers in a message are mostly a place, or how much of something it is.
fn cause(diagnostic: &Diagnostic) -> u64 {
    let words = |text: &str| -> String {
        // `0xF1` and `12` are numbers, `call_1` is a name.
        let mut in_number = false;
        text.split_inclusive(|char: char| !char.is_alphanumeric() && char != '_')
            .filter(|word| {
                let word = word.trim_end_matches(|char: char| !char.is_alphanumeric());
                in_number = word.starts_with(|char: char| char.is_ascii_digit());
                !in_number
            })
            .collect()
    };
    let key = format!("{}\n{}\n{}", diagnostic.rule, words(&diagnostic.message), diagnostic.hint);
    rapidhash_v3(key.as_bytes())
}

/// The line that editors and `grep` read; the place in the data, carets under it; the hint; and a blank line, where
/// there is a window.
fn block(diagnostic: &Diagnostic, window: Option<&Window>, paint: Paint) -> String {
    let Diagnostic { rule, severity, file, line, column, pointer, message, hint, window: _ } = diagnostic;
    let label = paint.severity(*severity, &format!("{}[{rule}]", severity.as_str()));
    let mut text = format!("{file}:{line}:{column}: {label}");
    if !pointer.is_empty() {
        let _ = write!(text, " {}", readable(&short_pointer(pointer)));
    }
    let _ = writeln!(text, ": {message}");
    if let Some([line, carets]) = window.map(Window::lines) {
        let _ = writeln!(text, "    | {line}\n    | {}", paint.severity(*severity, &carets));
    }
    if !hint.is_empty() {
        let _ = writeln!(text, "  {} {hint}", paint.bold("hint:"));
    }
    if window.is_some() { text + "\n" } else { text }
}

/// A pointer that fits a line: of a very deep one the beginning and the end.
fn short_pointer(pointer: &str) -> String {
    const STEPS: usize = 16;
    const KEPT: usize = 5;
    let steps: Vec<&str> = pointer.split('/').skip(1).collect();
    if steps.len() <= STEPS {
        return pointer.to_owned();
    }
    format!("/{}/…/{}", steps[..KEPT].join("/"), steps[steps.len() - KEPT..].join("/"))
}

/// All diagnostics as text, `limit` of each rule in full, and the verdict.
pub fn render_text(diagnostics: &[Diagnostic], summary: &Summary, limit: usize) -> String {
    let mut report = TextReport::new(limit);
    let shown: String = diagnostics.iter().filter_map(|diagnostic| report.show(diagnostic)).collect();
    shown + &report.finish(summary)
}

/// `512 examples: 511 valid, 1 invalid; 1 error, 3 warnings`
pub fn verdict(summary: &Summary) -> String {
    let examples = counted(summary.examples, "example", "examples");
    let [valid, invalid] =
        [summary.valid, summary.examples.saturating_sub(summary.valid)].map(|count| grouped(count as u64));
    let mut text = format!("{examples}: {valid} valid, {invalid} invalid");
    let counts = [(summary.errors, "error", "errors"), (summary.warnings, "warning", "warnings")];
    let counts: Vec<_> =
        counts.iter().filter(|(count, ..)| *count > 0).map(|&(count, one, many)| counted(count, one, many)).collect();
    if !counts.is_empty() {
        let _ = write!(text, "; {}", counts.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::{Paint, TextReport, block};
    use crate::{Method, Profile, ReadOptions, render_text, report::Window, testing::read_all};

    fn options() -> ReadOptions {
        ReadOptions::new(Method::Sft, Profile::Together)
    }

    #[test]
    fn a_window_stands_between_the_line_and_the_hint() {
        let line = r#"{"messages":[{"role":"bot","content":"日本語"}]}"#;
        let (diagnostics, ..) = read_all(line.as_bytes(), &options());
        let role = diagnostics.iter().find(|found| found.rule == "unknown-role").unwrap();
        let window = Window::new(line, line.find("\"bot\"").unwrap(), 5);
        expect![[r#"
            x.jsonl:1:22: error[unknown-role] /messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `bot`
                | {"messages":[{"role":"bot","content":"日本語"}]}
                |                      ^^^^^
              hint: write `assistant`

        "#]].assert_eq(&block(role, Some(&window), Paint { color: false }));
        let painted = block(role, Some(&window), Paint { color: true });
        assert!(painted.contains("\u{1b}[1;31merror[unknown-role]\u{1b}[0m /messages"), "{painted}");
        assert!(painted.contains("\u{1b}[1;31m                     ^^^^^\u{1b}[0m\n"), "{painted}");
    }

    #[test]
    fn a_fault_on_every_line_is_shown_a_few_times_and_counted() {
        let file: String =
            (0..60).map(|index| format!(r#"{{"messages":[{{"role":"bot","content":"{index}"}}]}}"#) + "\n").collect();
        let (diagnostics, _, summary) = read_all(file.as_bytes(), &options());
        expect![[r#"
            x.jsonl:1:13: warning[missing-user-message] /messages: expected a user message, found none
              hint: add what the assistant answers to
            x.jsonl:1:22: error[unknown-role] /messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `bot`
              hint: write `assistant`
            x.jsonl:2:13: warning[missing-user-message] /messages: expected a user message, found none
              hint: add what the assistant answers to
            x.jsonl:2:22: error[unknown-role] /messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `bot`
              hint: write `assistant`
            x.jsonl:3:13: warning[missing-user-message] /messages: expected a user message, found none
              hint: add what the assistant answers to
            x.jsonl:3:22: error[unknown-role] /messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `bot`
              hint: write `assistant`
            x.jsonl:1:1: info[missing-system-message]: 60 of 60 examples have no system message, the first is here
              hint: train with the system prompt that you will use
            … and 57 more on lines 4-60 (unknown-role)
            … and 57 more on lines 4-60 (missing-user-message)

            rule                    severity   count  first line
            unknown-role            error         60  1
            missing-user-message    warning       60  1
            missing-system-message  info           1  1

            60 examples: 0 valid, 60 invalid; 60 errors, 60 warnings
            not all are shown: `--format json` has every one
            what can be mended: afina validate x.jsonl --fix OUT
        "#]].assert_eq(&render_text(&diagnostics, &summary, 20));
    }

    #[test]
    fn what_differs_in_its_words_is_shown_as_often_as_the_limit_allows() {
        let file: String = (b'a'..=b'h')
            .flat_map(|name| [name; 2])
            .map(|name| format!("{{\"messages\":[{{\"role\":\"{0}\",\"content\":\"{0}\"}}]}}\n\n", char::from(name)))
            .collect();
        let mut options = options();
        let wanted = ["unknown-role", "blank-line"];
        options.ignored =
            crate::rules().iter().map(|rule| rule.id.to_owned()).filter(|id| !wanted.contains(&id.as_str())).collect();
        let (diagnostics, _, summary) = read_all(file.as_bytes(), &options);
        expect![[r#"
            x.jsonl:1:22: error[unknown-role] /messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `a`
              hint: the person who asks is `user`, the model is `assistant`
            x.jsonl:2:1: warning[blank-line]: expected a record, found a blank line
              hint: delete the line
            x.jsonl:3:22: error[unknown-role] /messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `a`
              hint: the person who asks is `user`, the model is `assistant`
            x.jsonl:4:1: warning[blank-line]: expected a record, found a blank line
              hint: delete the line
            x.jsonl:5:22: error[unknown-role] /messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `b`
              hint: the person who asks is `user`, the model is `assistant`
            x.jsonl:6:1: warning[blank-line]: expected a record, found a blank line
              hint: delete the line
            x.jsonl:7:22: error[unknown-role] /messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `b`
              hint: the person who asks is `user`, the model is `assistant`
            x.jsonl:9:22: error[unknown-role] /messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `c`
              hint: the person who asks is `user`, the model is `assistant`
            … and 11 more between lines 11 and 31 (unknown-role)
            … and 12 more between lines 8 and 30 (blank-line)

            rule          severity   count  first line
            unknown-role  error         16  1
            blank-line    warning       15  2

            16 examples: 0 valid, 16 invalid; 16 errors, 15 warnings
            not all are shown: `--format json` has every one
            what can be mended: afina validate x.jsonl --fix OUT
        "#]].assert_eq(&render_text(&diagnostics, &summary, 5));
    }

    #[test]
    fn each_file_ends_with_what_was_left_out_of_it() {
        let line = "{\"messages\":[]}\n";
        let (diagnostics, _, summary) = read_all(line.repeat(5).as_bytes(), &options());
        let empty = diagnostics.iter().filter(|found| found.rule == "messages-empty");
        let mut report = TextReport::new(20);
        let shown: String = ["a.jsonl", "b.jsonl"]
            .into_iter()
            .flat_map(|name| empty.clone().map(move |found| crate::Diagnostic { file: name.into(), ..found.clone() }))
            .filter_map(|found| report.show(&found))
            .collect();
        expect![[r#"
            a.jsonl:1:13: error[messages-empty] /messages: expected at least one message, found an empty list
              hint: delete the line
            a.jsonl:2:13: error[messages-empty] /messages: expected at least one message, found an empty list
              hint: delete the line
            a.jsonl:3:13: error[messages-empty] /messages: expected at least one message, found an empty list
              hint: delete the line
            … and 2 more on lines 4-5 (messages-empty)
            b.jsonl:1:13: error[messages-empty] /messages: expected at least one message, found an empty list
              hint: delete the line
            b.jsonl:2:13: error[messages-empty] /messages: expected at least one message, found an empty list
              hint: delete the line
            b.jsonl:3:13: error[messages-empty] /messages: expected at least one message, found an empty list
              hint: delete the line
            … and 2 more on lines 4-5 (messages-empty)
            5 examples: 0 valid, 5 invalid; 5 errors, 4 warnings
            not all are shown: `--format json` has every one
        "#]]
        .assert_eq(&(shown + &report.finish(&summary)));
    }

    #[test]
    fn a_pointer_of_a_hundred_steps_is_cut_in_its_middle() {
        let deep = format!(r#"{{"messages":[],"x":{}{}}}"#, "[".repeat(130), "]".repeat(130));
        let (diagnostics, _, summary) = read_all(deep.as_bytes(), &options());
        let text = render_text(&diagnostics, &summary, 20);
        assert!(text.contains("error[deep-nesting] /x/0/0/0/0/…/0/0/0/0/0: expected"), "{text}");
    }
}
