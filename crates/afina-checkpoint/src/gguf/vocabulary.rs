//! A tokenizer as GGUF metadata has it: the common ground of the two tokenizer formats.

use std::collections::HashSet;

use super::pre_tokenizers::{self, PreTokenizer};
use super::reader::{GgufError, GgufFile};
use super::types::Value;

/// A tokenizer as GGUF metadata has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    pub model: TokenizerModel,
    /// Token texts by id; byte-level alphabet for BPE, `▁` for spaces in SentencePiece.
    pub tokens: Vec<String>,
    /// As many as `tokens`.
    pub types: Vec<TokenType>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    /// Ends of a turn and of a message, where they differ from `eos`.
    pub eot: Option<u32>,
    pub eom: Option<u32>,
    pub unk: Option<u32>,
    pub pad: Option<u32>,
    pub add_bos: bool,
    pub add_eos: bool,
    /// Jinja, verbatim.
    pub chat_template: Option<String>,
    /// Further templates by name (`tool_use`, `rag`).
    pub named_templates: Vec<(String, String)>,
}

/// The two kinds of tokenizer that Llama models have.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenizerModel {
    /// llama.cpp's `gpt2`: byte-level BPE; `pre` names how text is cut first, merges are `left right`.
    Bpe { pre: String, merges: Vec<String> },
    /// llama.cpp's `llama`: SentencePiece BPE with byte fallback; a score for each token, the highest merged first.
    SentencePiece { scores: Vec<f32>, add_space_prefix: bool },
}

/// What a token is; the numbers are llama.cpp's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenType {
    Normal = 1,
    Unknown = 2,
    /// Special: never produced from ordinary text.
    Control = 3,
    /// Always taken whole where its text is found.
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// Why a tokenizer cannot be carried over.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    #[error("failed to read the tokenizer")]
    Gguf(#[from] GgufError),
    #[error("tokenizer model `{found}` is not supported, expected `gpt2` or `llama`")]
    Model { found: String },
    #[error("pre-tokenizer `{found}` is not known, expected one of {known}")]
    Pre { found: String, known: String },
    #[error("tokenizer: `{key}`: {reason}")]
    Invalid { key: String, reason: String },
    #[error("failed to read `{}`", path.display())]
    Io { path: std::path::PathBuf, source: std::io::Error },
    #[error("`{}` is not valid JSON", path.display())]
    Json { path: std::path::PathBuf, source: serde_json::Error },
}

impl TokenType {
    fn from_number(number: u64) -> Option<TokenType> {
        use TokenType::*;
        [Normal, Unknown, Control, UserDefined, Unused, Byte].into_iter().find(|kind| *kind as u64 == number)
    }
}

impl Vocabulary {
    /// Reads `tokenizer.*`; a kind of tokenizer that cannot be rebuilt exactly is refused by name.
    pub fn from_gguf(gguf: &GgufFile) -> Result<Vocabulary, VocabularyError> {
        let tokens =
            strings(gguf, "tokenizer.ggml.tokens")?.ok_or_else(|| gguf.missing_key("tokenizer.ggml.tokens"))?;
        check_unique("tokenizer.ggml.tokens", &tokens)?;
        let types = types(gguf, tokens.len())?;
        let name = gguf.str("tokenizer.ggml.model")?.ok_or_else(|| gguf.missing_key("tokenizer.ggml.model"))?;
        let model = match name {
            "gpt2" => bpe(gguf)?,
            "llama" => sentencepiece(gguf, &tokens, &types)?,
            other => return Err(VocabularyError::Model { found: other.into() }),
        };
        let add_bos_default = match &model {
            TokenizerModel::Bpe { pre, .. } => known_pre(pre)?.add_bos,
            TokenizerModel::SentencePiece { .. } => true,
        };
        // llama.cpp's own defaults for SentencePiece files that leave them out.
        let default_ids = match &model {
            TokenizerModel::Bpe { .. } => [None; 3],
            TokenizerModel::SentencePiece { .. } => [Some(1), Some(2), Some(0)],
        };
        let id = |name: &str, default: Option<u32>| token_id(gguf, name, tokens.len(), default);
        Ok(Vocabulary {
            bos: id("bos", default_ids[0])?,
            eos: id("eos", default_ids[1])?,
            eot: id("eot", None)?,
            eom: id("eom", None)?,
            unk: id("unknown", default_ids[2])?,
            pad: id("padding", None)?,
            add_bos: gguf.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(add_bos_default),
            add_eos: gguf.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
            chat_template: gguf.str("tokenizer.chat_template")?.map(str::to_owned),
            named_templates: named_templates(gguf)?,
            model,
            tokens,
            types,
        })
    }

    /// The metadata `tokenizer.*` of this tokenizer, as llama.cpp reads it.
    pub fn to_metadata(&self) -> Vec<(String, Value)> {
        let strings = |list: &[String]| Value::Array(list.iter().cloned().map(Value::String).collect());
        let mut out: Vec<(String, Value)> = Vec::new();
        let mut push = |key: &str, value: Value| out.push((format!("tokenizer.{key}"), value));
        match &self.model {
            TokenizerModel::Bpe { pre, .. } => {
                push("ggml.model", Value::String("gpt2".into()));
                push("ggml.pre", Value::String(pre.clone()));
            }
            TokenizerModel::SentencePiece { .. } => {
                push("ggml.model", Value::String("llama".into()));
                push("ggml.pre", Value::String("default".into()));
            }
        }
        push("ggml.tokens", strings(&self.tokens));
        if let TokenizerModel::SentencePiece { scores, .. } = &self.model {
            push("ggml.scores", Value::Array(scores.iter().map(|score| Value::F32(*score)).collect()));
        }
        push("ggml.token_type", Value::Array(self.types.iter().map(|kind| Value::I32(*kind as i32)).collect()));
        if let TokenizerModel::Bpe { merges, .. } = &self.model {
            push("ggml.merges", strings(merges));
        }
        let ids = [
            ("bos", self.bos),
            ("eos", self.eos),
            ("eot", self.eot),
            ("eom", self.eom),
            ("unknown", self.unk),
            ("padding", self.pad),
        ];
        for (name, id) in ids {
            if let Some(id) = id {
                push(&format!("ggml.{name}_token_id"), Value::U32(id));
            }
        }
        push("ggml.add_bos_token", Value::Bool(self.add_bos));
        push("ggml.add_eos_token", Value::Bool(self.add_eos));
        let add_space_prefix = match &self.model {
            TokenizerModel::Bpe { .. } => false,
            TokenizerModel::SentencePiece { add_space_prefix, .. } => *add_space_prefix,
        };
        push("ggml.add_space_prefix", Value::Bool(add_space_prefix));
        if let Some(template) = &self.chat_template {
            push("chat_template", Value::String(template.clone()));
        }
        if !self.named_templates.is_empty() {
            let names: Vec<String> = self.named_templates.iter().map(|(name, _)| name.clone()).collect();
            push("chat_templates", strings(&names));
            for (name, template) in &self.named_templates {
                push(&format!("chat_template.{name}"), Value::String(template.clone()));
            }
        }
        out
    }

    /// Every token that ends an answer: eos, eot, eom, and the special tokens with which Llama 3 and ChatML end a turn.
    pub fn end_ids(&self) -> Vec<u32> {
        const ENDS: [&str; 4] = ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>", "<|im_end|>"];
        let named = self.tokens.iter().zip(&self.types).enumerate().filter_map(|(id, (token, kind))| {
            (*kind == TokenType::Control && ENDS.contains(&token.as_str())).then_some(id as u32)
        });
        let mut ids: Vec<u32> = [self.eos, self.eot, self.eom].into_iter().flatten().chain(named).collect();
        let mut seen = HashSet::new();
        ids.retain(|id| seen.insert(*id));
        ids
    }

    pub(crate) fn token(&self, id: Option<u32>) -> Option<&str> {
        self.tokens.get(id? as usize).map(String::as_str)
    }
}

/// The pre-tokenizer of this name, or an error that lists those that are known.
pub(crate) fn known_pre(name: &str) -> Result<&'static PreTokenizer, VocabularyError> {
    pre_tokenizers::by_name(name).ok_or_else(|| VocabularyError::Pre {
        found: name.into(),
        known: pre_tokenizers::known_names().iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    })
}

/// The 256 tokens of SentencePiece's byte fallback, `<0x00>` to `<0xFF>`.
pub(crate) fn byte_tokens() -> impl Iterator<Item = String> {
    (0..=255_u8).map(|byte| format!("<0x{byte:02X}>"))
}

fn bpe(gguf: &GgufFile) -> Result<TokenizerModel, VocabularyError> {
    let merges = strings(gguf, "tokenizer.ggml.merges")?.ok_or_else(|| gguf.missing_key("tokenizer.ggml.merges"))?;
    if let Some(merge) = merges.iter().find(|merge| split_merge(merge).is_none()) {
        return Err(invalid("tokenizer.ggml.merges", format!("`{merge}` is not two tokens")));
    }
    // Files made before the key existed have the value llama.cpp gives them.
    let pre = gguf.str("tokenizer.ggml.pre")?.unwrap_or("default");
    known_pre(pre)?;
    Ok(TokenizerModel::Bpe { pre: pre.into(), merges })
}

/// `left right`; a first character that is a space belongs to `left`, as llama.cpp reads it.
pub(crate) fn split_merge(merge: &str) -> Option<(&str, &str)> {
    let first = merge.chars().next()?.len_utf8();
    let space = first + merge[first..].find(' ')?;
    let (left, right) = (&merge[..space], &merge[space + 1..]);
    (!right.is_empty()).then_some((left, right))
}

fn sentencepiece(gguf: &GgufFile, tokens: &[String], types: &[TokenType]) -> Result<TokenizerModel, VocabularyError> {
    let key = "tokenizer.ggml.scores";
    let scores = gguf.array(key)?.ok_or_else(|| gguf.missing_key(key))?;
    let scores: Option<Vec<f32>> = scores
        .iter()
        .map(|score| match score {
            Value::F32(score) if !score.is_nan() => Some(*score),
            Value::I32(score) => Some(*score as f32),
            _ => None,
        })
        .collect();
    let scores = scores.ok_or_else(|| invalid(key, "a score is not a number".into()))?;
    if scores.len() != tokens.len() {
        return Err(invalid(key, format!("expected {} scores, found {}", tokens.len(), scores.len())));
    }
    let bytes: HashSet<&str> = tokens
        .iter()
        .zip(types)
        .filter(|(_, kind)| **kind == TokenType::Byte)
        .map(|(token, _)| token.as_str())
        .collect();
    if let Some(missing) = byte_tokens().find(|byte| !bytes.contains(byte.as_str())) {
        return Err(invalid("tokenizer.ggml.tokens", format!("byte token `{missing}` is missing")));
    }
    if gguf.bool("tokenizer.ggml.remove_extra_whitespaces")? == Some(true) {
        let reason = "removing white space is not supported".into();
        return Err(invalid("tokenizer.ggml.remove_extra_whitespaces", reason));
    }
    let add_space_prefix = gguf.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    Ok(TokenizerModel::SentencePiece { scores, add_space_prefix })
}

fn types(gguf: &GgufFile, count: usize) -> Result<Vec<TokenType>, VocabularyError> {
    let key = "tokenizer.ggml.token_type";
    let Some(numbers) = gguf.array(key)? else {
        return Ok(vec![TokenType::Normal; count]);
    };
    if numbers.len() != count {
        return Err(invalid(key, format!("expected {count} types, found {}", numbers.len())));
    }
    numbers
        .iter()
        .map(|number| number.as_u64().and_then(TokenType::from_number))
        .collect::<Option<_>>()
        .ok_or_else(|| invalid(key, "expected numbers from 1 to 6".into()))
}

fn token_id(gguf: &GgufFile, name: &str, count: usize, default: Option<u32>) -> Result<Option<u32>, VocabularyError> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    match gguf.u64(&key)? {
        None => Ok(default.filter(|id| (*id as usize) < count)),
        Some(id) if id < count as u64 => Ok(Some(id as u32)),
        // Converters have written -1 as an unsigned number for "none".
        Some(id) if id == u64::from(u32::MAX) => Ok(None),
        Some(id) => Err(invalid(&key, format!("token {id} is not in a vocabulary of {count}"))),
    }
}

fn named_templates(gguf: &GgufFile) -> Result<Vec<(String, String)>, VocabularyError> {
    let names = strings(gguf, "tokenizer.chat_templates")?.unwrap_or_default();
    let mut templates = Vec::new();
    for name in names {
        if let Some(template) = gguf.str(&format!("tokenizer.chat_template.{name}"))? {
            templates.push((name, template.to_owned()));
        }
    }
    Ok(templates)
}

fn strings(gguf: &GgufFile, key: &str) -> Result<Option<Vec<String>>, VocabularyError> {
    let Some(values) = gguf.array(key)? else { return Ok(None) };
    values
        .iter()
        .map(|value| value.as_str().map(str::to_owned))
        .collect::<Option<_>>()
        .map(Some)
        .ok_or_else(|| invalid(key, "expected an array of text".into()))
}

/// Fails with the key where a token has no text, or that of another.
pub(crate) fn check_unique(key: &str, tokens: &[String]) -> Result<(), VocabularyError> {
    let mut seen = HashSet::with_capacity(tokens.len());
    match tokens.iter().position(|token| token.is_empty() || !seen.insert(token.as_str())) {
        Some(id) if tokens[id].is_empty() => Err(invalid(key, format!("token {id} is empty"))),
        Some(id) => Err(invalid(key, format!("token {id}, `{}`, is there twice", tokens[id]))),
        None => Ok(()),
    }
}

pub(crate) fn invalid(key: &str, reason: String) -> VocabularyError {
    VocabularyError::Invalid { key: key.into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::write_gguf;
    use crate::testing::{bpe_vocabulary, sentencepiece_vocabulary};

    fn through_file(metadata: &[(String, Value)]) -> Result<Vocabulary, VocabularyError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gguf");
        write_gguf(&path, metadata, &[], &mut |_| unreachable!()).unwrap();
        Vocabulary::from_gguf(&GgufFile::open(&path).unwrap())
    }

    #[test]
    fn metadata_of_both_kinds_reads_back() {
        for vocabulary in [bpe_vocabulary(), sentencepiece_vocabulary()] {
            assert_eq!(through_file(&vocabulary.to_metadata()).unwrap(), vocabulary);
        }
    }

    #[test]
    fn unknown_kinds_are_refused_by_name() {
        let error = |key: &str, value: Value| {
            let mut metadata = bpe_vocabulary().to_metadata();
            metadata.retain(|(name, _)| name != key);
            metadata.push((key.into(), value));
            through_file(&metadata).unwrap_err().to_string()
        };
        let text = |text: &str| Value::String(text.into());
        assert_eq!(
            error("tokenizer.ggml.model", text("t5")),
            "tokenizer model `t5` is not supported, expected `gpt2` or `llama`"
        );
        let unknown = error("tokenizer.ggml.pre", text("qwen35"));
        assert!(unknown.starts_with("pre-tokenizer `qwen35` is not known, expected one of `smollm`"), "{unknown}");
        assert_eq!(
            error("tokenizer.ggml.eos_token_id", Value::U32(999)),
            "tokenizer: `tokenizer.ggml.eos_token_id`: token 999 is not in a vocabulary of 264"
        );
        assert_eq!(
            error("tokenizer.ggml.merges", Value::Array(vec![text("ab")])),
            "tokenizer: `tokenizer.ggml.merges`: `ab` is not two tokens"
        );
        let twice = Value::Array(vec![text("a"), text("a")]);
        assert!(error("tokenizer.ggml.tokens", twice).ends_with("token 1, `a`, is there twice"));
    }

    #[test]
    fn all_ends_of_an_answer_are_found() {
        let mut vocabulary = bpe_vocabulary();
        assert_eq!(vocabulary.end_ids(), [2]);
        vocabulary.tokens[0] = "<|eom_id|>".into();
        vocabulary.eot = Some(1);
        assert_eq!(vocabulary.end_ids(), [2, 1, 0]);
    }

    #[test]
    fn merges_are_cut_at_the_first_space_after_the_first_character() {
        assert_eq!(split_merge("Ġ t"), Some(("Ġ", "t")));
        assert_eq!(split_merge("  a"), Some((" ", "a")));
        assert_eq!(split_merge("a "), None);
        assert_eq!(split_merge(""), None);
    }
}
