//! The file as a whole: rules over several records, fed with what each record tells.

mod definitions;
mod duplicates;
mod images;
mod pairs;
mod references;
mod size;
mod systems;

use super::detect::Format;
use crate::{facts::Facts, findings::Findings};
use definitions::Definitions;
use duplicates::Duplicates;
use images::Images;
use pairs::Pairs;
use references::References;
pub(crate) use references::{Reference, references};
use systems::Systems;

/// What the records so far told.
#[derive(Default)]
pub(crate) struct Dataset {
    first_format: Option<(Format, usize)>,
    mixed: bool,
    duplicates: Duplicates,
    images: Images,
    systems: Systems,
    definitions: Definitions,
    pairs: Pairs,
    references: References,
}

impl Dataset {
    /// One more record. Findings are about it.
    pub(crate) fn check(&mut self, facts: &Facts, out: &mut Findings) {
        self.duplicates.check(facts, out);
        self.images.check(facts, out);
        self.systems.add(facts);
        if let Some(declared) = &facts.declared {
            self.definitions.check(facts.line, declared, out);
        }
        if let Some(pair) = &facts.pair {
            self.pairs.check(facts.line, pair, out);
        }
        self.references.check(facts.line, &facts.references, out);
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
    }
}
