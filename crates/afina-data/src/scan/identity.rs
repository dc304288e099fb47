//! Numbers that states give to people, with their check digits.

use super::{
    Found, Kind, free_after, free_before, is_reference,
    pii::{Digits, stands_apart},
    words_before,
};

/// A number that is digits and dashes: SSN, CUIT, RUT, DNI.
pub(super) fn number(text: &str, digits: &Digits) -> Option<Found> {
    ssn(text, digits).or_else(|| cuit(text, digits)).or_else(|| dni(text, digits)).or_else(|| rut(text, digits))
}

/// A number with letters before its digits, the first of which is at byte `start`: NIE, CURP, RFC.
pub(super) fn with_letters(text: &str, start: usize) -> Option<Found> {
    nie(text, start).or_else(|| curp(text, start)).or_else(|| rfc(text, start))
}

fn said_before(text: &str, at: usize, names: &[&str]) -> bool {
    words_before(text, at).iter().any(|word| names.contains(&word.as_str()))
}

/// One digit again and again: made up, whatever its check digit says.
fn is_made_up(number: &[u8]) -> bool {
    number.iter().all(|digit| *digit == number[0])
}

fn value(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'))
}

/// Social Security number, United States: `AAA-GG-SSSS`, no group all zeros, the area neither 666 nor from 900 on
/// (Social Security Administration, number randomization, 2011). Without dashes only where the text says so.
fn ssn(text: &str, digits: &Digits) -> Option<Found> {
    /// Printed on cards in wallets and in leaflets, and void since.
    const VOID: [&[u8]; 2] = [b"078051120", b"219099999"];
    let said = || {
        let words = words_before(text, digits.span(1).start);
        words.iter().any(|word| word == "ssn") || words.windows(2).any(|pair| pair == ["security", "social"])
    };
    let groups = match digits.lengths() {
        [3, 2, 4, ..] if digits.gaps(3).iter().all(|gap| *gap == "-") => 3,
        [3, 2, 4, ..] if digits.gaps(3).iter().all(|gap| *gap == " ") && said() => 3,
        [9, ..] if said() => 1,
        _ => return None,
    };
    let number = digits.joined(groups);
    let (area, group, serial) = (value(&number[..3]), value(&number[3..5]), value(&number[5..]));
    let given =
        !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0 && !VOID.contains(&number) && !is_made_up(number);
    let span = digits.span(groups);
    (given && stands_apart(text, &span, false)).then_some(Found {
        kind: Kind::Ssn,
        what: "a US Social Security number",
        span,
    })
}

/// CUIT or CUIL, Argentina: a prefix for the sort of person, eight digits, and a check digit modulo 11 with the weights
/// 5432765432 (AFIP). Without dashes only where the text says so.
fn cuit(text: &str, digits: &Digits) -> Option<Found> {
    let start = digits.span(1).start;
    let groups = match digits.lengths() {
        [2, 8, 1, ..] if digits.gaps(3).iter().all(|gap| *gap == "-") => 3,
        [11, ..] if said_before(text, start, &["cuit", "cuil"]) => 1,
        _ => return None,
    };
    let number = digits.joined(groups);
    let prefix = matches!(value(&number[..2]), 20 | 23 | 24 | 25 | 26 | 27 | 30 | 33 | 34);
    let weights = [5, 4, 3, 2, 7, 6, 5, 4, 3, 2];
    let sum: u32 = number.iter().zip(weights).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
    let right = match 11 - sum % 11 {
        11 => number[10] == b'0',
        // No number is given with this remainder: its holder gets another prefix.
        10 => false,
        check => u32::from(number[10] - b'0') == check,
    };
    let span = digits.span(groups);
    let real = prefix && right && !is_made_up(&number[2..10]);
    (real && stands_apart(text, &span, false)).then_some(Found { kind: Kind::Cuit, what: "a CUIT", span })
}

/// RUT, Chile: up to eight digits, a dash, and a check digit modulo 11 with the weights 2 to 7 from the right, K for 10
/// (Servicio de Impuestos Internos).
fn rut(text: &str, digits: &Digits) -> Option<Found> {
    let groups = match digits.lengths() {
        [1 | 2, 3, 3, ..] if digits.gaps(3).iter().all(|gap| *gap == ".") => 3,
        [7 | 8, ..] => 1,
        _ => return None,
    };
    let number = digits.joined(groups);
    let end = digits.span(groups).end;
    let [b'-', check @ (b'0'..=b'9' | b'K' | b'k'), ..] = text.as_bytes()[end..] else { return None };
    let weights = (2..=7).cycle();
    let sum: u32 = number.iter().rev().zip(weights).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
    let expected = match 11 - sum % 11 {
        11 => b'0',
        10 => b'K',
        digit => b'0' + digit as u8,
    };
    let span = digits.span(1).start..end + 2;
    let said = || said_before(text, span.start, &["rut", "run"]);
    // `20240115-3` is a date and a number as often.
    let right = check.to_ascii_uppercase() == expected && value(number) >= 1_000_000 && !is_made_up(number);
    let alone = right && stands_apart(text, &span, false) && (groups == 3 || !is_date(number) || said());
    (alone && !is_reference(text, span.start, &["rut", "run"])).then_some(Found {
        kind: Kind::Rut,
        what: "a RUT",
        span,
    })
}

/// Whether eight digits are a year, a month and a day, in this order or the other.
pub(super) fn is_date(number: &[u8]) -> bool {
    let date = |year: u32, month: u32, day: u32| {
        (1900..2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day)
    };
    let year_first = || date(value(&number[..4]), value(&number[4..6]), value(&number[6..]));
    let year_last = || {
        let (first, second, year) = (value(&number[..2]), value(&number[2..4]), value(&number[4..]));
        date(year, second, first) || date(year, first, second)
    };
    number.len() == 8 && (year_first() || year_last())
}

/// The check letter of a Spanish number: its remainder modulo 23 (Real Decreto 1553/2005; Ministerio del Interior).
fn spanish_letter(number: u32) -> u8 {
    b"TRWAGMYFPDXBNJZSQVHLCKE"[(number % 23) as usize]
}

/// DNI, Spain: eight digits and the check letter, perhaps with a dash or a space between.
fn dni(text: &str, digits: &Digits) -> Option<Found> {
    let groups = match digits.lengths() {
        [8, ..] => 1,
        [2, 3, 3, ..] if digits.gaps(3).iter().all(|gap| *gap == ".") => 3,
        _ => return None,
    };
    let number = digits.joined(groups);
    let end = digits.span(groups).end;
    let (letter, end) = match text.as_bytes()[end..] {
        [letter, ..] if letter.is_ascii_alphabetic() => (letter.to_ascii_uppercase(), end + 1),
        [b'-' | b' ', letter, ..] if letter.is_ascii_uppercase() => (letter, end + 2),
        _ => return None,
    };
    let span = digits.span(1).start..end;
    let right = letter == spanish_letter(value(number)) && !is_made_up(number) && stands_apart(text, &span, false);
    (right && !is_reference(text, span.start, &["dni", "nif"])).then_some(Found {
        kind: Kind::Dni,
        what: "a DNI",
        span,
    })
}

/// NIE, Spain: X, Y or Z (0, 1, 2), seven digits and the check letter.
fn nie(text: &str, start: usize) -> Option<Found> {
    let bytes = text.as_bytes();
    let dash = usize::from(start > 1 && bytes[start - 1] == b'-');
    let begin = start.checked_sub(1 + dash)?;
    let first = match bytes[begin].to_ascii_uppercase() {
        letter @ b'X'..=b'Z' => u32::from(letter - b'X'),
        _ => return None,
    };
    let number = bytes.get(start..start + 7).filter(|number| number.iter().all(u8::is_ascii_digit))?;
    let behind = start + 7 + usize::from(bytes.get(start + 7) == Some(&b'-'));
    let letter = bytes.get(behind)?.to_ascii_uppercase();
    let right = letter == spanish_letter(first * 10_000_000 + value(number)) && !is_made_up(number);
    let span = begin..behind + 1;
    (right && stands_apart(text, &span, false)).then_some(Found { kind: Kind::Nie, what: "a NIE", span })
}

/// `count` bytes from `start` on, letters and digits, that stand alone: in capitals, or all of it in small letters where
/// that `may_be_small`.
fn code(text: &str, start: usize, count: usize, may_be_small: bool) -> Option<Vec<u8>> {
    let code = text.as_bytes().get(start..start + count)?;
    if !code[4..10].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let small = may_be_small && !code.iter().any(u8::is_ascii_uppercase);
    let code = if small { code.to_ascii_uppercase() } else { code.to_vec() };
    let shaped = code.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'&');
    let letters = code[..4].iter().all(u8::is_ascii_uppercase);
    let dated = letters && {
        let (month, day) = (value(&code[6..8]), value(&code[8..10]));
        (1..=12).contains(&month) && (1..=31).contains(&day)
    };
    (shaped && dated && free_before(text, start) && free_after(text, start + count)).then_some(code)
}

/// CURP, Mexico: 18 letters and digits, the last a check digit modulo 10 with the weights 18 to 2 (Instructivo
/// normativo para la asignación de la CURP, Registro Nacional de Población).
fn curp(text: &str, start: usize) -> Option<Found> {
    const LETTERS: &str = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ";
    let begin = start.checked_sub(4)?;
    let code = code(text, begin, 18, true)?;
    let sexed = matches!(code[10], b'H' | b'M' | b'X') && code[11..16].iter().all(u8::is_ascii_uppercase);
    let worth = |byte: u8| LETTERS.chars().position(|letter| letter == char::from(byte)).unwrap_or(0) as u32;
    let sum: u32 = code[..17].iter().zip((2..=18).rev()).map(|(&byte, weight)| worth(byte) * weight).sum();
    let check = (10 - sum % 10) % 10;
    (sexed && u32::from(code[17].wrapping_sub(b'0')) == check).then_some(Found {
        kind: Kind::Curp,
        what: "a CURP",
        span: begin..begin + 18,
    })
}

/// RFC of a person, Mexico: four letters, a date, and three characters, the last a check digit modulo 11 with the
/// weights 13 to 2, A for 10 (SAT, IFAI 0610100135506). The numbers of companies have twelve characters and are public;
/// so are the two that stand for anyone.
fn rfc(text: &str, start: usize) -> Option<Found> {
    const LETTERS: &[u8] = b"0123456789ABCDEFGHIJKLMN&OPQRSTUVWXYZ";
    const ANYONE: [&[u8]; 2] = [b"XAXX010101000", b"XEXX010101000"];
    let begin = start.checked_sub(4).filter(|&begin| text.is_char_boundary(begin))?;
    // It has less structure: in small letters only where the text says so.
    let code = code(text, begin, 13, said_before(text, begin, &["rfc"]))?;
    let worth = |byte: u8| LETTERS.iter().position(|letter| *letter == byte).unwrap_or(0) as u32;
    let sum: u32 = code[..12].iter().zip((2..=13).rev()).map(|(&byte, weight)| worth(byte) * weight).sum();
    let check = match sum % 11 {
        0 => b'0',
        1 => b'A',
        rest => b'0' + (11 - rest) as u8,
    };
    (code[12] == check && !ANYONE.contains(&code.as_slice())).then_some(Found {
        kind: Kind::Rfc,
        what: "an RFC",
        span: begin..begin + 13,
    })
}

#[cfg(test)]
mod tests {
    use crate::scan::pii::tests::{check, silent};

    #[test]
    fn social_security_numbers_are_in_the_ranges_that_are_given() {
        check("SSN 536-22-8471.", &[("a US Social Security number", "536-22-8471")]);
        check("social security number is 536228471", &[("a US Social Security number", "536228471")]);
        silent(&[
            "000-22-8471",
            "666-22-8471",
            "912-22-8471",
            "536-00-8471",
            "536-22-0000",
            "078-05-1120",
            "536228471",
        ]);
        silent(&["part 1536-22-8471", "536-22-8471-2", "A536-22-8471"]);
    }

    #[test]
    fn spanish_numbers_end_in_their_letter() {
        for text in ["45678912S", "45678912-S", "45.678.912-S", "45678912s"] {
            check(&format!("DNI {text},"), &[("a DNI", text)]);
        }
        check("mi NIE es X4567891E.", &[("a NIE", "X4567891E")]);
        check("Y-4567891-J", &[("a NIE", "Y-4567891-J")]);
        silent(&["45678912T", "45678912SX", "145678912S", "ref. 45678912-S", "X4567891T", "AX4567891E", "45678912 s"]);
    }

    #[test]
    fn argentine_numbers_have_a_prefix_and_a_check_digit() {
        check("CUIT 20-12345678-6", &[("a CUIT", "20-12345678-6")]);
        check("cuil: 27345678919", &[("a CUIT", "27345678919")]);
        silent(&[
            "DNI 00000000T, 11111111H, 99999999R",
            "NIE X0000000T",
            "RUT 11.111.111-1",
            "20-11111111-2",
            "SSN 222-22-2222",
        ]);
        silent(&["20-12345678-5", "21-12345678-6", "20-12345678-67", "27345678919"]);
    }

    #[test]
    fn chilean_numbers_have_a_check_digit_or_k() {
        for text in ["12.345.678-5", "12345678-5", "7.654.321-6", "10.000.013-K", "10000013-k"] {
            check(&format!("RUT {text}."), &[("a RUT", text)]);
        }
        silent(&["12.345.678-4", "12345678-K", "20231206-9", "12.345.678"]);
    }

    #[test]
    fn mexican_codes_have_a_date_and_a_check_digit() {
        check("CURP: HEGG560427MVZRRL04", &[("a CURP", "HEGG560427MVZRRL04")]);
        check("RFC COSC8001137NA, gracias", &[("an RFC", "COSC8001137NA")]);
        check("curp hegg560427mvzrrl04", &[("a CURP", "hegg560427mvzrrl04")]);
        check("mi rfc: cosc8001137na", &[("an RFC", "cosc8001137na")]);
        silent(&["HEGG560427mvzrrl04", "cosc8001137na"]);
        silent(&["HEGG560427MVZRRL05", "HEGG561327MVZRRL04", "XHEGG560427MVZRRL04", "COSC8001137N1", "XAXX010101000"]);
    }
}
