//! `--fix` and `--redact`: copies of a data file, never the file itself.

use std::fs::File;
use std::io::{BufReader, BufWriter, IntoInnerError, Write};
use std::path::Path;

use afina_checkpoint::AtomicFile;
use afina_data::scan::{self, Wanted};
use afina_data::{FixItem, ReadOptions};
use anyhow::{Context, Result};
use serde_json::json;

use super::open;
use crate::Usage;
use crate::commands::{OK, REFUSED};
use crate::output::Output;

pub fn fix(from: &Path, to: &Path, options: &ReadOptions, unsafe_fixes: bool, output: &Output) -> Result<u8> {
    let (name, file, mut out) = copy(from, to)?;
    let (mut changes, mut left) = (Vec::new(), Vec::new());
    let mut log = |item: FixItem| match item {
        FixItem::Change(change) => {
            if output.json {
                changes.push(change);
            } else {
                output.stream(&format!("{change}\n"));
            }
        }
        FixItem::Left(diagnostic) => left.push(diagnostic),
    };
    let summary = afina_data::fix(&mut BufReader::new(file), &name, options, unsafe_fixes, &mut out, &mut log)
        .with_context(|| format!("failed to mend `{name}`"))?;
    commit(out, to)?;
    if !output.json {
        left.iter().for_each(|diagnostic| output.stream(&format!("left: {diagnostic}\n")));
    }
    let text = format!(
        "{} in {}, {} removed, {} left; written to `{}`",
        counted(summary.changes, "change"),
        counted(summary.changed, "record"),
        counted(summary.removed, "record"),
        counted(summary.left, "error"),
        to.display()
    );
    output.result(&text, &json!({ "changes": changes, "left": left, "summary": summary, "to": to }));
    Ok(if summary.left > 0 { REFUSED } else { OK })
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

pub fn redact(from: &Path, to: &Path, output: &Output) -> Result<u8> {
    let (name, file, mut out) = copy(from, to)?;
    let done = scan::redact(&mut BufReader::new(file), &mut out, Wanted::ALL)
        .with_context(|| format!("failed to redact `{name}`"))?;
    commit(out, to)?;
    let mut text: String = done
        .kinds
        .iter()
        .map(|(kind, count)| format!("{:<8} {} places, {} different\n", kind.label(), count.places, count.values))
        .collect();
    text += &format!("{} of {} lines changed; written to `{}`", done.changed_lines, done.lines, to.display());
    output.result(&text, &json!({ "redaction": done, "to": to }));
    Ok(OK)
}

fn copy(from: &Path, to: &Path) -> Result<(String, File, BufWriter<AtomicFile>)> {
    if from == to || (to.exists() && from.canonicalize()? == to.canonicalize()?) {
        let message = format!("`{}` is the file itself", to.display());
        return Err(Usage::error(message, "name another file: the original is never written"));
    }
    let (name, file) = open(from)?;
    let out = AtomicFile::create(to).with_context(|| format!("failed to write `{}`", to.display()))?;
    Ok((name, file, BufWriter::new(out)))
}

fn commit(mut out: BufWriter<AtomicFile>, to: &Path) -> Result<()> {
    let failed = || format!("failed to write `{}`", to.display());
    out.flush().with_context(failed)?;
    let out = out.into_inner().map_err(IntoInnerError::into_error).with_context(failed)?;
    out.commit().with_context(failed)
}
