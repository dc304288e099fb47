//! The final answers of all examples together.

use crate::{
    facts::Dialogue,
    findings::{Findings, Place},
    read::Method,
    similar::table::Table,
};

/// From this many examples on it can be told what most of them do.
const ENOUGH: usize = 10;

const START: Place = Place::line(1);

/// The prompts so far with what was answered: 8 bytes a record, and 16 to 24 in the table.
#[derive(Default)]
pub(super) struct Answers {
    by_prompt: Table<u64>,
    list: Vec<Answer>,
    count: usize,
    first: Option<u64>,
    differ: bool,
    refusals: usize,
    bytes: u64,
    trained_bytes: u64,
    examples: usize,
}

#[derive(Clone, Copy)]
struct Answer {
    line: u32,
    /// The low half of the answer's hash.
    hash: u32,
}

impl Answers {
    /// Findings are about the record at `place`.
    pub(super) fn check(&mut self, dialogue: &Dialogue, line: usize, place: Place, out: &mut Findings) {
        if let Some(answer) = dialogue.answer {
            self.count += 1;
            self.refusals += usize::from(dialogue.refuses);
            self.differ |= *self.first.get_or_insert(answer) != answer;
        }
        self.examples += 1;
        self.bytes += u64::from(dialogue.bytes);
        self.trained_bytes += u64::from(dialogue.trained_bytes);
        let Some(prompt) = dialogue.prompt else { return };
        let hash = dialogue.answer.unwrap_or_default() as u32;
        match self.find(prompt) {
            None => {
                self.by_prompt.insert(prompt, self.list.len() as u32);
                self.list.push(Answer { line: u32::try_from(line).unwrap_or(u32::MAX), hash });
            }
            Some(earlier) if earlier.hash != hash && dialogue.answer.is_some() => {
                conflicting_answers(earlier.line, place, out);
            }
            Some(_) => {}
        }
    }

    /// Line of the first record with this prompt.
    pub(super) fn line_of(&self, prompt: u64) -> Option<u32> {
        self.find(prompt).map(|answer| answer.line)
    }

    fn find(&self, prompt: u64) -> Option<Answer> {
        self.by_prompt.get(prompt).next().map(|index| self.list[index as usize])
    }

    pub(super) fn finish(&self, out: &mut Findings) {
        if out.options.method != Method::Sft {
            return;
        }
        if self.count >= ENOUGH && !self.differ {
            constant_output(self.count, out);
        }
        if self.count >= ENOUGH && self.refusals * 10 > self.count * 3 {
            refusal_heavy(self.refusals, self.count, out);
        }
        if self.examples >= ENOUGH && self.trained_bytes > 0 && self.trained_bytes * 100 < self.bytes {
            low_trained_share(self.trained_bytes, self.bytes, out);
        }
    }
}

/// The same prompt has another answer elsewhere.
///
/// Everything before the final answer is the same as in an earlier record, tools and system message included, and the
/// answer is not: the model is taught two answers to one question and learns neither. Where both are right, and variety
/// is what you want to teach, leave them.
///
/// ```json
/// {"messages": [{"role": "user", "content": "Are you open on Sunday?"}, {"role": "assistant", "content": "Yes."}]}
/// {"messages": [{"role": "user", "content": "Are you open on Sunday?"}, {"role": "assistant", "content": "We are closed."}]}
/// ```
///
/// Keep the right one, or add to each prompt what makes the difference.
fn conflicting_answers(earlier: u32, place: Place, out: &mut Findings) {
    if out.options.method == Method::Sft {
        out.warning(
            "conflicting-answers",
            place,
            format!("expected the answer that line {earlier} gives to the same prompt, found another"),
            "keep the right one, or add to the prompts what makes the difference",
        );
    }
}

/// Every example has the same final answer.
///
/// The model learns to say it whatever it is asked. Said of files with 10 examples or more. Add examples with other
/// answers.
fn constant_output(examples: usize, out: &mut Findings) {
    out.warning(
        "constant-output",
        START,
        format!("expected answers that differ, found the same one in all {examples} examples"),
        "add examples with other answers",
    );
}

/// More than 30 % of the answers decline to answer.
///
/// The model learns to refuse: of an assistant that was trained on 60 % "I cannot answer this" expect no more help than
/// that. Refusals in English and Spanish are known, by how the final answer begins: "I'm sorry, but I can't …", "Lo
/// siento, no puedo …". Said of files with 10 examples or more. Keep refusals as frequent as the questions that deserve
/// them.
fn refusal_heavy(refusals: usize, answers: usize, out: &mut Findings) {
    let percent = 100.0 * refusals as f64 / answers as f64;
    out.warning(
        "refusal-heavy",
        START,
        format!("expected at most 30 % refusals, found {refusals} in {answers} answers ({percent:.0} %)"),
        "keep refusals as frequent as the questions that deserve them",
    );
}

/// Less than 1 % of the text is trained.
///
/// Every token is paid for, the prompt's as well, and only those of the assistant's messages are learned. Counted in
/// bytes of text (an image as 340), for that needs no tokenizer. Said of files with 10 examples or more. Shorten the
/// prompts, or train on more of the conversation.
fn low_trained_share(trained: u64, all: u64, out: &mut Findings) {
    let percent = 100.0 * trained as f64 / all as f64;
    out.warning(
        "low-trained-share",
        START,
        format!("expected at least 1 % of the text to be trained, found {percent:.2} %"),
        "shorten the prompts, or train on more of each conversation",
    );
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::{Method, Profile, ReadOptions, testing::check_dataset};

    /// Records of a prompt and an answer each.
    #[track_caller]
    fn check_pairs(pairs: impl Iterator<Item = (String, String)>, expect: Expect) {
        let record = |(ask, answer)| {
            format!(
                r#"{{"messages":[{{"role":"user","content":"{ask}"}},{{"role":"assistant","content":"{answer}"}}]}}"#
            ) + "\n"
        };
        let options = ReadOptions::new(Method::Sft, Profile::OpenAi);
        check_dataset(&options, pairs.map(record).collect::<String>(), expect);
    }

    #[test]
    fn two_answers_to_one_prompt_conflict() {
        let pairs =
            [("Open?", "Yes."), ("Closed?", "No."), ("Open?", "No."), ("Open?", " Yes.\\n"), ("Open? ", "Who knows.")];
        check_pairs(
            pairs.map(|(ask, answer)| (ask.to_owned(), answer.to_owned())).into_iter(),
            expect![[r#"
            3:1: warning[conflicting-answers]: expected the answer that line 1 gives to the same prompt, found another
            4:79: warning[assistant-edge-whitespace] /messages/1/content: expected text without whitespace around it, found text that begins with it
            5:1: warning[conflicting-answers]: expected the answer that line 1 gives to the same prompt, found another
            4:1: warning[near-duplicate-example]: expected a new example, found the same words as in line 1
        "#]],
        );
    }

    #[test]
    fn one_answer_to_everything_is_named_from_ten_examples_on() {
        check_pairs((0..9).map(|index| (format!("Ticket {index}"), "billing".to_owned())), expect![[""]]);
        check_pairs(
            (0..10).map(|index| (format!("Ticket {index}"), "billing".to_owned())),
            expect![[r#"
            1:1: warning[constant-output]: expected answers that differ, found the same one in all 10 examples
        "#]],
        );
        let nearly = |index| (format!("Ticket {index}"), if index == 4 { "sales" } else { "billing" }.to_owned());
        check_pairs((0..30).map(nearly), expect![[""]]);
    }

    #[test]
    fn more_than_three_of_ten_refusals_are_many() {
        let pair = |refusals: usize| {
            move |index: usize| {
                let refusal = if index.is_multiple_of(2) {
                    "I'm sorry, but I can't help with"
                } else {
                    "Lo siento, no puedo responder sobre"
                };
                let answer = if index < refusals { format!("{refusal} {index}.") } else { format!("It is {index}.") };
                (format!("Question {index}?"), answer)
            }
        };
        check_pairs((0..20).map(pair(6)), expect![[""]]);
        check_pairs(
            (0..20).map(pair(7)),
            expect![[r#"
            1:1: warning[refusal-heavy]: expected at most 30 % refusals, found 7 in 20 answers (35 %)
        "#]],
        );
    }

    #[test]
    fn long_prompts_with_tiny_answers_are_named() {
        let pair = |index: usize| (format!("{index} ").repeat(400), format!("{index}"));
        check_pairs(
            (10..30).map(pair),
            expect![[r#"
            1:1: warning[low-trained-share]: expected at least 1 % of the text to be trained, found 0.17 %
        "#]],
        );
    }
}
