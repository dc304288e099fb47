//! Faults after which a JSON text cannot be read on: mended where only one reading makes sense.
//!
//! Nothing is accepted before the whole record reads as JSON; until then each of these is a try.

use super::{
    Note,
    edit::{Edit, quote},
};
use crate::json::{Cause, Fault, Kind, Parser};

/// The edits that mend the fault, and what to say of them.
///
/// A record with a quote that was not escaped is read in no second unsure way: another fault in it stays.
pub(super) fn mend(fault: Fault, text: &str, before: &[Note]) -> Option<(Vec<Edit>, Vec<Note>)> {
    let at = fault.offset;
    let quotes = before.iter().filter(|note| note.rule == "unescaped-quote").map(|note| note.times()).sum::<usize>();
    if fault.cause == Cause::UnescapedQuote {
        let note = Note::safe("unescaped-quote", "escaped a quotation mark inside a string");
        return Some((vec![Edit::insert(at, "\\")], vec![note]));
    }
    let rest = &text[at..];
    let (edits, what) = match fault.cause {
        // `"said "hi", and left"`: the quote before the comma closes the one that was escaped before it.
        Cause::UnquotedKey | Cause::Unexpected { .. } if quotes % 2 == 1 => {
            let before = text[..at].trim_ascii_end().strip_suffix(',')?;
            before.ends_with('"').then_some(())?;
            let note = Note::safe("unescaped-quote", "escaped a quotation mark inside a string");
            return Some((vec![Edit::insert(before.len() - 1, "\\")], vec![note]));
        }
        _ if quotes > 0 => return None,
        Cause::UnquotedKey => unquoted_key(at, rest)?,
        Cause::MissingColon if rest.starts_with(['"', '{', '[']) => (
            vec![Edit::insert(text[..at].trim_ascii_end().len(), ":")],
            "put `:` between a name and its value".to_owned(),
        ),
        Cause::MissingComma if separates(text, at) => {
            let before = text[..at].trim_ascii_end().len();
            (vec![Edit::insert(before, ",")], "put `,` between two values".to_owned())
        }
        Cause::ClosedEarly { closed } => return closed_early(text, at, closed),
        Cause::WrongBracket { expected } => {
            (vec![Edit::insert(at, expected)], format!("put `{expected}` before a bracket of the other kind"))
        }
        Cause::SmartQuote => smart_quotes(at, rest)?,
        Cause::BadNumber => bad_number(at, rest)?,
        Cause::Unexpected { .. } => unexpected(text, at)?,
        _ => return None,
    };
    Some((edits, vec![Note::safe("invalid-json", what)]))
}

/// `{role: …}`
fn unquoted_key(at: usize, rest: &str) -> Option<(Vec<Edit>, String)> {
    let end = rest.find(|char: char| !(char.is_alphanumeric() || matches!(char, '_' | '$' | '-')))?;
    let name = &rest[..end];
    rest[end..].trim_ascii_start().starts_with(':').then_some(())?;
    Some((vec![Edit::new(at..at + end, quote(name))], "put a name in double quotes".to_owned()))
}

/// Whether a comma is what lacks before byte `at`: two brackets meet, or the next member begins.
fn separates(text: &str, at: usize) -> bool {
    let before = text[..at].trim_ascii_end().bytes().next_back();
    let after = text.as_bytes().get(at);
    match (before, after) {
        (Some(b'}' | b']'), Some(b'{' | b'[' | b'"')) => true,
        (Some(_), Some(b'"')) => {
            let rest = &text[at + 1..];
            let Some(end) = rest.find('"') else { return false };
            const KNOWN: [&str; 10] = [
                "role",
                "content",
                "name",
                "weight",
                "tool_calls",
                "tool_call_id",
                "type",
                "text",
                "messages",
                "tools",
            ];
            KNOWN.contains(&&rest[..end]) && rest[end + 1..].trim_ascii_start().starts_with(':')
        }
        _ => false,
    }
}

/// `"messages": [a], b`: the bracket moves behind `b`, if that is a message.
fn closed_early(text: &str, at: usize, closed: usize) -> Option<(Vec<Edit>, Vec<Note>)> {
    let mut parser = Parser::default();
    let value = parser.parse(text, at).root()?;
    value.get("role").filter(|_| value.kind() == Kind::Object)?;
    let mut edits = vec![Edit::delete(closed..closed + 1), Edit::insert(value.span().end, "]")];
    let what = "moved the `]` that ended the list too early behind the next message";
    let mut notes = vec![Note::safe("invalid-json", what)];
    let before = text[..closed].trim_ascii_end().len();
    if text[..before].ends_with(',') {
        edits.push(Edit::delete(before - 1..before));
        notes.push(Note::safe("trailing-comma", "removed the comma before a closing bracket"));
    }
    Some((edits, notes))
}

/// “…” for "…".
fn smart_quotes(at: usize, rest: &str) -> Option<(Vec<Edit>, String)> {
    let open = rest.chars().next()?;
    let ends = |(end, char): (usize, char)| {
        let after = rest[end + char.len_utf8()..].trim_ascii_start();
        (matches!(char, '“' | '”' | '‘' | '’' | '"') && after.starts_with([',', ':', '}', ']']))
            .then_some((end, char.len_utf8()))
    };
    let (end, len) = rest.char_indices().skip(1).find_map(ends)?;
    let inner = rest[open.len_utf8()..end].replace('"', "\\\"");
    let edit = Edit::new(at..at + end + len, format!("\"{inner}\""));
    Some((vec![edit], "wrote straight quotes for curly ones".to_owned()))
}

/// `.5`, `1.` and `+1`; a number that begins with zeros may be a name.
fn bad_number(at: usize, rest: &str) -> Option<(Vec<Edit>, String)> {
    let end = rest.find(|char: char| !(char.is_alphanumeric() || matches!(char, '+' | '-' | '.' | '_')))?;
    let found = &rest[..end];
    let (sign, digits) = match found.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", found.strip_prefix('+').unwrap_or(found)),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = [whole, part].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    if !all_digits || (whole.len() > 1 && whole.starts_with('0')) || whole.len() + part.len() == 0 || end == 0 {
        return None;
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    let part = if part.is_empty() { "0" } else { part };
    let written = if digits.contains('.') { format!("{sign}{whole}.{part}") } else { format!("{sign}{whole}") };
    Some((vec![Edit::new(at..at + end, &*written)], format!("wrote `{written}` for `{found}`")))
}

/// Other languages' words for JSON's, and a comma too many.
fn unexpected(text: &str, at: usize) -> Option<(Vec<Edit>, String)> {
    let rest = &text[at..];
    if rest.starts_with(',') && text[..at].trim_ascii_end().ends_with(',') {
        return Some((vec![Edit::delete(at..at + 1)], "removed a second comma".to_owned()));
    }
    let end = rest.find(|char: char| !char.is_alphanumeric()).unwrap_or(rest.len());
    let written = match &rest[..end] {
        "undefined" | "nan" | "inf" | "NULL" | "nil" | "Null" => "null",
        "TRUE" => "true",
        "FALSE" => "false",
        _ => return None,
    };
    Some((vec![Edit::new(at..at + end, written)], format!("wrote {written} for `{}`", &rest[..end])))
}
