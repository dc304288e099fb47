//! What is wrong with a routes file, and where.

use std::{fmt, ops::Range};

use serde::Serialize;

/// A fault in a routes file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub rule: &'static str,
    pub severity: Severity,
    pub line: usize,
    pub column: usize,
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// Whether the file can be used all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

impl fmt::Display for Problem {
    /// `LINE:COLUMN: error[rule]: message`, and the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}: {severity}[{}]: {}", self.line, self.column, self.rule, self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "\n  hint: {}", self.hint) }
    }
}

/// The problems found so far in a text.
pub(crate) struct Problems<'t> {
    text: &'t str,
    list: Vec<Problem>,
}

impl<'t> Problems<'t> {
    pub(crate) fn new(text: &'t str) -> Problems<'t> {
        Problems { text, list: Vec::new() }
    }

    pub(crate) fn error(&mut self, at: &Range<usize>, rule: &'static str, message: String, hint: impl Into<String>) {
        self.push(Severity::Error, at, rule, message, hint.into());
    }

    pub(crate) fn warning(&mut self, at: &Range<usize>, rule: &'static str, message: String, hint: impl Into<String>) {
        self.push(Severity::Warning, at, rule, message, hint.into());
    }

    fn push(&mut self, severity: Severity, at: &Range<usize>, rule: &'static str, message: String, hint: String) {
        let (line, column) = self.position(at.start);
        self.list.push(Problem { rule, severity, line, column, message, hint });
    }

    /// Line and column of a byte of the text.
    pub(crate) fn position(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The problems in the order of the file.
    pub(crate) fn into_list(mut self) -> Vec<Problem> {
        self.list.sort_by_key(|problem| (problem.line, problem.column));
        self.list
    }
}

/// `did you mean X?` for the nearest of the known names, or nothing when none is near.
pub(crate) fn did_you_mean<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    let near = known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= 1 + known.chars().count() / 4)
        .min();
    near.map(|(_, known)| format!("did you mean `{known}`?")).unwrap_or_default()
}
