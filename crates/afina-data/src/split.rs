//! A file into training and validation lines, so that nothing in one has its like in the other.

mod groups;
mod key;
mod labels;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Read, Seek, Write},
};

use serde::Serialize;

use crate::{
    json::{Kind, Parser, Value},
    jsonl::MAX_LINE_BYTES,
};
use groups::Groups;
use key::signature;
pub use key::{opening_key, prompt_key};
use labels::Labels;

/// What is on which side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Split {
    /// Records of the file; blank lines are none, and are not copied.
    pub records: usize,
    pub train: usize,
    pub validation: usize,
    /// Records that stay together are one group: of one key, or nearly the same.
    pub groups: usize,
    /// Records that were looked at for near duplicates only among those before them: the file has too many.
    pub not_compared: usize,
    /// Where the last answers are labels, as in classification: how many records of training and of validation end
    /// with each.
    pub answers: Option<BTreeMap<String, [usize; 2]>>,
}

impl Split {
    /// Labels that only one side has.
    pub fn lopsided(&self) -> impl Iterator<Item = (&str, [usize; 2])> {
        let answers = self.answers.iter().flatten();
        answers.filter(|(_, counts)| counts.contains(&0)).map(|(answer, counts)| (answer.as_str(), *counts))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    #[error("expected a share of validation between 0 and 1, found {0}")]
    Share(f64),
    #[error("failed to read `{file}`")]
    Read { file: String, source: io::Error },
    #[error("failed to write the lines of a side")]
    Write { source: io::Error },
    /// A line without a whole JSON value: the file is one array, its records span lines, or the line is broken.
    #[error("`{file}`:{line}: expected a record on the line, found none")]
    NotARecord { file: String, line: usize },
    #[error("`{file}`:{line}: expected a line of at most {} MB, found a longer one", MAX_LINE_BYTES >> 20)]
    LineTooLong { file: String, line: usize },
    #[error("`{file}`: expected the same lines again, found others")]
    Changed { file: String },
    #[error("expected two groups of records at least, found {groups} ({records} records)")]
    OneGroup { records: usize, groups: usize },
}

impl SplitError {
    /// What to do about it; empty where the source says it.
    pub fn hint(&self) -> String {
        let hint = match self {
            SplitError::Share(_) => "write `--validation 0.1` for a tenth",
            SplitError::Read { .. } | SplitError::Write { .. } => "",
            SplitError::NotARecord { .. } => {
                "run `afina convert` to put each record on a line, or `afina validate` to see what is wrong"
            }
            SplitError::LineTooLong { .. } => "make images smaller",
            SplitError::Changed { .. } => "split it when nobody writes to it",
            SplitError::OneGroup { .. } => "add records: those with the same prompt cannot be on two sides",
        };
        hint.to_owned()
    }
}

/// How to split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitOptions {
    /// Share of the records that is validation: between 0 and 1.
    pub validation: f64,
    pub seed: u64,
}

/// Copies each line of `source` to `train` or to `validation`, byte for byte and in order.
///
/// Records of the same `key` stay together, and so do near duplicates (as the rule `near-duplicate-example` tells them).
/// The groups stand in an order that follows from their keys and the seed alone, and the first of them are validation,
/// until it has its share as nearly as whole groups allow; each side has a group, where there are two. So lines that are
/// added move few others. [`prompt_key`] keeps together what has the same prompt; [`opening_key`] also what begins
/// alike. Answers are not stratified: [`Split::lopsided`] names the labels that a side lacks.
///
/// The source is read twice. In memory are about 100 bytes a group, 5 a record, and about 100 for each of the first
/// million records to find near duplicates.
///
/// A byte order mark at the head of the file is not copied. Where an error is returned, what was written is of no use.
pub fn split<S: BufRead + Seek>(
    source: &mut S,
    file: &str,
    options: SplitOptions,
    key: &mut dyn FnMut(Value) -> u64,
    train: &mut dyn Write,
    validation: &mut dyn Write,
) -> Result<Split, SplitError> {
    let SplitOptions { validation: share, seed } = options;
    if !(share > 0.0 && share < 1.0) {
        return Err(SplitError::Share(share));
    }
    let (mut groups, mut labels, mut parser) = (Groups::default(), Labels::default(), Parser::default());
    let records = each_line(source, file, &mut |bytes, line| {
        let text = String::from_utf8_lossy(bytes);
        let parsed = parser.parse(&text, 0);
        let record = parsed.root().filter(|record| record.kind() == Kind::Object && parsed.end == text.len());
        let Some(record) = record else { return Err(SplitError::NotARecord { file: file.to_owned(), line }) };
        groups.add(key(record), signature(record));
        labels.add(record);
        Ok(())
    })?;
    let Some(chosen) = groups.choose(share, seed) else {
        return Err(SplitError::OneGroup { records, groups: records.min(1) });
    };
    let mut sides = chosen.validation.iter();
    let again = |error| SplitError::Read { file: file.to_owned(), source: error };
    source.rewind().map_err(again)?;
    let copied = each_line(source, file, &mut |bytes, _| {
        let changed = || SplitError::Changed { file: file.to_owned() };
        let out: &mut dyn Write = if *sides.next().ok_or_else(changed)? { validation } else { train };
        out.write_all(bytes).map_err(|source| SplitError::Write { source })
    })?;
    if copied != records {
        return Err(SplitError::Changed { file: file.to_owned() });
    }
    train.flush().and_then(|()| validation.flush()).map_err(|source| SplitError::Write { source })?;
    let held = chosen.validation.iter().filter(|&&side| side).count();
    Ok(Split {
        records,
        train: records - held,
        validation: held,
        groups: chosen.groups,
        not_compared: chosen.not_compared,
        answers: labels.count(&chosen.validation),
    })
}

/// Takes a line, with its end, and its number.
type Take<'t> = dyn FnMut(&[u8], usize) -> Result<(), SplitError> + 't;

/// Hands out each line that is not blank, with its end and its number; returns how many there are.
fn each_line(source: &mut dyn BufRead, file: &str, take: &mut Take) -> Result<usize, SplitError> {
    let (mut bytes, mut line, mut count) = (Vec::new(), 0, 0);
    loop {
        bytes.clear();
        let read = source.take(MAX_LINE_BYTES as u64 + 2).read_until(b'\n', &mut bytes);
        if read.map_err(|source| SplitError::Read { file: file.to_owned(), source })? == 0 {
            return Ok(count);
        }
        line += 1;
        if bytes.len() > MAX_LINE_BYTES + 1 {
            return Err(SplitError::LineTooLong { file: file.to_owned(), line });
        }
        let bom = if line == 1 && bytes.starts_with("\u{FEFF}".as_bytes()) { 3 } else { 0 };
        if !bytes[bom..].trim_ascii().is_empty() {
            count += 1;
            take(&bytes[bom..], line)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn record(question: &str, answer: &str) -> String {
        format!(
            "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{question}\"}},{{\"role\":\"assistant\",\"content\":\"{answer}\"}}]}}\n"
        )
    }

    fn run(source: &str, validation: f64, seed: u64) -> Result<(Split, String, String), SplitError> {
        let (mut train, mut held) = (Vec::new(), Vec::new());
        let options = SplitOptions { validation, seed };
        let done = split(&mut io::Cursor::new(source), "x.jsonl", options, &mut prompt_key, &mut train, &mut held)?;
        Ok((done, String::from_utf8(train).unwrap(), String::from_utf8(held).unwrap()))
    }

    fn sides(source: &str, seed: u64) -> HashMap<String, bool> {
        let (_, train, held) = run(source, 0.2, seed).unwrap();
        let sides = train.lines().map(|line| (line, false)).chain(held.lines().map(|line| (line, true)));
        sides.map(|(line, side)| (line.to_owned(), side)).collect()
    }

    #[test]
    fn every_line_is_on_one_side_in_its_order() {
        let source: String = (0..1000).map(|index| record(&format!("q{index}"), "a")).collect();
        let (done, train, held) = run(&source, 0.2, 7).unwrap();
        assert_eq!((done.records, done.groups, done.train + done.validation), (1000, 1000, 1000));
        assert_eq!(done.validation, 200);
        let (mut train, mut held) = (train.lines().peekable(), held.lines().peekable());
        for line in source.lines() {
            assert!(train.next_if_eq(&line).or_else(|| held.next_if_eq(&line)).is_some(), "{line}");
        }
        assert_eq!((train.next(), held.next()), (None, None));
    }

    #[test]
    fn the_same_prompt_is_never_on_two_sides() {
        let questions = ["How are you?", "  how ARE\\nyou? ", "how\\u0020are you?"];
        let source: String = (0..300)
            .map(|index| record(&format!("{} {}", questions[index % 3], index / 3), &format!("answer {index}")))
            .collect();
        for seed in 0..5 {
            let (done, train, _) = run(&source, 0.3, seed).unwrap();
            assert_eq!(done.groups, 100);
            for group in 0..100 {
                let lines = (0..3).filter(|index| train.contains(&format!("answer {}\"", group * 3 + index))).count();
                assert!(lines == 0 || lines == 3, "group {group}: {lines}");
            }
        }
    }

    #[test]
    fn other_lines_move_few_and_other_line_ends_none_and_another_seed_does() {
        let first: String = (0..200).map(|index| record(&format!("q{index}"), "a")).collect();
        let more: String = (200..400).map(|index| record(&format!("q{index}"), "a")).collect();
        let (alone, together) = (sides(&first, 3), sides(&(more + &first), 3));
        let moved = alone.iter().filter(|(line, side)| together[*line] != **side).count();
        assert!(moved <= 10, "{moved} of 200");
        assert_ne!(alone, sides(&first, 4));
        assert_eq!(alone, sides(&first.replace('\n', "\r\n"), 3));
    }

    #[test]
    fn the_share_is_met_as_nearly_as_whole_groups_allow() {
        for seed in 0..20 {
            let source: String = (0..26).map(|index| record(&format!("q{index}"), &format!("a{index}"))).collect();
            assert_eq!(run(&source, 0.2, seed).unwrap().0.validation, 5);
            let source: String = (0..52).map(|index| record(&format!("q{index}"), &format!("a{index}"))).collect();
            assert_eq!(run(&source, 0.1, seed).unwrap().0.validation, 5);
            // Groups of three: 4 of 13 is nearest to 12.
            let source: String =
                (0..39).map(|index| record(&format!("q{}", index / 3), &format!("a{index}"))).collect();
            assert_eq!(run(&source, 0.3, seed).unwrap().0.validation, 12);
            // Two groups, one of them most of the file: one on each side.
            let source = record("x", "y") + &record("q", "a").repeat(30);
            assert_eq!(run(&source, 0.4, seed).unwrap().0.validation, 1);
            let source = record("x", "y") + &record("q", "a");
            assert_eq!(run(&source, 0.001, seed).unwrap().0.validation, 1);
            assert_eq!(run(&source, 0.999, seed).unwrap().0.validation, 1);
        }
    }

    #[test]
    fn near_copies_stay_together() {
        let question = |index: usize| format!("¿Cuánto cuesta enviar el paquete {index} a Cuzco");
        let plain: String = (0..20).map(|index| record(&question(index), "Depende")).collect();
        let dressed: String = (0..20).map(|index| record(&format!("{}?.", question(index)), "DEPENDE.")).collect();
        let long = |index: usize, last: &str| {
            let text: String = (0..60).map(|word| format!("t{index}p{word} ")).collect();
            record(&format!("{text}{last}"), &text)
        };
        let texts: String = (0..20).map(|index| long(index, "gracias") + &long(index, "muchas gracias")).collect();
        for seed in 0..5 {
            let (done, train, held) = run(&(plain.clone() + &dressed + &texts), 0.3, seed).unwrap();
            assert_eq!((done.records, done.groups, done.validation), (80, 40, 24), "seed {seed}");
            for index in 0..20 {
                for part in [format!("paquete {index} a"), format!("t{index}p0 ")] {
                    let counts = [&train, &held].map(|side| side.lines().filter(|line| line.contains(&part)).count());
                    assert!(counts == [0, 2] || counts == [2, 0], "{part}: {counts:?}");
                }
            }
        }
    }

    #[test]
    fn lines_are_copied_to_the_byte() {
        let source =
            format!("\u{FEFF}{}\n\n{}", record("é\\u00e9", "a").replace('\n', " \r\n"), record("b", "c").trim());
        let seed = (0..99).find(|&seed| run(&source, 0.5, seed).is_ok()).unwrap();
        let (_, train, held) = run(&source, 0.5, seed).unwrap();
        let mut both = [train, held];
        both.sort_by_key(|side| !side.contains('é'));
        assert_eq!(both, [record("é\\u00e9", "a").replace('\n', " \r\n"), record("b", "c").trim().to_owned()]);
    }

    #[test]
    fn labels_are_counted_and_a_missing_one_is_named() {
        let source: String =
            (0..100).map(|index| record(&format!("q{index}"), if index == 5 { "rare" } else { "often" })).collect();
        let (done, ..) = run(&source, 0.2, 1).unwrap();
        let answers = done.answers.as_ref().unwrap();
        assert_eq!(answers.values().flatten().sum::<usize>(), 100);
        assert_eq!(done.lopsided().map(|(answer, _)| answer).collect::<Vec<_>>(), ["rare"]);
    }

    #[test]
    fn free_texts_are_no_labels() {
        let texts = |count: usize, of: usize, words: &str| -> String {
            (0..count).map(|index| record(&format!("q{index}"), &format!("{words} {}", index % of))).collect()
        };
        let answers = |source: &str| run(source, 0.2, 1).unwrap().0.answers;
        assert!(answers(&texts(90, 6, "etiqueta")).is_some());
        assert_eq!(answers(&texts(100, 100, "a")), None);
        assert_eq!(answers(&texts(40, 20, "La factura del pedido ya está en su correo, avise si no llega:")), None);
        assert_eq!(answers(&texts(90, 6, "La factura del pedido ya está en su correo, avise si no llega:")), None);
        assert_eq!(answers(&texts(90, 1, "etiqueta")), None);
    }

    #[test]
    fn one_group_cannot_be_on_two_sides() {
        let source: String = (0..5).map(|index| record(&format!("q{index}"), "a")).collect();
        assert!(matches!(run("", 0.5, 1), Err(SplitError::OneGroup { records: 0, groups: 0 })));
        assert!(matches!(
            run(&record("a", "b").repeat(9), 0.5, 1),
            Err(SplitError::OneGroup { records: 9, groups: 1 })
        ));
        assert!(matches!(run(&source, 1.0, 1), Err(SplitError::Share(_))));
        assert!(matches!(run(&source, f64::NAN, 1), Err(SplitError::Share(_))));
    }

    #[test]
    fn what_is_not_a_record_a_line_is_refused() {
        for (source, at) in [("[{}]", 1), ("{\n\"a\": 1}", 1), ("{\"a\":1}\n{\"b\":", 2), ("{} {}", 1), ("id,text", 1)]
        {
            match run(source, 0.5, 1).unwrap_err() {
                SplitError::NotARecord { line, .. } => assert_eq!(line, at, "{source}"),
                error => panic!("{source}: {error}"),
            }
        }
    }

    #[test]
    fn any_bytes_are_split_or_refused() {
        let seed = record("é \\n x", "{}") + "{\"input\":{\"messages\":[{}]}}\n{\"prompt\":[1,null],\"a\":{}}\n";
        let mut random = crate::testing::Random(3);
        let options = SplitOptions { validation: 0.5, seed: 1 };
        let mut done = 0;
        for _ in 0..5000 {
            let bytes = crate::testing::mutate(seed.as_bytes(), &mut random);
            let (mut train, mut held) = (Vec::new(), Vec::new());
            let result = split(&mut io::Cursor::new(&bytes), "x", options, &mut opening_key, &mut train, &mut held);
            done += usize::from(result.is_ok());
            assert!(train.len() + held.len() <= bytes.len());
        }
        assert!(done > 100, "{done}");
    }
}
