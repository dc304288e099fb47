//! Secrets and personal data in texts: found by their shape and their check digits, shown masked, taken out.
//!
//! Names of people, addresses and what a text merely says about someone have no shape: they are not found. A card that
//! has a brand and the right check digit is reported even where it is well known as a sample; addresses that are
//! reserved for examples (RFC 2606, RFC 5737, 555 numbers), documents whose digits are all the same, numbers that are
//! free to call and words such as `YOUR_API_KEY` are not.

mod assignment;
mod banking;
mod candidates;
mod email;
mod function_words;
mod identity;
mod internet;
mod languages;
mod numbers;
mod phone;
mod pii;
mod placeholder;
mod record;
mod redact;
mod secrets;

use std::{collections::BTreeMap, ops::Range};

use serde::Serialize;

pub use languages::language;
pub(crate) use record::scan_record;
pub use redact::{Count, RedactError, Redaction, redact};

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A key, a token, a password.
    Secret,
    Email,
    Phone,
    Card,
    Iban,
    Ip,
    /// Social Security number of the United States.
    Ssn,
    /// Documento nacional de identidad, Spain.
    Dni,
    /// Número de identidad de extranjero, Spain.
    Nie,
    /// Clave única de identificación tributaria (or laboral, CUIL), Argentina.
    Cuit,
    /// Rol único tributario, Chile.
    Rut,
    /// Clave única de registro de población, Mexico.
    Curp,
    /// Registro federal de contribuyentes of a person, Mexico.
    Rfc,
}

impl Kind {
    /// The word in its placeholder, as `EMAIL` in `<EMAIL_1>`.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Secret => "SECRET",
            Kind::Email => "EMAIL",
            Kind::Phone => "PHONE",
            Kind::Card => "CARD",
            Kind::Iban => "IBAN",
            Kind::Ip => "IP",
            Kind::Ssn => "SSN",
            Kind::Dni => "DNI",
            Kind::Nie => "NIE",
            Kind::Cuit => "CUIT",
            Kind::Rut => "RUT",
            Kind::Curp => "CURP",
            Kind::Rfc => "RFC",
        }
    }
}

/// What to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub secrets: bool,
    pub pii: bool,
}

impl Wanted {
    pub const ALL: Wanted = Wanted { secrets: true, pii: true };

    fn nothing(self) -> bool {
        !self.secrets && !self.pii
    }
}

/// One secret or one piece of personal data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub kind: Kind,
    /// With its article, as `an OpenAI API key`.
    pub what: &'static str,
    /// Its bytes in the text.
    pub span: Range<usize>,
}

/// Everything in `text`, in its order; no two overlap. Images and other data in base64 are not looked at.
pub fn find(text: &str, wanted: Wanted) -> Vec<Found> {
    let mut found = Vec::new();
    let mut from = 0;
    for blob in candidates::blobs(text) {
        find_in(text, from..blob.start, wanted, &mut found);
        from = blob.end;
    }
    find_in(text, from..text.len(), wanted, &mut found);
    found
}

fn find_in(text: &str, part: Range<usize>, wanted: Wanted, found: &mut Vec<Found>) {
    let text = &text[..part.end];
    let mut list = Vec::new();
    if wanted.secrets {
        secrets::find(text, part.start, &mut list);
    }
    if wanted.pii {
        pii::find(text, part.start, &mut list);
    }
    // Of two that overlap the first in the list stays: a secret before an address in it.
    let mut taken: BTreeMap<usize, Found> = BTreeMap::new();
    for next in list {
        let before = taken.range(..next.span.end).next_back();
        if before.is_none_or(|(_, before)| before.span.end <= next.span.start) {
            taken.insert(next.span.start, next);
        }
    }
    found.extend(taken.into_values());
}

/// Whether nothing that `at` could be the middle of stands before it: no letter, digit or underscore. The letter of an
/// escape (`\n` in code or JSON inside a text) does not count.
fn free_before(text: &str, at: usize) -> bool {
    let before = &text.as_bytes()[..at];
    match before.last() {
        None => true,
        Some(byte) if byte.is_ascii_alphanumeric() || *byte == b'_' => {
            matches!(byte, b'n' | b'r' | b't') && before.len() > 1 && before[before.len() - 2] == b'\\'
        }
        Some(byte) if byte.is_ascii() => true,
        Some(_) => !text[..at].chars().next_back().is_some_and(is_letter),
    }
}

/// Whether what ends at `at` does not go on.
fn free_after(text: &str, at: usize) -> bool {
    match text.as_bytes().get(at) {
        None => true,
        Some(byte) if byte.is_ascii() => !byte.is_ascii_alphanumeric() && *byte != b'_',
        Some(_) => !text[at..].chars().next().is_some_and(is_letter),
    }
}

/// Letters of alphabets; scripts without spaces between words have no such borders.
fn is_letter(char: char) -> bool {
    char < '\u{2E80}' && char.is_alphabetic()
}

/// The words before byte `at`, nearest first, in lower case: five at most.
fn words_before(text: &str, at: usize) -> Vec<String> {
    const REACH: usize = 48;
    let head = &text[text.floor_char_boundary(at.saturating_sub(REACH))..at];
    // `CQ_RING` is one word: not the one that is heard.
    let words = head.split(|char: char| !char.is_alphanumeric() && char != '_').filter(|word| !word.is_empty());
    words.rev().take(5).map(str::to_lowercase).collect()
}

/// Whether the words before a number call it something else than what `names` are the words for. Of long numbers one
/// in ten passes a check digit, of those with a letter one in 23.
fn is_reference(text: &str, start: usize, names: &[&str]) -> bool {
    const OTHERS: [&str; 26] = [
        "order",
        "pedido",
        "id",
        "ticket",
        "tracking",
        "invoice",
        "factura",
        "reference",
        "referencia",
        "ref",
        "sku",
        "isbn",
        "imei",
        "serial",
        "barcode",
        "ean",
        "timestamp",
        "seguimiento",
        "case",
        "caso",
        "seed",
        "upc",
        "part",
        "model",
        "modelo",
        "expediente",
    ];
    let words = words_before(text, start);
    let says = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    says(&OTHERS) && !says(names)
}
