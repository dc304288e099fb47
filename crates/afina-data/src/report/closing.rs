//! What a report in text ends with: which rules said how much, and how to go on.

use std::{collections::BTreeMap, fmt::Write};

use super::text::Counts;
use crate::{Safety, diagnostic::Severity, number::grouped, rules::rules};

type Rules = BTreeMap<(Severity, &'static str), Counts>;

/// A line a rule, the gravest and the most frequent first; nothing where the diagnostics themselves are seen at a
/// glance.
pub(super) fn table(counts: &Rules, several_files: bool) -> String {
    /// So many diagnostics of several rules need no table, and of one rule so many.
    const FEW: usize = 6;
    const FEW_OF_ONE: usize = 20;
    /// Rows, at most.
    const ROWS: usize = 15;
    let total: usize = counts.values().map(|counts| counts.total).sum();
    if total <= if counts.len() > 1 { FEW } else { FEW_OF_ONE } {
        return String::new();
    }
    let mut rows: Vec<_> = counts.iter().collect();
    rows.sort_by_key(|((severity, _), counts)| (*severity, std::cmp::Reverse(counts.total)));
    let width = rows.iter().take(ROWS).map(|((_, rule), _)| rule.len()).max().unwrap_or(0);
    let mut text = format!("\n{:<width$}  severity   count  first line\n", "rule");
    for ((severity, rule), counts) in rows.iter().take(ROWS) {
        let (file, line) = &counts.first;
        let first = if several_files { format!("{file}:{line}") } else { line.to_string() };
        let _ = writeln!(text, "{rule:<width$}  {:<8} {:>7}  {first}", severity.as_str(), grouped(counts.total as u64));
    }
    if rows.len() > ROWS {
        let _ = writeln!(text, "… and {} more rules", rows.len() - ROWS);
    }
    text + "\n"
}

/// What the user can run next: to see what was left out, to have faults mended.
pub(super) fn closing(counts: &Rules, file: &str, hidden: bool) -> String {
    let mut text = String::new();
    if hidden {
        text += "not all are shown: `--format json` has every one\n";
    }
    let is_mended = |rule: &str| rules().iter().any(|known| known.id == rule && known.fix == Some(Safety::Safe));
    // What came through a pipe is gone.
    if file != "-" && file != "<stdin>" && counts.keys().any(|(_, rule)| is_mended(rule)) {
        let _ = writeln!(text, "what can be mended: afina validate {} --fix OUT", quoted(file));
    }
    text
}

/// As a shell takes it for one word.
fn quoted(file: &str) -> String {
    let plain = |char: char| char.is_alphanumeric() || "/._-+:=@%,~".contains(char);
    if file.chars().all(plain) { file.to_owned() } else { format!("'{}'", file.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_s_name_is_one_word_for_the_shell() {
        assert_eq!(quoted("datos/año-1.jsonl"), "datos/año-1.jsonl");
        assert_eq!(quoted("my data's.jsonl"), r"'my data'\''s.jsonl'");
    }
}
