//! Base64 by the letter: the standard alphabet, padded to groups of four. A fault is told with its place.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};

/// Bits that the last character has too many are ignored, as Python and browsers do.
const ENGINE: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// Spaces, tabs and line breaks inside the base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spaces {
    /// Byte offset of the first.
    pub(crate) first: usize,
    pub(crate) count: usize,
}

/// Why a text is not base64. Offsets are in bytes of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base64Fault {
    /// A character that is not in the alphabet.
    Char { offset: usize, char: char },
    /// `=` is not at the end, or there are more than belong there.
    Padding { offset: usize },
    /// The end is missing `missing` times `=`.
    Unpadded { missing: usize },
    /// One character stands alone in its group of four: the end is missing.
    Cut,
}

/// Decodes `text` into `bytes`.
pub(super) fn decode(text: &str, bytes: &mut Vec<u8>) -> (Option<Spaces>, Result<(), Base64Fault>) {
    if decode_dense(text.as_bytes(), bytes) {
        return (None, Ok(()));
    }
    let spaces = spaces(text.as_bytes());
    if spaces.is_some() {
        let dense: Vec<u8> = text.bytes().filter(|byte| !is_space(*byte)).collect();
        if decode_dense(&dense, bytes) {
            return (spaces, Ok(()));
        }
    }
    (spaces, Err(fault(text)))
}

fn decode_dense(text: &[u8], bytes: &mut Vec<u8>) -> bool {
    bytes.resize(text.len().div_ceil(4) * 3, 0);
    match ENGINE.decode_slice(text, bytes) {
        Ok(len) => {
            bytes.truncate(len);
            true
        }
        Err(_) => false,
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn spaces(text: &[u8]) -> Option<Spaces> {
    let first = text.iter().position(|byte| is_space(*byte))?;
    Some(Spaces { first, count: text[first..].iter().filter(|byte| is_space(**byte)).count() })
}

/// The first fault of a text that is not base64.
fn fault(text: &str) -> Base64Fault {
    let (mut symbols, mut padding, mut first_padding) = (0, 0, 0);
    for (offset, byte) in text.bytes().enumerate() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => symbols += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => {
                return Base64Fault::Padding { offset: first_padding };
            }
            b'=' => {
                padding += 1;
                if padding == 1 {
                    first_padding = offset;
                }
            }
            byte if is_space(byte) => {}
            _ => {
                let char = text[text.floor_char_boundary(offset)..].chars().next().unwrap_or_default();
                return Base64Fault::Char { offset, char };
            }
        }
    }
    match (symbols % 4, padding) {
        (1, _) => Base64Fault::Cut,
        (0, _) => Base64Fault::Padding { offset: first_padding },
        (over, padding) if padding < 4 - over => Base64Fault::Unpadded { missing: 4 - over - padding },
        _ => Base64Fault::Padding { offset: first_padding },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> (Option<Spaces>, Result<Vec<u8>, Base64Fault>) {
        let mut bytes = vec![7; 3];
        let (spaces, result) = decode(text, &mut bytes);
        (spaces, result.map(|()| bytes))
    }

    #[test]
    fn base64_is_decoded() {
        for (text, bytes) in [("", ""), ("YQ==", "a"), ("YWI=", "ab"), ("YWJj", "abc"), ("YWJjZA==", "abcd")] {
            assert_eq!(decoded(text), (None, Ok(bytes.into())), "{text}");
        }
        assert_eq!(decoded("+/+/").1, Ok(vec![0xFB, 0xFF, 0xBF]));
        // Python decodes it as well, though an encoder would write `YQ==`.
        assert_eq!(decoded("YR==").1, Ok(b"a".to_vec()));
    }

    #[test]
    fn spaces_are_skipped_and_told() {
        assert_eq!(decoded("YW\r\nJj\n"), (Some(Spaces { first: 2, count: 3 }), Ok(b"abc".to_vec())));
        assert_eq!(decoded(" \t"), (Some(Spaces { first: 0, count: 2 }), Ok(Vec::new())));
        assert_eq!(decoded("Y W"), (Some(Spaces { first: 1, count: 1 }), Err(Base64Fault::Unpadded { missing: 2 })));
    }

    #[test]
    fn a_fault_is_told_with_its_place() {
        use Base64Fault::*;
        let cases = [
            ("YW-j", Char { offset: 2, char: '-' }),
            ("YWJj_w==", Char { offset: 4, char: '_' }),
            ("YW\u{a0}j", Char { offset: 2, char: '\u{a0}' }),
            ("b'YWJj'", Char { offset: 1, char: '\'' }),
            ("YQ", Unpadded { missing: 2 }),
            ("YQ=", Unpadded { missing: 1 }),
            ("YWI", Unpadded { missing: 1 }),
            ("YWJjZ", Cut),
            ("YWJjZ===", Cut),
            ("YQ==YQ==", Padding { offset: 2 }),
            ("YQ===", Padding { offset: 2 }),
            ("YWJj=", Padding { offset: 4 }),
            ("====", Padding { offset: 0 }),
        ];
        for (text, fault) in cases {
            assert_eq!(decoded(text).1, Err(fault), "{text}");
        }
    }
}
