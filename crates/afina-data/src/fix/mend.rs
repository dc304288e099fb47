//! What a fix of a record sees, and what it gives back.

use super::{
    Note,
    edit::{Edit, member},
    note::Safety,
};
use crate::{
    Diagnostic, ReadOptions, Severity,
    json::{Kind, Value},
    view,
};

/// A finding in a record, which is clean JSON in one line.
pub(super) struct Context<'c> {
    pub(super) options: &'c ReadOptions,
    pub(super) severity: Severity,
    pub(super) record: Value<'c>,
    /// Byte of the record's text that the finding stands at.
    pub(super) at: usize,
    /// The tokens of its JSON pointer.
    pub(super) pointer: Vec<String>,
    /// From the record to the value that the pointer names.
    path: Vec<Value<'c>>,
}

/// What mends a finding.
pub(super) struct Mend {
    pub(super) safety: Safety,
    pub(super) what: String,
    pub(super) action: Action,
}

pub(super) enum Action {
    Edit(Vec<Edit>),
    RemoveLine,
}

impl Mend {
    pub(super) fn safe(what: impl Into<String>, edits: impl Into<Vec<Edit>>) -> Option<Mend> {
        Some(Mend { safety: Safety::Safe, what: what.into(), action: Action::Edit(edits.into()) })
    }

    pub(super) fn not_safe(what: impl Into<String>, edits: impl Into<Vec<Edit>>) -> Option<Mend> {
        Some(Mend { safety: Safety::Unsafe, what: what.into(), action: Action::Edit(edits.into()) })
    }

    pub(super) fn remove_line(what: impl Into<String>) -> Option<Mend> {
        Some(Mend { safety: Safety::Unsafe, what: what.into(), action: Action::RemoveLine })
    }

    pub(super) fn note(&self, rule: &'static str) -> Note {
        match self.safety {
            Safety::Safe => Note::safe(rule, &*self.what),
            Safety::Unsafe => Note::not_safe(rule, &*self.what),
        }
    }
}

impl<'c> Context<'c> {
    /// `None`: the finding is about no value of the record.
    pub(super) fn new(diagnostic: &Diagnostic, record: Value<'c>, options: &'c ReadOptions) -> Option<Context<'c>> {
        let text = record.tree_text();
        let at = text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(diagnostic.column - 1)?;
        let unescape = |token: &str| token.replace("~1", "/").replace("~0", "~");
        let pointer: Vec<String> = diagnostic.pointer.split('/').skip(1).map(unescape).collect();
        let mut path = vec![record];
        for token in &pointer {
            let value = *path.last()?;
            path.push(match value.kind() {
                Kind::Array => value.items().nth(token.parse().ok()?)?,
                _ => member(value, token)?.value,
            });
        }
        Some(Context { options, severity: diagnostic.severity, record, at, pointer, path })
    }

    /// The value that the finding is about.
    pub(super) fn value(&self) -> Value<'c> {
        self.above(0).unwrap_or(self.record)
    }

    /// What the value stands in, `levels` brackets up.
    pub(super) fn above(&self, levels: usize) -> Option<Value<'c>> {
        self.path.len().checked_sub(levels + 1).map(|index| self.path[index])
    }

    /// The message that the finding is in: its place in the list, the message, and the list.
    pub(super) fn message(&self) -> Option<(usize, view::Message<'c>, Vec<view::Message<'c>>)> {
        let depth = self.pointer.iter().position(|token| token.parse::<usize>().is_ok())?;
        let index = self.pointer[depth].parse().ok()?;
        let purpose = match self.pointer[0].as_str() {
            "messages" => view::purpose(self.options.method),
            "input" => view::Purpose::Prompt,
            _ => view::Purpose::Answer,
        };
        let find = || view::Turns::new(self.path[depth], purpose).messages;
        Some((index, find().into_iter().find(|message| message.index == index)?, find()))
    }
}
