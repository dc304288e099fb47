//! Which earlier record a record nearly repeats.

use std::mem;

use super::{
    signature::{BINS, Signature, mix},
    table::Table,
};

/// Two parts are alike from this estimated Jaccard similarity on.
///
/// The estimate is of 64 numbers, of which 2 bits are kept: at 0.85 its standard error is 0.05, so that 19 of 20 pairs
/// are judged as if the threshold were somewhere between 0.75 and 0.95.
pub(crate) const SIMILAR: f32 = 0.85;

/// Records that are kept to compare later ones with: 82 bytes each, so 86 MB at most. Later records are compared with
/// these alone.
pub(crate) const MAX_RECORDS: usize = 1 << 20;

/// Records that are judged together, once it is known what is common in them and in as many before.
const BLOCK: usize = 4096;

/// Of the records around, from one in this many on that share a three-word sequence, it is a template's; from
/// [`TEMPLATE_LEAST`] on in any case.
const TEMPLATE_SHARE: usize = 50;
const TEMPLATE_LEAST: u16 = 4;

/// Fewer numbers than this that are not a template's tell nothing about a part.
const LEAST_BINS: u32 = 8;

/// Keys that are looked up: one of all words, the others each of two numbers of the prompt and one of the answer.
/// A pair with similarity 0.85 in both parts shares one of the three with a probability of 0.94, with 0.95 of 0.997.
const BANDS: usize = 3;

/// Records kept under one key.
const PER_KEY: usize = 8;

/// A record and the one before it that it repeats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NearDuplicate {
    pub(crate) line: u32,
    pub(crate) earlier: u32,
    /// Estimated Jaccard similarity of the less similar part; 1: the same words in the same order.
    pub(crate) similarity: f32,
}

/// The records so far. Fed in the order of the file.
///
/// Two records are near duplicates where they have the same words in the same order, or where both their prompts and
/// their final answers are alike (see [`SIMILAR`]) *without what is a template's*: a three-word sequence that 2 % of the
/// records around share (and 4 at least) is no evidence. So neither `Classify this ticket into …` followed by tickets of their own,
/// nor one document with several questions, nor one answer to several questions is a near duplicate; and a record that is
/// nearly all template is one only of a record with the same words.
#[derive(Default)]
#[allow(clippy::vec_box)] // Boxes come from the records and are kept as they are: nothing is copied.
pub(crate) struct NearDuplicates {
    records: Vec<Record>,
    exact: Table<u32>,
    bands: [Table<u32>; BANDS],
    /// Signatures of the block before this one, and of this one, with the lines of the latter.
    before: Vec<Box<Signature>>,
    block: Vec<Box<Signature>>,
    lines: Vec<u32>,
    counts: Vec<u16>,
    found: Vec<NearDuplicate>,
    not_kept: usize,
}

/// What is kept of a record: 36 bytes, and four entries in tables.
struct Record {
    line: u32,
    sketch: [Sketch; 2],
}

/// The low two bits of each bin.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sketch {
    low: [u32; 2],
    high: [u32; 2],
}

impl NearDuplicates {
    /// Adds the record of this line. Exact duplicates are the caller's to leave out.
    pub(crate) fn add(&mut self, line: usize, signature: Box<Signature>) {
        self.block.push(signature);
        self.lines.push(u32::try_from(line).unwrap_or(u32::MAX));
        if self.block.len() == BLOCK {
            self.judge_block();
        }
    }

    /// All near duplicates, in the order of the file, each with the earlier record that is most similar to it; and the
    /// number of records that none was compared with, for [`MAX_RECORDS`] were kept.
    pub(crate) fn finish(mut self) -> (Vec<NearDuplicate>, usize) {
        self.judge_block();
        (self.found, self.not_kept)
    }

    fn judge_block(&mut self) {
        let templates = self.templates();
        let (block, lines) = (mem::take(&mut self.block), mem::take(&mut self.lines));
        for ((signature, own), line) in block.iter().zip(templates).zip(lines) {
            self.judge(signature, own, line);
        }
        self.before = block;
    }

    /// Of each record of the block and each part: the bins (a bit each) whose number is not a template's.
    fn templates(&mut self) -> Vec<[u64; 2]> {
        let mut own = vec![[0u64; 2]; self.block.len()];
        let all = self.before.len() + self.block.len();
        let limit = TEMPLATE_LEAST.max((all / TEMPLATE_SHARE) as u16);
        self.counts.resize(1 << 16, 0);
        for (part, bin) in [0, 1].into_iter().flat_map(|part| (0..BINS).map(move |bin| (part, bin))) {
            let numbers = || self.before.iter().chain(&self.block).map(|signature| signature.bins[part][bin] as usize);
            numbers().for_each(|number| self.counts[number] += 1);
            for (own, signature) in own.iter_mut().zip(&self.block) {
                own[part] |= u64::from(self.counts[signature.bins[part][bin] as usize] < limit) << bin;
            }
            numbers().for_each(|number| self.counts[number] = 0);
        }
        own
    }

    fn judge(&mut self, signature: &Signature, own: [u64; 2], line: u32) {
        let sketch = [Sketch::of(&signature.bins[0]), Sketch::of(&signature.bins[1])];
        let words_key = (signature.words >> 32) as u32;
        let twin = self.exact.get(words_key).find(|&index| self.records[index as usize].sketch == sketch);
        if let Some(twin) = twin {
            let earlier = self.records[twin as usize].line;
            self.found.push(NearDuplicate { line, earlier, similarity: 1.0 });
            return;
        }
        let keys = band_keys(signature, own);
        let mut best: Option<(f32, u32)> = None;
        for (band, key) in self.bands.iter().zip(keys) {
            for index in key.into_iter().flat_map(|key| band.get(key)) {
                let similarity = similarity(&self.records[index as usize].sketch, &sketch, own);
                // The most similar one; of equals the first.
                let better = |(most, first)| similarity > most || similarity == most && index < first;
                if similarity >= SIMILAR && best.is_none_or(better) {
                    best = Some((similarity, index));
                }
            }
        }
        if let Some((similarity, index)) = best {
            let earlier = self.records[index as usize].line;
            self.found.push(NearDuplicate { line, earlier, similarity: similarity.min(0.99) });
        }
        self.keep(line, sketch, words_key, keys);
    }

    fn keep(&mut self, line: u32, sketch: [Sketch; 2], words_key: u32, keys: [Option<u32>; BANDS]) {
        if self.records.len() == MAX_RECORDS {
            self.not_kept += 1;
            return;
        }
        let index = self.records.len() as u32;
        self.records.push(Record { line, sketch });
        self.exact.insert(words_key, index);
        for (band, key) in self.bands.iter_mut().zip(keys) {
            if let Some(key) = key.filter(|&key| band.get(key).count() < PER_KEY) {
                band.insert(key, index);
            }
        }
    }
}

/// The keys of a record's bands; none where all of a band's numbers are a template's.
fn band_keys(signature: &Signature, own: [u64; 2]) -> [Option<u32>; BANDS] {
    std::array::from_fn(|band| {
        let places = [(0, 2 * band), (0, 2 * band + 1), (1, band)];
        let tells = places.iter().any(|&(part, bin)| own[part] >> bin & 1 == 1);
        tells.then(|| {
            let numbers = places.iter().fold(0, |key, &(part, bin)| key << 16 | u64::from(signature.bins[part][bin]));
            (mix(signature.salt ^ mix(numbers)) >> 32) as u32
        })
    })
}

/// The similarity of the less similar part; 0 where a part is not alike, or too little is left without templates.
fn similarity(one: &[Sketch; 2], other: &[Sketch; 2], own: [u64; 2]) -> f32 {
    let (mut least, mut tells) = (1.0f32, false);
    for part in 0..2 {
        let equal = one[part].equal(&other[part]);
        let part_tells = own[part].count_ones() >= LEAST_BINS;
        let share = estimate(equal, u64::MAX);
        if share < SIMILAR || part_tells && estimate(equal & own[part], own[part]) < SIMILAR {
            return 0.0;
        }
        least = least.min(share);
        tells |= part_tells;
    }
    if tells { least } else { 0.0 }
}

/// The Jaccard similarity from the equal bins among `of`: unequal numbers have equal bits in one case of four.
fn estimate(equal: u64, of: u64) -> f32 {
    let share = equal.count_ones() as f32 / of.count_ones().max(1) as f32;
    (share - 0.25) / 0.75
}

impl Sketch {
    fn of(bins: &[u16; BINS]) -> Sketch {
        let plane = |bit: u32| bins.iter().rev().fold(0u64, |plane, &bin| plane << 1 | u64::from(bin >> bit & 1));
        let halves = |plane: u64| [plane as u32, (plane >> 32) as u32];
        Sketch { low: halves(plane(0)), high: halves(plane(1)) }
    }

    /// Bins with equal bits, a bit each.
    fn equal(&self, other: &Sketch) -> u64 {
        let whole = |[low, high]: [u32; 2]| u64::from(low) | u64::from(high) << 32;
        !((whole(self.low) ^ whole(other.low)) | (whole(self.high) ^ whole(other.high)))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Signer, *};

    /// Near duplicates among records of a prompt and an answer each: `line: earlier line, similarity`.
    #[track_caller]
    fn check(records: &[(String, String)], expect: expect_test::Expect) {
        let mut index = NearDuplicates::default();
        for (at, (prompt, answer)) in records.iter().enumerate() {
            index.add(at + 1, sign(prompt, answer));
        }
        let shown: String = index
            .finish()
            .0
            .iter()
            .map(|found| format!("{}: {}, {:.2}\n", found.line, found.earlier, found.similarity))
            .collect();
        expect.assert_eq(&shown);
    }

    fn sign(prompt: &str, answer: &str) -> Box<Signature> {
        let mut signer = Signer::default();
        signer.begin();
        signer.add_prompt(0, prompt);
        signer.add_answer(answer);
        signer.finish().unwrap()
    }

    /// `count` words that no text with another `seed` has.
    fn prose(seed: usize, count: usize) -> String {
        (0..count).map(|word| format!("s{seed}w{word} ")).collect()
    }

    fn records(count: usize, record: impl Fn(usize) -> (String, String)) -> Vec<(String, String)> {
        (0..count).map(record).collect()
    }

    #[test]
    fn the_same_words_are_found_however_short() {
        let mut all = records(30, |index| (format!("Tell me about city {index}"), format!("City {index} is fine")));
        all.push(("tell me   about city 7!".into(), "City 7 is fine.".into()));
        check(
            &all,
            expect_test::expect![[r#"
                31: 8, 1.00
            "#]],
        );
    }

    #[test]
    fn a_text_with_a_few_words_changed_is_found() {
        let mut all = records(50, |seed| (prose(seed, 90), prose(1000 + seed, 120)));
        let (prompt, answer) = &all[20];
        all.push((prompt.replace("s20w40 ", "x "), answer.replace("s1020w77 ", "") + " indeed"));
        check(
            &all,
            expect_test::expect![[r#"
            51: 21, 0.94
        "#]],
        );
    }

    #[test]
    fn short_questions_of_one_form_are_different() {
        let sum =
            |index: usize| (format!("What is {}+{}?", index / 9, index % 9), format!("{}", index / 9 + index % 9));
        check(&records(81, sum), expect_test::expect![[""]]);
        check(&records(2, sum), expect_test::expect![[""]]);
        let explained = |index: usize| {
            let question = format!("A shop sells {index} apples a day. How many does it sell in a week? Explain it.");
            (question, format!("The shop sells {index} apples a day and a week has 7 days, so it is {}.", 7 * index))
        };
        check(&records(2, explained), expect_test::expect![[""]]);
        check(&records(100, explained), expect_test::expect![[""]]);
    }

    #[test]
    fn what_a_template_adds_is_no_evidence() {
        // 300 words of instructions, 20 of the ticket's own, and a label: J of the prompts is 0.87.
        let ticket = |seed: usize| (prose(0, 300) + &prose(seed + 1, 20), "billing".to_owned());
        check(&records(200, ticket), expect_test::expect![[""]]);
        // With 100 words of its own, enough is left to tell.
        let letter = |seed: usize| (prose(0, 300) + &prose(seed + 1, 100), "billing".to_owned());
        let mut all = records(200, letter);
        all.push((prose(0, 300) + &prose(100, 100).replace("s100w50 ", ""), "billing".into()));
        check(
            &all,
            expect_test::expect![[r#"
            201: 100, 0.98
        "#]],
        );
    }

    #[test]
    fn one_document_with_two_questions_or_one_answer_to_two_is_no_repeat() {
        let mut all = records(40, |seed| (prose(seed, 200), prose(seed + 500, 60)));
        all.push((prose(3, 200) + "what is the name of the town", "Toledo".to_owned()));
        all.push((prose(3, 200) + "who is the mayor", "Ana".to_owned()));
        all.push((prose(900, 12), prose(7 + 500, 60)));
        check(&all, expect_test::expect![[""]]);
    }

    #[test]
    fn records_that_differ_in_what_must_be_equal_are_not_compared() {
        let mut index = NearDuplicates::default();
        for salt in 1..4 {
            let mut signer = Signer::default();
            signer.begin();
            signer.add_salt(salt);
            signer.add_prompt(0, &prose(1, 100));
            signer.add_answer(&prose(2, 100));
            index.add(salt as usize, signer.finish().unwrap());
        }
        assert_eq!(index.finish(), (vec![], 0));
    }

    #[test]
    fn templates_are_known_across_blocks_and_so_are_repeats() {
        let ticket = |seed: usize| (prose(0, 200) + &prose(seed % 5000 + 1, 15), "billing".to_owned());
        let mut index = NearDuplicates::default();
        for seed in 0..5010 {
            let (prompt, answer) = ticket(seed);
            index.add(seed + 1, sign(&prompt, &answer));
        }
        let found: Vec<_> = index.finish().0.iter().map(|found| (found.line, found.earlier)).collect();
        assert_eq!(found, (1..=10).map(|line| (5000 + line, line)).collect::<Vec<_>>());
    }

    #[test]
    fn most_pairs_above_the_threshold_are_found_and_few_below() {
        // Prompts of 103 words, the first `changed` of them replaced: J = (101 - changed) / (101 + changed).
        let share = |changed: usize| {
            let mut index = NearDuplicates::default();
            for seed in 0..200 {
                let prompt = prose(seed, 103);
                let other = prose(seed + 10_000, changed) + prompt.splitn(changed + 1, ' ').last().unwrap();
                index.add(2 * seed + 1, sign(&prompt, &prose(seed + 500, 30)));
                index.add(2 * seed + 2, sign(&other, &prose(seed + 500, 30)));
            }
            index.finish().0.len()
        };
        // J = 0.94, 0.85, 0.67, 0.5
        assert_eq!([3, 8, 20, 34].map(share), [200, 119, 0, 0]);
    }
}
