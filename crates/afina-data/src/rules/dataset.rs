//! The file as a whole: rules over several records, fed with what each record tells.

mod duplicates;
mod size;
mod systems;

use super::detect::Format;
use crate::{facts::Facts, findings::Findings};
use duplicates::Duplicates;
use systems::Systems;

/// What the records so far told.
#[derive(Default)]
pub(crate) struct Dataset {
    first_format: Option<(Format, usize)>,
    mixed: bool,
    duplicates: Duplicates,
    systems: Systems,
}

impl Dataset {
    /// One more record. Findings are about it.
    pub(crate) fn check(&mut self, facts: &Facts, out: &mut Findings) {
        self.duplicates.check(facts, out);
        self.systems.add(facts);
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
    }
}
