//! The bytes of a file as UTF-8, cut into lines that keep their ends.

use std::{
    borrow::Cow,
    collections::VecDeque,
    io::{self, BufRead, BufReader, Cursor, Read, Write},
};

use super::{Note, decode::decode};
use crate::rules::bytes::ends_lines_with_cr;

const BOM: &[u8] = b"\xEF\xBB\xBF";
const BUFFER_BYTES: usize = 64 << 10;

/// How the text of a file is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Utf16 { big: bool },
    Utf32 { big: bool },
}

impl Encoding {
    /// By the byte order mark, or by a zero in every second byte.
    fn of(head: &[u8]) -> Encoding {
        match head {
            [0xFF, 0xFE, 0, 0, ..] => Encoding::Utf32 { big: false },
            [0, 0, 0xFE, 0xFF, ..] => Encoding::Utf32 { big: true },
            [0xFF, 0xFE, ..] => Encoding::Utf16 { big: false },
            [0xFE, 0xFF, ..] => Encoding::Utf16 { big: true },
            _ => {
                let head = &head[..head.len().min(512) & !1];
                let zeros = |first: usize| head.iter().skip(first).step_by(2).filter(|&&byte| byte == 0).count() * 20;
                match (zeros(0), zeros(1), head.len()) {
                    (_, _, ..4) => Encoding::Utf8,
                    (even, odd, len) if odd > 7 * len && even < len => Encoding::Utf16 { big: false },
                    (even, odd, len) if even > 7 * len && odd < len => Encoding::Utf16 { big: true },
                    _ => Encoding::Utf8,
                }
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Encoding::Utf8 => "UTF-8",
            Encoding::Utf16 { big: false } => "UTF-16LE",
            Encoding::Utf16 { big: true } => "UTF-16BE",
            Encoding::Utf32 { big: false } => "UTF-32LE",
            Encoding::Utf32 { big: true } => "UTF-32BE",
        }
    }
}

/// A line of the input.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: usize,
    /// As it stood, without its end.
    pub(super) raw: Vec<u8>,
    /// `\n`, `\r\n`, `\r`, or nothing at the end of the file.
    pub(super) end: &'static str,
    /// Longer than the cap: `raw` is its beginning, the rest is still in the source.
    pub(super) too_long: bool,
}

impl Line {
    pub(super) fn is_blank(&self) -> bool {
        self.raw.trim_ascii().is_empty()
    }

    /// Its text, with what was done to get it.
    pub(super) fn text(&self) -> (Cow<'_, str>, Option<Note>) {
        decode(&self.raw)
    }

    /// The lines that it is where `\r` alone ends one.
    fn cut_at_cr(self) -> Vec<Line> {
        let Line { number, raw, end, too_long } = self;
        let mut lines: Vec<Line> = raw
            .split(|byte| *byte == b'\r')
            .map(|raw| Line { number, raw: raw.to_vec(), end: "\r", too_long: false })
            .collect();
        if let Some(last) = lines.last_mut() {
            (last.end, last.too_long) = (end, too_long);
        }
        lines.retain(|line| !(line.raw.is_empty() && line.end.is_empty()));
        lines
    }

    /// How the line ends in the output.
    pub(super) fn end(&self) -> &'static str {
        if self.end == "\r" { "\n" } else { self.end }
    }
}

/// The lines of a file; some can be given back.
pub(super) struct Source<'s> {
    bytes: Box<dyn BufRead + 's>,
    waiting: VecDeque<Line>,
    number: usize,
    max_bytes: usize,
    bare_cr: bool,
    /// Whether the file began with a byte order mark, which belongs to no line.
    pub(super) had_bom: bool,
    /// What was done to the file as a whole.
    pub(super) notes: Vec<Note>,
}

impl<'s> Source<'s> {
    /// `head`: the first bytes of the file, which `source` no longer has.
    pub(super) fn new(head: Vec<u8>, source: &'s mut dyn BufRead, max_bytes: usize) -> io::Result<Source<'s>> {
        let encoding = Encoding::of(&head);
        let mut notes = Vec::new();
        let mut bytes: Box<dyn BufRead + 's> = Box::new(Cursor::new(head).chain(source));
        if encoding != Encoding::Utf8 {
            notes.push(Note::safe("file-utf16", format!("wrote UTF-8 for {}", encoding.name())));
            bytes = Box::new(BufReader::with_capacity(BUFFER_BYTES, Transcoder::new(bytes, encoding)));
        }
        let had_bom = bytes.fill_buf()?.starts_with(BOM);
        bytes.consume(if had_bom { BOM.len() } else { 0 });
        let had_bom = had_bom && encoding == Encoding::Utf8;
        let waiting = VecDeque::new();
        let mut source = Source { bytes, waiting, number: 0, max_bytes, bare_cr: false, had_bom, notes };
        let more = source.begin()?;
        source.notes.extend(more);
        Ok(source)
    }

    /// Looks at what the file begins with: or now begins with, because all lines before went.
    pub(super) fn begin(&mut self) -> io::Result<Vec<Note>> {
        let mut notes = Vec::new();
        let mut bom = false;
        match self.waiting.front_mut() {
            Some(first) => {
                while first.raw.starts_with(BOM) {
                    first.raw.drain(..BOM.len());
                    bom = true;
                }
            }
            None => {
                while self.bytes.fill_buf()?.starts_with(BOM) {
                    self.bytes.consume(BOM.len());
                    bom = true;
                }
            }
        }
        if bom {
            notes.push(Note::safe("bom-mid-file", "removed a byte order mark"));
        }
        let head = match self.waiting.front() {
            Some(first) => &first.raw,
            None => self.bytes.fill_buf()?,
        };
        if !self.bare_cr && ends_lines_with_cr(head) {
            self.bare_cr = true;
            let waiting = std::mem::take(&mut self.waiting);
            self.waiting = waiting.into_iter().flat_map(Line::cut_at_cr).collect();
            notes.push(Note::safe("bare-cr-line-endings", "ended lines with `\\n`, not `\\r`"));
        }
        Ok(notes)
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        if let Some(line) = self.waiting.pop_front() {
            return Ok(Some(line));
        }
        let mut line = Line { number: self.number + 1, ..Line::default() };
        loop {
            let bytes = self.bytes.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            let room = self.max_bytes - line.raw.len();
            let found = match self.bare_cr {
                false => memchr::memchr(b'\n', bytes),
                true => memchr::memchr2(b'\n', b'\r', bytes),
            };
            let content = found.unwrap_or(bytes.len());
            if content > room {
                line.raw.extend_from_slice(&bytes[..room]);
                self.bytes.consume(room);
                line.too_long = true;
                break;
            }
            line.raw.extend_from_slice(&bytes[..content]);
            let Some(at) = found else {
                self.bytes.consume(content);
                continue;
            };
            let cr = bytes[at] == b'\r';
            self.bytes.consume(at + 1);
            line.end = if cr { self.after_cr()? } else { "\n" };
            break;
        }
        if line.raw.is_empty() && line.end.is_empty() {
            return Ok(None);
        }
        if line.end == "\n" && line.raw.last() == Some(&b'\r') {
            line.raw.pop();
            line.end = "\r\n";
        }
        self.number += 1;
        Ok(Some(line))
    }

    /// The end of a line, behind its `\r`.
    fn after_cr(&mut self) -> io::Result<&'static str> {
        if self.bytes.fill_buf()?.first() == Some(&b'\n') {
            self.bytes.consume(1);
            return Ok("\r\n");
        }
        Ok("\r")
    }

    /// The lines come again, before all others.
    pub(super) fn give_back(&mut self, lines: impl DoubleEndedIterator<Item = Line>) {
        lines.rev().for_each(|line| self.waiting.push_front(line));
    }

    /// The next `count` lines that are not blank, which come again.
    pub(super) fn peek(&mut self, count: usize) -> io::Result<Vec<String>> {
        const FAR: usize = 1000;
        let (mut seen, mut found) = (Vec::new(), Vec::new());
        while found.len() < count
            && seen.len() < FAR
            && let Some(line) = self.next()?
        {
            if !line.is_blank() {
                found.push(decode(&line.raw).0.into_owned());
            }
            let too_long = line.too_long;
            seen.push(line);
            if too_long {
                break;
            }
        }
        self.give_back(seen.into_iter());
        Ok(found)
    }

    /// Copies what is left of a line that was too long, its end included.
    pub(super) fn copy_rest(&mut self, out: &mut dyn Write) -> io::Result<()> {
        loop {
            let bytes = self.bytes.fill_buf()?;
            let found = memchr::memchr(b'\n', bytes).map(|at| at + 1);
            let len = found.unwrap_or(bytes.len());
            out.write_all(&bytes[..len])?;
            self.bytes.consume(len);
            if found.is_some() || len == 0 {
                return Ok(());
            }
        }
    }
}

/// UTF-8 from units of two or four bytes. What is no character becomes U+FFFD.
struct Transcoder<'s> {
    source: Box<dyn BufRead + 's>,
    encoding: Encoding,
    high: Option<u16>,
    ready: VecDeque<u8>,
}

impl<'s> Transcoder<'s> {
    fn new(source: Box<dyn BufRead + 's>, encoding: Encoding) -> Transcoder<'s> {
        Transcoder { source, encoding, high: None, ready: VecDeque::new() }
    }

    /// The next unit; a part of one at the end of the file is a character that was cut.
    fn unit(&mut self) -> io::Result<Option<u32>> {
        let (size, big) = match self.encoding {
            Encoding::Utf8 => (1, true),
            Encoding::Utf16 { big } => (2, big),
            Encoding::Utf32 { big } => (4, big),
        };
        let mut unit = [0; 4];
        let mut filled = 0;
        while filled < size {
            match self.source.read(&mut unit[filled..size])? {
                0 => break,
                read => filled += read,
            }
        }
        if filled < size {
            return Ok((filled > 0).then_some(0xFFFD));
        }
        let unit = &unit[..size];
        let join = |value: u32, byte: &u8| value << 8 | u32::from(*byte);
        Ok(Some(if big { unit.iter().fold(0, join) } else { unit.iter().rev().fold(0, join) }))
    }

    fn push(&mut self, code: u32) {
        let char = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        self.ready.extend(char.encode_utf8(&mut [0; 4]).as_bytes());
    }

    /// One more unit becomes bytes. False: there is none.
    fn step(&mut self) -> io::Result<bool> {
        let unit = self.unit()?;
        let wide = matches!(self.encoding, Encoding::Utf16 { .. });
        match (self.high.take(), unit) {
            (Some(high), Some(low @ 0xDC00..=0xDFFF)) => {
                self.push(0x10000 + ((u32::from(high) - 0xD800) << 10) + (low - 0xDC00));
                return Ok(true);
            }
            (Some(_), _) => self.push(0xFFFD),
            (None, _) => {}
        }
        match unit {
            None => return Ok(false),
            Some(high @ 0xD800..=0xDBFF) if wide => self.high = Some(high as u16),
            Some(code) => self.push(code),
        }
        Ok(true)
    }
}

impl Read for Transcoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.len() < buffer.len() && self.step()? {}
        self.ready.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> (Vec<(String, &'static str)>, Vec<String>, bool) {
        // A tiny buffer behind the head, so that lines cross its edge.
        let (head, mut rest) = bytes.split_at(bytes.len().min(12));
        let mut rest = BufReader::with_capacity(3, &mut rest);
        let mut source = Source::new(head.to_vec(), &mut rest, 100).unwrap();
        let mut lines = Vec::new();
        while let Some(line) = source.next().unwrap() {
            lines.push((String::from_utf8_lossy(&line.raw).into_owned(), line.end));
        }
        (lines, source.notes.iter().map(Note::what).collect(), source.had_bom)
    }

    #[test]
    fn lines_keep_their_ends() {
        let (found, notes, bom) = lines(b"\xEF\xBB\xBF{}\r\nb\n\nc");
        assert_eq!(found, [("{}".into(), "\r\n"), ("b".into(), "\n"), ("".into(), "\n"), ("c".into(), "")]);
        assert!(notes.is_empty() && bom);
        let (found, notes, _) = lines(b"{}\r{}\r\n{}");
        assert_eq!(found, [("{}".into(), "\r"), ("{}".into(), "\r\n"), ("{}".into(), "")]);
        assert_eq!(notes, ["ended lines with `\\n`, not `\\r`"]);
    }

    #[test]
    fn wide_encodings_become_utf_8() {
        let text = "{\"a\": \"é😀\"}\n{}\n";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let four: Vec<u8> = text.chars().flat_map(|char| u32::from(char).to_le_bytes()).collect();
        for bytes in [
            little.clone(),
            big.clone(),
            [b"\xFF\xFE", &little[..]].concat(),
            [b"\xFE\xFF", &big[..]].concat(),
            [b"\xFF\xFE\0\0", &four[..]].concat(),
        ] {
            let (found, notes, bom) = lines(&bytes);
            assert_eq!(found, [("{\"a\": \"é😀\"}".into(), "\n"), ("{}".into(), "\n")]);
            assert!(notes[0].starts_with("wrote UTF-8 for UTF-") && !bom);
        }
    }

    #[test]
    fn a_line_over_the_cap_is_copied_in_two_parts() {
        let bytes = [&[b'x'; 150][..], b"\nend\n"].concat();
        let mut reader = &bytes[..];
        let mut source = Source::new(Vec::new(), &mut reader, 100).unwrap();
        let line = source.next().unwrap().unwrap();
        assert!(line.too_long && line.raw.len() == 100);
        let mut rest = Vec::new();
        source.copy_rest(&mut rest).unwrap();
        assert_eq!((rest.len(), source.next().unwrap().unwrap().raw), (51, b"end".to_vec()));
    }
}
