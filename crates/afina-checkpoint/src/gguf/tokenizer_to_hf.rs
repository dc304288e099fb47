//! Rebuilding tokenizer.json, tokenizer_config.json and special_tokens_map.json from GGUF metadata.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::vocabulary::{TokenType, TokenizerModel, Vocabulary, VocabularyError, known_pre, split_merge};

/// What SentencePiece writes for a space.
pub(crate) const SPACE: &str = "\u{2581}";

/// The tokenizer.json that gives the token ids llama.cpp gives.
pub(crate) fn tokenizer_json(vocabulary: &Vocabulary) -> Result<Value, VocabularyError> {
    let vocab: Map<String, Value> =
        vocabulary.tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let mut json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(vocabulary),
    });
    match &vocabulary.model {
        TokenizerModel::Bpe { pre, merges } => {
            let pre = known_pre(pre)?;
            let merges: Vec<(&str, &str)> = merges.iter().filter_map(|merge| split_merge(merge)).collect();
            json["normalizer"] = Value::Null;
            json["pre_tokenizer"] = pre.to_json();
            json["post_processor"] = post_processor(vocabulary);
            json["decoder"] = json!({
                "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
            });
            json["model"] = bpe_model(vocab, &merges, None, pre.ignore_merges);
        }
        TokenizerModel::SentencePiece { scores, add_space_prefix } => {
            let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
            let mut normalizers = vec![replace];
            let mut decoders = vec![
                json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
                json!({"type": "ByteFallback"}),
                json!({"type": "Fuse"}),
            ];
            if *add_space_prefix {
                normalizers.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
                decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
            }
            let merges = merges_from_scores(vocabulary, scores);
            let unk = vocabulary.token(vocabulary.unk);
            json["normalizer"] = json!({"type": "Sequence", "normalizers": normalizers});
            json["pre_tokenizer"] = Value::Null;
            json["post_processor"] = post_processor(vocabulary);
            json["decoder"] = json!({"type": "Sequence", "decoders": decoders});
            json["model"] = bpe_model(vocab, &merges, Some(unk), false);
        }
    }
    Ok(json)
}

/// tokenizer_config.json, with the chat template as it is in the file.
pub(crate) fn tokenizer_config_json(vocabulary: &Vocabulary, model_max_length: usize) -> Value {
    let decoder: Map<String, Value> = added_tokens(vocabulary)
        .into_iter()
        .map(|mut token| {
            let id = token.as_object_mut().and_then(|token| token.shift_remove("id")).unwrap_or_default();
            (id.to_string(), token)
        })
        .collect();
    let mut json = json!({
        "add_bos_token": vocabulary.add_bos,
        "add_eos_token": vocabulary.add_eos,
        "added_tokens_decoder": decoder,
        "clean_up_tokenization_spaces": false,
        "model_max_length": model_max_length,
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    for (name, token) in special_tokens(vocabulary) {
        json[name] = json!(token);
    }
    let default = vocabulary.chat_template.iter().map(|template| ("default", template.as_str()));
    let named = vocabulary.named_templates.iter().map(|(name, template)| (name.as_str(), template.as_str()));
    match &vocabulary.chat_template {
        Some(template) if vocabulary.named_templates.is_empty() => json["chat_template"] = json!(template),
        None if vocabulary.named_templates.is_empty() => {}
        _ => {
            let list: Vec<Value> =
                default.chain(named).map(|(name, template)| json!({"name": name, "template": template})).collect();
            json["chat_template"] = json!(list);
        }
    }
    json
}

/// special_tokens_map.json.
pub(crate) fn special_tokens_map_json(vocabulary: &Vocabulary) -> Value {
    special_tokens(vocabulary)
        .into_iter()
        .map(|(name, token)| (name.to_owned(), json!(token)))
        .collect::<Map<_, _>>()
        .into()
}

fn special_tokens(vocabulary: &Vocabulary) -> Vec<(&'static str, &str)> {
    [
        ("bos_token", vocabulary.bos),
        ("eos_token", vocabulary.eos),
        ("unk_token", vocabulary.unk),
        ("pad_token", vocabulary.pad),
    ]
    .into_iter()
    .filter_map(|(name, id)| Some((name, vocabulary.token(id)?)))
    .collect()
}

/// Tokens that are found in text before it is cut: special ones, and those the user defined.
fn added_tokens(vocabulary: &Vocabulary) -> Vec<Value> {
    let tokens = vocabulary.tokens.iter().zip(&vocabulary.types).enumerate();
    tokens
        .filter(|(_, (_, kind))| matches!(kind, TokenType::Control | TokenType::Unknown | TokenType::UserDefined))
        .map(|(id, (token, kind))| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind != TokenType::UserDefined,
            })
        })
        .collect()
}

/// `<bos> text <eos>`, as far as the file asks for them.
fn post_processor(vocabulary: &Vocabulary) -> Value {
    let bos = vocabulary.bos.filter(|_| vocabulary.add_bos);
    let eos = vocabulary.eos.filter(|_| vocabulary.add_eos);
    if bos.or(eos).is_none() {
        return Value::Null;
    }
    let special = |id: Option<u32>, sequence: u8| {
        vocabulary.token(id).map(|token| json!({"SpecialToken": {"id": token, "type_id": sequence}}))
    };
    let text = |name: &str, sequence: u8| {
        let text = json!({"Sequence": {"id": name, "type_id": sequence}});
        [special(bos, sequence), Some(text), special(eos, sequence)].into_iter().flatten()
    };
    let mut tokens = Map::new();
    for id in [bos, eos].into_iter().flatten() {
        let token = vocabulary.tokens[id as usize].clone();
        tokens.insert(token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}));
    }
    json!({
        "type": "TemplateProcessing",
        "single": text("A", 0).collect::<Vec<_>>(),
        "pair": text("A", 0).chain(text("B", 1)).collect::<Vec<_>>(),
        "special_tokens": tokens,
    })
}

/// `unk` is given for SentencePiece alone, which falls back on bytes.
fn bpe_model(
    vocab: Map<String, Value>,
    merges: &[(&str, &str)],
    unk: Option<Option<&str>>,
    ignore_merges: bool,
) -> Value {
    // `left right` is read by every version of tokenizers, but cannot hold a token with a space.
    let plain = merges.iter().all(|(left, right)| !left.contains(' ') && !right.contains(' '));
    let merges: Vec<Value> = merges
        .iter()
        .map(|(left, right)| if plain { json!(format!("{left} {right}")) } else { json!([left, right]) })
        .collect();
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": unk.flatten(),
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": unk.is_some(),
        "byte_fallback": unk.is_some(),
        "ignore_merges": ignore_merges,
        "vocab": vocab,
        "merges": merges,
    })
}

/// SentencePiece merges the pair whose result has the highest score; the same order written as a list of merges.
///
/// Every way to cut a token into two tokens is a merge. Special tokens are neither parts nor results, so ordinary text
/// never becomes one.
fn merges_from_scores<'a>(vocabulary: &'a Vocabulary, scores: &[f32]) -> Vec<(&'a str, &'a str)> {
    let ids: HashMap<&str, usize> = vocabulary
        .tokens
        .iter()
        .enumerate()
        .filter(|(id, _)| vocabulary.types[*id] == TokenType::Normal)
        .map(|(id, token)| (token.as_str(), id))
        .collect();
    let mut merges: Vec<(f32, usize, usize, usize)> = Vec::new();
    for (token, id) in &ids {
        for (at, _) in token.char_indices().skip(1) {
            if let (Some(left), Some(right)) = (ids.get(&token[..at]), ids.get(&token[at..])) {
                merges.push((scores[*id], *id, *left, *right));
            }
        }
    }
    merges.sort_by(|a, b| {
        b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal).then_with(|| (a.1, a.2, a.3).cmp(&(b.1, b.2, b.3)))
    });
    merges
        .into_iter()
        .map(|(_, _, left, right)| (vocabulary.tokens[left].as_str(), vocabulary.tokens[right].as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bpe_vocabulary, sentencepiece_vocabulary};
    use tokenizers::Tokenizer;

    fn load(vocabulary: &Vocabulary) -> Tokenizer {
        Tokenizer::from_bytes(tokenizer_json(vocabulary).unwrap().to_string()).unwrap()
    }

    fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
        tokenizer.encode(text, false).unwrap().get_tokens().to_vec()
    }

    #[test]
    fn bpe_loads_merges_and_finds_its_special_tokens() {
        let tokenizer = load(&bpe_vocabulary());
        assert_eq!(tokens(&tokenizer, "ab ab12<|im_end|>"), ["ab", "Ġab", "1", "2", "<|im_end|>"]);
        let ids = tokenizer.encode("¡ab, niño! 👋🏽\r\n", false).unwrap();
        assert_eq!(tokenizer.decode(ids.get_ids(), false).unwrap(), "¡ab, niño! 👋🏽\r\n");
    }

    #[test]
    fn begin_token_is_added_where_the_file_asks() {
        let mut vocabulary = bpe_vocabulary();
        vocabulary.add_bos = true;
        let tokenizer = load(&vocabulary);
        assert_eq!(tokenizer.encode("a", true).unwrap().get_ids()[0], 1);
        assert_eq!(tokenizer.encode("a", false).unwrap().get_ids().len(), 1);
    }

    #[test]
    fn sentencepiece_follows_scores_and_falls_back_on_bytes() {
        let tokenizer = load(&sentencepiece_vocabulary());
        // `bc` scores above `ab`, so it is merged first.
        assert_eq!(tokens(&tokenizer, "abc"), ["▁", "a", "bc"]);
        assert_eq!(tokens(&tokenizer, "ab é"), ["▁ab", "▁", "<0xC3>", "<0xA9>"]);
        let ids = tokenizer.encode("abc\né", false).unwrap();
        assert_eq!(tokenizer.decode(ids.get_ids(), false).unwrap(), "abc\né");
    }

    #[test]
    fn no_merge_makes_a_special_token() {
        let mut vocabulary = sentencepiece_vocabulary();
        let (a, b) = ("<".to_owned(), "s>".to_owned());
        for token in [a, b] {
            vocabulary.tokens.push(token);
            vocabulary.types.push(TokenType::Normal);
        }
        let scores = vec![0.0; vocabulary.tokens.len()];
        let merges = merges_from_scores(&vocabulary, &scores);
        assert!(!merges.contains(&("<", "s>")), "{merges:?}");
    }

    #[test]
    fn config_has_template_and_special_tokens() {
        let mut vocabulary = bpe_vocabulary();
        let config = tokenizer_config_json(&vocabulary, 128);
        assert_eq!(config["chat_template"], "{{ messages }}");
        assert_eq!(config["eos_token"], "<|im_end|>");
        assert_eq!(config["added_tokens_decoder"]["2"]["content"], "<|im_end|>");
        assert_eq!(config.get("pad_token"), None);
        vocabulary.named_templates.push(("tool_use".into(), "{{ tools }}".into()));
        let config = tokenizer_config_json(&vocabulary, 128);
        assert_eq!(config["chat_template"][1], json!({"name": "tool_use", "template": "{{ tools }}"}));
        assert_eq!(special_tokens_map_json(&vocabulary)["bos_token"], "<|im_start|>");
    }
}
