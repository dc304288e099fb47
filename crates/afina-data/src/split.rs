//! A file into training and validation lines, so that nothing in one has its like in the other.

mod key;

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, BufRead, Read, Write},
};

use serde::Serialize;

use crate::{
    diagnostic::excerpt,
    json::{Kind, Parser, Value},
    jsonl::MAX_LINE_BYTES,
};
pub use key::{opening_key, prompt_key};

/// Different last answers that are counted each: more are no classes but texts.
const MAX_ANSWERS: usize = 50;
/// Bytes of a last answer that may be a class.
const MAX_ANSWER_BYTES: usize = 200;

/// What is on which side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Split {
    /// Records of the file; blank lines are none, and are not copied.
    pub records: usize,
    pub train: usize,
    pub validation: usize,
    /// Different keys: records of one key are on one side.
    pub groups: usize,
    /// Where there are few different last answers, as in classification: how many records of training and of
    /// validation end with each.
    pub answers: Option<BTreeMap<String, [usize; 2]>>,
}

impl Split {
    /// Last answers that only one side has.
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
    /// `share`: the smallest that puts a group there, where the side is validation; the largest that leaves one, where
    /// it is training. Zero: there is no record at all, or only one group.
    #[error("no record of {records} ({groups} groups) is on the side of {side}")]
    Empty { side: &'static str, records: usize, groups: usize, share: f64 },
}

impl SplitError {
    /// What to do about it; empty where the source says it.
    pub fn hint(&self) -> String {
        match self {
            SplitError::Share(_) => "write `--validation 0.1` for a tenth".to_owned(),
            SplitError::Read { .. } | SplitError::Write { .. } => String::new(),
            SplitError::NotARecord { .. } => {
                "run `afina convert` to put each record on a line, or `afina validate` to see what is wrong".to_owned()
            }
            SplitError::LineTooLong { .. } => "make images smaller".to_owned(),
            SplitError::Empty { groups: 0 | 1, .. } => {
                "add records: those with the same prompt cannot be on two sides".to_owned()
            }
            SplitError::Empty { share, .. } => {
                format!("choose another `--seed`, add records, or write `--validation {share:.3}`")
            }
        }
    }
}

/// How to split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitOptions {
    /// Share of the groups that is validation: between 0 and 1.
    pub validation: f64,
    pub seed: u64,
}

/// Copies each line of `source` to `train` or to `validation`, byte for byte and in order.
///
/// The side of a record follows from its `key` and the seed alone, so lines that are added or taken away move no other
/// line, and records of the same key are never on two sides. [`prompt_key`] keeps together what has the same prompt,
/// exact duplicates included; [`opening_key`] also what begins alike; a key of one's own can keep together what is
/// nearly the same. For the same reason answers are not stratified: [`Split::lopsided`] names the classes that a side
/// lacks. One pass, and 8 bytes a group (twice that while the set of them grows).
///
/// A byte order mark at the head of the file is not copied. Where an error is returned, what was written is of no use.
pub fn split(
    source: &mut dyn BufRead,
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
    let mut done = Split { answers: Some(BTreeMap::new()), ..Split::default() };
    let (mut groups, mut places) = (HashSet::new(), [1.0f64, 0.0]);
    let (mut bytes, mut line, mut parser) = (Vec::new(), 0, Parser::default());
    loop {
        bytes.clear();
        let read = source.take(MAX_LINE_BYTES as u64 + 2).read_until(b'\n', &mut bytes);
        if read.map_err(|source| SplitError::Read { file: file.to_owned(), source })? == 0 {
            break;
        }
        line += 1;
        if bytes.len() > MAX_LINE_BYTES + 1 {
            return Err(SplitError::LineTooLong { file: file.to_owned(), line });
        }
        let bom = if line == 1 && bytes.starts_with("\u{FEFF}".as_bytes()) { 3 } else { 0 };
        let bytes = &bytes[bom..];
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let text = String::from_utf8_lossy(bytes);
        let parsed = parser.parse(&text, 0);
        let record = parsed.root().filter(|record| record.kind() == Kind::Object && parsed.end == text.len());
        let Some(record) = record else { return Err(SplitError::NotARecord { file: file.to_owned(), line }) };
        let key = key(record);
        groups.insert(key);
        let place = key::place(key, seed);
        places = [places[0].min(place), places[1].max(place)];
        let side = usize::from(place < share);
        let out: &mut dyn Write = if side == 1 { validation } else { train };
        out.write_all(bytes).map_err(|source| SplitError::Write { source })?;
        done.records += 1;
        *(if side == 1 { &mut done.validation } else { &mut done.train }) += 1;
        count_answer(record, side, &mut done.answers);
    }
    train.flush().and_then(|()| validation.flush()).map_err(|source| SplitError::Write { source })?;
    done.groups = groups.len();
    done.answers = done.answers.filter(|answers| answers.len() > 1);
    let (records, groups) = (done.records, done.groups);
    let [least, most] = places;
    match (done.train, done.validation) {
        (_, 0) => Err(SplitError::Empty { side: "validation", records, groups, share: above(least) }),
        (0, _) => Err(SplitError::Empty { side: "training", records, groups, share: below(most) }),
        _ => Ok(done),
    }
}

/// The next share of three digits above (or below) a place: one that can be asked for.
fn above(place: f64) -> f64 {
    ((place * 1000.0).floor() + 1.0).min(999.0) / 1000.0
}

fn below(place: f64) -> f64 {
    (place * 1000.0).floor().max(1.0) / 1000.0
}

/// Counts the last answer, until there are too many different ones for classes.
fn count_answer(record: Value, side: usize, answers: &mut Option<BTreeMap<String, [usize; 2]>>) {
    let Some(counts) = answers else { return };
    let answer = key::last_answer(record).filter(|answer| answer.len() <= MAX_ANSWER_BYTES);
    let Some(answer) = answer else {
        *answers = None;
        return;
    };
    counts.entry(excerpt(answer.trim())).or_default()[side] += 1;
    if counts.len() > MAX_ANSWERS {
        *answers = None;
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
        let done = split(&mut source.as_bytes(), "x.jsonl", options, &mut prompt_key, &mut train, &mut held)?;
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
        assert!((150..250).contains(&done.validation), "{}", done.validation);
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
    fn other_lines_and_other_line_ends_move_nothing_and_another_seed_does() {
        let first: String = (0..200).map(|index| record(&format!("q{index}"), "a")).collect();
        let more: String = (200..400).map(|index| record(&format!("q{index}"), "a")).collect();
        let (alone, together) = (sides(&first, 3), sides(&(more + &first), 3));
        assert!(alone.iter().all(|(line, side)| together[line] == *side));
        assert_ne!(alone, sides(&first, 4));
        assert_eq!(alone, sides(&first.replace('\n', "\r\n"), 3));
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
    fn classes_are_counted_and_a_missing_one_is_named() {
        let source: String =
            (0..100).map(|index| record(&format!("q{index}"), if index == 5 { "rare" } else { "often" })).collect();
        let (done, ..) = run(&source, 0.2, 1).unwrap();
        let answers = done.answers.as_ref().unwrap();
        assert_eq!(answers.values().flatten().sum::<usize>(), 100);
        assert_eq!(done.lopsided().map(|(answer, _)| answer).collect::<Vec<_>>(), ["rare"]);
        let texts: String = (0..100).map(|index| record(&format!("q{index}"), &format!("a{index}"))).collect();
        assert_eq!(run(&texts, 0.2, 1).unwrap().0.answers, None);
    }

    #[test]
    fn a_side_without_records_is_refused_with_a_way_out() {
        let source: String = (0..5).map(|index| record(&format!("q{index}"), "a")).collect();
        let error = run(&source, 0.001, 1).unwrap_err();
        let SplitError::Empty { side: "validation", records: 5, groups: 5, share } = error else { panic!("{error}") };
        assert!(error.hint().contains(&format!("--validation {share:.3}")));
        assert!(run(&source, share, 1).is_ok());
        let error = run(&source, 0.999, 1).unwrap_err();
        let SplitError::Empty { side: "training", share, .. } = error else { panic!("{error}") };
        assert!(run(&source, share, 1).is_ok());
        assert!(matches!(run("", 0.5, 1), Err(SplitError::Empty { records: 0, .. })));
        assert!(matches!(run(&record("a", "b").repeat(9), 0.5, 1), Err(SplitError::Empty { groups: 1, .. })));
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
            let result = split(&mut &bytes[..], "x", options, &mut opening_key, &mut train, &mut held);
            done += usize::from(result.is_ok());
            assert!(train.len() + held.len() <= bytes.len());
        }
        assert!(done > 100, "{done}");
    }
}
