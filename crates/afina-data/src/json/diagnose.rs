//! What was meant where something else stands: the cause of a fatal fault.

use super::{Cause, Kind, parse::Run};

impl Run<'_> {
    #[cold]
    pub(super) fn truncated<T>(&mut self) -> Option<T> {
        let inside = self.open.last().map_or(Kind::Null, |&index| self.nodes[index as usize].kind);
        self.fatal(Cause::Truncated { inside }, self.bytes.len())
    }

    /// No name where one should be.
    #[cold]
    pub(super) fn no_key(&mut self) -> Option<()> {
        let cause = match self.text[self.at..].chars().next() {
            None => return self.truncated(),
            Some('“' | '”' | '„' | '‘' | '’') => Cause::SmartQuote,
            Some(char) if char.is_alphabetic() || char == '_' || char == '$' => Cause::UnquotedKey,
            Some('{' | '[') if self.value_ends_with(b']') => Cause::ClosedEarly { closed: self.value_end - 1 },
            Some(']') => Cause::WrongBracket { expected: '}' },
            Some(_) => Cause::Unexpected { expected: "a name in double quotes" },
        };
        self.fatal(cause, self.at)
    }

    /// No value where one should be.
    #[cold]
    pub(super) fn no_value(&mut self) -> Option<()> {
        let in_object = self.open.last().is_some_and(|&index| self.nodes[index as usize].kind == Kind::Object);
        let cause = match self.text[self.at..].chars().next() {
            None => return self.truncated(),
            Some('“' | '”' | '„' | '‘' | '’') => Cause::SmartQuote,
            Some('+' | '.') => Cause::BadNumber,
            Some('}') if !in_object && !self.open.is_empty() => Cause::WrongBracket { expected: ']' },
            Some(_) => Cause::Unexpected { expected: "a value" },
        };
        self.fatal(cause, self.at)
    }

    /// Neither a comma nor the end after a value.
    #[cold]
    pub(super) fn no_comma<T>(&mut self, object: bool) -> Option<T> {
        let closing = if object { '}' } else { ']' };
        let Some(byte) = self.peek() else { return self.truncated() };
        let string = self.bytes[self.value_end - 1] == b'"';
        let touching = self.at == self.value_end;
        // Behind a member's text no other value can stand, so what stands there is more of the text.
        let more_text = object && !b"\"'{[:".contains(&byte) && !self.text[self.at..].starts_with(['“', '”', '‘', '’']);
        let cause = match byte {
            b']' | b'}' => Cause::WrongBracket { expected: closing },
            b';' if self.semicolon_separates(object) => Cause::MissingComma,
            _ if string && (touching || byte.is_ascii_alphabetic() || more_text) && byte != b':' => {
                return self.fatal(Cause::UnescapedQuote, self.value_end - 1);
            }
            b'"' | b'{' | b'[' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => Cause::MissingComma,
            _ if object => Cause::Unexpected { expected: "`,` or `}`" },
            _ => Cause::Unexpected { expected: "`,` or `]`" },
        };
        self.fatal(cause, self.at)
    }

    /// Whether a name with its colon follows the semicolon here, or another value of an array.
    fn semicolon_separates(&self, object: bool) -> bool {
        let rest = self.bytes[self.at + 1..].trim_ascii_start();
        let Some(name) = rest.strip_prefix(b"\"") else { return !object && rest.starts_with(b"{") };
        let end = memchr::memchr(b'"', name);
        !object || end.is_some_and(|end| name[end + 1..].trim_ascii_start().starts_with(b":"))
    }

    /// Whether the last value that ended did so with `byte`.
    fn value_ends_with(&self, byte: u8) -> bool {
        self.value_end > self.start && self.bytes[self.value_end - 1] == byte
    }
}
