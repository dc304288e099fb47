//! tokenizer.json, with ordinary text and special tokens kept apart.

use std::fmt;
use std::path::{Path, PathBuf};

use tokenizers::{AddedToken, ModelWrapper};

use crate::shield::ShieldRules;
use crate::specials::{Special, Specials, Stretch};

#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error("failed to read `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("not a tokenizer that this program can run")]
    Invalid { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the special tokens cannot be indexed")]
    Specials { source: aho_corasick::BuildError },
    #[error("token `{token}` is not in the vocabulary")]
    UnknownToken { token: String },
}

/// A Hugging Face tokenizer. It never adds tokens of its own, cuts or pads: what a text becomes is what it says.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The same for text that does not open a rendering, where a tokenizer marks the first word of a text only.
    continuation: Option<tokenizers::Tokenizer>,
    specials: Specials,
    pairs: Vec<(String, u32)>,
    rules: ShieldRules,
    /// The token for characters that the vocabulary lacks.
    unknown: Option<u32>,
    vocab_size: usize,
}

impl Tokenizer {
    pub fn from_file(path: &Path) -> Result<Tokenizer, TokenizerError> {
        let bytes = std::fs::read(path).map_err(|source| TokenizerError::Read { path: path.to_owned(), source })?;
        Tokenizer::from_bytes(&bytes)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
        let inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|source| TokenizerError::Invalid { source })?;
        Tokenizer::new(inner)
    }

    fn new(mut inner: tokenizers::Tokenizer) -> Result<Tokenizer, TokenizerError> {
        let invalid = |source| TokenizerError::Invalid { source };
        inner.set_encode_special_tokens(true);
        inner.with_truncation(None).map_err(invalid)?;
        inner.with_padding(None);
        // A letter, a space, and a character that few vocabularies hold: what fails on these fails on ordinary text.
        inner.encode_fast("a \u{10ffff}", false).map_err(invalid)?;

        let mut list: Vec<Special> = inner
            .get_added_tokens_decoder()
            .into_iter()
            // One character cannot be told from text.
            .filter(|(_, token)| token.special && token.content.chars().count() > 1)
            .map(|(id, token)| Special {
                id,
                content: token.content,
                lstrip: token.lstrip,
                rstrip: token.rstrip,
                single_word: token.single_word,
            })
            .collect();
        list.sort_by_key(|special| special.id);
        let specials_error = |source| TokenizerError::Specials { source };
        let highest = list.iter().map(|special| special.id as usize + 1).max().unwrap_or(0);
        Ok(Tokenizer {
            continuation: without_first_word_mark(&inner).map_err(|source| invalid(source.into()))?,
            pairs: list.iter().map(|special| (special.content.clone(), special.id)).collect(),
            rules: ShieldRules::new(list.iter().map(|special| special.content.as_str())).map_err(specials_error)?,
            unknown: unknown_token(&inner),
            specials: Specials::new(list).map_err(specials_error)?,
            vocab_size: inner.get_vocab_size(true).max(highest),
            inner,
        })
    }

    /// The same tokenizer with one more special token, which its vocabulary must hold already: tokenizer_config.json can name
    /// an end-of-turn token that tokenizer.json lists as an ordinary one.
    pub fn with_special(self, token: &str) -> Result<Tokenizer, TokenizerError> {
        if self.specials.list().iter().any(|special| special.content == token) {
            return Ok(self);
        }
        if self.inner.token_to_id(token).is_none() {
            return Err(TokenizerError::UnknownToken { token: token.to_owned() });
        }
        let mut inner = self.inner;
        inner
            .add_special_tokens([AddedToken::from(token, true)])
            .map_err(|source| TokenizerError::Invalid { source })?;
        Tokenizer::new(inner)
    }

    /// Tokens of ordinary text: a special string in it becomes ordinary tokens.
    pub fn encode_text(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        self.encode_piece(text, true, &mut |id, _| tokens.push(id));
        tokens
    }

    /// Tokens of a text whose special strings mean special tokens: for prompts that a user writes out in full.
    pub fn encode_with_specials(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        for stretch in self.specials.split(text) {
            match stretch {
                Stretch::Special { id, .. } => tokens.push(id),
                Stretch::Text { range } => {
                    self.encode_piece(&text[range.clone()], range.start == 0, &mut |id, _| tokens.push(id));
                }
            }
        }
        tokens
    }

    /// The text of tokens; ids outside of the vocabulary give none.
    pub fn decode(&self, tokens: &[u32], skip_special: bool) -> String {
        self.inner.decode(tokens, skip_special).unwrap_or_else(|_| {
            let shown = tokens.iter().filter(|&&id| !(skip_special && self.is_special(id)));
            shown.filter_map(|&id| self.inner.id_to_token(id)).collect()
        })
    }

    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    pub fn is_special(&self, id: u32) -> bool {
        self.specials.list().binary_search_by_key(&id, |special| special.id).is_ok()
    }

    /// Number of tokens, added ones included. A model's embedding may have more rows, never fewer.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Special tokens with their ids, by id.
    pub fn special_tokens(&self) -> &[(String, u32)] {
        &self.pairs
    }

    pub(crate) fn specials(&self) -> &Specials {
        &self.specials
    }

    pub(crate) fn shield_rules(&self) -> &ShieldRules {
        &self.rules
    }

    /// Encodes ordinary text whole. `emit` gets each token and the byte in `text` where it ends; `opens` says whether the
    /// rendering begins here.
    pub(crate) fn encode_piece(&self, text: &str, opens: bool, emit: &mut dyn FnMut(u32, usize)) {
        self.encode_at(text, opens, 0, emit);
    }

    fn encode_at(&self, text: &str, opens: bool, offset: usize, emit: &mut dyn FnMut(u32, usize)) {
        if text.is_empty() {
            return;
        }
        let inner = if opens { &self.inner } else { self.continuation.as_ref().unwrap_or(&self.inner) };
        let Ok(encoding) = inner.encode(text, false) else {
            // A word that the model cannot encode: narrow it down to the character, and leave that one out.
            let middle = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(at, _)| at);
            if middle > 0 {
                self.encode_at(&text[..middle], opens, offset, emit);
                self.encode_at(&text[middle..], false, offset + middle, emit);
            }
            return;
        };
        let ids = encoding.get_ids();
        let offsets = encoding.get_offsets();
        // A vocabulary can hold a special string as a word of its own: such a word is broken after its first character.
        let special = ids.iter().zip(offsets).find_map(|(&id, range)| self.break_special(id, text, *range));
        if let Some(broken) = special {
            self.encode_at(&text[..broken], opens, offset, emit);
            self.encode_at(&text[broken..], false, offset + broken, emit);
            return;
        }
        for (&id, &(_, end)) in ids.iter().zip(offsets) {
            emit(id, offset + end);
        }
    }

    /// Where to break the text when one of its words became the special token `id`; never for the token that stands for
    /// unknown characters.
    fn break_special(&self, id: u32, text: &str, (start, end): (usize, usize)) -> Option<usize> {
        let index = self.specials.list().binary_search_by_key(&id, |special| special.id).ok()?;
        let word = text.get(start..end)?;
        if self.unknown == Some(id) && word != self.specials.list()[index].content {
            return None;
        }
        let mut chars = word.chars();
        let first = chars.next()?.len_utf8();
        chars.next().map(|_| start + first)
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size).field("special_tokens", &self.pairs).finish()
    }
}

fn unknown_token(inner: &tokenizers::Tokenizer) -> Option<u32> {
    match inner.get_model() {
        ModelWrapper::BPE(model) => inner.token_to_id(model.get_unk_token().as_deref()?),
        ModelWrapper::WordPiece(model) => inner.token_to_id(&model.unk_token),
        ModelWrapper::WordLevel(model) => inner.token_to_id(&model.unk_token),
        ModelWrapper::Unigram(model) => {
            let json = serde_json::to_value(model).ok()?;
            json["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok())
        }
    }
}

/// Metaspace with `prepend_scheme: first` marks the first word of a rendering only: pieces after it go through a copy that
/// marks none. `None` for every other tokenizer.
fn without_first_word_mark(inner: &tokenizers::Tokenizer) -> Result<Option<tokenizers::Tokenizer>, serde_json::Error> {
    let Some(pre_tokenizer) = inner.get_pre_tokenizer() else {
        return Ok(None);
    };
    let mut json = serde_json::to_value(pre_tokenizer)?;
    if !replace_first_by_never(&mut json) {
        return Ok(None);
    }
    let mut copy = inner.clone();
    copy.with_pre_tokenizer(Some(serde_json::from_value::<tokenizers::PreTokenizerWrapper>(json)?));
    Ok(Some(copy))
}

fn replace_first_by_never(json: &mut serde_json::Value) -> bool {
    let mut replaced = false;
    if let Some(object) = json.as_object_mut() {
        if object.get("prepend_scheme").is_some_and(|scheme| scheme == "first") {
            object.insert("prepend_scheme".into(), "never".into());
            replaced = true;
        }
        for inner in object.get_mut("pretokenizers").and_then(|list| list.as_array_mut()).into_iter().flatten() {
            replaced |= replace_first_by_never(inner);
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Tokenizer {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chat/tokenizers");
        Tokenizer::from_file(&folder.join(format!("{name}.json"))).unwrap()
    }

    /// Words split at spaces, and every word of `words` in the vocabulary.
    fn words(words: &[&str], special: &[&str]) -> Tokenizer {
        let vocab: serde_json::Map<String, serde_json::Value> =
            words.iter().enumerate().map(|(id, word)| (word.to_string(), id.into())).collect();
        let added = special.iter().map(|word| {
            let id = words.iter().position(|known| known == word).unwrap();
            serde_json::json!({"id": id, "content": word, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
        });
        let json = serde_json::json!({
            "version": "1.0", "added_tokens": added.collect::<Vec<_>>(), "pre_tokenizer": {"type": "WhitespaceSplit"},
            "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
        });
        Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn special_strings_are_text_unless_asked_for() {
        for name in ["smollm2", "llama3", "sentencepiece", "sentencepiece_first"] {
            let tokenizer = fixture(name);
            for (special, id) in tokenizer.special_tokens() {
                let text = format!("hi {special} you");
                let ordinary = tokenizer.encode_text(&text);
                assert!(!ordinary.iter().any(|&id| tokenizer.is_special(id)), "{special}");
                assert_eq!(tokenizer.decode(&ordinary, true), text);
                let special: Vec<u32> = tokenizer.encode_with_specials(&text);
                assert_eq!(special.iter().filter(|&&found| found == *id).count(), 1);
            }
        }
    }

    #[test]
    fn special_string_that_is_a_word_of_the_vocabulary_is_broken() {
        let tokenizer = words(&["<unk>", "<end>", "a", "<", "end>"], &["<unk>", "<end>"]);
        assert_eq!(tokenizer.encode_text("a <end> a"), [2, 3, 4, 2]);
        assert_eq!(tokenizer.encode_with_specials("a <end> a"), [2, 1, 2]);
        assert_eq!(tokenizer.encode_text("zzz"), [0], "a word that is not in the vocabulary is the unknown token");
    }

    #[test]
    fn texts_are_not_cut_though_the_file_says_so() {
        let tokenizer = words(&["<unk>", "a"], &["<unk>"]);
        assert_eq!(tokenizer.encode_text(&"a ".repeat(50)).len(), 50);
    }

    #[test]
    fn token_of_the_configuration_becomes_special() {
        let tokenizer = words(&["<unk>", "a", "<end>"], &["<unk>"]);
        assert!(!tokenizer.is_special(2));
        let tokenizer = tokenizer.with_special("<end>").unwrap();
        assert!(tokenizer.is_special(2));
        assert_eq!(tokenizer.vocab_size(), 3);
        let error = tokenizer.with_special("<other>").unwrap_err();
        assert_eq!(error.to_string(), "token `<other>` is not in the vocabulary");
    }

    #[test]
    fn files_that_are_no_tokenizer_are_refused() {
        assert!(matches!(Tokenizer::from_bytes(b"{}"), Err(TokenizerError::Invalid { .. })));
        let error = Tokenizer::from_file(Path::new("missing/tokenizer.json")).unwrap_err();
        assert_eq!(error.to_string(), "failed to read `missing/tokenizer.json`");
    }

    #[test]
    fn empty_text_and_unknown_ids_give_nothing() {
        let tokenizer = fixture("smollm2");
        assert!(tokenizer.encode_text("").is_empty());
        assert_eq!(tokenizer.decode(&[9_999_999], false), "");
        assert_eq!(tokenizer.token_id("<|im_end|>"), Some(2));
    }
}
