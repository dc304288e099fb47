//! What is wrong with a data file, at a place a person and a program can find.

use std::fmt;

use serde::Serialize;

use crate::report::Window;

/// How bad it is: an error keeps a line from being trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
    Info,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// One fault of a data file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The rule's id, as `missing-role`.
    pub rule: &'static str,
    pub severity: Severity,
    pub file: String,
    /// Physical line, from 1. What concerns the whole file is put at 1:1.
    pub line: usize,
    /// From 1, in characters (Unicode scalar values), not bytes; a byte order mark at the head of the file is not
    /// counted, and each byte of invalid UTF-8 counts as one.
    pub column: usize,
    /// JSON pointer (RFC 6901) into the line's record; empty for the record itself.
    pub pointer: String,
    /// What was expected and what was found.
    pub message: String,
    /// How to mend it.
    pub hint: String,
    /// The line around the place, for people: where [`crate::ReadOptions::windows`] asks for it.
    #[serde(skip)]
    pub window: Option<Box<Window>>,
}

/// `file:17:58: error[missing-content] /messages/2: …`, and the hint on a line of its own.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { rule, severity, file, line, column, pointer, message, hint, window: _ } = self;
        write!(f, "{file}:{line}:{column}: {}[{rule}]", severity.as_str())?;
        if !pointer.is_empty() {
            write!(f, " {}", readable(pointer))?;
        }
        write!(f, ": {message}")?;
        if !hint.is_empty() {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// User text inside a message: one line, no control characters, not too long.
pub(crate) fn excerpt(text: &str) -> String {
    excerpt_of(text, 40)
}

/// A pointer for people: its names are user text, which may be long or make a terminal do things.
pub(crate) fn readable(pointer: &str) -> String {
    excerpt_of(pointer, 200)
}

/// The same as [`excerpt`], of so many characters at most.
pub(crate) fn excerpt_of(text: &str, longest: usize) -> String {
    let mut shown = String::new();
    for (count, char) in text.chars().enumerate() {
        if count == longest {
            shown.push('…');
            break;
        }
        match char {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            _ if char.is_control() || is_invisible(char) => shown.extend(char.escape_unicode()),
            _ => shown.push(char),
        }
    }
    shown
}

/// Characters that change how the text around them looks, without a look of their own.
pub(crate) fn is_invisible(char: char) -> bool {
    matches!(char, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostic() -> Diagnostic {
        Diagnostic {
            rule: "missing-content",
            severity: Severity::Error,
            file: "data/soporte.jsonl".into(),
            line: 17,
            column: 58,
            pointer: "/messages/2".into(),
            message: "assistant message has neither `content` nor `tool_calls`".into(),
            hint: "give it text, or delete the message".into(),
            window: None,
        }
    }

    #[test]
    fn a_diagnostic_reads_as_one_line_and_a_hint() {
        expect_test::expect![[r#"
            data/soporte.jsonl:17:58: error[missing-content] /messages/2: assistant message has neither `content` nor `tool_calls`
              hint: give it text, or delete the message"#]]
        .assert_eq(&diagnostic().to_string());
    }

    #[test]
    fn its_json_has_the_contract_s_keys() {
        let json = serde_json::to_value(diagnostic()).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["rule", "severity", "file", "line", "column", "pointer", "message", "hint"]);
        assert_eq!((json["severity"].as_str(), json["line"].as_u64()), (Some("error"), Some(17)));
    }

    #[test]
    fn names_in_a_pointer_are_as_harmless_as_an_excerpt() {
        let pointer = format!("/a\u{1B}[2J/{}", "x".repeat(1 << 20));
        let shown = Diagnostic { pointer, ..diagnostic() }.to_string();
        expect_test::expect![[r#"data/soporte.jsonl:17:58: error[missing-content] /a\u{1b}[2J/xxxxxxx"#]]
            .assert_eq(&shown[..68]);
        assert!(shown.len() < 500);
    }

    #[test]
    fn an_excerpt_is_short_and_hides_nothing() {
        assert_eq!(excerpt("a\nb\u{202E}c"), "a\\nb\\u{202e}c");
        assert_eq!(excerpt(&"x".repeat(50)).chars().count(), 41);
    }
}
