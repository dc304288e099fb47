//! The values of a source, one after the other: a line each, over several lines, or inside one array around them all.

use std::io::{self, BufRead};

use crate::{json::Parser, jsonl::MAX_LINE_BYTES};

const BOM: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// Where a value begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    /// Longer than a line may be: the bytes beyond that were skipped.
    pub(super) too_long: bool,
}

pub(super) struct Values<'s> {
    source: &'s mut dyn BufRead,
    line: usize,
    column: usize,
    /// Bytes that were read and are no byte order mark after all: a value begins with them.
    held: Vec<u8>,
    /// A value has begun: a `[` from here on is a value of its own.
    started: bool,
    /// Inside the array around the whole file.
    in_array: bool,
    /// The last value ended in the line it began in: a line that begins like a value is one.
    line_each: bool,
}

/// How far into a value the reading is.
struct Scan {
    open: u8,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The last byte that is neither space nor inside a string.
    last: u8,
}

impl<'s> Values<'s> {
    pub(super) fn new(source: &'s mut dyn BufRead) -> Values<'s> {
        Values { source, line: 1, column: 1, held: Vec::new(), started: false, in_array: false, line_each: false }
    }

    /// Reads the next value into `value`; what is no value comes as the rest of its line.
    pub(super) fn next(&mut self, value: &mut Vec<u8>) -> io::Result<Option<Found>> {
        value.clear();
        loop {
            self.skip_space(None)?;
            let Some(byte) = self.peek()? else { return Ok(None) };
            if self.in_array && byte == b']' {
                self.take(1)?;
                self.in_array = false;
                continue;
            }
            let mut found = Found { line: self.line, column: self.column, too_long: false };
            if byte == b'[' && !std::mem::replace(&mut self.started, true) {
                if !self.open_array(value, &mut found)? {
                    continue;
                }
                return Ok(Some(found));
            }
            self.value(value, &mut found, byte)?;
            return Ok(Some(found));
        }
    }

    /// The array that the file begins with: a list of messages is a record, any other holds the records. False: it is
    /// empty.
    fn open_array(&mut self, value: &mut Vec<u8>, found: &mut Found) -> io::Result<bool> {
        self.take(1)?;
        value.push(b'[');
        self.skip_space(Some(value))?;
        let Some(byte) = self.peek()? else { return Ok(true) };
        if byte == b']' {
            self.take(1)?;
            value.clear();
            return Ok(false);
        }
        let (start, mut first) = (value.len(), Found { line: self.line, column: self.column, too_long: false });
        self.in_array = true;
        self.value(value, &mut first, byte)?;
        if first.too_long || !is_message(&value[start..]) {
            value.drain(..start);
            *found = first;
            return Ok(true);
        }
        self.in_array = false;
        self.scan(value, found, Scan { open: b'[', depth: 1, in_string: false, escaped: false, last: b'}' })?;
        Ok(true)
    }

    fn value(&mut self, value: &mut Vec<u8>, found: &mut Found, byte: u8) -> io::Result<()> {
        match byte {
            b'{' | b'[' => {
                self.take(1)?;
                value.push(byte);
                self.scan(value, found, Scan { open: byte, depth: 1, in_string: false, escaped: false, last: byte })
            }
            _ => self.rest_of_line(value, found),
        }
    }

    /// Reads on until the brackets are closed, or a line begins that has to be another value.
    fn scan(&mut self, value: &mut Vec<u8>, found: &mut Found, mut scan: Scan) -> io::Result<()> {
        while scan.depth > 0 {
            let bytes = self.source.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            let end = advance(bytes, &mut scan);
            let broke = end > 0 && bytes[end - 1] == b'\n';
            // The line end itself is kept back until it is known that the value goes on.
            keep(value, &bytes[..end - usize::from(broke)], found);
            self.take(end)?;
            if broke {
                // Where each line is a value, a line break in a string ends a value that was cut.
                let cut = self.line_each && scan.in_string;
                let may_be_item = !self.line_each && !scan.in_string && b",[:".contains(&scan.last);
                if cut || (self.peek()? == Some(scan.open) && !may_be_item) {
                    return Ok(());
                }
                keep(value, b"\n", found);
            }
        }
        self.line_each = self.line == found.line;
        Ok(())
    }

    fn rest_of_line(&mut self, value: &mut Vec<u8>, found: &mut Found) -> io::Result<()> {
        self.column += usize::from(!self.held.is_empty());
        value.append(&mut self.held);
        loop {
            let bytes = self.source.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            // Inside the array around the file, what is no object ends at the next comma.
            let newline = match self.in_array {
                true => memchr::memchr3(b'\n', b',', b']', bytes),
                false => memchr::memchr(b'\n', bytes),
            };
            let end = newline.unwrap_or(bytes.len());
            let end = if end == 0 && value.is_empty() { 1.min(bytes.len()) } else { end };
            keep(value, &bytes[..end], found);
            self.take(end)?;
            if newline.is_some() {
                return Ok(());
            }
        }
    }

    /// Skips whitespace, byte order marks, and the commas between records; appends what it skipped to `kept`.
    fn skip_space(&mut self, mut kept: Option<&mut Vec<u8>>) -> io::Result<()> {
        while let Some(byte) = self.peek()? {
            match byte {
                _ if byte == BOM[0] && self.held.is_empty() => {
                    if self.skip_bom()? {
                        continue;
                    }
                    return Ok(());
                }
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b',' if kept.is_none() => {}
                _ => return Ok(()),
            }
            if let Some(kept) = &mut kept {
                kept.push(byte);
            }
            self.take(1)?;
        }
        Ok(())
    }

    /// Steps over a byte order mark, byte by byte: the source may end its buffer inside of it. Bytes that are none are
    /// held.
    fn skip_bom(&mut self) -> io::Result<bool> {
        let column = self.column;
        while self.held.len() < BOM.len() && self.source.fill_buf()?.first() == Some(&BOM[self.held.len()]) {
            self.take(1)?;
            self.held.push(BOM[self.held.len()]);
        }
        self.column = column;
        let is_bom = self.held == BOM;
        if is_bom {
            self.held.clear();
        }
        Ok(is_bom)
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        if let Some(&byte) = self.held.first() {
            return Ok(Some(byte));
        }
        Ok(self.source.fill_buf()?.first().copied())
    }

    /// Steps over bytes that are in the buffer.
    fn take(&mut self, count: usize) -> io::Result<()> {
        let bytes = &self.source.fill_buf()?[..count];
        let after = match memchr::memrchr(b'\n', bytes) {
            Some(at) => {
                self.line += memchr::memchr_iter(b'\n', bytes).count();
                self.column = 1;
                &bytes[at + 1..]
            }
            None => bytes,
        };
        self.column += after.iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
        self.source.consume(count);
        Ok(())
    }
}

/// Steps through `bytes`: to the end of the value, of a line, or of the bytes.
fn advance(bytes: &[u8], scan: &mut Scan) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        if scan.escaped {
            scan.escaped = false;
            if bytes[at] != b'\n' {
                at += 1;
                continue;
            }
        }
        if scan.in_string {
            let Some(next) = memchr::memchr3(b'"', b'\\', b'\n', &bytes[at..]) else { return bytes.len() };
            at += next + 1;
            match bytes[at - 1] {
                b'"' => scan.in_string = false,
                b'\\' => scan.escaped = true,
                _ => return at,
            }
            continue;
        }
        let byte = bytes[at];
        at += 1;
        match byte {
            b'\n' => return at,
            b' ' | b'\t' | b'\r' => continue,
            b'"' => scan.in_string = true,
            b'{' | b'[' => scan.depth += 1,
            b'}' | b']' => {
                scan.depth -= 1;
                if scan.depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
        scan.last = byte;
    }
    at
}

fn keep(value: &mut Vec<u8>, bytes: &[u8], found: &mut Found) {
    let room = MAX_LINE_BYTES.saturating_sub(value.len());
    found.too_long |= bytes.len() > room;
    value.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// An item of a conversation, not a record.
fn is_message(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut parser = Parser::default();
    let root = parser.parse(text, 0).root();
    root.is_some_and(|root| ["role", "from"].iter().any(|name| root.get(name).is_some_and(|who| who.text().is_some())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values with line and column, read through a buffer so small that they all cross its edge.
    fn values(source: &str) -> Vec<(usize, usize, String)> {
        let mut source = io::BufReader::with_capacity(3, source.as_bytes());
        let (mut values, mut value, mut all) = (Values::new(&mut source), Vec::new(), Vec::new());
        while let Some(found) = values.next(&mut value).unwrap() {
            all.push((found.line, found.column, String::from_utf8(value.clone()).unwrap()));
        }
        all
    }

    fn expected(list: &[(usize, usize, &str)]) -> Vec<(usize, usize, String)> {
        list.iter().map(|&(line, column, value)| (line, column, value.to_owned())).collect()
    }

    #[test]
    fn lines_are_values() {
        let source = "{\"a\":\"}\\\"\"}\n\n {\"b\":1},\n{\"c\":2} {\"d\":3}\r\n";
        let list = [(1, 1, "{\"a\":\"}\\\"\"}"), (3, 2, "{\"b\":1}"), (4, 1, "{\"c\":2}"), (4, 9, "{\"d\":3}")];
        assert_eq!(values(source), expected(&list));
    }

    #[test]
    fn an_array_around_the_file_is_opened() {
        assert_eq!(
            values("[{\"a\":1}, {\"é\":2},\n{\"c\":3}, 7, \"x\"]\n"),
            expected(&[(1, 2, "{\"a\":1}"), (1, 11, "{\"é\":2}"), (2, 1, "{\"c\":3}"), (2, 10, "7"), (2, 13, "\"x\"")])
        );
        assert_eq!(values("[]"), []);
        assert_eq!(values("[\n  [{\"role\":\"a\"}],\n  []\n]").len(), 2);
    }

    #[test]
    fn an_array_of_messages_is_a_value() {
        let first = "[ {\"role\":\"a\"}, {\"role\":\"b\"}]";
        assert_eq!(values(&format!("{first}\n[{{}}]\n")), expected(&[(1, 1, first), (2, 1, "[{}]")]));
    }

    #[test]
    fn a_value_may_span_lines_unless_the_next_line_is_another() {
        assert_eq!(
            values("{\n\"a\": [\n{\"b\": 1},\n{}]\n}\n{}"),
            expected(&[(1, 1, "{\n\"a\": [\n{\"b\": 1},\n{}]\n}"), (6, 1, "{}")])
        );
        assert_eq!(
            values("{\"a\":1}\n{\"b\":\"x\n{\"c\":1}\n{\"d\":[\n{\"e\":1}"),
            expected(&[
                (1, 1, "{\"a\":1}"),
                (2, 1, "{\"b\":\"x"),
                (3, 1, "{\"c\":1}"),
                (4, 1, "{\"d\":["),
                (5, 1, "{\"e\":1}")
            ])
        );
    }

    #[test]
    fn what_is_no_value_is_the_rest_of_its_line() {
        assert_eq!(
            values("\u{FEFF}{\"a\":1}\nid,text\n]\n"),
            expected(&[(1, 1, "{\"a\":1}"), (2, 1, "id,text"), (3, 1, "]")])
        );
    }

    #[test]
    fn a_byte_order_mark_may_cross_the_edge_of_the_buffer() {
        for spaces in 0..3 {
            let source = format!("{}{{}}\n\u{FEFF}{{\"b\":1}}\n\u{FEEE}é\n{{}}", " ".repeat(spaces));
            let all = values(&source);
            assert_eq!(all[0], (1, 1 + spaces, "{}".to_owned()));
            assert_eq!(all[1..], expected(&[(2, 1, "{\"b\":1}"), (3, 1, "\u{FEEE}é"), (4, 1, "{}")]));
        }
    }
}
