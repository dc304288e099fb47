//! Other formats into OpenAI's: a record in, one line of chat or preference JSONL out, and a word on whatever has no
//! place there.

mod alpaca;
mod batch;
mod calls;
mod chat;
mod detect;
mod draft;
mod format;
mod gemini;
mod notes;
mod pairs;
mod parts;
mod preference;
mod responses;
mod separators;
mod sharegpt;
mod text;
mod tools;
mod values;
mod write;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Cursor, Read, Write},
};

pub use format::Format;
pub use separators::{Separators, separators};

use crate::{
    diagnostic::{Diagnostic, Severity},
    findings::{Findings, Place, Resolved},
    json::{Parser, Value},
    jsonl::HEAD_BYTES,
    read::{Item, Method, Profile, ReadOptions, read},
    rules::{bytes, syntax},
};
use draft::Draft;
use notes::{Converted, Notes, Refusal};
use values::{Found, Values};

/// What there is to say about a record: its `rule` is `record-refused` (or the rule that the record would break) for a
/// record that is not in the output, and `field-left-out` for a field that has no place there.
pub type Note = Diagnostic;

/// What became of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Conversion {
    /// Records of the source.
    pub records: usize,
    /// Lines of the output.
    pub written: usize,
    /// Records that are not in the output.
    pub refused: usize,
    /// The format asked for, or that of the first record that has one.
    pub format: Option<Format>,
    /// Fields of written records that have no place in the output, as `messages[].id`, and how often. Of more than a thousand different
    /// ones the rest are counted as `…`.
    pub left_out: BTreeMap<String, usize>,
    /// What was taken away around prompts and completions.
    pub separators: Separators,
}

#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error("failed to read `{file}`")]
    Read { file: String, source: io::Error },
    #[error("failed to write what was converted")]
    Write { source: io::Error },
    /// The file is no JSON at all.
    #[error("`{file}`: {message}")]
    NotText { file: String, message: String, hint: String },
}

/// Reads records in the format `from` (found out for each record where `None`) and writes each as a line of OpenAI's
/// chat format; pairs become OpenAI's preference format.
///
/// The source is JSONL, or JSON values that span lines, or one JSON array; one record is in memory at a time. A line
/// that is written passes [`read`] without an error: a record that would not is refused, and `note` says why. A field
/// without a place is left out, and `note` says so. Strings keep their text, and are escaped only where JSON needs it.
/// A call of a tool without an id gets one that is unique in its record, and its answer the same.
///
/// `separators` are taken away around prompts and completions: [`separators`] finds them in a first reading.
///
/// `file` is the name for the notes.
pub fn convert(
    source: &mut dyn BufRead,
    file: &str,
    from: Option<Format>,
    separators: Separators,
    out: &mut dyn Write,
    note: &mut dyn FnMut(Note),
) -> Result<Conversion, ConvertError> {
    let options = ReadOptions::new(Method::Sft, Profile::OpenAi);
    let read_error = |source| ConvertError::Read { file: file.to_owned(), source };
    let mut head = Vec::new();
    (&mut *source).take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(read_error)?;
    refuse_other_files(&head, file, &options)?;
    let mut source = Cursor::new(head).chain(source);
    let mut converter = Converter {
        file,
        from,
        done: Conversion { format: from, separators, ..Conversion::default() },
        findings: Findings::new(&options),
        pairs: None,
        line: Vec::new(),
    };
    let (mut values, mut parser, mut bytes) = (Values::new(&mut source), Parser::default(), Vec::new());
    while let Some(found) = values.next(&mut bytes).map_err(read_error)? {
        if converter.record(&bytes, found, &mut parser, note) {
            out.write_all(&converter.line).map_err(|source| ConvertError::Write { source })?;
        }
    }
    if converter.done.records == 0 {
        converter.nothing(note);
    }
    out.flush().map_err(|source| ConvertError::Write { source })?;
    Ok(converter.done)
}

/// Archives, documents and other encodings, told by the first bytes of the file.
fn refuse_other_files(head: &[u8], file: &str, options: &ReadOptions) -> Result<(), ConvertError> {
    let mut findings = Findings::new(options);
    findings.begin(1);
    if !bytes::wrong_file_type(head, &mut findings) && !bytes::file_utf16(head, &mut findings) {
        return Ok(());
    }
    let found = findings.resolve(Parser::default().parse("", 0).tree, file).pop();
    let (message, hint) = found.map(|found| (found.diagnostic.message, found.diagnostic.hint)).unwrap_or_default();
    Err(ConvertError::NotText { file: file.to_owned(), message, hint })
}

struct Converter<'c> {
    file: &'c str,
    from: Option<Format>,
    done: Conversion,
    findings: Findings<'c>,
    /// The output has pairs, as its first line decided.
    pairs: Option<bool>,
    /// The line to write, with its end.
    line: Vec<u8>,
}

impl Converter<'_> {
    /// There is no record at all.
    fn nothing(&mut self, note: &mut dyn FnMut(Note)) {
        self.findings.begin(1);
        bytes::file_empty(0, &mut self.findings);
        let found = self.findings.resolve(Parser::default().parse("", 0).tree, self.file);
        found.into_iter().for_each(|found| note(found.diagnostic));
    }

    /// Makes the line of a record. False: it is refused, and the note is out.
    fn record(&mut self, bytes: &[u8], found: Found, parser: &mut Parser, note: &mut dyn FnMut(Note)) -> bool {
        self.done.records += 1;
        self.findings.begin(found.line);
        let text = String::from_utf8_lossy(bytes);
        let parsed = parser.parse(&text, 0);
        let refusal = if found.too_long {
            bytes::line_too_long(&mut self.findings);
            None
        } else if let std::borrow::Cow::Owned(_) = &text {
            let hint = "save the file as UTF-8: `iconv -f WINDOWS-1252 -t UTF-8 IN > OUT`";
            Some(Refusal::new(Place::byte(0), "expected UTF-8, found other bytes", hint))
        } else {
            parsed.faults.iter().for_each(|fault| syntax::check_fault(fault, &text, &mut self.findings));
            match parsed.root().filter(|_| parsed.faults.is_empty()) {
                None => None,
                Some(root) if parsed.end < text.len() => {
                    let message = "expected the end of the record, found more text behind it";
                    Some(Refusal::new((root, 0), message, "put each record on a line of its own"))
                }
                Some(root) => self.value(root).err(),
            }
        };
        if let Some(Refusal { place, message, hint }) = refusal {
            self.findings.error("record-refused", place, message, hint);
        }
        let refused = self.findings.has_error();
        self.done.refused += usize::from(refused);
        self.done.written += usize::from(!refused);
        for Resolved { mut diagnostic, .. } in self.findings.resolve(parsed.tree, self.file) {
            if diagnostic.line == found.line {
                diagnostic.column += found.column - 1;
            }
            note(diagnostic);
        }
        !refused
    }

    fn value(&mut self, record: Value) -> Converted<()> {
        record.objects().for_each(|object| syntax::duplicate_key(object, &mut self.findings));
        let format = self.from.or_else(|| detect::detect(record)).ok_or_else(|| {
            let names = Format::ALL.map(Format::as_str).join("`, `");
            let hint = format!("say it with `--from`: `{names}`");
            Refusal::new(record, "expected a record in a known format, found none that its keys tell", hint)
        })?;
        let first = *self.done.format.get_or_insert(format);
        let mut notes = Notes::new(&self.done.separators);
        let draft = format::read(record, format, &mut notes)?;
        self.check_kind(record, &draft, first)?;
        self.line.clear();
        write::record(&draft, &mut self.line);
        self.line.push(b'\n');
        self.check_line(record, draft.outputs.is_some());
        if !self.findings.has_error() {
            notes.finish(&mut self.findings, &mut self.done.left_out);
        }
        Ok(())
    }

    /// One file holds conversations or pairs.
    fn check_kind(&mut self, record: Value, draft: &Draft, first: Format) -> Converted<()> {
        let pairs = draft.outputs.is_some();
        if *self.pairs.get_or_insert(pairs) == pairs {
            return Ok(());
        }
        let (expected, found) =
            if pairs { ("a conversation", "a preference pair") } else { ("a preference pair", "a conversation") };
        let message = format!("expected {expected}, as in the records before ({first}), found {found}");
        Err(Refusal::new(record, message, "convert conversations and pairs into two files"))
    }

    /// The line has to pass the rules of its method, or the record is refused by the rule that it breaks.
    fn check_line(&mut self, record: Value, pairs: bool) {
        let method = if pairs { Method::Dpo } else { Method::Sft };
        let mut options = ReadOptions::new(method, Profile::OpenAi);
        options.control_tokens.clone_from(&self.findings.options.control_tokens);
        let findings = &mut self.findings;
        let mut sink = |item| {
            let Item::Diagnostic(found) = item else { return };
            if found.severity == Severity::Error && found.rule != "too-few-examples" {
                let place = if found.pointer.is_empty() { String::new() } else { format!(" at {}", found.pointer) };
                findings.error(found.rule, record, format!("once converted{place}: {}", found.message), found.hint);
            }
        };
        // Reading from memory cannot fail.
        let _ = read(&mut &self.line[..], "-", &options, &mut sink);
    }
}

#[cfg(test)]
mod tests;
