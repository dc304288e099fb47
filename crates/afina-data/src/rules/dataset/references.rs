//! Reinforcement files as a whole: fields for the grader that keep their type, a validation file, how many examples.

use rapidhash::{RapidHashMap, v3::rapidhash_v3};

use crate::{
    findings::{Findings, Place},
    json::{Kind, Value},
    read::{Method, Profile},
    rules::reinforcement,
};

/// More names than any honest file has: from there on nothing is remembered.
const MOST_NAMES: usize = 10_000;

/// A field for the grader, as it is kept of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference {
    name: u64,
    kind: ReferenceKind,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReferenceKind {
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl ReferenceKind {
    const fn described(self) -> &'static str {
        match self {
            ReferenceKind::Boolean => "a boolean",
            ReferenceKind::Number => "a number",
            ReferenceKind::String => "a string",
            ReferenceKind::Array => "an array",
            ReferenceKind::Object => "an object",
        }
    }
}

/// The fields of a record. Null is left out: it says that there is no value.
pub(crate) fn references(record: Value) -> Vec<Reference> {
    let reference = |(key, value): (Value, Value)| {
        let kind = match value.kind() {
            Kind::Null | Kind::Key => return None,
            Kind::False | Kind::True => ReferenceKind::Boolean,
            Kind::Number => ReferenceKind::Number,
            Kind::String => ReferenceKind::String,
            Kind::Array => ReferenceKind::Array,
            Kind::Object => ReferenceKind::Object,
        };
        Some(Reference { name: rapidhash_v3(key.text()?.as_bytes()), kind, place: value.into() })
    };
    reinforcement::references(record).filter_map(reference).collect()
}

/// The fields of a file so far.
#[derive(Default)]
pub(crate) struct References {
    seen: RapidHashMap<u64, Seen>,
}

struct Seen {
    kind: ReferenceKind,
    line: usize,
    /// Other types that were told already, a bit each.
    told: u8,
}

impl References {
    /// The fields of the record in `line`.
    pub(crate) fn check(&mut self, line: usize, references: &[Reference], out: &mut Findings) {
        let is_full = self.seen.len() >= MOST_NAMES;
        for reference in references {
            match self.seen.get_mut(&reference.name) {
                Some(seen) if seen.kind != reference.kind => {
                    let bit = 1 << reference.kind as u8;
                    if seen.told & bit == 0 {
                        seen.told |= bit;
                        rft_reference_inconsistent(reference, seen, out);
                    }
                }
                Some(_) => {}
                None if !is_full => {
                    self.seen.insert(reference.name, Seen { kind: reference.kind, line, told: 0 });
                }
                None => {}
            }
        }
    }
}

/// What can be said of the whole file, of `examples` records.
pub(crate) fn check_size(examples: usize, out: &mut Findings) {
    if out.options.method == Method::Rft {
        rft_missing_validation(examples, out);
        rft_too_many_examples(examples, out);
    }
}

/// A field for the grader has another type than in the lines before.
///
/// A grader is written for one type: where `answer` is `"4"` in one line and `4` in another, one of them is scored
/// wrongly. Write it in one type. Said once for each field and type, at the first line that differs.
fn rft_reference_inconsistent(reference: &Reference, seen: &Seen, out: &mut Findings) {
    out.warning(
        "rft-reference-inconsistent",
        reference.place,
        format!("expected {}, as in line {}, found {}", seen.kind.described(), seen.line, reference.kind.described()),
        "write the field in one type in all lines",
    );
}

/// Reinforcement fine-tuning without a validation file.
///
/// OpenAI and Azure ask for one. Give it with `--validation FILE`; `split` makes one out of a part of the file. Said
/// from 10 examples on: with fewer it is no training file yet.
fn rft_missing_validation(examples: usize, out: &mut Findings) {
    let options = out.options;
    let asked = matches!(options.profile, Profile::OpenAi | Profile::Azure);
    if asked && examples >= 10 && !options.has_validation && !options.is_validation {
        out.error(
            "rft-missing-validation",
            Place::line(1),
            "expected a validation file beside the training file, found none",
            "give one with `--validation FILE`",
        );
    }
}

/// A reinforcement file has more than 50,000 examples, or a validation file more than 1,000.
///
/// OpenAI takes no more. Keep the harder ones.
fn rft_too_many_examples(examples: usize, out: &mut Findings) {
    let (most, file) = if out.options.is_validation { (1_000, "validation") } else { (50_000, "training") };
    if examples > most && matches!(out.options.profile, Profile::OpenAi | Profile::Azure) {
        out.error(
            "rft-too-many-examples",
            Place::line(1),
            format!("expected at most {most} examples in a {file} file, found {examples}"),
            "keep the ones that the model does not solve yet",
        );
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::{ReadOptions, testing::check_with};

    fn record(index: usize, fields: &str) -> String {
        format!(r#"{{"messages":[{{"role":"user","content":"{index}"}}],{fields}}}"#) + "\n"
    }

    #[test]
    fn a_field_keeps_its_type() {
        let fields = [
            r#""answer":"4","ok":true,"n":1,"note":null,"parts":[1]"#,
            r#""answer":"5","ok":false,"n":1.5,"note":"x","parts":["a"]"#,
            r#""answer":6"#,
            r#""answer":7,"ok":"yes""#,
            r#""answer":{"a":1},"note":null"#,
        ];
        let file: String = fields.iter().enumerate().map(|(index, fields)| record(index, fields)).collect();
        check_with(
            &ReadOptions::new(Method::Rft, Profile::OpenAi),
            file,
            expect![[r#"
            3:54: warning[rft-reference-inconsistent] /answer: expected a string, as in line 1, found a number
            4:61: warning[rft-reference-inconsistent] /ok: expected a boolean, as in line 1, found a string
            5:54: warning[rft-reference-inconsistent] /answer: expected a string, as in line 1, found an object
        "#]],
        );
    }

    #[track_caller]
    fn check_count(count: usize, options: ReadOptions, expect: Expect) {
        let mut out = Findings::new(&options);
        check_size(count, &mut out);
        let found = out.resolve(crate::json::Tree { text: "", nodes: &[] }, "x");
        let shown = found.iter().map(|found| format!("{}: {}\n", found.diagnostic.rule, found.diagnostic.message));
        expect.assert_eq(&shown.collect::<String>());
    }

    #[test]
    fn a_training_file_has_a_validation_file() {
        let options = || ReadOptions::new(Method::Rft, Profile::OpenAi);
        check_count(9, options(), expect![[""]]);
        check_count(
            10,
            options(),
            expect![[r#"
            rft-missing-validation: expected a validation file beside the training file, found none
        "#]],
        );
        check_count(10, ReadOptions { has_validation: true, ..options() }, expect![[""]]);
        check_count(10, ReadOptions { is_validation: true, ..options() }, expect![[""]]);
        check_count(10, ReadOptions::new(Method::Rft, Profile::Local), expect![[""]]);
        check_count(10, ReadOptions::new(Method::Sft, Profile::OpenAi), expect![[""]]);
    }

    #[test]
    fn there_are_as_many_examples_as_openai_takes() {
        let options = || ReadOptions { has_validation: true, ..ReadOptions::new(Method::Rft, Profile::OpenAi) };
        check_count(50_000, options(), expect![[""]]);
        check_count(
            50_001,
            options(),
            expect![[r#"
            rft-too-many-examples: expected at most 50000 examples in a training file, found 50001
        "#]],
        );
        check_count(1_000, ReadOptions { is_validation: true, ..options() }, expect![[""]]);
        check_count(
            1_001,
            ReadOptions { is_validation: true, ..options() },
            expect![[r#"
            rft-too-many-examples: expected at most 1000 examples in a validation file, found 1001
        "#]],
        );
    }
}
