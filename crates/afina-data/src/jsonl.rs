//! A source of bytes, cut into numbered lines: streaming, with a cap on the length of one line.

use std::io::{self, BufRead, Read};

/// Bytes in one line (or in one record that spans lines), at most.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// Bytes of the file that are looked at before the first line, to tell what kind of file it is.
const HEAD_BYTES: u64 = 64 << 10;

/// The lines of a source, read one at a time.
pub(crate) struct Lines<'s> {
    head: io::Cursor<Vec<u8>>,
    source: &'s mut dyn BufRead,
    /// Lines end with `\r` alone; else with `\n`, and a `\r` before it belongs to the line's end.
    bare_cr: bool,
    number: usize,
    offset: u64,
    max_bytes: usize,
}

/// A line without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1.
    pub(crate) number: usize,
    /// Byte offset of the line in the source.
    pub(crate) offset: u64,
    /// Longer than the cap: the bytes beyond it were skipped.
    pub(crate) too_long: bool,
}

impl<'s> Lines<'s> {
    pub(crate) fn new(source: &'s mut dyn BufRead, max_bytes: usize) -> io::Result<Lines<'s>> {
        let mut head = Vec::new();
        source.take(HEAD_BYTES).read_to_end(&mut head)?;
        Ok(Lines { head: io::Cursor::new(head), source, bare_cr: false, number: 0, offset: 0, max_bytes })
    }

    /// The first bytes of the source; fewer than it looks at only where the source is shorter.
    pub(crate) fn head(&self) -> &[u8] {
        self.head.get_ref()
    }

    /// Steps over bytes that belong to no line, before the first one is read.
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.head.consume(bytes);
        self.offset += bytes as u64;
    }

    /// From here on a `\r` alone ends a line too.
    pub(crate) fn end_lines_at_cr(&mut self) {
        self.bare_cr = true;
    }

    /// Bytes read so far.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next line into `line`; `None` at the end of the source. What follows the last line end is a line only if
    /// it has bytes.
    pub(crate) fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Option<Line>> {
        line.clear();
        let start = self.offset;
        let (mut seen, mut too_long) = (false, false);
        loop {
            let bytes =
                if self.head.fill_buf()?.is_empty() { self.source.fill_buf()? } else { self.head.fill_buf()? };
            if bytes.is_empty() {
                break;
            }
            seen = true;
            let found = match self.bare_cr {
                false => memchr::memchr(b'\n', bytes),
                true => memchr::memchr2(b'\n', b'\r', bytes),
            };
            let taken = found.map_or(bytes.len(), |at| at + 1);
            let content = &bytes[..found.unwrap_or(taken)];
            let room = self.max_bytes.saturating_sub(line.len());
            too_long |= content.len() > room;
            line.extend_from_slice(&content[..content.len().min(room)]);
            let ended_by_cr = found.is_some_and(|at| bytes[at] == b'\r');
            self.consume(taken);
            if found.is_some() {
                if ended_by_cr {
                    self.skip_newline()?;
                }
                break;
            }
        }
        if !seen {
            return Ok(None);
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        self.number += 1;
        Ok(Some(Line { number: self.number, offset: start, too_long }))
    }

    /// The `\n` of a `\r\n`.
    fn skip_newline(&mut self) -> io::Result<()> {
        let bytes = if self.head.fill_buf()?.is_empty() { self.source.fill_buf()? } else { self.head.fill_buf()? };
        if bytes.first() == Some(&b'\n') {
            self.consume(1);
        }
        Ok(())
    }

    fn consume(&mut self, bytes: usize) {
        self.offset += bytes as u64;
        let in_head = self.head.get_ref().len() as u64 > self.head.position();
        if in_head { self.head.consume(bytes) } else { self.source.consume(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(source: &[u8], bare_cr: bool, max_bytes: usize) -> Vec<(usize, String, bool)> {
        // A tiny buffer, so that lines cross its edge.
        let mut source = io::BufReader::with_capacity(3, source);
        let mut lines = Lines::new(&mut source, max_bytes).unwrap();
        if bare_cr {
            lines.end_lines_at_cr();
        }
        let (mut line, mut all) = (Vec::new(), Vec::new());
        while let Some(found) = lines.next(&mut line).unwrap() {
            all.push((found.number, String::from_utf8(line.clone()).unwrap(), found.too_long));
        }
        all
    }

    fn numbered(expected: &[&str]) -> Vec<(usize, String, bool)> {
        expected.iter().enumerate().map(|(index, line)| (index + 1, line.to_string(), false)).collect()
    }

    #[test]
    fn lines_end_at_newlines_and_the_last_may_lack_one() {
        assert_eq!(lines(b"one\r\ntwo\n\nfour", false, 99), numbered(&["one", "two", "", "four"]));
        assert_eq!(lines(b"one\n", false, 99), numbered(&["one"]));
        assert_eq!(lines(b"", false, 99), numbered(&[]));
    }

    #[test]
    fn a_bare_cr_ends_a_line_where_asked() {
        assert_eq!(lines(b"one\rtwo\r\nthree\nfour", true, 99), numbered(&["one", "two", "three", "four"]));
        assert_eq!(lines(b"one\rtwo\n", false, 99), numbered(&["one\rtwo"]));
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_one_is_whole() {
        assert_eq!(lines(b"abcdef\nxyz\n", false, 4), [(1, "abcd".into(), true), (2, "xyz".into(), false)]);
    }

    #[test]
    fn lines_beyond_the_head_are_read_from_the_source() {
        let long = "x".repeat(HEAD_BYTES as usize - 2);
        let source = format!("{long}\nafter\nend");
        let found = lines(source.as_bytes(), false, usize::MAX);
        assert_eq!(found.iter().map(|(_, line, _)| line.len()).collect::<Vec<_>>(), [long.len(), 5, 3]);
        assert_eq!(found[1].1, "after");
    }
}
