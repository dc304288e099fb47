//! Fixing: once is enough, and safe fixes lose nothing.

use std::collections::{HashMap, HashSet};
use std::io::BufReader;

use afina_data::{Change, Example, FixItem, FixSummary, Group, ReadOptions, Safety, Severity, fix, rules};

use super::{NAME, Read, text};

/// The output of a fix, and its log.
#[derive(PartialEq)]
struct Fixed {
    out: Vec<u8>,
    log: Vec<FixItem>,
    summary: FixSummary,
}

impl Fixed {
    fn new(data: &[u8], options: &ReadOptions, unsafe_fixes: bool, piece: usize) -> Fixed {
        let (mut out, mut log) = (Vec::new(), Vec::new());
        let mut source = BufReader::with_capacity(piece, data);
        let summary = fix(&mut source, NAME, options, unsafe_fixes, &mut out, &mut |item| log.push(item));
        Fixed { out, log, summary: summary.expect("memory is read and written") }
    }

    fn changes(&self) -> Vec<&Change> {
        let changes =
            self.log.iter().filter_map(|item| if let FixItem::Change(change) = item { Some(change) } else { None });
        changes.collect()
    }
}

/// A second fix changes nothing, an error that is in the output was named, and safe fixes take nothing away. The first
/// two hold where every line could be made JSON.
pub fn check(data: &[u8], options: &ReadOptions, unsafe_fixes: bool) {
    let shown = || format!("{:?} {options:?} unsafe: {unsafe_fixes}", text(data));
    let once = Fixed::new(data, options, unsafe_fixes, 8192);
    let changes = once.changes();
    assert_eq!(once.summary.changes, changes.len());
    assert_eq!(once.summary.left, once.log.len() - changes.len());
    if changes.is_empty() {
        assert!(once.out == data, "changed without a word: {} → {:?}", shown(), text(&once.out));
    }
    // A line that nobody can mend may be taken together with others once those are mended, by the reader and by a second
    // fix.
    let of_bytes = |id: &str| rules().iter().any(|rule| rule.id == id && rule.group == Group::Bytes);
    let broken = once.log.iter().any(|item| matches!(item, FixItem::Left { found, .. } if of_bytes(found.rule)));
    if !unsafe_fixes {
        assert!(changes.iter().all(|change| change.safety == Safety::Safe) && once.summary.removed == 0, "{}", shown());
        check_nothing_lost(data, &once.out, &changes, options, broken);
    }
    let twice = Fixed::new(&once.out, options, unsafe_fixes, 8192);
    if broken {
        assert!(unsafe_fixes || twice.summary.removed == 0, "a second fix removes: {}", shown());
    } else {
        assert_eq!(text(&twice.out), text(&once.out), "a second fix changes the file: {}", shown());
        assert_eq!(twice.changes().first(), None, "a second fix tells of changes: {}", shown());
        let left = |item: &FixItem| match item {
            FixItem::Left { found, output_line } => Some((*output_line, found.rule)),
            _ => None,
        };
        let left: HashSet<_> = once.log.iter().filter_map(left).collect();
        let hidden: Vec<_> = errors(&once.out, options).difference(&left).copied().collect();
        assert_eq!(hidden, [], "errors that nobody was told of: {} → {:?}", shown(), text(&once.out));
    }
}

/// The result is the same however the source hands out its bytes.
pub fn check_pieces(data: &[u8], options: &ReadOptions, unsafe_fixes: bool, piece: usize) {
    let (whole, pieces) = [data.len() + 1, piece].map(|piece| Fixed::new(data, options, unsafe_fixes, piece)).into();
    assert!(whole == pieces, "{piece} bytes at a time: {options:?} {:?}", text(data));
}

/// The errors of records, by line.
fn errors(data: &[u8], options: &ReadOptions) -> HashSet<(usize, &'static str)> {
    let mut options = options.clone();
    options.ignored.insert("mixed-formats".to_owned());
    // That formats are mixed is said of a record in place of its own faults: which that is depends on all others.
    let of_record = |id: &str| {
        let group = rules().iter().find(|rule| rule.id == id).map(|rule| rule.group);
        id != "file-empty" && !matches!(group, Some(Group::Dataset | Group::Format))
    };
    let found = Read::new(data, &options);
    let errors = found.diagnostics().filter(|found| found.severity == Severity::Error && of_record(found.rule));
    errors.map(|found| (found.line, found.rule)).collect()
}

fn lines(data: &[u8]) -> Vec<&[u8]> {
    data.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect()
}

/// Examples stay where every line is JSON then; lines without a change are the same bytes.
fn check_nothing_lost(data: &[u8], out: &[u8], changes: &[&Change], options: &ReadOptions, broken: bool) {
    let shown = || format!("{options:?} {:?} → {:?}", text(data), text(out));
    let told = |example: &Example| serde_json::to_string(example.conversation()).expect("a conversation is JSON");
    let (before, after) = (Read::new(data, options), Read::new(out, options));
    let mut left = HashMap::<String, usize>::new();
    after.examples().for_each(|example| *left.entry(told(example)).or_default() += 1);
    for example in before.examples() {
        // A name or a role may have been corrected without an error to ask for it.
        if broken || changes.iter().any(|change| change.line == example.line()) {
            continue;
        }
        let count = left.get_mut(&told(example)).filter(|count| **count > 0);
        *count.unwrap_or_else(|| panic!("an example is lost: {}", shown())) -= 1;
    }
    assert!(broken || after.examples().count() >= before.examples().count(), "fewer examples: {}", shown());
    let wide = changes.iter().any(|change| matches!(change.rule, "file-utf16" | "bare-cr-line-endings"));
    if before.summary.examples == 0 || wide {
        return;
    }
    let lines_before = lines(data);
    let known: HashSet<&[u8]> = lines_before.iter().copied().collect();
    let changed: HashSet<usize> = changes.iter().filter_map(|change| change.output_line).collect();
    // The first record of a line stays as it is where the others go to lines of their own.
    let first_of_changed = |line: &[u8]| {
        let sources = changes.iter().filter_map(|change| lines_before.get(change.line - 1));
        sources.into_iter().any(|source| source.trim_ascii().starts_with(line))
    };
    for (index, line) in lines(out).into_iter().enumerate() {
        let same = line.is_empty() || changed.contains(&(index + 1)) || known.contains(line) || first_of_changed(line);
        assert!(same, "line {} was changed without a word: {}", index + 1, shown());
    }
}
