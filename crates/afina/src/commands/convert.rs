//! `afina convert`: other formats into OpenAI's JSONL.

use std::fs::File;
use std::io::{BufReader, BufWriter};

use afina_checkpoint::AtomicFile;
use afina_data::{ConvertError, Format, TextReport};
use anyhow::{Context, Result};
use serde_json::json;

use super::{OK, REFUSED};
use crate::Usage;
use crate::args::Convert;
use crate::output::Output;

/// Notes of one rule that are printed in full; the rest are counted.
const SHOWN_OF_A_RULE: usize = 20;

pub fn run(args: &Convert, output: &Output) -> Result<u8> {
    let name = args.file.display().to_string();
    let from = args
        .from
        .as_deref()
        .map(|from| from.parse::<Format>().map_err(|error| Usage::error(error.to_string(), "give one of them")))
        .transpose()?;
    let file = File::open(&args.file).with_context(|| format!("failed to open `{name}`"))?;
    let to = AtomicFile::create(&args.to).with_context(|| format!("failed to write `{}`", args.to.display()))?;
    let mut to = BufWriter::new(to);
    let mut report = TextReport::new(SHOWN_OF_A_RULE);
    let mut notes = Vec::new();
    let mut note = |note| {
        if output.json {
            notes.push(note);
        } else if let Some(text) = report.show(&note) {
            output.faults(&text);
        }
    };
    let done = match afina_data::convert(&mut BufReader::new(file), &name, from, &mut to, &mut note) {
        Err(ConvertError::NotText { file, message, hint }) => {
            return Err(Usage::error(format!("`{file}`: {message}"), hint));
        }
        done => done?,
    };
    let to = to.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    to.commit().with_context(|| format!("failed to write `{}`", args.to.display()))?;
    for (field, count) in &done.left_out {
        output.warn(&format!("`{field}` has no place in OpenAI's format: left out of {count} records"));
    }
    let text = format!(
        "{}: {} of {} records written to `{}`{}",
        done.format.map_or("no known format", Format::as_str),
        done.written,
        done.records,
        args.to.display(),
        if done.refused > 0 { format!("; {} refused", done.refused) } else { String::new() }
    );
    output.result(&text, &json!({ "conversion": done, "notes": notes, "to": args.to }));
    Ok(if done.refused > 0 { REFUSED } else { OK })
}
