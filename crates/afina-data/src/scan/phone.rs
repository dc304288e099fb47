//! Phone numbers: international ones by the plan of their country, national ones by the way they are written or by
//! what the text calls them.

use super::{
    Found, Kind, free_before, identity,
    pii::{Digits, stands_apart},
    placeholder::is_dull_number,
    words_before,
};

/// The phone number that begins with `digits`, with the `+` or the bracket before them.
pub(super) fn number(text: &str, digits: &Digits) -> Option<Found> {
    let span = international(text, digits).or_else(|| national(text, digits)).or_else(|| called_so(text, digits))?;
    Some(Found { kind: Kind::Phone, what: "a phone number", span })
}

type Span = std::ops::Range<usize>;

/// `+34 612 345 678`, `0034…`, `(+56) 9 1234 5678`: ITU-T E.164.
fn international(text: &str, digits: &Digits) -> Option<Span> {
    let first = digits.span(1).start;
    let plus = text[..first].ends_with('+');
    let zeros = text[first..].starts_with("00") && !text[first..].starts_with("000");
    if !plus && !zeros || plus && !is_sign(text, first - 1) {
        return None;
    }
    let start = if plus { first - 1 } else { first };
    let most = digits.lengths().len();
    // The longest that the country's plan allows: digits of something else may stand behind.
    (1..=most).rev().find_map(|groups| {
        let number = digits.joined(groups);
        let number = if plus { number } else { &number[2..] };
        let gaps = digits.gaps(groups);
        let written =
            gaps.iter().all(|gap| matches!(*gap, " " | "-" | "." | "/" | " (" | ") " | ")" | "(" | ")-" | " - "));
        // `0034 612 34 56 78`; with other signs it is the number of a part or of a lottery.
        let grouped = plus || groups > 1 && digits.lengths()[0] > 2 && gaps.iter().all(|gap| *gap == " ");
        let span = start..digits.span(groups).end;
        let ends = !text[span.end..].starts_with(['-', '.', ':'])
            || !text[span.end + 1..].starts_with(|char: char| char.is_ascii_digit());
        (written
            && grouped
            && ends
            && is_of_plan(number)
            && super::free_after(text, span.end)
            && free_before(text, start))
        .then_some(span)
    })
}

/// Whether the `+` at byte `at` is no operator: `a+34…`, `2 + 34…`.
fn is_sign(text: &str, at: usize) -> bool {
    let before = &text[..at];
    !before.ends_with(|char: char| char.is_ascii_alphanumeric() || matches!(char, ')' | ']' | '+' | '-' | '.' | '_'))
}

/// Country code and length of the rest, by the national plans; a number that nobody has is none.
fn is_of_plan(number: &[u8]) -> bool {
    if number.len() < 8 || number.len() > 15 || number[0] == b'0' {
        return false;
    }
    let code = |len: usize| number[..len].iter().fold(0, |value: u32, digit| value * 10 + u32::from(digit - b'0'));
    let (code_len, from, to) = match (code(1), code(2), code(3)) {
        (1, ..) => return is_nanp(&number[1..]),
        (7, ..) => (1, 10, 10),
        (_, 20 | 61 | 65 | 66 | 84, _) => (2, 8, 10),
        (_, 27 | 33 | 34 | 31 | 41 | 56 | 40 | 94 | 93, _) => (2, 9, 9),
        (_, 30 | 52 | 57 | 58 | 63 | 90 | 91 | 92 | 98, _) => (2, 10, 11),
        (_, 32 | 36 | 48 | 51, _) => (2, 8, 9),
        (_, 39, _) => (2, 8, 11),
        (_, 43 | 49, _) => (2, 7, 12),
        (_, 44, _) => (2, 9, 10),
        (_, 45 | 47 | 53, _) => (2, 8, 8),
        (_, 46, _) => (2, 7, 10),
        (_, 54 | 55, _) => (2, 10, 11),
        (_, 60 | 62 | 64 | 81 | 82 | 86 | 95, _) => (2, 8, 12),
        (.., 351 | 593 | 595 | 886 | 971 | 966 | 972 | 212 | 213 | 380) => (3, 8, 9),
        (.., 501..=507 | 591 | 598) => (3, 7, 8),
        (.., 211 | 216 | 218 | 220..=258 | 260..=269 | 290 | 291 | 297..=299 | 350..=359 | 370..=378)
        | (.., 381..=383 | 385..=387 | 389 | 420 | 421 | 423 | 500 | 508 | 509 | 590 | 592 | 594 | 596 | 597 | 599)
        | (.., 670 | 672..=683 | 685..=692 | 850 | 852 | 853 | 855 | 856 | 880 | 960..=977 | 992..=996 | 998) => {
            (3, 6, 10)
        }
        _ => return false,
    };
    let rest = &number[code_len..];
    let right = match code(2) {
        34 => matches!(rest[0], b'6'..=b'9') && !is_spanish_service(rest),
        _ => true,
    };
    let trunk = rest[0] == b'0' && code(2) != 39 && code(2) != 44;
    // Set aside for films and manuals by Ofcom and ARCEP.
    let fiction = code(2) == 44
        && (rest.starts_with(b"7700900") || rest.starts_with(b"1632960") || rest.starts_with(b"2079460"))
        || code(2) == 33 && (rest.starts_with(b"63998") || rest.starts_with(b"19900"));
    (from..=to).contains(&rest.len()) && right && !trunk && !fiction && !is_dull_number(rest) && !ends_in_zeros(rest)
}

fn ends_in_zeros(number: &[u8]) -> bool {
    number.ends_with(b"00000")
}

/// Numbers that cost the caller nothing, or the same from anywhere: those of companies (Spain).
fn is_spanish_service(number: &[u8]) -> bool {
    number.len() == 9 && [&b"800"[..], b"900", b"901", b"902"].iter().any(|head| number.starts_with(head))
}

/// Area codes of the North American plan that are free to call, or cost everybody the same: numbers of companies.
const FREE: [&[u8]; 8] = [b"800", b"833", b"844", b"855", b"866", b"877", b"888", b"900"];

/// Ten digits of the North American plan: area and exchange begin with 2 to 9. Free numbers (800, …) are nobody's, and
/// those with 555 are in no book.
fn is_nanp(number: &[u8]) -> bool {
    number.len() == 10
        && number[0] >= b'2'
        && number[3] >= b'2'
        && number[1..3] != *b"11"
        && number[..3] != *b"555"
        && number[3..6] != *b"555"
        && !FREE.contains(&&number[..3])
        && !is_dull_number(number)
        && !ends_in_zeros(number)
}

/// A way of writing that nothing else has.
fn national(text: &str, digits: &Digits) -> Option<Span> {
    let bracket = text[..digits.span(1).start].ends_with('(');
    let lengths = digits.lengths();
    let gaps_are = |groups: usize, of: &[&str]| digits.gaps(groups).iter().all(|gap| of.contains(gap));
    let bracketed = |groups: usize| {
        let gaps = digits.gaps(groups);
        bracket && matches!(gaps[0], ") " | ")" | ")-") && gaps[1..].iter().all(|gap| matches!(*gap, "-" | " " | "."))
    };
    let even = |groups: usize| gaps_are(groups, &[digits.gaps(groups)[0]]) && gaps_are(groups, &[" ", "-", "."]);
    let head = |groups: usize| digits.joined(groups);
    let groups = match lengths {
        // 1-415-…: the rest is looked at.
        [1, 3, 3, 4, ..] if gaps_are(4, &["-"]) && head(4)[0] == b'1' && is_nanp(&head(4)[1..]) => 4,
        [3, 3, 4, ..] if (bracketed(3) || gaps_are(3, &["-"]) || gaps_are(3, &["."])) && is_nanp(head(3)) => 3,
        // Mexico and Argentina.
        [2 | 3, 4, 4, ..] if bracketed(3) => 3,
        [2, 4, 4, ..] if digits.gaps(3) == [" ", "-"] => 3,
        // Spain.
        [3, 2, 2, 2, ..] if even(4) && matches!(head(1)[0], b'6'..=b'9') && head(1)[1..] != *b"00" => 4,
        [2, 3, 2, 2, ..] if even(4) && matches!(head(1)[0], b'8' | b'9') => 4,
        // France.
        [2, 2, 2, 2, 2, ..] if even(5) && !gaps_are(5, &["-"]) && head(1)[0] == b'0' && head(1)[1] != b'0' => 5,
        // United Kingdom.
        [5, 6, ..] if gaps_are(2, &[" "]) && head(1).starts_with(b"07") => 2,
        [5, 3, 3, ..] if gaps_are(3, &[" "]) && head(1).starts_with(b"07") => 3,
        [3, 4, 4, ..] if gaps_are(3, &[" "]) && head(1).starts_with(b"02") => 3,
        _ => return None,
    };
    let number = head(groups);
    let spaced = digits.gaps(groups).iter().any(|gap| gap.contains(' '));
    let span = digits.span(groups);
    let fiction = number.starts_with(b"07700900") || number.starts_with(b"02079460") || number.starts_with(b"063998");
    let apart = if bracket {
        stands_apart(text, &(span.start - 1..span.end), spaced)
    } else {
        stands_apart(text, &span, spaced)
    };
    let start = if bracketed(groups.max(2)) { span.start - 1 } else { span.start };
    (apart && !fiction && !is_dull_number(number) && !ends_in_zeros(number)).then_some(start..span.end)
}

/// Digits that the text calls a phone number.
fn called_so(text: &str, digits: &Digits) -> Option<Span> {
    let before = &text[..digits.span(1).start];
    let bracket = before.ends_with('(');
    let lengths = digits.lengths();
    // With a `+` it is judged as an international one.
    if before.ends_with('+') || lengths.iter().sum::<usize>() < 8 {
        return None;
    }
    let found = (1..=lengths.len().min(6)).rev().find_map(|groups| {
        let number = Some(digits.joined(groups)).filter(|number| (8..=13).contains(&number.len()))?;
        let gaps = digits.gaps(groups);
        let written = gaps.iter().all(|gap| matches!(*gap, " " | "-" | "." | ") " | ")"));
        let spaced = gaps.iter().any(|gap| gap.contains(' '));
        let span = digits.span(groups);
        let (start, apart) = match bracket {
            true => (span.start - 1, stands_apart(text, &(span.start - 1..span.end), spaced)),
            false => (span.start, stands_apart(text, &span, spaced)),
        };
        let tolerable =
            !is_dull_number(number) && !ends_in_zeros(number) && !is_date_or_time(&lengths[..groups], number);
        let american = number.strip_prefix(b"1").filter(|_| number.len() == 11).unwrap_or(number);
        let nobody = american.len() == 10 && is_fictional(american)
            || is_spanish_service(number)
            || lengths[..groups] == [3, 3, 4] && gaps.iter().all(|gap| *gap == "-") && number[0] < b'2';
        (written && apart && tolerable && !nobody).then_some((start..span.end, number.len()))
    });
    let (span, len) = found?;
    called(text, before.len()).is_some_and(|fewest| len >= fewest).then_some(span)
}

/// Ten digits as of North America that are nobody's, or free to call.
fn is_fictional(number: &[u8]) -> bool {
    number[3..6] == *b"555" || number[..3] == *b"555" || FREE.contains(&&number[..3])
}

fn is_date_or_time(lengths: &[usize], number: &[u8]) -> bool {
    matches!(lengths, [4, 2, 2] | [2, 2, 4] | [1 | 2, 1 | 2, 4] | [2, 2, 2, 2] | [4, 4]) || identity::is_date(number)
}

/// The fewest digits of a phone number here: 8 where the words before name a phone, 9 where they only speak of calling.
fn called(text: &str, at: usize) -> Option<usize> {
    const NAMES: [&str; 12] = [
        "teléf",
        "telef",
        "telép",
        "phone",
        "móvil",
        "movil",
        "celular",
        "mobile",
        "whatsapp",
        "fono",
        "cellphone",
        "smartphone",
    ];
    const SHORT: [&str; 8] = ["tel", "tlf", "tfno", "cell", "cel", "fax", "ph", "mob"];
    const CALLS: [&str; 17] = [
        "call",
        "calling",
        "llama",
        "llámame",
        "llamame",
        "llamar",
        "llame",
        "llámanos",
        "llamarme",
        "marque",
        "marca",
        "dial",
        "ring",
        "text",
        "sms",
        "contact",
        "reach",
    ];
    const OTHERS: [&str; 24] = [
        "order",
        "pedido",
        "ticket",
        "case",
        "caso",
        "id",
        "invoice",
        "factura",
        "tracking",
        "account",
        "cuenta",
        "ref",
        "reference",
        "serial",
        "imei",
        "version",
        "price",
        "costs",
        "cuesta",
        "precio",
        "model",
        "modelo",
        "expediente",
        "code",
    ];
    const MINE: [&str; 10] = ["my", "mi", "his", "her", "your", "su", "tu", "their", "our", "nuestro"];
    let words = words_before(text, at);
    let says = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    let mut parts = words.iter().flat_map(|word| word.split('_'));
    let named = parts.any(|word| NAMES.iter().any(|name| word.starts_with(name)));
    let mine = words
        .windows(2)
        .any(|pair| matches!(pair[0].as_str(), "number" | "número" | "numero") && MINE.contains(&pair[1].as_str()));
    if says(&OTHERS) {
        return None;
    }
    match (named || says(&SHORT), mine || says(&CALLS)) {
        (true, _) => Some(8),
        (_, true) => Some(9),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::scan::pii::tests::{check, silent};

    #[track_caller]
    fn phone(around: &str, number: &str) {
        check(&around.replace("{}", number), &[("a phone number", number)]);
    }

    #[test]
    fn international_numbers_fit_the_plan_of_their_country() {
        for number in [
            "+34 612 345 678",
            "+34612345678",
            "0034 612 34 56 78",
            "+1 (415) 736-2671",
            "+1-415-736-2671",
            "+44 20 7183 8750",
            "+52 55 4169 8372",
            "+54 9 11 4169-8372",
            "+56 9 6169 8372",
            "+57 301 416 9837",
            "+49 30 901820",
            "+593 99 416 9837",
        ] {
            phone("Llama al {}, gracias. Son 3.", number);
        }
        silent(&[
            "+34 512 345 678",
            "+34 612 345 67",
            "+1 115 736 2671",
            "+999 612 345 678",
            "+1 415 555 0134",
            "+44 7700 900123",
            "+100000000",
            "+34 600 000 000",
            "x+34612345678",
            "(2+34612345678)",
            "0034-5146-3684",
            "00 34 51 46 36 84",
            "UTC+05:30, +15%, C++11",
        ]);
    }

    #[test]
    fn national_numbers_are_known_by_the_way_they_are_written() {
        for number in [
            "(415) 736-2671",
            "415-736-2671",
            "415.736.2671",
            "1-415-736-2671",
            "(55) 4169-8372",
            "11 4169-8372",
            "612 34 56 78",
            "91 416 98 37",
            "06 12 34 56 78",
            "07911 123456",
            "020 7183 8750",
        ] {
            phone("It is {} now.", number);
        }
        silent(&[
            "415-555-0134",
            "555-123-4567",
            "1-800-736-2671",
            "123-456-7890",
            "415 736 2671",
            "612 345 678",
            "2024-736-2671",
            "$415-736-2671",
            "415-736-26711",
            "12 34 56 78 90",
        ]);
    }

    #[test]
    fn plain_digits_are_a_phone_number_where_the_text_says_so() {
        for around in ["Tel. {}", "mi teléfono es el {}.", "WhatsApp: {}", "call me at {}", "my number is {}"] {
            phone(around, "612345678");
            phone(around, "612 345 678");
        }
        phone("móvil: {}", "5541698372");
        silent(&[
            "order number 612345678",
            "I made 12345678 calls",
            "call between 09.00-17.00 on 12-05-2024",
            "call 5551234",
            "phone 20240115",
            "the phone costs 612345678 pesos? id 612345678",
            "call 1234567890",
            "IORING_OFF_CQ_RING: u32 = 134217728",
            "phone: 111-222-3333, tel:+14155550123",
            "hotel 612345678",
            "Tel. 900 123 456, teléfono 900456789, llama al 902 414 243 o al +34 900 456 789",
            "call 1-888-736-2671, call 18007362671, phone 833 736 2671",
        ]);
    }
}
