//! Data URIs: the prefix, the type, the base64. The image inside is next door.

use super::pixels::check_pixels;
use crate::{
    diagnostic::excerpt,
    findings::Findings,
    json::Value,
    picture::{self, Base64Fault, Content, Format, Spaces},
};

/// The rules of a data URI. Returns the hash of the bytes in it.
pub(super) fn check_data_uri(url: Value, text: &str, out: &mut Findings) -> Option<u64> {
    let comma = text.find(',');
    // The prefix with its comma.
    let head = &text[..comma.map_or(text.len(), |comma| comma + 1)];
    if comma.is_none() || !is_base64(head) {
        image_data_uri_malformed(url, head, comma.is_some(), out);
        return None;
    }
    let look = picture::look(&text[head.len()..]);
    if let Some(spaces) = look.spaces {
        image_base64_whitespace(url, head.len(), spaces, out);
    }
    let picture = match look.picture {
        Ok(picture) => picture,
        Err(fault) => {
            image_base64_invalid(url, text, head.len(), fault, out);
            return None;
        }
    };
    if let Content::Image { format, .. } = picture.content {
        match named(declared(head)) {
            Declared::Nothing => image_mime_nonstandard(url, head, format, out),
            Declared::Format(declared) if declared == format => image_mime_nonstandard(url, head, format, out),
            _ => image_mime_mismatch(url, head, format, out),
        }
    }
    check_pixels(url, &picture, out);
    (picture.content != Content::Empty).then_some(picture.hash)
}

/// Whether a prefix ends in `;base64,`.
fn is_base64(head: &str) -> bool {
    let last = head.strip_suffix(',').and_then(|head| head.rsplit_once(';'));
    last.is_some_and(|(_, last)| last.trim().eq_ignore_ascii_case("base64"))
}

/// The type that a prefix names, as written.
fn declared(head: &str) -> &str {
    head.trim_start().get("data:".len()..).and_then(|rest| rest.split([';', ',']).next()).unwrap_or_default()
}

/// What a type claims about the image.
#[derive(PartialEq)]
enum Declared {
    Nothing,
    Format(Format),
    Other,
}

fn named(mime: &str) -> Declared {
    match mime.trim().to_ascii_lowercase().as_str() {
        "" | "image/*" => Declared::Nothing,
        "image/jpeg" | "image/jpg" | "image/pjpeg" | "image/jpe" | "image/jfif" => Declared::Format(Format::Jpeg),
        "image/png" | "image/x-png" | "image/apng" | "image/vnd.mozilla.apng" => Declared::Format(Format::Png),
        "image/webp" | "image/x-webp" => Declared::Format(Format::Webp),
        _ => Declared::Other,
    }
}

/// A data URI is not `data:`, a type, `;base64`, a comma and the base64.
///
/// ```json
/// {"url": "data:image/png;base64,iVBORw0KGgo…"}
/// ```
fn image_data_uri_malformed(url: Value, head: &str, has_comma: bool, out: &mut Findings) {
    let (message, hint) = if !has_comma {
        (
            "expected a comma behind `;base64`, found none".to_owned(),
            "write `data:image/png;base64,` and then the base64",
        )
    } else if declared(head).to_ascii_lowercase().contains("svg") {
        ("expected base64, found an SVG as text".to_owned(), "render it as a PNG, and embed that as base64")
    } else {
        (
            format!("expected `;base64` before the comma, found `{}`", excerpt(head)),
            "write `data:image/png;base64,` and then the base64",
        )
    };
    out.error("image-data-uri-malformed", url, message, hint);
}

/// The data of an image is not base64.
///
/// A character that is not in the alphabet, or missing padding. The usual causes: the URL-safe alphabet, `str()` of
/// Python bytes (`b'…'`), a prefix that is there twice, a text that was cut. Encode the file's bytes again.
///
/// ```python
/// base64.b64encode(open(path, "rb").read()).decode()
/// ```
fn image_base64_invalid(url: Value, text: &str, start: usize, fault: Base64Fault, out: &mut Findings) {
    let (place, message, hint) = match fault {
        Base64Fault::Char { offset, char } => {
            let shown = excerpt(char.encode_utf8(&mut [0; 4]));
            (
                start + offset,
                format!("expected base64, found `{shown}` at its byte {offset}"),
                char_hint(text, start, char),
            )
        }
        Base64Fault::Padding { offset } => (
            start + offset,
            "expected `=` only where it fills up the last group of 4, found it elsewhere".to_owned(),
            "encode the bytes in one piece: encoded pieces cannot be joined",
        ),
        Base64Fault::Unpadded { missing } => (
            text.len(),
            "expected base64 in groups of 4 characters, found no padding at its end".to_owned(),
            if missing == 1 {
                "put `=` at its end"
            } else {
                "put `==` at its end, or encode the file again if it was cut"
            },
        ),
        Base64Fault::Cut => (
            text.len(),
            "expected base64 in groups of 4 characters, found one character alone at its end".to_owned(),
            "the end is missing: encode the file again",
        ),
    };
    out.error("image-base64-invalid", (url, place), message, hint);
}

fn char_hint(text: &str, start: usize, char: char) -> &'static str {
    let base64 = &text[start..];
    match char {
        '-' | '_' => "that is the URL-safe alphabet: use `b64encode`, not `urlsafe_b64encode`",
        ':' if base64.starts_with("data:") => "the prefix is there twice: drop one",
        '\'' | '"' if base64.starts_with('b') => {
            "write `.decode()` behind `b64encode(…)`: that is the text of Python bytes"
        }
        '%' => "it is percent-encoded: `%2B` is `+`, `%2F` is `/`, `%3D` is `=`",
        '\\' => "line breaks or slashes were escaped twice: drop the backslashes",
        '{' | '}' | '<' | '>' | '[' | ']' => "fill in the base64: a name in braces needs an f-string",
        '.' | '…' => "put the whole base64 there: it was shortened",
        _ => "encode the file's bytes again",
    }
}

/// The base64 of an image has spaces or line breaks in it.
///
/// Many decoders skip them, some do not (RFC 4648, section 3.3). `b64encode` makes none; `encodebytes` and the program
/// `base64` without `-w0` break lines.
fn image_base64_whitespace(url: Value, start: usize, spaces: Spaces, out: &mut Findings) {
    let found = match spaces.count {
        1 => "a space or line break".to_owned(),
        count => format!("{count} spaces and line breaks"),
    };
    out.warning(
        "image-base64-whitespace",
        (url, start + spaces.first),
        format!("expected base64 in one piece, found {found} in it"),
        "drop them",
    );
}

/// A data URI says another type than its image has.
///
/// Services have refused such images. Write the type that the bytes have.
fn image_mime_mismatch(url: Value, head: &str, format: Format, out: &mut Findings) {
    out.warning(
        "image-mime-mismatch",
        url,
        format!("expected type `{}` for a {}, found `{}`", format.mime(), format.name(), excerpt(declared(head))),
        format!("write `data:{};base64,`", format.mime()),
    );
}

/// The prefix of a data URI is unusual: `image/jpg`, no type, capitals, parameters.
///
/// Browsers understand it, others compare it letter by letter with `image/jpeg`, `image/png` and `image/webp`.
fn image_mime_nonstandard(url: Value, head: &str, format: Format, out: &mut Findings) {
    let rest = head.strip_prefix("data:").and_then(|head| head.strip_prefix(format.mime()));
    if rest != Some(";base64,") {
        out.warning(
            "image-mime-nonstandard",
            url,
            format!("expected `data:{};base64,`, found `{}`", format.mime(), excerpt(head)),
            format!("write `data:{};base64,`", format.mime()),
        );
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::{
        picture::samples::{JPEG, WEBP, base64, png},
        testing::{check, image_records},
    };

    #[track_caller]
    fn check_urls(urls: &[String], expect: Expect) {
        check(image_records(&urls.iter().map(String::as_str).collect::<Vec<_>>()), expect);
    }

    fn png_base64() -> String {
        base64(&png(4, 2, 8, 2))
    }

    #[test]
    fn good_data_uris_are_not_touched() {
        let slashes = JPEG.replace('/', r"\/");
        let escaped = format!(r"data:image\/jpeg;base64,{slashes}");
        assert!(slashes.len() > JPEG.len());
        check_urls(
            &[
                format!("data:image/png;base64,{}", png_base64()),
                format!("data:image/jpeg;base64,{JPEG}"),
                format!("data:image/webp;base64,{WEBP}"),
                escaped,
            ],
            expect![[r#"
                4:40: warning[duplicate-image] /messages/0/content/0: expected a new image, found the one of line 2 again
            "#]],
        );
    }

    #[test]
    fn the_prefix_is_whole() {
        let png = png_base64();
        check_urls(
            &[
                format!("data:image/png;base64{png}"),
                format!("data:image/png,{png}"),
                format!("data:image/png,base64,{png}"),
                format!("data:base64,{png}"),
                format!("data:image/png;base64;charset=utf-8,{png}"),
                "data:image/svg+xml;utf8,<svg xmlns='x'/>".to_owned(),
                "data:".to_owned(),
            ],
            expect![[r#"
                1:79: error[image-data-uri-malformed] /messages/0/content/0/image_url/url: expected a comma behind `;base64`, found none
                2:79: error[image-data-uri-malformed] /messages/0/content/0/image_url/url: expected `;base64` before the comma, found `data:image/png,`
                3:79: error[image-data-uri-malformed] /messages/0/content/0/image_url/url: expected `;base64` before the comma, found `data:image/png,`
                4:79: error[image-data-uri-malformed] /messages/0/content/0/image_url/url: expected `;base64` before the comma, found `data:base64,`
                5:79: error[image-data-uri-malformed] /messages/0/content/0/image_url/url: expected `;base64` before the comma, found `data:image/png;base64;charset=utf-8,`
                6:79: error[image-data-uri-malformed] /messages/0/content/0/image_url/url: expected base64, found an SVG as text
                7:79: error[image-data-uri-malformed] /messages/0/content/0/image_url/url: expected a comma behind `;base64`, found none
            "#]],
        );
    }

    #[test]
    fn the_type_is_that_of_the_image() {
        let png = png_base64();
        check_urls(
            &[
                format!("data:image/jpg;base64,{JPEG}"),
                format!("data:;base64,{png}"),
                format!("data:IMAGE/PNG;base64,{png}"),
                format!("DATA:image/png;base64,{png}"),
                format!("data:image/png;charset=utf-8;base64,{png}"),
                format!(" data:image/png; base64,{png}"),
                format!("data:image/png;base64,{JPEG}"),
                format!("data:image/jpeg;base64,{WEBP}"),
                format!("data:application/octet-stream;base64,{png}"),
                format!("data:image/gif;base64,{png}"),
            ],
            expect![[r#"
                1:79: warning[image-mime-nonstandard] /messages/0/content/0/image_url/url: expected `data:image/jpeg;base64,`, found `data:image/jpg;base64,`
                2:79: warning[image-mime-nonstandard] /messages/0/content/0/image_url/url: expected `data:image/png;base64,`, found `data:;base64,`
                3:40: warning[duplicate-image] /messages/0/content/0: expected a new image, found the one of line 2 again
                3:79: warning[image-mime-nonstandard] /messages/0/content/0/image_url/url: expected `data:image/png;base64,`, found `data:IMAGE/PNG;base64,`
                4:40: warning[duplicate-image] /messages/0/content/0: expected a new image, found the one of line 2 again
                4:79: warning[image-mime-nonstandard] /messages/0/content/0/image_url/url: expected `data:image/png;base64,`, found `DATA:image/png;base64,`
                5:40: warning[duplicate-image] /messages/0/content/0: expected a new image, found the one of line 2 again
                5:79: warning[image-mime-nonstandard] /messages/0/content/0/image_url/url: expected `data:image/png;base64,`, found `data:image/png;charset=utf-8;base64,`
                6:40: warning[duplicate-image] /messages/0/content/0: expected a new image, found the one of line 2 again
                6:79: warning[image-mime-nonstandard] /messages/0/content/0/image_url/url: expected `data:image/png;base64,`, found ` data:image/png; base64,`
                7:40: warning[duplicate-image] /messages/0/content/0: expected a new image, found the one of line 1 again
                7:79: warning[image-mime-mismatch] /messages/0/content/0/image_url/url: expected type `image/jpeg` for a JPEG, found `image/png`
                8:79: warning[image-mime-mismatch] /messages/0/content/0/image_url/url: expected type `image/webp` for a WEBP, found `image/jpeg`
                9:40: warning[duplicate-image] /messages/0/content/0: expected a new image, found the one of line 2 again
                9:79: warning[image-mime-mismatch] /messages/0/content/0/image_url/url: expected type `image/png` for a PNG, found `application/octet-stream`
                10:40: warning[duplicate-image] /messages/0/content/0: expected a new image, found the one of line 2 again
                10:79: warning[image-mime-mismatch] /messages/0/content/0/image_url/url: expected type `image/png` for a PNG, found `image/gif`
            "#]],
        );
    }

    #[test]
    fn base64_is_taken_by_the_letter() {
        let png = png_base64();
        let inside = |text: &str| format!("{}{text}{}", &png[..60], &png[60..]);
        let uri = |base64: &str| format!("data:image/png;base64,{base64}");
        check_urls(
            &[
                uri(&inside("-")),
                uri(&inside("é")),
                uri(&format!("data:image/png;base64,{png}")),
                uri(&format!("b'{png}'")),
                uri(&png.replace('=', "%3D")),
                uri("{image_base64}"),
                uri("iVBORw0KGgo..."),
                uri(r"iVBO\\nRw0K"),
                uri(png.trim_end_matches('=')),
                uri(&png[..61]),
                uri(&format!("YQ=={png}")),
            ],
            expect![[r#"
                1:162: error[image-base64-invalid] /messages/0/content/0/image_url/url: expected base64, found `-` at its byte 60
                2:162: error[image-base64-invalid] /messages/0/content/0/image_url/url: expected base64, found `é` at its byte 60
                3:106: error[image-base64-invalid] /messages/0/content/0/image_url/url: expected base64, found `:` at its byte 4
                4:103: error[image-base64-invalid] /messages/0/content/0/image_url/url: expected base64, found `'` at its byte 1
                5:228: error[image-base64-invalid] /messages/0/content/0/image_url/url: expected base64, found `%` at its byte 126
                6:102: error[image-base64-invalid] /messages/0/content/0/image_url/url: expected base64, found `{` at its byte 0
                7:113: error[image-base64-invalid] /messages/0/content/0/image_url/url: expected base64, found `.` at its byte 11
                8:106: error[image-base64-invalid] /messages/0/content/0/image_url/url: expected base64, found `\` at its byte 4
                9:228: error[image-base64-invalid] /messages/0/content/0/image_url/url: expected base64 in groups of 4 characters, found no padding at its end
                10:163: error[image-base64-invalid] /messages/0/content/0/image_url/url: expected base64 in groups of 4 characters, found one character alone at its end
                11:104: error[image-base64-invalid] /messages/0/content/0/image_url/url: expected `=` only where it fills up the last group of 4, found it elsewhere
            "#]],
        );
    }

    #[test]
    fn the_place_of_a_fault_is_right_behind_escapes() {
        let bad = JPEG.replace('/', r"\/").replacen("J", "?", 3);
        check_urls(
            &[format!(r"data:image\/jpeg;base64,{bad}")],
            expect![[r#"
                1:117: error[image-base64-invalid] /messages/0/content/0/image_url/url: expected base64, found `?` at its byte 11
            "#]],
        );
    }

    #[test]
    fn spaces_in_base64_are_a_warning() {
        let png = png_base64();
        let uri = |base64: String| format!("data:image/png;base64,{base64}");
        check_urls(
            &[
                uri(format!(r"{}\n{}\r\n", &png[..60], &png[60..])),
                uri(format!(" {png}")),
                uri(format!(r"{}\n{}", &png[..60], &png[60..61])),
            ],
            expect![[r#"
                1:162: warning[image-base64-whitespace] /messages/0/content/0/image_url/url: expected base64 in one piece, found 3 spaces and line breaks in it
                2:40: warning[duplicate-image] /messages/0/content/0: expected a new image, found the one of line 1 again
                2:102: warning[image-base64-whitespace] /messages/0/content/0/image_url/url: expected base64 in one piece, found a space or line break in it
                3:162: warning[image-base64-whitespace] /messages/0/content/0/image_url/url: expected base64 in one piece, found a space or line break in it
                3:165: error[image-base64-invalid] /messages/0/content/0/image_url/url: expected base64 in groups of 4 characters, found one character alone at its end
            "#]],
        );
    }
}
