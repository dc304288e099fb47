//! Card numbers and bank accounts.

use super::{Found, Kind, free_after, free_before, is_reference, pii::Digits};

/// A payment card that begins with the digit at byte `start`: the brand's first digits and length, grouped as on the
/// card or not at all, and the check digit (ISO/IEC 7812-1 annex B, Luhn).
pub(super) fn card(text: &str, digits: &Digits) -> Option<Found> {
    const CARDS: [&str; 8] = ["card", "tarjeta", "visa", "mastercard", "amex", "carte", "karte", "débito"];
    let groups = match digits.lengths() {
        [4, 4, 4, 4, 3, ..] => 5,
        [4, 4, 4, 4, ..] => 4,
        [4, 6, 4 | 5, ..] => 3,
        [13..=19, ..] => 1,
        _ => return None,
    };
    let number = digits.joined(groups);
    let span = digits.span(groups);
    let alone = digits.is_alone(text, groups, [" ", "-"].as_slice());
    (alone && is_brand(number, groups) && luhn(number) && !(groups == 1 && is_reference(text, span.start, &CARDS)))
        .then_some(Found { kind: Kind::Card, what: "a card number", span })
}

/// First digits and lengths of the brands, as they publish them.
fn is_brand(number: &[u8], groups: usize) -> bool {
    let head = |len: usize| number[..len].iter().fold(0, |value: u32, digit| value * 10 + u32::from(digit - b'0'));
    match number.len() {
        14 => matches!(head(3), 300..=305 | 360..=369 | 380..=399),
        15 => matches!(head(2), 34 | 37),
        16 => {
            matches!(head(1), 4)
                || matches!(head(2), 51..=55 | 62 | 65)
                || matches!(head(4), 2221..=2720 | 3528..=3589 | 6011 | 6440..=6499)
        }
        19 => groups == 5 && matches!(head(1), 4) || head(2) == 62,
        _ => false,
    }
}

fn luhn(number: &[u8]) -> bool {
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum: u32 = number
        .iter()
        .rev()
        .map(|digit| u32::from(digit - b'0'))
        .enumerate()
        .map(|(index, digit)| if index % 2 == 1 { doubled(digit) } else { digit })
        .sum();
    sum.is_multiple_of(10)
}

/// An IBAN around the digits at byte `start`: the country's length and the check digits (ISO 13616, ISO 7064 MOD
/// 97-10). `floor`: it does not begin before.
pub(super) fn iban(text: &str, start: usize, floor: usize) -> Option<Found> {
    /// From the country to the first long row of digits, as in `GB82 WEST 1234`.
    const REACH: usize = 12;
    (floor.max(start.saturating_sub(REACH))..start).find_map(|begin| iban_at(text, begin))
}

fn iban_at(text: &str, start: usize) -> Option<Found> {
    let head = text.as_bytes().get(start..start + 4)?;
    let small = head[..2].iter().all(u8::is_ascii_lowercase);
    let shaped = (small || head[..2].iter().all(u8::is_ascii_uppercase)) && head[2..].iter().all(u8::is_ascii_digit);
    if !shaped || !free_before(text, start) {
        return None;
    }
    let wanted = LENGTHS.iter().find(|(country, _)| country.as_bytes().eq_ignore_ascii_case(&head[..2]))?.1;
    let mut letters = Vec::with_capacity(wanted);
    let mut end = start;
    for (at, byte) in text.bytes().enumerate().skip(start) {
        match byte {
            // Written in groups of four.
            b' ' | b'-' if letters.len() % 4 == 0 => continue,
            b'A'..=b'Z' if !small => letters.push(byte),
            // In small letters it looks like a hash or the like, if it is more than digits.
            b'a'..=b'z' if small && letters.len() < 2 => letters.push(byte.to_ascii_uppercase()),
            b'0'..=b'9' => letters.push(byte),
            _ => break,
        }
        if letters.len() == wanted {
            end = at + 1;
            break;
        }
    }
    (letters.len() == wanted && free_after(text, end) && mod_97(&letters) == 1).then_some(Found {
        kind: Kind::Iban,
        what: "an IBAN",
        span: start..end,
    })
}

/// The remainder of the number that an IBAN stands for: first four letters at the end, A = 10.
fn mod_97(letters: &[u8]) -> u32 {
    letters[4..].iter().chain(&letters[..4]).fold(0, |rest, letter| match letter {
        b'0'..=b'9' => (rest * 10 + u32::from(letter - b'0')) % 97,
        _ => (rest * 100 + u32::from(letter - b'A') + 10) % 97,
    })
}

/// Length of an IBAN by country, from the registry of ISO 13616 that SWIFT keeps.
const LENGTHS: [(&str, usize); 79] = [
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BR", 29),
    ("BY", 28),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FO", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GL", 18),
    ("GR", 27),
    ("GT", 28),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IQ", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LC", 32),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("LY", 25),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MR", 27),
    ("MT", 31),
    ("MU", 30),
    ("NI", 28),
    ("NL", 18),
    ("NO", 15),
    ("PK", 24),
    ("PL", 28),
    ("PS", 29),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("RU", 33),
    ("SA", 24),
    ("SC", 31),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("ST", 25),
    ("SV", 28),
    ("TL", 23),
    ("TN", 24),
    ("TR", 26),
    ("UA", 29),
    ("VA", 22),
    ("XK", 20),
];

#[cfg(test)]
mod tests {
    use crate::scan::pii::tests::{check, silent};

    #[test]
    fn cards_have_a_brand_and_a_check_digit() {
        for card in [
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "4111111111111111",
            "5555555555554444",
            "3782 822463 10005",
            "6011111111111117",
            "30569309025904",
            "2223003122003222",
        ] {
            check(&format!("card {card} 12/27, please"), &[("a card number", card)]);
        }
        let two = "4111 1111 1111 1111 5555 5555 5555 4444";
        check(two, &[("a card number", &two[..19]), ("a card number", &two[20..])]);
        silent(&[
            "4111 1111 1111 1111 5555",
            "card 4111 1111 1111 1112",
            "4111 1111 11111111",
            "4111 1111-1111 1111",
            "order 4111111111111111",
            "0.4111111111111111",
            "a4111111111111111",
            "9111111111111111",
            "ISBN 978-3-16-148410-0 and 9783161484100",
            "1234 5678 9012 3456",
            "uuid 41111111-1111-4111-8111-111111111111",
        ]);
    }

    #[test]
    fn ibans_have_a_country_and_check_digits() {
        for iban in [
            "ES91 2100 0418 4502 0005 1332",
            "ES9121000418450200051332",
            "DE89370400440532013000",
            "GB82 WEST 1234 5698 7654 32",
            "FR14 2004 1010 0505 0001 3M02 606",
            "NL91ABNA0417164300",
            "MT84MALT011000012345MTLCAST001S",
            "IT60 X054 2811 1010 0000 0123 456",
            "es9121000418450200051332",
            "de89 3704 0044 0532 0130 00",
        ] {
            check(&format!("cuenta {iban}."), &[("an IBAN", iban)]);
        }
        silent(&["ES91 2100 0418 4502 0005 1331", "DE8937040044053201300", "XX91 2100 0418 4502 0005 1332"]);
        silent(&["Es9121000418450200051332", "gb82west12345698765432", "es9121000418450200051331"]);
    }
}
