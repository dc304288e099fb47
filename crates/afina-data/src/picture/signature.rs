//! What the first bytes say: the three formats, and the names of the others.

use super::{Content, Format};

const CONVERT: &str = "convert it: `Image.open(path).convert(\"RGB\").save(\"x.png\")`";
const RENDER: &str = "render it as a PNG";
const FRAME: &str = "use a frame of it as a PNG or JPEG";
const DOWNLOAD: &str = "that is not the image but an answer about it: download the image again";
const UNPACK: &str = "unpack it, and embed the image inside";
const BINARY: &str = "read the file as bytes, `open(path, \"rb\")`, and encode those";
const TWICE: &str = "encode the bytes once";
const UNKNOWN: &str = "embed the bytes of a JPEG, PNG or WEBP file";

/// Offset, bytes there, name, hint; the first that fits.
const OTHERS: [(usize, &[u8], &str, &str); 45] = [
    (0, b"GIF8", "a GIF", CONVERT),
    (0, b"II*\0", "a TIFF", CONVERT),
    (0, b"MM\0*", "a TIFF", CONVERT),
    (0, b"II+\0", "a TIFF", CONVERT),
    (0, b"MM\0+", "a TIFF", CONVERT),
    (0, b"\0\0\x01\0", "an ICO", CONVERT),
    (0, b"\0\0\x02\0", "a CUR", CONVERT),
    (0, b"8BPS", "a PSD", CONVERT),
    (0, b"\0\0\0\x0CjP  ", "a JPEG 2000", CONVERT),
    (0, b"\xFF\x4F\xFF\x51", "a JPEG 2000", CONVERT),
    (0, b"\xFF\x0A", "a JPEG XL", CONVERT),
    (0, b"\0\0\0\x0CJXL ", "a JPEG XL", CONVERT),
    (0, b"II\xBC\x01", "a JPEG XR", CONVERT),
    (0, b"qoif", "a QOI", CONVERT),
    (0, b"DDS ", "a DDS", CONVERT),
    (0, b"v/1\x01", "an OpenEXR", CONVERT),
    (0, b"#?RADIANCE", "a Radiance HDR", CONVERT),
    (4, b"ftypavi", "an AVIF", CONVERT),
    (4, b"ftyphei", "a HEIC", CONVERT),
    (4, b"ftyphev", "a HEIC", CONVERT),
    (4, b"ftypmif1", "a HEIC", CONVERT),
    (4, b"ftypmsf1", "a HEIC", CONVERT),
    (4, b"ftyp", "an MP4 video", FRAME),
    (0, b"\x1A\x45\xDF\xA3", "a WebM or Matroska video", FRAME),
    (8, b"AVI ", "an AVI video", FRAME),
    (8, b"WAVE", "a WAV sound", UNKNOWN),
    (0, b"ID3", "an MP3 sound", UNKNOWN),
    (0, b"OggS", "an Ogg sound", UNKNOWN),
    (0, b"%PDF", "a PDF", "render its page as a PNG"),
    (0, b"%!PS", "a PostScript file", RENDER),
    (0, b"PK\x03\x04", "a ZIP archive", UNPACK),
    (0, b"\x1F\x8B", "gzip data", UNPACK),
    (0, b"\x28\xB5\x2F\xFD", "zstd data", UNPACK),
    (0, b"7z\xBC\xAF", "a 7z archive", UNPACK),
    (0, b"Rar!", "a RAR archive", UNPACK),
    (0, b"\x93NUMPY", "a NumPy array", "save it as a PNG: `Image.fromarray(array).save(\"x.png\")`"),
    (0, b"\x80\x04\x95", "a Python pickle", UNKNOWN),
    // What is left of binary data that was read or written as text.
    (0, b"\xEF\xBF\xBDPNG", "a PNG that went through a text decoder", BINARY),
    (0, b"\xC2\x89PNG", "a PNG that went through a text encoder", BINARY),
    (0, b"\xEF\xBF\xBD\xEF\xBF\xBD", "binary data that went through a text decoder", BINARY),
    (0, b"\xC3\xBF\xC3\x98\xC3\xBF", "a JPEG that went through a text encoder", BINARY),
    (0, b"data:", "a data URI", TWICE),
    (0, b"b'", "the text of Python bytes", "encode the bytes, not their `str()`"),
    (0, b"http://", "a URL", "download the image, or write its URL as `url`"),
    (0, b"https://", "a URL", "download the image, or write its URL as `url`"),
];

/// Which of the three formats `bytes` begin like; else what they are.
pub(super) fn signature(bytes: &[u8]) -> Result<Format, Content> {
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
    const JPEG: &[u8] = b"\xFF\xD8\xFF";
    // The first bytes of any of the three are never those of another format, so a short or damaged rest is theirs.
    if bytes.starts_with(b"\x89PNG") || PNG.starts_with(bytes) {
        return Ok(Format::Png);
    }
    if bytes.starts_with(JPEG) || JPEG.starts_with(bytes) {
        return Ok(Format::Jpeg);
    }
    let is_riff = bytes.starts_with(b"RIFF") || b"RIFF".starts_with(bytes);
    if is_riff && (bytes.len() < 12 || bytes[8..].starts_with(b"WEBP")) {
        return Ok(Format::Webp);
    }
    let (name, hint) = other(bytes);
    Err(Content::Other { name, hint })
}

fn other(bytes: &[u8]) -> (&'static str, &'static str) {
    let fits = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if let Some((.., name, hint)) = OTHERS.into_iter().find(|(offset, magic, ..)| fits(*offset, magic)) {
        return (name, hint);
    }
    // `BM`, the file's length, four reserved bytes: `BM` alone begins words.
    if bytes.starts_with(b"BM") && bytes.get(6..10) == Some(&[0; 4]) {
        return ("a BMP", CONVERT);
    }
    if let [b'P', b'1'..=b'7', b' ' | b'\n' | b'\r' | b'\t', ..] = bytes {
        return ("a Netpbm image", CONVERT);
    }
    let head = bytes.get(..1024).unwrap_or(bytes).trim_ascii_start();
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).to_ascii_lowercase();
    let has = |needle: &[u8]| memchr::memmem::find(&head, needle).is_some();
    if has(b"<svg") {
        return ("an SVG", RENDER);
    }
    if head.starts_with(b"<!doctype html") || head.starts_with(b"<html") {
        return ("a web page", DOWNLOAD);
    }
    if head.starts_with(b"<?xml") {
        return ("an XML text", DOWNLOAD);
    }
    if head.starts_with(b"{\"") || head.starts_with(b"{\n") {
        return ("a JSON text", DOWNLOAD);
    }
    if let Some((name, _)) = base64_of(&String::from_utf8_lossy(bytes.get(..32).unwrap_or(bytes))) {
        return (name, TWICE);
    }
    let is_text = std::str::from_utf8(&head).is_ok_and(|text| !text.chars().any(|char| char.is_control()));
    if is_text && bytes.len() < 1024 {
        return ("a text", UNKNOWN);
    }
    ("data of an unknown format", UNKNOWN)
}

/// What `text` is the base64 of, by its first characters: the name with its article, and how to make it a data URI.
pub(crate) fn base64_of(text: &str) -> Option<(&'static str, &'static str)> {
    const OTHER: &str = "convert it, and embed it as `data:image/png;base64,…`";
    const HEADS: [(&str, &str, &str); 9] = [
        ("iVBORw0KGgo", "the base64 of a PNG", "put `data:image/png;base64,` in front"),
        ("/9j/", "the base64 of a JPEG", "put `data:image/jpeg;base64,` in front"),
        ("UklGR", "the base64 of a WEBP", "put `data:image/webp;base64,` in front"),
        ("R0lGOD", "the base64 of a GIF", OTHER),
        ("JVBERi0", "the base64 of a PDF", OTHER),
        ("PHN2Zy", "the base64 of an SVG", OTHER),
        ("PD94bWwg", "the base64 of an XML text", OTHER),
        ("SUkqA", "the base64 of a TIFF", OTHER),
        ("TU0AK", "the base64 of a TIFF", OTHER),
    ];
    HEADS.into_iter().find(|(head, ..)| text.starts_with(head)).map(|(_, name, hint)| (name, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(bytes: &[u8]) -> &'static str {
        match signature(bytes) {
            Ok(format) => format.name(),
            Err(Content::Other { name, .. }) => name,
            Err(_) => unreachable!(),
        }
    }

    #[test]
    fn the_three_formats_are_known_even_when_cut_or_damaged() {
        let cases: [(&[u8], &str); 11] = [
            (b"\x89PNG\r\n\x1a\n\0\0\0\x0DIHDR", "PNG"),
            (b"\x89P", "PNG"),
            // Line breaks converted on the way.
            (b"\x89PNG\n\x1a\n", "PNG"),
            (b"\xFF\xD8\xFF\xE0", "JPEG"),
            (b"\xFF\xD8\xFF\xDB", "JPEG"),
            (b"\xFF\xD8", "JPEG"),
            (b"\xFF", "JPEG"),
            (b"RIFF\x10\0\0\0WEBPVP8 ", "WEBP"),
            (b"RIFF\x10\0", "WEBP"),
            (b"RI", "WEBP"),
            (b"RIFF\x10\0\0\0WAVEfmt ", "a WAV sound"),
        ];
        for (bytes, name) in cases {
            assert_eq!(named(bytes), name, "{bytes:?}");
        }
    }

    #[test]
    fn other_formats_are_named() {
        let cases: [(&[u8], &str); 18] = [
            (b"GIF89a\x01\0", "a GIF"),
            (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0", "a BMP"),
            (b"II*\0\x08\0\0\0", "a TIFF"),
            (b"MM\0*\0\0\0\x08", "a TIFF"),
            (b"\0\0\x01\0\x01\0\x10\x10", "an ICO"),
            (b"\0\0\0\x1CftypheicA", "a HEIC"),
            (b"\0\0\0\x1Cftypmif1A", "a HEIC"),
            (b"\0\0\0\x1Cftypavif\0", "an AVIF"),
            (b"\0\0\0\x1Cftypisom\0", "an MP4 video"),
            (b"%PDF-1.7\n", "a PDF"),
            (b"<svg xmlns='x'/>", "an SVG"),
            (b"<?xml version='1.0'?>\n<!-- x -->\n<SVG/>", "an SVG"),
            (b"\n<!DOCTYPE html><html>", "a web page"),
            (b"{\"error\": \"not found\"}", "a JSON text"),
            (b"iVBORw0KGgoAAAANSUhEUg", "the base64 of a PNG"),
            (b"BMW is a make of cars", "a text"),
            (b"\xEF\xBF\xBDPNG\r\n\x1a\n", "a PNG that went through a text decoder"),
            (b"\x01\x02\x03\x04", "data of an unknown format"),
        ];
        for (bytes, name) in cases {
            assert_eq!(named(bytes), name, "{bytes:?}");
        }
    }
}
