//! Values that stand for a value: `YOUR_API_KEY`, `sk-xxxx`, `1234567890`.

/// Words that nobody has in a real key. In lower case.
const WORDS: [&str; 22] = [
    "example",
    "ejemplo",
    "your",
    "placeholder",
    "dummy",
    "sample",
    "changeme",
    "change_me",
    "change-me",
    "redacted",
    "insert",
    "replace",
    "xxxx",
    "****",
    "....",
    "…",
    "notreal",
    "not-real",
    "not_real",
    "password",
    "contraseña",
    "secretkey",
];

/// Whether `value` is no real key: it names itself, fills itself up, or counts.
pub(super) fn is_placeholder(value: &str) -> bool {
    let lower = value.to_lowercase();
    WORDS.iter().any(|word| lower.contains(word))
        || value.contains(['<', '>', '{', '}', '[', ']', '(', ')'])
        || value.starts_with(['$', '%'])
        || is_sequence(value.as_bytes())
}

/// Whether three of four characters follow the one before or repeat it: `abcdef123456`, `00000000`.
fn is_sequence(value: &[u8]) -> bool {
    let steps = value.windows(2).filter(|pair| pair[1] == pair[0] || pair[1] == pair[0].wrapping_add(1)).count();
    value.len() > 3 && steps * 4 >= (value.len() - 1) * 3
}

/// Bits a character, by how often each occurs (Shannon). 16 random hexadecimal digits have about 3.2, 20 random
/// letters and digits about 4.1.
pub(super) fn entropy(value: &str) -> f64 {
    let mut counts = [0u32; 256];
    value.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let len = value.len() as f64;
    let bits = |&count: &u32| {
        let share = f64::from(count) / len;
        -share * share.log2()
    };
    counts.iter().filter(|&&count| count > 0).map(bits).sum()
}

/// Whether the body of a key of 16 characters or more looks drawn at random.
pub(super) fn looks_random(body: &str) -> bool {
    let digits = body.bytes().filter(u8::is_ascii_digit).count();
    let letters = body.bytes().filter(u8::is_ascii_alphabetic).count();
    digits > 0 && letters > 0 && entropy(body) >= 3.0 && !is_placeholder(body)
}

/// Whether a sequence of digits counts up or down from its first, as `1234567890`, or has two different ones at most.
pub(super) fn is_dull_number(digits: &[u8]) -> bool {
    const UP: &[u8] = b"01234567890123456789";
    const DOWN: &[u8] = b"98765432109876543210";
    let mut seen = 0u16;
    digits.iter().for_each(|digit| seen |= 1 << (digit - b'0'));
    let counts = |row: &[u8]| row.windows(digits.len()).any(|window| window == digits);
    seen.count_ones() <= 2 || counts(UP) || counts(DOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_name_themselves_or_count() {
        for value in [
            "YOUR_API_KEY",
            "xxxxxxxxxxxxxxxxxxxxxxxx",
            "1234567890abcdef1234567890abcdef",
            "abcdefghijklmnopqrstuvwxyz",
            "IOSFODNN7EXAMPLE",
            "<token>",
            "${API_KEY}",
            "000000000000000000000000",
        ] {
            assert!(is_placeholder(value), "{value}");
        }
        for value in ["q7Zr1vXb93LmKt0WcYpD", "9f8b2c4d1e7a6053"] {
            assert!(!is_placeholder(value) && looks_random(value), "{value}");
        }
    }

    #[test]
    fn words_do_not_look_random() {
        for value in ["fading-circle-animation", "aaaaaaaaaaaaaaaa1", "12345678901234567890"] {
            assert!(!looks_random(value), "{value}");
        }
    }

    #[test]
    fn numbers_that_count_are_dull() {
        assert!(is_dull_number(b"1234567890") && is_dull_number(b"987654321") && is_dull_number(b"600000000"));
        assert!(!is_dull_number(b"612345678") && !is_dull_number(b"4155552671"));
    }
}
