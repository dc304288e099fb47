//! How text is cut before byte-level BPE: llama.cpp's names (`tokenizer.ggml.pre`) and tokenizer.json's descriptions.
//!
//! A name stands for a split expression that is nowhere in the file. An unknown one is refused: a guess would give other
//! tokens than the model was trained on, without a sign of it.

use serde_json::{Value, json};

/// One way to cut text.
pub(crate) struct PreTokenizer {
    /// llama.cpp's names for it; the first is written.
    pub names: &'static [&'static str],
    /// Whether a piece that is itself a token is taken whole, whatever the merges say.
    pub ignore_merges: bool,
    /// Whether llama.cpp puts the begin token in front when the file does not say.
    pub add_bos: bool,
    /// Expressions applied one after the other, each on the pieces the one before left; then GPT-2's, if `gpt2`.
    splits: &'static [Split],
    gpt2: bool,
}

enum Split {
    /// Each match is a piece, and what lies between matches is one.
    Regex(&'static str),
    /// Each digit is a piece.
    Digits,
}

/// GPT-2's own expression; the `ByteLevel` pre-tokenizer has it built in.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub(crate) const KNOWN: [PreTokenizer; 6] = [
    PreTokenizer {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "minerva-7b"],
        ignore_merges: false,
        add_bos: false,
        splits: &[Split::Digits],
        gpt2: true,
    },
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3"],
        ignore_merges: true,
        add_bos: true,
        splits: &[Split::Regex(LLAMA3)],
        gpt2: false,
    },
    PreTokenizer {
        names: &["gpt-2", "phi-2", "olmo", "mpt", "jais"],
        ignore_merges: false,
        add_bos: false,
        splits: &[],
        gpt2: true,
    },
    PreTokenizer {
        names: &["smaug-bpe", "dbrx"],
        ignore_merges: false,
        add_bos: false,
        splits: &[Split::Regex(LLAMA3)],
        gpt2: false,
    },
    PreTokenizer {
        names: &["deepseek-coder"],
        ignore_merges: false,
        add_bos: false,
        splits: &[
            Split::Regex(r"[\r\n]"),
            Split::Regex(r"\s?\p{L}+"),
            Split::Regex(r"\s?\p{P}+"),
            Split::Regex("[一-龥ࠀ-一가-퟿]+"),
            Split::Digits,
        ],
        gpt2: false,
    },
    // What llama.cpp does for files older than the key: not what any model was trained with, but what it runs with.
    PreTokenizer {
        names: &["default"],
        ignore_merges: false,
        add_bos: false,
        splits: &[
            Split::Regex(r"[\p{P}\$\+<=>\^~\|]+"),
            Split::Regex(GPT2),
            Split::Regex(r"\p{N}+"),
            Split::Regex("[0-9][0-9][0-9]"),
        ],
        gpt2: false,
    },
];

/// The one llama.cpp calls `name`.
pub(crate) fn by_name(name: &str) -> Option<&'static PreTokenizer> {
    KNOWN.iter().find(|known| known.names.contains(&name))
}

/// The one a tokenizer.json describes under `pre_tokenizer`, `ignore_merges` being its model's.
pub(crate) fn by_json(pre_tokenizer: &Value, ignore_merges: bool) -> Option<&'static PreTokenizer> {
    let wanted = essential(pre_tokenizer);
    let same = |known: &&PreTokenizer| essential(&known.to_json()) == wanted;
    // Llama 3's expression is shared by two, which differ in `ignore_merges` alone.
    KNOWN.iter().filter(same).find(|known| known.ignore_merges == ignore_merges)
}

/// Every name that `by_name` knows.
pub(crate) fn known_names() -> Vec<&'static str> {
    KNOWN.iter().flat_map(|known| known.names).copied().collect()
}

impl PreTokenizer {
    /// tokenizer.json's `pre_tokenizer`.
    pub(crate) fn to_json(&self) -> Value {
        let mut steps: Vec<Value> = self
            .splits
            .iter()
            .map(|split| match split {
                Split::Regex(regex) => {
                    json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
                }
                Split::Digits => json!({"type": "Digits", "individual_digits": true}),
            })
            .collect();
        steps.push(json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": self.gpt2,
        }));
        match steps.len() {
            1 => steps.remove(0),
            _ => json!({"type": "Sequence", "pretokenizers": steps}),
        }
    }
}

/// A pre-tokenizer without what changes no token: offsets, defaults that are spelled out, a sequence of one.
fn essential(pre_tokenizer: &Value) -> Value {
    let steps = match (pre_tokenizer["type"].as_str(), pre_tokenizer["pretokenizers"].as_array()) {
        (Some("Sequence"), Some(steps)) => steps.clone(),
        _ => vec![pre_tokenizer.clone()],
    };
    let mut steps: Vec<Value> = steps
        .into_iter()
        .map(|mut step| {
            let kind = step["type"].as_str().unwrap_or_default().to_owned();
            if let Some(object) = step.as_object_mut() {
                object.remove("trim_offsets");
                if kind == "ByteLevel" {
                    object.entry("use_regex").or_insert(Value::Bool(true));
                    object.entry("add_prefix_space").or_insert(Value::Bool(true));
                }
                if kind == "Split" {
                    object.entry("invert").or_insert(Value::Bool(false));
                }
            }
            step
        })
        .collect();
    if steps.len() == 1 { steps.remove(0) } else { Value::Array(steps) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_description_is_found_again() {
        let mut names = known_names();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for known in &KNOWN {
            let found = by_json(&known.to_json(), known.ignore_merges).unwrap();
            assert_eq!(found.names, known.names);
        }
        assert!(by_name("qwen2").is_none());
    }

    #[test]
    fn published_tokenizers_are_recognized() {
        let smollm2 = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]});
        let llama3 = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]});
        let gpt2 = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false});
        assert_eq!(by_json(&smollm2, false).unwrap().names[0], "smollm");
        assert_eq!(by_json(&llama3, true).unwrap().names[0], "llama-bpe");
        assert_eq!(by_json(&llama3, false).unwrap().names[0], "smaug-bpe");
        assert_eq!(by_json(&gpt2, false).unwrap().names[0], "gpt-2");
        assert!(by_json(&json!({"type": "ByteLevel", "add_prefix_space": true}), false).is_none());
        assert!(by_json(&Value::Null, false).is_none());
    }
}
