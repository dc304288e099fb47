//! Records that come again, in the same file or in one that was read before it.

use std::{fmt, sync::Arc};

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
        let print = facts.fingerprint;
        let first = match self.line_of(print) {
            Some(line) => Some((line, None)),
            None => {
                out.options.earlier.iter().find_map(|file| Some((file.0.1.line_of(print)?, Some(file.0.0.clone()))))
            }
        };
        match &first {
            Some((line, file)) => duplicate_example(place, *line, file.as_deref(), out),
            None => self.lines.insert(print, u32::try_from(facts.line).unwrap_or(u32::MAX - 1)),
        }
        first.is_none()
    }

    /// Line of the first record with this fingerprint.
    pub(super) fn line_of(&self, fingerprint: u64) -> Option<u32> {
        self.lines.get(fingerprint).next()
    }
}

/// The records of a file that was read, to find them again in another: see [`crate::read_one_of`].
#[derive(Clone)]
pub struct Earlier(Arc<(String, Duplicates)>);

impl Earlier {
    pub(super) fn new(file: &str, duplicates: Duplicates) -> Earlier {
        Earlier(Arc::new((file.to_owned(), duplicates)))
    }
}

impl fmt::Debug for Earlier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Earlier({:?})", self.0.0)
    }
}

/// Two records are the same.
///
/// The same JSON value, whatever the order of keys and the spaces, in one file or in two that are given together. Its
/// examples count twice in training. Delete one.
fn duplicate_example(place: Place, first_line: u32, file: Option<&str>, out: &mut Findings) {
    let of_file = file.map_or_else(String::new, |file| format!(" of `{file}`"));
    out.warning(
        "duplicate-example",
        place,
        format!("expected a new example, found the one of line {first_line}{of_file} again"),
        "delete one of them",
    );
}

#[cfg(test)]
mod tests {
    use crate::{Method, Profile, ReadOptions, read_one_of, testing::check_with};

    #[test]
    fn a_record_of_a_file_before_is_found_with_the_name_of_the_file() {
        let record = |text: &str| {
            format!(
                "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}},{{\"role\":\"assistant\",\"content\":\"ok\"}}]}}\n"
            )
        };
        let mut options = ReadOptions::new(Method::Sft, Profile::OpenAi);
        for (file, data) in [("a.jsonl", record("a") + &record("b")), ("b.jsonl", record("c") + &record("d"))] {
            let (_, earlier) = read_one_of(&mut data.as_bytes(), file, &options, &mut |_| {}).unwrap();
            options.earlier.push(earlier);
        }
        check_with(
            &options,
            record("d") + &record("e") + &record("b") + &record("e"),
            expect_test::expect![[r#"
            1:1: warning[duplicate-example]: expected a new example, found the one of line 2 of `b.jsonl` again
            3:1: warning[duplicate-example]: expected a new example, found the one of line 2 of `a.jsonl` again
            4:1: warning[duplicate-example]: expected a new example, found the one of line 2 again
        "#]],
        );
    }

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
