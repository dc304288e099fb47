//! URLs of images, as text: whether the other side can reach them.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{diagnostic::excerpt, findings::Findings, json::Value, picture::base64_of, read::Profile};

const EMBED: &str = "embed the image as `data:image/png;base64,…`";

/// The rules of a `url` that is not a data URI.
pub(super) fn check_url(url: Value, text: &str, out: &mut Findings) {
    let address = scheme(text.trim()).and_then(|(name, rest)| {
        let http = ["http", "https"].iter().any(|known| name.eq_ignore_ascii_case(known));
        if http { Address::new(rest) } else { None }
    });
    image_url_scheme(url, text, address.is_some(), out);
    if let Some(address) = address {
        image_url_private(url, &address, out);
        image_url_expiring(url, address.query, out);
    }
}

/// The pieces of an http(s) URL.
struct Address<'u> {
    user: Option<&'u str>,
    /// Without the brackets of an IPv6 address, and without the port.
    host: &'u str,
    query: &'u str,
}

impl<'u> Address<'u> {
    /// Of what stands behind `https:`. None: there is no host.
    fn new(rest: &'u str) -> Option<Address<'u>> {
        let rest = rest.strip_prefix("//")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let host = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((host, _port)) => host,
            None => host.split(':').next().unwrap_or_default(),
        };
        let path = path.split('#').next().unwrap_or_default();
        let query = path.split_once('?').map_or("", |(_, query)| query);
        (!host.is_empty()).then_some(Address { user, host, query })
    }
}

/// An image's `url` is neither http(s) nor a data URI.
///
/// The service sees no disk, no bucket that needs a key and no browser tab: give a public `https://` address, or embed
/// the image. With `--profile together` only data URIs are taken; with `--profile local` an http(s) URL is a warning,
/// for nothing is fetched here.
///
/// ```json
/// {"url": "data:image/png;base64,iVBORw0KGgo…"}
/// ```
fn image_url_scheme(url: Value, text: &str, has_address: bool, out: &mut Findings) {
    let trimmed = text.trim();
    if !has_address {
        let (found, hint) = describe(trimmed);
        return out.error(
            "image-url-scheme",
            url,
            format!("expected an http(s) URL or a data URI, found {found}"),
            hint,
        );
    }
    if trimmed.len() < text.len() {
        let message = "expected the URL alone, found spaces or line breaks around it";
        out.warning("image-url-scheme", url, message, "strip them");
    }
    match out.options.profile {
        Profile::OpenAi | Profile::Azure => {}
        Profile::Together => out.error("image-url-scheme", url, "expected a data URI, found an http(s) URL", EMBED),
        Profile::Local => out.warning(
            "image-url-scheme",
            url,
            "expected a data URI, found an http(s) URL, which is not fetched",
            "embed the image as `data:image/png;base64,…`",
        ),
    }
}

/// The letters before the first colon, where they can be a scheme, and what follows the colon.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once(':')?;
    let is_scheme = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '+' | '-' | '.'));
    // `localhost:8000/a.png` and `example.com:80` have a host and a port there.
    let is_port = rest.starts_with(|first: char| first.is_ascii_digit()) && !name.eq_ignore_ascii_case("blob");
    (is_scheme && !is_port).then_some((name, rest))
}

/// What a text is that is no URL for an image, and what to do.
fn describe(text: &str) -> (String, &'static str) {
    const PUBLIC: &str = "give its public `https://` address, or embed the image as `data:image/png;base64,…`";
    const READ: &str = "read the file, and embed it as `data:image/png;base64,…`";
    let found = |what: &str| (what.to_owned(), READ);
    if let Some((name, hint)) = base64_of(text) {
        return (format!("{name} without its prefix"), hint);
    }
    if text.starts_with("b'") || text.starts_with("b\"") {
        return (
            "the text of Python bytes".to_owned(),
            "write `.decode()` behind `b64encode(…)`, and `data:image/png;base64,` in front",
        );
    }
    let shown = |what: &str, hint| (format!("{what} `{}`", excerpt(text)), hint);
    if let Some((name, rest)) = scheme(text) {
        return match name.to_ascii_lowercase().as_str() {
            "http" | "https" if rest.trim_matches('/').is_empty() || rest.starts_with("//") => {
                shown("a URL without a host,", PUBLIC)
            }
            "http" | "https" => shown("a URL without `//`,", "write `https://` and the host"),
            "file" => found("a file on your disk"),
            _ if name.len() == 1 => found("a path on your disk"),
            "s3" | "gs" | "gcs" | "az" | "abfs" | "abfss" | "wasb" | "wasbs" | "adl" | "r2" | "oss" | "cos"
            | "hdfs" | "dbfs" | "minio" | "swift" | "b2" => (format!("`{name}:`, which needs a key"), PUBLIC),
            "blob" => (format!("`{name}:`, which lives in one browser tab"), EMBED),
            "sandbox" | "attachment" | "cid" | "content" | "asset" | "ipfs" => {
                (format!("`{name}:`, which means nothing elsewhere"), EMBED)
            }
            _ => (format!("`{}:`", excerpt(name)), PUBLIC),
        };
    }
    if text.starts_with("//") || text.starts_with("www.") || names_a_host(text) {
        return shown("a URL without `https:`,", "write `https://` in front");
    }
    if text.starts_with("\\\\") || text.starts_with(['/', '~']) {
        return found("a path on your disk");
    }
    if text.starts_with("file-") || text.starts_with("file_") {
        return shown(
            "the id of an uploaded file,",
            "training data has the image itself: embed it as `data:image/png;base64,…`",
        );
    }
    if text.contains(['{', '}', '<', '>']) || matches!(text, "None" | "null" | "nan" | "NaN" | "undefined" | "...") {
        return shown("a placeholder,", "fill in the image: a name in braces needs an f-string");
    }
    if text.len() >= 256 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_\r\n".contains(&byte)) {
        return ("base64 without its prefix".to_owned(), "put `data:image/png;base64,` (its own type) in front");
    }
    shown("a relative path,", READ)
}

/// `example.com/a.png`, `localhost:8000/a.png`; not `images/a.png`, nor `a.png`.
fn names_a_host(text: &str) -> bool {
    let Some((host, _)) = text.split_once('/') else { return false };
    let (name, port) = host.split_once(':').map_or((host, ""), |(name, port)| (name, port));
    let domain = name.rsplit_once('.').is_some_and(|(before, last)| {
        !before.is_empty()
            && !before.starts_with('.')
            && last.len() >= 2
            && last.bytes().all(|byte| byte.is_ascii_alphabetic())
    });
    domain || (!port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// An image's URL can be reached from inside your network only, or with a password.
///
/// `localhost`, `192.168.…` and the like are other machines at the other side, and a password in a URL is a leak.
/// Put the image where everybody can read it, or embed it. With `--profile local` only the password counts.
fn image_url_private(url: Value, address: &Address, out: &mut Findings) {
    let found = if address.user.is_some() {
        "one with credentials in it".to_owned()
    } else if is_private(address.host) && out.options.profile != Profile::Local {
        format!("the private host `{}`", excerpt(address.host))
    } else {
        return;
    };
    out.error("image-url-private", url, format!("expected a URL that everybody can read, found {found}"), EMBED);
}

fn is_private(host: &str) -> bool {
    const INSIDE: [&str; 12] = [
        "localhost",
        "local",
        "localdomain",
        "internal",
        "intranet",
        "lan",
        "corp",
        "home",
        "private",
        "test",
        "invalid",
        "arpa",
    ];
    if let Ok(ip) = host.split('%').next().unwrap_or(host).parse::<Ipv6Addr>() {
        return match ip.to_ipv4_mapped() {
            Some(ip) => is_private_ipv4(ip),
            None => ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local(),
        };
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return is_private_ipv4(ip);
    }
    match host.rsplit_once('.') {
        Some((_, last)) => INSIDE.iter().any(|inside| last.eq_ignore_ascii_case(inside)),
        // A name without a dot is known in one network only.
        None => true,
    }
}

fn is_private_ipv4(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    let shared = first == 100 && (64..128).contains(&second);
    first == 0 || shared || ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_broadcast()
}

/// An image's URL is signed for a while.
///
/// Links to S3, Google Cloud Storage, Azure (`se=`, `sig=`), CloudFront and to generated images stop working after
/// minutes to days; training may fetch them later than that. Embed the image, or give an address that stays.
fn image_url_expiring(url: Value, query: &str, out: &mut Findings) {
    if let Some(name) = expiring(query) {
        out.warning(
            "image-url-expiring",
            url,
            format!("expected a URL that stays, found one that expires (`{}`)", excerpt(name)),
            EMBED,
        );
    }
}

/// The parameter of a query that says that it is signed, and for how long.
fn expiring(query: &str) -> Option<&str> {
    const SIGNED: [&str; 12] = [
        "x-amz-expires",
        "x-amz-signature",
        "x-goog-expires",
        "x-goog-signature",
        "x-oss-expires",
        "x-tos-expires",
        "x-bce-expires",
        "q-sign-time",
        "expires",
        "expiry",
        "expires_at",
        "awsaccesskeyid",
    ];
    let parameters = || query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let has = |wanted: &str| parameters().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
    // Azure: signed expiry and signature. CloudFront: a policy. Discord, Facebook and Instagram: hexadecimal times.
    let pairs = [("se", "sig"), ("policy", "key-pair-id"), ("ex", "hm"), ("oe", "oh")];
    let is_date = |value: &str| value.len() >= 10 && value.as_bytes()[4] == b'-' && value.starts_with("20");
    let expires = |&(name, value): &(&str, &str)| {
        SIGNED.iter().any(|signed| name.eq_ignore_ascii_case(signed))
            || pairs.iter().any(|(first, second)| name.eq_ignore_ascii_case(first) && has(second))
            || (name.eq_ignore_ascii_case("se") && is_date(value))
    };
    parameters().find(expires).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::{
        Method, ReadOptions,
        testing::{check_with, image_records},
    };

    #[track_caller]
    fn check(profile: Profile, urls: &[&str], expect: Expect) {
        check_with(&ReadOptions::new(Method::Sft, profile), image_records(urls), expect);
    }

    #[test]
    fn public_urls_are_not_touched() {
        check(
            Profile::OpenAi,
            &[
                "https://example.com/a.png",
                "http://example.com:8080/a b.png?size=2&name=x%20y#top",
                "HTTPS://Upload.Wikimedia.org/wikipedia/commons/3/36/Danbo_Cheese.jpg",
                "https://8.8.8.8/a.png",
                "https://100.128.0.1/a.png",
                "https://172.32.0.1/a.png",
                "https://[2606:4700::1111]/a.png",
                "https://b.s3.amazonaws.com/a.png?versionId=3",
                "https://example.com/a@2x.png?next=https://user:x@example.com/",
                "https://localhost.example.com/a.png",
                "https://example.com/a.png?se=3&ex=1&policy=open&expiresin=no",
            ],
            expect![[r#"
                5:88: warning[pii-detected] /messages/0/content/0/image_url/url: expected no personal data, found an IP address, `10….1`
                6:88: warning[pii-detected] /messages/0/content/0/image_url/url: expected no personal data, found an IP address, `17….1`
                7:89: warning[pii-detected] /messages/0/content/0/image_url/url: expected no personal data, found an IP address, `26…11`
            "#]],
        );
    }

    #[test]
    fn what_is_no_url_is_named() {
        let base64 = "QUJD".repeat(100);
        check(
            Profile::OpenAi,
            &[
                "file:///home/ana/a.png",
                "/home/ana/a.png",
                "C:/data/a.png",
                r"C:\\data\\a.png",
                r"\\\\nas\\a.png",
                "images/a.png",
                "a.png",
                "../a.png",
                "s3://bucket/a.png",
                "gs://bucket/a.png",
                "blob:https://example.com/1-2",
                "sandbox:/mnt/data/a.png",
                "ftp://example.com/a.png",
                "//example.com/a.png",
                "www.example.com/a.png",
                "example.com/a.png",
                "localhost:8000/a.png",
                "https:/example.com/a.png",
                "https://",
                "https:///a.png",
                "file-abc123",
                "{image_url}",
                "None",
                "iVBORw0KGgoAAAANSUhEUg",
                "/9j/4AAQSkZJRgABAQ",
                "b'iVBORw0KGgo'",
                &base64,
                " https://example.com/a.png\\n",
            ],
            expect![[r#"
                1:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a file on your disk
                2:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a path on your disk
                3:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a path on your disk
                4:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a path on your disk
                5:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a path on your disk
                6:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a relative path, `images/a.png`
                7:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a relative path, `a.png`
                8:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a relative path, `../a.png`
                9:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found `s3:`, which needs a key
                10:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found `gs:`, which needs a key
                11:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found `blob:`, which lives in one browser tab
                12:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found `sandbox:`, which means nothing elsewhere
                13:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found `ftp:`
                14:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a URL without `https:`, `//example.com/a.png`
                15:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a URL without `https:`, `www.example.com/a.png`
                16:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a URL without `https:`, `example.com/a.png`
                17:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a URL without `https:`, `localhost:8000/a.png`
                18:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a URL without `//`, `https:/example.com/a.png`
                19:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a URL without a host, `https://`
                20:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a URL without a host, `https:///a.png`
                21:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found the id of an uploaded file, `file-abc123`
                22:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a placeholder, `{image_url}`
                23:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found a placeholder, `None`
                24:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found the base64 of a PNG without its prefix
                25:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found the base64 of a JPEG without its prefix
                26:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found the text of Python bytes
                27:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected an http(s) URL or a data URI, found base64 without its prefix
                28:79: warning[image-url-scheme] /messages/0/content/0/image_url/url: expected the URL alone, found spaces or line breaks around it
            "#]],
        );
    }

    #[test]
    fn a_url_that_only_some_can_read_is_an_error() {
        let urls = [
            "http://localhost:8000/a.png",
            "http://app.localhost/a.png",
            "http://LOCALHOST./a.png",
            "http://127.0.0.1/a.png",
            "http://10.1.2.3/a.png",
            "http://172.16.0.1/a.png",
            "http://192.168.1.20/a.png",
            "http://169.254.169.254/a.png",
            "http://100.64.0.1/a.png",
            "http://0.0.0.0/a.png",
            "http://[::1]:80/a.png",
            "http://[fd12::1]/a.png",
            "http://[fe80::1%25eth0]/a.png",
            "http://[::ffff:10.0.0.1]/a.png",
            "http://nas.local/a.png",
            "http://wiki.corp/a.png",
            "http://fileserver/a.png",
            "https://ana:secret@example.com/a.png",
        ];
        check(
            Profile::OpenAi,
            &urls,
            expect![[r#"
                1:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `localhost`
                2:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `app.localhost`
                3:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `LOCALHOST.`
                4:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `127.0.0.1`
                5:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `10.1.2.3`
                6:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `172.16.0.1`
                7:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `192.168.1.20`
                8:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `169.254.169.254`
                9:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `100.64.0.1`
                10:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `0.0.0.0`
                11:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `::1`
                12:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `fd12::1`
                13:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `fe80::1%25eth0`
                14:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `::ffff:10.0.0.1`
                15:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `nas.local`
                16:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `wiki.corp`
                17:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found the private host `fileserver`
                18:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found one with credentials in it
            "#]],
        );
        check(
            Profile::Local,
            &[urls[0], urls[17]],
            expect![[r#"
            1:79: warning[image-url-scheme] /messages/0/content/0/image_url/url: expected a data URI, found an http(s) URL, which is not fetched
            2:79: warning[image-url-scheme] /messages/0/content/0/image_url/url: expected a data URI, found an http(s) URL, which is not fetched
            2:79: error[image-url-private] /messages/0/content/0/image_url/url: expected a URL that everybody can read, found one with credentials in it
        "#]],
        );
    }

    #[test]
    fn a_signed_url_is_a_warning() {
        check(
            Profile::OpenAi,
            &[
                "https://b.s3.amazonaws.com/a.png?X-Amz-Expires=3600&X-Amz-Signature=abc",
                "https://b.s3.amazonaws.com/a.png?AWSAccessKeyId=AKIA&Expires=1700000000&Signature=x",
                "https://storage.googleapis.com/b/a.png?x=1&X-Goog-Expires=60",
                "https://a.blob.core.windows.net/c/a.png?sv=2024-01-01&se=2026-01-01T00%3A00%3A00Z&sig=abc",
                "https://d1.cloudfront.net/a.png?Policy=abc&Signature=x&Key-Pair-Id=K",
                "https://cdn.discordapp.com/attachments/1/2/a.png?ex=65&is=64&hm=abc",
            ],
            expect![[r#"
                1:79: warning[image-url-expiring] /messages/0/content/0/image_url/url: expected a URL that stays, found one that expires (`X-Amz-Expires`)
                2:79: warning[image-url-expiring] /messages/0/content/0/image_url/url: expected a URL that stays, found one that expires (`AWSAccessKeyId`)
                3:79: warning[image-url-expiring] /messages/0/content/0/image_url/url: expected a URL that stays, found one that expires (`X-Goog-Expires`)
                4:79: warning[image-url-expiring] /messages/0/content/0/image_url/url: expected a URL that stays, found one that expires (`se`)
                5:79: warning[image-url-expiring] /messages/0/content/0/image_url/url: expected a URL that stays, found one that expires (`Policy`)
                6:79: warning[image-url-expiring] /messages/0/content/0/image_url/url: expected a URL that stays, found one that expires (`ex`)
            "#]],
        );
    }

    #[test]
    fn together_takes_data_only_and_training_here_wants_a_flag() {
        check(
            Profile::Together,
            &["https://example.com/a.png"],
            expect![[r#"
            1:79: error[image-url-scheme] /messages/0/content/0/image_url/url: expected a data URI, found an http(s) URL
        "#]],
        );
        check(
            Profile::Local,
            &["https://example.com/a.png"],
            expect![[r#"
            1:79: warning[image-url-scheme] /messages/0/content/0/image_url/url: expected a data URI, found an http(s) URL, which is not fetched
        "#]],
        );
    }
}
