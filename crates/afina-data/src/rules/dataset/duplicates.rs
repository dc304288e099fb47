//! Records that come again.

use std::collections::{HashMap, hash_map::Entry};

use crate::{
    facts::Facts,
    findings::{Findings, Place},
};

/// Fingerprint of each record, and its line: 16 bytes a record, and the table's own.
#[derive(Default)]
pub(super) struct Duplicates {
    seen: HashMap<u64, u32, rapidhash::fast::RandomState>,
}

impl Duplicates {
    pub(super) fn check(&mut self, facts: &Facts, out: &mut Findings) {
        let Some(place) = facts.place else { return };
        match self.seen.entry(facts.fingerprint) {
            Entry::Occupied(first) => duplicate_example(place, *first.get(), out),
            Entry::Vacant(entry) => {
                entry.insert(facts.line as u32);
            }
        }
    }
}

/// Two records are the same.
///
/// The same JSON value, whatever the order of keys and the spaces. Its examples count twice in training. Delete one.
fn duplicate_example(place: Place, first_line: u32, out: &mut Findings) {
    out.warning(
        "duplicate-example",
        place,
        format!("expected a new example, found the one of line {first_line} again"),
        "delete one of them",
    );
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_record_that_comes_again_is_found_in_any_spelling() {
        let file = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"ok\"}]}\n\
                    {\"messages\": [{\"content\":\"a\",\"role\":\"user\"}, {\"role\":\"assistant\",\"content\":\"o\\u006b\"}]}";
        crate::testing::check(
            file,
            expect_test::expect![[r#"
            2:1: warning[duplicate-example]: expected a new example, found the one of line 1 again
        "#]],
        );
    }
}
