//! Where a text has enough digits close together to be the number of something. Nearly all text has none: blocks of
//! it are counted, not read.

use std::ops::Range;

/// Bytes that are counted at once.
const BLOCK: usize = 32;
/// The fewest digits of a number that is looked at: an IPv4 address has four.
const FEWEST: usize = 4;
/// Eight groups of four digits, and the colons.
const IPV6_LONGEST: usize = 39;
/// The most bytes between the digits of one number, as in `(11) - 4321`.
const WIDEST_GAP: usize = 3;

/// The first digits at or after byte `from` that stand close together: seven of them, six without a gap, or what an
/// IP address begins with. From the first digit to behind the last.
pub(super) fn next_run(bytes: &[u8], from: usize) -> Option<Range<usize>> {
    let mut at = from;
    loop {
        at = skip_sparse(bytes, at)?;
        at += bytes[at..].iter().position(u8::is_ascii_digit)?;
        if let Some(behind) = behind_escape(bytes, at) {
            at = behind;
            continue;
        }
        if let Some(end) = ipv6_end(bytes, at) {
            return Some(at..end);
        }
        let run = Run::read(bytes, at);
        if run.counts() {
            return Some(at..run.end);
        }
        at = run.end;
    }
}

/// The first block at or after `at` that may hold [`FEWEST`] digits, together with the block behind it.
fn skip_sparse(bytes: &[u8], mut at: usize) -> Option<usize> {
    let count = |from: usize| match bytes.get(from..from + BLOCK) {
        Some(block) => digits_of_block(block),
        None => bytes.get(from..).unwrap_or_default().iter().filter(|byte| byte.is_ascii_digit()).count(),
    };
    let mut here = count(at);
    while at < bytes.len() {
        let next = count(at + BLOCK);
        if here > 0 && here + next >= FEWEST {
            return Some(at);
        }
        (at, here) = (at + BLOCK, next);
    }
    None
}

/// Written for the compiler to make vector instructions of.
fn digits_of_block(block: &[u8]) -> usize {
    usize::from(block.iter().fold(0u8, |count, byte| count + u8::from(byte.wrapping_sub(b'0') < 10)))
}

struct Run {
    end: usize,
    digits: usize,
    /// Digits without a gap, the most.
    longest: usize,
    dots: usize,
}

impl Run {
    fn read(bytes: &[u8], start: usize) -> Run {
        let mut run = Run { end: start, digits: 0, longest: 0, dots: 0 };
        let (mut at, mut together) = (start, 0);
        while let Some(&byte) = bytes.get(at) {
            if byte.is_ascii_digit() {
                together += 1;
                run.digits += 1;
                run.longest = run.longest.max(together);
                at += 1;
                run.end = at;
                continue;
            }
            if at >= run.end + WIDEST_GAP || !is_gap(byte) {
                break;
            }
            run.dots += usize::from(byte == b'.' && at == run.end);
            together = 0;
            at += 1;
        }
        run
    }

    fn counts(&self) -> bool {
        self.digits >= 7 || self.longest >= 6 || self.dots >= 3
    }
}

/// What stands between the digits of one number. 0xC2 0xA0 is a space without a line break.
fn is_gap(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'.' | b'/' | b'(' | b')' | 0xC2 | 0xA0)
}

/// A digit of `\u00e9` is none; the byte behind that escape.
fn behind_escape(bytes: &[u8], at: usize) -> Option<usize> {
    let head = &bytes[at.saturating_sub(5)..at];
    let slash = head.windows(2).rposition(|pair| pair == b"\\u")?;
    let letters = head[slash + 2..].iter().all(u8::is_ascii_hexdigit);
    letters.then(|| (at - head.len() + slash + 6).max(at + 1)).filter(|&behind| behind <= bytes.len())
}

/// `2a02:9130:…`: a global address begins with 2 or 3 and has four digits before its first colon. Behind its last
/// digit or colon.
fn ipv6_end(bytes: &[u8], at: usize) -> Option<usize> {
    let head = matches!(bytes[at], b'2' | b'3')
        && bytes.get(at + 4) == Some(&b':')
        && bytes[at + 1..at + 4].iter().all(u8::is_ascii_hexdigit);
    if !head {
        return None;
    }
    let rest = &bytes[at..bytes.len().min(at + IPV6_LONGEST + 1)];
    let len = rest.iter().position(|&byte| !byte.is_ascii_hexdigit() && byte != b':').unwrap_or(rest.len());
    let colons = memchr::memchr_iter(b':', &rest[..len]).count();
    let short = memchr::memmem::find(&rest[..len], b"::").is_some();
    (colons == 7 || short).then_some(at + len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(text: &str) -> Vec<&str> {
        let mut from = 0;
        std::iter::from_fn(|| {
            let run = next_run(text.as_bytes(), from)?;
            from = run.end;
            Some(&text[run])
        })
        .collect()
    }

    #[test]
    fn digits_close_together_are_a_run() {
        assert_eq!(runs("call (415) 555-2671, or +34 612 34 56 78 now"), ["415) 555-2671", "34 612 34 56 78"]);
        assert_eq!(runs("VECJ880326XXX 12345678Z"), ["880326", "12345678"]);
        assert_eq!(runs("at 8.8.4.4 and 2a02:9130::1"), ["8.8.4.4", "2a02:9130::1"]);
    }

    #[test]
    fn few_digits_and_digits_far_apart_are_none() {
        let text = "In 1999 and 2003, 12 of 345 people paid 7.50 at 10:30; \\u00e9\\u00f3\\u00e1 \\u2028\\u2029 v1.2.3";
        assert_eq!(runs(text), [""; 0]);
        assert_eq!(runs(&"x".repeat(1000)), [""; 0]);
    }

    #[test]
    fn a_run_is_found_wherever_it_stands_between_blocks() {
        for before in 0..100 {
            for after in [0, 1, 40, 100] {
                let text = format!("{}8.8.4.4{}", "x".repeat(before), "y".repeat(after));
                assert_eq!(runs(&text), ["8.8.4.4"], "{before} {after}");
            }
        }
    }
}
