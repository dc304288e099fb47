//! The text of any string of a record: characters that should not be there, bytes that were read in the wrong encoding.

use crate::{diagnostic::is_invisible, findings::Findings, json::Value};

/// Looks at every string and key of a record that is not plain. `rare_escapes`: some of them have `\u`, `\b` or `\f`.
pub(crate) fn check_texts(record: Value, rare_escapes: bool, out: &mut Findings) {
    for value in record.strings() {
        let raw = value.raw();
        if is_harmless(raw.as_bytes()) && !(rare_escapes && raw.contains('\\')) {
            continue;
        }
        if let Some(text) = value.text() {
            nul_char(value, &text, out);
            replacement_char(value, raw, out);
            if !mojibake(value, &text, out) {
                suspicious_control_chars(value, &text, out);
            }
        }
    }
}

/// Whether no character of `raw` can break a rule of this file, told from its bytes: most text in any language.
fn is_harmless(raw: &[u8]) -> bool {
    let at = |index: usize| raw.get(index).copied().unwrap_or(0);
    let mut index = 0;
    while let Some(&byte) = raw.get(index) {
        let harmless = match byte {
            0..=0x7E => {
                // Eight ASCII characters at once.
                while raw
                    .get(index..index + 8)
                    .is_some_and(|word| word.iter().fold(true, |plain, &byte| plain & (byte < 0x7F)))
                {
                    index += 8;
                }
                at(index) < 0x7F
            }
            0x7F => false,
            // U+0080 to U+009F are control characters.
            0xC2 => at(index + 1) > 0x9F,
            // `Ã` and its like begin mojibake, if another such character follows.
            0xC3 => at(index + 2) < 0x80,
            // Zero-width characters and directions.
            0xE2 => !matches!((at(index + 1), at(index + 2)), (0x80, 0x8B..=0x8D | 0xAA..=0xAE) | (0x81, 0xA0..=0xA9)),
            0xEF => !matches!((at(index + 1), at(index + 2)), (0xBB, 0xBF) | (0xBF, 0xBD)),
            0xF3 => at(index + 1) != 0xA0,
            _ => true,
        };
        if !harmless {
            return false;
        }
        index += 1;
    }
    true
}

/// A string has U+0000 in it.
///
/// JSON allows `\u0000`, but tokenizers and databases written in C end the text there. Remove it.
fn nul_char(value: Value, text: &str, out: &mut Findings) {
    if let Some(at) = text.find('\0') {
        out.warning(
            "nul-char",
            (value, at),
            "expected text, found U+0000 in it",
            "remove it: many programs end the text there",
        );
    }
}

/// A text has U+FFFD, the replacement character, in it.
///
/// It stands where a decoder met bytes it could not read: the original character is already lost in this file. Export
/// it again from the source, with the encoding of the source.
fn replacement_char(value: Value, raw: &str, out: &mut Findings) {
    let at = raw.find('\u{FFFD}').or_else(|| raw.find("\\ufffd")).or_else(|| raw.find("\\uFFFD"));
    if let Some(at) = at {
        let place = crate::findings::Place::inside(value, at);
        out.warning(
            "replacement-char",
            place,
            "expected text, found U+FFFD: a character was lost in decoding",
            "export the text again from its source, with the right encoding",
        );
    }
}

/// A text was UTF-8 but was read as Windows-1252.
///
/// `cafÃ©` for `café`, `Itâ€™s` for `It’s`, `ðŸ˜€` for 😀. A model trained on it writes it. Encode the text as
/// Windows-1252 and decode it as UTF-8 (`--fix OUT --unsafe-fixes` does), or export it again.
fn mojibake(value: Value, text: &str, out: &mut Findings) -> bool {
    let Some((at, wrong, right)) = find_mojibake(text) else { return false };
    out.warning(
        "mojibake",
        (value, at),
        format!("expected `{right}`, found `{wrong}`: UTF-8 that was read as Windows-1252"),
        "repair the text, as `--fix OUT --unsafe-fixes` does, or export it again as UTF-8",
    );
    true
}

/// A text has control characters, or characters that hide or turn what stands around them.
///
/// Control characters other than tab and line breaks, overrides of the writing direction, runs of zero-width
/// characters, and invisible tag characters. They come from terminals and PDFs, or were put there to hide
/// instructions. Remove them. A single zero-width joiner is fine: emoji and some scripts need it.
fn suspicious_control_chars(value: Value, text: &str, out: &mut Findings) {
    let mut previous = ' ';
    for (at, char) in text.char_indices() {
        let suspicious = match char {
            '\0' | '\t' | '\n' | '\r' => false,
            '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => true,
            '\u{200B}'..='\u{200D}' | '\u{2060}' | '\u{FEFF}' => is_zero_width(previous),
            // England, Scotland and Wales: a black flag, then tags.
            '\u{E0000}'..='\u{E007F}' => previous != '\u{1F3F4}' && !('\u{E0000}'..='\u{E007F}').contains(&previous),
            _ => char.is_control(),
        };
        if suspicious {
            let found = if is_invisible(char) { "an invisible character" } else { "a control character" };
            let message = format!("expected text, found U+{:04X}, {found}", u32::from(char));
            out.warning("suspicious-control-chars", (value, at), message, "remove it, unless the text is about it");
            return;
        }
        previous = char;
    }
}

fn is_zero_width(char: char) -> bool {
    matches!(char, '\u{200B}'..='\u{200D}' | '\u{2060}' | '\u{FEFF}')
}

/// The first place where characters are the Windows-1252 reading of a UTF-8 character: its offset, those characters,
/// and the character.
///
/// Accented capitals do stand before quotes and signs in honest text (`MENÜ”`). So two characters count only if they
/// begin with `Â` or `Ã` (Latin-1, by far the most frequent) or stand beside another such pair (Cyrillic, Greek, …).
fn find_mojibake(text: &str) -> Option<(usize, String, char)> {
    let mut pair_end = usize::MAX;
    let mut first_pair = None;
    for (at, lead) in text.char_indices().filter(|(_, char)| ('Â'..='ô').contains(char)) {
        let Some((right, len)) = misread(&text[at..]) else { continue };
        let wrong = || text[at..at + len].to_owned();
        match lead {
            'Â' | 'Ã' => {
                // A word in capitals may end so, before a quote: `“AMANHÃ”` is not broken.
                let mut rest = text[at + lead.len_utf8()..].chars();
                let closing = rest.next().is_some_and(|second| matches!(second, '»' | '”' | '’' | '…'));
                let in_word = rest.next().is_some_and(char::is_alphabetic)
                    || text[..at].chars().next_back().is_some_and(char::is_lowercase);
                if !closing || in_word {
                    return Some((at, wrong(), right));
                }
            }
            'Ä'..='ß' => {
                if pair_end == at {
                    return first_pair;
                }
                (pair_end, first_pair) = (at + len, Some((at, wrong(), right)));
            }
            _ => return Some((at, wrong(), right)),
        }
    }
    None
}

/// The UTF-8 character whose bytes, read as Windows-1252, `text` begins with; and the length of that reading.
pub(crate) fn misread(text: &str) -> Option<(char, usize)> {
    let mut bytes = [0; 4];
    let mut chars = text.char_indices();
    let (_, lead) = chars.next()?;
    bytes[0] = windows_1252(lead)?;
    let count = match bytes[0] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return None,
    };
    for byte in &mut bytes[1..count] {
        *byte = windows_1252(chars.next()?.1).filter(|byte| (0x80..=0xBF).contains(byte))?;
    }
    let end = chars.next().map_or(text.len(), |(at, _)| at);
    std::str::from_utf8(&bytes[..count]).ok()?.chars().next().map(|char| (char, end))
}

/// The byte that reads as `char` in Windows-1252, or in Latin-1 where that differs.
fn windows_1252(char: char) -> Option<u8> {
    const HIGH: [(char, u8); 27] = [
        ('€', 0x80),
        ('‚', 0x82),
        ('ƒ', 0x83),
        ('„', 0x84),
        ('…', 0x85),
        ('†', 0x86),
        ('‡', 0x87),
        ('ˆ', 0x88),
        ('‰', 0x89),
        ('Š', 0x8A),
        ('‹', 0x8B),
        ('Œ', 0x8C),
        ('Ž', 0x8E),
        ('‘', 0x91),
        ('’', 0x92),
        ('“', 0x93),
        ('”', 0x94),
        ('•', 0x95),
        ('–', 0x96),
        ('—', 0x97),
        ('˜', 0x98),
        ('™', 0x99),
        ('š', 0x9A),
        ('›', 0x9B),
        ('œ', 0x9C),
        ('ž', 0x9E),
        ('Ÿ', 0x9F),
    ];
    match u8::try_from(u32::from(char)) {
        Ok(byte) if byte >= 0x80 => Some(byte),
        Ok(_) => None,
        Err(_) => HIGH.iter().find(|(high, _)| *high == char).map(|&(_, byte)| byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        let mut wrong = String::new();
        for byte in text.bytes() {
            let high = (0x80..=0x9Fu8).contains(&byte);
            let char = (0x80..0x2200u32)
                .filter_map(char::from_u32)
                .find(|&char| windows_1252(char) == Some(byte) && (!high || u32::from(char) > 0xFF));
            wrong.push(if byte < 0x80 { byte as char } else { char.unwrap_or(byte as char) });
        }
        wrong
    }

    #[test]
    fn text_in_the_wrong_encoding_is_found_in_many_scripts() {
        for text in
            ["café", "It’s", "😀 ok", "привет", "日本語", "naïve “x”", "10 €", "señor", "¿Qué?", "sûr", "a\u{a0}b"]
        {
            assert!(find_mojibake(&wrong(text)).is_some(), "{text} as {}", wrong(text));
        }
    }

    #[test]
    fn the_quick_look_lets_nothing_wrong_through() {
        for text in [
            "a\u{7f}",
            "12345678\u{7f}",
            "\u{85}x",
            "a\u{200b}\u{200b}",
            "x\u{202e}",
            "\u{2066}",
            "\u{fffd}",
            "\u{feff}",
            "\u{e0041}",
            "\u{2060}",
        ] {
            assert!(!is_harmless(text.as_bytes()), "{text:?}");
        }
        for text in ["café", "It’s", "😀 ok", "привет", "日本語", "sûr"] {
            assert!(!is_harmless(wrong(text).as_bytes()), "{text}");
            assert!(is_harmless(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn characters_that_hide_or_are_lost_are_found() {
        let texts = [
            "a\\u0000b",
            "caf\u{FFFD}",
            "caf\\ufffd",
            "cafÃ©",
            "safe\u{202E}txt",
            "a\u{200B}\u{200B}b",
            "a\\u001b[31m",
            "x\\u0085y",
        ];
        let messages = texts.map(|text| format!(r#"{{"role":"system","content":"{text}"}}"#));
        crate::testing::check_messages(
            &messages.each_ref().map(String::as_str),
            expect_test::expect![[r#"
            1:52: warning[system-not-first] /messages/1: expected system messages before all others, found one after them
            1:81: warning[nul-char] /messages/1/content: expected text, found U+0000 in it
            2:52: warning[system-not-first] /messages/1: expected system messages before all others, found one after them
            2:83: warning[replacement-char] /messages/1/content: expected text, found U+FFFD: a character was lost in decoding
            3:1: warning[duplicate-example]: expected a new example, found the one of line 2 again
            3:52: warning[system-not-first] /messages/1: expected system messages before all others, found one after them
            3:83: warning[replacement-char] /messages/1/content: expected text, found U+FFFD: a character was lost in decoding
            4:52: warning[system-not-first] /messages/1: expected system messages before all others, found one after them
            4:83: warning[mojibake] /messages/1/content: expected `é`, found `Ã©`: UTF-8 that was read as Windows-1252
            5:52: warning[system-not-first] /messages/1: expected system messages before all others, found one after them
            5:84: warning[suspicious-control-chars] /messages/1/content: expected text, found U+202E, an invisible character
            6:52: warning[system-not-first] /messages/1: expected system messages before all others, found one after them
            6:82: warning[suspicious-control-chars] /messages/1/content: expected text, found U+200B, an invisible character
            7:52: warning[system-not-first] /messages/1: expected system messages before all others, found one after them
            7:81: warning[suspicious-control-chars] /messages/1/content: expected text, found U+001B, a control character
            8:52: warning[system-not-first] /messages/1: expected system messages before all others, found one after them
            8:81: warning[suspicious-control-chars] /messages/1/content: expected text, found U+0085, a control character
        "#]],
        );
    }

    #[test]
    fn honest_text_is_left_alone() {
        for text in [
            "café",
            "MENÜ”",
            "NÃO",
            "AÇÃO",
            "« Â »",
            "“AMANHÃ”",
            "Spaß“ “Ü”",
            "GRÜßE",
            "ÀÉÎ…",
            "È vero",
            "Ñandú",
            "дом",
            "ПРИВЕТ",
            "ĐÂY",
            "10 °C",
            "É™",
            "côté’s",
        ] {
            assert_eq!(find_mojibake(text), None, "{text}");
        }
    }
}
