//! One text with a record (or several), checked.

use std::{
    collections::{HashMap, hash_map::Entry},
    ops::ControlFlow,
};

use super::{Item, Method, ReadOptions, Summary, gather::breaks_outside_strings};
use crate::{
    diagnostic::Diagnostic,
    example::Example,
    findings::{Findings, Place},
    json::{Cause, Kind, Parsed, Parser, Tree, Value},
    rules::{self, bytes, dataset, detect, format, lines, syntax, text, tools},
    view::Turns,
};

const BOM: char = '\u{FEFF}';
const NOTHING: Tree = Tree { text: "", nodes: &[] };

/// The state of reading one file.
pub(super) struct Reading<'r> {
    pub(super) file: &'r str,
    pub(super) out: Findings<'r>,
    pub(super) summary: Summary,
    sink: &'r mut dyn FnMut(Item),
    first_format: Option<(detect::Format, usize)>,
    mixed: bool,
    bare_cr: bool,
    /// Fingerprint of each record, and its line.
    seen: HashMap<u64, usize>,
    without_system: usize,
    first_without_system: usize,
}

impl<'r> Reading<'r> {
    pub(super) fn new(file: &'r str, options: &'r ReadOptions, sink: &'r mut dyn FnMut(Item)) -> Reading<'r> {
        Reading {
            file,
            out: Findings::new(options),
            summary: Summary::default(),
            sink,
            first_format: None,
            mixed: false,
            bare_cr: false,
            seen: HashMap::new(),
            without_system: 0,
            first_without_system: 1,
        }
    }

    /// The findings from here on are about the text that begins in this line.
    pub(super) fn begin(&mut self, line: usize) {
        self.out.begin(line);
    }

    /// Hands out the findings that are about no text, at the first column of a line.
    pub(super) fn flush_at(&mut self, line: usize) {
        self.out.begin(line);
        self.flush(NOTHING);
    }

    fn flush(&mut self, tree: Tree) {
        let (summary, sink) = (&mut self.summary, &mut self.sink);
        self.out.finish(tree, self.file, &mut |diagnostic: Diagnostic| {
            summary.count(diagnostic.severity);
            sink(Item::Diagnostic(diagnostic));
        });
    }

    pub(super) fn bare_cr_at_start(&mut self) {
        self.bare_cr = true;
        bytes::bare_cr_line_endings(Place::byte(0), &mut self.out);
    }

    pub(super) fn blank_line(&mut self, number: usize) {
        bytes::blank_line(&mut self.out);
        self.flush_at(number);
    }

    pub(super) fn trailing_blank_lines(&mut self, numbers: &[usize]) {
        bytes::trailing_blank_lines(numbers.len(), &mut self.out);
        self.flush_at(numbers[0]);
    }

    pub(super) fn line_too_long(&mut self, number: usize) {
        self.summary.examples += 1;
        bytes::line_too_long(&mut self.out);
        self.flush_at(number);
    }

    /// What can be said at the end of the file.
    pub(super) fn finish_file(&mut self, bytes_read: u64) {
        if self.summary.examples == 0 && self.summary.errors == 0 {
            bytes::file_empty(bytes_read, &mut self.out);
        }
        bytes::file_too_large(bytes_read, &mut self.out);
        dataset::too_few_examples(self.summary.examples, &mut self.out);
        dataset::few_examples(self.summary.examples, &mut self.out);
        self.flush_at(1);
        if self.without_system > 0 {
            dataset::missing_system_message(self.without_system, self.summary.examples, &mut self.out);
            self.flush_at(self.first_without_system);
        }
    }

    /// Checks the records of a line. `Break`: the line ends inside a value, and nothing was reported yet
    /// (only where it `may_go_on` in the next line).
    pub(super) fn check_text(&mut self, text: &str, parser: &mut Parser, may_go_on: bool) -> ControlFlow<()> {
        let mut at = 0;
        let mut said_multiple = false;
        if text.starts_with(BOM) {
            bytes::bom_mid_file(Place::byte(0), &mut self.out);
            at = BOM.len_utf8();
        }
        loop {
            let parsed = parser.parse(text, at);
            if may_go_on && at == 0 && is_cut(&parsed) {
                return ControlFlow::Break(());
            }
            let record = self.check_parsed(&parsed, text);
            if record.is_none() && is_comment(&parsed) {
                self.flush(parsed.tree);
                return ControlFlow::Continue(());
            }
            self.summary.examples += 1;
            let mut example = record.and_then(|record| {
                if !parsed.is_plain() {
                    text::check_texts(record, parsed.has_rare_escape(), &mut self.out);
                }
                self.check_record(record)
            });
            let next = match parsed.root() {
                Some(_) => self.check_rest(text, parsed.end, &mut said_multiple),
                None => None,
            };
            let valid = !self.out.has_error() && !said_multiple;
            if !valid {
                example = None;
            }
            self.summary.valid += usize::from(valid);
            self.flush(parsed.tree);
            if let Some(example) = example {
                (self.sink)(Item::Example(example));
            }
            match next {
                Some(next) => at = next,
                None => return ControlFlow::Continue(()),
            }
        }
    }

    /// Checks one record that spans lines.
    pub(super) fn check_spanning(&mut self, text: &str, line_count: usize, parser: &mut Parser) {
        if breaks_outside_strings(text, parser) {
            lines::pretty_printed_json(line_count, &mut self.out);
        }
        let _ = self.check_text(text, parser, false);
    }

    /// Checks an array around the whole file, and the records inside.
    pub(super) fn check_array(&mut self, text: &str, whole: bool, parser: &mut Parser) {
        let parsed = parser.parse(text, 0);
        for fault in parsed.faults {
            syntax::check_fault(fault, text, &mut self.out);
        }
        match parsed.root().filter(|_| whole) {
            Some(array) => self.check_array_records(array),
            None => {
                self.summary.examples += 1;
                lines::json_array_file(Place::byte(0), None, &mut self.out);
            }
        }
        self.flush(parsed.tree);
    }

    /// An array too long to be held: its records are not looked at.
    pub(super) fn long_array(&mut self) {
        self.summary.examples += 1;
        lines::json_array_file(Place::byte(0), None, &mut self.out);
        self.flush(NOTHING);
    }

    fn check_array_records(&mut self, array: Value) {
        let messages = array.items().next().is_some_and(|item| item.get("role").is_some());
        let count = array.items().count();
        if messages {
            self.summary.examples += 1;
            return lines::record_not_object(array, &mut self.out);
        }
        self.summary.examples += count;
        lines::json_array_file(array.into(), Some(count), &mut self.out);
        text::check_texts(array, true, &mut self.out);
        array.objects().for_each(|object| syntax::duplicate_key(object, &mut self.out));
        for item in array.items() {
            self.check_value(item);
        }
    }

    /// The faults of a text, and its value where it is whole.
    fn check_parsed<'t>(&mut self, parsed: &Parsed<'t>, text: &str) -> Option<Value<'t>> {
        let comment = is_comment(parsed);
        for fault in parsed.faults.iter().filter(|fault| !comment || fault.cause == Cause::Comment) {
            syntax::check_fault(fault, text, &mut self.out);
        }
        parsed.root()
    }

    fn check_record(&mut self, record: Value) -> Option<Example> {
        record.objects().for_each(|object| syntax::duplicate_key(object, &mut self.out));
        let turns = self.check_value(record)?;
        if self.out.has_error() {
            return None;
        }
        match Example::new(self.out.first_line, record, &turns) {
            Ok(example) => Some(example),
            Err(value) => {
                tools::value_type_invalid(value, &mut self.out);
                None
            }
        }
    }

    fn check_value<'t>(&mut self, record: Value<'t>) -> Option<Turns<'t>> {
        if record.kind() != Kind::Object {
            lines::record_not_object(record, &mut self.out);
            return None;
        }
        let (line, _) = self.out.position(record.tree_text(), record.span().start);
        match self.seen.entry(dataset::fingerprint(record)) {
            Entry::Occupied(first) => dataset::duplicate_example(record, *first.get(), &mut self.out),
            Entry::Vacant(entry) => {
                entry.insert(line);
            }
        }
        let format = detect::detect(record);
        if let Some(format) = format {
            let first = *self.first_format.get_or_insert((format, line));
            if first.0 != format && !self.mixed {
                self.mixed = true;
                format::mixed_formats(record, format, first, &mut self.out);
                if format != wanted(self.out.options.method) {
                    return None;
                }
            }
        }
        let turns = rules::check_record(record, format, &mut self.out)?;
        if !turns.has_system() {
            if self.without_system == 0 {
                self.first_without_system = line;
            }
            self.without_system += 1;
        }
        Some(turns)
    }

    /// What stands behind a record on its line. Returns where the next record begins.
    fn check_rest(&mut self, text: &str, end: usize, said_multiple: &mut bool) -> Option<usize> {
        let rest = &text[end..];
        if rest.is_empty() {
            return None;
        }
        if rest.starts_with(BOM) {
            bytes::bom_mid_file(Place::byte(end), &mut self.out);
            let next = end + BOM.len_utf8();
            return (!text[next..].trim_ascii().is_empty()).then_some(next);
        }
        if rest.trim_ascii() == "," {
            lines::comma_between_lines(end, &mut self.out);
            return None;
        }
        let before = text[..end].trim_ascii_end().len();
        if text[before..end].contains('\r') && rest.starts_with('{') {
            if !std::mem::replace(&mut self.bare_cr, true) {
                bytes::bare_cr_line_endings(Place::byte(before), &mut self.out);
            }
            return Some(end);
        }
        if !std::mem::replace(said_multiple, true) {
            lines::multiple_objects_on_line(text, end, &mut self.out);
        }
        let next = rest.trim_start_matches(|char: char| char == ',' || char.is_ascii_whitespace());
        next.starts_with('{').then_some(text.len() - next.len())
    }
}

/// The format that a method takes.
fn wanted(method: Method) -> detect::Format {
    match method {
        Method::Sft | Method::Rft => detect::Format::Chat,
        Method::Dpo => detect::Format::Preference,
    }
}

/// The text ends inside an array or object.
fn is_cut(parsed: &Parsed) -> bool {
    let last = parsed.faults.last().is_some_and(|fault| matches!(fault.cause, Cause::Truncated { .. }));
    last && !parsed.tree.nodes.is_empty()
}

/// There is a comment and nothing else.
fn is_comment(parsed: &Parsed) -> bool {
    parsed.tree.nodes.is_empty()
        && parsed.faults.first().is_some_and(|fault| fault.cause == Cause::Comment)
        && parsed.faults.iter().all(|fault| matches!(fault.cause, Cause::Comment | Cause::Truncated { .. }))
}
