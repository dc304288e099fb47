//! Text as its tokens arrive.

use crate::tokenizer::Tokenizer;

/// Turns a reply's tokens into text one by one. A character that spans several tokens comes out with the last of them;
/// special tokens give no text. The pieces and what [`finish`](TextStream::finish) gives join to the text of all tokens
/// decoded at once; only bytes that make up no character may give another number of replacement characters.
#[derive(Debug, Clone, Default)]
pub struct TextStream {
    /// The tokens whose text came out last, then those still waiting.
    tokens: Vec<u32>,
    /// How many of `tokens` have come out.
    done: usize,
}

impl TextStream {
    pub fn new() -> TextStream {
        TextStream::default()
    }

    /// The text that `token` completes: empty while a character lacks bytes.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> String {
        if tokenizer.is_special(token) {
            return String::new();
        }
        self.tokens.push(token);
        let text = self.waiting(tokenizer);
        // An unfinished character decodes as the replacement character.
        if text.is_empty() || text.ends_with(char::REPLACEMENT_CHARACTER) {
            return String::new();
        }
        self.tokens.drain(..self.done);
        self.done = self.tokens.len();
        text
    }

    /// The text of what was left waiting: bytes that never became a character give replacement characters.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> String {
        let text = self.waiting(tokenizer);
        self.tokens.clear();
        self.done = 0;
        text
    }

    /// Tokens are decoded after those that came out before them, because decoders treat the start of a text in their own way.
    fn waiting(&self, tokenizer: &Tokenizer) -> String {
        let before = tokenizer.decode(&self.tokens[..self.done], true);
        let text = tokenizer.decode(&self.tokens, true);
        let same = text.char_indices().zip(before.chars()).find(|((_, a), b)| a != b).map(|((at, _), _)| at);
        text[same.unwrap_or(before.len().min(text.len()))..].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn fixture(name: &str) -> Tokenizer {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chat/tokenizers");
        Tokenizer::from_file(&folder.join(format!("{name}.json"))).unwrap()
    }

    fn pieces(tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<String> {
        let mut stream = TextStream::new();
        let mut pieces: Vec<String> = tokens.iter().map(|&token| stream.push(tokenizer, token)).collect();
        pieces.push(stream.finish(tokenizer));
        pieces
    }

    #[test]
    fn pieces_join_to_the_text_of_the_whole() {
        let texts = ["Hello, how are you?", " ¿Qué 你好 👩‍👩‍👧‍👦? ", "a  b\n\n c\u{fffd}d", "\u{fffd}", "e\u{301}", ""];
        for name in ["smollm2", "llama3", "sentencepiece", "sentencepiece_first"] {
            let tokenizer = fixture(name);
            for text in texts {
                let tokens = tokenizer.encode_text(text);
                assert_eq!(pieces(&tokenizer, &tokens).concat(), tokenizer.decode(&tokens, true), "{name} {text:?}");
                // This kind gives the same tokens with and without a space at the start.
                let exact = name != "sentencepiece_first" || !text.starts_with(' ');
                assert_eq!(tokenizer.decode(&tokens, true) == text, exact, "{name} {text:?}");
            }
        }
    }

    #[test]
    fn characters_come_out_whole() {
        for name in ["smollm2", "sentencepiece"] {
            let tokenizer = fixture(name);
            let pieces = pieces(&tokenizer, &tokenizer.encode_text("😀"));
            assert!(pieces.len() > 2, "several tokens make up this character");
            assert_eq!(pieces.iter().filter(|piece| !piece.is_empty()).collect::<Vec<_>>(), ["😀"]);
        }
    }

    #[test]
    fn bytes_left_at_the_end_come_out_as_replacement_characters() {
        let tokenizer = fixture("smollm2");
        let tokens = tokenizer.encode_text("ok 😀");
        let cut = &tokens[..tokens.len() - 1];
        let pieces = pieces(&tokenizer, cut);
        assert_eq!(pieces.concat(), tokenizer.decode(cut, true));
        assert!(pieces.last().is_some_and(|last| last.contains(char::REPLACEMENT_CHARACTER)));
    }

    #[test]
    fn random_tokens_join_to_the_text_of_the_whole() {
        let tokenizer = fixture("llama3");
        let size = tokenizer.vocab_size() as u32;
        let mut state = 1_u32;
        for _ in 0..200 {
            let tokens: Vec<u32> = (0..30)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 8) % size
                })
                .collect();
            assert_eq!(pieces(&tokenizer, &tokens).concat(), tokenizer.decode(&tokens, true), "{tokens:?}");
        }
    }

    #[test]
    fn special_tokens_give_no_text() {
        let tokenizer = fixture("sentencepiece");
        let tokens = tokenizer.encode_with_specials("one</s> two");
        assert_eq!(pieces(&tokenizer, &tokens).concat(), tokenizer.decode(&tokens, true));
    }
}
