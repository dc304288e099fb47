//! Records that go on in the lines after them: pretty-printed JSON, a raw line break in a string.

use std::io;

use super::source::{Line, Source};
use crate::{json::Parser, jsonl::MAX_LINE_BYTES, read::is_record};

/// Lines that a raw line break in a string may run over.
const MAX_STRING_LINES: usize = 1000;

/// The lines after a cut one that may belong to it.
pub(super) struct Rest {
    pub(super) lines: Vec<Line>,
    /// The line after them is a record by itself.
    pub(super) ended_by_record: bool,
}

/// Reads on until what `scanner` saw begin has ended, or another record begins.
///
/// `records`: a line can be a record by itself, which is told by the first name of this one, if it is known.
pub(super) fn rest(
    source: &mut Source,
    scanner: &mut Scanner,
    records: Option<Option<&str>>,
    parser: &mut Parser,
) -> io::Result<Rest> {
    let in_string = scanner.in_string();
    let (mut lines, mut bytes) = (Vec::new(), 0);
    let mut ended_by_record = false;
    while !scanner.closed()
        && let Some(line) = source.next()?
    {
        let text = String::from_utf8_lossy(&line.raw);
        bytes += line.raw.len();
        let too_far = line.too_long || bytes > MAX_LINE_BYTES || (in_string && lines.len() == MAX_STRING_LINES);
        ended_by_record = records.is_some_and(|first_key| is_record(&text, first_key, parser));
        if too_far || ended_by_record {
            source.give_back([line].into_iter());
            break;
        }
        scanner.feed("\n");
        scanner.feed(&text);
        lines.push(line);
    }
    Ok(Rest { lines, ended_by_record })
}

/// The first name in the object that `text` begins with.
pub(super) fn first_key(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('{')?.trim_ascii_start();
    let quote = inside.chars().next().filter(|char| matches!(char, '"' | '\''))?;
    inside[1..].split(quote).next()
}

/// Follows brackets and strings of a text, in JSON or in Python's notation.
#[derive(Default)]
pub(super) struct Scanner {
    depth: usize,
    begun: bool,
    quote: Option<u8>,
}

impl Scanner {
    /// Looks at the next part of the text; nothing behind the end of the value.
    pub(super) fn feed(&mut self, text: &str) {
        let mut bytes = text.bytes().peekable();
        while !self.closed()
            && let Some(byte) = bytes.next()
        {
            match (self.quote, byte) {
                (Some(_), b'\\') => drop(bytes.next()),
                (Some(quote), _) if byte == quote => self.quote = None,
                (Some(_), _) => {}
                (None, b'"' | b'\'') => self.quote = Some(byte),
                (None, b'{' | b'[') => (self.depth, self.begun) = (self.depth + 1, true),
                (None, b'}' | b']') => self.depth = self.depth.saturating_sub(1),
                (None, b'#') => bytes.by_ref().take_while(|byte| *byte != b'\n').for_each(drop),
                (None, b'/') if bytes.peek() == Some(&b'/') => {
                    bytes.by_ref().take_while(|byte| *byte != b'\n').for_each(drop)
                }
                (None, _) => {}
            }
        }
    }

    pub(super) fn in_string(&self) -> bool {
        self.quote.is_some()
    }

    /// The value that began has ended.
    pub(super) fn closed(&self) -> bool {
        self.begun && self.depth == 0
    }
}
