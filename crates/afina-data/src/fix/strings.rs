//! A string that is not quite JSON's, written as JSON has it.

use std::fmt::Write;

use super::Note;

/// The string `raw` (with its quotes) as JSON, and what was done; `None` where it is JSON as it stands.
///
/// `python`: the text is Python's, whose escapes mean other things than JSON's.
pub(super) fn rewrite(raw: &str, python: bool) -> Option<(String, Vec<Note>)> {
    let quote = raw.as_bytes().first().copied()?;
    let inner = raw.get(1..raw.len() - 1)?;
    let plain = quote == b'"' && !inner.contains('\\') && !inner.bytes().any(|byte| byte < 0x20);
    if plain {
        return None;
    }
    let mut written = String::with_capacity(raw.len() + 8);
    let mut notes = Vec::new();
    let mut at = 0;
    written.push('"');
    while let Some(char) = inner[at..].chars().next() {
        let rest = &inner[at..];
        let taken = match char {
            '\\' => escape(inner, at, python, &mut written, &mut notes),
            '"' => {
                written.push_str("\\\"");
                1
            }
            '\0'..='\x1f' => {
                let escaped = control(char);
                Note::gather(
                    &mut notes,
                    Note::safe("unescaped-control-char", format!("wrote `{escaped}` for a raw control character")),
                );
                written.push_str(&escaped);
                1
            }
            _ => {
                let end = rest.find(|char: char| matches!(char, '\\' | '"' | '\0'..='\x1f')).unwrap_or(rest.len());
                written.push_str(&rest[..end]);
                end
            }
        };
        at += taken;
    }
    written.push('"');
    (written != raw).then_some((written, notes))
}

/// A character as JSON has to write it.
fn control(char: char) -> String {
    match char {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        _ => format!("\\u{:04x}", u32::from(char)),
    }
}

/// Writes the escape at byte `at` of `inner`, and returns how many bytes it had.
fn escape(inner: &str, at: usize, python: bool, written: &mut String, notes: &mut Vec<Note>) -> usize {
    let rest = &inner[at..];
    let invalid = |notes: &mut Vec<Note>, what: String| Note::gather(notes, Note::safe("invalid-escape", what));
    let next = rest[1..].chars().next();
    let hex = |from: usize, digits: usize| {
        rest.get(from..from + digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    match next {
        Some('n' | 't' | 'r' | 'b' | 'f' | '"' | '\\' | '/') if !python && in_path(inner, at) => {
            written.push_str("\\\\");
            invalid(notes, "doubled the backslashes of a path".to_owned());
            if next == Some('\\') { 2 } else { 1 }
        }
        Some('/') if python => {
            written.push_str("\\\\/");
            2
        }
        Some('n' | 't' | 'r' | 'b' | 'f' | '"' | '\\' | '/') => {
            written.push_str(&rest[..2]);
            2
        }
        Some('\'') => {
            written.push('\'');
            if !python {
                invalid(notes, "wrote `'` for `\\'`".to_owned());
            }
            2
        }
        Some('u') if let Some(digits) = hex(2, 4) => {
            let unit = u32::from_str_radix(digits, 16).unwrap_or_default();
            let low = hex(8, 4).filter(|_| rest[6..].starts_with("\\u"));
            let low = low.is_some_and(|low| matches!(low.as_bytes(), [b'd' | b'D', b'c'..=b'f' | b'C'..=b'F', ..]));
            match unit {
                0xD800..=0xDBFF if low => {
                    written.push_str(&rest[..12]);
                    12
                }
                0xD800..=0xDFFF => {
                    written.push_str("\\ufffd");
                    Note::gather(
                        notes,
                        Note::safe("lone-surrogate", format!("wrote `\\ufffd` for `\\u{digits}`, half a character")),
                    );
                    6
                }
                _ => {
                    written.push_str(&rest[..6]);
                    6
                }
            }
        }
        Some(letter @ ('x' | 'U')) if python && let Some((char, len)) = python_hex(letter, &hex) => {
            match char {
                '\0'..='\x1f' => written.push_str(&control(char)),
                '"' => written.push_str("\\\""),
                '\\' => written.push_str("\\\\"),
                _ => written.push(char),
            }
            len
        }
        Some('a' | 'v') if python => {
            let code = if next == Some('a') { 7 } else { 11 };
            let _ = write!(written, "\\u{code:04x}");
            2
        }
        Some(char) => {
            written.push_str("\\\\");
            if !python {
                invalid(notes, format!("doubled the backslash of `\\{char}`"));
            }
            1
        }
        None => {
            written.push_str("\\\\");
            1
        }
    }
}

/// Python's `\xe9` and `\U0001f600`: the character, and the length of the escape.
fn python_hex<'t>(letter: char, hex: &dyn Fn(usize, usize) -> Option<&'t str>) -> Option<(char, usize)> {
    let digits = if letter == 'x' { 2 } else { 8 };
    let code = u32::from_str_radix(hex(2, digits)?, 16).ok()?;
    Some((char::from_u32(code)?, 2 + digits))
}

/// Whether the backslash at byte `at` belongs to a Windows path whose writer doubled none: `C:\Users\new` has an escape
/// that JSON does not know, so its `\n` is no line break either.
fn in_path(inner: &str, at: usize) -> bool {
    let before = inner[..at].split(char::is_whitespace).next_back().unwrap_or_default();
    let after = inner[at..].split(char::is_whitespace).next().unwrap_or_default();
    let word = inner[at - before.len()..at + after.len()].trim_start_matches(['"', '\'', '(', '<', '[', '`']);
    let drive = word.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) && word[1..].starts_with(":\\");
    // A quote that is escaped is the string's own, not the path's.
    let quote = inner[at..].starts_with("\\\"");
    drive
        && !quote
        && !word.contains("\\\\")
        && word.match_indices('\\').any(|(slash, _)| {
            !matches!(word[slash + 1..].chars().next(), Some('n' | 't' | 'r' | 'b' | 'f' | '"' | '\\' | '/' | 'u'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, python: bool, expected: &str) {
        let (written, _) = rewrite(raw, python).unwrap();
        assert_eq!(written, expected);
        serde_json::from_str::<String>(&written).unwrap();
        assert_eq!(rewrite(&written, false).map(|(again, _)| again), None, "what is JSON stays");
    }

    #[test]
    fn a_string_becomes_json_and_keeps_its_text() {
        check("\"a\tb\nc\u{1}\"", false, r#""a\tb\nc\u0001""#);
        check(r#""\d+ \' \u12""#, false, r#""\\d+ ' \\u12""#);
        check(r#""C:\Users\new\temp and\n""#, false, r#""C:\\Users\\new\\temp and\n""#);
        check(r#""see \"C:\Users\"""#, false, r#""see \"C:\\Users\"""#);
        check("\"see\u{A0}C:\\Users\u{3000}\\d\"", false, "\"see\u{A0}C:\\\\Users\u{3000}\\\\d\"");
        check(r#""x\ud83d \ud83d\ude00""#, false, r#""x\ufffd \ud83d\ude00""#);
    }

    #[test]
    fn python_s_escapes_become_characters() {
        check(r#"'it\'s "x" \xe9\x07\U0001f600\d'"#, true, r#""it's \"x\" é\u0007😀\\d""#);
        check(r#""it\'s""#, true, r#""it's""#);
        check("'a'", true, r#""a""#);
    }

    #[test]
    fn json_is_left_alone() {
        for raw in [r#""a""#, r#""a\n\"\u00e9\ud83d\ude00\/""#, r#""C:\\Users""#, r#""C:\new""#] {
            assert_eq!(rewrite(raw, false).map(|(written, _)| written), None, "{raw}");
        }
    }
}
