//! E-mail addresses (RFC 5321, as people write them: ASCII, no quotes).

use super::{Found, Kind, internet};

/// Endings of file names that come behind an `@` (`icon@2x.png`): no top-level domain that people have.
const FILES: [&str; 34] = [
    "png", "jpg", "jpeg", "gif", "svg", "webp", "bmp", "ico", "js", "mjs", "ts", "jsx", "tsx", "css", "html", "htm",
    "json", "xml", "yml", "yaml", "tgz", "gz", "exe", "dll", "jar", "class", "lock", "pdf", "doc", "docx", "mp4",
    "csv", "local", "internal",
];

/// Names of nobody, before the `@`.
const NOBODY: [&str; 36] = [
    "user",
    "username",
    "name",
    "firstname",
    "lastname",
    "first.last",
    "firstname.lastname",
    "first",
    "last",
    "yourname",
    "your.name",
    "your_name",
    "youremail",
    "your.email",
    "your_email",
    "your-email",
    "email",
    "test",
    "tester",
    "testuser",
    "foo",
    "bar",
    "someone",
    "somebody",
    "anyone",
    "nombre",
    "tunombre",
    "tu.nombre",
    "usuario",
    "correo",
    "tucorreo",
    "noreply",
    "no-reply",
    "donotreply",
    "git",
    "root",
];

/// The addresses of `text` at or after byte `from`.
pub(super) fn find(text: &str, from: usize, out: &mut Vec<Found>) {
    let bytes = text.as_bytes();
    for at in memchr::memchr_iter(b'@', &bytes[from..]).map(|at| from + at) {
        let Some((local, domain)) = local_part(text, at, from).zip(domain(text, at + 1)) else { continue };
        let span = at - local.len()..at + 1 + domain.len();
        if !is_placeholder(local, domain) && !is_login(&text[..span.start]) {
            out.push(Found { kind: Kind::Email, what: "an e-mail address", span });
        }
    }
}

fn local_part(text: &str, at: usize, from: usize) -> Option<&str> {
    let bytes = text.as_bytes();
    /// Characters before the sign, at most: a local part has 64 bytes.
    const LONGEST: usize = 70;
    let of_local = |char: &char| {
        char.is_ascii_alphanumeric() || "._%+-'".contains(*char) || !char.is_ascii() && super::is_letter(*char)
    };
    let before = text[from..at].chars().rev().take(LONGEST);
    let mut start = at - before.take_while(of_local).map(char::len_utf8).sum::<usize>();
    // The letter of an escape: `\njane@…`.
    if start > 0 && bytes[start - 1] == b'\\' && start + 1 < at && matches!(bytes[start], b'n' | b'r' | b't') {
        start += 1;
    }
    let local = text[start..at].trim_start_matches(['.', '\'', '-', '%', '+']);
    let well = !local.is_empty() && local.len() <= 64 && !local.ends_with('.') && !local.contains("..");
    (well && local.bytes().any(|byte| byte.is_ascii_alphanumeric())).then_some(local)
}

fn domain(text: &str, start: usize) -> Option<&str> {
    let rest = &text[start..];
    let len = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')).count();
    let mut domain = rest[..len].trim_end_matches(['.', '-']);
    // A full stop without a space behind it: `jane@acme.com.Then`.
    if let Some((head, tail)) = domain.rsplit_once('.')
        && head.contains('.')
        && tail.starts_with(|char: char| char.is_ascii_uppercase())
        && head.ends_with(|char: char| char.is_ascii_lowercase())
    {
        domain = head;
    }
    let (_, top) = domain.rsplit_once('.')?;
    let labels = domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    let top_level = (2..=24).contains(&top.len()) && top.bytes().all(|byte| byte.is_ascii_alphabetic());
    let goes_on = rest[domain.len()..]
        .chars()
        .next()
        .is_some_and(|char| char == '_' || !char.is_ascii() && super::is_letter(char));
    let file = FILES.contains(&&*top.to_ascii_lowercase());
    (labels && top_level && !file && !goes_on && domain.len() <= 253).then_some(domain)
}

fn is_placeholder(local: &str, domain: &str) -> bool {
    let local = local.to_ascii_lowercase();
    let base = local.trim_end_matches(|char: char| char.is_ascii_digit());
    NOBODY.contains(&&*local) || NOBODY.contains(&base) || local.contains("xxx") || internet::is_reserved_name(domain)
}

/// What stands before is the beginning of a URL, and the address is its user's: `https://jane:secret@host`.
fn is_login(before: &str) -> bool {
    /// The longest name and password that are looked at.
    const REACH: usize = 256;
    let before = &before[before.floor_char_boundary(before.len().saturating_sub(REACH))..];
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    word.rfind("://").is_some_and(|at| !word[at + 3..].contains(['/', '?', '=', '"', '\'', '>', ',']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let mut list = Vec::new();
        find(text, 0, &mut list);
        list.into_iter().map(|found| &text[found.span]).collect()
    }

    #[test]
    fn addresses_are_found_whole() {
        for (text, expected) in [
            ("Mail jane.doe@contoso.com or", "jane.doe@contoso.com"),
            ("<j_d+x@mail.acme.co.uk>.", "j_d+x@mail.acme.co.uk"),
            ("escribe a juan@empresa.com.py.", "juan@empresa.com.py"),
            ("mailto:ana-1@acme.es?subject=x", "ana-1@acme.es"),
            ("it is a@acme.com.Then", "a@acme.com"),
            ("\\nluis@acme.mx\\n", "luis@acme.mx"),
            ("'o'brien@acme.ie'", "o'brien@acme.ie"),
            ("es josé.pérez@correo.es", "josé.pérez@correo.es"),
            ("«peñá@correo.es»", "peñá@correo.es"),
            ("请联系jane@acme.cn", "jane@acme.cn"),
            ("https://acme.com/?mail=jane@acme.com", "jane@acme.com"),
        ] {
            assert_eq!(found(text), [expected], "{text}");
        }
    }

    #[test]
    fn reserved_names_and_other_uses_of_the_sign_are_silent() {
        for text in [
            "jane@example.com jane@mail.example.org x@ejemplo.es a@b.test a@host.invalid a@localhost",
            "user@gmail.com your.email@gmail.com test1@acme.com noreply@acme.com",
            "git@github.com:acme/app.git",
            "react@18.2.0 and icon@2x.png and @app.route('/') and foo@bar",
            "https://user:word@acme.com/x ftp://joe@acme.com",
            "a@b..com a..b@acme.com @acme.com jane@acme jane@-acme.com",
            "meet @ 5pm.in the bar",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }
}
