//! Preference pairs beside each other: that they agree, and do not differ by length alone.

use rapidhash::RapidHashMap;

use crate::{
    facts::mix,
    findings::{Findings, Place},
    rules::preference::Pair,
};

/// With fewer pairs a share says nothing.
const FEWEST_PAIRS: usize = 10;

/// The pairs of a file so far: about 24 bytes each.
#[derive(Default)]
pub(crate) struct Pairs {
    /// Line of each pair, by prompt, preferred answer and other answer.
    seen: RapidHashMap<u64, u32>,
    compared: usize,
    longer: usize,
}

impl Pairs {
    /// The pair of the record in `line`.
    pub(crate) fn check(&mut self, line: usize, pair: &Pair, out: &mut Findings) {
        if let Some(first) = self.seen.get(&key(pair.prompt, pair.other, pair.preferred)) {
            dpo_contradictory_pair(pair.place, *first as usize, out);
        }
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        self.seen.entry(key(pair.prompt, pair.preferred, pair.other)).or_insert(line);
        if let Some(longer) = pair.preferred_is_longer {
            self.compared += 1;
            self.longer += usize::from(longer);
        }
    }

    /// The end of the file.
    pub(crate) fn finish(&self, out: &mut Findings) {
        if self.compared >= FEWEST_PAIRS && self.longer * 10 > self.compared * 9 {
            dpo_length_bias(self.longer, self.compared, out);
        }
    }
}

fn key(prompt: u64, preferred: u64, other: u64) -> u64 {
    mix(mix(prompt, preferred), other)
}

/// Two pairs with the same prompt prefer the opposite.
///
/// What one line prefers the other rejects: together they teach nothing, and somebody judged by another measure. Decide
/// which is right, and delete the other line.
fn dpo_contradictory_pair(place: Place, first_line: usize, out: &mut Findings) {
    out.warning(
        "dpo-contradictory-pair",
        place,
        format!("expected what line {first_line} prefers for this prompt, found the opposite"),
        "decide which of the two is right, and delete the other line",
    );
}

/// The preferred answer is the longer one in more than 9 of 10 pairs.
///
/// The model then learns to write more, whatever was meant. Add pairs in which the short answer is the better one. Not
/// said of fewer than 10 pairs.
fn dpo_length_bias(longer: usize, pairs: usize, out: &mut Findings) {
    out.warning(
        "dpo-length-bias",
        Place::line(1),
        format!(
            "expected preferred answers of any length, found the longer one preferred in {longer} of {pairs} pairs"
        ),
        "add pairs in which the shorter answer is preferred",
    );
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::{Method, Profile, ReadOptions, testing::check_with};

    fn pair(prompt: &str, preferred: &str, other: &str) -> String {
        format!(
            r#"{{"input":{{"messages":[{{"role":"user","content":"{prompt}"}}]}},"preferred_output":[{{"role":"assistant","content":"{preferred}"}}],"non_preferred_output":[{{"role":"assistant","content":"{other}"}}]}}"#
        ) + "\n"
    }

    #[test]
    fn pairs_do_not_contradict_each_other() {
        let file = [
            pair("p", "a", "b"),
            pair("p", "a", "c"),
            pair("q", "b", "a"),
            pair("p", "c", "b"),
            pair("p", "b", "a"),
            pair("p", "b", "a ").replace("a \"", "a\\n\""),
            pair("p", "a", "a"),
        ];
        check_with(
            &ReadOptions::new(Method::Dpo, Profile::Local),
            file.concat(),
            expect![[r#"
            5:74: warning[dpo-contradictory-pair] /preferred_output: expected what line 1 prefers for this prompt, found the opposite
            6:74: warning[dpo-contradictory-pair] /preferred_output: expected what line 1 prefers for this prompt, found the opposite
            6:167: warning[assistant-edge-whitespace] /non_preferred_output/0/content: expected text without whitespace around it, found text that ends with it
            7:134: warning[dpo-identical-outputs] /non_preferred_output: expected two different answers, found the preferred one again
        "#]],
        );
    }

    #[test]
    fn preferred_answers_are_not_always_the_longer_ones() {
        let pairs = |longer: usize, shorter: usize| {
            let pairs = (0..longer + shorter).map(|index| {
                let (long, short) = (format!("{index} and more"), format!("{index}"));
                if index < longer { pair(&short, &long, &short) } else { pair(&short, &short, &long) }
            });
            pairs.collect::<String>()
        };
        let options = ReadOptions::new(Method::Dpo, Profile::Local);
        check_with(
            &options,
            pairs(10, 0),
            expect![[r#"
            1:1: warning[dpo-length-bias]: expected preferred answers of any length, found the longer one preferred in 10 of 10 pairs
        "#]],
        );
        check_with(&options, pairs(9, 1), expect![[""]]);
        check_with(&options, pairs(9, 0), expect![[""]]);
        check_with(
            &options,
            pairs(19, 1),
            expect![[r#"
            1:1: warning[dpo-length-bias]: expected preferred answers of any length, found the longer one preferred in 19 of 20 pairs
        "#]],
        );
    }
}
