//! A text that is nearly JSON, made JSON: only where one reading of it is left.

use std::{borrow::Cow, ops::Range};

use super::{
    Note,
    edit::{Edit, apply, each},
    fatal, strings,
};
use crate::json::{Cause, Kind, Parsed, Parser, Value};

/// Faults after which nothing could be read that are mended in one record.
const MAX_MENDED: usize = 200;

/// What became of the first value of a text.
pub(super) enum Repaired {
    /// It is JSON, in the text as it stands or as it was `mended`: the bytes of the value, and where those after it
    /// begin.
    Whole { mended: Option<String>, value: Range<usize>, end: usize, notes: Vec<Note> },
    /// Comments and nothing else.
    Comment(Note),
    /// It ends inside the value.
    Cut,
    /// It has a fault that nobody can mend for sure.
    Broken,
}

/// Reads the first value of `text` at or after byte `start`, and mends it until it is JSON.
pub(super) fn repair(text: &str, start: usize, parser: &mut Parser) -> Repaired {
    let mut text = Cow::Borrowed(text);
    let mut notes = Vec::new();
    for _ in 0..MAX_MENDED {
        let parsed = parser.parse(&text, start);
        if let Some(root) = parsed.root().filter(|_| parsed.faults.is_empty()) {
            let (value, end) = (root.span(), parsed.end);
            let mended = if let Cow::Owned(text) = text { Some(text) } else { None };
            return Repaired::Whole { mended, value, end, notes };
        }
        if let Some(comment) = only_comment(&parsed, &text[start..]) {
            return Repaired::Comment(comment);
        }
        let found = match parsed.root() {
            Some(_) => small(&parsed, &text),
            None => match parsed.faults.last() {
                Some(fault) if matches!(fault.cause, Cause::Truncated { .. }) && notes.is_empty() => {
                    return Repaired::Cut;
                }
                Some(&fault) => fatal::mend(fault, &text, &notes),
                None => None,
            },
        };
        let Some((mut edits, found)) = found else { return Repaired::Broken };
        found.into_iter().for_each(|note| Note::gather(&mut notes, note));
        text = Cow::Owned(apply(&text, &mut edits));
    }
    Repaired::Broken
}

/// A text of a comment, and nothing else.
fn only_comment(parsed: &Parsed, text: &str) -> Option<Note> {
    let all = |wanted: fn(Cause) -> bool| parsed.faults.iter().all(|fault| wanted(fault.cause));
    let comment = parsed.faults.first().is_some_and(|fault| fault.cause == Cause::Comment)
        && all(|cause| matches!(cause, Cause::Comment | Cause::Truncated { inside: Kind::Null }))
        && parsed.root().is_none();
    comment.then(|| {
        let what = format!("removed the comment `{}`", crate::diagnostic::excerpt(text.trim()));
        Note::safe("json-comments", what).removing([text.trim()])
    })
}

/// The faults that the parser reads past, all at once.
fn small(parsed: &Parsed, text: &str) -> Option<(Vec<Edit>, Vec<Note>)> {
    let (mut edits, mut notes) = (Vec::new(), Vec::new());
    let python = parsed.faults.iter().any(|fault| fault.cause == Cause::PythonNotation);
    for fault in parsed.faults {
        match fault.cause {
            Cause::TrailingComma => {
                edits.push(Edit::delete(fault.offset..fault.offset + 1));
                notes.push(Note::safe("trailing-comma", "removed the comma before a closing bracket"));
            }
            Cause::Comment => {
                let end = fault.offset + comment_len(&text[fault.offset..]);
                let shown = crate::diagnostic::excerpt(&text[fault.offset..end]);
                edits.push(Edit::delete(fault.offset..end));
                let note = Note::safe("json-comments", format!("removed the comment `{shown}`"));
                notes.push(note.removing([&text[fault.offset..end]]));
            }
            _ => {}
        }
    }
    let needed = needed_values(parsed.root()?);
    each(parsed.root()?, &mut |value| {
        let raw = value.raw();
        let written = match (value.kind(), raw) {
            (Kind::String | Kind::Key, _) => {
                let Some((written, found)) = strings::rewrite(raw, python) else { return };
                notes.extend(found);
                written
            }
            (Kind::True, "True") => "true".to_owned(),
            (Kind::False, "False") => "false".to_owned(),
            (Kind::Null, "None") => "null".to_owned(),
            (Kind::Number, "NaN" | "Infinity" | "-Infinity") => {
                let what = format!("wrote null for `{raw}`");
                notes.push(match needed.contains(&value.span().start) {
                    true => Note::not_safe("nan-infinity", what),
                    false => Note::safe("nan-infinity", what),
                });
                "null".to_owned()
            }
            _ => return,
        };
        edits.push(Edit::replace(value, written));
    });
    if python {
        notes.push(Note::safe("python-dict-repr", "wrote Python's notation as JSON"));
    }
    (!edits.is_empty()).then_some((edits, notes))
}

/// Where the values stand that may not be null: a null there is a fault again.
fn needed_values(root: Value) -> Vec<usize> {
    const NEEDED: [&str; 8] = ["content", "role", "text", "arguments", "messages", "input", "url", "id"];
    let mut found = Vec::new();
    each(root, &mut |value| {
        let needed = value.members().filter(|member| NEEDED.iter().any(|name| member.key.is(name)));
        found.extend(needed.map(|member| member.value.span().start));
    });
    found
}

/// Bytes of the comment that `rest` begins with.
fn comment_len(rest: &str) -> usize {
    let end = match rest.strip_prefix("/*") {
        Some(inner) => inner.find("*/").map(|at| at + 4),
        None => rest.find(['\n', '\r']),
    };
    end.unwrap_or(rest.len())
}

/// A JSON text in one line: line breaks go, with the spaces around them.
pub(super) fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(['\n', '\r']) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len());
    for part in text.split(['\n', '\r']).map(str::trim_ascii).filter(|part| !part.is_empty()) {
        if line.ends_with([',', ':']) {
            line.push(' ');
        }
        line.push_str(part);
    }
    Cow::Owned(line)
}

/// The one value of `text` as clean JSON in one line; `None` where it is not JSON, or more than one value.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut parser = Parser::default();
    match repair(text, 0, &mut parser) {
        Repaired::Whole { mended, value, end, .. } => {
            let text = mended.as_deref().unwrap_or(text);
            (end == text.len()).then(|| one_line(&text[value]).into_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Expect) {
        let shown = match repair(text, 0, &mut Parser::default()) {
            Repaired::Whole { mended, value, end, notes } => {
                let text = mended.as_deref().unwrap_or(text);
                let notes: String = notes.iter().map(|note| format!("\n{}: {}", note.rule, note.what())).collect();
                format!("{} | {}{notes}", &text[value], &text[end..])
            }
            Repaired::Comment(note) => note.what(),
            Repaired::Cut => "cut".to_owned(),
            Repaired::Broken => "broken".to_owned(),
        };
        expect.assert_eq(&shown);
    }

    #[test]
    fn small_faults_are_mended_at_once() {
        check(
            r#"{"a":[1,],} x"#,
            expect![[r#"
            {"a":[1]} | x
            trailing-comma: removed the comma before a closing bracket (2 times)"#]],
        );
        check(
            "{'a': True, 'b': None, 'c': \"it's\", 'd': 'it\\'s \"x\" \\xe9'}",
            expect![[r#"
            {"a": true, "b": null, "c": "it's", "d": "it's \"x\" é"} | 
            python-dict-repr: wrote Python's notation as JSON"#]],
        );
        check(
            "{\"a\": /* one */ 1} // end",
            expect![[r#"
            {"a":  1} | 
            json-comments: removed the comment `/* one */`
            json-comments: removed the comment `// end`"#]],
        );
        check(
            r#"{"a":[NaN,-Infinity]}"#,
            expect![[r#"
            {"a":[null,null]} | 
            nan-infinity: wrote null for `NaN`
            nan-infinity: wrote null for `-Infinity`"#]],
        );
        check("# nothing", expect!["removed the comment `# nothing`"]);
    }

    #[test]
    fn a_fault_that_ends_the_reading_is_mended_where_one_reading_is_left() {
        check(
            r#"{"a":"she said "hi" to me"}"#,
            expect![[r#"
            {"a":"she said \"hi\" to me"} | 
            unescaped-quote: escaped a quotation mark inside a string (2 times)"#]],
        );
        check(r#"{"a":"say "a", "b" ok"}"#, expect!["broken"]);
        check(
            r#"{role: "user", "content" "x"}"#,
            expect![[r#"
                {"role": "user", "content": "x"} | 
                invalid-json: put a name in double quotes
                invalid-json: put `:` between a name and its value"#]],
        );
        check(
            r#"[{"a":1} {"a":2}]"#,
            expect![[r#"
            [{"a":1}, {"a":2}] | 
            invalid-json: put `,` between two values"#]],
        );
        check(
            r#"{"m":[{"a":[1}]}"#,
            expect![[r#"
            {"m":[{"a":[1]}]} | 
            invalid-json: put `]` before a bracket of the other kind"#]],
        );
        check(
            "{“role”: “say \"x\"”}",
            expect![[r#"
            {"role": "say \"x\""} | 
            invalid-json: wrote straight quotes for curly ones (2 times)"#]],
        );
        check(
            r#"[.5, 1., +2, -.5, undefined, TRUE, nan,, 1]"#,
            expect![[r#"
            [0.5, 1.0, 2, -0.5, null, true, null, 1] | 
            invalid-json: wrote `0.5` for `.5`
            invalid-json: wrote `1.0` for `1.`
            invalid-json: wrote `2` for `+2`
            invalid-json: wrote `-0.5` for `-.5`
            invalid-json: wrote null for `undefined`
            invalid-json: wrote true for `TRUE`
            invalid-json: wrote null for `nan`
            invalid-json: removed a second comma"#]],
        );
        check(
            r#"{"messages":[{"role":"user"},],{"role":"assistant"},{"role":"user"}}"#,
            expect![[r#"
            {"messages":[{"role":"user"},{"role":"assistant"},{"role":"user"}]} | 
            invalid-json: moved the `]` that ended the list too early behind the next message (2 times)
            trailing-comma: removed the comma before a closing bracket"#]],
        );
    }

    #[test]
    fn the_rest_is_left_alone() {
        for text in [r#"{"a":oops}"#, "[01]", "<html>", r#"{"a":1,[2]}"#, r#"{"a" "b" "c"}"#, r#"{"a":(1,2)}"#] {
            assert!(matches!(repair(text, 0, &mut Parser::default()), Repaired::Broken), "{text}");
        }
        assert!(matches!(repair(r#"{"a":["#, 0, &mut Parser::default()), Repaired::Cut));
    }

    #[test]
    fn a_pretty_text_becomes_one_line() {
        assert_eq!(one_line("{\n  \"a\": [\r\n    1,\n    2\n  ],\n  \"b\":\n  3\n}"), r#"{"a": [1, 2], "b": 3}"#);
    }
}
