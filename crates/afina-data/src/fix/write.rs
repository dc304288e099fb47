//! What comes out: records, those that are left as they are, and the log.

use std::{
    collections::{HashSet, VecDeque},
    io::{self, Write},
};

use super::{
    FixItem, FixSummary, Note,
    note::Safety,
    rounds::{Settled, findings, settle},
    source::{Line, Source},
    split::{Piece, Record},
};
use crate::{
    Diagnostic, Profile, ReadOptions, Severity,
    facts::fingerprint,
    json::{Kind, Parser},
    rules::bytes::{LINE_TOO_LONG_HINT, line_too_long_message},
};

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The output, as it grows.
pub(super) struct Writer<'w> {
    file: &'w str,
    options: &'w ReadOptions,
    allowed: Safety,
    pub(super) out: &'w mut dyn Write,
    log: &'w mut dyn FnMut(FixItem),
    pub(super) summary: FixSummary,
    /// Lines written.
    line: usize,
    /// The last line written has no end yet.
    open: bool,
    /// To be written before the first line.
    bom: bool,
    /// Fingerprints of the records written, where duplicates may go.
    seen: HashSet<u64>,
    parser: Parser,
}

impl<'w> Writer<'w> {
    pub(super) fn new(
        file: &'w str,
        options: &'w ReadOptions,
        allowed: Safety,
        out: &'w mut dyn Write,
        log: &'w mut dyn FnMut(FixItem),
    ) -> Writer<'w> {
        Writer {
            file,
            options,
            allowed,
            out,
            log,
            summary: FixSummary::default(),
            line: 0,
            open: false,
            bom: options.profile == Profile::Azure,
            seen: HashSet::new(),
            parser: Parser::default(),
        }
    }

    /// What was done to the file as a whole.
    pub(super) fn begin(&mut self, source: &Source) -> io::Result<()> {
        source.notes.iter().for_each(|note| self.note(note, 1, Some(1)));
        match (self.bom, source.had_bom) {
            (true, true) => {
                self.bom = false;
                self.out.write_all(BOM)?;
            }
            (false, true) => self.note(&Note::safe("file-bom", "removed the byte order mark of the file"), 1, Some(1)),
            _ => {}
        }
        Ok(())
    }

    fn note(&mut self, note: &Note, line: usize, output_line: Option<usize>) {
        self.summary.changes += 1;
        (self.log)(FixItem::Change(note.at(line, output_line)));
    }

    /// `output_line`: where it is now.
    pub(super) fn left(&mut self, found: Diagnostic, output_line: usize) {
        self.summary.left += 1;
        (self.log)(FixItem::Left { found, output_line });
    }

    /// Mends the records among the pieces, and writes them all.
    pub(super) fn write(&mut self, pieces: Vec<Piece>) -> io::Result<()> {
        let (mut records, mut rest) = (Vec::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Record(record) => {
                    records.push(record);
                    rest.push(None);
                }
                other => rest.push(Some(other)),
            }
        }
        let mut settled = VecDeque::from(settle(records, self.options, self.allowed)?);
        for piece in rest {
            match piece {
                None => {
                    let Some(settled) = settled.pop_front() else { continue };
                    self.record(settled)?;
                }
                Some(Piece::Gone { line, notes }) => notes.iter().for_each(|note| self.note(note, line, None)),
                Some(Piece::Raw(lines)) => self.raw(&lines)?,
                Some(Piece::Record(_) | Piece::TooLong(_)) => {}
            }
        }
        Ok(())
    }

    fn record(&mut self, settled: Settled) -> io::Result<()> {
        let Settled { mut record, mut removed, left } = settled;
        if !removed && self.allowed == Safety::Unsafe && self.is_duplicate(&record) {
            let note = Note::not_safe("duplicate-example", "removed the line: an earlier one is the same");
            record.notes.push(note.removing([&record.text]));
            removed = true;
        }
        let output_line = (!removed).then_some(self.line + 1);
        record.notes.iter().for_each(|note| self.note(note, record.line, output_line));
        if removed {
            self.summary.removed += 1;
            return Ok(());
        }
        self.begin_line()?;
        self.out.write_all(record.text.as_bytes())?;
        self.out.write_all(record.end.as_bytes())?;
        self.open = record.end.is_empty();
        self.summary.records += 1;
        self.summary.changed += usize::from(!record.notes.is_empty());
        for diagnostic in left {
            let found = Diagnostic { file: self.file.to_owned(), line: record.line, ..diagnostic };
            self.left(found, self.line);
        }
        Ok(())
    }

    /// Whether the same value was written before, in any spelling.
    fn is_duplicate(&mut self, record: &Record) -> bool {
        let value = self.parser.parse(&record.text, 0).root().filter(|value| value.kind() == Kind::Object);
        value.is_some_and(|value| !self.seen.insert(fingerprint(value)))
    }

    /// Lines that nobody can mend.
    fn raw(&mut self, lines: &[Line]) -> io::Result<()> {
        let first = self.line + 1;
        let mut text = Vec::new();
        for line in lines {
            self.begin_line()?;
            self.out.write_all(&line.raw)?;
            self.out.write_all(line.end().as_bytes())?;
            self.open = line.end.is_empty();
            if !text.is_empty() {
                text.push(b'\n');
            }
            text.extend_from_slice(&line.raw);
        }
        self.summary.records += 1;
        let mut found: Vec<_> = findings([text.as_slice()].into_iter(), self.options)?.into_iter().collect();
        found.sort_by_key(|(line, _)| *line);
        for (index, diagnostics) in found {
            let line = lines.get(index).map_or(first + index, |line| line.number);
            for diagnostic in diagnostics.into_iter().filter(|found| found.severity == Severity::Error) {
                self.left(Diagnostic { file: self.file.to_owned(), line, ..diagnostic }, first + index);
            }
        }
        Ok(())
    }

    /// A line that does not fit into memory.
    pub(super) fn too_long(&mut self, line: &Line, source: &mut Source) -> io::Result<()> {
        self.begin_line()?;
        self.out.write_all(&line.raw)?;
        source.copy_rest(self.out)?;
        self.open = false;
        self.summary.records += 1;
        let found = Diagnostic {
            rule: "line-too-long",
            severity: Severity::Error,
            file: self.file.to_owned(),
            line: line.number,
            column: 1,
            pointer: String::new(),
            message: line_too_long_message(),
            hint: LINE_TOO_LONG_HINT.to_owned(),
            window: None,
        };
        self.left(found, self.line);
        Ok(())
    }

    fn begin_line(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.bom) {
            self.out.write_all(BOM)?;
            self.note(&Note::safe("file-bom", "put a byte order mark before the file"), 1, Some(1));
        }
        if std::mem::take(&mut self.open) {
            self.out.write_all(b"\n")?;
        }
        self.line += 1;
        Ok(())
    }
}
