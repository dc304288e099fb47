//! The file as a whole: rules over several records, fed with what each record tells.

mod answers;
mod definitions;
mod duplicates;
mod images;
pub(crate) mod lengths;
mod overlap;
mod pairs;
mod references;
mod repeats;
mod size;
mod systems;

use super::detect::Format;
use crate::{facts::Facts, findings::Findings};
use answers::Answers;
use definitions::Definitions;
use duplicates::Duplicates;
pub use duplicates::Earlier;
use images::Images;
pub use overlap::Validation;
use pairs::Pairs;
use references::References;
pub(crate) use references::{Reference, references};
use repeats::Repeats;
use systems::Systems;

/// What the records so far told.
#[derive(Default)]
pub(crate) struct Dataset {
    first_format: Option<(Format, usize)>,
    mixed: bool,
    duplicates: Duplicates,
    images: Images,
    repeats: Repeats,
    answers: Answers,
    systems: Systems,
    definitions: Definitions,
    pairs: Pairs,
    references: References,
}

impl Dataset {
    /// One more record. Findings are about it.
    pub(crate) fn check(&mut self, facts: &mut Facts, out: &mut Findings) {
        let Some(place) = facts.place else { return };
        let is_new = self.duplicates.check(facts, place, out);
        self.images.check(facts, out);
        self.systems.add(facts);
        if let Some(declared) = &facts.declared {
            self.definitions.check(facts.line, declared, out);
        }
        if let Some(pair) = &facts.pair {
            self.pairs.check(facts.line, pair, out);
        }
        self.references.check(facts.line, &facts.references, out);
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
        self.images.finish(out);
        self.pairs.finish(out);
        references::check_size(examples, out);
        self.answers.finish(out);
        self.repeats.finish(out);
    }

    /// What the next file is compared with.
    pub(crate) fn into_earlier(self, file: &str) -> Earlier {
        Earlier::new(file, self.duplicates)
    }

    /// What a training file is compared with, where this was the validation file.
    pub(crate) fn into_validation(self) -> Validation {
        Validation::new(self.duplicates, self.answers)
    }
}
