//! JSON as it was written: a number keeps its spelling and an object the order of its keys.
//!
//! The arguments of a tool call pass through here, because a model is trained on what the data says: `1.10` and `1e400`
//! have no other spelling that every reader takes for the same number.

use std::ops::Range;

/// Values nested deeper than this are refused, as `serde_json` does.
const DEEPEST: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// As it is spelled.
    Number(String),
    String(String),
    Array(Vec<Json>),
    /// Of a key that is written twice the last value counts, in the place of the first, as in Python.
    Object(Vec<(String, Json)>),
}

/// Where a text stops being JSON (RFC 8259).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found} at byte {at}")]
pub struct JsonError {
    pub at: usize,
    pub expected: &'static str,
    pub found: String,
}

/// A member of an object, with the place of its value in the text.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) key: String,
    pub(crate) value: Json,
    pub(crate) range: Range<usize>,
}

/// The one value that `text` holds.
pub(crate) fn parse(text: &str) -> Result<Json, JsonError> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let value = parser.value()?;
    parser.space();
    if parser.at < text.len() { Err(parser.error("the end")) } else { Ok(value) }
}

/// The object that begins at byte `at` of `text`, behind white space: its members as written, and where it ends.
pub(crate) fn parse_object(text: &str, at: usize) -> Result<(Vec<Member>, usize), JsonError> {
    let mut parser = Parser { text, at, depth: 0 };
    parser.space();
    if parser.peek() != Some(b'{') {
        return Err(parser.error("`{`"));
    }
    let members = parser.members()?;
    Ok((members, parser.at))
}

impl Json {
    /// Whether two values are the same to a reader: the order of keys does not count, nor how a number is spelled.
    pub(crate) fn means(&self, other: &Json) -> bool {
        match (self, other) {
            (Json::Number(a), Json::Number(b)) => {
                let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
                a == b || number(a).is_some_and(|a| number(b) == Some(a))
            }
            (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.means(b)),
            (Json::Object(a), Json::Object(b)) => {
                let in_b = |key: &str| b.iter().find(|(other, _)| other == key).map(|(_, value)| value);
                a.len() == b.len() && a.iter().all(|(key, value)| in_b(key).is_some_and(|other| value.means(other)))
            }
            _ => self == other,
        }
    }

    /// Every text in the value, keys included.
    pub(crate) fn for_each_text<'j>(&'j self, each: &mut dyn FnMut(&'j str)) {
        match self {
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
            Json::String(text) => each(text),
            Json::Array(items) => items.iter().for_each(|item| item.for_each_text(each)),
            Json::Object(members) => members.iter().for_each(|(key, value)| {
                each(key);
                value.for_each_text(each);
            }),
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn error(&self, expected: &'static str) -> JsonError {
        let found = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            None => "the end".to_owned(),
            Some(c) => format!("`{}`", c.escape_debug()),
        };
        JsonError { at: self.at, expected, found }
    }

    fn value(&mut self) -> Result<Json, JsonError> {
        self.space();
        match self.peek() {
            Some(b'{') => {
                let mut object: Vec<(String, Json)> = Vec::new();
                for member in self.members()? {
                    match object.iter_mut().find(|(key, _)| *key == member.key) {
                        Some((_, value)) => *value = member.value,
                        None => object.push((member.key, member.value)),
                    }
                }
                Ok(Json::Object(object))
            }
            Some(b'[') => self.array(),
            Some(b'"') => self.string().map(Json::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Json, JsonError> {
        for (word, value) in [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.error("a value"))
    }

    fn enter(&mut self) -> Result<(), JsonError> {
        self.depth += 1;
        if self.depth > DEEPEST { Err(self.error("at most 128 levels")) } else { Ok(()) }
    }

    /// Behind an opening bracket: true when the closing one follows at once, and was taken.
    fn closes(&mut self, bracket: u8) -> bool {
        self.space();
        let closes = self.peek() == Some(bracket);
        self.at += usize::from(closes);
        self.depth -= usize::from(closes);
        closes
    }

    fn members(&mut self) -> Result<Vec<Member>, JsonError> {
        self.enter()?;
        self.at += 1;
        let mut members = Vec::new();
        if self.closes(b'}') {
            return Ok(members);
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.error("a key in double quotes"));
            }
            let key = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.error("`:`"));
            }
            self.at += 1;
            self.space();
            let start = self.at;
            let value = self.value()?;
            members.push(Member { key, value, range: start..self.at });
            if self.closes(b'}') {
                return Ok(members);
            }
            if self.peek() != Some(b',') {
                return Err(self.error("`,` or `}`"));
            }
            self.at += 1;
        }
    }

    fn array(&mut self) -> Result<Json, JsonError> {
        self.enter()?;
        self.at += 1;
        let mut items = Vec::new();
        if self.closes(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value()?);
            if self.closes(b']') {
                return Ok(Json::Array(items));
            }
            if self.peek() != Some(b',') {
                return Err(self.error("`,` or `]`"));
            }
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(Json::Number(self.text[start..self.at].to_owned()))
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.error("a digit")) } else { Ok(()) }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let start = self.at;
            while self.peek().is_some_and(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
                self.at += 1;
            }
            out.push_str(&self.text[start..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return Err(self.error("an escape for a control character")),
                None => return Err(self.error("`\"`")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let c = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.code_point(),
            _ => return Err(self.error("an escape of JSON")),
        };
        self.at += 1;
        Ok(c)
    }

    fn code_point(&mut self) -> Result<char, JsonError> {
        let first = self.unit()?;
        if let Some(c) = char::from_u32(first) {
            return Ok(c);
        }
        if first < 0xdc00 && self.text[self.at..].starts_with("\\u") {
            self.at += 1;
            let second = self.unit()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return char::from_u32(code).ok_or_else(|| self.error("a character"));
            }
        }
        Err(self.error("the other half of a surrogate pair"))
    }

    /// Four digits behind the `u` that is next.
    fn unit(&mut self) -> Result<u32, JsonError> {
        self.at += 1;
        let digits = self.text.get(self.at..self.at + 4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(unit) = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) else {
            return Err(self.error("four hexadecimal digits"));
        };
        self.at += 4;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, expect: Expect) {
        expect.assert_eq(&match parse(text) {
            Ok(value) => format!("{value:?}"),
            Err(error) => format!("error: {error}"),
        });
    }

    #[test]
    fn numbers_keep_their_spelling_and_keys_their_order() {
        check(
            r#" {"z": [1.0, 1e400, -0, 1E+2], "a": {}, "z": null} "#,
            expect![[r#"Object([("z", Null), ("a", Object([]))])"#]],
        );
        check(
            "[1.0, 1e400, -0, 1.10E+2]",
            expect![[r#"Array([Number("1.0"), Number("1e400"), Number("-0"), Number("1.10E+2")])"#]],
        );
    }

    #[test]
    fn escapes_are_read() {
        check(r#""\u00f1\ud83d\ude00\n\/\"\\""#, expect![[r#"String("ñ😀\n/\"\\")"#]]);
        check(r#""\ud83d""#, expect![[r#"error: expected the other half of a surrogate pair, found `\"` at byte 7"#]]);
        check(r#""\ud83d\n""#, expect!["error: expected the other half of a surrogate pair, found `\\\\` at byte 7"]);
        check(r#""\u00e"#, expect!["error: expected four hexadecimal digits, found `0` at byte 3"]);
    }

    #[test]
    fn what_is_no_json_is_refused_at_its_place() {
        for (text, expected) in [
            ("", "expected a value, found the end at byte 0"),
            ("{'a': 1}", "expected a key in double quotes, found `\\'` at byte 1"),
            ("{\"a\": 1,}", "expected a key in double quotes, found `}` at byte 8"),
            ("[1 2]", "expected `,` or `]`, found `2` at byte 3"),
            ("01", "expected the end, found `1` at byte 1"),
            ("1.", "expected a digit, found the end at byte 2"),
            ("\"a\nb\"", "expected an escape for a control character, found `\\n` at byte 2"),
            ("\"ñ", "expected `\"`, found the end at byte 3"),
            ("NaN", "expected a value, found `N` at byte 0"),
            ("{} {}", "expected the end, found `{` at byte 3"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        }
        assert!(parse(&"[".repeat(1_000_000)).unwrap_err().expected.contains("128"));
    }

    #[test]
    fn whatever_serde_reads_is_read_the_same() {
        let texts = [r#"{"a":[true,false,null,"\b\f\t\r",{"b":-1.5e-7}],"":""}"#, "[]", "\"😀\"", "0", "-12"];
        for text in texts {
            let theirs: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(parse(text).unwrap(), parse(&theirs.to_string()).unwrap());
        }
    }

    #[test]
    fn members_of_an_object_inside_a_text_have_their_places() {
        let text = "call {\"name\": \"f\", \"arguments\": {\"x\":  1.0}} end";
        let (members, end) = parse_object(text, 4).unwrap();
        assert_eq!(&text[members[1].range.clone()], "{\"x\":  1.0}");
        assert_eq!((members[0].key.as_str(), &text[end..]), ("name", " end"));
    }
}
