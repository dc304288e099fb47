//! `afina validate --fix`: a data file in, one with fewer faults out, and a word on each change.
//!
//! A safe fix takes nothing away: no line, no trained text, no key that says something. What does is unsafe, done only
//! where asked for. Lines that need no fix come out byte for byte as they went in, and the output of a fix is left as
//! it is by another. Where the line is:
//!
//! - A key that the format does not know is information, so its removal is unsafe; but one that is null or empty says
//!   nothing, and goes. A comment is no part of the data, and goes; the log keeps its words.
//! - Half of a surrogate pair becomes U+FFFD, as every decoder writes it. Mojibake and U+0000 are text that somebody may
//!   have meant: unsafe.
//! - Bytes of Windows-1252 are safe where they can be nothing else ([`decode`] says when).
//! - An unescaped quote is escaped only if the whole record then reads as JSON, with no other doubt in it.
//! - Closing brackets are put behind a record that lacks nothing else; one that lost text is cut, and its removal unsafe.
//! - A misspelled key gets its name where that is free and the value is such as it has.
//! - `NaN` becomes null where a null may stand; else null would be a fault again, and the way to its removal is unsafe.
//!
//! 1. [`source`]: bytes as UTF-8, cut into lines.
//! 2. [`split`]: lines into records, each of them JSON on one line ([`syntax`] mends what is nearly JSON).
//! 3. [`rounds`]: the rules look at the records, and [`mends`] has what mends a finding, until nothing more changes.
//! 4. [`whole`]: what is written is read again, for what is wrong with it as a whole.

mod decode;
mod edit;
mod fatal;
mod gather;
mod mend;
mod mends;
mod note;
mod rounds;
mod source;
mod split;
mod strings;
mod syntax;
#[cfg(test)]
mod tests;
mod whole;
mod write;

use std::io::{self, BufRead, Cursor, Read, Write};

use serde::Serialize;

use crate::{Diagnostic, Item, ReadOptions, jsonl::MAX_LINE_BYTES, read};
pub(crate) use mends::safety;
use note::Note;
pub use note::{Change, Safety};
use source::Source;
use split::{Piece, Splitter};
use write::Writer;

/// Bytes at the beginning of a file that tell whether it is text.
const HEAD_BYTES: u64 = 64 << 10;
/// Records that are mended together, at most: in number, and in bytes.
const BATCH_RECORDS: usize = 4096;
const BATCH_BYTES: usize = 4 << 20;

/// What fixing hands out, in the order of the output.
#[derive(Clone, Debug, PartialEq)]
pub enum FixItem {
    Change(Change),
    /// An error of a record that no allowed fix mends. Its line is the input's; the record is in the output too.
    Left {
        found: Diagnostic,
        output_line: usize,
    },
    /// An error of the output as a whole, as that it has too few records: its line is the output's.
    LeftInWhole(Diagnostic),
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FixSummary {
    /// Records written, those included that nobody can mend.
    pub records: usize,
    /// Records written that are not as they were.
    pub changed: usize,
    /// Records taken out.
    pub removed: usize,
    pub changes: usize,
    /// Errors that are left, of records and of the output as a whole.
    pub left: usize,
}

/// Reads a data file, writes it to `out` with its faults mended, and hands each change to `log`.
///
/// Streaming: a few MB of records are in memory at a time, and, with `unsafe_fixes`, a number for each record to find
/// duplicates. `file` is the name for the errors that are left.
///
/// The error is the source's or the output's own.
pub fn fix(
    source: &mut dyn BufRead,
    file: &str,
    options: &ReadOptions,
    unsafe_fixes: bool,
    out: &mut dyn Write,
    log: &mut dyn FnMut(FixItem),
) -> io::Result<FixSummary> {
    let options = &ReadOptions { windows: false, ..options.clone() };
    let allowed = if unsafe_fixes { Safety::Unsafe } else { Safety::Safe };
    let mut head = Vec::new();
    (&mut *source).take(HEAD_BYTES).read_to_end(&mut head)?;
    if let Some(found) = no_text(&head, options)? {
        io::copy(&mut Cursor::new(head).chain(source), out)?;
        log(FixItem::Left { found: Diagnostic { file: file.to_owned(), ..found }, output_line: 1 });
        return Ok(FixSummary { left: 1, ..FixSummary::default() });
    }
    let write = |out: &mut dyn Write| {
        let splitter = Splitter::new(Source::new(head, source, MAX_LINE_BYTES)?, allowed);
        mend_records(splitter, Writer::new(file, options, allowed, out, &mut *log))
    };
    let (mut summary, whole) = whole::watch(options, out, write)?;
    summary.left += whole.len();
    whole.into_iter().for_each(|found| log(FixItem::LeftInWhole(found)));
    Ok(summary)
}

/// Record by record.
fn mend_records(mut splitter: Splitter, mut writer: Writer) -> io::Result<FixSummary> {
    writer.begin(&splitter.source)?;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    loop {
        let piece = splitter.next()?;
        bytes += match &piece {
            Some(Piece::Record(record)) => record.text.len(),
            Some(Piece::Raw(lines)) => lines.iter().map(|line| line.raw.len()).sum(),
            _ => 0,
        };
        let full = batch.len() == BATCH_RECORDS || bytes > BATCH_BYTES;
        match piece {
            Some(Piece::TooLong(line)) => {
                writer.write(std::mem::take(&mut batch))?;
                writer.too_long(&line, &mut splitter.source)?;
            }
            Some(piece) => batch.push(piece),
            None => {
                writer.write(batch)?;
                writer.summary.removed += splitter.removed;
                return Ok(writer.summary);
            }
        }
        if full {
            writer.write(std::mem::take(&mut batch))?;
            bytes = 0;
        }
    }
}

/// The finding that the file is an archive or the like.
fn no_text(head: &[u8], options: &ReadOptions) -> io::Result<Option<Diagnostic>> {
    let mut found = None;
    read(&mut &head[..head.len().min(512)], "-", options, &mut |item| match item {
        Item::Diagnostic(diagnostic) if diagnostic.rule == "wrong-file-type" => found = Some(diagnostic),
        _ => {}
    })?;
    Ok(found)
}
