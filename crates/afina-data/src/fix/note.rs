//! What a fix did, in words.

use std::fmt;

use serde::Serialize;

use crate::diagnostic::excerpt_of;

/// Removed texts that are shown of one change, and characters of each.
const SHOWN: usize = 3;
const LONGEST: usize = 160;

/// What a fix may take away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Safety {
    /// Nothing: no line, no trained text, no information. It writes the same in the way that the format wants.
    Safe,
    /// A line, a message, a key, or words of a text: done only where asked for.
    Unsafe,
}

/// One change of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Line of the input, from 1.
    pub line: usize,
    /// Line of the output, from 1; `None` where nothing is left of the input's.
    pub output_line: Option<usize>,
    /// The rule that the change obeys.
    pub rule: &'static str,
    /// In words.
    pub what: String,
    pub safety: Safety,
    /// Every text of the input that is not in the output for it, whole and as it was written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
}

/// `17 → 16: unknown-role: wrote `user` for `human``; `-` for a line that is gone. What was removed is said in short.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → ", self.line)?;
        match self.output_line {
            Some(line) => write!(f, "{line}")?,
            None => write!(f, "-")?,
        }
        let mark = if self.safety == Safety::Unsafe { " (unsafe)" } else { "" };
        write!(f, ": {}: {}{mark}", self.rule, self.what)?;
        // Where the words name a text already, it is the one that was removed.
        let texts = || self.removed.iter().map(|text| text.trim_matches([',', ' '])).filter(|text| !text.is_empty());
        if self.what.contains('`') {
            return Ok(());
        }
        texts().take(SHOWN).try_for_each(|text| write!(f, "\n    {}", excerpt_of(text, LONGEST)))?;
        match texts().count().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n    and {more} more"),
        }
    }
}

/// A change before it is known to which line of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) rule: &'static str,
    pub(super) safety: Safety,
    what: String,
    times: usize,
    removed: Vec<String>,
}

impl Note {
    pub(super) fn safe(rule: &'static str, what: impl Into<String>) -> Note {
        Note { rule, safety: Safety::Safe, what: what.into(), times: 1, removed: Vec::new() }
    }

    pub(super) fn not_safe(rule: &'static str, what: impl Into<String>) -> Note {
        Note { safety: Safety::Unsafe, ..Note::safe(rule, what) }
    }

    /// With texts that are gone.
    pub(super) fn removing(mut self, texts: impl IntoIterator<Item = impl Into<String>>) -> Note {
        self.removed.extend(texts.into_iter().map(Into::into));
        self
    }

    /// Adds a note to those of a record: what was done several times is said once, with the number.
    pub(super) fn gather(notes: &mut Vec<Note>, note: Note) {
        match notes.iter_mut().find(|known| known.rule == note.rule && known.what == note.what) {
            Some(known) => {
                known.times += note.times;
                known.removed.extend(note.removed);
            }
            None => notes.push(note),
        }
    }

    pub(super) fn times(&self) -> usize {
        self.times
    }

    pub(super) fn what(&self) -> String {
        match self.times {
            1 => self.what.clone(),
            times => format!("{} ({times} times)", self.what),
        }
    }

    pub(super) fn at(&self, line: usize, output_line: Option<usize>) -> Change {
        let removed = self.removed.clone();
        Change { line, output_line, rule: self.rule, what: self.what(), safety: self.safety, removed }
    }
}
