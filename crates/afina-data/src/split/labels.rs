//! Whether the last answers are labels, and which side has which.

use std::collections::BTreeMap;

use super::key::last_answer;
use crate::json::Value;

/// Different answers, at most.
const MAX_LABELS: usize = 50;
/// Bytes of an answer that may be a label.
const MAX_LABEL_BYTES: usize = 60;
/// Records that there are for each different answer, at least: fewer are texts that happen to come again.
const RECORDS_PER_LABEL: usize = 4;

/// The last answers so far, as long as they may be labels: a byte a record.
pub(super) struct Labels {
    /// Each with its number.
    seen: Option<BTreeMap<String, u8>>,
    of_records: Vec<u8>,
}

impl Default for Labels {
    fn default() -> Labels {
        Labels { seen: Some(BTreeMap::new()), of_records: Vec::new() }
    }
}

impl Labels {
    pub(super) fn add(&mut self, record: Value) {
        let Some(seen) = &mut self.seen else { return };
        let answer = last_answer(record);
        let label = answer.as_deref().map(str::trim).filter(|label| {
            label.len() <= MAX_LABEL_BYTES
                && !label.contains('\n')
                && (seen.len() < MAX_LABELS || seen.contains_key(*label))
        });
        let Some(label) = label else {
            (self.seen, self.of_records) = (None, Vec::new());
            return;
        };
        let next = seen.len() as u8;
        self.of_records.push(*seen.entry(label.to_owned()).or_insert(next));
    }

    /// Records of training and of validation with each label; `None` where the answers are none, or all the same.
    pub(super) fn count(self, validation: &[bool]) -> Option<BTreeMap<String, [usize; 2]>> {
        let seen = self.seen.filter(|seen| seen.len() > 1 && seen.len() * RECORDS_PER_LABEL <= validation.len())?;
        let mut counts = vec![[0; 2]; seen.len()];
        for (&label, &held) in self.of_records.iter().zip(validation) {
            counts[usize::from(label)][usize::from(held)] += 1;
        }
        Some(seen.into_iter().map(|(label, number)| (label, counts[usize::from(number)])).collect())
    }
}
