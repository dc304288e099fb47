//! Why a line is not JSON: each cause is a rule of its own, because each is mended in its own way.

use crate::{
    diagnostic::excerpt,
    findings::Findings,
    json::{Cause, Fault, MAX_DEPTH, Value},
};

/// Hands a fault to its rule. Whether a text that ends too early is cut or goes on in the next line, and what
/// follows the value, is for the reader of lines to say.
pub(crate) fn check_fault(fault: &Fault, text: &str, out: &mut Findings) {
    let rule: fn(&Fault, &str, &mut Findings) = match fault.cause {
        Cause::TrailingComma => trailing_comma,
        Cause::PythonNotation => python_dict_repr,
        Cause::Comment => json_comments,
        Cause::ControlCharacter(_) => unescaped_control_char,
        Cause::UnescapedQuote => unescaped_quote,
        Cause::InvalidEscape => invalid_escape,
        Cause::NotFinite => nan_infinity,
        Cause::LoneSurrogate => lone_surrogate,
        Cause::TooDeep => deep_nesting,
        Cause::Truncated { .. } => truncated_line,
        _ => invalid_json,
    };
    rule(fault, text, out);
}

/// A comma stands before a closing bracket.
///
/// JavaScript and Python allow it, JSON does not. Remove it.
///
/// ```json
/// {"messages": [{"role": "user", "content": "Hi"},]}
/// ```
fn trailing_comma(fault: &Fault, text: &str, out: &mut Findings) {
    let closing = text[fault.offset + 1..].trim_start().chars().next().unwrap_or(']');
    out.error(
        "trailing-comma",
        fault,
        format!("expected another value after `,`, found `{closing}`"),
        "remove the comma: JSON has none before a closing bracket",
    );
}

/// The line is a Python dictionary, not JSON.
///
/// `str(record)` and `print(record)` write single quotes, `True`, `False` and `None`. Write `json.dumps(record)`, or have
/// the file made JSON: `--fix OUT`. Said once a record.
fn python_dict_repr(fault: &Fault, text: &str, out: &mut Findings) {
    let rest = &text[fault.offset..];
    let found = if rest.starts_with('\'') { "a single quote".to_owned() } else { format!("`{}`", word(rest)) };
    out.error(
        "python-dict-repr",
        fault,
        format!("expected JSON, found {found}, which is Python's notation"),
        "write the record with `json.dumps(record)`, not `str(record)`; `--fix OUT` makes JSON of it",
    );
}

/// A comment stands in the data.
///
/// JSON has no comments: neither `//` nor `/* */` nor `#`. Remove it; notes about the data belong beside the file.
fn json_comments(fault: &Fault, text: &str, out: &mut Findings) {
    let rest = &text[fault.offset..];
    let mark = if rest.starts_with('#') { "#" } else { &rest[..2] };
    out.error(
        "json-comments",
        fault,
        format!("expected JSON, found a comment that begins with `{mark}`"),
        "remove the comment: JSON has none",
    );
}

/// A raw control character stands inside a string.
///
/// A line break, a tab or another character below U+0020 has to be escaped. Usually the line was put together by hand
/// and not by a JSON library.
///
/// ```json
/// {"role": "user", "content": "first line\nsecond line"}
/// ```
fn unescaped_control_char(fault: &Fault, _text: &str, out: &mut Findings) {
    let Cause::ControlCharacter(byte) = fault.cause else { return };
    let (name, escape) = match byte {
        b'\n' => ("a raw line break".to_owned(), "\\n".to_owned()),
        b'\r' => ("a raw carriage return".to_owned(), "\\r".to_owned()),
        b'\t' => ("a raw tab".to_owned(), "\\t".to_owned()),
        _ => (format!("raw byte 0x{byte:02X}"), format!("\\u{byte:04x}")),
    };
    out.error(
        "unescaped-control-char",
        fault,
        format!("expected an escape inside a string, found {name}"),
        format!("write it as `{escape}`"),
    );
}

/// A quotation mark inside a string is not escaped.
///
/// The string ends there, and what follows it is no JSON.
///
/// ```json
/// {"role": "user", "content": "she said \"hi\" to me"}
/// ```
fn unescaped_quote(fault: &Fault, text: &str, out: &mut Findings) {
    let rest = excerpt(text[fault.offset + 1..].trim_start().split(['"', ',', '}', ']']).next().unwrap_or_default());
    let found = if rest.is_empty() { "another quote".to_owned() } else { format!("`{rest}`") };
    out.error(
        "unescaped-quote",
        fault,
        format!("the string ends at this quote, but {found} follows"),
        "write a quotation mark inside a string as `\\\"`",
    );
}

/// A backslash begins no escape.
///
/// JSON knows `\" \\ \/ \b \f \n \r \t` and `\u` with four hexadecimal digits. Windows paths, LaTeX and regular
/// expressions need each backslash doubled. Said once a string.
///
/// ```json
/// {"role": "user", "content": "C:\\Users\\me"}
/// ```
fn invalid_escape(fault: &Fault, text: &str, out: &mut Findings) {
    let shown: String = text[fault.offset..].chars().take(2).collect();
    let (found, hint) = match shown.as_str() {
        "\\u" => {
            ("`\\u` without four hexadecimal digits".to_owned(), "write `\\u` and four digits, or double the backslash")
        }
        "\\'" => ("`\\'`".to_owned(), "a single quote needs no backslash in JSON"),
        _ => (format!("`{}`", excerpt(&shown)), "double the backslash: `\\\\`"),
    };
    out.error("invalid-escape", fault, format!("expected an escape of JSON, found {found}"), hint);
}

/// A number is `NaN` or `Infinity`.
///
/// JSON has neither; Python's `json.dumps` writes them all the same. Write `null` or a number
/// (`json.dumps(record, allow_nan=False)` finds the place).
fn nan_infinity(fault: &Fault, text: &str, out: &mut Findings) {
    let found = word(&text[fault.offset..]);
    out.error(
        "nan-infinity",
        fault,
        format!("expected a number, found `{found}`, which JSON does not have"),
        "write null or a finite number",
    );
}

/// Half of a surrogate pair stands alone.
///
/// `\ud83d` is the first half of an emoji; without `\udxxx` after it, it is no character. Text was cut in the middle
/// of one, by a length counted in UTF-16. Restore the character or drop it. Said once a string.
fn lone_surrogate(fault: &Fault, text: &str, out: &mut Findings) {
    let found = &text[fault.offset..fault.offset + 6];
    out.error(
        "lone-surrogate",
        fault,
        format!("expected a surrogate pair, found `{found}` alone"),
        "restore the emoji that was cut, or drop its half",
    );
}

/// Arrays and objects are nested deeper than 128.
///
/// Parsers have limits (serde_json 128, Python about 1000). No chat record is that deep: something was wrapped again
/// and again, or a tool's schema should be flattened.
fn deep_nesting(fault: &Fault, _text: &str, out: &mut Findings) {
    out.error(
        "deep-nesting",
        fault,
        format!("expected at most {MAX_DEPTH} arrays and objects inside each other, found more"),
        "flatten the value",
    );
}

/// The record ends inside a string, an array or an object.
///
/// The download or the program that wrote the file was interrupted, most often in the last line. Write the record
/// again, or delete the line. Where nothing but the last brackets lacks, write them.
pub(crate) fn truncated_line(fault: &Fault, text: &str, out: &mut Findings) {
    use crate::json::{Kind, missing_brackets};
    let inside = match fault.cause {
        Cause::Truncated { inside: Kind::String | Kind::Key } => "a string",
        Cause::Truncated { inside: Kind::Array } => "an array",
        Cause::Truncated { inside: Kind::Object } => "an object",
        _ => "a value",
    };
    let hint = match missing_brackets(text) {
        Some(brackets) => format!("write `{brackets}` behind it: nothing else is missing"),
        None => "the file was cut here: write the record again, or delete the line".to_owned(),
    };
    out.error("truncated-line", fault, format!("the record ends inside {inside}"), hint);
}

/// The line is not JSON, for another reason.
///
/// A missing comma or colon, a name without quotes, a bracket of the wrong kind, a number that JSON does not know.
/// The column is that of the first character that cannot stand there.
fn invalid_json(fault: &Fault, text: &str, out: &mut Findings) {
    let found = found(text, fault.offset);
    let (expected, hint) = match fault.cause {
        Cause::UnquotedKey => ("a name in double quotes", "put the name in double quotes".to_owned()),
        Cause::MissingColon => ("`:` after the name", "put `:` between the name and its value".to_owned()),
        Cause::MissingComma if text[fault.offset..].starts_with(';') => {
            ("`,`", "write a comma: JSON has no semicolon between values".to_owned())
        }
        Cause::MissingComma => {
            ("`,`", "put `,` between the values, or escape the quote before it as `\\\"`".to_owned())
        }
        Cause::SmartQuote => ("`\"`", "a word processor made the quotes curly: write `\"`".to_owned()),
        Cause::BadNumber => ("a number", "write it as JSON does: `0.5`, `1`, `-2e3`; or as a string".to_owned()),
        Cause::ClosedEarly { closed } => {
            let (line, column) = out.position(text, closed);
            let hint = format!(
                "the array before it ends too early, at the `]` in line {line}, column {column}: move that `]` behind this value"
            );
            ("a name in double quotes", hint)
        }
        Cause::WrongBracket { expected: '}' } => {
            ("`}`", "close the object with `}` before it, or remove this bracket".to_owned())
        }
        Cause::WrongBracket { .. } => ("`]`", "close the array with `]` before it, or remove this bracket".to_owned()),
        Cause::Unexpected { expected } => (expected, unexpected_hint(text, fault.offset).to_owned()),
        _ => ("JSON", String::new()),
    };
    out.error("invalid-json", fault, format!("expected {expected}, found {found}"), hint);
}

fn unexpected_hint(text: &str, offset: usize) -> &'static str {
    let rest = &text[offset..];
    match rest.chars().next() {
        Some('<') => "this is HTML or XML: a download got a web page for an answer",
        Some(',') => "remove the second comma",
        Some('(') => "a Python tuple: write an array, `[…]`",
        _ if ["undefined", "nan", "inf", "TRUE", "FALSE", "NULL", "nil"].contains(&word(rest)) => {
            "JSON knows true, false, null and numbers: write one of them, or a string in double quotes"
        }
        _ => "write records with a JSON library, as Python's `json.dumps(record)`",
    }
}

/// The same member name stands twice in one object.
///
/// Most readers keep the last and lose the first without a word; some refuse. Keep one.
pub(crate) fn duplicate_key(object: Value, out: &mut Findings) {
    const FEW: usize = 16;
    let mut seen = Vec::new();
    let mut many = std::collections::HashSet::new();
    for member in object.members() {
        let Some(name) = member.key.text() else { continue };
        let repeated = match seen.len() {
            ..FEW => seen.contains(&name),
            FEW => {
                many.extend(seen.iter().cloned());
                !many.insert(name.clone())
            }
            _ => !many.insert(name.clone()),
        };
        if repeated {
            let hint = "keep one: readers take the last, and lose the others";
            out.warning(
                "duplicate-key",
                member.key,
                format!("expected each name once, found `{}` again", excerpt(&name)),
                hint,
            );
        } else {
            seen.push(name);
        }
    }
}

/// What stands at `offset`, for "found …".
pub(super) fn found(text: &str, offset: usize) -> String {
    let rest = &text[offset..];
    match rest.chars().next() {
        None => "the end of the line".to_owned(),
        Some(char) if char.is_alphanumeric() || char == '_' => format!("`{}`", excerpt(word(rest))),
        Some(char) => format!("`{}`", excerpt(char.encode_utf8(&mut [0; 4]))),
    }
}

/// The letters, digits and signs that `rest` begins with.
fn word(rest: &str) -> &str {
    let end = rest.find(|char: char| !(char.is_alphanumeric() || matches!(char, '_' | '-' | '.' | '+')));
    &rest[..end.unwrap_or(rest.len())]
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::check;

    const RECORD: &str =
        r#"{"messages":[{"role":"user","content":"Hi there."},{"role":"assistant","content":"Hello."}]}"#;

    #[test]
    fn each_cause_has_its_rule_and_what_follows_is_still_checked() {
        check(
            r#"{"messages":[{"role":"user","content":"a",},{"role":"bot","content":"b"},]}"#,
            expect![[r#"
            1:42: error[trailing-comma] /messages/0: expected another value after `,`, found `}`
            1:53: error[unknown-role] /messages/1/role: expected role `system`, `user`, `assistant` or `tool`, found `bot`
            1:73: error[trailing-comma] /messages: expected another value after `,`, found `]`
        "#]],
        );
        check(
            "{'messages': [{'role': 'user', 'content': 'a'}, {'role': 'assistant', 'content': None}]}",
            expect![[r#"
                1:2: error[python-dict-repr]: expected JSON, found a single quote, which is Python's notation
                1:82: error[null-content] /messages/1/content: expected `content` of the assistant message to be a string, found null
            "#]],
        );
        check(
            format!("# notes\n{RECORD} // end\n"),
            expect![[r#"
            1:1: error[json-comments]: expected JSON, found a comment that begins with `#`
            2:94: error[json-comments]: expected JSON, found a comment that begins with `//`
        "#]],
        );
        check(
            "{\"messages\":[{\"role\":\"user\",\"content\":\"a\tb\"},{\"role\":\"assistant\",\"content\":\"c\"}]}",
            expect![[r#"
                1:41: error[unescaped-control-char] /messages/0/content: expected an escape inside a string, found a raw tab
            "#]],
        );
        check(
            r#"{"messages":[{"role":"user","content":"C:\Users\me"},{"role":"assistant","content":"\u12 \ud83d"}]}"#,
            expect![[r#"
                1:42: error[invalid-escape] /messages/0/content: expected an escape of JSON, found `\U`
                1:85: error[invalid-escape] /messages/1/content: expected an escape of JSON, found `\u` without four hexadecimal digits
                1:90: error[lone-surrogate] /messages/1/content: expected a surrogate pair, found `\ud83d` alone
            "#]],
        );
        check(
            r#"{"messages":[{"role":"user","content":"a","content":"b"},{"role":"assistant","content":"c"}],"tools":[NaN]}"#,
            expect![[r#"
                1:43: warning[duplicate-key] /messages/0/content: expected each name once, found `content` again
                1:103: error[nan-infinity] /tools: expected a number, found `NaN`, which JSON does not have
                1:103: error[tool-type-invalid] /tools/0: expected `"type": "function"` and its `function`, found a number
            "#]],
        );
    }

    #[test]
    fn a_fatal_fault_is_one_finding_with_the_place_and_the_cause() {
        let broken = [
            r#"{"messages":[{"role":"user","content":"she said "hi" to me"}]}"#,
            r#"{"messages" [{"role":"user","content":"a"}]}"#,
            r#"{messages:[]}"#,
            r#"{"messages":[{"role":"user" "content":"a"}]}"#,
            r#"{"messages":[{"role":"user","content":"a"}}"#,
            r#"{"messages":[{"role":"user","content":“a”}]}"#,
            r#"{"messages":[{"role":"user","weight":01}]}"#,
            r#"{"messages": oops}"#,
            r#"<html>"#,
        ];
        check(
            broken.join("\n"),
            expect![[r#"
            1:49: error[unescaped-quote] /messages/0: the string ends at this quote, but `hi` follows
            2:13: error[invalid-json]: expected `:` after the name, found `[`
            3:2: error[invalid-json]: expected a name in double quotes, found `messages`
            4:29: error[invalid-json] /messages/0: expected `,`, found `"`
            5:43: error[invalid-json] /messages: expected `]`, found `}`
            6:39: error[invalid-json] /messages/0: expected `"`, found `“`
            7:38: error[invalid-json] /messages/0: expected a number, found `01`
            8:14: error[invalid-json]: expected a value, found `oops`
            9:1: error[invalid-json]: expected a value, found `<`
        "#]],
        );
        check(
            format!("{{\"a\":{}1{}}}", "[".repeat(130), "]".repeat(130)),
            expect![[r#"
                1:133: error[deep-nesting] /a/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0…: expected at most 128 arrays and objects inside each other, found more
            "#]],
        );
    }
}
