//! The file as a whole: rules over several records, fed with what each record tells.

mod answers;
mod duplicates;
pub(crate) mod lengths;
mod overlap;
mod repeats;
mod size;
mod systems;

use super::detect::Format;
use crate::{facts::Facts, findings::Findings};
use answers::Answers;
use duplicates::Duplicates;
pub use overlap::Validation;
use repeats::Repeats;
use systems::Systems;

/// What the records so far told.
#[derive(Default)]
pub(crate) struct Dataset {
    first_format: Option<(Format, usize)>,
    mixed: bool,
    duplicates: Duplicates,
    repeats: Repeats,
    answers: Answers,
    systems: Systems,
}

impl Dataset {
    /// One more record. Findings are about it.
    pub(crate) fn check(&mut self, facts: &mut Facts, out: &mut Findings) {
        let Some(place) = facts.place else { return };
        let is_new = self.duplicates.check(facts, place, out);
        self.systems.add(facts);
        if let Some(validation) = &out.options.validation {
            validation.check(facts, place, out);
        }
        if let Some(dialogue) = &mut facts.dialogue {
            self.answers.check(dialogue, facts.line, place, out);
            if is_new {
                self.repeats.add(dialogue, facts.line);
            }
        }
    }

    /// The first record's format and line, where this is the first that differs from it.
    pub(crate) fn differs(&mut self, format: Format, line: usize) -> Option<(Format, usize)> {
        let first = *self.first_format.get_or_insert((format, line));
        (first.0 != format && !std::mem::replace(&mut self.mixed, true)).then_some(first)
    }

    /// All records were seen. Findings are about lines of the file.
    pub(crate) fn finish(&mut self, examples: usize, out: &mut Findings) {
        size::too_few_examples(examples, out);
        size::few_examples(examples, out);
        self.systems.finish(examples, out);
        self.answers.finish(out);
        self.repeats.finish(out);
    }

    /// What a training file is compared with, where this was the validation file.
    pub(crate) fn into_validation(self) -> Validation {
        Validation::new(self.duplicates, self.answers)
    }
}
