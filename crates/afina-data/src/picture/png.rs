//! The chunks of a PNG. Source: <https://www.w3.org/TR/png/>.

use super::{Fault, Header, Mode, bytes_at, exif};

const SIGNATURE: usize = 8;

/// Header and fault of a file that begins like a PNG. The checksums of the pixel data are left to the decoder.
pub(super) fn read(bytes: &[u8]) -> (Option<Header>, Option<Fault>) {
    if bytes.len() > SIGNATURE && !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return (None, Some(Fault::Corrupt("a header")));
    }
    let mut header = None;
    let fault = walk(bytes, &mut header).err();
    (header, fault)
}

fn walk(bytes: &[u8], header: &mut Option<Header>) -> Result<(), Fault> {
    const HEADER: Fault = Fault::Corrupt("a header");
    let mut at = SIGNATURE;
    let mut has_pixels = false;
    loop {
        if header.is_some() && at >= bytes.len() {
            return Err(Fault::NoEnd("IEND"));
        }
        let (Some(len), Some(kind)) = (bytes_at(bytes, at), bytes_at(bytes, at + 4)) else {
            return Err(if header.is_some() { Fault::NoEnd("IEND") } else { Fault::Ends("its header") });
        };
        let len = u32::from_be_bytes(len) as usize;
        if !kind.iter().all(u8::is_ascii_alphabetic) {
            return Err(Fault::Corrupt("a chunk"));
        }
        let end = at + 8 + len;
        let (Some(data), Some(checksum)) = (bytes.get(at + 8..end), bytes_at(bytes, end)) else {
            return Err(Fault::Ends(part(kind)));
        };
        // The decoder reads these, and checks them on the way.
        let is_pixels = &kind == b"IDAT";
        if !is_pixels && crc32(&bytes[at + 4..end]) != u32::from_be_bytes(checksum) {
            return Err(Fault::Checksum(kind));
        }
        match (&kind, header.as_mut()) {
            (b"IHDR", None) => *header = Some(read_header(data).ok_or(HEADER)?),
            // The first chunk is another one.
            (_, None) => return Err(HEADER),
            (b"IDAT", Some(_)) => has_pixels = true,
            // Number of frames, number of plays. Behind the pixels it means nothing.
            (b"acTL", Some(header)) if !has_pixels => {
                header.frames = bytes_at(data, 0).map_or(1, u32::from_be_bytes).max(1);
            }
            (b"eXIf", Some(header)) => header.orientation = exif::orientation(data),
            (b"IEND", Some(_)) if has_pixels => return Ok(()),
            (b"IEND", Some(_)) => return Err(Fault::Corrupt("no pixels")),
            _ => {}
        }
        at = end + 4;
    }
}

fn part(kind: [u8; 4]) -> &'static str {
    match &kind {
        b"IHDR" => "its header",
        b"IDAT" | b"fdAT" => "its pixel data",
        b"IEND" => "its last chunk",
        _ => "its metadata",
    }
}

/// Width, height, bit depth, color type, three bytes more.
fn read_header(data: &[u8]) -> Option<Header> {
    let (width, height) = (u32::from_be_bytes(bytes_at(data, 0)?), u32::from_be_bytes(bytes_at(data, 4)?));
    let mode = match bytes_at(data, 8)? {
        [8, 2] => Mode::Rgb,
        [8, 6] => Mode::Rgba,
        [1 | 2 | 4 | 8, 3] => Mode::Palette,
        [1, 0] => Mode::Other("1-bit black and white"),
        [2, 0] => Mode::Other("2-bit grayscale"),
        [4, 0] => Mode::Other("4-bit grayscale"),
        [8, 0] => Mode::Other("grayscale"),
        [16, 0] => Mode::Other("16-bit grayscale"),
        [8, 4] => Mode::Other("grayscale with alpha"),
        [16, 4] => Mode::Other("16-bit grayscale with alpha"),
        [16, 2] => Mode::Other("16-bit RGB"),
        [16, 6] => Mode::Other("16-bit RGBA"),
        _ => return None,
    };
    let area = u64::from(width) * u64::from(height);
    (area > 0 && data.len() == 13).then_some(Header { width, height, area, mode, frames: 1, orientation: 1 })
}

/// The checksum of PNG (and zlib): polynomial 0xEDB88320.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let (mut value, mut bit) = (index as u32, 0);
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0xEDB8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, &byte| crc >> 8 ^ TABLE[(crc as u8 ^ byte) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::samples::{chunk, exif, png, png_with};

    fn mode(bits: u8, color: u8) -> Mode {
        let (header, fault) = read(&png(3, 2, bits, color));
        assert_eq!(fault, None, "{bits} {color}");
        header.unwrap().mode
    }

    #[test]
    fn the_mode_is_what_is_stored() {
        assert_eq!(
            (mode(8, 2), mode(8, 6), mode(8, 3), mode(1, 3)),
            (Mode::Rgb, Mode::Rgba, Mode::Palette, Mode::Palette)
        );
        let named = |bits, color| match mode(bits, color) {
            Mode::Other(name) => name,
            mode => panic!("{mode:?}"),
        };
        let names = [named(1, 0), named(8, 0), named(16, 0), named(8, 4), named(16, 2), named(16, 6)];
        let expected = [
            "1-bit black and white",
            "grayscale",
            "16-bit grayscale",
            "grayscale with alpha",
            "16-bit RGB",
            "16-bit RGBA",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn chunks_tell_size_frames_and_orientation() {
        let extra = [chunk(b"acTL", &[0, 0, 0, 4, 0, 0, 0, 0]), chunk(b"eXIf", &exif(6))].concat();
        let (header, fault) = read(&png_with(3, 2, 8, 2, &extra));
        let expected = Header { width: 3, height: 2, area: 6, mode: Mode::Rgb, frames: 4, orientation: 6 };
        assert_eq!((header, fault), (Some(expected), None));
    }

    #[test]
    fn what_follows_the_end_is_nobody_s_business() {
        assert_eq!(read(&[png(3, 2, 8, 2), b"\0 trailing \x89PNG".to_vec()].concat()).1, None);
    }

    #[test]
    fn a_cut_is_told_by_where_it_is() {
        let whole = png_with(3, 2, 8, 2, &chunk(b"tEXt", b"Title\0x"));
        let fault = |end: usize| read(&whole[..end]).1.unwrap();
        assert_eq!(fault(4), Fault::Ends("its header"));
        assert_eq!(fault(20), Fault::Ends("its header"));
        assert_eq!(fault(33), Fault::NoEnd("IEND"));
        assert_eq!(fault(44), Fault::Ends("its metadata"));
        assert_eq!(fault(whole.len() - 14), Fault::Ends("its pixel data"));
        assert_eq!(fault(whole.len() - 12), Fault::NoEnd("IEND"));
        assert_eq!(fault(whole.len() - 1), Fault::Ends("its last chunk"));
        assert!((0..whole.len()).all(|end| read(&whole[..end]).1.is_some()));
    }

    #[test]
    fn a_damaged_chunk_is_named() {
        let whole = png_with(3, 2, 8, 2, &chunk(b"tEXt", b"Title\0x"));
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            read(&bytes).1
        };
        assert_eq!(with(16, 9), Some(Fault::Checksum(*b"IHDR")));
        assert_eq!(with(42, 9), Some(Fault::Checksum(*b"tEXt")));
        assert_eq!(with(38, 9), Some(Fault::Corrupt("a chunk")));
        assert_eq!(with(4, b'\n'), Some(Fault::Corrupt("a header")));
        assert_eq!(read(&png(0, 2, 8, 2)).1, Some(Fault::Corrupt("a header")));
        assert_eq!(read(&png(3, 2, 8, 5)).1, Some(Fault::Corrupt("a header")));
    }
}
