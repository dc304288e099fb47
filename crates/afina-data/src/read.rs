//! A data file in, examples and diagnostics out: every fault in one pass, one record in memory at a time.

mod check;
mod feed;
mod file;
mod gather;

use std::{
    collections::HashSet,
    io::{self, BufRead},
    ops::ControlFlow,
    str::FromStr,
};

use rayon::prelude::*;
use serde::Serialize;

pub use crate::rules::dataset::{Earlier, Validation};
use crate::{
    diagnostic::Diagnostic,
    example::Example,
    grader::Grader,
    jsonl::Cutter,
    rules::{self, bytes},
    stats::PairShape,
};
use check::{Checker, Chunk};
use feed::Feed;
use file::File;
pub(crate) use gather::is_record;

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
    /// Rules that are not wanted, by id.
    pub ignored: HashSet<String>,
    /// Tokens of an example that the model is trained on: what is longer is cut at its end. `None`: not known, and not
    /// checked. OpenAI's and Azure's are set from the profile; see [`crate::stats::training_context`] for models.
    pub training_context: Option<u32>,
    /// The validation file, to find what both have.
    pub validation: Option<Validation>,
    /// The files that are trained on together with this one and were read before it, to find records that come again.
    pub earlier: Vec<Earlier>,
    /// Whether examples are handed out, or diagnostics only.
    pub examples: bool,
    /// What scores the answers of reinforcement fine-tuning; `None`: it is not known.
    pub grader: Option<Grader>,
    /// A validation file is given beside this one.
    pub has_validation: bool,
    /// This is the validation file itself.
    pub is_validation: bool,
    /// Whether diagnostics come with the part of the line that they are about.
    pub windows: bool,
    /// The source is a pipe or the like: its name is none of a file, and not judged.
    pub is_stream: bool,
}

impl ReadOptions {
    /// Whether a rule is to be checked.
    pub(crate) fn wants(&self, rule: &str) -> bool {
        self.ignored.is_empty() || !self.ignored.contains(rule)
    }

    /// Without a model.
    pub fn new(method: Method, profile: Profile) -> ReadOptions {
        ReadOptions {
            method,
            profile,
            control_tokens: Vec::new(),
            ignored: HashSet::new(),
            training_context: matches!(profile, Profile::OpenAi | Profile::Azure).then_some(65_536),
            validation: None,
            earlier: Vec::new(),
            examples: true,
            grader: None,
            has_validation: false,
            is_validation: false,
            windows: false,
            is_stream: false,
        }
    }
}

/// What reading hands out, in the order of the file; the diagnostics of a line come before its example.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Example(Example),
    /// A preference pair: how long it is.
    Pair(PairShape),
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

/// Reads a data file: hands each example and each diagnostic to `sink`.
///
/// It never stops at the first fault and holds a few megabytes at a time (and a number for each record, to find
/// duplicates). Lines are checked on all threads of rayon's pool; what is handed out does not depend on their number. A
/// record that spans lines, or records inside one JSON array, are checked as well, but only a record on a line of its
/// own, without an error, becomes an [`Example`]. With [`Method::Dpo`] records are checked and counted, and in place
/// of examples their lengths are handed out: a pair is not one conversation.
///
/// `file` is the name for the diagnostics and for the rule on the file's extension; `-` is no file, and see
/// [`ReadOptions::is_stream`].
///
/// The error is the source's own.
pub fn read(
    source: &mut dyn BufRead,
    file: &str,
    options: &ReadOptions,
    sink: &mut dyn FnMut(Item),
) -> io::Result<Summary> {
    Ok(read_file(source, file, options, sink)?.summary)
}

/// [`read`]s one of several files that are trained on together, and returns what the next of them is to be compared
/// with as well: push it to [`ReadOptions::earlier`]. It keeps 16 to 24 bytes a record.
pub fn read_one_of(
    source: &mut dyn BufRead,
    file: &str,
    options: &ReadOptions,
    sink: &mut dyn FnMut(Item),
) -> io::Result<(Summary, Earlier)> {
    let done = read_file(source, file, options, sink)?;
    Ok((done.summary, done.dataset.into_earlier(file)))
}

/// Reads a validation file for what a training file must not have: set it as [`ReadOptions::validation`].
///
/// `options` are those of the training file. Nothing is said of the validation file's own faults: [`read`] it for that.
///
/// The error is the source's own.
pub fn read_validation(source: &mut dyn BufRead, options: &ReadOptions) -> io::Result<Validation> {
    let mut options = ReadOptions { examples: false, windows: false, validation: None, ..options.clone() };
    options.ignored.extend(rules::rules().iter().map(|rule| rule.id.to_owned()));
    Ok(read_file(source, "-", &options, &mut |_| {})?.dataset.into_validation())
}

fn read_file<'r>(
    source: &mut dyn BufRead,
    file: &'r str,
    options: &'r ReadOptions,
    sink: &'r mut dyn FnMut(Item),
) -> io::Result<File<'r>> {
    let mut state = File::new(file, options, sink);
    let mut cutter = Cutter::new(source)?;
    if read_head(file, &mut cutter, &mut state) {
        read_lines(file, &mut cutter, options, &mut state)?;
        state.finish(cutter.offset());
    }
    state.summary.bytes = cutter.offset();
    Ok(state)
}

/// Looks at the first bytes. False: the file is not text, and there is nothing to read.
fn read_head(file: &str, cutter: &mut Cutter, state: &mut File) -> bool {
    let (head, out) = (cutter.head(), &mut state.out);
    bytes::file_extension(file, out);
    if bytes::wrong_file_type(head, out) || bytes::file_utf16(head, out) {
        state.flush_at(1);
        return false;
    }
    let bom = if head.is_empty() { 0 } else { bytes::file_bom(head, out) };
    let bare_cr = bytes::ends_lines_with_cr(&head[bom..]);
    if bare_cr {
        state.bare_cr_at_start();
        cutter.end_lines_at_cr();
    }
    cutter.skip(bom);
    state.flush_at(1);
    true
}

/// Three things at once: lines are read, those read before are checked one by one (stage one, on all threads), and
/// those checked before are taken in their order (stage two).
fn read_lines(file: &str, cutter: &mut Cutter, options: &ReadOptions, state: &mut File) -> io::Result<()> {
    let mut feed = Feed::default();
    let mut batch = read_batch(cutter, &mut feed)?;
    while !batch.is_empty() {
        let mut next = Ok(Vec::new());
        let mut flow = ControlFlow::Continue(());
        let mut here = |state: &mut File, feed: &mut Feed| {
            flow = state.consume(feed);
            if flow.is_continue() {
                next = read_batch(cutter, feed);
            }
        };
        if is_small(&batch) {
            check_batch(&mut batch, file, options);
            here(state, &mut feed);
        } else {
            rayon::in_place_scope(|scope| {
                scope.spawn(|_| check_batch(&mut batch, file, options));
                here(state, &mut feed);
            });
        }
        feed.extend(batch);
        batch = next?;
        if flow.is_break() {
            return Ok(());
        }
    }
    feed.ended = true;
    let _ = state.consume(&mut feed);
    Ok(())
}

/// Not worth another thread.
fn is_small(batch: &[Chunk]) -> bool {
    const SMALL: usize = 64 << 10;
    rayon::current_num_threads() == 1 || batch.iter().map(|chunk| chunk.lines.size()).sum::<usize>() < SMALL
}

/// The next chunks, a few for each thread; none at the end of the file.
fn read_batch(cutter: &mut Cutter, feed: &mut Feed) -> io::Result<Vec<Chunk>> {
    const BATCH_BYTES: usize = 2 << 20;
    let mut batch = Vec::new();
    let mut size = 0;
    while size < BATCH_BYTES * rayon::current_num_threads().div_ceil(2) {
        let mut chunk = feed.spare.pop().unwrap_or_default();
        if !cutter.next(&mut chunk.lines)? {
            break;
        }
        size += chunk.lines.size();
        batch.push(chunk);
    }
    Ok(batch)
}

fn check_batch(batch: &mut [Chunk], file: &str, options: &ReadOptions) {
    if is_small(batch) {
        let mut checker = Checker::new(file, options);
        return batch.iter_mut().for_each(|chunk| checker.check_chunk(chunk));
    }
    let checker = || Checker::new(file, options);
    batch.par_iter_mut().with_max_len(1).for_each_init(checker, |checker, chunk| checker.check_chunk(chunk));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MAX_LINE_BYTES, testing::read_all};

    fn options(index: usize) -> ReadOptions {
        let method = [Method::Sft, Method::Dpo, Method::Rft][index % 3];
        ReadOptions::new(method, [Profile::OpenAi, Profile::Azure, Profile::Together, Profile::Local][index % 4])
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
                Item::Example(_) | Item::Pair(_) => "example".to_owned(),
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
