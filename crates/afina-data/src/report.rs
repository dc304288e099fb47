//! Diagnostics for people and for programs, written as they come: a file may have millions of them.

mod closing;
mod github;
mod json;
mod pages;
mod paint;
mod sarif;
mod text;
mod window;

use std::{
    io::{self, Write},
    str::FromStr,
};

use serde_json::{Map, Value};

use crate::{
    diagnostic::Diagnostic,
    read::{Summary, UnknownName},
};
pub use pages::{explain_text, rules_markdown};
pub use text::{TextReport, render_text, verdict};
pub use window::Window;

/// How diagnostics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReportFormat {
    /// A line for each, with the place in the data and a hint.
    Text,
    /// One object: `diagnostics`, then `summary`.
    Json,
    /// SARIF 2.1.0, as code hosts and editors read it.
    Sarif,
    /// Workflow commands of GitHub Actions.
    GitHub,
}

impl FromStr for ReportFormat {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<ReportFormat, UnknownName> {
        match name {
            "text" => Ok(ReportFormat::Text),
            "json" => Ok(ReportFormat::Json),
            "sarif" => Ok(ReportFormat::Sarif),
            "github" => Ok(ReportFormat::GitHub),
            _ => Err(UnknownName { found: name.to_owned(), expected: "`text`, `json`, `sarif`, `github`" }),
        }
    }
}

/// A report that is being written. No diagnostic is kept.
pub struct Report<'w> {
    out: &'w mut dyn Write,
    kind: Kind,
}

enum Kind {
    Text(TextReport),
    Json(json::Json),
    Sarif(sarif::Sarif),
    GitHub(github::GitHub),
}

impl<'w> Report<'w> {
    /// `limit`: of each rule so many diagnostics are written as text or for GitHub, and the rest are counted; JSON and
    /// SARIF have them all.
    ///
    /// `color`: text has the colours of a terminal.
    pub fn new(format: ReportFormat, limit: usize, color: bool, out: &'w mut dyn Write) -> Report<'w> {
        let kind = match format {
            ReportFormat::Text => Kind::Text(TextReport::new(limit).colored(color)),
            ReportFormat::Json => Kind::Json(json::Json::default()),
            ReportFormat::Sarif => Kind::Sarif(sarif::Sarif::default()),
            ReportFormat::GitHub => Kind::GitHub(github::GitHub::new(limit)),
        };
        Report { out, kind }
    }

    /// Writes a diagnostic.
    pub fn show(&mut self, diagnostic: &Diagnostic) -> io::Result<()> {
        match &mut self.kind {
            Kind::Text(text) => match text.show(diagnostic) {
                Some(shown) => self.out.write_all(shown.as_bytes()),
                None => Ok(()),
            },
            Kind::Json(json) => json.show(diagnostic, self.out),
            Kind::Sarif(sarif) => sarif.show(diagnostic, self.out),
            Kind::GitHub(github) => github.show(diagnostic, self.out),
        }
    }

    /// Writes what comes after the last diagnostic.
    pub fn finish(self, summary: &Summary) -> io::Result<()> {
        self.finish_with(summary, Map::new())
    }

    /// [`Report::finish`], with more keys for the summary of the JSON, as statistics; the other formats have no place
    /// for them.
    pub fn finish_with(self, summary: &Summary, more: Map<String, Value>) -> io::Result<()> {
        match self.kind {
            Kind::Text(text) => self.out.write_all(text.finish(summary).as_bytes())?,
            Kind::Json(json) => json.finish(summary, more, self.out)?,
            Kind::Sarif(sarif) => sarif.finish(self.out)?,
            Kind::GitHub(github) => github.finish(summary, self.out)?,
        }
        self.out.flush()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Severity, testing::read_all};

    /// What the report writes about a file of a few faults.
    pub(crate) fn report(format: ReportFormat, limit: usize) -> String {
        let file = "{\"messages\":[{\"role\":\"bot\",\"content\":\"a\"}]}\n{\"messages\":[{\"role\":\"bot\",\"content\":\"b\"}]}\n";
        let options = crate::ReadOptions::new(crate::Method::Sft, crate::Profile::Together);
        let (diagnostics, _, summary) = read_all(file.as_bytes(), &options);
        written(format, limit, &diagnostics, &summary)
    }

    pub(crate) fn written(format: ReportFormat, limit: usize, diagnostics: &[Diagnostic], summary: &Summary) -> String {
        let mut out = Vec::new();
        let mut report = Report::new(format, limit, false, &mut out);
        diagnostics.iter().for_each(|diagnostic| report.show(diagnostic).unwrap());
        report.finish(summary).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// A diagnostic whose texts need every kind of escape.
    pub(crate) fn odd() -> Diagnostic {
        let (diagnostics, ..) = read_all(b"{}", &crate::ReadOptions::new(crate::Method::Sft, crate::Profile::Local));
        let mut odd = diagnostics[0].clone();
        (odd.rule, odd.severity) = ("missing-role", Severity::Info);
        (odd.line, odd.column) = (3, 9);
        odd.file = "dir a/é,1:%.jsonl".into();
        odd.pointer = "/a~1b".into();
        odd.message = "50% of \"x\", y: z".into();
        odd.hint = "first\r\nsecond".into();
        odd
    }

    #[test]
    fn formats_are_known_by_name() {
        assert_eq!("sarif".parse(), Ok(ReportFormat::Sarif));
        assert!("SARIF".parse::<ReportFormat>().is_err());
    }
}
