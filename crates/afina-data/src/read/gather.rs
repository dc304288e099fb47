//! Records that span lines: pretty-printed JSON, a raw line break in a string, one array around the whole file.

use std::borrow::Cow;

use super::feed::{Feed, NeedMore};
use crate::{
    json::{Cause, Kind, Parser, Value},
    jsonl::MAX_LINE_BYTES,
};

/// Lines that a raw line break in a string may run over.
const MAX_STRING_LINES: usize = 1000;

/// What a line is that ends inside a value; with the number of lines after it that belong to it.
pub(super) enum Gathered {
    /// Cut: the next line is another record.
    Alone,
    /// The first line of a record (or of what was meant to be one).
    Record { rest: usize },
    /// The first line of an array, which may be cut at the end of the file.
    Array { rest: usize, whole: bool },
    /// The first line of an array that is longer than the cap.
    LongArray,
}

/// Bytes that may be looked at in vain in one file, or else each line of a file of open brackets would be a reason to
/// look at all that follow.
pub(super) struct Patience(usize);

impl Default for Patience {
    fn default() -> Patience {
        Patience(MAX_LINE_BYTES)
    }
}

impl Patience {
    /// A line is not for free, however short.
    const LINE: usize = 64;

    /// How far the next look may go.
    fn bytes(&self) -> usize {
        self.0.max(1024)
    }
}

/// Looks on from the next line of `feed` until the value that begins in it ends.
pub(super) fn gather(
    feed: &Feed,
    array: bool,
    parser: &mut Parser,
    patience: &mut Patience,
) -> Result<Gathered, NeedMore> {
    let Some((_, first)) = feed.peek(0)? else { return Ok(Gathered::Alone) };
    let first = String::from_utf8_lossy(first);
    let first_key = first_key(&first, parser);
    let mut scanner = Scanner::default();
    let mut closed = scanner.feed(&first);
    let in_string = scanner.in_string;
    let mut text = first.into_owned();
    let mut rest = 0;
    let mut records = false;
    let mut next_record = false;
    let mut seen = 0;
    while !closed {
        let Some((next, bytes)) = feed.peek(rest + 1)? else { break };
        let next_text = String::from_utf8_lossy(bytes);
        seen += bytes.len() + Patience::LINE;
        let too_long = next.too_long || text.len() + bytes.len() > MAX_LINE_BYTES;
        if array && too_long {
            return Ok(Gathered::LongArray);
        }
        next_record = !array && is_record(&next_text, first_key.as_deref(), parser);
        let in_vain = !array && seen > patience.bytes();
        if too_long || in_vain || next_record || (in_string && rest == MAX_STRING_LINES) {
            break;
        }
        text.push('\n');
        text.push_str(&next_text);
        closed = scanner.feed(&next_text);
        records |= bytes.starts_with(b"{");
        rest += 1;
    }
    if array {
        return Ok(Gathered::Array { rest, whole: closed });
    }
    let alone = match in_string {
        // A line that ends in a string and does not become JSON with those after it was cut there.
        true => !closed || parser.parse(&text, 0).root().is_none(),
        // Lines of their own among the others: the first one was cut, and nothing else is lost.
        false => rest == 0 || (!closed && (next_record || records)),
    };
    if alone {
        patience.0 = patience.0.saturating_sub(seen);
    }
    Ok(if alone { Gathered::Alone } else { Gathered::Record { rest } })
}

/// The first name in the object that a cut line begins.
fn first_key(line: &str, parser: &mut Parser) -> Option<String> {
    let parsed = parser.parse(line, 0);
    let key = parsed.first().filter(|key| key.kind() == Kind::Key)?;
    key.text().map(Cow::into_owned)
}

/// Whether a line is a record by itself, cut or whole, and not one of the inner lines of a record.
///
/// `first_key`: the first name of the record before it, where that is known.
pub(crate) fn is_record(line: &str, first_key: Option<&str>, parser: &mut Parser) -> bool {
    const KEYS: [&str; 8] =
        ["messages", "input", "prompt", "conversations", "instruction", "contents", "custom_id", "preferred_output"];
    if !line.starts_with('{') {
        return false;
    }
    let parsed = parser.parse(line, 0);
    let begins_alike = |key: Value| {
        key.kind() == Kind::Key
            && (KEYS.iter().any(|name| key.is(name)) || first_key.is_some_and(|first| key.is(first)))
    };
    let has_key = |record: Value| record.members().any(|member| KEYS.iter().any(|name| member.key.is(name)));
    parsed.first().is_some_and(begins_alike) || parsed.root().is_some_and(has_key)
}

/// Follows brackets and strings from line to line.
#[derive(Default)]
struct Scanner {
    depth: usize,
    in_string: bool,
}

impl Scanner {
    /// True: the value that began has ended.
    fn feed(&mut self, line: &str) -> bool {
        let mut bytes = line.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => self.in_string = !self.in_string,
                b'\\' if self.in_string => {
                    bytes.next();
                }
                b'{' | b'[' if !self.in_string => self.depth += 1,
                b'}' | b']' if !self.in_string => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return true;
                    }
                }
                _ => {}
            }
        }
        false
    }
}

/// Whether a text is pretty-printed: a line ends outside of a string.
pub(super) fn breaks_outside_strings(text: &str, parser: &mut Parser) -> bool {
    let parsed = parser.parse(text, 0);
    let inside = parsed.faults.iter().filter(|fault| fault.cause == Cause::ControlCharacter(b'\n')).count();
    // One fault is noted for each string, however many breaks it has.
    let mut scanner = Scanner::default();
    inside == 0
        || text.lines().any(|line| {
            scanner.feed(line);
            !scanner.in_string && scanner.depth > 0
        })
}
