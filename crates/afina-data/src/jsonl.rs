//! A source of bytes, cut into numbered lines, a chunk of whole lines at a time: streaming, with a cap on the length of
//! one line.

use std::io::{self, BufRead, Read};

/// Bytes in one line (or in one record that spans lines), at most.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// Bytes of the file that are looked at before the first line, to tell what kind of file it is.
pub(crate) const HEAD_BYTES: usize = 64 << 10;

/// Bytes of a chunk, about: a line that is longer has a chunk of its own.
const CHUNK_BYTES: usize = 256 << 10;

/// A line without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1.
    pub(crate) number: usize,
    /// Byte offset of the line in the source.
    pub(crate) offset: u64,
    /// Where in its chunk it stands.
    start: usize,
    end: usize,
    /// Longer than the cap: the bytes beyond it were skipped.
    pub(crate) too_long: bool,
}

/// Some lines in a row. Its buffers are used again and again.
#[derive(Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    lines: Vec<Line>,
}

impl Lines {
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn get(&self, index: usize) -> (Line, &[u8]) {
        let line = self.lines[index];
        (line, &self.bytes[line.start..line.end])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Line, &[u8])> {
        self.lines.iter().map(|&line| (line, &self.bytes[line.start..line.end]))
    }

    /// Bytes held.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// Cuts a source into lines.
pub(crate) struct Cutter<'s> {
    source: &'s mut dyn BufRead,
    /// Bytes that were read and are in no line yet.
    rest: Vec<u8>,
    /// The source has ended.
    ended: bool,
    /// Lines end with `\r` alone too; else with `\n`, and a `\r` before it belongs to the line's end.
    bare_cr: bool,
    number: usize,
    offset: u64,
    chunk_bytes: usize,
    max_bytes: usize,
}

impl<'s> Cutter<'s> {
    pub(crate) fn new(source: &'s mut dyn BufRead) -> io::Result<Cutter<'s>> {
        Cutter::with_sizes(source, CHUNK_BYTES, MAX_LINE_BYTES)
    }

    fn with_sizes(source: &'s mut dyn BufRead, chunk_bytes: usize, max_bytes: usize) -> io::Result<Cutter<'s>> {
        let mut rest = Vec::new();
        let ended = fill(source, &mut rest, HEAD_BYTES)?;
        Ok(Cutter { source, rest, ended, bare_cr: false, number: 0, offset: 0, chunk_bytes, max_bytes })
    }

    /// The first bytes of the source; fewer than it looks at only where the source is shorter.
    pub(crate) fn head(&self) -> &[u8] {
        &self.rest
    }

    /// Steps over bytes that belong to no line, before the first one is read.
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.rest.drain(..bytes);
        self.offset += bytes as u64;
    }

    /// From here on a `\r` alone ends a line too.
    pub(crate) fn end_lines_at_cr(&mut self) {
        self.bare_cr = true;
    }

    /// Bytes of the source before the next line.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next lines into `into`; false: there are none left. What follows the last line end is a line only if it
    /// has bytes.
    pub(crate) fn next(&mut self, into: &mut Lines) -> io::Result<bool> {
        into.lines.clear();
        into.bytes.clear();
        into.bytes.append(&mut self.rest);
        let mut cut_at = 0;
        let mut searched = 0;
        loop {
            let wanted = self.chunk_bytes.saturating_sub(into.bytes.len() - cut_at).max(self.chunk_bytes / 2);
            if !self.ended && into.bytes.len() - cut_at < self.chunk_bytes {
                self.ended = fill(self.source, &mut into.bytes, wanted)?;
            }
            cut_at = self.cut(into, cut_at, searched);
            // A `\r` at the very end may be half of a `\r\n`.
            searched = into.bytes.len() - usize::from(self.bare_cr && !into.bytes.is_empty());
            if self.ended || !into.lines.is_empty() {
                break;
            }
            if into.bytes.len() - cut_at > self.max_bytes {
                self.skip_line(into, cut_at)?;
                return Ok(true);
            }
            let wanted = into.bytes.len().max(self.chunk_bytes);
            self.ended = fill(self.source, &mut into.bytes, wanted)?;
        }
        if self.ended && cut_at < into.bytes.len() {
            self.push(into, cut_at, into.bytes.len(), into.bytes.len());
        } else {
            self.rest.extend_from_slice(&into.bytes[cut_at..]);
            into.bytes.truncate(cut_at);
        }
        Ok(!into.lines.is_empty())
    }

    /// Adds the lines whose ends are behind `from`; returns where the last one ends.
    fn cut(&mut self, into: &mut Lines, mut start: usize, from: usize) -> usize {
        let bytes = std::mem::take(&mut into.bytes);
        match self.bare_cr {
            false => {
                for at in memchr::memchr_iter(b'\n', &bytes[from..]) {
                    let (end, next) = (from + at, from + at + 1);
                    self.push_from(into, &bytes, start, end, next);
                    start = next;
                }
            }
            true => {
                for at in memchr::memchr2_iter(b'\n', b'\r', &bytes[from..]) {
                    let end = from + at;
                    if end < start {
                        continue;
                    }
                    let next = match (bytes[end], bytes.get(end + 1)) {
                        (b'\r', Some(b'\n')) => end + 2,
                        // What follows is not known yet.
                        (b'\r', None) if !self.ended => break,
                        _ => end + 1,
                    };
                    self.push_from(into, &bytes, start, end, next);
                    start = next;
                }
            }
        }
        into.bytes = bytes;
        start
    }

    fn push(&mut self, into: &mut Lines, start: usize, end: usize, next: usize) {
        let bytes = std::mem::take(&mut into.bytes);
        self.push_from(into, &bytes, start, end, next);
        into.bytes = bytes;
    }

    fn push_from(&mut self, into: &mut Lines, bytes: &[u8], start: usize, end: usize, next: usize) {
        let too_long = end - start > self.max_bytes;
        let end = if end > start && bytes[end - 1] == b'\r' { end - 1 } else { end };
        let end = if too_long { start + self.max_bytes } else { end };
        self.number += 1;
        into.lines.push(Line { number: self.number, offset: self.offset, start, end, too_long });
        self.offset += (next - start) as u64;
    }

    /// One line that is longer than the cap: its end is looked for, and what is between is not held.
    fn skip_line(&mut self, into: &mut Lines, start: usize) -> io::Result<()> {
        let read = into.bytes.len() - start;
        into.bytes.truncate(start + self.max_bytes);
        let end = start + self.max_bytes;
        self.number += 1;
        into.lines.push(Line { number: self.number, offset: self.offset, start, end, too_long: true });
        self.offset += read as u64;
        loop {
            let bytes = self.source.fill_buf()?;
            if bytes.is_empty() {
                self.ended = true;
                return Ok(());
            }
            let found = match self.bare_cr {
                false => memchr::memchr(b'\n', bytes),
                true => memchr::memchr2(b'\n', b'\r', bytes),
            };
            let ended_by_cr = found.is_some_and(|at| bytes[at] == b'\r');
            let taken = found.map_or(bytes.len(), |at| at + 1);
            self.source.consume(taken);
            self.offset += taken as u64;
            if ended_by_cr && self.source.fill_buf()?.first() == Some(&b'\n') {
                self.source.consume(1);
                self.offset += 1;
            }
            if found.is_some() {
                return Ok(());
            }
        }
    }
}

/// Reads `wanted` more bytes; true: the source ended before.
fn fill(source: &mut dyn BufRead, into: &mut Vec<u8>, wanted: usize) -> io::Result<bool> {
    let read = source.take(wanted as u64).read_to_end(into)?;
    Ok(read < wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(source: &[u8], bare_cr: bool, max_bytes: usize) -> Vec<(usize, String, bool)> {
        let whole = lines_by(source, bare_cr, max_bytes, 1 << 10);
        for chunk_bytes in [1, 2, 3, 7] {
            assert_eq!(lines_by(source, bare_cr, max_bytes, chunk_bytes), whole, "in chunks of {chunk_bytes}");
        }
        whole
    }

    fn lines_by(source: &[u8], bare_cr: bool, max_bytes: usize, chunk_bytes: usize) -> Vec<(usize, String, bool)> {
        let total = source.len() as u64;
        // A tiny buffer, so that lines cross its edge; no head, so that it is used.
        let mut source = io::BufReader::with_capacity(3, source);
        let mut cutter = Cutter {
            source: &mut source,
            rest: Vec::new(),
            ended: false,
            bare_cr,
            number: 0,
            offset: 0,
            chunk_bytes,
            max_bytes,
        };
        let (mut chunk, mut all) = (Lines::default(), Vec::new());
        while cutter.next(&mut chunk).unwrap() {
            for (line, bytes) in chunk.iter() {
                all.push((line.number, String::from_utf8(bytes.to_vec()).unwrap(), line.too_long));
            }
        }
        assert_eq!(cutter.offset(), total);
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
        assert_eq!(lines(b"abcdefghijklm\rxyz", true, 4), [(1, "abcd".into(), true), (2, "xyz".into(), false)]);
    }

    #[test]
    fn lines_are_numbered_on_from_chunk_to_chunk() {
        let long = "x".repeat(HEAD_BYTES - 2);
        let source = format!("{long}\nafter\nend");
        let mut bytes = source.as_bytes();
        let mut cutter = Cutter::with_sizes(&mut bytes, 16, MAX_LINE_BYTES).unwrap();
        assert_eq!(cutter.head().len(), HEAD_BYTES);
        let (mut chunk, mut found) = (Lines::default(), Vec::new());
        while cutter.next(&mut chunk).unwrap() {
            found.extend(chunk.iter().map(|(line, bytes)| (line.number, line.offset, bytes.len())));
        }
        let after = HEAD_BYTES as u64 - 1;
        assert_eq!(found, [(1, 0, long.len()), (2, after, 5), (3, after + 6, 3)]);
    }
}
