//! The segments of a JPEG. Source: ITU-T T.81, annex B.

use super::{Content, Fault, Header, Mode, bytes_at, exif};

type Read = (Option<Header>, Option<Fault>);

/// Header and fault of a file that begins like a JPEG; or its name, where it is of a kind that few programs read.
pub(super) fn read(bytes: &[u8]) -> Result<Read, Content> {
    let mut walk = Walk::default();
    let fault = walk.segments(bytes).err();
    if let Some(name) = walk.rare {
        let hint = "convert it to a baseline JPEG: `Image.open(path).convert(\"RGB\").save(\"x.jpg\")`";
        return Err(Content::Other { name, hint });
    }
    let header = walk.frame.map(|frame| Header {
        mode: match (frame.components, walk.ycck) {
            (3, _) => Mode::Rgb,
            (1, _) => Mode::Other("grayscale"),
            (4, true) => Mode::Other("YCCK, a kind of CMYK"),
            (4, false) => Mode::Other("CMYK"),
            _ => Mode::Other("unusual"),
        },
        width: frame.width.into(),
        height: frame.height.into(),
        area: walk.area,
        frames: 1,
        orientation: walk.orientation.unwrap_or(1),
    });
    Ok((header, fault))
}

#[derive(Default)]
struct Walk {
    frame: Option<Frame>,
    /// Of the largest frame header: a decoder may take any.
    area: u64,
    /// Adobe's marker says that four components are YCCK.
    ycck: bool,
    orientation: Option<u8>,
    rare: Option<&'static str>,
}

#[derive(Clone, Copy)]
struct Frame {
    width: u16,
    height: u16,
    components: u8,
}

impl Walk {
    fn segments(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        const END: Fault = Fault::NoEnd("EOI");
        let mut at = 2;
        let mut has_scan = false;
        loop {
            // Fill bytes, and what decoders skip.
            at += memchr::memchr(0xFF, bytes.get(at..).unwrap_or_default()).ok_or(END)?;
            let marker = *bytes.get(at + 1).ok_or(END)?;
            at += 1;
            match marker {
                0xFF => continue,
                0x00 | 0x01 | 0xD0..=0xD8 => {
                    at += 1;
                    continue;
                }
                0xD9 if has_scan => return Ok(()),
                0xD9 => return Err(Fault::Corrupt("no pixels")),
                _ => {}
            }
            at += 1;
            let part = if marker == 0xDA { "its pixel data" } else { "its header" };
            let len = usize::from(u16::from_be_bytes(bytes_at(bytes, at).ok_or(Fault::Ends(part))?));
            let segment = bytes.get(at + 2..at + len.max(2)).ok_or(Fault::Ends(part))?;
            at += len.max(2);
            match marker {
                0xE1 if self.orientation.is_none() => {
                    self.orientation = segment.strip_prefix(b"Exif\0\0").map(exif::orientation);
                }
                // "Adobe", version and flags of 2 + 2 + 2 bytes, transform: 2 is YCCK.
                0xEE if segment.starts_with(b"Adobe") => self.ycck = segment.get(11) == Some(&2),
                0xC0..=0xCF | 0xF7 if !matches!(marker, 0xC4 | 0xC8 | 0xCC) => self.frame(marker, segment)?,
                0xDA if self.frame.is_none() => return Err(Fault::Corrupt("no header")),
                0xDA => {
                    has_scan = true;
                    at += scan_len(&bytes[at..]).ok_or(END)?;
                }
                _ => {}
            }
        }
    }

    /// Precision, height, width, number of components.
    fn frame(&mut self, marker: u8, segment: &[u8]) -> Result<(), Fault> {
        let short = |at: usize| bytes_at(segment, at).map(u16::from_be_bytes);
        let (Some(height), Some(width), Some(&components)) = (short(1), short(3), segment.get(5)) else {
            return Err(Fault::Corrupt("a header"));
        };
        self.rare = self.rare.or(match (marker, segment[0]) {
            (0xC0..=0xC2, 8) => None,
            (0xC0..=0xC2, _) => Some("a 12-bit JPEG"),
            (0xF7, _) => Some("a JPEG-LS"),
            (0xC9..=0xCB | 0xCD.., _) => Some("an arithmetic-coded JPEG"),
            (0xC3, _) => Some("a lossless JPEG"),
            _ => Some("a hierarchical JPEG"),
        });
        let area = u64::from(width) * u64::from(height);
        if area == 0 || components == 0 {
            return Err(Fault::Corrupt("a header"));
        }
        self.area = self.area.max(area);
        self.frame.get_or_insert(Frame { width, height, components });
        Ok(())
    }
}

/// Length of the coded pixels that `bytes` begin with: up to a marker that is not one of theirs.
fn scan_len(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(0xFF, bytes).find(|at| match bytes.get(at + 1) {
        // A byte 0xFF of the data, a restart marker, a fill byte.
        Some(0x00 | 0xD0..=0xD7 | 0xFF) => false,
        next => next.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::samples::{JPEG, JPEG_CMYK, JPEG_GRAY, JPEG_PROGRESSIVE};
    use crate::picture::samples::{bytes, exif, jpeg_with};

    fn mode(base64: &str) -> Mode {
        let (header, fault) = read(&bytes(base64)).unwrap();
        assert_eq!(fault, None);
        header.unwrap().mode
    }

    #[test]
    fn the_mode_is_told_by_the_components() {
        assert_eq!((mode(JPEG), mode(JPEG_PROGRESSIVE)), (Mode::Rgb, Mode::Rgb));
        assert_eq!((mode(JPEG_GRAY), mode(JPEG_CMYK)), (Mode::Other("grayscale"), Mode::Other("CMYK")));
    }

    #[test]
    fn size_and_orientation_are_read() {
        let exif = [b"Exif\0\0", exif(6).as_slice()].concat();
        let (header, fault) = read(&jpeg_with(0xE1, &exif)).unwrap();
        let expected = Header { width: 16, height: 8, area: 128, mode: Mode::Rgb, frames: 1, orientation: 6 };
        assert_eq!((header, fault), (Some(expected), None));
    }

    #[test]
    fn an_end_marker_inside_a_thumbnail_is_not_the_end() {
        let exif = [b"Exif\0\0", exif(1).as_slice(), b"\xFF\xD8\xFF\xD9"].concat();
        let whole = jpeg_with(0xE1, &exif);
        assert_eq!(read(&whole).unwrap().1, None);
        assert_eq!(read(&whole[..whole.len() - 2]).unwrap().1, Some(Fault::NoEnd("EOI")));
    }

    #[test]
    fn no_cut_goes_unseen_and_what_follows_the_end_does_not_matter() {
        for base64 in [JPEG, JPEG_PROGRESSIVE, JPEG_CMYK] {
            let whole = bytes(base64);
            for end in 2..whole.len() {
                assert!(read(&whole[..end]).unwrap().1.is_some(), "{end}");
            }
            assert_eq!(read(&[whole, vec![0; 9]].concat()).unwrap().1, None);
        }
    }

    #[test]
    fn rare_kinds_are_named() {
        let with_marker = |marker: u8, precision: u8| {
            let mut bytes = bytes(JPEG);
            let at = memchr::memmem::find(&bytes, b"\xFF\xC0").unwrap();
            (bytes[at + 1], bytes[at + 4]) = (marker, precision);
            match read(&bytes) {
                Err(Content::Other { name, .. }) => name,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(with_marker(0xC3, 8), "a lossless JPEG");
        assert_eq!(with_marker(0xC9, 8), "an arithmetic-coded JPEG");
        assert_eq!(with_marker(0xC5, 8), "a hierarchical JPEG");
        assert_eq!(with_marker(0xC1, 12), "a 12-bit JPEG");
    }
}
