//! GGUF metadata from a Hugging Face folder's tokenizer.json and tokenizer_config.json: the way back.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::pre_tokenizers;
use super::tokenizer_to_hf::SPACE;
use super::vocabulary::{
    TokenType, TokenizerModel, Vocabulary, VocabularyError, byte_tokens, check_unique, invalid, split_merge,
};

/// Reads the tokenizer of a model folder. What GGUF cannot say is refused by name.
///
/// `vocab_size` is the number of rows of the embeddings, `end_ids` the tokens that end an answer, in order.
pub fn vocabulary_from_hf(folder: &Path, vocab_size: usize, end_ids: &[u32]) -> Result<Vocabulary, VocabularyError> {
    let tokenizer =
        read(folder, "tokenizer.json")?.ok_or_else(|| invalid("tokenizer.json", "the folder has none".into()))?;
    let config = read(folder, "tokenizer_config.json")?.unwrap_or(Value::Null);
    let model = &tokenizer["model"];
    if model["type"] != "BPE" {
        return Err(invalid("model.type", format!("expected `BPE`, found {}", model["type"])));
    }
    let (tokens, types, ids) = tokens(&tokenizer, vocab_size)?;
    check_unique("vocab", &tokens)?;
    if let Some(id) = end_ids.iter().find(|id| **id as usize >= vocab_size) {
        let reason = format!("token {id} ends an answer, and the embeddings have {vocab_size} rows");
        return Err(invalid("eos_token_id", reason));
    }
    let merges = merges(model)?;
    let model = match model["byte_fallback"] == true {
        true => sentencepiece(&tokenizer, &ids, tokens.len(), &merges)?,
        false => bpe(&tokenizer, merges)?,
    };
    let mut vocabulary = Vocabulary {
        types: match &model {
            TokenizerModel::Bpe { .. } => types,
            TokenizerModel::SentencePiece { .. } => mark_bytes(types, &ids),
        },
        model,
        bos: special(&config, &ids, "bos_token"),
        eos: special(&config, &ids, "eos_token").or(end_ids.first().copied()),
        eot: None,
        eom: None,
        unk: special(&config, &ids, "unk_token"),
        pad: special(&config, &ids, "pad_token"),
        add_bos: false,
        add_eos: false,
        chat_template: None,
        named_templates: Vec::new(),
        tokens,
    };
    // llama.cpp stops at eos, eot and eom: an end that is not eos has to be one of the other two.
    let id = |token: &str| ids.get(token).copied().filter(|id| end_ids.contains(id) && vocabulary.eos != Some(*id));
    vocabulary.eom = id("<|eom_id|>");
    vocabulary.eot = id("<|eot_id|>")
        .or_else(|| end_ids.iter().copied().find(|end| vocabulary.eos != Some(*end) && vocabulary.eom != Some(*end)));
    let template = template_ends(&tokenizer["post_processor"]);
    let wants = |key: &str, token: Option<u32>, in_template: Option<String>| {
        let in_template = in_template.is_some_and(|text| ids.get(&text).copied() == token);
        token.is_some() && (in_template || config[key] == true)
    };
    vocabulary.add_bos = wants("add_bos_token", vocabulary.bos, template.0);
    vocabulary.add_eos = wants("add_eos_token", vocabulary.eos, template.1);
    read_templates(folder, &config, &mut vocabulary)?;
    Ok(vocabulary)
}

type Tokens = (Vec<String>, Vec<TokenType>, HashMap<String, u32>);

/// Texts and types by id; rows of the embeddings without a token get a name that no text has.
fn tokens(tokenizer: &Value, vocab_size: usize) -> Result<Tokens, VocabularyError> {
    let mut ids: HashMap<String, u32> = HashMap::new();
    let mut tokens: Vec<Option<String>> = vec![None; vocab_size];
    let mut types = vec![TokenType::Normal; vocab_size];
    let mut put = |token: &str, id: &Value| -> Result<usize, VocabularyError> {
        let index = id.as_u64().filter(|id| *id < vocab_size as u64).ok_or_else(|| {
            invalid("vocab", format!("token `{token}` has id {id}, and the embeddings have {vocab_size} rows"))
        })? as usize;
        match &tokens[index] {
            Some(other) if other != token => {
                return Err(invalid("vocab", format!("`{other}` and `{token}` share the id {index}")));
            }
            _ => {}
        }
        tokens[index] = Some(token.to_owned());
        ids.insert(token.to_owned(), index as u32);
        Ok(index)
    };
    let vocab =
        tokenizer["model"]["vocab"].as_object().ok_or_else(|| invalid("model.vocab", "expected an object".into()))?;
    for (token, id) in vocab {
        put(token, id)?;
    }
    for added in tokenizer["added_tokens"].as_array().into_iter().flatten() {
        let content =
            added["content"].as_str().ok_or_else(|| invalid("added_tokens", "a token has no `content`".into()))?;
        let index = put(content, &added["id"])?;
        types[index] = if added["special"] == true { TokenType::Control } else { TokenType::UserDefined };
    }
    let tokens = tokens
        .into_iter()
        .enumerate()
        .map(|(id, token)| {
            let placeholder = format!("[PAD{id}]");
            if token.as_ref().is_none_or(|token| *token == placeholder && types[id] == TokenType::Normal) {
                types[id] = TokenType::Unused;
            }
            token.unwrap_or(placeholder)
        })
        .collect();
    Ok((tokens, types, ids))
}

/// Pairs, or text cut at its space.
fn merges(model: &Value) -> Result<Vec<(String, String)>, VocabularyError> {
    let list = model["merges"].as_array().ok_or_else(|| invalid("model.merges", "expected an array".into()))?;
    list.iter()
        .map(|merge| match merge {
            Value::String(text) => text.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())),
            pair => Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned())),
        })
        .collect::<Option<_>>()
        .ok_or_else(|| invalid("model.merges", "a merge is not two tokens".into()))
}

fn bpe(tokenizer: &Value, merges: Vec<(String, String)>) -> Result<TokenizerModel, VocabularyError> {
    if !tokenizer["normalizer"].is_null() {
        let found = &tokenizer["normalizer"]["type"];
        return Err(invalid("normalizer", format!("expected none, found {found}")));
    }
    let ignore_merges = tokenizer["model"]["ignore_merges"] == true;
    let pre = pre_tokenizers::by_json(&tokenizer["pre_tokenizer"], ignore_merges)
        .ok_or_else(|| invalid("pre_tokenizer", format!("llama.cpp has no name for {}", tokenizer["pre_tokenizer"])))?;
    let mut texts = Vec::with_capacity(merges.len());
    for (left, right) in merges {
        let text = format!("{left} {right}");
        if split_merge(&text) != Some((&left, &right)) || right.contains(' ') {
            return Err(invalid("model.merges", format!("`{left}` and `{right}`: a token is empty, or holds a space")));
        }
        texts.push(text);
    }
    Ok(TokenizerModel::Bpe { pre: pre.names[0].into(), merges: texts })
}

/// A token's score is minus the rank of the first merge that makes it, which is the order SentencePiece merges in.
fn sentencepiece(
    tokenizer: &Value,
    ids: &HashMap<String, u32>,
    count: usize,
    merges: &[(String, String)],
) -> Result<TokenizerModel, VocabularyError> {
    if let Some(missing) = byte_tokens().find(|byte| !ids.contains_key(byte)) {
        return Err(invalid("model.vocab", format!("byte token `{missing}` is missing")));
    }
    let add_space_prefix = space_prefix(tokenizer)?;
    let mut scores = vec![-(merges.len() as f32); count];
    for (rank, (left, right)) in merges.iter().enumerate().rev() {
        let id = ids
            .get(&format!("{left}{right}"))
            .ok_or_else(|| invalid("model.merges", format!("`{left}` and `{right}` make no token")))?;
        scores[*id as usize] = -(rank as f32);
    }
    Ok(TokenizerModel::SentencePiece { scores, add_space_prefix })
}

/// Whether a space is put in front of text: the `Prepend` normalizer, or the `Metaspace` pre-tokenizer of newer files.
fn space_prefix(tokenizer: &Value) -> Result<bool, VocabularyError> {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let prepend = json!({"type": "Prepend", "prepend": SPACE});
    let normalizer = &tokenizer["normalizer"];
    let steps = match normalizer["normalizers"].as_array() {
        Some(steps) => steps.clone(),
        None if normalizer.is_null() => Vec::new(),
        None => vec![normalizer.clone()],
    };
    let metaspace = &tokenizer["pre_tokenizer"];
    match (steps.as_slice(), metaspace["type"].as_str()) {
        ([first, second], None) if *first == prepend && *second == replace => Ok(true),
        ([only], None) if *only == replace => Ok(false),
        ([], Some("Metaspace")) if metaspace["replacement"] == SPACE => {
            Ok(metaspace["prepend_scheme"] != "never" && metaspace["add_prefix_space"] != false)
        }
        _ => Err(invalid("normalizer", format!("GGUF has no word for {normalizer} with {metaspace}"))),
    }
}

fn mark_bytes(mut types: Vec<TokenType>, ids: &HashMap<String, u32>) -> Vec<TokenType> {
    for byte in byte_tokens() {
        if let Some(id) = ids.get(&byte) {
            types[*id as usize] = TokenType::Byte;
        }
    }
    if let Some(unk) = ids.get("<unk>") {
        types[*unk as usize] = TokenType::Unknown;
    }
    types
}

/// A special token of tokenizer_config.json, which is text or an object with `content`.
fn special(config: &Value, ids: &HashMap<String, u32>, name: &str) -> Option<u32> {
    let token = &config[name];
    let text = token.as_str().or_else(|| token["content"].as_str())?;
    ids.get(text).copied()
}

/// The special tokens that a `TemplateProcessing` puts before and after a single text.
fn template_ends(post_processor: &Value) -> (Option<String>, Option<String>) {
    let steps = match post_processor["processors"].as_array() {
        Some(steps) => steps.as_slice(),
        None => std::slice::from_ref(post_processor),
    };
    let single =
        steps.iter().find(|step| step["type"] == "TemplateProcessing").and_then(|step| step["single"].as_array());
    let special = |item: &'_ Value| item["SpecialToken"]["id"].as_str().map(str::to_owned);
    let Some(single) = single else { return (None, None) };
    let first = single.first().and_then(special);
    let last = single.iter().skip(1).last().and_then(special);
    (first, last)
}

/// `chat_template` as text or as a list of named ones; or the file chat_template.jinja.
fn read_templates(folder: &Path, config: &Value, vocabulary: &mut Vocabulary) -> Result<(), VocabularyError> {
    let path = folder.join("chat_template.jinja");
    match fs::read_to_string(&path) {
        Ok(text) => vocabulary.chat_template = Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(VocabularyError::Io { path, source }),
    }
    match &config["chat_template"] {
        Value::String(text) => {
            vocabulary.chat_template.get_or_insert_with(|| text.clone());
        }
        Value::Array(list) => {
            for entry in list {
                match (entry["name"].as_str(), entry["template"].as_str()) {
                    (Some("default"), Some(text)) => {
                        vocabulary.chat_template.get_or_insert_with(|| text.to_owned());
                    }
                    (Some(name), Some(_)) if vocabulary.named_templates.iter().any(|(other, _)| other == name) => {
                        return Err(invalid("chat_template", format!("`{name}` is there twice")));
                    }
                    (Some(name), Some(text)) => vocabulary.named_templates.push((name.into(), text.into())),
                    _ => return Err(invalid("chat_template", "an entry has no name or no template".into())),
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn read(folder: &Path, name: &str) -> Result<Option<Value>, VocabularyError> {
    let path = folder.join(name);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| VocabularyError::Json { path, source }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(VocabularyError::Io { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokenizer_to_hf::{tokenizer_config_json, tokenizer_json};
    use super::*;
    use crate::atomic::write_file;
    use crate::testing::{bpe_vocabulary, sentencepiece_vocabulary};

    fn write(folder: &Path, vocabulary: &Vocabulary) {
        let tokenizer = tokenizer_json(vocabulary).unwrap().to_string();
        write_file(&folder.join("tokenizer.json"), tokenizer.as_bytes()).unwrap();
        let config = tokenizer_config_json(vocabulary, 128).to_string();
        write_file(&folder.join("tokenizer_config.json"), config.as_bytes()).unwrap();
    }

    #[test]
    fn bpe_survives_the_way_there_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut vocabulary = bpe_vocabulary();
        vocabulary.add_bos = true;
        vocabulary.named_templates.push(("tool_use".into(), "{{ tools }}".into()));
        write(dir.path(), &vocabulary);
        let back = vocabulary_from_hf(dir.path(), vocabulary.tokens.len(), &[2]).unwrap();
        assert_eq!(back, vocabulary);
    }

    #[test]
    fn sentencepiece_keeps_the_order_of_its_merges() {
        let dir = tempfile::tempdir().unwrap();
        let vocabulary = sentencepiece_vocabulary();
        write(dir.path(), &vocabulary);
        let back = vocabulary_from_hf(dir.path(), vocabulary.tokens.len(), &[2]).unwrap();
        assert_eq!((&back.tokens, &back.types), (&vocabulary.tokens, &vocabulary.types));
        let merges = |vocabulary: &Vocabulary| tokenizer_json(vocabulary).unwrap()["model"]["merges"].clone();
        assert_eq!(merges(&back), merges(&vocabulary));
    }

    #[test]
    fn rows_without_a_token_and_further_ends_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut vocabulary = bpe_vocabulary();
        vocabulary.tokens.push("<|eom_id|>".into());
        vocabulary.types.push(TokenType::Control);
        write(dir.path(), &vocabulary);
        let count = vocabulary.tokens.len();
        let back = vocabulary_from_hf(dir.path(), count + 2, &[2, count as u32 - 1, 0]).unwrap();
        assert_eq!(back.tokens[count], format!("[PAD{count}]"));
        assert_eq!(back.types[count], TokenType::Unused);
        assert_eq!((back.eos, back.eom, back.eot), (Some(2), Some(count as u32 - 1), Some(0)));
    }

    #[test]
    fn template_in_its_own_file_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let mut vocabulary = bpe_vocabulary();
        vocabulary.chat_template = None;
        write(dir.path(), &vocabulary);
        write_file(&dir.path().join("chat_template.jinja"), b"{{ x }}").unwrap();
        let back = vocabulary_from_hf(dir.path(), vocabulary.tokens.len(), &[2]).unwrap();
        assert_eq!(back.chat_template.as_deref(), Some("{{ x }}"));
    }

    #[test]
    fn what_gguf_cannot_say_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let vocabulary = bpe_vocabulary();
        let error = |change: fn(&mut Value)| {
            let mut tokenizer = tokenizer_json(&vocabulary).unwrap();
            change(&mut tokenizer);
            write_file(&dir.path().join("tokenizer.json"), tokenizer.to_string().as_bytes()).unwrap();
            vocabulary_from_hf(dir.path(), vocabulary.tokens.len(), &[2]).unwrap_err().to_string()
        };
        assert_eq!(
            error(|json| json["model"]["type"] = "Unigram".into()),
            "tokenizer: `model.type`: expected `BPE`, found \"Unigram\""
        );
        assert_eq!(
            error(|json| json["normalizer"] = json!({"type": "NFC"})),
            "tokenizer: `normalizer`: expected none, found \"NFC\""
        );
        let error = error(|json| json["pre_tokenizer"] = json!({"type": "Whitespace"}));
        assert_eq!(error, "tokenizer: `pre_tokenizer`: llama.cpp has no name for {\"type\":\"Whitespace\"}");
        let small = vocabulary_from_hf(dir.path(), 3, &[2]).unwrap_err().to_string();
        assert!(small.contains("the embeddings have 3 rows"), "{small}");
    }
    #[test]
    fn what_a_gguf_would_not_be_read_with_is_refused_before_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let vocabulary = bpe_vocabulary();
        let count = vocabulary.tokens.len();
        let error = |change: fn(&mut Value), more: usize, end: u32| {
            let mut tokenizer = tokenizer_json(&vocabulary).unwrap();
            change(&mut tokenizer);
            write_file(&dir.path().join("tokenizer.json"), tokenizer.to_string().as_bytes()).unwrap();
            vocabulary_from_hf(dir.path(), vocabulary.tokens.len() + more, &[end]).unwrap_err().to_string()
        };
        let empty = error(|json| json["model"]["vocab"][""] = json!(264), 1, 2);
        assert_eq!((empty, count), ("tokenizer: `vocab`: token 264 is empty".into(), 264));
        let twice = error(|json| json["added_tokens"][0] = json!({"id": 264, "content": "<|im_end|>"}), 1, 2);
        assert_eq!(twice, "tokenizer: `vocab`: token 264, `<|im_end|>`, is there twice");
        assert_eq!(
            error(|json| json["model"]["merges"] = json!([["a", ""]]), 0, 2),
            "tokenizer: `model.merges`: `a` and ``: a token is empty, or holds a space"
        );
        assert_eq!(
            error(|_| (), 0, 264),
            "tokenizer: `eos_token_id`: token 264 ends an answer, and the embeddings have 264 rows"
        );
        let templates = json!([{"name": "rag", "template": "a"}, {"name": "rag", "template": "b"}]);
        let config = json!({"chat_template": templates}).to_string();
        write_file(&dir.path().join("tokenizer_config.json"), config.as_bytes()).unwrap();
        assert_eq!(error(|_| (), 0, 2), "tokenizer: `chat_template`: `rag` is there twice");
    }
}
