//! Records that the validation file has too.

use std::{fmt, sync::Arc};

use super::{answers::Answers, duplicates::Duplicates};
use crate::{
    facts::Facts,
    findings::{Findings, Place},
};

/// What a validation file has: numbers of its records and prompts, to look for them in the training file. See
/// [`crate::read_validation`].
#[derive(Clone)]
pub struct Validation(Arc<Seen>);

struct Seen {
    records: Duplicates,
    prompts: Answers,
}

impl Validation {
    pub(super) fn new(records: Duplicates, prompts: Answers) -> Validation {
        Validation(Arc::new(Seen { records, prompts }))
    }

    /// Findings are about a record of the training file.
    pub(super) fn check(&self, facts: &Facts, place: Place, out: &mut Findings) {
        if let Some(line) = self.0.records.line_of(facts.fingerprint) {
            return train_validation_overlap("record", line, place, out);
        }
        let prompt = facts.dialogue.as_ref().and_then(|dialogue| dialogue.prompt);
        if let Some(line) = prompt.and_then(|prompt| self.0.prompts.line_of(prompt)) {
            train_validation_overlap("prompt", line, place, out);
        }
    }
}

impl fmt::Debug for Validation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Validation(..)")
    }
}

/// A record, or its prompt, is in the validation file too.
///
/// The model has then seen what it is examined on, and the validation loss says less than it seems to. A prompt is all
/// that comes before the final answer, system message and tools included; spaces around a text do not count. Checked
/// where a validation file is given; the line is the training file's. Delete it from one of the files, or split again:
/// `afina split` keeps equal prompts together.
fn train_validation_overlap(what: &str, line: u32, place: Place, out: &mut Findings) {
    out.warning(
        "train-validation-overlap",
        place,
        format!("expected a {what} that is not in the validation file, found that of its line {line}"),
        "delete it from one of the two files",
    );
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::{Method, Profile, ReadOptions, read_validation, testing::*};

    fn record(user: &str, answer: &str) -> String {
        format!(r#"{{"messages":[{{"role":"user","content":"{user}"}},{{"role":"assistant","content":"{answer}"}}]}}"#)
            + "\n"
    }

    #[test]
    fn records_and_prompts_of_the_validation_file_are_found() {
        let mut options = ReadOptions::new(Method::Sft, Profile::OpenAi);
        let validation = record("a", "1") + "\n" + &record("b", "2") + &record("b", "2");
        options.validation = Some(read_validation(&mut validation.as_bytes(), &options).unwrap());
        check_with(
            &options,
            record("c", "3") + &record("b", "2") + &record("a ", "4"),
            expect![[r#"
            2:1: warning[train-validation-overlap]: expected a record that is not in the validation file, found that of its line 3
            3:1: warning[train-validation-overlap]: expected a prompt that is not in the validation file, found that of its line 1
        "#]],
        );
    }

    #[test]
    fn a_prompt_without_a_question_is_no_prompt() {
        let mut options = ReadOptions::new(Method::Sft, Profile::OpenAi);
        let said = |text: &str| format!(r#"{{"messages":[{{"role":"assistant","content":"{text}"}}]}}"#) + "\n";
        options.validation = Some(read_validation(&mut said("one").as_bytes(), &options).unwrap());
        check_with(
            &options,
            said("two"),
            expect![[r#"
            1:13: warning[missing-user-message] /messages: expected a user message, found none
        "#]],
        );
    }
}
