//! Lines into records: one JSON object for each, whatever the lines looked like.

use std::{collections::VecDeque, io};

use super::{
    Note,
    gather::{self, Scanner},
    note::Safety,
    source::{Line, Source},
    syntax::{Repaired, one_line, repair},
};
use crate::{
    diagnostic::excerpt,
    json::{Kind, Parser, missing_brackets},
};

const BOM: char = '\u{FEFF}';

/// A part of the input, in its order.
pub(super) enum Piece {
    Record(Record),
    /// Lines that nobody can mend, as they stood.
    Raw(Vec<Line>),
    /// Lines of which nothing is left.
    Gone {
        line: usize,
        notes: Vec<Note>,
    },
    /// A line over the cap, of which the source has the rest.
    TooLong(Line),
}

/// A record as clean JSON in one line.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Line of the input that it begins in.
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) end: &'static str,
    pub(super) notes: Vec<Note>,
}

/// The pieces of a file, one by one.
pub(super) struct Splitter<'s> {
    pub(super) source: Source<'s>,
    parser: Parser,
    allowed: Safety,
    /// Inside of an array around the whole file.
    in_array: bool,
    /// There was one; it may have been left before its end.
    had_array: bool,
    /// A record has been seen: an array that begins now is not the file's.
    begun: bool,
    ready: VecDeque<Piece>,
    /// Records that were cut, and are gone.
    pub(super) removed: usize,
}

/// The text of one line, or of several that belong together.
#[derive(Clone)]
struct Work {
    lines: Vec<Line>,
    text: String,
    notes: Vec<Note>,
    /// Every byte of the text is sure (or guesses are allowed).
    sure: bool,
}

/// A value found in a text.
struct Found {
    line: usize,
    text: String,
    notes: Vec<Note>,
}

impl Work {
    fn add(&mut self, line: Line, allowed: Safety) {
        let (text, note) = line.text();
        self.sure &= note.as_ref().is_none_or(|note| note.safety <= allowed);
        if let Some(before) = self.lines.last() {
            self.text.push_str(before.end);
        }
        self.text.push_str(&text);
        note.into_iter().for_each(|note| Note::gather(&mut self.notes, note));
        self.lines.push(line);
    }
}

impl<'s> Splitter<'s> {
    pub(super) fn new(source: Source<'s>, allowed: Safety) -> Splitter<'s> {
        let ready = VecDeque::new();
        let parser = Parser::default();
        Splitter { source, parser, allowed, in_array: false, had_array: false, begun: false, ready, removed: 0 }
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Piece>> {
        while self.ready.is_empty() {
            let Some(line) = self.source.next()? else { return Ok(None) };
            if line.too_long {
                self.begun = true;
                return Ok(Some(Piece::TooLong(line)));
            }
            let number = line.number;
            if line.is_blank() {
                let gone = self.blank(line)?;
                self.ready.push_back(gone);
            } else {
                self.mend(line)?;
            }
            if !self.begun {
                let notes = self.source.begin()?;
                if !notes.is_empty() {
                    self.ready.push_back(Piece::Gone { line: number + 1, notes });
                }
            }
        }
        Ok(self.ready.pop_front())
    }

    /// A run of blank lines.
    fn blank(&mut self, first: Line) -> io::Result<Piece> {
        let mut count = 1;
        let rule = loop {
            match self.source.next()? {
                Some(line) if line.is_blank() => count += 1,
                Some(line) => {
                    self.source.give_back([line].into_iter());
                    break "blank-line";
                }
                None => break "trailing-blank-lines",
            }
        };
        let what = if count == 1 { "removed a blank line".to_owned() } else { format!("removed {count} blank lines") };
        Ok(Piece::Gone { line: first.number, notes: vec![Note::safe(rule, what)] })
    }

    /// The pieces of a line, and of those that its last record goes on in.
    fn mend(&mut self, line: Line) -> io::Result<()> {
        let (first, in_array) = (line.number, self.in_array);
        if self.had_array && line.raw.trim_ascii() == b"]" && !self.in_array {
            let notes = vec![Note::safe("json-array-file", "removed the array around the records")];
            self.ready.push_back(Piece::Gone { line: first, notes });
            return Ok(());
        }
        let mut work = Work { lines: Vec::new(), text: String::new(), notes: Vec::new(), sure: true };
        work.add(line, self.allowed);
        let found = self.values(&mut work)?.filter(|_| work.sure);
        let Some(found) = found else {
            if in_array {
                // The array's beginning is not written: what cannot be mended has to stand without it.
                let mut lines = work.lines.into_iter();
                let line = lines.next();
                self.source.give_back(lines.collect::<Vec<_>>().into_iter());
                (self.in_array, self.had_array) = (false, true);
                return line.map_or(Ok(()), |line| self.mend(line));
            }
            self.in_array = false;
            self.begun = true;
            self.ready.push_back(Piece::Raw(work.lines));
            return Ok(());
        };
        self.begun |= !found.is_empty();
        if found.is_empty() {
            self.ready.push_back(Piece::Gone { line: first, notes: work.notes });
            return Ok(());
        }
        let last_end = work.lines.last().map_or("\n", Line::end);
        let between = if last_end.is_empty() { "\n" } else { last_end };
        let count = found.len();
        let mut line_notes = work.notes;
        for (index, mut found) in found.into_iter().enumerate() {
            found.notes.splice(0..0, std::mem::take(&mut line_notes));
            let end = if index + 1 == count { last_end } else { between };
            self.ready.push_back(Piece::Record(Record { line: found.line, text: found.text, end, notes: found.notes }));
        }
        Ok(())
    }

    /// The values of the text, in clean JSON. `None`: something in it cannot be mended. Notes on the line as a whole
    /// go to `work`.
    fn values(&mut self, work: &mut Work) -> io::Result<Option<Vec<Found>>> {
        let mut found: Vec<Found> = Vec::new();
        let (mut gathered, mut closed) = (false, None);
        let in_array = self.in_array;
        let mut at = self.begin_array(work)?;
        // Counted on from record to record: a text may hold many.
        let (mut line, mut line_at, mut value_end) = (work.lines[0].number, 0, 0);
        loop {
            let separators = at..self.skip(work, at, !found.is_empty());
            at = separators.end;
            let after_cr = !found.is_empty() && work.text[value_end..at].contains('\r');
            let rest = &work.text[at..];
            if rest.is_empty() {
                break;
            }
            if !found.is_empty() && !rest.starts_with('{') {
                if !self.tail(work, at) {
                    return Ok(None);
                }
                break;
            }
            line += work.text[line_at..at].matches('\n').count();
            line_at = at;
            match repair(&work.text, at, &mut self.parser) {
                Repaired::Whole { mended, value, end, mut notes } => {
                    if notes.iter().any(|note| note.safety > self.allowed) {
                        return Ok(None);
                    }
                    notes.splice(0..0, closed.take());
                    work.text = mended.unwrap_or_else(|| std::mem::take(&mut work.text));
                    let whole = &work.text[value.clone()];
                    let first = !self.begun && !self.in_array && found.is_empty();
                    if first && holds_records(whole, &mut self.parser) == Some(true) {
                        // Now that it is mended it is seen to be the array around the file.
                        self.in_array = true;
                        work.notes.append(&mut notes);
                        at = value.start + 1;
                        continue;
                    }
                    (at, value_end) = (end, value.end);
                    if whole.contains(['\n', '\r']) {
                        notes.push(Note::safe("pretty-printed-json", "put the record on one line"));
                    }
                    if self.in_array {
                        notes.push(Note::safe("json-array-file", "took the record out of the array around the file"));
                    } else if !found.is_empty() {
                        let rule = if after_cr { "bare-cr-line-endings" } else { "multiple-objects-on-line" };
                        notes.push(Note::safe(rule, "put the record on a line of its own"));
                    }
                    found.push(Found { line, text: one_line(whole).into_owned(), notes });
                }
                Repaired::Comment(note) => {
                    work.notes.push(note);
                    break;
                }
                Repaired::Cut | Repaired::Broken if !gathered && self.gather(work, at)? => gathered = true,
                Repaired::Cut
                    if closed.is_none()
                        && let Some(brackets) = missing_brackets(&work.text[at..]) =>
                {
                    work.text.insert_str(work.text.trim_ascii_end().len(), &brackets);
                    closed =
                        Some(Note::safe("truncated-line", format!("put the missing `{brackets}` behind the record")));
                }
                Repaired::Cut if self.allowed == Safety::Unsafe => {
                    let cut = work.text[at..].trim_ascii();
                    let what = format!("removed `{}`, a record that was cut", excerpt(cut));
                    let note = Note::not_safe("truncated-line", what).removing([cut]);
                    work.notes.push(note);
                    self.removed += 1;
                    // An array that began here went too.
                    self.in_array &= in_array || !found.is_empty();
                    break;
                }
                Repaired::Cut | Repaired::Broken => return Ok(None),
            }
        }
        if !found.is_empty() {
            // Each of the records says so itself.
            work.notes.retain(|note| note.rule != "json-array-file");
        }
        if let [only] = &mut found[..]
            && only.notes.is_empty()
            && work.notes.is_empty()
            && work.lines.len() == 1
        {
            only.text = std::mem::take(&mut work.text);
        }
        Ok(Some(found))
    }

    /// Steps over what may stand between records, and notes it.
    fn skip(&mut self, work: &mut Work, from: usize, behind_record: bool) -> usize {
        let mut at = from;
        let mut comma = false;
        while let Some(char) = work.text[at..].chars().next() {
            match char {
                ' ' | '\t' | '\n' | '\r' => {}
                BOM => work.notes.push(Note::safe("bom-mid-file", "removed a byte order mark")),
                ',' if self.in_array || behind_record => comma = true,
                ']' if self.in_array => {
                    self.in_array = false;
                    if !behind_record {
                        work.notes.push(Note::safe("json-array-file", "removed the array around the records"));
                    }
                }
                _ => break,
            }
            at += char.len_utf8();
        }
        if comma && !self.in_array && at == work.text.len() && behind_record && !work.text[from..].contains(']') {
            work.notes.push(Note::safe("comma-between-lines", "removed the comma behind the record"));
        }
        at
    }

    /// What stands behind the last record of a line and is none. False: it cannot go.
    fn tail(&mut self, work: &mut Work, at: usize) -> bool {
        let rest = work.text[at..].trim_ascii();
        let brackets = rest.bytes().all(|byte| matches!(byte, b'}' | b']' | b',' | b' ' | b'\t'));
        let what = format!("removed `{}` behind the record", excerpt(rest));
        self.in_array &= !(brackets && rest.contains(']'));
        match brackets {
            true => work.notes.push(Note::safe("multiple-objects-on-line", what).removing([rest])),
            false if self.allowed == Safety::Unsafe => {
                work.notes.push(Note::not_safe("multiple-objects-on-line", what).removing([rest]));
            }
            false => return false,
        }
        true
    }

    /// Steps into the array around the file, if this is where it begins.
    fn begin_array(&mut self, work: &mut Work) -> io::Result<usize> {
        let text = work.text.trim_start_matches(|char: char| char.is_ascii_whitespace() || char == BOM);
        let at = work.text.len() - text.len();
        if self.begun || self.in_array || !text.starts_with('[') {
            return Ok(0);
        }
        let around = match holds_records(text, &mut self.parser) {
            Some(records) => records,
            None => {
                let inside = format!("{}\n{}", &text[1..], self.source.peek(3)?.join("\n"));
                let inside = inside.trim_ascii_start();
                inside.starts_with('{')
                    && gather::first_key(inside).is_some_and(|key| !matches!(key, "role" | "content"))
            }
        };
        self.in_array = around;
        if around {
            work.notes.push(Note::safe("json-array-file", "removed the array around the records"));
        }
        Ok(if around { at + 1 } else { 0 })
    }

    /// Adds the lines that the record at byte `at` goes on in. False: it does not end; then those lines are added that
    /// are no records of their own.
    fn gather(&mut self, work: &mut Work, at: usize) -> io::Result<bool> {
        let mut scanner = Scanner::default();
        scanner.feed(&work.text[at..]);
        if scanner.closed() {
            return Ok(false);
        }
        let in_string = scanner.in_string();
        let first_key = gather::first_key(&work.text[at..]).map(str::to_owned);
        let records = if self.in_array { None } else { Some(first_key.as_deref()) };
        let rest = gather::rest(&mut self.source, &mut scanner, records, &mut self.parser)?;
        let closed = scanner.closed();
        let begins_record = |line: &Line| line.raw.starts_with(b"{");
        let own = rest.lines.iter().position(begins_record).unwrap_or(rest.lines.len());
        let lines_of_their_own = rest.ended_by_record || own < rest.lines.len();
        let none = rest.lines.is_empty();
        let before = work.clone();
        rest.lines.into_iter().for_each(|line| work.add(line, self.allowed));
        let alone = match in_string {
            true => !closed || !matches!(repair(&work.text, at, &mut self.parser), Repaired::Whole { .. }),
            false => none || (!closed && lines_of_their_own),
        };
        if alone {
            let mut lines = std::mem::replace(work, before).lines.into_iter().skip(work.lines.len());
            let inner = if in_string { 0 } else { own };
            lines.by_ref().take(inner).for_each(|line| work.add(line, self.allowed));
            self.source.give_back(lines.collect::<Vec<_>>().into_iter());
        }
        Ok(!alone)
    }
}

/// Whether `text` is an array of records; `None`: it cannot be read.
fn holds_records(text: &str, parser: &mut Parser) -> Option<bool> {
    let root = parser.parse(text, 0).root()?;
    let first = root.items().next();
    Some(first.is_some_and(|first| first.kind() == Kind::Object && first.get("role").is_none()))
}
