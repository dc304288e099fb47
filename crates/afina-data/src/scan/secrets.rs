//! Keys and tokens by the shapes that their makers gave them, so that scanners find them.
//!
//! Prefixes, alphabets and lengths as documented by the services, and as public scanners (gitleaks, GitHub's secret
//! scanning) have them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{
    Found, Kind, assignment,
    candidates::{Starter, Starters},
    free_after, free_before,
    placeholder::{entropy, is_placeholder, looks_random},
};

/// One shape of key.
struct Shape {
    prefix: &'static str,
    what: &'static str,
    body: fn(u8) -> bool,
    /// Length of the body, from and to.
    len: (usize, usize),
}

/// A longer prefix stands before a shorter one.
const SHAPES: [Shape; 41] = [
    shape("sk-ant-", "an Anthropic API key", token, 24, 140),
    shape("sk-or-v1-", "an OpenRouter API key", hex, 64, 64),
    shape("sk-proj-", "an OpenAI API key", token, 20, 220),
    shape("sk-svcacct-", "an OpenAI API key", token, 20, 220),
    shape("sk-admin-", "an OpenAI admin key", token, 20, 220),
    shape("sk-None-", "an OpenAI API key", token, 20, 220),
    shape("sk-", "an OpenAI API key", alphanumeric, 20, 64),
    shape("sk_live_", "a Stripe secret key", alphanumeric, 16, 247),
    shape("rk_live_", "a Stripe restricted key", alphanumeric, 16, 247),
    shape("whsec_", "a webhook signing secret", base64, 24, 64),
    shape("hf_", "a Hugging Face token", alphanumeric, 30, 40),
    shape("ghp_", "a GitHub token", alphanumeric, 36, 251),
    shape("gho_", "a GitHub token", alphanumeric, 36, 251),
    shape("ghu_", "a GitHub token", alphanumeric, 36, 251),
    shape("ghs_", "a GitHub token", alphanumeric, 36, 251),
    shape("ghr_", "a GitHub token", alphanumeric, 36, 251),
    shape("github_pat_", "a GitHub token", token, 60, 251),
    shape("glpat-", "a GitLab token", dotted, 20, 300),
    shape("AKIA", "an AWS access key", upper, 16, 16),
    shape("ASIA", "an AWS access key", upper, 16, 16),
    shape("AIza", "a Google API key", token, 35, 35),
    shape("GOCSPX-", "a Google client secret", token, 28, 28),
    shape("ya29.", "a Google access token", token, 30, 2048),
    shape("xoxa-", "a Slack token", token, 20, 250),
    shape("xoxb-", "a Slack token", token, 20, 250),
    shape("xoxe-", "a Slack token", token, 20, 250),
    shape("xoxo-", "a Slack token", token, 20, 250),
    shape("xoxp-", "a Slack token", token, 20, 250),
    shape("xoxr-", "a Slack token", token, 20, 250),
    shape("xoxs-", "a Slack token", token, 20, 250),
    shape("xapp-", "a Slack token", token, 20, 250),
    shape("SG.", "a SendGrid API key", dotted, 66, 66),
    shape("npm_", "an npm token", alphanumeric, 36, 36),
    shape("pypi-", "a PyPI token", token, 50, 400),
    shape("gsk_", "a Groq API key", alphanumeric, 48, 60),
    shape("xai-", "an xAI API key", alphanumeric, 60, 100),
    shape("pplx-", "a Perplexity API key", alphanumeric, 40, 64),
    shape("nvapi-", "an NVIDIA API key", token, 60, 80),
    shape("r8_", "a Replicate token", alphanumeric, 37, 40),
    shape("shpat_", "a Shopify token", hex, 32, 32),
    shape("dop_v1_", "a DigitalOcean token", hex, 64, 64),
];

const fn shape(prefix: &'static str, what: &'static str, body: fn(u8) -> bool, from: usize, to: usize) -> Shape {
    Shape { prefix, what, body, len: (from, to) }
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn dotted(byte: u8) -> bool {
    token(byte) || byte == b'.'
}

fn upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn hex(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'a'..=b'f')
}

fn base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// The secrets of `text` at or after byte `from`.
pub(super) fn find(text: &str, from: usize, out: &mut Vec<Found>) {
    let mut at = from;
    let mut starters = Starters::new(text.as_bytes(), from);
    while let Some((literal, starter)) = starters.next(at) {
        let start = literal.start;
        let found = match starter {
            Starter::Key => key(text, start),
            Starter::Name => assignment::named(text, literal),
            Starter::Bearer => bearer(text, literal.end),
            Starter::Pem => pem(text, start),
            Starter::Jwt => jwt(text, start),
            Starter::Url => assignment::url_password(text, literal),
            Starter::Blob | Starter::At => None,
        };
        at = match found {
            // What stands inside a secret is part of it.
            Some(found) if found.span.start <= start => {
                let end = found.span.end;
                out.push(found);
                end.max(start + 1)
            }
            Some(found) => {
                out.push(found);
                start + 1
            }
            None => start + 1,
        };
    }
}

fn secret(what: &'static str, start: usize, end: usize) -> Found {
    Found { kind: Kind::Secret, what, span: start..end }
}

/// Whether a value has a shape of its own: it is judged by that, wherever it stands.
pub(super) fn has_shape(value: &str) -> bool {
    value.starts_with("eyJ") || SHAPES.iter().any(|shape| value.starts_with(shape.prefix))
}

/// How many bytes of `text` from `at` on are of the alphabet, up to one more than any key has.
fn length(text: &str, at: usize, alphabet: fn(u8) -> bool) -> usize {
    const LONGEST: usize = 1 << 13;
    text.as_bytes()[at..].iter().take(LONGEST + 1).take_while(|byte| alphabet(**byte)).count()
}

fn key(text: &str, at: usize) -> Option<Found> {
    // The literal that was looked for leaves the first letter open: `sk_live_`, `rk_live_`.
    let start = if text[at..].starts_with("k_live_") { at.checked_sub(1)? } else { at };
    if !free_before(text, start) {
        return None;
    }
    let rest = &text[start..];
    if rest.starts_with("SK") {
        return twilio(text, start);
    }
    if rest.starts_with("hooks.slack.com") {
        return slack_webhook(text, start);
    }
    if rest.starts_with("AGE-SECRET-KEY-1") {
        let end = start + 16 + length(text, start + 16, upper);
        return (end - start == 74).then(|| secret("an age private key", start, end));
    }
    let shape = SHAPES.iter().find(|shape| rest.starts_with(shape.prefix))?;
    let body_start = start + shape.prefix.len();
    let body = text.as_bytes()[body_start..].iter().take(shape.len.1 + 1);
    let mut len = body.take_while(|byte| (shape.body)(**byte)).count();
    while text.as_bytes()[body_start..body_start + len].last() == Some(&b'.') {
        len -= 1;
    }
    let end = body_start + len;
    let body = &text[body_start..end];
    let whole = (shape.len.0..=shape.len.1).contains(&len) && free_after(text, end);
    // Tokens of Hugging Face may have no digit.
    let random = || match shape.prefix {
        "hf_" => entropy(body) >= 3.0 && !is_placeholder(body),
        _ => looks_random(body),
    };
    let right = match shape.prefix {
        "SG." => body.split('.').map(str::len).eq([22, 43]),
        // The macaroon of a token begins with these bytes.
        "pypi-" => body.starts_with("AgE"),
        _ => true,
    };
    (whole && right && random()).then(|| secret(shape.what, start, end))
}

fn twilio(text: &str, start: usize) -> Option<Found> {
    let len = length(text, start + 2, hex);
    let end = start + 2 + len;
    (len == 32 && free_after(text, end) && looks_random(&text[start + 2..end]))
        .then(|| secret("a Twilio API key", start, end))
}

fn slack_webhook(text: &str, start: usize) -> Option<Found> {
    let path = text[start..].strip_prefix("hooks.slack.com/services/")?;
    let len = path.bytes().take_while(|&byte| token(byte) || byte == b'/').count();
    let parts: Vec<&str> = path[..len].split('/').collect();
    let [team, bot, key] = parts[..] else { return None };
    let right = team.starts_with('T') && bot.starts_with('B') && key.len() >= 20 && looks_random(key);
    right.then(|| secret("a Slack webhook", start, text.len() - path.len() + len))
}

/// `Bearer` and a token, `at` being where the token begins.
fn bearer(text: &str, at: usize) -> Option<Found> {
    let word = at.checked_sub("Bearer ".len())?;
    if !matches!(text.as_bytes()[word], b'B' | b'b') || !free_before(text, word) {
        return None;
    }
    let len = length(text, at, |byte| dotted(byte) || matches!(byte, b'~' | b'+' | b'/' | b'='));
    let token = text[at..at + len].trim_end_matches('.');
    let random = token.len() >= 16 && looks_random(token) && assignment::is_mixed(token);
    (random && !has_shape(token)).then(|| secret("a bearer token", at, at + token.len()))
}

/// A JSON Web Token (RFC 7519): header, claims and signature.
fn jwt(text: &str, start: usize) -> Option<Found> {
    if !free_before(text, start) || text[..start].ends_with(['-', '.']) {
        return None;
    }
    let token = &text[start..start + length(text, start, dotted)];
    let token = token.trim_end_matches('.');
    let mut parts = token.split('.');
    let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let header = URL_SAFE_NO_PAD.decode(header).ok()?;
    // The sample of every tutorial has the subject `1234567890`.
    let sample = claims.starts_with("eyJzdWIiOiIxMjM0NTY3ODkw");
    let real = parts.next().is_none()
        && memchr::memmem::find(&header, b"\"alg\"").is_some()
        && claims.starts_with("eyJ")
        && signature.len() >= 16
        && !is_placeholder(signature)
        && !sample;
    real.then(|| secret("a JSON Web Token", start, start + token.len()))
}

/// A private key in PEM (RFC 7468), to its end or as far as it goes.
fn pem(text: &str, start: usize) -> Option<Found> {
    /// Letters of the key below which there is none; with dots for the rest it is a sample.
    const FEWEST: usize = 16;
    const FEWEST_WITH_DOTS: usize = 64;
    /// The longest that is looked at: an RSA key of 16,384 bits has 12,700 letters.
    const LONGEST: usize = 1 << 14;
    let upto = |len: usize| text.floor_char_boundary((start + len).min(text.len()));
    let label_end = start + 11 + text[start + 11..upto(60)].find("-----")?;
    let label = &text[start + 11..label_end];
    if !label.ends_with("PRIVATE KEY") && !label.ends_with("PRIVATE KEY BLOCK") {
        return None;
    }
    let body_start = label_end + 5;
    let body = &text[body_start..upto(LONGEST)];
    let (len, end) = match body.find("-----END ") {
        Some(len) => (len, body[len + 9..].find("-----").map_or(body.len(), |behind| len + 9 + behind + 5)),
        None => {
            let of_key = |char: char| base64(char as u8) && char.is_ascii() || " \r\n\t\\:,-".contains(char);
            let len = body.find(|char| !of_key(char)).unwrap_or(body.len());
            (len, len)
        }
    };
    let body = &body[..len];
    let letters = body.bytes().filter(|&byte| base64(byte)).count();
    let fewest = if body.contains("...") || body.contains('…') { FEWEST_WITH_DOTS } else { FEWEST };
    (letters >= fewest && !is_placeholder(body) && entropy(body) > 3.0)
        .then(|| secret("a private key", start, body_start + end))
}

#[cfg(test)]
mod tests {
    use crate::scan::{Wanted, find};

    const LETTERS: &str =
        "q7Zr1vXb93LmKt0WcYpD5sHnF8jUe2GxTaR4oQiVk6BzMdwPyCgENhSJfAlOuIq7Zr1vXb93LmKt0WcYpD5sHnF8jUe2GxTaR4oQiVk6B";
    const HEX: &str = "9f8b2c4d1e7a60533b7c92e8d4f1a06c5e9d83b7f204c6a19f8b2c4d1e7a60533b7c";

    /// Keys are put together here, so that no file holds one whole.
    fn found(parts: &[&str]) -> Vec<(&'static str, String)> {
        let text = parts.concat();
        let wanted = Wanted { secrets: true, pii: false };
        find(&text, wanted).into_iter().map(|found| (found.what, text[found.span].to_owned())).collect()
    }

    #[track_caller]
    fn check(what: &str, prefix: &str, body: &str) {
        let key = [prefix, body].concat();
        for around in [["", ""], ["my key is ", ", thanks"], ["\"", "\""], ["(", ")."], ["line\\n", "\\n"]] {
            assert_eq!(found(&[around[0], &key, around[1]]), [(what, key.clone())].map(|(a, b)| (leak(a), b)));
        }
        // In the middle of a word, or of another length, it is something else.
        assert_eq!(found(&["x", &key]), []);
        assert_eq!(found(&[prefix, "your-api-key-here"]), []);
        assert_eq!(found(&[prefix, &"x".repeat(body.len())]), []);
    }

    fn leak(text: &str) -> &'static str {
        Box::leak(text.to_owned().into_boxed_str())
    }

    #[test]
    fn keys_are_known_by_their_shape() {
        check("an OpenAI API key", "sk-", &LETTERS[..48]);
        check("an OpenAI API key", "sk-proj-", &LETTERS[..74]);
        check("an Anthropic API key", "sk-ant-api03-", &LETTERS[..95]);
        check("a Hugging Face token", "hf_", &LETTERS[..34]);
        check("a GitHub token", "ghp_", &LETTERS[..36]);
        check("a GitHub token", "github_pat_", &[&LETTERS[..22], "_", &LETTERS[22..81]].concat());
        check("a GitLab token", "glpat-", &LETTERS[..20]);
        check("an AWS access key", "AKIA", "Q7ZR1VXB93LMKT0W");
        check("a Google API key", "AIza", &LETTERS[..35]);
        check("a Slack token", "xoxb-", &["2409182374-", &LETTERS[..24]].concat());
        check("a Stripe secret key", "sk_live_", &LETTERS[..24]);
        check("a Twilio API key", "SK", &HEX[..32]);
        check("a SendGrid API key", "SG.", &[&LETTERS[..22], ".", &LETTERS[22..65]].concat());
        check("an npm token", "npm_", &LETTERS[..36]);
        check("a PyPI token", "pypi-", &["AgEIcHlwaS5vcmc", &LETTERS[..100]].concat());
    }

    #[test]
    fn tokens_of_requests_are_found() {
        let header = "eyJhbGciOiJIUzI1NiJ9";
        let token = [header, ".eyJpc3MiOiJhY21lIiwiZXhwIjoxN30.", &LETTERS[..43]].concat();
        assert_eq!(found(&["Authorization: Bearer ", &token]), [("a JSON Web Token", token.clone())]);
        assert_eq!(found(&["Bearer ", &HEX[..40]]), [("a bearer token", HEX[..40].to_owned())]);
        let sample = [header, ".eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIn0.", &LETTERS[..43]].concat();
        assert_eq!(found(&["Bearer ", &sample]), []);
        assert_eq!(found(&["a bearer of responsibilities, Bearer <token>, Bearer YOUR_ACCESS_TOKEN_123"]), []);
        assert_eq!(found(&["eyJhbGciOiJIUzI1NiJ9 alone"]), []);
    }

    #[test]
    fn private_keys_are_found_whole() {
        let (open, close) = ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----");
        for line_break in ["\n", "\\n"] {
            let key = [open, line_break, &LETTERS[..64], line_break, &LETTERS[..20], line_break, close].concat();
            assert_eq!(found(&["here: ", &key, " ok"]), [("a private key", key)]);
        }
        let cut = [open, "\n", &LETTERS[..64]].concat();
        assert_eq!(found(&[&cut, " …"]), [("a private key", [&cut[..], " "].concat())]);
        assert_eq!(found(&[open, "\n...\n", close]), []);
        assert_eq!(found(&[open, "\nYOUR KEY HERE\n", close]), []);
        assert_eq!(found(&["-----BEGIN PUBLIC KEY-----\n", &LETTERS[..64], "\n-----END PUBLIC KEY-----"]), []);
    }

    #[test]
    fn a_webhook_is_a_secret() {
        let hook = ["hooks.slack.com/services/", "T01ABCDEF/B02GHIJKL/", &LETTERS[..24]].concat();
        assert_eq!(found(&["https://", &hook]), [("a Slack webhook", hook)]);
        assert_eq!(found(&["https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"]), []);
    }

    #[test]
    fn samples_and_other_things_are_no_keys() {
        for text in [
            "AKIAIOSFODNN7EXAMPLE",
            "sk-1234567890abcdef1234567890abcdef",
            "class=\"sk-fading-circle sk-circle-bounce1\"",
            "a task-oriented risk-assessment",
            "eyJust kidding",
            "commit 9f8b2c4d1e7a60533b7c92e8d4f1a06c5e9d83b7",
            "550e8400-e29b-41d4-a716-446655440000",
            "npm_config_registry, hf_hub_download_with_long_name_here",
        ] {
            assert_eq!(found(&[text]), [], "{text}");
        }
    }
}
