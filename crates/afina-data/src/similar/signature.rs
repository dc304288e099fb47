//! The signature of a record: 128 numbers that agree with another record's as often as their texts share words.

use super::words::words;

/// Numbers for each of the two parts.
pub(crate) const BINS: usize = 64;

/// What near duplicates are found by.
///
/// Two parts: what was asked (all messages before the final answer) and the final answer. For each, bin `i` holds the
/// smallest of the hashes of the part's three-word sequences; the share of equal bins estimates the Jaccard similarity
/// of the two sets (MinHash).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    /// Of what must be equal: system messages, tools, images. Records that differ in it are never compared.
    pub(super) salt: u64,
    /// Of all words in order, and who says them.
    pub(super) words: u64,
    pub(super) bins: [[u16; BINS]; 2],
}

/// Takes in a record's texts and gives its signature; keeps its buffers for the next record.
#[derive(Default)]
pub(crate) struct Signer {
    salt: u64,
    words: u64,
    any: bool,
    prompt: Shingles,
    answer: Shingles,
}

impl Signer {
    /// Begins a record.
    #[cfg(test)]
    pub(crate) fn begin(&mut self) {
        *self = Signer::default();
    }

    /// Adds the hash of something that must be equal for two records to be near duplicates.
    pub(crate) fn add_salt(&mut self, hash: u64) {
        self.salt = mix(self.salt ^ hash);
    }

    /// Adds a text that comes before the final answer; `role` is any number for who says it.
    pub(crate) fn add_prompt(&mut self, role: u64, text: &str) {
        self.add(role, text, false);
    }

    /// Adds a text of the final answer.
    pub(crate) fn add_answer(&mut self, text: &str) {
        self.add(u64::MAX, text, true);
    }

    fn add(&mut self, role: u64, text: &str, is_answer: bool) {
        let part = if is_answer { &mut self.answer } else { &mut self.prompt };
        let mut all = mix(self.words ^ role);
        let mut count = 0;
        words(text, |word| {
            all = (all.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            count += 1;
            part.push(word);
        });
        if count == 0 {
            // A text of nothing but punctuation is compared as it is.
            all ^= rapidhash::v3::rapidhash_v3(text.trim().as_bytes());
        }
        self.words = all;
        self.any |= count > 0;
    }

    /// The signature of what was added; `None` where there was no word.
    pub(crate) fn finish(&mut self) -> Option<Box<Signature>> {
        self.any.then(|| {
            let bins = [self.prompt.bins(), self.answer.bins()];
            Box::new(Signature { salt: self.salt, words: mix(self.words ^ self.salt), bins })
        })
    }
}

/// The hashes of a part's sequences of three words; of a shorter part, of what there is.
#[derive(Default)]
struct Shingles {
    last: [u64; 2],
    words: usize,
    hashes: Vec<u64>,
}

impl Shingles {
    fn push(&mut self, word: u64) {
        let [first, second] = self.last;
        let shingle =
            first.wrapping_mul(0xA076_1D64_78BD_642F) ^ second.wrapping_mul(0xE703_7ED1_A0B4_28DB).rotate_left(32);
        let shingle = shingle ^ word.wrapping_mul(0x8EBC_6AF0_9C88_C6E3).rotate_left(17);
        // The first two words of a text are in its first sequence of three.
        if self.words == 1 || self.words == 2 {
            self.hashes.clear();
        }
        self.hashes.push(shingle);
        self.last = [second, word];
        self.words += 1;
    }

    /// Fast similarity sketching (Dahlgaard, Knudsen, Thorup, FOCS 2017): one hash of each element fills a bin chosen
    /// by the hash; rounds with other hashes follow until no bin is empty. A long text needs one round, a short one
    /// more, and the estimate is as good as with 64 hash functions. No elements: zeros.
    fn bins(&self) -> [u16; BINS] {
        if self.hashes.is_empty() {
            return [0; BINS];
        }
        let mut bins = [u32::MAX; BINS];
        let mut filled = 0u64;
        for round in 0..2 * BINS as u64 {
            let seed = round.wrapping_mul(0xD1B5_4A32_D192_ED03);
            for &hash in &self.hashes {
                let bits = mix(hash ^ seed);
                let bin = if round < BINS as u64 { (bits >> 58) as usize } else { round as usize - BINS };
                // An earlier round is smaller than a later one.
                let value = (round as u32) << 25 | (bits as u32 & 0x01FF_FFFF);
                bins[bin] = bins[bin].min(value);
                filled |= 1 << bin;
            }
            if filled == u64::MAX {
                break;
            }
        }
        bins.map(|value| (mix(value.into()) >> 48) as u16)
    }
}

/// SplitMix64's finalizer.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` words, the numbers from `first` on.
    fn text(first: usize, count: usize) -> String {
        (first..first + count).map(|number| format!("w{number} ")).collect()
    }

    fn bins(text: &str) -> [u16; BINS] {
        let mut signer = Signer::default();
        signer.add_prompt(0, text);
        signer.finish().unwrap().bins[0]
    }

    fn equal(one: &str, other: &str) -> f64 {
        let (one, other) = (bins(one), bins(other));
        one.iter().zip(other).filter(|(one, other)| *one == other).count() as f64 / BINS as f64
    }

    #[test]
    fn equal_bins_estimate_the_share_of_common_sequences() {
        // Two windows of `count` words that share `common`: their Jaccard similarity is exact.
        for (count, common) in [(22, 20), (52, 45), (202, 180), (1002, 800), (3002, 1500)] {
            let (mut sum, trials) = (0.0, 40);
            for trial in 0..trials {
                let first = trial * 10_000;
                sum += equal(&text(first, count), &text(first + count - common, count));
            }
            let (shared, total) = (common as f64 - 2.0, (count - 2) as f64);
            let jaccard = shared / (2.0 * total - shared);
            // Standard error of the mean: sqrt(J (1 - J) / (64 × 40)) ≤ 0.01.
            assert!((sum / trials as f64 - jaccard).abs() < 0.03, "{count} {common}: {sum} {jaccard}");
        }
    }

    #[test]
    fn texts_of_one_word_to_three_have_one_sequence() {
        assert_eq!(equal("a", "A."), 1.0);
        assert_eq!(equal("a b", "a  b"), 1.0);
        assert!(equal("a b", "b a") < 0.1);
        assert!(equal("a b c", "a b d") < 0.1);
        assert!(equal("a", "a b") < 0.1);
    }

    #[test]
    fn one_changed_word_of_many_leaves_the_signature_nearly_equal() {
        let one = text(0, 200);
        let other = one.replace("w100 ", "x ");
        // 3 of 198 sequences change: J = 195 / 201 = 0.970.
        assert!((equal(&one, &other) - 0.97).abs() < 0.08, "{}", equal(&one, &other));
    }

    #[test]
    fn who_speaks_and_what_must_be_equal_count_for_the_words_alone() {
        let sign = |role, salt| {
            let mut signer = Signer::default();
            signer.begin();
            signer.add_salt(salt);
            signer.add_prompt(role, "hello there you");
            signer.add_answer("hi");
            signer.finish().unwrap()
        };
        assert_eq!(sign(0, 0), sign(0, 0));
        assert_ne!(sign(0, 0).words, sign(1, 0).words);
        assert_ne!(sign(0, 0).words, sign(0, 1).words);
        assert_eq!(sign(0, 0).bins, sign(1, 1).bins);
    }

    #[test]
    fn a_signer_forgets_the_record_before() {
        let mut signer = Signer::default();
        signer.add_prompt(0, "one two three four");
        let first = signer.finish();
        signer.begin();
        assert_eq!(signer.finish(), None);
        signer.add_prompt(0, "one two three four");
        assert_eq!(signer.finish(), first);
    }
}
