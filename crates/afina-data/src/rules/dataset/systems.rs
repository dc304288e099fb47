//! The system messages of all examples together.

use crate::{
    diagnostic::Severity,
    facts::Facts,
    findings::{Findings, Place},
};

#[derive(Default)]
pub(super) struct Systems {
    without: usize,
    first_without: usize,
}

impl Systems {
    pub(super) fn add(&mut self, facts: &Facts) {
        if facts.has_system == Some(false) {
            if self.without == 0 {
                self.first_without = facts.line;
            }
            self.without += 1;
        }
    }

    pub(super) fn finish(&self, examples: usize, out: &mut Findings) {
        if self.without > 0 {
            missing_system_message(self.without, examples, self.first_without, out);
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
