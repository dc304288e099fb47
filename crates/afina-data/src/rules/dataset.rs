//! The file as a whole: how many examples, and whether they repeat.

use std::hash::{DefaultHasher, Hasher};

use crate::{
    diagnostic::Severity,
    findings::{Findings, Place},
    json::{Kind, Value},
    read::Profile,
};

const START: Place = Place::byte(0);

/// The file has fewer than 10 examples.
///
/// OpenAI and Azure refuse it ("Training file has 7 example(s), but must have at least 10 examples"); 50 to 100 good
/// ones are a start. Not checked for `--profile local` and `together`.
pub(crate) fn too_few_examples(examples: usize, out: &mut Findings) {
    if (1..10).contains(&examples) && matches!(out.options.profile, Profile::OpenAi | Profile::Azure) {
        out.error(
            "too-few-examples",
            START,
            format!("expected at least 10 examples, found {examples}"),
            "add examples: OpenAI recommends to start with 50",
        );
    }
}

/// The file has fewer than 50 examples.
///
/// It is accepted, but OpenAI recommends to start with 50 well-made ones.
pub(crate) fn few_examples(examples: usize, out: &mut Findings) {
    let from = if matches!(out.options.profile, Profile::OpenAi | Profile::Azure) { 10 } else { 1 };
    if (from..50).contains(&examples) {
        out.add(
            Severity::Info,
            "few-examples",
            START,
            format!("expected 50 examples to start with, found {examples}"),
            "add examples if the answers do not get better",
        );
    }
}

/// Examples have no system message.
///
/// Nothing is wrong with it, but the prompts in use should then have none either: a model behaves best with the system
/// prompt it was trained with. Said once, at the first such example.
pub(crate) fn missing_system_message(without: usize, examples: usize, out: &mut Findings) {
    let message = format!("{without} of {examples} examples have no system message, the first is here");
    out.add(Severity::Info, "missing-system-message", START, message, "train with the system prompt that you will use");
}

/// Two records are the same.
///
/// The same JSON value, whatever the order of keys and the spaces. Its examples count twice in training. Delete one.
pub(crate) fn duplicate_example(record: Value, first_line: usize, out: &mut Findings) {
    out.warning(
        "duplicate-example",
        record,
        format!("expected a new example, found the one of line {first_line} again"),
        "delete one of them",
    );
}

/// A number that is the same for the same JSON value, whatever the order of its keys.
///
/// 64 bits: among a million different records two have the same number with a probability of 3 in 10⁸.
pub(crate) fn fingerprint(value: Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u8(value.kind() as u8);
    match value.kind() {
        Kind::Null | Kind::True | Kind::False => {}
        Kind::Number => hasher.write(value.raw().as_bytes()),
        Kind::String | Kind::Key => hasher.write(value.text().unwrap_or_default().as_bytes()),
        Kind::Array => value.items().for_each(|item| hasher.write_u64(fingerprint(item))),
        Kind::Object => {
            let sum = value.members().fold(0u64, |sum, member| {
                let mut pair = DefaultHasher::new();
                pair.write_u64(fingerprint(member.key));
                pair.write_u64(fingerprint(member.value));
                sum.wrapping_add(pair.finish())
            });
            hasher.write_u64(sum);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Parser;

    fn print(text: &str) -> u64 {
        fingerprint(Parser::default().parse(text, 0).root().unwrap())
    }

    #[test]
    fn the_number_of_examples_is_judged_by_the_profile() {
        use crate::{Method, Profile, ReadOptions, testing::read_all};
        let rules = |count: usize, profile| {
            let record = |index| {
                format!(
                    r#"{{"messages":[{{"role":"user","content":"{index}"}},{{"role":"assistant","content":"ok"}}]}}"#
                )
            };
            let file: String = (0..count).map(|index| record(index) + "\n").collect();
            let (diagnostics, ..) = read_all(file.as_bytes(), &ReadOptions::new(Method::Sft, profile));
            diagnostics.iter().map(|diagnostic| diagnostic.rule).collect::<Vec<_>>()
        };
        assert_eq!(rules(9, Profile::OpenAi), ["too-few-examples", "missing-system-message"]);
        assert_eq!(rules(10, Profile::OpenAi), ["few-examples", "missing-system-message"]);
        assert_eq!(rules(9, Profile::Local), ["few-examples", "missing-system-message"]);
        assert_eq!(rules(50, Profile::OpenAi), ["missing-system-message"]);
    }

    #[test]
    fn a_record_that_comes_again_is_found_in_any_spelling() {
        let file = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"ok\"}]}\n\
                    {\"messages\": [{\"content\":\"a\",\"role\":\"user\"}, {\"role\":\"assistant\",\"content\":\"o\\u006b\"}]}";
        crate::testing::check(
            file,
            expect_test::expect![[r#"
            2:1: warning[duplicate-example]: expected a new example, found the one of line 1 again
        "#]],
        );
    }

    #[test]
    fn the_order_of_keys_and_the_way_of_writing_do_not_count() {
        assert_eq!(print(r#"{"a":1,"b":["é",null]}"#), print(r#"{ "b" : ["\u00e9", null], "a": 1 }"#));
    }

    #[test]
    fn anything_else_counts() {
        let all = [
            r#"{"a":1,"b":2}"#,
            r#"{"a":2,"b":1}"#,
            r#"["a","b"]"#,
            r#"["b","a"]"#,
            r#"["ab"]"#,
            r#"[["a"],"b"]"#,
            "[]",
            "{}",
            r#""1""#,
            "1",
        ];
        let prints: std::collections::HashSet<u64> = all.iter().map(|text| print(text)).collect();
        assert_eq!(prints.len(), all.len());
    }
}
