//! IP addresses that somebody can be reached at, and host names that are reserved.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Found, Kind, free_after, free_before, words_before};

/// More than an address has.
const LONGEST: usize = 48;

/// Resolvers that everybody knows.
const RESOLVERS: [&str; 9] = [
    "1.1.1.1",
    "1.0.0.1",
    "8.8.8.8",
    "8.8.4.4",
    "9.9.9.9",
    "208.67.222.222",
    "2001:4860:4860::8888",
    "2001:4860:4860::8844",
    "2606:4700:4700::1111",
];

/// Whether a host name is set aside for samples: RFC 2606 and RFC 6761, and the words that people put for them.
pub(super) fn is_reserved_name(host: &str) -> bool {
    const TOPS: [&str; 6] = ["test", "example", "invalid", "localhost", "local", "internal"];
    const LABELS: [&str; 9] =
        ["example", "ejemplo", "exemple", "beispiel", "test", "domain", "yourdomain", "dominio", "tudominio"];
    let host = host.to_ascii_lowercase();
    let labels: Vec<&str> = host.split('.').collect();
    let top = labels[labels.len() - 1];
    TOPS.contains(&top) || labels[..labels.len() - 1].iter().rev().take(2).any(|label| LABELS.contains(label))
}

/// The address that begins with the digit at byte `start`.
pub(super) fn address(text: &str, start: usize) -> Option<Found> {
    let address = v4(text, start).or_else(|| v6(text, start))?;
    let span = start..start + address;
    (!RESOLVERS.contains(&&text[span.clone()])).then_some(Found { kind: Kind::Ip, what: "an IP address", span })
}

/// The length of a public IPv4 address.
fn v4(text: &str, start: usize) -> Option<usize> {
    let rest = &text[start..];
    let len = rest.bytes().take(LONGEST).take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let word = rest[..len].trim_end_matches('.');
    let address: Ipv4Addr = word.parse().ok()?;
    let before = text[..start].chars().next_back();
    let url = text[..start].ends_with("://");
    let alone = free_before(text, start)
        && free_after(text, start + word.len())
        && !goes_on(&rest[word.len()..])
        && !before.is_some_and(|char| ".-+".contains(char) || char == '/' && !url);
    (alone && is_public(address) && !is_version(text, start, address)).then_some(word.len())
}

/// `1.0.0.127.in-addr.arpa`, `3.0.5.130-5a1e7`.
fn goes_on(rest: &str) -> bool {
    rest.starts_with(['.', '-']) && rest[1..].starts_with(|char: char| char.is_ascii_alphanumeric())
}

/// Neither private, nor reserved, nor for documentation (RFC 6890, RFC 5737), nor a whole network.
fn is_public(address: Ipv4Addr) -> bool {
    let [a, b, c, d] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (b == 18 || b == 19);
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || shared
        || benchmark
        || (a, b, c) == (192, 0, 0)
        || (c, d) == (0, 0))
}

/// `version 1.2.3.4`, `section 2.3.1.1`: numbers with dots that are no address.
fn is_version(text: &str, start: usize, address: Ipv4Addr) -> bool {
    const VERSIONS: [&str; 25] = [
        "version",
        "versión",
        "versions",
        "v",
        "ver",
        "release",
        "build",
        "firmware",
        "driver",
        "update",
        "upgrade",
        "section",
        "sección",
        "chapter",
        "capítulo",
        "clause",
        "article",
        "artículo",
        "chrome",
        "firefox",
        "safari",
        "edge",
        "opera",
        "windows",
        "table",
    ];
    const ADDRESSES: [&str; 10] =
        ["ip", "ipv4", "address", "dirección", "host", "server", "servidor", "ping", "ssh", "dns"];
    let words = words_before(text, start);
    let near = |list: &[&str]| words.iter().take(3).any(|word| list.contains(&word.as_str()));
    // A heading has small numbers.
    let small = address.octets().iter().all(|&octet| octet < 20);
    near(&VERSIONS) || small && !near(&ADDRESSES)
}

/// The length of a global IPv6 address: within 2000::/3, neither for protocols nor for documentation (RFC 2928, RFC 3849,
/// RFC 9637), nor a whole network.
fn v6(text: &str, start: usize) -> Option<usize> {
    let rest = &text[start..];
    if rest.as_bytes().get(4) != Some(&b':') {
        return None;
    }
    let len = rest.bytes().take(LONGEST).take_while(|byte| byte.is_ascii_hexdigit() || *byte == b':').count();
    let word = match rest[..len].strip_suffix(':') {
        Some(word) if !word.ends_with(':') => word,
        _ => &rest[..len],
    };
    let address: Ipv6Addr = word.parse().ok()?;
    let [a, b, ..] = address.segments();
    let reserved = a == 0x2001 && (b == 0xDB8 || b < 0x200) || a == 0x3FFF && b < 0x1000 || word.ends_with("::");
    let global = a & 0xE000 == 0x2000 && !reserved;
    let alone =
        free_before(text, start) && !text[..start].ends_with([':', '.', '-']) && free_after(text, start + word.len());
    let known = |list: &[&str]| list.iter().any(|known| known.parse::<IpAddr>() == Ok(IpAddr::V6(address)));
    (global && alone && !known(&RESOLVERS)).then_some(word.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&str> {
        let start = text.find(|char: char| char.is_ascii_digit()).unwrap();
        address(text, start).map(|found| &text[found.span])
    }

    #[test]
    fn public_addresses_are_found() {
        assert_eq!(found("from 81.45.120.7."), Some("81.45.120.7"));
        assert_eq!(found("http://81.45.120.7:80/"), Some("81.45.120.7"));
        assert_eq!(found("my IP is 2.3.4.5"), Some("2.3.4.5"));
        assert_eq!(
            found("from 2a02:9130:80b5:1b2c:5d3a:8c1f:e2b4:77a1, ok"),
            Some("2a02:9130:80b5:1b2c:5d3a:8c1f:e2b4:77a1")
        );
        assert_eq!(found("[2a02:9130::1f]"), Some("2a02:9130::1f"));
    }

    #[test]
    fn private_reserved_and_other_numbers_are_silent() {
        for text in [
            "10.1.2.3",
            "192.168.0.10",
            "172.16.4.5",
            "127.0.0.1",
            "203.0.113.7",
            "198.51.100.1",
            "100.64.0.1",
            "255.255.255.0",
            "0.0.0.0",
            "8.8.8.8",
            "version 81.45.120.7",
            "Chrome/114.7.5.9",
            "section 2.3.1.1",
            "81.45.120.7.9",
            "x81.45.120.7",
            "081.45.120.7",
            "256.1.2.3",
            "114.5.0.0",
            "1.0.0.127.in-addr.arpa",
            "Guile 3.0.5.130-5a1e7",
            "2001:db8::1",
            "2001:20::/28",
            "2a02:9130::/32",
            "2001:4860:4860::8888",
            "12:30:45",
            "2024:01:02",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn reserved_names_are_known() {
        for name in ["example.com", "mail.example.co.uk", "a.test", "localhost", "EJEMPLO.es"] {
            assert!(is_reserved_name(name), "{name}");
        }
        assert!(!is_reserved_name("contoso.com") && !is_reserved_name("contest.org"));
    }
}
