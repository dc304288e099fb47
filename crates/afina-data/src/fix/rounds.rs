//! Records, mended until their rules have nothing more to say that can be mended.

use std::{collections::HashMap, io};

use super::{
    Note,
    edit::{Edit, apply},
    mend::{Action, Context},
    mends,
    note::Safety,
    split::Record,
};
use crate::{Diagnostic, Group, Item, ReadOptions, Severity, json::Parser, read, rules};

/// How often the rules look at a record: a fix may bring to light what was hidden.
const MAX_ROUNDS: usize = 24;

/// A record that nothing can be done for any more.
pub(super) struct Settled {
    pub(super) record: Record,
    pub(super) removed: bool,
    /// The errors that it has still; their line is 1.
    pub(super) left: Vec<Diagnostic>,
}

/// Mends each record with what is `allowed`.
pub(super) fn settle(records: Vec<Record>, options: &ReadOptions, allowed: Safety) -> io::Result<Vec<Settled>> {
    let mut settled: Vec<Settled> =
        records.into_iter().map(|record| Settled { record, removed: false, left: Vec::new() }).collect();
    let mut open: Vec<usize> = (0..settled.len()).collect();
    let mut parser = Parser::default();
    for round in 0..=MAX_ROUNDS {
        let mut found = findings(open.iter().map(|&index| settled[index].record.text.as_bytes()), options)?;
        let mut changed = Vec::new();
        for (line, &index) in open.iter().enumerate() {
            let diagnostics = found.remove(&line).unwrap_or_default();
            let one = &mut settled[index];
            if round < MAX_ROUNDS && mend(one, &diagnostics, options, allowed, &mut parser) {
                changed.extend((!one.removed).then_some(index));
            } else {
                one.left = diagnostics.into_iter().filter(|found| found.severity == Severity::Error).collect();
            }
        }
        open = changed;
        if open.is_empty() {
            break;
        }
    }
    Ok(settled)
}

/// What the rules say of each text, by its place in the list; nothing of what is about a file as a whole.
pub(super) fn findings<'t>(
    texts: impl Iterator<Item = &'t [u8]>,
    options: &ReadOptions,
) -> io::Result<HashMap<usize, Vec<Diagnostic>>> {
    // A first line of its own keeps the first text from being taken for the beginning of a file.
    let mut file = b"{}".to_vec();
    for text in texts {
        file.push(b'\n');
        file.extend_from_slice(text);
    }
    file.push(b'\n');
    let mut found = HashMap::<usize, Vec<Diagnostic>>::new();
    // It stands in for the error of the first record that differs, which another batch would tell.
    let mut options = options.clone();
    options.ignored.insert("mixed-formats".to_owned());
    read(&mut file.as_slice(), "-", &options, &mut |item| {
        let Item::Diagnostic(mut diagnostic) = item else { return };
        let Some(index) = diagnostic.line.checked_sub(2).filter(|_| !is_about_file(diagnostic.rule)) else { return };
        diagnostic.line = 1;
        found.entry(index).or_default().push(diagnostic);
    })?;
    Ok(found)
}

/// Whether a rule looks at several records.
pub(super) fn is_about_file(id: &str) -> bool {
    rules().iter().any(|rule| rule.id == id && rule.group == Group::Dataset)
}

/// Applies what mends the findings, as far as it goes together. True: something changed.
fn mend(
    settled: &mut Settled,
    diagnostics: &[Diagnostic],
    options: &ReadOptions,
    allowed: Safety,
    parser: &mut Parser,
) -> bool {
    if !diagnostics.iter().any(|diagnostic| mends::safety(diagnostic.rule).is_some()) {
        return false;
    }
    let text = &settled.record.text;
    let mut edits: Vec<Edit> = Vec::new();
    let mut notes: Vec<Note> = Vec::new();
    {
        let Some(record) = parser.parse(text, 0).root() else { return false };
        for diagnostic in diagnostics {
            let mend =
                Context::new(diagnostic, record, options).and_then(|context| mends::mend(diagnostic.rule, &context));
            let Some(mend) = mend.filter(|mend| mend.safety <= allowed) else { continue };
            let note = mend.note(diagnostic.rule);
            match mend.action {
                Action::RemoveLine => {
                    settled.record.notes.push(note.removing([text]));
                    settled.removed = true;
                    return true;
                }
                Action::Edit(own) if !own.iter().any(|edit| edits.iter().any(|other| edit.overlaps(other))) => {
                    let gone = |edit: &&Edit| {
                        !edit.range.is_empty() && (edit.text.is_empty() || note.safety == Safety::Unsafe)
                    };
                    let removed: Vec<&str> = own.iter().filter(gone).map(|edit| &text[edit.range.clone()]).collect();
                    Note::gather(&mut notes, note.removing(removed));
                    edits.extend(own);
                }
                Action::Edit(_) => {}
            }
        }
    }
    let changed = apply(text, &mut edits);
    let parsed = parser.parse(&changed, 0);
    let good = parsed.root().is_some() && parsed.faults.is_empty() && parsed.end == changed.len();
    debug_assert!(good, "a fix wrote no JSON: {text} → {changed}");
    if !good || changed == *text {
        return false;
    }
    settled.record.text = changed;
    notes.into_iter().for_each(|note| Note::gather(&mut settled.record.notes, note));
    true
}
