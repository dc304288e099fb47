//! The rules on secrets and personal data, over every string of a record.

use super::{Found, Kind, Wanted, candidates::Candidates, find};
use crate::{
    diagnostic::excerpt,
    findings::Findings,
    json::{Kind as Json, Value},
};

/// Looks for secrets and personal data in the strings of a record: contents, arguments and results of tools, names,
/// and whatever else there is. Numbers outside of strings are left alone.
///
/// The bytes of the record are looked at once; only a string with a candidate in it is decoded.
pub(crate) fn scan_record(record: Value, wanted: Wanted, out: &mut Findings) {
    for_candidates(record, wanted, |value, text, found| {
        let (secrets, pii): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.kind == Kind::Secret);
        secret_detected(value, text, &secrets, out);
        pii_detected(value, text, &pii, out);
    });
}

/// Calls `each` with every string and key inside `record` in which something is found: the value, its text, and that.
pub(super) fn for_candidates(record: Value, wanted: Wanted, mut each: impl FnMut(Value, &str, Vec<Found>)) {
    if wanted.nothing() {
        return;
    }
    let span = record.span();
    let mut from = span.start;
    let mut candidates = Candidates::new(&record.tree_text().as_bytes()[..span.end], from, wanted);
    while let Some(at) = candidates.next(from) {
        from = at + 1;
        let Some(value) = record.scalar_at(at) else { continue };
        from = from.max(value.span().end);
        if !matches!(value.kind(), Json::String | Json::Key) || value.raw().starts_with("\"data:image/") {
            continue;
        }
        let Some(text) = value.text() else { continue };
        let found = find(&text, wanted);
        if !found.is_empty() {
            each(value, &text, found);
        }
    }
}

/// The first of each sort, and how many more of it there are.
fn by_sort(found: &[Found]) -> impl Iterator<Item = (&Found, usize)> {
    let first = |index: usize| found[..index].iter().all(|before| before.what != found[index].what);
    (0..found.len()).filter(move |&index| first(index)).map(|index| {
        let first = &found[index];
        (first, found[index + 1..].iter().filter(|other| other.what == first.what).count())
    })
}

fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" and {more} more") }
}

/// A text has a key, a token or a password in it.
///
/// Known shapes (OpenAI, Anthropic, Hugging Face, GitHub, GitLab, AWS, Google, Slack, Stripe, Twilio, SendGrid, npm,
/// PyPI and others), JSON Web Tokens and bearer tokens, private keys, passwords in URLs, and what stands behind
/// `password=`, `api_key:` and the like if it looks drawn at random. Placeholders such as `YOUR_API_KEY` are fine. A
/// model learns a secret by heart and tells it to whoever asks; whoever gets the file has it too.
///
/// ```json
/// {"role": "user", "content": "DB_PASSWORD=Tr7!kQz9#w does not work"}
/// ```
///
/// Revoke it, then take it out: `--redact OUT` puts `<SECRET_1>` there.
fn secret_detected(value: Value, text: &str, found: &[Found], out: &mut Findings) {
    for (first, more) in by_sort(found) {
        let message = format!(
            "expected no secret, found {}, `{}`{}",
            first.what,
            masked(&text[first.span.clone()], first.kind),
            and_more(more)
        );
        let hint = "revoke it if it is real, and take it out, as `--redact OUT` does";
        out.warning("secret-detected", (value, first.span.start), message, hint);
    }
}

/// A text has an address or a number of a person in it.
///
/// E-mail addresses, phone numbers, card numbers, IBANs, public IP addresses, and national numbers: US Social Security
/// numbers, DNI and NIE (Spain), CUIT and CUIL (Argentina), RUT (Chile), CURP and RFC (Mexico). Whatever has a check
/// digit is reported only with the right one. Addresses for samples (`example.com`, 555 numbers, private networks),
/// free numbers of companies (800, in Spain 900) and documents of one digit (`00000000T`) are fine; test cards of the
/// payment networks are not: by its digits nobody can tell that a card is one. Names and postal addresses have no form to know them by: they are not found.
///
/// ```json
/// {"role": "user", "content": "Write to jane.doe@contoso.com"}
/// ```
///
/// A model may repeat what it was trained on, and a person may ask for deletion. Take it out: `--redact OUT` puts
/// `<EMAIL_1>` there, the same for the same address throughout the file.
fn pii_detected(value: Value, text: &str, found: &[Found], out: &mut Findings) {
    for (first, more) in by_sort(found) {
        let message = format!(
            "expected no personal data, found {}, `{}`{}",
            first.what,
            masked(&text[first.span.clone()], first.kind),
            and_more(more)
        );
        let hint = "take it out, as `--redact OUT` does";
        out.warning("pii-detected", (value, first.span.start), message, hint);
    }
}

/// Enough of it to find it again, and no more: the first letters, of a number the last two digits, of an address its
/// domain.
fn masked(found: &str, kind: Kind) -> String {
    let head = |count: usize| found.chars().take(count).collect::<String>();
    let tail = |count: usize| &found[found.char_indices().rev().nth(count - 1).map_or(0, |(at, _)| at)..];
    let shown = match kind {
        // The first letters of a password are a good part of it.
        Kind::Secret if found.len() < 20 => format!("{}…", head(1)),
        Kind::Secret => format!("{}…", head(4)),
        Kind::Email => match found.split_once('@') {
            Some((_, domain)) => format!("{}…@{domain}", head(1)),
            None => format!("{}…", head(1)),
        },
        _ => format!("{}…{}", head(2), tail(2)),
    };
    excerpt(&shown)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::check;

    fn record(user: &str, more: &str) -> String {
        format!(
            r#"{{"messages":[{{"role":"user","content":"{user}"}},{more}{{"role":"assistant","content":"Hello."}}]}}"#
        )
    }

    #[test]
    fn each_sort_is_said_once_a_string_at_its_byte() {
        let text = record(r"¿Qué? a@acme.io,\n\tb@acme.io \u00e9 +34 612 345 678, password=Tr7!kQz9#w", "");
        check(
            text,
            expect![[r#"
                1:46: warning[pii-detected] /messages/0/content: expected no personal data, found an e-mail address, `a…@acme.io` and 1 more
                1:77: warning[pii-detected] /messages/0/content: expected no personal data, found a phone number, `+3…78`
                1:103: warning[secret-detected] /messages/0/content: expected no secret, found a password, `T…`
            "#]],
        );
    }

    #[test]
    fn what_is_shown_of_a_secret_is_harmless() {
        check(
            record(r"password=\u001b~4!kQz9#wTr7", ""),
            expect![[r#"
            1:49: warning[suspicious-control-chars] /messages/0/content: expected text, found U+001B, a control character
            1:49: warning[secret-detected] /messages/0/content: expected no secret, found a password, `\u{1b}…`
        "#]],
        );
    }

    #[test]
    fn arguments_results_and_names_are_looked_at() {
        let call = r#"{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"to\": \"jane@acme.io\"}"}}]},{"role":"tool","tool_call_id":"c","content":"{\"iban\":\"ES9121000418450200051332\"}"},"#;
        check(
            record("x", call),
            expect![[r#"
                1:125: warning[tool-call-undeclared] /messages/1/tool_calls/0/function/name: expected a function that `tools` declares, found `f`
                1:153: warning[pii-detected] /messages/1/tool_calls/0/function/arguments: expected no personal data, found an e-mail address, `j…@acme.io`
                1:174: warning[tool-message-without-tools] /messages/2: expected `tools` that declare what answers here, found none
                1:231: warning[pii-detected] /messages/2/content: expected no personal data, found an IBAN, `ES…32`
            "#]],
        );
    }

    #[test]
    fn images_and_numbers_of_json_are_left_alone() {
        let image = "iVBORw0KGgo4111111111111111ghp+AKIA/xoxb+612345678".repeat(20);
        let part = format!(
            r#"{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]}},"#
        );
        let all = record("x", &part);
        let (diagnostics, ..) = crate::testing::read_all(
            all.as_bytes(),
            &crate::ReadOptions::new(crate::Method::Sft, crate::Profile::OpenAi),
        );
        assert!(diagnostics.iter().all(|diagnostic| !diagnostic.rule.ends_with("-detected")), "{diagnostics:?}");
    }
}
