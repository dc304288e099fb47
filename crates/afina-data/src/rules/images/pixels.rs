//! The image inside a data URI: its format, its pixels, its size.

use crate::{
    diagnostic::Severity,
    findings::Findings,
    json::Value,
    picture::{Content, Fault, Format, Header, MAX_PIXELS, Mode, Picture},
    read::Profile,
};

/// The limit of the services. Whether they mean 10⁷ or 2²⁰ · 10 is unsaid.
const MAX_BYTES: usize = 10 << 20;
const MAX_BYTES_AT_LEAST: usize = 10_000_000;

pub(super) fn check_pixels(url: Value, picture: &Picture, out: &mut Findings) {
    match picture.content {
        Content::Empty => image_empty(url, out),
        Content::Other { name, hint } => image_format_unsupported(url, name, hint, out),
        Content::Image { format, header, fault } => {
            if let Some(header) = header {
                check_header(url, &header, out);
            }
            if let Some(fault) = fault {
                image_truncated(url, format, fault, out);
            }
        }
    }
    image_too_large(url, picture.len, out);
}

fn check_header(url: Value, header: &Header, out: &mut Findings) {
    match header.mode {
        Mode::Rgb | Mode::Rgba => {}
        Mode::Palette => image_mode_palette(url, out),
        Mode::Other(mode) => image_mode_unsupported(url, mode, out),
    }
    if header.frames > 1 {
        image_animated(url, header.frames, out);
    }
    if header.area > MAX_PIXELS {
        image_pixels_excessive(url, header, out);
    }
    if header.orientation != 1 {
        image_exif_orientation(url, header.orientation, out);
    }
}

/// What is converted in training here, and refused elsewhere.
fn mode_severity(out: &Findings) -> Severity {
    if out.options.profile == Profile::Local { Severity::Warning } else { Severity::Error }
}

/// An image is not a JPEG, PNG or WEBP.
///
/// GIF, BMP, TIFF, SVG, HEIC, AVIF, PDF and others are refused, whatever type the data URI names. Convert it.
///
/// ```python
/// Image.open(path).convert("RGB").save("x.png")
/// ```
fn image_format_unsupported(url: Value, name: &str, hint: &str, out: &mut Findings) {
    out.error("image-format-unsupported", url, format!("expected a JPEG, PNG or WEBP, found {name}"), hint);
}

/// An image's pixels are not RGB or RGBA with 8 bits a channel.
///
/// Grayscale, CMYK, 1-bit and 16-bit images "must be in the RGB or RGBA image mode". A warning with `--profile local`,
/// which converts them.
///
/// ```python
/// Image.open(path).convert("RGB").save("x.png")
/// ```
fn image_mode_unsupported(url: Value, mode: &str, out: &mut Findings) {
    out.add(
        mode_severity(out),
        "image-mode-unsupported",
        url,
        format!("expected RGB or RGBA pixels, found {mode} ones"),
        "convert it: `Image.open(path).convert(\"RGB\")`",
    );
}

/// A PNG's pixels are numbers in a palette.
///
/// By the letter of "must be in the RGB or RGBA image mode" it is refused, though many decoders expand it. Convert it.
/// A warning with `--profile local`, which does.
fn image_mode_palette(url: Value, out: &mut Findings) {
    out.add(
        mode_severity(out),
        "image-mode-palette",
        url,
        "expected RGB or RGBA pixels, found those of a palette",
        "convert it: `Image.open(path).convert(\"RGB\")`, or `\"RGBA\"` where it is transparent",
    );
}

/// An image begins well, but its data is incomplete or damaged.
///
/// Every image is decoded to its last pixel. Often a download or an upload was cut. Get the image again, and encode it
/// whole.
fn image_truncated(url: Value, format: Format, fault: Fault, out: &mut Findings) {
    out.error(
        "image-truncated",
        url,
        format!("expected a whole {}, found one {fault}", format.name()),
        "get the image again, or save it anew",
    );
}

/// A data URI has no image in it.
fn image_empty(url: Value, out: &mut Findings) {
    out.error("image-empty", url, "expected an image, found 0 bytes", "embed the image, or drop the part");
}

/// An image moves: APNG, or animated WEBP.
///
/// Models look at one picture, and services differ in which, or refuse it. Keep the frame that matters.
fn image_animated(url: Value, frames: u32, out: &mut Findings) {
    out.warning(
        "image-animated",
        url,
        format!("expected an image that stands still, found {frames} frames"),
        "save the frame that matters as an image of its own",
    );
}

/// An image has more than 10 MB, once decoded from base64.
///
/// A warning between 10,000,000 bytes and 10 MiB, for nobody says which of the two is meant. Save it smaller:
/// OpenAI shrinks images to 2048 × 2048 pixels anyway. Not checked with `--profile local`.
fn image_too_large(url: Value, len: usize, out: &mut Findings) {
    let severity = if len > MAX_BYTES { Severity::Error } else { Severity::Warning };
    if len > MAX_BYTES_AT_LEAST && out.options.profile != Profile::Local {
        out.add(
            severity,
            "image-too-large",
            url,
            format!("expected at most 10 MB, found {:.1} MB", len as f64 / 1e6),
            "save it smaller, or with a lower quality",
        );
    }
}

/// An image says that it has more than 50 megapixels.
///
/// A few bytes can claim billions of pixels and fill the memory of who decodes them. It is not decoded here. Save it
/// smaller.
fn image_pixels_excessive(url: Value, header: &Header, out: &mut Findings) {
    let Header { width, height, area, .. } = header;
    out.warning(
        "image-pixels-excessive",
        url,
        format!("expected at most 50 megapixels, found {} ({width} x {height})", area / 1_000_000),
        "save it smaller",
    );
}

/// An image is to be turned before it is shown, as its EXIF data says.
///
/// Photos from phones often are. Some programs turn them, others show them lying on their side. Turn the pixels
/// themselves.
///
/// ```python
/// ImageOps.exif_transpose(Image.open(path)).save("x.jpg")
/// ```
fn image_exif_orientation(url: Value, orientation: u8, out: &mut Findings) {
    out.warning(
        "image-exif-orientation",
        url,
        format!("expected pixels as they are shown, found EXIF orientation {orientation}"),
        "turn the pixels: `ImageOps.exif_transpose(image)`",
    );
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::{
        Method, Profile, ReadOptions,
        picture::samples::*,
        testing::{check_with, image_records, read_all},
    };

    #[track_caller]
    fn check(profile: Profile, images: &[(&str, Vec<u8>)], expect: Expect) {
        let urls: Vec<String> =
            images.iter().map(|(kind, bytes)| format!("data:image/{kind};base64,{}", base64(bytes))).collect();
        let records = image_records(&urls.iter().map(String::as_str).collect::<Vec<_>>());
        check_with(&ReadOptions::new(Method::Sft, profile), records, expect);
    }

    #[test]
    fn good_images_are_not_touched() {
        check(
            Profile::OpenAi,
            &[
                ("png", png(30, 20, 8, 2)),
                ("png", png(30, 20, 8, 6)),
                ("jpeg", bytes(JPEG)),
                ("jpeg", bytes(JPEG_PROGRESSIVE)),
                ("jpeg", jpeg_with(0xE1, &[b"Exif\0\0", exif(1).as_slice()].concat())),
                ("jpeg", [bytes(JPEG), b"a trailer of the camera".to_vec()].concat()),
                ("webp", bytes(WEBP)),
                ("webp", bytes(WEBP_LOSSLESS)),
                ("webp", webp_with_exif(&exif(1))),
                ("png", png_with(3, 2, 8, 2, &chunk(b"acTL", &[0, 0, 0, 1, 0, 0, 0, 0]))),
            ],
            expect![""],
        );
    }

    #[test]
    fn modes_are_errors_and_converted_in_training_here() {
        let images = [
            ("png", png(3, 2, 8, 0)),
            ("png", png(3, 2, 1, 0)),
            ("png", png(3, 2, 16, 0)),
            ("png", png(3, 2, 8, 4)),
            ("png", png(3, 2, 16, 2)),
            ("png", png(3, 2, 4, 3)),
            ("jpeg", bytes(JPEG_GRAY)),
            ("jpeg", bytes(JPEG_CMYK)),
        ];
        check(
            Profile::OpenAi,
            &images,
            expect![[r#"
                1:79: error[image-mode-unsupported] /messages/0/content/0/image_url/url: expected RGB or RGBA pixels, found grayscale ones
                2:79: error[image-mode-unsupported] /messages/0/content/0/image_url/url: expected RGB or RGBA pixels, found 1-bit black and white ones
                3:79: error[image-mode-unsupported] /messages/0/content/0/image_url/url: expected RGB or RGBA pixels, found 16-bit grayscale ones
                4:79: error[image-mode-unsupported] /messages/0/content/0/image_url/url: expected RGB or RGBA pixels, found grayscale with alpha ones
                5:79: error[image-mode-unsupported] /messages/0/content/0/image_url/url: expected RGB or RGBA pixels, found 16-bit RGB ones
                6:79: error[image-mode-palette] /messages/0/content/0/image_url/url: expected RGB or RGBA pixels, found those of a palette
                7:79: error[image-mode-unsupported] /messages/0/content/0/image_url/url: expected RGB or RGBA pixels, found grayscale ones
                8:79: error[image-mode-unsupported] /messages/0/content/0/image_url/url: expected RGB or RGBA pixels, found CMYK ones
            "#]],
        );
        check(
            Profile::Local,
            &images[4..6],
            expect![[r#"
            1:79: warning[image-mode-unsupported] /messages/0/content/0/image_url/url: expected RGB or RGBA pixels, found 16-bit RGB ones
            2:79: warning[image-mode-palette] /messages/0/content/0/image_url/url: expected RGB or RGBA pixels, found those of a palette
        "#]],
        );
    }

    #[test]
    fn other_formats_and_nothing_are_errors() {
        check(
            Profile::OpenAi,
            &[
                ("gif", b"GIF89a\x01\0\x01\0".to_vec()),
                ("png", b"GIF89a\x01\0\x01\0".to_vec()),
                ("png", b"iVBORw0KGgoAAAANSUhEUg==".to_vec()),
                ("png", b"\x01\x02\x03".to_vec()),
                ("png", Vec::new()),
            ],
            expect![[r#"
                1:79: error[image-format-unsupported] /messages/0/content/0/image_url/url: expected a JPEG, PNG or WEBP, found a GIF
                2:40: warning[duplicate-image] /messages/0/content/0: expected a new image, found the one of line 1 again
                2:79: error[image-format-unsupported] /messages/0/content/0/image_url/url: expected a JPEG, PNG or WEBP, found a GIF
                3:79: error[image-format-unsupported] /messages/0/content/0/image_url/url: expected a JPEG, PNG or WEBP, found the base64 of a PNG
                4:79: error[image-format-unsupported] /messages/0/content/0/image_url/url: expected a JPEG, PNG or WEBP, found data of an unknown format
                5:79: error[image-empty] /messages/0/content/0/image_url/url: expected an image, found 0 bytes
            "#]],
        );
    }

    #[test]
    fn cut_and_damaged_images_are_errors() {
        let (whole, jpeg, webp) = (png(30, 20, 8, 2), bytes(JPEG), bytes(WEBP));
        let mut damaged = whole.clone();
        damaged[100] ^= 1;
        check(
            Profile::OpenAi,
            &[
                ("png", whole[..whole.len() / 2].to_vec()),
                ("png", whole[..20].to_vec()),
                ("png", damaged),
                ("jpeg", jpeg[..jpeg.len() - 12].to_vec()),
                ("jpeg", jpeg[..jpeg.len() - 2].to_vec()),
                ("jpeg", jpeg[..100].to_vec()),
                ("webp", webp[..40].to_vec()),
            ],
            expect![[r#"
                1:79: error[image-truncated] /messages/0/content/0/image_url/url: expected a whole PNG, found one that ends inside its pixel data
                2:79: error[image-truncated] /messages/0/content/0/image_url/url: expected a whole PNG, found one that ends inside its header
                3:79: error[image-truncated] /messages/0/content/0/image_url/url: expected a whole PNG, found one with pixels that cannot be decoded
                4:79: error[image-truncated] /messages/0/content/0/image_url/url: expected a whole JPEG, found one that ends before its end marker `EOI`
                5:79: error[image-truncated] /messages/0/content/0/image_url/url: expected a whole JPEG, found one that ends before its end marker `EOI`
                6:79: error[image-truncated] /messages/0/content/0/image_url/url: expected a whole JPEG, found one that ends inside its header
                7:79: error[image-truncated] /messages/0/content/0/image_url/url: expected a whole WEBP, found one that ends inside its pixel data
            "#]],
        );
    }

    #[test]
    fn what_pipelines_do_not_agree_on_is_a_warning() {
        check(
            Profile::OpenAi,
            &[
                ("webp", bytes(WEBP_ANIMATED)),
                ("png", png_with(3, 2, 8, 2, &chunk(b"acTL", &[0, 0, 0, 7, 0, 0, 0, 0]))),
                ("jpeg", jpeg_with(0xE1, &[b"Exif\0\0", exif(6).as_slice()].concat())),
                ("png", png_with(3, 2, 8, 2, &chunk(b"eXIf", &exif(3)))),
                ("webp", webp_with_exif(&exif(8))),
            ],
            expect![[r#"
                1:79: warning[image-animated] /messages/0/content/0/image_url/url: expected an image that stands still, found 2 frames
                2:79: warning[image-animated] /messages/0/content/0/image_url/url: expected an image that stands still, found 7 frames
                3:79: warning[image-exif-orientation] /messages/0/content/0/image_url/url: expected pixels as they are shown, found EXIF orientation 6
                4:79: warning[image-exif-orientation] /messages/0/content/0/image_url/url: expected pixels as they are shown, found EXIF orientation 3
                5:79: warning[image-exif-orientation] /messages/0/content/0/image_url/url: expected pixels as they are shown, found EXIF orientation 8
            "#]],
        );
    }

    #[test]
    fn a_bomb_is_named_and_not_decoded() {
        let mut bomb = png(1, 1, 8, 2);
        bomb.splice(8..33, chunk(b"IHDR", &[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60, 8, 2, 0, 0, 0]));
        check(
            Profile::OpenAi,
            &[("png", bomb)],
            expect![[r#"
                1:79: warning[image-pixels-excessive] /messages/0/content/0/image_url/url: expected at most 50 megapixels, found 3600 (60000 x 60000)
            "#]],
        );
    }

    #[test]
    fn ten_megabytes_are_the_limit() {
        let found = |len: usize, profile| {
            let padding = len - png(1, 1, 8, 2).len();
            let image = [png(1, 1, 8, 2), vec![0; padding]].concat();
            let records = image_records(&[&format!("data:image/png;base64,{}", base64(&image))]);
            let (diagnostics, ..) = read_all(records.as_bytes(), &ReadOptions::new(Method::Sft, profile));
            let mut about = diagnostics.into_iter().filter(|diagnostic| diagnostic.rule == "image-too-large");
            about.next().map(|diagnostic| diagnostic.severity.as_str())
        };
        let lens = [10_000_000, 10_000_001, 10 << 20, (10 << 20) + 1];
        assert_eq!(
            lens.map(|len| found(len, Profile::OpenAi)),
            [None, Some("warning"), Some("warning"), Some("error")]
        );
        assert_eq!(found(11_000_000, Profile::Local), None);
    }
}
