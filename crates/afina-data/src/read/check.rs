//! Stage one: one text with a record (or several), checked by itself. What it depends on is the text and the options,
//! so lines can be checked in any order.

use std::{borrow::Cow, ops::ControlFlow};

use super::{Method, ReadOptions, gather::breaks_outside_strings};
use crate::{
    example::Example,
    facts::Facts,
    findings::{Findings, Place, Resolved},
    json::{Cause, Kind, Parsed, Parser, Value},
    jsonl::{Line, Lines},
    rules::{
        self, bytes, detect,
        lines::{self, MAX_RECORDS_TOGETHER},
        syntax, text, tools,
    },
};

const BOM: char = '\u{FEFF}';

/// A record that was checked by itself.
#[derive(Default)]
pub(super) struct Record {
    /// It counts as an example: it is not a mere comment.
    pub(super) counted: bool,
    /// Where its JSON begins in the text that it stands in.
    pub(super) start: usize,
    pub(super) facts: Facts,
    /// In the order of the text.
    pub(super) found: Vec<Resolved>,
    /// There is no error in it, nor around it.
    pub(super) valid: bool,
    pub(super) example: Option<Example>,
}

/// What a line is.
#[derive(Clone, Debug, Default)]
pub(super) enum Outcome {
    #[default]
    Blank,
    TooLong,
    /// It ends inside a value: what it is depends on the lines after it.
    Cut,
    /// These of the chunk's records.
    Records(std::ops::Range<u32>),
}

/// Lines, and what they are.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) lines: Lines,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) records: Vec<Record>,
}

/// What checking needs, kept from line to line.
pub(super) struct Checker<'r> {
    file: &'r str,
    pub(super) out: Findings<'r>,
    pub(super) parser: Parser,
}

impl<'r> Checker<'r> {
    pub(super) fn new(file: &'r str, options: &'r ReadOptions) -> Checker<'r> {
        Checker { file, out: Findings::new(options), parser: Parser::default() }
    }

    /// Checks every line of a chunk.
    pub(super) fn check_chunk(&mut self, chunk: &mut Chunk) {
        let Chunk { lines, outcomes, records } = chunk;
        outcomes.clear();
        records.clear();
        for (line, bytes) in lines.iter() {
            outcomes.push(if line.too_long {
                Outcome::TooLong
            } else if bytes.trim_ascii().is_empty() {
                Outcome::Blank
            } else {
                let first = records.len() as u32;
                match self.check_line(line, bytes, true, records) {
                    ControlFlow::Continue(()) => Outcome::Records(first..records.len() as u32),
                    ControlFlow::Break(()) => Outcome::Cut,
                }
            });
        }
    }

    /// Checks the records of a line. `Break`: the line ends inside a value (told only where it `may_go_on` in the next
    /// line).
    pub(super) fn check_line(
        &mut self,
        line: Line,
        bytes: &[u8],
        may_go_on: bool,
        records: &mut Vec<Record>,
    ) -> ControlFlow<()> {
        self.out.begin(line.number);
        let text = decode(bytes, line, 0, &mut self.out);
        let flow = self.check_text(&text, may_go_on, records);
        if flow.is_break() {
            self.out.clear();
        }
        flow
    }

    fn check_text(&mut self, text: &str, may_go_on: bool, records: &mut Vec<Record>) -> ControlFlow<()> {
        let mut at = 0;
        let before = records.len();
        let mut said_multiple = false;
        // The line that byte `line_at` is in: counted on from record to record.
        let (mut line, mut line_at) = (self.out.first_line, 0);
        if text.starts_with(BOM) {
            bytes::bom_mid_file(Place::byte(0), &mut self.out);
            at = BOM.len_utf8();
        }
        loop {
            let start = at;
            let parsed = self.parser.parse(text, start);
            if may_go_on && start == 0 && is_cut(&parsed) {
                return ControlFlow::Break(());
            }
            let out = &mut self.out;
            let value = check_parsed(&parsed, text, out);
            if value.is_none() && is_comment(&parsed) {
                records.push(Record { found: out.resolve(parsed.tree, self.file), ..Record::default() });
                return ControlFlow::Continue(());
            }
            let mut record = Record { counted: true, start, ..Record::default() };
            if let Some(value) = value {
                if !parsed.is_plain() {
                    text::check_texts(value, parsed.has_rare_escape(), out);
                }
                let begin = value.span().start;
                line += memchr::memchr_iter(b'\n', &text.as_bytes()[line_at..begin]).count();
                line_at = begin;
                check_value(value, line, &mut record, out);
            }
            let next = match parsed.root() {
                Some(_) => check_rest(text, parsed.end, &mut said_multiple, out),
                None => None,
            };
            if let Some(next) = next.filter(|_| records.len() + 1 - before == MAX_RECORDS_TOGETHER) {
                lines::too_many_together(next, out);
            }
            record.valid = !out.has_error() && !said_multiple;
            if !record.valid {
                record.example = None;
            }
            record.found = out.resolve(parsed.tree, self.file);
            records.push(record);
            match next {
                Some(next) if records.len() - before < MAX_RECORDS_TOGETHER => at = next,
                _ => return ControlFlow::Continue(()),
            }
        }
    }

    /// Checks the text of a record that spans lines.
    pub(super) fn check_spanning(&mut self, lines: &[(Line, &[u8])]) -> (String, Vec<Record>) {
        let text = self.join(lines);
        let mut records = Vec::new();
        if breaks_outside_strings(&text, &mut self.parser) {
            lines::pretty_printed_json(lines.len(), &mut self.out);
        }
        let _ = self.check_text(&text, false, &mut records);
        (text, records)
    }

    /// Checks an array around the whole file, and the records inside. All that was found is with the first record.
    pub(super) fn check_array(&mut self, lines: &[(Line, &[u8])], whole: bool) -> (String, Vec<Record>) {
        let text = self.join(lines);
        let parsed = self.parser.parse(&text, 0);
        let out = &mut self.out;
        for fault in parsed.faults {
            syntax::check_fault(fault, &text, out);
        }
        let mut records = match parsed.root().filter(|_| whole) {
            Some(array) => check_array_records(array, out),
            None => {
                lines::json_array_file(Place::byte(0), None, out);
                vec![Record { counted: true, ..Record::default() }]
            }
        };
        let found = out.resolve(parsed.tree, self.file);
        match records.first_mut() {
            Some(first) => first.found = found,
            None => records.push(Record { found, ..Record::default() }),
        }
        (text, records)
    }

    /// The text of a record that goes on from line to line.
    fn join(&mut self, lines: &[(Line, &[u8])]) -> String {
        let mut text = String::new();
        self.out.begin(lines[0].0.number);
        for (index, (line, bytes)) in lines.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            let next = decode(bytes, *line, text.len(), &mut self.out);
            text.push_str(&next);
        }
        text
    }

    /// Findings about a text that was checked before, at places in its value that begins at `start`.
    pub(super) fn resolve(&mut self, out: &mut Findings, text: &str, start: usize) -> Vec<Resolved> {
        let parsed = self.parser.parse(text, start);
        out.resolve(parsed.tree, self.file)
    }
}

/// The line as text; bytes that are not UTF-8 are a finding, and each becomes a `?` so that places stay true.
///
/// `start`: byte offset of the line in the record's text.
pub(super) fn decode<'b>(bytes: &'b [u8], line: Line, start: usize, out: &mut Findings) -> Cow<'b, str> {
    match simdutf8::basic::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes::file_not_utf8(bytes, line.offset, start, out)),
    }
}

/// The faults of a text, and its value where it is whole.
fn check_parsed<'t>(parsed: &Parsed<'t>, text: &str, out: &mut Findings) -> Option<Value<'t>> {
    let comment = is_comment(parsed);
    for fault in parsed.faults.iter().filter(|fault| !comment || fault.cause == Cause::Comment) {
        syntax::check_fault(fault, text, out);
    }
    parsed.root()
}

/// `line`: the one that the value begins in.
fn check_value(value: Value, line: usize, record: &mut Record, out: &mut Findings) {
    if value.kind() != Kind::Object {
        value.objects().for_each(|object| syntax::duplicate_key(object, out));
        return lines::record_not_object(value, out);
    }
    let options = out.options;
    record.facts = Facts::new(value, line);
    let turns = rules::check_record(value, &mut record.facts, out);
    if let Some(turns) = turns
        && options.examples
        && !out.has_error()
    {
        match Example::new(out.first_line, value, &turns) {
            Ok(example) => record.example = Some(example),
            Err(value) => tools::value_type_invalid(value, out),
        }
    }
}

fn check_array_records(array: Value, out: &mut Findings) -> Vec<Record> {
    let messages = array.items().next().is_some_and(|item| item.get("role").is_some());
    let counted = || Record { counted: true, ..Record::default() };
    if messages {
        lines::record_not_object(array, out);
        return vec![counted()];
    }
    lines::json_array_file(array.into(), Some(array.items().count()), out);
    text::check_texts(array, true, out);
    let (mut line, mut line_at) = (out.first_line, 0);
    let check = |item: Value| {
        let mut record = counted();
        if item.kind() != Kind::Object {
            item.objects().for_each(|object| syntax::duplicate_key(object, out));
            lines::record_not_object(item, out);
            return record;
        }
        let begin = item.span().start;
        line += memchr::memchr_iter(b'\n', &item.tree_text().as_bytes()[line_at..begin]).count();
        line_at = begin;
        record.facts = Facts::new(item, line);
        rules::check_record(item, &mut record.facts, out);
        record
    };
    let records = array.items().take(MAX_RECORDS_TOGETHER).map(check).collect();
    if let Some(next) = array.items().nth(MAX_RECORDS_TOGETHER) {
        lines::too_many_together(next.span().start, out);
    }
    records
}

/// What stands behind a record on its line. Returns where the next record begins.
fn check_rest(text: &str, end: usize, said_multiple: &mut bool, out: &mut Findings) -> Option<usize> {
    let rest = &text[end..];
    if rest.is_empty() {
        return None;
    }
    if rest.starts_with(BOM) {
        bytes::bom_mid_file(Place::byte(end), out);
        let next = end + BOM.len_utf8();
        return (!text[next..].trim_ascii().is_empty()).then_some(next);
    }
    if rest.trim_ascii() == "," {
        lines::comma_between_lines(end, out);
        return None;
    }
    let before = text[..end].trim_ascii_end().len();
    if text[before..end].contains('\r') && rest.starts_with('{') {
        bytes::bare_cr_line_endings(Place::byte(before), out);
        return Some(end);
    }
    if !std::mem::replace(said_multiple, true) {
        lines::multiple_objects_on_line(text, end, out);
    }
    let next = rest.trim_start_matches(|char: char| char == ',' || char.is_ascii_whitespace());
    next.starts_with('{').then_some(text.len() - next.len())
}

/// The format that a method takes.
pub(super) fn wanted(method: Method) -> detect::Format {
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
