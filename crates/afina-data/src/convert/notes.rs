//! What a record's conversion has to say: why it is refused, and what was left out.

use std::collections::BTreeMap;

use super::separators::Separators;
use crate::{
    findings::{Findings, Place},
    json::{Cause, Kind, Parser, Value},
};

/// Different fields that are counted by name.
const MAX_NAMES: usize = 1000;

/// Why a record is not converted.
pub(super) struct Refusal {
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) hint: String,
}

pub(super) type Converted<T> = Result<T, Refusal>;

impl Refusal {
    pub(super) fn new(place: impl Into<Place>, message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal { place: place.into(), message: message.into(), hint: hint.into() }
    }
}

pub(super) struct Notes {
    /// What to take away around prompts and completions.
    pub(super) separators: Separators,
    /// Fields without a place in the output, and where they stand.
    left_out: Vec<(Place, String)>,
    /// The string that holds the JSON being read: its insides have no place in the record.
    anchor: Option<Place>,
}

impl Notes {
    pub(super) fn new(separators: &Separators) -> Notes {
        Notes { separators: separators.clone(), left_out: Vec::new(), anchor: None }
    }

    /// Says what was left out of a record that is in the output, and counts it.
    pub(super) fn finish(self, out: &mut Findings, counts: &mut BTreeMap<String, usize>) {
        for (place, field) in self.left_out {
            let message =
                format!("left out `{}`, which has no place in the output", crate::diagnostic::excerpt(&field));
            out.warning("field-left-out", place, message, "keep it in a file beside this one if it matters");
            let known = counts.len() < MAX_NAMES || counts.contains_key(&field);
            *counts.entry(if known { field } else { "…".to_owned() }).or_default() += 1;
        }
    }

    pub(super) fn refuse(&self, value: Value, message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal::new(self.anchor.unwrap_or(value.into()), message, hint)
    }

    /// `value` should have been `expected`.
    pub(super) fn unexpected(&self, value: Value, expected: &str, hint: impl Into<String>) -> Refusal {
        self.refuse(value, format!("expected {expected}, found {}", value.described()), hint)
    }

    /// A field has no place in OpenAI's format. `scope`: where it stands, as `messages[].`.
    pub(super) fn leave_out(&mut self, scope: &str, name: &str, value: Value) {
        if is_nothing(value) {
            return;
        }
        self.left_out.push((self.anchor.unwrap_or(value.into()), format!("{scope}{name}")));
    }

    /// Leaves out every member of `object` that is not named in `known`.
    pub(super) fn leave_out_all_but(&mut self, scope: &str, object: Value, known: &[&str]) {
        for member in object.members() {
            let name = member.key.text().unwrap_or_default();
            if !known.contains(&name.as_ref()) {
                self.leave_out(scope, &name, member.value);
            }
        }
    }

    /// Reads the JSON inside of a string; Python's notation and trailing commas are understood.
    pub(super) fn nested<T>(
        &mut self,
        string: Value,
        expected: &str,
        read: impl FnOnce(Value, &mut Self) -> Converted<T>,
    ) -> Converted<T> {
        let text = string.text().unwrap_or_default();
        match self.nested_text(string, &text, read) {
            Some(result) => result,
            None => {
                let message = format!("expected {expected} as JSON in a string, found text that is no JSON");
                Err(self.refuse(string, message, "write the string with `json.dumps`"))
            }
        }
    }

    /// Reads the JSON of `text`, which stands somewhere in `place`. `None`: it is none.
    pub(super) fn nested_text<T>(
        &mut self,
        place: Value,
        text: &str,
        read: impl FnOnce(Value, &mut Self) -> Converted<T>,
    ) -> Option<Converted<T>> {
        let mut parser = Parser::default();
        let parsed = parser.parse(text, 0);
        let readable =
            parsed.faults.iter().all(|fault| matches!(fault.cause, Cause::PythonNotation | Cause::TrailingComma));
        let root = parsed.root().filter(|_| readable && parsed.end == text.len())?;
        let outer = self.anchor;
        self.anchor = Some(outer.unwrap_or(place.into()));
        let result = read(root, self);
        self.anchor = outer;
        Some(result)
    }
}

/// Null, and what is empty: leaving it out loses nothing.
pub(super) fn is_nothing(value: Value) -> bool {
    match value.kind() {
        Kind::Null => true,
        Kind::String => value.text().is_none_or(|text| text.is_empty()),
        Kind::Array => value.items().next().is_none(),
        Kind::Object => value.members().next().is_none(),
        _ => false,
    }
}

/// The member of this name, unless it is null.
pub(super) fn present<'t>(object: Value<'t>, name: &str) -> Option<Value<'t>> {
    object.get(name).filter(|value| !value.is_null())
}

/// The first of these members that is there and not null.
pub(super) fn first<'t>(object: Value<'t>, names: &[&str]) -> Option<Value<'t>> {
    names.iter().find_map(|name| present(object, name))
}
