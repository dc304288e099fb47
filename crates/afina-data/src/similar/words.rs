//! A text as the words that count: lower case, letters and digits, nothing of punctuation, spaces or markup.

/// What a byte is to the scanner: the lower-case letter or digit it stands for, or one of the classes below.
const GAP: u8 = 0;
const SIGN: u8 = 1;
const DASH: u8 = 2;
const ESCAPE: u8 = 3;
const WIDE: u8 = 4;
const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [GAP; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            letter @ (b'a'..=b'z' | b'0'..=b'9') => letter,
            letter @ b'A'..=b'Z' => letter + 32,
            b'+' | b'/' | b'=' | b'<' | b'>' | b'%' | b'^' | b'&' | b'|' => SIGN,
            b'-' | b'*' => DASH,
            b'\\' => ESCAPE,
            0x80.. => WIDE,
            _ => GAP,
        };
        byte += 1;
    }
    table
}

/// FNV-1a's constants, 64 bits.
const BASIS: u64 = 0xCBF2_9CE4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01B3;

/// Hands the words of a text to `word`, each as a number.
///
/// A word is a run of letters and digits in lower case. So that a change of meaning changes a word, these are words of
/// their own: the signs `+ / = < > % ^ & |`, a `-` or `*` beside a number, a symbol or an emoji, and each character of
/// a script that puts no spaces between words (Chinese, Japanese, Thai and their like). All else only separates.
/// The text is one of JSON's, in canonical writing: a backslash and the character behind it are a quote, a line break or
/// the like, and only separate. Accents count; letters are not normalised (no NFKC): a full-width `Ａ` is not `a`.
pub(crate) fn words(text: &str, mut word: impl FnMut(u64)) {
    let bytes = text.as_bytes();
    let (mut hash, mut at) = (BASIS, 0);
    while at < bytes.len() {
        let class = CLASSES[bytes[at] as usize];
        if class > WIDE {
            hash = fold(hash, class.into());
            at += 1;
            continue;
        }
        let (mut len, mut alone) = (1, None);
        match class {
            SIGN => alone = Some(bytes[at].into()),
            DASH if is_beside_number(bytes, at) => alone = Some(bytes[at].into()),
            ESCAPE => len = if bytes.get(at + 1).is_some_and(u8::is_ascii) { 2 } else { 1 },
            WIDE => {
                let char = text[at..].chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
                len = char.len_utf8();
                match char {
                    // Accents that are characters of their own, and characters without a look.
                    '\u{300}'..='\u{36F}' | '\u{AD}' | '\u{200B}'..='\u{200D}' | '\u{FE0E}' | '\u{FE0F}' => {
                        at += len;
                        continue;
                    }
                    char if stands_alone(char) => alone = Some(char.into()),
                    char if char.is_alphanumeric() => {
                        hash = char.to_lowercase().fold(hash, |hash, char| fold(hash, char.into()));
                        at += len;
                        continue;
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        if hash != BASIS {
            word(std::mem::replace(&mut hash, BASIS));
        }
        if let Some(sign) = alone {
            word(fold(BASIS, sign));
        }
        at += len;
    }
    if hash != BASIS {
        word(hash);
    }
}

fn fold(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(PRIME)
}

/// A digit stands before or after it, with a space between or none.
fn is_beside_number(bytes: &[u8], at: usize) -> bool {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let before = |steps: usize| at.checked_sub(steps).and_then(|at| bytes.get(at));
    is_digit(bytes.get(at + 1))
        || is_digit(before(1))
        || bytes.get(at + 1) == Some(&b' ') && is_digit(bytes.get(at + 2))
        || before(1) == Some(&b' ') && is_digit(before(2))
}

/// A word of one character: of a script without spaces, or a symbol.
fn stands_alone(char: char) -> bool {
    matches!(char,
        '\u{E00}'..='\u{EFF}' // Thai, Lao
        | '\u{1000}'..='\u{109F}' // Burmese
        | '\u{1780}'..='\u{17FF}' // Khmer
        | '\u{2190}'..='\u{2BFF}' // arrows, operators, symbols
        | '\u{3040}'..='\u{30FF}' // kana
        | '\u{3400}'..='\u{9FFF}' // Han
        | '\u{F900}'..='\u{FAFF}'
        | '\u{1F000}'..='\u{1FAFF}' // emoji
        | '\u{20000}'..='\u{3FFFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<u64> {
        let mut all = Vec::new();
        words(text, |word| all.push(word));
        all
    }

    #[test]
    fn case_spaces_and_punctuation_do_not_count() {
        assert_eq!(all("Define the word “Árbol”,  variant 3."), all("define THE word árbol variant\n3"));
        assert_eq!(all("**Well-known**: `a`"), all("well known a"));
        assert_eq!(all("na\u{AD}ïve"), all("NAÏVE"));
        assert_eq!(all(r#"one\ntwo \"three\" \\new\\"#), all("one two three new"));
        assert!(all("… ¡! — (\"\")").is_empty());
    }

    #[test]
    fn what_changes_the_meaning_counts() {
        for (one, other) in [
            ("what is 3+4", "what is 3-4"),
            ("what is 3 - 4", "what is 3 * 4"),
            ("a<b", "a>b"),
            ("5", "-5"),
            ("3.1", "31"),
            ("año", "ano"),
            ("👍", "👎"),
            ("ab c", "a bc"),
        ] {
            assert_ne!(all(one), all(other), "{one} {other}");
        }
    }

    #[test]
    fn a_script_without_spaces_has_a_word_a_character() {
        assert_eq!(all("你好吗").len(), 3);
        assert_eq!(all("สวัสดี ok").len(), "สวัสดี".chars().count() + 1);
        assert_eq!(all("hola, ¿qué tal?").len(), 3);
    }
}
