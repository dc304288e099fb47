//! Reading: no panic, and what is reported is true of the file.

use std::collections::HashSet;
use std::io::BufReader;

use afina_data::{
    Diagnostic, Example, Group, ReadOptions, Report, ReportFormat, Severity, read, read_validation, rules,
};

use super::{NAME, Read, text};

/// Diagnostics at places in the file, and examples without an error.
pub fn check(data: &[u8], options: &ReadOptions) {
    let found = Read::new(data, options);
    let shown = |diagnostic: &Diagnostic| format!("{diagnostic} {options:?} in {:?}", text(data));
    let ids: HashSet<&str> = rules().iter().map(|rule| rule.id).collect();
    // Where it is said that lines end with `\r`, they are counted so.
    let with_cr = found.diagnostics().any(|found| found.rule == "bare-cr-line-endings");
    let counts: Vec<Vec<usize>> = [false, true][..=usize::from(with_cr)].iter().map(|cr| lengths(data, *cr)).collect();
    for diagnostic in found.diagnostics() {
        assert!(ids.contains(diagnostic.rule), "{}", shown(diagnostic));
        assert!(!diagnostic.message.is_empty() && !diagnostic.message.contains('\n'), "{}", shown(diagnostic));
        assert!(diagnostic.pointer.is_empty() || diagnostic.pointer.starts_with('/'), "{}", shown(diagnostic));
        assert!(diagnostic.window.is_none() || options.windows, "{}", shown(diagnostic));
        let start = diagnostic.line == 1 && diagnostic.column == 1;
        let inside = |lengths: &Vec<usize>| {
            let length = diagnostic.line.checked_sub(1).and_then(|line| lengths.get(line));
            length.is_some_and(|length| (1..=length + 1).contains(&diagnostic.column))
        };
        assert!(start || counts.iter().any(inside), "outside of the file: {}", shown(diagnostic));
    }
    let count = |severity| found.diagnostics().filter(|diagnostic| diagnostic.severity == severity).count();
    let counted = [Severity::Error, Severity::Warning, Severity::Info].map(count);
    assert_eq!([found.summary.errors, found.summary.warnings, found.summary.infos], counted);
    assert!(found.summary.valid <= found.summary.examples && found.examples().count() <= found.summary.valid);
    let about_file = |rule: &str| rules().iter().any(|known| known.id == rule && known.group == Group::Dataset);
    for example in found.examples() {
        let wrong = |diagnostic: &&Diagnostic| {
            let here = diagnostic.severity == Severity::Error && diagnostic.line == example.line();
            here && !about_file(diagnostic.rule) && !(diagnostic.column == 1 && diagnostic.pointer.is_empty())
        };
        assert_eq!(found.diagnostics().find(wrong), None, "an example with an error: {:?}", text(data));
    }
}

/// Characters in each line as an editor shows it: one for each byte that is not UTF-8.
fn lengths(data: &[u8], cr: bool) -> Vec<usize> {
    let data = data.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(data);
    let mut text = String::new();
    for chunk in data.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    if cr {
        text = text.replace("\r\n", "\n").replace('\r', "\n");
    }
    text.split('\n').map(|line| line.chars().count()).collect()
}

/// Every report can be written, and those for programs are JSON.
pub fn check_reports(data: &[u8], options: &ReadOptions) {
    let found = Read::new(data, &ReadOptions { windows: true, ..options.clone() });
    for format in [ReportFormat::Text, ReportFormat::Json, ReportFormat::Sarif, ReportFormat::GitHub] {
        let mut out = Vec::new();
        let mut report = Report::new(format, 2, false, &mut out);
        found.diagnostics().for_each(|diagnostic| report.show(diagnostic).expect("memory takes it"));
        report.finish(&found.summary).expect("memory takes it");
        let written = String::from_utf8(out).expect("a report is text");
        let for_programs = matches!(format, ReportFormat::Json | ReportFormat::Sarif);
        let acts = |char: char| char.is_control() && char != '\n';
        assert!(for_programs || !written.contains(acts), "{format:?} has control characters: {written:?}");
        if for_programs {
            let json: serde_json::Value = serde_json::from_str(&written).expect("a report is JSON");
            let list = json.pointer("/diagnostics").or_else(|| json.pointer("/runs/0/results"));
            let listed = list.and_then(|list| list.as_array()).map(Vec::len);
            assert_eq!(listed, Some(found.diagnostics().count()), "{format:?}: {written}");
        }
    }
}

/// The result is the same however the source hands out its bytes.
pub fn check_pieces(data: &[u8], options: &ReadOptions, piece: usize) {
    let whole = Read::new(data, options);
    let mut items = Vec::new();
    let mut source = BufReader::with_capacity(piece, data);
    let summary = read(&mut source, NAME, options, &mut |item| items.push(item)).expect("memory is read");
    assert_eq!((items, summary), (whole.items, whole.summary), "{options:?} {piece} bytes at a time: {:?}", text(data));
}

/// What is in both files is told, and nothing goes wrong with a validation file of any bytes.
pub fn check_overlap(data: &[u8], options: &ReadOptions) {
    let validation = read_validation(&mut &*data, options).expect("memory is read");
    let options = ReadOptions { validation: Some(validation), has_validation: true, ..options.clone() };
    check(data, &options);
}

/// A long file is read in chunks on several threads: what is said of a line depends neither on where the chunks are cut
/// nor on the number of threads.
///
/// The file is `data` over and over. Spaces in front of it move the cuts; what stands in the first line moves with them.
pub fn check_chunks(data: &[u8], options: &ReadOptions, spaces: usize) {
    const LONG: usize = 300 << 10;
    let bom = if data.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
    let mut file = data.repeat(LONG / data.len().max(1) + 1);
    let one = in_pool(1, &file, options);
    let several = in_pool(3, &file, options);
    assert_eq!(one.summary, several.summary, "{options:?} {:?}", text(data));
    assert!(one.items == several.items, "threads change what is said: {options:?} {:?}", text(data));
    file.splice(bom..bom, std::iter::repeat_n(b' ', spaces));
    let moved = in_pool(3, &file, options);
    // Spaces before what is no text make it text.
    let refused = |read: &Read| {
        let kinds = ["wrong-file-type", "file-utf16"];
        read.diagnostics().any(|found| kinds.contains(&found.rule))
    };
    if refused(&one) || refused(&moved) {
        return;
    }
    let told = |read: &Read, spaces: usize| -> Vec<String> {
        let place = |found: &Diagnostic| {
            let first = found.line == 1;
            let column = found.column.saturating_sub(if first { spaces } else { 0 }).max(1);
            // Words may name a column of the first line, or a byte of the file.
            let message = if first || found.rule == "file-not-utf8" { "" } else { &found.message };
            format!("{}:{column} {} {} {message}", found.line, found.rule, found.pointer)
        };
        read.diagnostics().map(place).collect()
    };
    let (before, after) = (told(&one, 0), told(&moved, spaces));
    let differs = before.iter().zip(&after).find(|(before, after)| before != after);
    assert_eq!(differs, None, "{spaces} spaces change what is said: {options:?} {:?}", text(data));
    assert_eq!(before.len(), after.len(), "{spaces} spaces change how much is said: {options:?} {:?}", text(data));
    let examples = [&one, &moved].map(|read| read.examples().map(Example::line).collect::<Vec<_>>());
    assert_eq!(examples[0], examples[1], "{spaces} spaces change what is good: {options:?} {:?}", text(data));
}

fn in_pool(threads: usize, data: &[u8], options: &ReadOptions) -> Read {
    // A window shows the spaces.
    let options = ReadOptions { windows: false, ..options.clone() };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be had");
    pool.install(|| Read::new(data, &options))
}
