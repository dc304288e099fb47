//! The bytes of a line as text: UTF-8, or what was surely meant by bytes that are not.

use std::borrow::Cow;

use super::Note;

/// Text, and what had to be done for it. An unsafe note: the text is a guess.
pub(super) fn decode(bytes: &[u8]) -> (Cow<'_, str>, Option<Note>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), None),
        Err(_) => {
            let (text, note) = guess(bytes);
            (Cow::Owned(text), Some(note))
        }
    }
}

/// Bytes are surely Windows-1252 where no other character of the line is beyond ASCII, at most two such bytes stand
/// together, and each of them is a letter or a sign that Western European text has at that place. Cyrillic and Greek
/// encodings have words of such bytes, a cut file has one at its end.
fn guess(bytes: &[u8]) -> (String, Note) {
    let mut text = String::with_capacity(bytes.len() + 8);
    let (mut java, mut windows, mut sure) = (0, 0, true);
    let (mut at, mut run) = (0, 0);
    while at < bytes.len() {
        let valid = bytes[at..].utf8_chunks().next().map_or("", |chunk| chunk.valid());
        sure &= valid.is_ascii();
        run = if valid.is_empty() { run } else { 0 };
        text.push_str(valid);
        at += valid.len();
        let Some(&byte) = bytes.get(at) else { break };
        if let Some((char, len)) = modified_utf8(&bytes[at..]) {
            java += 1;
            text.push(char);
            at += len;
            continue;
        }
        let char = windows_1252(byte);
        sure &= run < 2 && at + 1 < bytes.len() && char.is_some_and(|char| fits(char, text.chars().next_back()));
        text.push(char.unwrap_or(char::REPLACEMENT_CHARACTER));
        (at, run, windows) = (at + 1, run + 1, windows + 1);
    }
    let (count, what) = match windows {
        0 => (java, "from Java's modified UTF-8"),
        _ => (windows, "from Windows-1252"),
    };
    let what = format!("rewrote {count} character{} as UTF-8, {what}", if count == 1 { "" } else { "s" });
    let sure = windows == 0 || (sure && java == 0);
    (text, if sure { Note::safe("file-not-utf8", what) } else { Note::not_safe("file-not-utf8", what) })
}

/// Java's and MySQL's own forms: U+0000 in two bytes, and surrogates encoded one by one (CESU-8).
fn modified_utf8(bytes: &[u8]) -> Option<(char, usize)> {
    match *bytes {
        [0xC0, 0x80, ..] => Some(('\0', 2)),
        [0xED, high @ 0xA0..=0xAF, high_end @ 0x80..=0xBF, 0xED, low @ 0xB0..=0xBF, low_end @ 0x80..=0xBF, ..] => {
            let ten = |byte: u8, end: u8| u32::from(byte & 0x0F) << 6 | u32::from(end & 0x3F);
            char::from_u32(0x10000 + (ten(high, high_end) << 10) + ten(low & 0x0F, low_end)).map(|char| (char, 6))
        }
        _ => None,
    }
}

fn windows_1252(byte: u8) -> Option<char> {
    const C1: [char; 32] = [
        '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0', '\0', '‘', '’', '“', '”',
        '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\0', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9F => Some(C1[usize::from(byte - 0x80)]).filter(|char| *char != '\0'),
        _ => Some(char::from(byte)),
    }
}

/// Whether Western European text has `char` behind `before`.
fn fits(char: char, before: Option<char>) -> bool {
    let after_letter = before.is_some_and(char::is_alphabetic);
    match char {
        'À'..='Ö' | 'Ø'..='ö' | 'ø'..='ÿ' | 'Š' | 'š' | 'Ž' | 'ž' | 'Œ' | 'œ' | 'Ÿ' => true,
        '¡' | '¿' | '«' | '“' | '‘' | '„' | '£' | '©' | '§' => !after_letter,
        '€' | '…' | '’' | '”' | '•' | '–' | '—' | '™' | '»' | '®' | '°' | 'º' | 'ª' | '·' | '\u{A0}' => {
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fix::note::Safety;

    #[track_caller]
    fn check(bytes: &[u8], text: &str, safety: Safety) {
        let (found, note) = decode(bytes);
        assert_eq!((found.as_ref(), note.unwrap().safety), (text, safety));
    }

    #[test]
    fn western_text_is_sure() {
        check(b"caf\xe9 \x93ol\xe9\x94 \xbfqu\xe9? 5 \x80 ma\xf1ana.", "café “olé” ¿qué? 5 € mañana.", Safety::Safe);
        check(b"\xed\xa0\xbd\xed\xb8\x80 \xc0\x80.", "😀 \0.", Safety::Safe);
    }

    #[test]
    fn anything_else_is_a_guess() {
        check(b"\xcf\xf0\xe8\xe2\xe5\xf2.", "Ïðèâåò.", Safety::Unsafe);
        check("é \u{FFFD}".as_bytes().split_last().unwrap().1, "é ï¿", Safety::Unsafe);
        check(b"caf\xc3", "cafÃ", Safety::Unsafe);
        check(b"\x81 a.", "\u{FFFD} a.", Safety::Unsafe);
        check(b"\xb3\xf3d\xbc.", "³ód¼.", Safety::Unsafe);
    }
}
