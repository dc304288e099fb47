//! Words of a text, without case and accents.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// A run of letters and digits: folded, and its place in the text in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) folded: String,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The words of a text. `ñ` folds to `n` and `ß` to `ss`: people who are in a hurry type them so.
pub(crate) fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut inside = false;
    for (start, c) in text.char_indices() {
        let belongs = c.is_alphanumeric() || inside && is_combining_mark(c);
        if !belongs {
            inside = false;
            continue;
        }
        let end = start + c.len_utf8();
        let folded = c.nfkd().flat_map(char::to_lowercase).filter(|&c| !is_combining_mark(c));
        let folded: String = folded.collect::<String>().replace('ß', "ss");
        match words.last_mut().filter(|_| inside) {
            Some(word) => {
                word.folded.push_str(&folded);
                word.end = end;
            }
            None => words.push(Word { folded, start, end }),
        }
        inside = true;
    }
    words
}

/// The text folded to words with single spaces between them.
pub(crate) fn fold(text: &str) -> String {
    let words: Vec<String> = words(text).into_iter().map(|word| word.folded).collect();
    words.join(" ")
}

/// The first place where the phrase's folded words stand one after the other: start and end in bytes.
///
/// Between two of them there may be white space, or one of the marks that join words.
pub(crate) fn find_phrase(text: &str, words: &[Word], phrase: &[String]) -> Option<(usize, usize)> {
    let joined = |pair: &[Word]| {
        let gap = text[pair[0].end..pair[1].start].trim();
        gap.is_empty() || matches!(gap, "-" | "'" | "’" | "/" | "_" | "." | "&" | "‑")
    };
    if phrase.is_empty() {
        return None;
    }
    let found = words.windows(phrase.len()).find(|window| {
        window.iter().zip(phrase).all(|(word, wanted)| word.folded == *wanted) && window.windows(2).all(joined)
    })?;
    Some((found[0].start, found[found.len() - 1].end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of the text that the phrase matches.
    fn find<'t>(text: &'t str, phrase: &str) -> Option<&'t str> {
        let phrase: Vec<String> = words(phrase).into_iter().map(|word| word.folded).collect();
        find_phrase(text, &words(text), &phrase).map(|(start, end)| &text[start..end])
    }

    #[test]
    fn words_match_without_case_and_accents() {
        assert_eq!(find("¿Y mi FACTURA?", "factura"), Some("FACTURA"));
        assert_eq!(find("mi facturación", "Facturacion"), Some("facturación"));
        assert_eq!(find("el año", "ANO"), Some("año"));
        assert_eq!(find("cafe\u{301} solo", "café"), Some("cafe\u{301}"));
        assert_eq!(find("Straße", "STRASSE"), Some("Straße"));
        assert_eq!(find("ＷＩＦＩ", "wifi"), Some("ＷＩＦＩ"));
    }

    #[test]
    fn only_whole_words_match() {
        assert_eq!(find("prefactura facturado", "factura"), None);
        assert_eq!(find("factura2", "factura"), None);
        assert_eq!(find("(factura)", "factura"), Some("factura"));
        assert_eq!(find("anagrama", "ana"), None);
    }

    #[test]
    fn phrases_match_across_white_space_and_joining_marks_but_not_across_sentences() {
        assert_eq!(find("soy Ana  Pérez", "ana perez"), Some("Ana  Pérez"));
        assert_eq!(find("el wi-fi va mal", "wi fi"), Some("wi-fi"));
        assert_eq!(find("el wi fi va mal", "wi-fi"), Some("wi fi"));
        assert_eq!(find("soy Ana. Pérez no está", "ana perez"), Some("Ana. Pérez"));
        assert_eq!(find("soy Ana, Pérez no está", "ana perez"), None);
        assert_eq!(find("ana", "ana perez"), None);
    }

    #[test]
    fn a_phrase_without_letters_matches_nothing() {
        assert_eq!(find("hola!", "!"), None);
    }
}
