//! Stage two: the checked records in the order of the file. What concerns several lines is found here.

use std::{cell::OnceCell, ops::ControlFlow};

use super::{
    Item, ReadOptions, Summary,
    check::{Checker, Outcome, Record, decode, wanted},
    feed::Feed,
    gather::{Gathered, Patience, gather},
};
use crate::{
    diagnostic::Severity,
    facts::Facts,
    findings::{Findings, Place, Resolved},
    json::Tree,
    jsonl::Line,
    rules::{bytes, dataset::Dataset, format, lines},
};

const NOTHING: Tree = Tree { text: "", nodes: &[] };

/// The state of reading one file.
pub(super) struct File<'r> {
    name: &'r str,
    pub(super) out: Findings<'r>,
    pub(super) summary: Summary,
    sink: &'r mut dyn FnMut(Item),
    checker: Checker<'r>,
    pub(super) dataset: Dataset,
    /// Blank lines since the last one that is not.
    blank: Vec<usize>,
    /// It was said that lines end in `\r`.
    bare_cr: bool,
    patience: Patience,
}

impl<'r> File<'r> {
    pub(super) fn new(name: &'r str, options: &'r ReadOptions, sink: &'r mut dyn FnMut(Item)) -> File<'r> {
        File {
            name,
            out: Findings::new(options),
            summary: Summary::default(),
            sink,
            checker: Checker::new(name, options),
            dataset: Dataset::default(),
            blank: Vec::new(),
            bare_cr: false,
            patience: Patience::default(),
        }
    }

    /// Hands out the findings that are about no text, at the first column of a line.
    pub(super) fn flush_at(&mut self, line: usize) {
        self.out.begin(line);
        let found = self.out.resolve(NOTHING, self.name);
        self.hand_out(found);
    }

    fn hand_out(&mut self, found: Vec<Resolved>) {
        for Resolved { diagnostic, .. } in found {
            if diagnostic.rule == "bare-cr-line-endings" && std::mem::replace(&mut self.bare_cr, true) {
                continue;
            }
            self.summary.add(diagnostic.severity);
            (self.sink)(Item::Diagnostic(diagnostic));
        }
    }

    /// Takes the lines that were read so far. `Break`: nothing after them will be looked at.
    pub(super) fn consume(&mut self, feed: &mut Feed) -> ControlFlow<()> {
        while let Ok(Some((line, bytes))) = feed.peek(0) {
            let Some(outcome) = feed.outcome() else { break };
            if matches!(outcome, Outcome::Blank) {
                self.blank.push(line.number);
                feed.advance(1);
                continue;
            }
            let array = self.summary.examples == 0 && bytes.trim_ascii_start().starts_with(b"[");
            if array || matches!(outcome, Outcome::Cut) {
                match self.take_cut(feed, array) {
                    Some(flow @ ControlFlow::Break(())) => return flow,
                    Some(ControlFlow::Continue(())) => continue,
                    // The next lines decide, and they were not read yet.
                    None => break,
                }
            }
            self.take_blank_lines();
            if let Outcome::TooLong = outcome {
                self.summary.examples += 1;
                bytes::line_too_long(&mut self.out);
                self.flush_at(line.number);
            } else {
                let (_, records) = feed.take_outcome();
                if let Ok(Some((line, bytes))) = feed.peek(0) {
                    self.take(records, line, bytes);
                }
            }
            feed.advance(1);
        }
        ControlFlow::Continue(())
    }

    /// A line that ends inside a value, or an array. `None`: more lines are needed to tell what it is.
    fn take_cut(&mut self, feed: &mut Feed, array: bool) -> Option<ControlFlow<()>> {
        let gathered = gather(feed, array, &mut self.checker.parser, &mut self.patience).ok()?;
        let alone = match gathered {
            // One array of several, each on its line: the array is not the file.
            Gathered::Array { rest: 0, whole: true } => has_more(feed)?,
            Gathered::Alone => true,
            _ => false,
        };
        self.take_blank_lines();
        let rest = match gathered {
            Gathered::Alone => 0,
            _ if alone => 0,
            Gathered::LongArray => {
                self.summary.examples += 1;
                lines::json_array_file(Place::byte(0), None, &mut self.out);
                self.flush_at(feed.peek(0).ok()??.0.number);
                return Some(ControlFlow::Break(()));
            }
            Gathered::Record { rest } | Gathered::Array { rest, .. } => rest,
        };
        let lines: Vec<(Line, &[u8])> = (0..=rest).filter_map(|ahead| feed.peek(ahead).ok().flatten()).collect();
        match gathered {
            Gathered::Array { whole, .. } if !alone => {
                let (text, records) = self.checker.check_array(&lines, whole);
                self.take_array(records, &text, lines[0].0.number);
            }
            Gathered::Record { .. } => {
                let (text, records) = self.checker.check_spanning(&lines);
                records.into_iter().for_each(|record| self.take_from(record, lines[0].0.number, &|| &text));
            }
            _ => {
                let mut records = Vec::new();
                let (line, bytes) = lines[0];
                let _ = self.checker.check_line(line, bytes, false, &mut records);
                self.take(records, line, bytes);
            }
        }
        feed.advance(1 + rest);
        Some(ControlFlow::Continue(()))
    }

    /// The records that stand in one line.
    fn take(&mut self, records: Vec<Record>, line: Line, bytes: &[u8]) {
        // Most records need their text no more.
        let text = OnceCell::new();
        let options = self.out.options;
        let decoded = || &**text.get_or_init(|| decode(bytes, line, 0, &mut Findings::new(options)));
        self.out.begin(line.number);
        records.into_iter().for_each(|record| self.take_from(record, line.number, &decoded));
    }

    /// A record, and the text that it stands in.
    fn take_from<'t>(&mut self, mut record: Record, first_line: usize, text: &dyn Fn() -> &'t str) {
        if record.counted {
            self.summary.examples += 1;
            if self.out.first_line != first_line {
                self.out.begin(first_line);
            }
            self.check_facts(&mut record.facts, &mut record.found);
            if !self.out.is_empty() {
                record.valid &= !self.out.has_error();
                let more = self.checker.resolve(&mut self.out, text(), record.start);
                merge(&mut record.found, more);
            }
            self.summary.valid += usize::from(record.valid);
        }
        self.hand_out(record.found);
        if let Some(example) = record.example.filter(|_| record.valid) {
            (self.sink)(Item::Example(example));
        }
    }

    /// The records of an array around the whole file.
    fn take_array(&mut self, records: Vec<Record>, text: &str, first_line: usize) {
        let mut found = Vec::new();
        self.out.begin(first_line);
        for mut record in records {
            found.append(&mut record.found);
            if record.counted {
                self.summary.examples += 1;
                self.check_facts(&mut record.facts, &mut found);
            }
        }
        let more = self.checker.resolve(&mut self.out, text, 0);
        merge(&mut found, more);
        self.hand_out(found);
    }

    /// The rules over several records.
    fn check_facts(&mut self, facts: &mut Facts, found: &mut Vec<Resolved>) {
        let Some(place) = facts.place else { return };
        self.dataset.check(facts, &mut self.out);
        if let Some(format) = facts.format
            && let Some(first) = self.dataset.differs(format, facts.line)
        {
            format::mixed_formats(place, format, first, &mut self.out);
            if format != wanted(self.out.options.method) && self.out.options.wants("mixed-formats") {
                // That it is another format than the first is said; once is enough.
                found.retain(|found| found.offset != place.offset() || found.diagnostic.severity != Severity::Error);
            }
        }
    }

    fn take_blank_lines(&mut self) {
        for number in std::mem::take(&mut self.blank) {
            bytes::blank_line(&mut self.out);
            self.flush_at(number);
        }
    }

    /// What can be said at the end of the file.
    pub(super) fn finish(&mut self, bytes_read: u64) {
        if !self.blank.is_empty() && self.summary.examples > 0 {
            bytes::trailing_blank_lines(self.blank.len(), &mut self.out);
            self.flush_at(self.blank[0]);
        }
        if self.summary.examples == 0 && self.summary.errors == 0 {
            bytes::file_empty(bytes_read, &mut self.out);
        }
        bytes::file_too_large(bytes_read, &mut self.out);
        self.dataset.finish(self.summary.examples, &mut self.out);
        self.flush_at(1);
    }

    pub(super) fn bare_cr_at_start(&mut self) {
        bytes::bare_cr_line_endings(Place::byte(0), &mut self.out);
    }
}

/// Whether a line that is not blank comes after the next one; `None`: nobody knows yet.
fn has_more(feed: &Feed) -> Option<bool> {
    let mut ahead = 1;
    while let Some((_, bytes)) = feed.peek(ahead).ok()? {
        if !bytes.trim_ascii().is_empty() {
            return Some(true);
        }
        ahead += 1;
    }
    Some(false)
}

/// Both in the order of the text.
fn merge(found: &mut Vec<Resolved>, more: Vec<Resolved>) {
    found.extend(more);
    found.sort_by_key(|found| found.offset);
}

impl Summary {
    /// Counts a diagnostic.
    pub fn add(&mut self, severity: Severity) {
        match severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
            Severity::Info => self.infos += 1,
        }
    }
}
