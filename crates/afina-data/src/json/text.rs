//! The text of a string with escapes.

/// One piece of a string: its bytes as written, and the character it stands for.
struct Piece {
    raw_len: usize,
    char: Option<char>,
}

/// Resolves the escapes of `raw` (the bytes between the quotes).
pub(super) fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let piece = escape(&rest[at..]);
        match piece.char {
            Some(char) => text.push(char),
            None => text.push_str(&rest[at..at + piece.raw_len]),
        }
        rest = &rest[at + piece.raw_len..];
    }
    text.push_str(rest);
    text
}

/// Escapes what JSON must escape, each in its short form, and leaves all else as it is.
pub(super) fn escape_again(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        match char {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            _ => escaped.push(char),
        }
    }
    escaped
}

/// Byte offset in `raw` of what stands at byte `offset` of its unescaped text.
pub(super) fn raw_offset(raw: &str, offset: usize) -> usize {
    let (mut at, mut done) = (0, 0);
    while let Some(plain) = memchr::memchr(b'\\', &raw.as_bytes()[at..]) {
        if done + plain >= offset {
            break;
        }
        let piece = escape(&raw[at + plain..]);
        done += plain + piece.char.map_or(piece.raw_len, char::len_utf8);
        at += plain + piece.raw_len;
        if done > offset {
            return at;
        }
    }
    (at + (offset - done)).min(raw.len())
}

/// Reads the escape that `rest` begins with. No character: the bytes stand for themselves.
fn escape(rest: &str) -> Piece {
    let bytes = rest.as_bytes();
    let simple = |char| Piece { raw_len: 2, char: Some(char) };
    match bytes.get(1) {
        Some(b'n') => simple('\n'),
        Some(b't') => simple('\t'),
        Some(b'r') => simple('\r'),
        Some(b'b') => simple('\u{8}'),
        Some(b'f') => simple('\u{c}'),
        Some(&byte @ (b'"' | b'\\' | b'/' | b'\'')) => simple(byte as char),
        Some(b'u') => match hex(bytes.get(2..6)) {
            None => Piece { raw_len: 2, char: None },
            Some(unit) => code_point(unit, &bytes[6..]),
        },
        _ => Piece { raw_len: 1, char: None },
    }
}

fn code_point(unit: u16, rest: &[u8]) -> Piece {
    let low = (rest.first() == Some(&b'\\') && rest.get(1) == Some(&b'u')).then(|| hex(rest.get(2..6))).flatten();
    match (unit, low) {
        (0xD800..=0xDBFF, Some(low @ 0xDC00..=0xDFFF)) => {
            let code = 0x10000 + ((u32::from(unit) - 0xD800) << 10) + (u32::from(low) - 0xDC00);
            Piece { raw_len: 12, char: char::from_u32(code) }
        }
        _ => Piece { raw_len: 6, char: Some(char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER)) },
    }
}

/// Four hexadecimal digits.
pub(super) fn hex(digits: Option<&[u8]>) -> Option<u16> {
    digits?.iter().try_fold(0u16, |value, &digit| Some(value << 4 | (digit as char).to_digit(16)? as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_characters() {
        assert_eq!(unescape(r#"a\n\t\"\\\/\u00e9\ud83d\ude00z"#), "a\n\t\"\\/é😀z");
    }

    #[test]
    fn broken_escapes_stand_for_themselves() {
        assert_eq!(unescape(r"C:\Users \u12 \ud83d!"), "C:\\Users \\u12 \u{FFFD}!");
    }

    #[test]
    fn offsets_lead_back_to_the_bytes_as_written() {
        let raw = r"é\n\ud83d\ude00x\\y";
        let text = unescape(raw);
        for (offset, char) in text.char_indices() {
            let at = raw_offset(raw, offset);
            match char {
                'é' | 'x' | 'y' => assert!(raw[at..].starts_with(char), "{char} at {at}"),
                _ => assert!(raw[at..].starts_with('\\'), "{char:?} at {at}"),
            }
        }
        assert_eq!(raw_offset(raw, text.len()), raw.len());
    }
}
