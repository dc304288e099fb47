//! Fixes of image parts: the same image, addressed as the format wants it.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};

use super::messages::remove;
use crate::{
    diagnostic::excerpt,
    fix::{
        edit::{Edit, member, quote},
        mend::{Context, Mend},
    },
    json::Kind,
};

/// Bits that the last character has too many are ignored, as everywhere.
const ENGINE: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

pub(super) fn image_url_string(context: &Context) -> Option<Mend> {
    let image = context.value();
    Mend::safe("put the image's address in an object", [Edit::replace(image, format!("{{\"url\": {}}}", image.raw()))])
}

/// `url` beside `type`, where `image_url` should be.
pub(super) fn image_url_missing(context: &Context) -> Option<Mend> {
    let part = context.value();
    let url = member(part, "url").filter(|url| url.value.kind() == Kind::String)?;
    let written = format!("\"image_url\": {{\"url\": {}}}", url.value.raw());
    let edit = Edit::new(url.key.span().start..url.value.span().end, written);
    Mend::safe("put the image's address in `image_url`", [edit])
}

pub(super) fn image_detail_invalid(context: &Context) -> Option<Mend> {
    let (detail, image) = (context.value(), context.above(1)?);
    let text = detail.text();
    let written = text.as_deref().unwrap_or(detail.raw()).trim().to_lowercase();
    match written.as_str() {
        "auto" | "low" | "high" => {
            Mend::safe(format!("wrote detail `{written}`"), [Edit::replace(detail, quote(&written))])
        }
        "null" | "" => remove(image, "detail", "removed a `detail` that says nothing", true),
        _ => remove(image, "detail", format!("removed the detail `{}`", excerpt(&written)), false),
    }
}

/// An image's data, in the one way of writing it that everybody reads.
pub(super) fn image_data(context: &Context) -> Option<Mend> {
    let value = [context.value(), context.value().get("url").unwrap_or(context.value())]
        .into_iter()
        .find(|value| value.kind() == Kind::String)?;
    let url = value.text()?;
    let trimmed = url.trim();
    if starts_with(trimmed, "http") && trimmed.len() < url.len() {
        return Mend::safe("removed whitespace around an image's address", [Edit::replace(value, quote(trimmed))]);
    }
    let (payload, what) = payload(&url)?;
    let written = format!("data:{};base64,{payload}", mime(&payload)?);
    if written == url { None } else { Mend::safe(what, [Edit::replace(value, quote(&written))]) }
}

/// The base64 text of the image, in the standard alphabet; and what was done to have it.
fn payload(url: &str) -> Option<(String, &'static str)> {
    let python = |text: &str| {
        let inner = text.strip_prefix("b'").and_then(|text| text.strip_suffix('\''));
        inner.or_else(|| text.strip_prefix("b\"")?.strip_suffix('"')).map(str::to_owned)
    };
    let mut text = url.trim();
    let bare = !starts_with(text, "data:");
    // The prefix may have been put before what had it already.
    while starts_with(text, "data:") {
        let head_end = text.find(',').or_else(|| {
            let after = text.to_ascii_lowercase().find(";base64")? + ";base64".len();
            Some(after - 1)
        })?;
        let head = &text[..head_end + 1];
        head.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ').then_some(())?;
        text = text[head_end + 1..].trim();
    }
    text = text.strip_prefix("base64,").unwrap_or(text);
    let stripped = python(text);
    let text = stripped.as_deref().unwrap_or(text);
    let signs = text.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=").replace("\\n", "").replace('\\', "");
    let compact: String = signs.chars().filter(|char| !char.is_ascii_whitespace()).collect();
    let mut standard: String = compact
        .chars()
        .map(|char| match char {
            '-' => '+',
            '_' => '/',
            _ => char,
        })
        .collect();
    standard.truncate(standard.trim_end_matches('=').len());
    // Four characters are three bytes; one alone is none.
    match standard.len() % 4 {
        1 => return None,
        rest => standard.extend(std::iter::repeat_n('=', (4 - rest) % 4)),
    }
    ENGINE.decode(&standard).ok()?;
    let what = match () {
        _ if bare => "put the type of the image before its base64 text",
        _ if stripped.is_some() => "took Python's `b'…'` off the base64 text",
        _ if signs != text => "removed escapes from the base64 text",
        _ if compact.len() != text.len() => "removed whitespace inside of the base64 text",
        _ if standard != compact => "wrote the base64 text in the standard alphabet, with its padding",
        _ => "wrote the type that the image's bytes have",
    };
    Some((standard, what))
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

/// The type of the image, by its first bytes; of those that can be trained on.
fn mime(base64: &str) -> Option<&'static str> {
    let head = ENGINE.decode(base64.get(..base64.len().min(24))?).ok()?;
    Some(match head.as_slice() {
        [0xFF, 0xD8, 0xFF, ..] => "image/jpeg",
        [0x89, b'P', b'N', b'G', b'\r', b'\n', ..] => "image/png",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::fix::tests::check_messages;

    const PNG: &str =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

    #[test]
    fn the_same_image_is_written_in_one_way() {
        let broken = format!("{}\n {}", &PNG[..20], &PNG[20..]);
        let url_safe = PNG.replace('+', "-").replace('/', "_");
        for url in [
            PNG.to_owned(),
            format!("data:image/png;base64,{broken}"),
            format!("data:image/jpg;base64,{PNG}"),
            format!("data:;base64,{PNG}"),
            format!("DATA:IMAGE/PNG;BASE64,{PNG}"),
            format!("data:image/png,{PNG}"),
            format!("data:image/png,base64,{PNG}"),
            format!("data:image/png;base64,{}", PNG.replace('+', "%2B").replace('=', "%3D")),
            format!("data:image/png;base64{PNG}"),
            format!("data:image/png;base64,b'{PNG}'"),
            format!("data:image/png;base64,data:image/png;base64,{PNG}"),
            format!("data:image/png;base64,{url_safe}"),
            format!("data:image/png;base64,{}", PNG.trim_end_matches('=')),
        ] {
            let (payload, _) = payload(&url).unwrap();
            assert_eq!((payload.as_str(), mime(&payload)), (PNG, Some("image/png")), "{url}");
        }
    }

    #[test]
    fn what_is_no_image_stays() {
        for url in [
            "cat.png",
            "file:///cat.png",
            "https://x/y.png",
            "data:text/plain;base64,aGVsbG8=",
            "data:image/png;base64,%%%",
        ] {
            assert_eq!(payload(url).and_then(|(payload, _)| mime(&payload)), None, "{url}");
        }
    }

    #[test]
    fn image_parts_are_mended() {
        let part = |part: &str| format!(r#"{{"role":"user","content":[{{"type":"image_url",{part}}}]}}"#);
        let png = format!("data:image/png;base64,{PNG}");
        let parts = [
            format!(r#""image_url":"{png}""#),
            format!(r#""url":"{png}""#),
            format!(r#""image_url":{{"url":"{png}","detail":"HIGH"}}"#),
            format!(r#""image_url":{{"url":"{PNG}"}}"#),
            format!(r#""image_url":{{"url":"data:image/jpg;base64,{PNG}"}}"#),
            r#""image_url":{"url":" https://example.com/a.png "}"#.to_owned(),
        ];
        let messages = parts.each_ref().map(|text| part(text));
        check_messages(
            &messages.each_ref().map(String::as_str),
            expect![[r#"
            {"messages":[{"role":"user","content":"Hi."},{"role":"user","content":[{"type":"image_url","image_url":{"url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="}}]},{"role":"assistant","content":"Ok."}]}
            {"messages":[{"role":"user","content":"Hi."},{"role":"user","content":[{"type":"image_url","image_url": {"url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="}}]},{"role":"assistant","content":"Ok."}]}
            {"messages":[{"role":"user","content":"Hi."},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==","detail":"high"}}]},{"role":"assistant","content":"Ok."}]}
            {"messages":[{"role":"user","content":"Hi."},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="}}]},{"role":"assistant","content":"Ok."}]}
            {"messages":[{"role":"user","content":"Hi."},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="}}]},{"role":"assistant","content":"Ok."}]}
            {"messages":[{"role":"user","content":"Hi."},{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]},{"role":"assistant","content":"Ok."}]}
            ──
            1 → 1: image-url-string: put the image's address in an object
            2 → 2: image-url-missing: put the image's address in `image_url`
            3 → 3: image-detail-invalid: wrote detail `high`
            4 → 4: image-url-scheme: put the type of the image before its base64 text
            5 → 5: image-mime-mismatch: wrote the type that the image's bytes have
            6 → 6: image-url-scheme: removed whitespace around an image's address
        "#]],
        );
    }
}
