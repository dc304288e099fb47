//! How long preference pairs are: a pair is not one conversation, so its shape is counted by itself.

use serde::Serialize;

/// What one pair is made of. Characters are those of its texts, without images and tool calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairShape {
    pub prompt_messages: u32,
    pub prompt_characters: u32,
    pub preferred_characters: u32,
    pub other_characters: u32,
}

/// The pairs so far: 16 bytes each, for exact middles.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    shapes: Vec<PairShape>,
}

/// The figures of all pairs: of each the least, the middle one, the most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PairReport {
    pub pairs: usize,
    pub prompt_messages: [u32; 3],
    pub prompt_characters: [u32; 3],
    pub preferred_characters: [u32; 3],
    pub other_characters: [u32; 3],
    /// Pairs whose preferred answer has more characters than the other.
    pub preferred_longer: usize,
}

impl Pairs {
    pub fn add(&mut self, shape: PairShape) {
        self.shapes.push(shape);
    }

    /// `None` where nothing was added.
    pub(super) fn report(&self) -> Option<PairReport> {
        let of = |part: fn(&PairShape) -> u32| {
            let mut sorted: Vec<u32> = self.shapes.iter().map(part).collect();
            sorted.sort_unstable();
            [0, sorted.len() / 2, sorted.len() - 1].map(|place| sorted[place])
        };
        let longer = |shape: &&PairShape| shape.preferred_characters > shape.other_characters;
        (!self.shapes.is_empty()).then(|| PairReport {
            pairs: self.shapes.len(),
            prompt_messages: of(|shape| shape.prompt_messages),
            prompt_characters: of(|shape| shape.prompt_characters),
            preferred_characters: of(|shape| shape.preferred_characters),
            other_characters: of(|shape| shape.other_characters),
            preferred_longer: self.shapes.iter().filter(longer).count(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Item, Method, Profile, ReadOptions};

    #[test]
    fn pairs_without_an_error_are_measured() {
        let pair = |prompt: &str, preferred: &str, other: &str| {
            format!(
                r#"{{"input":{{"messages":[{{"role":"system","content":"é"}},{{"role":"user","content":"{prompt}"}}]}},"preferred_output":[{{"role":"assistant","content":"{preferred}"}}],"non_preferred_output":[{{"role":"assistant","content":"{other}"}}]}}"#
            ) + "\n"
        };
        let broken = pair("q", "a", "b").replace("assistant", "bot");
        let file =
            [pair("¿eh?", "sí", "no\\u00e9!"), broken, pair("two", "longer", "x"), pair("same", "a", "a")].concat();
        let mut pairs = Pairs::default();
        let options = ReadOptions::new(Method::Dpo, Profile::OpenAi);
        crate::read(&mut file.as_bytes(), "x.jsonl", &options, &mut |item| {
            if let Item::Pair(shape) = item {
                pairs.add(shape);
            }
        })
        .unwrap();
        let report = pairs.report().unwrap();
        assert_eq!((report.pairs, report.prompt_messages, report.preferred_longer), (3, [2, 2, 2], 1));
        assert_eq!(report.prompt_characters, [4, 5, 5]);
        assert_eq!((report.preferred_characters, report.other_characters), ([1, 2, 6], [1, 1, 4]));
        assert_eq!(Pairs::default().report(), None);
    }
}
