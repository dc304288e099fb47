//! `--fix` and `--redact`: copies of a data file, never the file itself.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use afina_data::scan::{self, Wanted};
use afina_data::{Diagnostic, FixItem, ReadOptions};
use anyhow::{Context, Result};
use serde_json::json;

use super::open;
use crate::args::Validate;
use crate::commands::out_file::OutFile;
use crate::commands::{OK, REFUSED};
use crate::output::Output;

pub fn fix(from: &Path, to: &Path, options: &ReadOptions, args: &Validate, output: &Output) -> Result<u8> {
    let (name, file, mut out) = copy(from, to, args, output)?;
    let to_stdout = out.is_stdout();
    let say = |text: &str| if to_stdout { output.faults(text) } else { output.stream(text) };
    let (mut changes, mut left) = (Vec::new(), Vec::new());
    let mut log = |item: FixItem| match item {
        FixItem::Change(change) => {
            if output.json {
                changes.push(change);
            } else {
                say(&format!("{change}\n"));
            }
        }
        FixItem::Left { found, .. } => left.push(found),
        FixItem::LeftInWhole(found) => left.push(Diagnostic { file: to.display().to_string(), ..found }),
    };
    let summary = afina_data::fix(&mut BufReader::new(file), &name, options, args.unsafe_fixes, &mut out, &mut log)
        .with_context(|| format!("failed to mend `{name}`"))?;
    out.commit()?;
    if !output.json {
        left.iter().for_each(|diagnostic| say(&format!("left: {diagnostic}\n")));
    }
    let text = format!(
        "{}: {} mended, {} removed, {} written; {} left; written to `{}`",
        counted(summary.changes, "change"),
        counted(summary.changed, "record"),
        summary.removed,
        summary.records,
        counted(summary.left, "error"),
        to.display()
    );
    match to_stdout {
        true => output.note(&text),
        false => output.result(&text, &json!({ "changes": changes, "left": left, "summary": summary, "to": to })),
    }
    Ok(if summary.left > 0 { REFUSED } else { OK })
}

pub fn redact(from: &Path, to: &Path, args: &Validate, output: &Output) -> Result<u8> {
    let (name, file, mut out) = copy(from, to, args, output)?;
    let to_stdout = out.is_stdout();
    let done = scan::redact(&mut BufReader::new(file), &mut out, Wanted::ALL)
        .with_context(|| format!("failed to redact `{name}`"))?;
    out.commit()?;
    let mut text: String = done
        .kinds
        .iter()
        .map(|(kind, count)| {
            format!("{:<8} {}, {} different\n", kind.label(), counted(count.places, "place"), count.values)
        })
        .collect();
    text += &format!("{} of {} lines changed; written to `{}`", done.changed_lines, done.lines, to.display());
    match to_stdout {
        true => output.note(&text),
        false => output.result(&text, &json!({ "redaction": done, "to": to })),
    }
    Ok(OK)
}

/// `1 change`, `2 changes`.
fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// The file to read, and the copy to write.
fn copy(from: &Path, to: &Path, args: &Validate, output: &Output) -> Result<(String, File, OutFile)> {
    let (name, file) = open(from)?;
    let others = [&args.validation, &args.grader, &args.prices];
    let inputs: Vec<&Path> = others.into_iter().flatten().map(PathBuf::as_path).chain([from]).collect();
    Ok((name, file, OutFile::create(to, &inputs, output)?))
}
