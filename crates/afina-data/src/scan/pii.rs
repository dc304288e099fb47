//! Personal data: addresses by their sign, numbers by their digits.

use std::ops::Range;

use super::{Found, banking, email, free_after, free_before, identity, internet, numbers, phone};

/// The personal data of `text` at or after byte `from`.
pub(super) fn find(text: &str, from: usize, out: &mut Vec<Found>) {
    email::find(text, from, out);
    // What one number has is not looked at again.
    let (mut at, mut floor) = (from, from);
    while let Some(run) = numbers::next_run(text.as_bytes(), at) {
        at = run.end;
        let mut start = run.start;
        if let Some(found) = banking::iban(text, start, floor) {
            (at, floor, start) = (at.max(found.span.end), found.span.end, found.span.end);
            out.push(found);
        }
        while let Some(next) = text.as_bytes().get(start..run.end).and_then(first_digit) {
            start += next;
            match number(text, start, floor) {
                Some(found) => {
                    (at, floor, start) = (at.max(found.span.end), found.span.end, found.span.end);
                    out.push(found);
                }
                None => start = behind_digits(text, start),
            }
        }
    }
}

fn first_digit(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(u8::is_ascii_digit)
}

fn behind_digits(text: &str, start: usize) -> usize {
    start + text.as_bytes()[start..].iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// What the digits at byte `start` are the number of. The strictest form comes first.
fn number(text: &str, start: usize, floor: usize) -> Option<Found> {
    if let Some(found) = internet::address(text, start) {
        return Some(found);
    }
    let digits = Digits::read(text, start);
    let found = identity::with_letters(text, start)
        .or_else(|| banking::card(text, &digits))
        .or_else(|| identity::number(text, &digits))
        .or_else(|| phone::number(text, &digits))?;
    (found.span.start >= floor).then_some(found)
}

/// The most groups of one number, and the most digits.
const GROUPS: usize = 9;
const DIGITS: usize = 40;

/// Groups of digits with little between them. No memory is asked for: there are many in a table.
pub(super) struct Digits<'t> {
    start: usize,
    count: usize,
    lengths: [usize; GROUPS],
    ends: [usize; GROUPS],
    /// Behind each group; a space without a line break counts as a space.
    gaps: [&'t str; GROUPS],
    joined: [u8; DIGITS],
}

impl<'t> Digits<'t> {
    /// The groups from the digit at byte `start` on.
    pub(super) fn read(text: &'t str, start: usize) -> Digits<'t> {
        let bytes = text.as_bytes();
        let mut digits = Digits {
            start,
            count: 0,
            lengths: [0; GROUPS],
            ends: [0; GROUPS],
            gaps: [""; GROUPS],
            joined: [0; DIGITS],
        };
        let (mut at, mut total) = (start, 0);
        while digits.count < GROUPS {
            let end = behind_digits(text, at);
            let Some(joined) = digits.joined.get_mut(total..total + end - at) else { break };
            joined.copy_from_slice(&bytes[at..end]);
            total += end - at;
            (digits.lengths[digits.count], digits.ends[digits.count]) = (end - at, end);
            digits.count += 1;
            let Some(gap) = bytes[end..].iter().take(4).position(u8::is_ascii_digit) else { break };
            let between = match text.get(end..end + gap) {
                Some("\u{A0}") => " ",
                Some(between) if between.bytes().all(|byte| b" -./()".contains(&byte)) => between,
                _ => break,
            };
            digits.gaps[digits.count - 1] = between;
            at = end + gap;
        }
        digits
    }

    /// How many digits each group has.
    pub(super) fn lengths(&self) -> &[usize] {
        &self.lengths[..self.count]
    }

    /// What stands between the first `groups` groups.
    pub(super) fn gaps(&self, groups: usize) -> &[&'t str] {
        &self.gaps[..groups - 1]
    }

    /// The digits of the first `groups` groups.
    pub(super) fn joined(&self, groups: usize) -> &[u8] {
        &self.joined[..self.lengths[..groups].iter().sum()]
    }

    /// From the first digit to behind the last of the first `groups` groups.
    pub(super) fn span(&self, groups: usize) -> Range<usize> {
        self.start..self.ends[groups - 1]
    }

    /// Whether the first `groups` groups have one of `signs` between them, always the same, and are a number of their
    /// own.
    pub(super) fn is_alone(&self, text: &str, groups: usize, signs: &[&str]) -> bool {
        let gaps = self.gaps(groups);
        let even = gaps.first().is_none_or(|first| signs.contains(first) && gaps.iter().all(|gap| gap == first));
        // A number in groups of four goes on with a group of four; a date or a whole number more behind it is another.
        let more = &self.lengths()[groups..];
        let again = more.starts_with(&self.lengths()[..groups]);
        let spaced = gaps.first().is_some_and(|gap| *gap == " ") && self.gaps[groups - 1] == " ";
        let goes_on = spaced && more.first() == Some(&self.lengths[groups - 1]) && !again;
        even && !goes_on && stands_apart(text, &self.span(groups), false)
    }
}

/// Whether a number is not a part of a longer one, of a word, of a path or of an amount of money. `spaced`: there are
/// spaces in it, so digits behind a space would go on with it.
pub(super) fn stands_apart(text: &str, span: &Range<usize>, spaced: bool) -> bool {
    let bytes = text.as_bytes();
    let before = |back: usize| span.start.checked_sub(back).map_or(b' ', |at| bytes[at]);
    let after = |ahead: usize| bytes.get(span.end + ahead).copied().unwrap_or(b' ');
    let joined_before = match before(1) {
        b'-' | b'.' | b'/' => before(2).is_ascii_alphanumeric() || before(2) == b'/' || before(1) == b'.',
        b',' => before(2).is_ascii_digit(),
        b'#' | b'$' | b'@' | b'%' | b'^' => true,
        b' ' => spaced && before(2).is_ascii_digit(),
        _ => text[..span.start].ends_with(['€', '£', '¥']),
    };
    let joined_after = match after(0) {
        b'-' | b'.' | b'/' | b':' | b'@' => after(1).is_ascii_alphanumeric(),
        b',' => after(1).is_ascii_digit() && spaced,
        b'%' | b'^' | b'*' => true,
        b' ' => spaced && after(1).is_ascii_digit(),
        _ => false,
    };
    free_before(text, span.start) && free_after(text, span.end) && !joined_before && !joined_after
}

#[cfg(test)]
pub(super) mod tests {
    use crate::scan::{Wanted, find};

    /// What is found in a text, as pairs of what and where.
    #[track_caller]
    pub(in crate::scan) fn check(text: &str, expected: &[(&str, &str)]) {
        let found = find(text, Wanted { secrets: false, pii: true });
        let found: Vec<_> = found.iter().map(|found| (found.what, &text[found.span.clone()])).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[track_caller]
    pub(in crate::scan) fn silent(texts: &[&str]) {
        texts.iter().for_each(|text| check(text, &[]));
    }

    #[test]
    fn several_in_one_text_are_all_found() {
        check(
            "Ana: ana@acme.es, 4111 1111 1111 1111 (09/27), IBAN ES91 2100 0418 4502 0005 1332, +34 612 345 678.",
            &[
                ("an e-mail address", "ana@acme.es"),
                ("a card number", "4111 1111 1111 1111"),
                ("an IBAN", "ES91 2100 0418 4502 0005 1332"),
                ("a phone number", "+34 612 345 678"),
            ],
        );
    }

    #[test]
    fn honest_text_is_silent() {
        silent(&[
            "On 2024-01-15 at 10:30:45 and on 15/01/2024, 15.01.2024, 2018-05-02T19:38:15Z and 20240115103045.",
            "It costs $1,234,567.89 or 1.234.567,89 €, 1 234 567 890 pesos, USD 12345678.",
            "Python 3.12.1, Windows 10.0.19041.1, build 22621.3007, version 1.2.3.4, RFC 5322, ISO 8601:2019.",
            "ISBN 978-3-16-148410-0, ISBN 0-306-40615-2, ISSN 2049-3630, DOI 10.1000/182.",
            "Order 12345678, pedido 2024-0001234, ticket #123456789, invoice INV-2024-00012345.",
            "d41d8cd98f00b204e9800998ecf8427e 550e8400-e29b-41d4-a716-446655440000 9f8b2c4d1e7a",
            "3.14159265358979 + 2.718281828 = 5.859874482, 123456789 * 987654321 = 121932631112635269",
            "for i in range(1000000): x[i] = 0x7fffffff + 4294967296 // 2147483647",
            "2 + 2 = 4; 100 000 000 people; 7 800 000 000 in 2020; 6.022e23; 1/2 3/4",
            "1234567890 1111111111 0000000000 12 34 56 78 90",
            "coordinates 40.416775, -3.703790; 19.432608 -99.133209",
            "GSM8K: 12 * 3600 = 43200 seconds, 24 * 43200 = 1036800.",
            "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
            "[4, 8, 15, 16, 23, 42] 2001: A Space Odyssey 10-12-14 5-4-3-2-1",
        ]);
    }
}
