//! Small images for tests. The base64 below is of a picture of 16 x 8 pixels, saved by Pillow 13 with
//! `quality=30, optimize=True` (JPEG) or `quality=10` (WEBP); PNGs are made here, chunk by chunk.

use ::base64::{Engine, engine::general_purpose::STANDARD};

use super::{Format, png::crc32};

/// RGB, baseline.
pub(crate) const JPEG: &str = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/wAARCAAIABADASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAT/xAAXEAEAAwAAAAAAAAAAAAAAAAAAAwVi/8QAFQEBAQAAAAAAAAAAAAAAAAAAAgP/xAAYEQADAQEAAAAAAAAAAAAAAAAAAgMEUf/aAAwDAQACEQMRAD8Amirsq4q7IA9WJZbv0//Z";
/// RGB, `progressive=True`.
pub(crate) const JPEG_PROGRESSIVE: &str = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/wgARCAAIABADASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAP/xAAUAQEAAAAAAAAAAAAAAAAAAAAC/9oADAMBAAIQAxAAAAGVgj//xAAWEAADAAAAAAAAAAAAAAAAAAAAAQP/2gAIAQEAAQUCUxTP/8QAFxEAAwEAAAAAAAAAAAAAAAAAAAECA//aAAgBAwEBPwHK2f/EABYRAQEBAAAAAAAAAAAAAAAAAAEAAv/aAAgBAgEBPwF03//EABQQAQAAAAAAAAAAAAAAAAAAABD/2gAIAQEABj8CP//EABUQAQEAAAAAAAAAAAAAAAAAAABh/9oACAEBAAE/IYIP/9oADAMBAAIAAwAAABCP/8QAFREBAQAAAAAAAAAAAAAAAAAAAFH/2gAIAQMBAT8Qrf/EABQRAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQIBAT8Qb//EABQQAQAAAAAAAAAAAAAAAAAAABD/2gAIAQEAAT8QNv/Z";
/// `convert("L")`.
pub(crate) const JPEG_GRAY: &str = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8ybqmx5moq6T/wAALCAAIABABAREA/8QAFAABAAAAAAAAAAAAAAAAAAAABP/EABcQAAMBAAAAAAAAAAAAAAAAAAADBWL/2gAIAQEAAD8AMqdkWqdk/9k=";
/// `convert("CMYK")`, with Adobe's marker.
pub(crate) const JPEG_CMYK: &str = "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAbEhQXFBEbFxYXHhwbIChCKyglJShROj0wQmBVZWRfVV1baniZgWpxkHNbXYW1hpCeo6utq2eAvMm6pseZqKuk/8AAFAgACAAQBEMRAE0RAFkRAEsRAP/EABcAAQEBAQAAAAAAAAAAAAAAAAAGAwX/xAAYEAEAAwEAAAAAAAAAAAAAAAAABRVBYv/aAA4EQwBNAFkASwAAPwDlR+MqLgUymj8KLgH/2Q==";
/// RGB, lossy.
pub(crate) const WEBP: &str =
    "UklGRjoAAABXRUJQVlA4IC4AAACQAQCdASoQAAgAB0CWJbACdACx/aAA/s18TPNf1XhwzeI8nV2iAJGFO+830wAA";
/// RGBA, `lossless=True`.
pub(crate) const WEBP_LOSSLESS: &str =
    "UklGRjgAAABXRUJQVlA4TCsAAAAvD8ABELmM6H/sIgrf/4CCtm2YQCl/om8DMBADKCAo8n+0CYB4YuqJq7wHAA==";
/// RGB, two frames.
pub(crate) const WEBP_ANIMATED: &str = "UklGRtAAAABXRUJQVlA4WAoAAAACAAAADwAABwAAQU5JTQYAAAAAAAAAAABBTk1GTgAAAAAAAAAAAA8AAAcAAGQAAAJWUDggNgAAAFABAJ0BKhAACAAHQJYlsAAFjAAA/rpeX/if/x8vqJ/+m1dTLuQ3oHoJGpwX99am1kCecBXgAEFOTUZOAAAAAAAAAAAADwAABwAAZAAAAFZQOCA2AAAAVAEAnQEqEAAIAAAAliWwAAWMAAD+ul3/+J//Hy9Qn/6bV1Mu5DefgbGsG4X/gLN2NJiu4KAA";

pub(crate) const ALL: [(Format, &str); 7] = [
    (Format::Jpeg, JPEG),
    (Format::Jpeg, JPEG_PROGRESSIVE),
    (Format::Jpeg, JPEG_GRAY),
    (Format::Jpeg, JPEG_CMYK),
    (Format::Webp, WEBP),
    (Format::Webp, WEBP_LOSSLESS),
    (Format::Webp, WEBP_ANIMATED),
];

/// The bytes that base64 stands for.
pub(crate) fn bytes(base64: &str) -> Vec<u8> {
    STANDARD.decode(base64).unwrap()
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A PNG of this size, bit depth and color type.
pub(crate) fn png(width: u32, height: u32, bits: u8, color: u8) -> Vec<u8> {
    png_with(width, height, bits, color, &[])
}

/// [`png`] with chunks behind its header.
pub(crate) fn png_with(width: u32, height: u32, bits: u8, color: u8, chunks: &[u8]) -> Vec<u8> {
    let samples = [1, 0, 3, 1, 2, 0, 4].get(usize::from(color)).map_or(1, |samples| *samples);
    let row = (width as usize * samples * usize::from(bits)).div_ceil(8);
    let mut rows = Vec::new();
    for y in 0..height as usize {
        // No filter, then the pixels.
        rows.push(0);
        rows.extend((0..row).map(|x| (x * 7 + y * 13) as u8));
    }
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    png.extend(chunk(b"IHDR", &[size.as_slice(), &[bits, color, 0, 0, 0]].concat()));
    png.extend(chunks);
    if color == 3 {
        png.extend(chunk(b"PLTE", &vec![9; 3 << bits]));
    }
    png.extend(chunk(b"IDAT", &zlib(&rows)));
    png.extend(chunk(b"IEND", b""));
    png
}

/// A chunk of a PNG: length, name, data, checksum.
pub(crate) fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind, data].concat();
    [&(data.len() as u32).to_be_bytes(), body.as_slice(), &crc32(&body).to_be_bytes()].concat()
}

/// One stored block of deflate in zlib's frame (RFC 1950).
fn zlib(data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).unwrap();
    let (mut a, mut b) = (1u32, 0u32);
    for &byte in data {
        a = (a + u32::from(byte)) % 65521;
        b = (b + a) % 65521;
    }
    let head = [0x78, 0x01, 0x01];
    [&head[..], &len.to_le_bytes(), &(!len).to_le_bytes(), data, &(b << 16 | a).to_be_bytes()].concat()
}

/// A TIFF header whose directory names an orientation.
pub(crate) fn exif(orientation: u8) -> Vec<u8> {
    let entry = [0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
    [b"II*\0\x08\0\0\0\x01\0".as_slice(), &entry, &[0; 4]].concat()
}

/// [`JPEG`] with a segment behind its first marker.
pub(crate) fn jpeg_with(marker: u8, segment: &[u8]) -> Vec<u8> {
    let (whole, len) = (bytes(JPEG), segment.len() as u16 + 2);
    [&whole[..2], &[0xFF, marker], &len.to_be_bytes(), segment, &whole[2..]].concat()
}

/// [`WEBP`] in the extended format, with EXIF data.
pub(crate) fn webp_with_exif(exif: &[u8]) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        [kind, (data.len() as u32).to_le_bytes().as_slice(), data, &[0][..data.len() % 2]].concat()
    };
    let canvas = chunk(b"VP8X", &[0x08, 0, 0, 0, 15, 0, 0, 7, 0, 0]);
    let body = [b"WEBP".as_slice(), &canvas, &bytes(WEBP)[12..], &chunk(b"EXIF", exif)].concat();
    [b"RIFF".as_slice(), &(body.len() as u32).to_le_bytes(), &body].concat()
}
