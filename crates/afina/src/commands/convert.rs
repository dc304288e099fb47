//! `afina convert`: other formats into OpenAI's JSONL.

use std::fs::File;
use std::io::{BufReader, Seek};

use afina_data::{ConvertError, Format, Separators, TextReport};
use anyhow::{Context, Result};
use serde_json::json;

use super::out_file::OutFile;
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
    let mut to = OutFile::create(&args.to, &[&args.file], output)?;
    let mut report = TextReport::new(SHOWN_OF_A_RULE);
    let mut notes = Vec::new();
    let mut note = |note| {
        if output.json {
            notes.push(note);
        } else if let Some(text) = report.show(&note) {
            output.faults(&text);
        }
    };
    let separators = match file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        true => {
            let found = afina_data::separators(&mut BufReader::new(&file), from);
            let found = found.and_then(|found| (&file).rewind().map(|()| found));
            found.with_context(|| format!("failed to read `{name}`"))?
        }
        // What cannot be read twice.
        false => Separators::default(),
    };
    let done = match afina_data::convert(&mut BufReader::new(&file), &name, from, separators, &mut to, &mut note) {
        Err(ConvertError::NotText { file, message, hint }) => {
            return Err(Usage::error(format!("`{file}`: {message}"), hint));
        }
        done => done?,
    };
    let to_stdout = to.is_stdout();
    if done.records > 0 {
        to.commit()?;
    }
    let Separators { behind_prompts, before_completions, behind_completions } = &done.separators;
    for (text, place) in [
        (behind_prompts, "behind every prompt"),
        (before_completions, "before every completion"),
        (behind_completions, "behind every completion"),
    ] {
        if !text.is_empty() {
            output.warn(&format!("took away {text:?} {place}: chat models need no separator"));
        }
    }
    for (field, count) in &done.left_out {
        output.warn(&format!("`{field}` has no place in OpenAI's format: left out of {count} records"));
    }
    if done.records == 0 {
        output.result("", &json!({ "conversion": done, "notes": notes, "to": null }));
        return Ok(REFUSED);
    }
    let text = format!(
        "{}: {} of {} records written to `{}`{}",
        done.format.map_or("no known format", Format::as_str),
        done.written,
        done.records,
        args.to.display(),
        if done.refused > 0 { format!("; {} refused", done.refused) } else { String::new() }
    );
    match to_stdout {
        true => output.note(&text),
        false => output.result(&text, &json!({ "conversion": done, "notes": notes, "to": args.to })),
    }
    Ok(if done.refused > 0 { REFUSED } else { OK })
}
