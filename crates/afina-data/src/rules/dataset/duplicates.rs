//! Records that come again.

use crate::{
    facts::Facts,
    findings::{Findings, Place},
    similar::table::Table,
};

/// Fingerprint of each record, and its line: 16 to 24 bytes a record.
#[derive(Default)]
pub(super) struct Duplicates {
    lines: Table<u64>,
}

impl Duplicates {
    /// Whether the record, which is at `place`, is a new one.
    pub(super) fn check(&mut self, facts: &Facts, place: Place, out: &mut Findings) -> bool {
        let earlier = self.line_of(facts.fingerprint);
        match earlier {
            Some(earlier) => duplicate_example(place, earlier, out),
            None => self.lines.insert(facts.fingerprint, u32::try_from(facts.line).unwrap_or(u32::MAX - 1)),
        }
        earlier.is_none()
    }

    /// Line of the first record with this fingerprint.
    pub(super) fn line_of(&self, fingerprint: u64) -> Option<u32> {
        self.lines.get(fingerprint).next()
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
