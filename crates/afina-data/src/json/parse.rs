//! One pass over the bytes, without recursion.

use super::{Cause, Fault, Kind, Node, text::hex};

/// Arrays and objects inside each other, at most (RFC 8259 section 9 allows a limit; this is serde_json's).
pub const MAX_DEPTH: usize = 128;

/// Reads one value at or after `start` into `nodes`.
pub(super) fn parse(
    text: &str,
    start: usize,
    nodes: &mut Vec<Node>,
    open: &mut Vec<u32>,
    faults: &mut Vec<Fault>,
) -> Outcome {
    nodes.clear();
    open.clear();
    faults.clear();
    let bytes = text.as_bytes();
    let mut run =
        Run { text, bytes, start, at: start, nodes, open, faults, value_end: start, python: false, rare_escape: false };
    let complete = run.value().is_some();
    // Without a branch in it, the loop becomes vector instructions.
    let (least, most) = bytes[start..run.at.max(start)]
        .iter()
        .fold((u8::MAX, 0), |(least, most), &byte| (byte.min(least), byte.max(most)));
    let (control, wide) = (least < 0x20, most >= 0x7F);
    if control {
        run.control_characters(complete);
    }
    if complete {
        run.space();
    } else {
        let after = run.nodes.len() as u32;
        for &index in run.open.iter() {
            run.nodes[index as usize].after = after;
            run.nodes[index as usize].end = bytes.len() as u32;
        }
    }
    Outcome { complete, end: run.at, rare_escape: run.rare_escape, wide }
}

/// How the reading of a value went.
pub(super) struct Outcome {
    pub(super) complete: bool,
    /// Behind the value and the whitespace after it.
    pub(super) end: usize,
    /// An escape other than of a quote, a backslash, a slash, a tab or a line break.
    pub(super) rare_escape: bool,
    /// A byte that is no printable ASCII, nor whitespace.
    pub(super) wide: bool,
}

pub(super) struct Run<'p> {
    pub(super) text: &'p str,
    pub(super) bytes: &'p [u8],
    pub(super) start: usize,
    pub(super) at: usize,
    pub(super) nodes: &'p mut Vec<Node>,
    pub(super) open: &'p mut Vec<u32>,
    faults: &'p mut Vec<Fault>,
    /// Behind the last value.
    pub(super) value_end: usize,
    python: bool,
    rare_escape: bool,
}

impl Run<'_> {
    /// The whole value, everything inside included. `None`: a fault ended it.
    fn value(&mut self) -> Option<()> {
        loop {
            self.space();
            match self.peek() {
                Some(b'{') => {
                    self.open(Kind::Object)?;
                    self.space();
                    match self.peek() {
                        Some(b'}') => self.close(),
                        _ => {
                            self.key()?;
                            continue;
                        }
                    }
                }
                Some(b'[') => {
                    self.open(Kind::Array)?;
                    self.space();
                    match self.peek() {
                        Some(b']') => self.close(),
                        _ => continue,
                    }
                }
                Some(quote @ b'"') => self.string(Kind::String, quote)?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(_) => self.word()?,
                None => return self.truncated(),
            }
            if self.after_value()? {
                return Some(());
            }
        }
    }

    /// Closes what ends here and steps to the next value. True: the whole value has ended.
    fn after_value(&mut self) -> Option<bool> {
        loop {
            self.value_end = self.at;
            let Some(&container) = self.open.last() else { return Some(true) };
            let object = self.nodes[container as usize].kind == Kind::Object;
            self.space();
            match self.peek() {
                Some(b',') => {
                    let comma = self.at;
                    self.at += 1;
                    self.space();
                    if self.peek() == Some(if object { b'}' } else { b']' }) {
                        self.fault(Cause::TrailingComma, comma);
                        self.close();
                        continue;
                    }
                    if object {
                        self.key()?;
                    }
                    return Some(false);
                }
                Some(b'}') if object => self.close(),
                Some(b']') if !object => self.close(),
                _ => return self.no_comma(object),
            }
        }
    }

    /// A member's name and its colon.
    fn key(&mut self) -> Option<()> {
        match self.peek() {
            Some(quote @ b'"') => self.string(Kind::Key, quote)?,
            Some(quote @ b'\'') => {
                self.python();
                self.string(Kind::Key, quote)?;
            }
            _ => return self.no_key(),
        }
        let key_end = self.at;
        self.space();
        match self.peek() {
            Some(b':') => {
                self.at += 1;
                Some(())
            }
            None => self.truncated(),
            Some(byte) if self.at == key_end && !b",{}[]\"".contains(&byte) => {
                self.fatal(Cause::UnescapedQuote, key_end - 1)
            }
            Some(_) => self.fatal(Cause::MissingColon, self.at),
        }
    }

    fn string(&mut self, kind: Kind, quote: u8) -> Option<()> {
        let start = self.at;
        let index = self.nodes.len() as u32;
        self.nodes.push(Node {
            start: start as u32,
            end: self.bytes.len() as u32,
            after: index + 1,
            kind,
            escaped: false,
            rare: false,
        });
        self.at += 1;
        let (mut escaped, mut rare) = (false, false);
        let mut noted = 0;
        loop {
            let Some(found) = find_end(&self.bytes[self.at..], quote) else {
                // The node stays, for the fault's place; no value may read it as a closed string.
                self.nodes[index as usize].kind = Kind::Null;
                let fault = Fault { cause: Cause::Truncated { inside: kind }, offset: self.bytes.len(), node: index };
                self.faults.push(fault);
                return None;
            };
            self.at += found + 1;
            if self.bytes[self.at - 1] == quote {
                break;
            }
            escaped = true;
            rare |= self.escape(index, quote, &mut noted);
        }
        let node = &mut self.nodes[index as usize];
        node.end = self.at as u32;
        node.escaped = escaped;
        node.rare = rare;
        Some(())
    }

    /// Steps over an escape; `at` is behind its backslash. The first broken one of each sort is noted. True: it is
    /// another than of a quote, a backslash, a tab or a line break.
    fn escape(&mut self, node: u32, quote: u8, noted: &mut u8) -> bool {
        let backslash = self.at - 1;
        let cause = match self.bytes.get(self.at) {
            Some(b'"' | b'\\' | b'n' | b'r' | b't') => {
                self.at += 1;
                return false;
            }
            Some(b'/') => {
                self.at += 1;
                return true;
            }
            Some(b'b' | b'f') => {
                self.at += 1;
                self.rare_escape = true;
                return true;
            }
            Some(b'\'') if quote == b'\'' => {
                self.at += 1;
                return true;
            }
            Some(b'u') => match hex(self.bytes.get(self.at + 1..self.at + 5)).inspect(|_| self.rare_escape = true) {
                None => {
                    self.at += 1;
                    Cause::InvalidEscape
                }
                Some(unit) => {
                    self.at += 5;
                    match unit {
                        0xD800..=0xDBFF if self.low_surrogate() => {
                            self.at += 6;
                            return true;
                        }
                        0xD800..=0xDFFF => Cause::LoneSurrogate,
                        _ => return true,
                    }
                }
            },
            _ => Cause::InvalidEscape,
        };
        let bit = if cause == Cause::InvalidEscape { 1 } else { 2 };
        if *noted & bit == 0 {
            *noted |= bit;
            self.faults.push(Fault { cause, offset: backslash, node });
        }
        true
    }

    fn low_surrogate(&self) -> bool {
        self.bytes[self.at..].starts_with(b"\\u")
            && matches!(hex(self.bytes.get(self.at + 2..self.at + 6)), Some(0xDC00..=0xDFFF))
    }

    /// Notes the first raw control character of each string.
    #[cold]
    fn control_characters(&mut self, complete: bool) {
        // What ended the tree stays behind all others.
        let fatal = if complete { None } else { self.faults.pop() };
        for (index, node) in self.nodes.iter().enumerate() {
            if !matches!(node.kind, Kind::String | Kind::Key) {
                continue;
            }
            let (start, end) = (node.start as usize, node.end as usize);
            if let Some(found) = self.bytes[start..end].iter().position(|&byte| byte < 0x20) {
                let cause = Cause::ControlCharacter(self.bytes[start + found]);
                self.faults.push(Fault { cause, offset: start + found, node: index as u32 });
            }
        }
        self.faults.sort_by_key(|fault| fault.offset);
        self.faults.extend(fatal);
    }

    fn number(&mut self) -> Option<()> {
        let start = self.at;
        if self.bytes[start..].starts_with(b"-I") {
            return self.word();
        }
        let mut at = start + usize::from(self.bytes[start] == b'-');
        let digits = |at: &mut usize| {
            let from = *at;
            while self.bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            *at - from
        };
        let first = at;
        let whole = digits(&mut at);
        let mut good = whole > 0 && (whole == 1 || self.bytes[first] != b'0');
        if self.bytes.get(at) == Some(&b'.') {
            at += 1;
            good &= digits(&mut at) > 0;
        }
        if let Some(b'e' | b'E') = self.bytes.get(at) {
            at += 1;
            at += usize::from(matches!(self.bytes.get(at), Some(b'+' | b'-')));
            good &= digits(&mut at) > 0;
        }
        let goes_on = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+');
        if !good || self.bytes.get(at).is_some_and(goes_on) {
            return self.fatal(Cause::BadNumber, start);
        }
        self.leaf(Kind::Number, at);
        Some(())
    }

    /// `true`, `false`, `null`, and what people write for them.
    fn word(&mut self) -> Option<()> {
        let start = self.at;
        let rest = &self.bytes[start..];
        let letters = rest.iter().skip(1).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        let word = &rest[..1 + letters];
        let (kind, cause) = match word {
            b"true" => (Kind::True, None),
            b"false" => (Kind::False, None),
            b"null" => (Kind::Null, None),
            b"True" => (Kind::True, Some(Cause::PythonNotation)),
            b"False" => (Kind::False, Some(Cause::PythonNotation)),
            b"None" => (Kind::Null, Some(Cause::PythonNotation)),
            b"NaN" | b"Infinity" | b"-Infinity" => (Kind::Number, Some(Cause::NotFinite)),
            _ if rest[0] == b'\'' => {
                self.python();
                return self.string(Kind::String, b'\'');
            }
            _ => return self.no_value(),
        };
        match cause {
            Some(Cause::PythonNotation) => self.python(),
            Some(cause) => self.fault(cause, start),
            None => {}
        }
        self.leaf(kind, start + word.len());
        Some(())
    }

    fn leaf(&mut self, kind: Kind, end: usize) {
        let after = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { start: self.at as u32, end: end as u32, after, kind, escaped: false, rare: false });
        self.at = end;
    }

    fn open(&mut self, kind: Kind) -> Option<()> {
        if self.open.len() == MAX_DEPTH {
            return self.fatal(Cause::TooDeep, self.at);
        }
        let index = self.nodes.len() as u32;
        self.nodes.push(Node { start: self.at as u32, end: 0, after: 0, kind, escaped: false, rare: false });
        self.open.push(index);
        self.at += 1;
        Some(())
    }

    fn close(&mut self) {
        self.at += 1;
        if let Some(index) = self.open.pop() {
            let after = self.nodes.len() as u32;
            let node = &mut self.nodes[index as usize];
            node.end = self.at as u32;
            node.after = after;
        }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline(always)]
    fn space(&mut self) {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(b'/' | b'#') if self.comment() => {}
                _ => return,
            }
        }
    }

    /// Steps over a comment, and notes it.
    #[cold]
    fn comment(&mut self) -> bool {
        let rest = &self.bytes[self.at..];
        let end = if rest.starts_with(b"/*") {
            memchr::memmem::find(&rest[2..], b"*/").map(|found| found + 4)
        } else if rest.starts_with(b"//") || rest.starts_with(b"#") {
            memchr::memchr2(b'\n', b'\r', rest)
        } else {
            return false;
        };
        self.fault(Cause::Comment, self.at);
        self.at += end.unwrap_or(rest.len());
        true
    }

    fn python(&mut self) {
        if !std::mem::replace(&mut self.python, true) {
            self.fault(Cause::PythonNotation, self.at);
        }
    }

    fn fault(&mut self, cause: Cause, offset: usize) {
        let node = self.open.last().copied().unwrap_or(0);
        self.faults.push(Fault { cause, offset, node });
    }

    #[cold]
    pub(super) fn fatal<T>(&mut self, cause: Cause, offset: usize) -> Option<T> {
        self.fault(cause, offset);
        None
    }
}

/// Where the first quote or backslash is.
#[inline(always)]
fn find_end(bytes: &[u8], quote: u8) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    /// Words of eight bytes: most names and many texts end in them, before the search of a long text would have begun.
    const WORDS: usize = 4;
    let (words, _) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().take(WORDS).enumerate() {
        let word = u64::from_le_bytes(*word);
        // The highest bit of each byte that is 0, and maybe of some behind the first of them.
        let zero = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
        let found = zero(word ^ (ONES * u64::from(quote))) | zero(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(8 * index + found.trailing_zeros() as usize / 8);
        }
    }
    let seen = 8 * words.len().min(WORDS);
    memchr::memchr2(quote, b'\\', &bytes[seen..]).map(|found| seen + found)
}

#[cfg(test)]
mod tests {
    use super::super::Parser;
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(Cause, usize)]) {
        let mut parser = Parser::default();
        let parsed = parser.parse(text, 0);
        let faults: Vec<_> = parsed.faults.iter().map(|fault| (fault.cause, fault.offset)).collect();
        assert_eq!(faults, expected, "{text}");
        assert_eq!(parsed.root().is_some(), !expected.iter().any(|(cause, _)| cause.is_fatal()), "{text}");
    }

    #[test]
    fn the_end_of_a_text_is_found_wherever_it_is() {
        for length in 0..80 {
            for end in [b'"', b'\\'] {
                // Neighbours of what is looked for, and bytes with their highest bit set.
                let mut bytes: Vec<u8> = (0..length).map(|at| b"!#[]\xDC\xA2\x01\x00z"[at % 9]).collect();
                assert_eq!(find_end(&bytes, b'"'), None);
                bytes.extend([end, b'"', b'\\', b'a', b'"', b'"']);
                assert_eq!(find_end(&bytes, b'"'), Some(length), "{length}");
            }
        }
    }

    #[test]
    fn json_has_no_faults() {
        for text in [
            "0",
            "-0.5e+3",
            "true",
            "[]",
            "{}",
            r#""""#,
            r#"{"a":[1,{"b":null}],"c":"\u00e9\ud83d\ude00"}"#,
            " [ 1 , 2 ] ",
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn small_faults_are_read_past() {
        check(r#"{"a":[1,],}"#, &[(Cause::TrailingComma, 7), (Cause::TrailingComma, 9)]);
        check("{'a': True, 'b': None}", &[(Cause::PythonNotation, 1)]);
        check("[1, /* x */ 2] // y", &[(Cause::Comment, 4), (Cause::Comment, 15)]);
        check("[NaN, -Infinity]", &[(Cause::NotFinite, 1), (Cause::NotFinite, 6)]);
        check("[\"a\tb\"]", &[(Cause::ControlCharacter(b'\t'), 3)]);
        check(r#"["C:\Users\me"]"#, &[(Cause::InvalidEscape, 4)]);
        check(
            r#"["\u12","\ud83d","\udc00x"]"#,
            &[(Cause::InvalidEscape, 2), (Cause::LoneSurrogate, 9), (Cause::LoneSurrogate, 18)],
        );
    }

    #[test]
    fn each_fatal_fault_has_its_cause_and_place() {
        check(r#"{"a":"she said "hi" to me"}"#, &[(Cause::UnescapedQuote, 15)]);
        check(r#"{"a":"5" tall"}"#, &[(Cause::UnescapedQuote, 7)]);
        check(r#"{"a":[1,2"#, &[(Cause::Truncated { inside: Kind::Array }, 9)]);
        check(r#"{"a":"b"#, &[(Cause::Truncated { inside: Kind::String }, 7)]);
        check(r#"{"a" [1]}"#, &[(Cause::MissingColon, 5)]);
        check(r#"{a:1}"#, &[(Cause::UnquotedKey, 1)]);
        check(r#"["a" "b"]"#, &[(Cause::MissingComma, 5)]);
        check(r#"[{"a":1} {"a":2}]"#, &[(Cause::MissingComma, 9)]);
        check(r#"{"m":[1],{"r":2}}"#, &[(Cause::ClosedEarly { closed: 7 }, 9)]);
        check(r#"{"a":[1}"#, &[(Cause::WrongBracket { expected: ']' }, 7)]);
        check(r#"{"a":1]"#, &[(Cause::WrongBracket { expected: '}' }, 6)]);
        check("{“a”:1}", &[(Cause::SmartQuote, 1)]);
        for number in ["01", ".5", "+1", "1.", "1e", "-", "0x1f", "1_000"] {
            check(&format!("[{number}]"), &[(Cause::BadNumber, 1)]);
        }
        check("[1,,2]", &[(Cause::Unexpected { expected: "a value" }, 3)]);
        check("oops", &[(Cause::Unexpected { expected: "a value" }, 0)]);
        check("[1}", &[(Cause::WrongBracket { expected: ']' }, 2)]);
    }

    #[test]
    fn what_serde_json_takes_is_taken_and_nothing_else() {
        let seeds = [
            r#"{"a":[1,-2.5e3,"x\n\u00e9",true,null],"b":{"c":[],"d":{}}}"#,
            r#"[{"r":"u","c":"é😀"},0,1.5]"#,
            r#""a\\b""#,
        ];
        let mut random = crate::testing::Random(7);
        let mut taken = 0;
        for round in 0..30_000 {
            let bytes = crate::testing::mutate(seeds[round % seeds.len()].as_bytes(), &mut random);
            let Ok(text) = std::str::from_utf8(&bytes) else { continue };
            let theirs = serde_json::from_str::<serde_json::Value>(text);
            if theirs.as_ref().is_err_and(|error| error.to_string().contains("out of range")) {
                continue;
            }
            let mut parser = Parser::default();
            let parsed = parser.parse(text, 0);
            let ours = parsed.faults.is_empty() && parsed.end == text.len();
            assert_eq!(ours, theirs.is_ok(), "{text:?}: {:?}, {theirs:?}", parsed.faults);
            taken += usize::from(ours);
        }
        assert!(taken > 3000, "{taken}: the test must see good texts too");
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        check(&nested(MAX_DEPTH), &[]);
        check(&nested(MAX_DEPTH + 1), &[(Cause::TooDeep, MAX_DEPTH)]);
    }

    #[test]
    fn what_follows_the_first_value_is_left() {
        let mut parser = Parser::default();
        let parsed = parser.parse(r#"{"a":1}  {"b":2}"#, 0);
        assert_eq!((parsed.end, parsed.root().unwrap().raw()), (9, r#"{"a":1}"#));
        assert_eq!(parser.parse(r#"{"a":1}  {"b":2}"#, 9).root().unwrap().raw(), r#"{"b":2}"#);
    }
}
