//! A data file in, examples and diagnostics out: every fault in one pass, one record in memory at a time.

mod gather;
mod record;

use std::{
    borrow::Cow,
    io::{self, BufRead},
    str::FromStr,
};

use serde::Serialize;

use crate::{
    diagnostic::{Diagnostic, Severity},
    example::Example,
    grader::Grader,
    json::Parser,
    jsonl::{Line, Lines, MAX_LINE_BYTES},
    rules::bytes,
};
use gather::Gathered;
use record::Reading;

/// What the file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Supervised fine-tuning: `messages`.
    Sft,
    /// Preference fine-tuning: `input`, `preferred_output`, `non_preferred_output`.
    Dpo,
    /// Reinforcement fine-tuning: `messages`, and keys for the grader.
    Rft,
}

/// Whose rules hold where services differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    OpenAi,
    /// Asks for a byte order mark.
    Azure,
    /// Refuses two assistant messages in a row; has no minimum of examples.
    Together,
    /// Training here: no minimum of examples; keys that nobody reads are warnings.
    Local,
}

/// A name that is none of the known ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {expected}, found `{found}`")]
pub struct UnknownName {
    pub found: String,
    pub expected: &'static str,
}

impl FromStr for Method {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Method, UnknownName> {
        match name {
            "sft" | "supervised" => Ok(Method::Sft),
            "dpo" => Ok(Method::Dpo),
            "rft" | "reinforcement" => Ok(Method::Rft),
            _ => Err(UnknownName { found: name.to_owned(), expected: "`sft`, `dpo`, `rft`" }),
        }
    }
}

impl FromStr for Profile {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Profile, UnknownName> {
        match name {
            "openai" => Ok(Profile::OpenAi),
            "azure" => Ok(Profile::Azure),
            "together" => Ok(Profile::Together),
            "local" => Ok(Profile::Local),
            _ => Err(UnknownName { found: name.to_owned(), expected: "`openai`, `azure`, `together`, `local`" }),
        }
    }
}

/// How to judge a file.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    pub method: Method,
    pub profile: Profile,
    /// Control tokens of the model that is trained: in a text they are errors. Empty: no model is known, and OpenAI's
    /// are taken. See [`crate::control_tokens_of`] for models that are known by name.
    pub control_tokens: Vec<String>,
    /// What scores the answers of reinforcement fine-tuning; `None`: it is not known.
    pub grader: Option<Grader>,
}

impl ReadOptions {
    /// Without a model.
    pub fn new(method: Method, profile: Profile) -> ReadOptions {
        ReadOptions { method, profile, control_tokens: Vec::new(), grader: None }
    }
}

/// What reading hands out, in the order of the file; the diagnostics of a line come before its example.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Example(Example),
    Diagnostic(Diagnostic),
}

/// What was in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Records, broken ones included.
    pub examples: usize,
    /// Records without an error.
    pub valid: usize,
    pub errors: usize,
    pub warnings: usize,
    pub infos: usize,
    /// Bytes of the file that were read.
    pub bytes: u64,
}

impl Summary {
    fn count(&mut self, severity: Severity) {
        match severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
            Severity::Info => self.infos += 1,
        }
    }
}

/// Reads a data file: hands each example and each diagnostic to `sink`.
///
/// It never stops at the first fault and holds one record at a time (and a number for each, to find duplicates). A
/// record that spans lines, or records inside one JSON array, are checked as well, but only a record on a line of its
/// own, without an error, becomes an [`Example`]. With [`Method::Dpo`] records are checked and counted, and no examples
/// are handed out: a pair is not one conversation.
///
/// `file` is the name for the diagnostics and for the rule on the file's extension; `-` is no file.
///
/// The error is the source's own.
pub fn read(
    source: &mut dyn BufRead,
    file: &str,
    options: &ReadOptions,
    sink: &mut dyn FnMut(Item),
) -> io::Result<Summary> {
    let mut reading = Reading::new(file, options, sink);
    let mut lines = LookAhead::new(Lines::new(source, MAX_LINE_BYTES)?);
    if read_head(&mut lines.lines, &mut reading) {
        read_lines(&mut lines, &mut reading)?;
        reading.finish_file(lines.lines.offset());
    }
    reading.summary.bytes = lines.lines.offset();
    Ok(reading.summary)
}

/// Looks at the first bytes. False: the file is not text, and there is nothing to read.
fn read_head(lines: &mut Lines, reading: &mut Reading) -> bool {
    let (head, out) = (lines.head(), &mut reading.out);
    bytes::file_extension(reading.file, out);
    if bytes::wrong_file_type(head, out) || bytes::file_utf16(head, out) {
        reading.flush_at(1);
        return false;
    }
    let bom = if head.is_empty() { 0 } else { bytes::file_bom(head, out) };
    let bare_cr = bytes::ends_lines_with_cr(&head[bom..]);
    if bare_cr {
        reading.bare_cr_at_start();
        lines.end_lines_at_cr();
    }
    lines.skip(bom);
    reading.flush_at(1);
    true
}

fn read_lines(lines: &mut LookAhead, reading: &mut Reading) -> io::Result<()> {
    let mut parser = Parser::default();
    let mut bytes = Vec::new();
    let mut blank = Vec::new();
    while let Some(line) = lines.next(&mut bytes)? {
        if line.too_long {
            reading.line_too_long(line.number);
            continue;
        }
        if bytes.trim_ascii().is_empty() {
            blank.push(line.number);
            continue;
        }
        for number in blank.drain(..) {
            reading.blank_line(number);
        }
        reading.begin(line.number);
        let text = decode(&bytes, line, 0, reading);
        let array = reading.summary.examples == 0 && text.trim_start().starts_with('[');
        if !array && reading.check_text(&text, &mut parser, true).is_continue() {
            continue;
        }
        match gather::gather(&text, array, lines, &mut parser)? {
            // One array of several, each on its line: the array is not the file.
            Gathered::Array { rest, whole: true } if rest.is_empty() && lines.has_more()? => {
                let _ = reading.check_text(&text, &mut parser, false);
            }
            Gathered::Alone => {
                let _ = reading.check_text(&text, &mut parser, false);
            }
            Gathered::Record { rest } => {
                let text = join(text, &rest, reading);
                reading.check_spanning(&text, 1 + rest.len(), &mut parser);
            }
            Gathered::Array { rest, whole } => {
                let text = join(text, &rest, reading);
                reading.check_array(&text, whole, &mut parser);
            }
            Gathered::LongArray => {
                reading.long_array();
                return Ok(());
            }
        }
    }
    if !blank.is_empty() && reading.summary.examples > 0 {
        reading.trailing_blank_lines(&blank);
    }
    Ok(())
}

/// The line as text; bytes that are not UTF-8 are a finding, and each becomes a `?` so that places stay true.
///
/// `start`: byte offset of the line in the record's text.
fn decode<'b>(bytes: &'b [u8], line: Line, start: usize, reading: &mut Reading) -> Cow<'b, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes::file_not_utf8(bytes, line.offset, start, &mut reading.out)),
    }
}

/// The text of a record that goes on in the lines of `rest`.
fn join(first: Cow<str>, rest: &[(Line, Vec<u8>)], reading: &mut Reading) -> String {
    let mut text = first.into_owned();
    for (line, bytes) in rest {
        text.push('\n');
        let next = decode(bytes, *line, text.len(), reading);
        text.push_str(&next);
    }
    text
}

/// Lines that can be given back.
pub(crate) struct LookAhead<'s> {
    pub(crate) lines: Lines<'s>,
    waiting: std::collections::VecDeque<(Line, Vec<u8>)>,
}

impl<'s> LookAhead<'s> {
    fn new(lines: Lines<'s>) -> LookAhead<'s> {
        LookAhead { lines, waiting: Default::default() }
    }

    fn next(&mut self, bytes: &mut Vec<u8>) -> io::Result<Option<Line>> {
        match self.waiting.pop_front() {
            Some((line, waiting)) => {
                *bytes = waiting;
                Ok(Some(line))
            }
            None => self.lines.next(bytes),
        }
    }

    /// Whether a line that is not blank is still to come.
    fn has_more(&mut self) -> io::Result<bool> {
        let (mut seen, mut bytes) = (Vec::new(), Vec::new());
        let mut found = false;
        while !found && let Some(line) = self.next(&mut bytes)? {
            found = !bytes.trim_ascii().is_empty();
            seen.push((line, std::mem::take(&mut bytes)));
        }
        self.give_back(seen);
        Ok(found)
    }

    /// The lines come again, before those that were given back earlier.
    fn give_back(&mut self, lines: Vec<(Line, Vec<u8>)>) {
        for line in lines.into_iter().rev() {
            self.waiting.push_front(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{
        rules,
        testing::{Random, mutate, read_all},
    };

    /// Good and bad records of every sort, to change at random.
    const SEEDS: [&str; 8] = [
        "{\"messages\":[{\"role\":\"user\",\"content\":\"¿Qué?\"},{\"role\":\"assistant\",\"content\":\"Hello.\"}]}\n{\"messages\":[{\"role\":\"user\",\"content\":\"a\\n\\u00e9 \\ud83d\\ude00\"},{\"role\":\"assistant\",\"content\":\"b\",\"weight\":0}]}\n",
        "{\n  \"messages\": [\n    {\"role\": \"user\", \"content\": \"Hi\"},\n    {\"role\": \"assistant\", \"content\": \"b\"}\n  ]\n}\n{\"messages\":[]}\n",
        "[{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}]},\n{\"messages\":[1]}]\n",
        "{'messages': [{'role': 'user', 'content': 'it\\'s'}, {'role': 'assistant', 'content': None}]}\n\n# end\n",
        "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"1\"}],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}]}",
        "{\"input\":{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"u\"}}]}]},\"preferred_output\":[{\"role\":\"assistant\",\"content\":\"a\"}],\"non_preferred_output\":[]}\n",
        "\u{FEFF}{\"a/b\":{\"~\":[NaN,]}} {\"messages\":\"x\"}\r\n",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"cafÃ© \u{FFFD}\u{202E} {{x}} <|im_end|> one\\\\ntwo\"}]}\r{\"prompt\":\"a\",\"completion\":\"b\"}\r",
    ];

    fn options(index: usize) -> ReadOptions {
        let method = [Method::Sft, Method::Dpo, Method::Rft][index % 3];
        ReadOptions::new(method, [Profile::OpenAi, Profile::Azure, Profile::Together, Profile::Local][index % 4])
    }

    /// Whatever the bytes: no panic, and what is reported is true of the file.
    fn check_any(data: &[u8], options: &ReadOptions) {
        let (diagnostics, examples, summary) = read_all(data, options);
        let lines: Vec<String> = split_lines(data);
        let ids: HashSet<&str> = rules().iter().map(|rule| rule.id).collect();
        for diagnostic in &diagnostics {
            let shown = || format!("{diagnostic} in {:?}", String::from_utf8_lossy(data));
            assert!(ids.contains(diagnostic.rule), "{}", shown());
            assert!(!diagnostic.message.is_empty() && !diagnostic.message.contains('\n'), "{}", shown());
            assert!(diagnostic.pointer.is_empty() || diagnostic.pointer.starts_with('/'), "{}", shown());
            if diagnostic.line == 1 && diagnostic.column == 1 {
                continue;
            }
            let length = lines.get(diagnostic.line - 1).map(|line| line.chars().count());
            assert!(length.is_some_and(|length| diagnostic.column <= length + 1), "{}", shown());
        }
        let count = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
        assert_eq!((summary.errors, summary.warnings), (count(Severity::Error), count(Severity::Warning)));
        assert!(summary.valid <= summary.examples && examples.len() <= summary.valid);
        for example in &examples {
            let wrong =
                |diagnostic: &&Diagnostic| diagnostic.severity == Severity::Error && diagnostic.line == example.line();
            let about_file = |diagnostic: &&Diagnostic| diagnostic.column == 1 && diagnostic.pointer.is_empty();
            let error = diagnostics.iter().find(|diagnostic| wrong(diagnostic) && !about_file(diagnostic));
            assert_eq!(error, None, "{:?}", String::from_utf8_lossy(data));
        }
    }

    /// Lines as an editor shows them, with one character for each byte that is not UTF-8.
    fn split_lines(data: &[u8]) -> Vec<String> {
        let data = data.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(data);
        let cr = bytes::ends_lines_with_cr(data);
        let mut text = String::new();
        for chunk in data.utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| '?'));
        }
        if cr {
            text = text.replace("\r\n", "\n").replace('\r', "\n");
        }
        text.split('\n').map(str::to_owned).collect()
    }

    #[test]
    fn any_bytes_give_diagnostics_at_places_in_the_file() {
        let mut random = Random(1);
        for round in 0..6000 {
            let data = mutate(SEEDS[round % SEEDS.len()].as_bytes(), &mut random);
            check_any(&data, &options(round / SEEDS.len()));
        }
        for round in 0..2000 {
            let data: Vec<u8> = (0..random.below(60)).map(|_| random.below(256) as u8).collect();
            check_any(&data, &options(round));
        }
    }

    #[test]
    fn every_line_of_a_good_file_becomes_an_example() {
        let record = |index| {
            format!(
                "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{index}?\"}},{{\"role\":\"assistant\",\"content\":\"ok\"}}]}}\n"
            )
        };
        let file: String = (0..1000).map(record).collect();
        let (_, examples, summary) = read_all(file.as_bytes(), &options(0));
        assert_eq!((summary.examples, summary.valid, summary.bytes), (1000, 1000, file.len() as u64));
        for (index, example) in examples.iter().enumerate() {
            assert_eq!(
                (example.line(), example.conversation().messages[0].text()),
                (index + 1, format!("{index}?").into())
            );
        }
        assert_eq!(examples.len(), 1000);
    }

    #[test]
    fn diagnostics_of_a_line_come_in_its_order_and_before_its_example() {
        let file = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"content\":\"{{x}}\"},{\"role\":\"assistant\",\"content\":\" b\"}]}";
        let mut seen = Vec::new();
        let mut sink = |item| {
            seen.push(match item {
                Item::Diagnostic(diagnostic) => format!("{}:{}", diagnostic.line, diagnostic.column),
                Item::Example(_) => "example".to_owned(),
            })
        };
        read(&mut file.as_bytes(), "-", &options(3), &mut sink).unwrap();
        assert_eq!(seen[..4], ["1:43", "1:54", "1:93", "example"]);
    }

    #[test]
    fn a_line_over_the_cap_is_an_error_and_the_next_one_is_read() {
        let good = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}]}";
        let mut file = vec![b' '; MAX_LINE_BYTES + 1];
        file.extend_from_slice(format!("\n{good}\n").as_bytes());
        let (diagnostics, examples, summary) = read_all(&file, &options(3));
        assert_eq!((diagnostics[0].rule, diagnostics[0].line), ("line-too-long", 1));
        assert_eq!((examples.len(), examples[0].line(), summary.examples), (1, 2, 2));
    }

    #[test]
    fn an_array_over_the_cap_is_named_and_not_held() {
        let mut file = b"[\n".to_vec();
        while file.len() <= MAX_LINE_BYTES {
            file.extend_from_slice(&[b' '; 1 << 20]);
            file.push(b'\n');
        }
        let (diagnostics, examples, _) = read_all(&file, &options(3));
        assert_eq!((diagnostics[0].rule, examples.len()), ("json-array-file", 0));
    }

    #[test]
    fn names_of_methods_and_profiles_are_read() {
        assert_eq!("supervised".parse(), Ok(Method::Sft));
        assert_eq!("local".parse(), Ok(Profile::Local));
        assert_eq!(
            "x".parse::<Profile>().unwrap_err().to_string(),
            "expected one of `openai`, `azure`, `together`, `local`, found `x`"
        );
    }
}
