//! Workflow commands, from which GitHub Actions makes annotations.
//!
//! Escapes as in `packages/core/src/command.ts` of actions/toolkit.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::verdict;
use crate::{
    diagnostic::{Diagnostic, Severity, readable},
    read::Summary,
};

pub(super) struct GitHub {
    limit: usize,
    counts: BTreeMap<(Severity, &'static str), usize>,
}

impl GitHub {
    pub(super) fn new(limit: usize) -> GitHub {
        GitHub { limit, counts: BTreeMap::new() }
    }

    pub(super) fn show(&mut self, diagnostic: &Diagnostic, out: &mut dyn Write) -> io::Result<()> {
        let Diagnostic { rule, severity, file, line, column, pointer, message, hint, .. } = diagnostic;
        let count = self.counts.entry((*severity, rule)).or_default();
        *count += 1;
        if *count > self.limit {
            return Ok(());
        }
        let mut text = if pointer.is_empty() { message.clone() } else { format!("{}: {message}", readable(pointer)) };
        if !hint.is_empty() {
            text = format!("{text}\nhint: {hint}");
        }
        let (file, title, text) = (property(file), property(rule), data(&text));
        writeln!(out, "::{} file={file},line={line},col={column},title={title}::{text}", command(*severity))
    }

    pub(super) fn finish(self, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        for ((severity, rule), count) in self.counts {
            if count > self.limit {
                let text = format!("{} more, {count} in all", count - self.limit);
                writeln!(out, "::{} title={}::{}", command(severity), property(rule), data(&text))?;
            }
        }
        writeln!(out, "{}", verdict(summary))
    }
}

fn command(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "notice",
    }
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::report::{
        ReportFormat,
        tests::{odd, report, written},
    };

    #[test]
    fn each_diagnostic_is_a_command_and_the_rest_are_counted() {
        expect![[r#"
            ::warning file=x.jsonl,line=1,col=13,title=missing-user-message::/messages: expected a user message, found none%0Ahint: add what the assistant answers to
            ::error file=x.jsonl,line=1,col=22,title=unknown-role::/messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `bot`%0Ahint: write `assistant`
            ::notice file=x.jsonl,line=1,col=1,title=few-examples::expected 50 examples to start with, found 2%0Ahint: add examples if the answers do not get better
            ::notice file=x.jsonl,line=1,col=1,title=missing-system-message::2 of 2 examples have no system message, the first is here%0Ahint: train with the system prompt that you will use
            ::error title=unknown-role::1 more, 2 in all
            ::warning title=missing-user-message::1 more, 2 in all
            2 examples: 0 valid, 2 invalid; 2 errors, 2 warnings
        "#]].assert_eq(&report(ReportFormat::GitHub, 1));
    }

    #[test]
    fn what_would_end_a_property_or_the_line_is_escaped() {
        expect![[r#"
            ::notice file=dir a/é%2C1%3A%25.jsonl,line=3,col=9,title=missing-role::/a~1b: 50%25 of "x", y: z%0Ahint: first%0D%0Asecond
            0 examples: 0 valid, 0 invalid
        "#]].assert_eq(&written(ReportFormat::GitHub, 1, &[odd()], &Summary::default()));
    }
}
