//! Records that nearly come again.

use std::mem;

use crate::{
    diagnostic::Severity,
    facts::Dialogue,
    findings::{Findings, Place},
    similar::{MAX_RECORDS, NearDuplicate, NearDuplicates},
};

/// The signatures so far.
#[derive(Default)]
pub(super) struct Repeats {
    near: NearDuplicates,
}

impl Repeats {
    /// Takes a record that is no exact duplicate.
    pub(super) fn add(&mut self, dialogue: &mut Dialogue, line: usize) {
        if let Some(signature) = dialogue.signature.take() {
            self.near.add(line, signature);
        }
    }

    pub(super) fn finish(&mut self, out: &mut Findings) {
        let (found, not_kept) = mem::take(&mut self.near).finish();
        found.into_iter().for_each(|found| near_duplicate_example(found, out));
        if not_kept > 0 {
            not_compared(not_kept, out);
        }
    }
}

/// Two records say nearly the same.
///
/// Either they have the same words in the same order, whatever the case, the spaces and the punctuation; or both what
/// is asked and the final answer are at least 85 % alike in their sequences of three words. Records with another system
/// message, other tools or other images are never near duplicates; nor is a text similar because of a template, a
/// document or an answer that several records share: what four records (and 2 % of those around) have in common does not
/// count. Like an exact copy, it weighs twice in training.
///
/// ```json
/// {"messages": [{"role": "user", "content": "Where is Cuzco?"}, {"role": "assistant", "content": "In Peru."}]}
/// {"messages": [{"role": "user", "content": "where is  Cuzco"}, {"role": "assistant", "content": "In Peru!"}]}
/// ```
///
/// Similarity is estimated (MinHash), with a standard error of 5 % at 85 %; of pairs that are just as similar one in
/// sixteen is not found, of those with 95 % one in three hundred. Of a very large file the first 1,048,576 records are
/// what others are compared with, and that is said. Delete one of the two, or make them differ.
fn near_duplicate_example(found: NearDuplicate, out: &mut Findings) {
    let NearDuplicate { line, earlier, similarity } = found;
    let alike = match similarity {
        1.0 => "the same words as".to_owned(),
        _ => format!("nearly the same words (about {:.0} %) as", 100.0 * similarity),
    };
    out.warning(
        "near-duplicate-example",
        Place::line(line as usize),
        format!("expected a new example, found {alike} in line {earlier}"),
        "delete one of them, or make them differ",
    );
}

fn not_compared(records: usize, out: &mut Findings) {
    out.add(
        Severity::Info,
        "near-duplicate-example",
        Place::line(1),
        format!("{records} records were compared with the first {MAX_RECORDS} only, not with one another"),
        "split the file to compare all of them",
    );
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::{Method, Profile, ReadOptions, testing::check_dataset};

    fn sft() -> ReadOptions {
        ReadOptions::new(Method::Sft, Profile::OpenAi)
    }

    fn record(user: &str, answer: &str) -> String {
        format!(r#"{{"messages":[{{"role":"user","content":"{user}"}},{{"role":"assistant","content":"{answer}"}}]}}"#)
            + "\n"
    }

    #[test]
    fn the_same_words_in_another_dress_are_a_near_duplicate() {
        let file = record("Where is Cuzco?", "In Peru.") + &record("where is\\n Cuzco", "**In Peru!**");
        check_dataset(
            &sft(),
            &file,
            expect![[r#"
            2:1: warning[near-duplicate-example]: expected a new example, found the same words as in line 1
        "#]],
        );
    }

    #[test]
    fn an_exact_copy_is_reported_once() {
        let file = record("Where is Cuzco?", "In Peru.").repeat(2);
        check_dataset(
            &sft(),
            &file,
            expect![[r#"
            2:1: warning[duplicate-example]: expected a new example, found the one of line 1 again
        "#]],
        );
    }

    #[test]
    fn a_preference_record_repeats_with_both_answers() {
        let record = |user: &str, good: &str, bad: &str| {
            let answer = |text| format!(r#"[{{"role":"assistant","content":"{text}"}}]"#);
            let (good, bad) = (answer(good), answer(bad));
            format!(
                r#"{{"input":{{"messages":[{{"role":"user","content":"{user}"}}]}},"preferred_output":{good},"non_preferred_output":{bad}}}"#
            ) + "\n"
        };
        let file = record("Where is Cuzco?", "In Peru.", "No idea.")
            + &record("Where is Cuzco?", "in Peru", "No idea")
            + &record("Where is Cuzco?", "In Peru.", "In Chile.");
        check_dataset(
            &ReadOptions::new(Method::Dpo, Profile::OpenAi),
            &file,
            expect![[r#"
            2:1: warning[near-duplicate-example]: expected a new example, found the same words as in line 1
        "#]],
        );
    }

    #[test]
    fn the_same_conversation_with_other_weights_is_another_example() {
        let record = |first: u8, second: u8| {
            let answer = |text: &str, weight| format!(r#"{{"role":"assistant","content":"{text}","weight":{weight}}}"#);
            let (first, second) = (answer("In Peru.", first), answer("3,400 m.", second));
            format!(
                r#"{{"messages":[{{"role":"user","content":"Where is Cuzco?"}},{first},{{"role":"user","content":"How high?"}},{second}]}}"#
            ) + "\n"
        };
        check_dataset(&sft(), record(1, 1) + &record(0, 1), expect![[""]]);
    }

    #[test]
    fn a_record_with_an_error_is_compared_once_it_is_mended() {
        let file =
            record("Where is Cuzco?", "In Peru.") + &record("where is Cuzco", "In Peru").replace("assistant", "bot");
        check_dataset(
            &sft(),
            &file,
            expect![[r#"
            2:65: error[unknown-role] /messages/1/role: expected role `system`, `user`, `assistant` or `tool`, found `bot`
        "#]],
        );
    }

    #[test]
    fn another_system_message_makes_another_example() {
        let record = |system: &str| {
            format!(
                r#"{{"messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"Where is Cuzco?"}},{{"role":"assistant","content":"In Peru."}}]}}"#
            ) + "\n"
        };
        check_dataset(&sft(), record("Be brief.") + &record("Be kind."), expect![[""]]);
    }
}
