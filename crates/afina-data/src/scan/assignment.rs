//! Secrets without a shape of their own: the value of something that is called a password, a token, an API key.

use std::ops::Range;

use super::{
    Found, Kind,
    placeholder::{entropy, is_placeholder, looks_random},
    secrets,
};

/// A secret that stands behind its name: `password = …`, `"api_key": "…"`, `my password is …`, `--token …`. `hit`: a
/// part of the name.
pub(super) fn named(text: &str, hit: Range<usize>) -> Option<Found> {
    let name = name_around(text, &hit);
    let what = meaning(text, &name)?;
    let value = value_behind(text, name.end, text[name.clone()].starts_with("--"))?;
    let secret = &text[value.clone()];
    let real = match what {
        "a password" => is_strong_password(secret),
        _ => {
            (16..=512).contains(&secret.len())
                && looks_random(secret)
                && entropy(secret) >= 3.2
                && is_mixed(secret)
                && !is_uuid(secret)
                // The key of the storage emulator is the same for everybody.
                && !secret.starts_with("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1")
        }
    };
    (real && !secret.contains("://") && !secrets::has_shape(secret)).then_some(Found {
        kind: Kind::Secret,
        what,
        span: value,
    })
}

/// The whole word that `hit` is in.
fn name_around(text: &str, hit: &Range<usize>) -> Range<usize> {
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.') || *byte >= 0x80;
    let bytes = text.as_bytes();
    if text[hit.clone()].ends_with('=') {
        return hit.start..hit.end - 1;
    }
    let before = bytes[..hit.start].iter().rev().take(40).take_while(|byte| of_name(byte)).count();
    let after = bytes[hit.end..].iter().take(40).take_while(|byte| of_name(byte)).count();
    let (mut start, mut end) = (hit.start - before, hit.end + after);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    start..end
}

/// What a name says its value is.
fn meaning(text: &str, name: &Range<usize>) -> Option<&'static str> {
    let lower = text[name.clone()].to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    // Counters, pages of a list, and what only points to a key.
    if has(&["tokens", "tokeniz", "page", "next", "continu", "cursor", "public"]) || lower.ends_with("id") {
        return None;
    }
    if has(&["passw", "passphrase", "pwd", "contraseñ", "clave"]) {
        return Some("a password");
    }
    if has(&["accountkey", "sharedaccesskey"]) || lower == "sig" {
        return Some("an Azure key");
    }
    let ends = |words: &[&str]| words.iter().any(|word| lower.ends_with(word));
    if has(&["secret"]) && ends(&["secret", "key", "value"]) {
        return Some("a secret");
    }
    if has(&["token"]) && ends(&["token", "value"]) {
        return Some("a token");
    }
    const KINDS: [&str; 13] = [
        "api",
        "access",
        "private",
        "auth",
        "encrypt",
        "sign",
        "account",
        "master",
        "client",
        "subscription",
        "shared",
        "license",
        "llave",
    ];
    // `API key`: the word before, with one space between.
    let joined = text[..name.start].ends_with(' ');
    let word = || super::words_before(text, name.start).first().is_some_and(|word| KINDS.contains(&word.as_str()));
    (ends(&["key", "keys", "key1", "key2"]) && (has(&KINDS) || joined && word())).then_some("an API key")
}

/// The value that is assigned to the name that ends at byte `end`. `flag`: a space is enough.
fn value_behind(text: &str, end: usize, flag: bool) -> Option<Range<usize>> {
    /// No value is longer, but by what is cut off here it is then no secret.
    const LONGEST: usize = 520;
    let quotes = ['"', '\'', '`', '\\', '*'];
    let rest = &text[end..];
    let trimmed = rest.trim_start_matches(quotes).trim_start_matches([' ', '\t']);
    let signs = match trimmed.starts_with(['=', ':', '→']) || trimmed.starts_with("->") {
        true => trimmed.trim_start_matches(['=', ':', '>', '-', '→']),
        false => trimmed,
    };
    let value = if signs.len() < trimmed.len() {
        signs
    } else if flag && trimmed.len() < rest.len() {
        trimmed
    } else {
        ["is ", "es ", "is: ", "es: "].iter().find_map(|word| trimmed.strip_prefix(word))?
    };
    let value = value.trim_start_matches([' ', '\t']).trim_start_matches(quotes);
    let ends = |char: char| char.is_whitespace() || quotes.contains(&char) || matches!(char, ',' | ';');
    let value = &value[..value.floor_char_boundary(LONGEST.min(value.len()))];
    let value = &value[..value.find(ends).unwrap_or(value.len())];
    let value = &value[..next_parameter(value).unwrap_or(value.len())];
    let value = value.trim_end_matches(['.', ':', ')', '}', ']']);
    let start = value.as_ptr() as usize - text.as_ptr() as usize;
    (!value.is_empty()).then_some(start..start + value.len())
}

/// Where the next parameter of a URL begins, as in `token=…&x=1`; a `&` without a name behind it is part of a value.
fn next_parameter(value: &str) -> Option<usize> {
    let is_name = |rest: &str| {
        let end = rest.find(|char: char| !char.is_ascii_alphanumeric() && !matches!(char, '_' | '-' | '.' | '[' | ']'));
        end.is_some_and(|end| end > 0 && rest[end..].starts_with('='))
    };
    value.match_indices('&').map(|(at, _)| at).find(|at| is_name(&value[at + 1..]) || value[at + 1..].is_empty())
}

/// Eight characters or more of three sorts, mixed.
fn is_strong_password(value: &str) -> bool {
    let sorts = [
        value.bytes().any(|byte| byte.is_ascii_lowercase()),
        value.bytes().any(|byte| byte.is_ascii_uppercase()),
        value.bytes().any(|byte| byte.is_ascii_digit()),
        value.bytes().any(|byte| byte.is_ascii_punctuation() && !is_joint(byte)),
    ];
    (8..=128).contains(&value.len())
        && sorts.iter().filter(|&&sort| sort).count() >= 3
        && is_mixed(value)
        && entropy(value) >= 2.75
        && !is_placeholder(value)
        && !is_uuid(value)
}

/// What joins words and numbers in names, paths and dates.
fn is_joint(byte: u8) -> bool {
    matches!(byte, b'-' | b'_' | b'.' | b'/' | b':')
}

/// Whether digits and signs stand among the letters, and not behind them: three changes or more. In 32 letters and
/// more the case may change in their place, twice as often as in `namesOfThings`.
pub(super) fn is_mixed(value: &str) -> bool {
    let sort = |byte: u8| match byte {
        b'0'..=b'9' => 1,
        b'a'..=b'z' | b'A'..=b'Z' => 0,
        _ => 2,
    };
    let mut changes = 0;
    let mut sorts = value.bytes().filter(|&byte| !is_joint(byte)).map(sort);
    let mut last = sorts.next();
    for next in sorts {
        changes += usize::from(last != Some(next));
        last = Some(next);
    }
    let pairs = value.as_bytes().windows(2);
    let turns = pairs.filter(|pair| pair[0].is_ascii_lowercase() != pair[1].is_ascii_lowercase()).count();
    changes >= 3 || value.len() >= 32 && turns * 5 >= value.len() * 2
}

fn is_uuid(value: &str) -> bool {
    value.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// The password of `scheme://user:password@host`. `hit`: the `://`.
pub(super) fn url_password(text: &str, hit: Range<usize>) -> Option<Found> {
    const DULL: [&str; 20] = [
        "pass", "passwd", "pwd", "secret", "user", "username", "postgres", "root", "admin", "test", "guest", "token",
        "1234", "12345", "123456", "clave", "pw", "key", "mysql", "foobar",
    ];
    let rest = &text[hit.end..];
    let stop = |char: char| char.is_whitespace() || "/?#\"'`<>\\,;()".contains(char);
    let authority = &rest[..rest.find(stop).unwrap_or(rest.len())];
    let (login, host) = authority.rsplit_once('@')?;
    let (user, password) = login.split_once(':')?;
    let host = host.split(':').next().unwrap_or_default();
    let start = hit.end + user.len() + 1;
    let lower = password.to_lowercase();
    let dull = password.len() < 4 || password == user || DULL.contains(&&*lower) || is_placeholder(password);
    // On one's own machine and in samples only a password that somebody drew counts.
    let local = !host.contains('.') || host == "127.0.0.1" || super::internet::is_reserved_name(host);
    let drawn = password.len() >= 8 && is_mixed(password) && entropy(password) >= 2.75;
    (!dull && !host.is_empty() && (!local || drawn)).then(|| Found {
        kind: Kind::Secret,
        what: "a password in a URL",
        span: start..start + password.len(),
    })
}

#[cfg(test)]
mod tests {
    use crate::scan::{Wanted, find};

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let wanted = Wanted { secrets: true, pii: false };
        let found = find(text, wanted);
        let found: Vec<_> = found.iter().map(|found| (found.what, &text[found.span.clone()])).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn what_is_called_a_password_is_one_if_it_looks_drawn() {
        let password = "Tr7!kQz9#w";
        for text in [
            "password=Tr7!kQz9#w",
            "DB_PASSWORD: 'Tr7!kQz9#w'",
            r#"{"password": "Tr7!kQz9#w", "a": 1}"#,
            r#"{\"pwd\":\"Tr7!kQz9#w\"}"#,
            "My password is Tr7!kQz9#w.",
            "La contraseña es Tr7!kQz9#w",
            "**Contraseña**: `Tr7!kQz9#w`",
            "mysql --password Tr7!kQz9#w",
        ] {
            check(text, &[("a password", password)]);
        }
        check("la clave es: Gato$2024!perro", &[("a password", "Gato$2024!perro")]);
        check("mi contraseña es Tr0ub4dor&3", &[("a password", "Tr0ub4dor&3")]);
        check("?password=Tr0ub4dor&3&next=1", &[("a password", "Tr0ub4dor&3")]);
    }

    #[test]
    fn what_is_called_a_key_is_one_if_it_looks_drawn() {
        let key = "q7Zr1vXb93LmKt0WcYpD5sHn";
        for (text, what) in [
            ("api_key = \"q7Zr1vXb93LmKt0WcYpD5sHn\"", "an API key"),
            ("X-API-Key: q7Zr1vXb93LmKt0WcYpD5sHn", "an API key"),
            ("Your API key: q7Zr1vXb93LmKt0WcYpD5sHn", "an API key"),
            ("aws_secret_access_key=q7Zr1vXb93LmKt0WcYpD5sHn", "a secret"),
            ("?access_token=q7Zr1vXb93LmKt0WcYpD5sHn&x=1", "a token"),
            ("OPENAI_API_KEY=q7Zr1vXb93LmKt0WcYpD5sHn", "an API key"),
            ("AccountName=a;AccountKey=q7Zr1vXb93LmKt0WcYpD5sHn;", "an Azure key"),
        ] {
            check(text, &[(what, key)]);
        }
    }

    #[test]
    fn a_key_with_a_shape_is_named_by_it() {
        let key = ["sk-", "q7Zr1vXb93LmKt0WcYpD5sHn"].concat();
        check(&format!("OPENAI_API_KEY={key}"), &[("an OpenAI API key", &key)]);
        check("token=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.q7Zr1vXb93LmKt0WcYpD5sHn", &[]);
    }

    #[test]
    fn code_samples_and_prose_have_no_secret() {
        for text in [
            "password = getUserPassword2(db)",
            "token = os.environ[\"API_TOKEN\"]",
            "api_key = settings.openai.api_key_v2",
            "password: Password123!",
            "Your temporary password is Welcome123!",
            "api_key=YOUR_API_KEY_123456789",
            "secret: <SECRET_1>",
            "\"token2wav_config\": Qwen2_5OmniToken2WavConfig,",
            "max_tokens: 4096, tokens: 12345678901234567890",
            "nextPageToken: q7Zr1vXb93LmKt0WcYpD5sHn",
            "The key is 550e8400-e29b-41d4-a716-446655440000",
            "secret = 550e8400-e29b-41d4-a716-446655440000",
            "key: q7Zr1vXb93LmKt0WcYpD5sHn",
            "The secret is to add 2 cups of flour, 3 eggs.",
            "La clave es practicar: 10 minutos.",
            "token: https://a.b/c1d2e3f4g5h6i7j8",
            "password: ********",
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn passwords_stand_in_urls() {
        check("postgres://app:s3cr3tW0rd9x@db.acme.io:5432/app", &[("a password in a URL", "s3cr3tW0rd9x")]);
        check("redis://:p9Q2x7Lm4@localhost:6379", &[("a password in a URL", "p9Q2x7Lm4")]);
        for text in [
            "postgres://postgres:postgres@localhost:5432/db",
            "postgres://user:password@host/db",
            "mongodb+srv://<user>:<password>@cluster0.abcde.mongodb.net",
            "https://user:pass@example.com/x",
            "https://medium.com/@jane:x",
            "http://localhost:8080/a@b",
            "postgres://app:${DB_PASSWORD}@db.acme.io/app",
        ] {
            check(text, &[]);
        }
    }
}
