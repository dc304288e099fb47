//! The system messages of all examples together.

use std::collections::HashSet;

use crate::{
    diagnostic::Severity,
    facts::Facts,
    findings::{Findings, Place},
};

/// How many examples have none, and which ones there are: at most [`MOST`] hashes.
#[derive(Default)]
pub(super) struct Systems {
    without: usize,
    first_without: usize,
    with: usize,
    different: HashSet<u64>,
}

/// So many different system messages are told apart.
const MOST: usize = 10_000;

impl Systems {
    pub(super) fn add(&mut self, facts: &Facts) {
        if facts.has_system == Some(false) {
            if self.without == 0 {
                self.first_without = facts.line;
            }
            self.without += 1;
        }
        if let Some(system) = facts.dialogue.as_ref().and_then(|dialogue| dialogue.system) {
            self.with += 1;
            if self.different.len() < MOST {
                self.different.insert(system);
            }
        }
    }

    pub(super) fn finish(&self, examples: usize, out: &mut Findings) {
        if self.without > 0 {
            missing_system_message(self.without, examples, self.first_without, out);
        }
        let different = self.different.len();
        if self.with >= 10 && different >= 4 && (different * 4 > self.with || different == MOST) {
            system_prompt_inconsistent(different, self.with, out);
        }
    }
}

/// Examples have no system message.
///
/// Nothing is wrong with it, but the prompts in use should then have none either: a model behaves best with the system
/// prompt it was trained with. Said once, at the first such example.
fn missing_system_message(without: usize, examples: usize, first_line: usize, out: &mut Findings) {
    let message = format!("{without} of {examples} examples have no system message, the first is here");
    out.add(
        Severity::Info,
        "missing-system-message",
        Place::line(first_line),
        message,
        "train with the system prompt that you will use",
    );
}

/// Examples have many different system messages.
///
/// A model behaves best with the system message it was trained with, and where each example has its own there is none
/// to use. Said where there are four at least, more than one for every four examples, in a file with 10 such examples
/// or more (from 10,000 different ones on, in any case); a few, one for each task, are in order. Where system messages
/// carry documents or data of the moment, move them to the user message or leave it so on purpose. Else choose one
/// message for each task and use the same later.
fn system_prompt_inconsistent(different: usize, examples: usize, out: &mut Findings) {
    let at_least = if different == MOST { "at least " } else { "" };
    out.warning(
        "system-prompt-inconsistent",
        Place::line(1),
        format!("expected a few system messages, found {at_least}{different} different ones in {examples} examples"),
        "use one system message for each task, the one that you will use later",
    );
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::testing::check;

    /// `count` examples, and as many system messages as `different`.
    #[track_caller]
    fn check_systems(count: usize, different: usize, expect: Expect) {
        let record = |index: usize| {
            let system = format!("You are assistant {}.", index % different);
            format!(
                r#"{{"messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{index}"}},{{"role":"assistant","content":"{index} it is"}}]}}"#
            ) + "\n"
        };
        check((0..count).map(record).collect::<String>(), expect);
    }

    #[test]
    fn a_system_message_of_its_own_for_each_example_is_named() {
        check_systems(
            12,
            12,
            expect![[r#"
            1:1: warning[system-prompt-inconsistent]: expected a few system messages, found 12 different ones in 12 examples
        "#]],
        );
        check_systems(
            12,
            4,
            expect![[r#"
            1:1: warning[system-prompt-inconsistent]: expected a few system messages, found 4 different ones in 12 examples
        "#]],
        );
    }

    #[test]
    fn a_few_for_a_few_tasks_are_in_order() {
        check_systems(12, 3, expect![[""]]);
        check_systems(40, 10, expect![[""]]);
        check_systems(9, 9, expect![[""]]);
    }
}
