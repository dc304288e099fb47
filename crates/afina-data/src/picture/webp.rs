//! The chunks of a WEBP. Its pixels are always RGB or RGBA. Source: RFC 9649.

use super::{Fault, Header, Mode, bytes_at, exif};

const CORRUPT: Fault = Fault::Corrupt("a header");

/// Header and fault of a file that begins like a WEBP.
pub(super) fn read(bytes: &[u8]) -> (Option<Header>, Option<Fault>) {
    let (Some(len), Some(_)) = (bytes_at(bytes, 4), bytes_at::<4>(bytes, 8)) else {
        return (None, Some(Fault::Ends("its header")));
    };
    let end = 8 + u32::from_le_bytes(len) as usize;
    let mut walk = Walk::default();
    let fault = walk.chunks(&bytes[..end.min(bytes.len())], 12).err();
    let mode = if walk.alpha { Mode::Rgba } else { Mode::Rgb };
    let header = walk.size.map(|(width, height)| Header {
        width,
        height,
        area: walk.area,
        mode,
        frames: if walk.animated { walk.frames.max(1) } else { 1 },
        orientation: walk.orientation,
    });
    let fault = fault.or((end > bytes.len()).then_some(Fault::Ends("its pixel data")));
    (header, fault.or(header.is_none().then_some(CORRUPT)))
}

struct Walk {
    /// Of the canvas, or of the image where there is none.
    size: Option<(u32, u32)>,
    /// Of the canvas or the largest image on it: the decoder makes room for both.
    area: u64,
    alpha: bool,
    animated: bool,
    frames: u32,
    orientation: u8,
}

impl Default for Walk {
    fn default() -> Walk {
        Walk { size: None, area: 0, alpha: false, animated: false, frames: 0, orientation: 1 }
    }
}

impl Walk {
    fn chunks(&mut self, bytes: &[u8], mut at: usize) -> Result<(), Fault> {
        while at < bytes.len() {
            let (Some(kind), Some(len)) = (bytes_at(bytes, at), bytes_at(bytes, at + 4)) else {
                // Fewer bytes than a chunk has: padding.
                return Ok(());
            };
            let len = u32::from_le_bytes(len) as usize;
            let data = bytes.get(at + 8..).unwrap_or_default();
            let whole = data.get(..len);
            self.chunk(&kind, whole.unwrap_or(data))?;
            if whole.is_none() {
                let is_pixels = matches!(&kind, b"VP8 " | b"VP8L" | b"ALPH" | b"ANMF");
                return Err(Fault::Ends(if is_pixels { "its pixel data" } else { "its metadata" }));
            }
            at += 8 + len + len % 2;
        }
        Ok(())
    }

    fn chunk(&mut self, kind: &[u8; 4], data: &[u8]) -> Result<(), Fault> {
        match kind {
            // Flags, three bytes, width - 1 and height - 1 of the canvas.
            b"VP8X" => {
                let size = (long24(data, 4).ok_or(CORRUPT)? + 1, long24(data, 7).ok_or(CORRUPT)? + 1);
                self.alpha |= data[0] & 0x10 != 0;
                self.animated = data[0] & 0x02 != 0;
                self.add_size(size);
            }
            // Frame tag, start code, width and height of 14 bits and a scale.
            b"VP8 " => {
                let (Some(_), Some(width), Some(height)) =
                    (bytes_at::<6>(data, 0), bytes_at(data, 6), bytes_at(data, 8))
                else {
                    return Err(Fault::Ends("its header"));
                };
                if data[3..6] != [0x9D, 0x01, 0x2A] {
                    return Err(CORRUPT);
                }
                let pixels = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3FFF);
                self.add_size((pixels(width), pixels(height)));
            }
            // Signature, width - 1 and height - 1 of 14 bits, alpha.
            b"VP8L" => {
                let Some(bits) = bytes_at(data, 1).map(u32::from_le_bytes) else {
                    return Err(Fault::Ends("its header"));
                };
                if data[0] != 0x2F {
                    return Err(CORRUPT);
                }
                self.alpha |= bits >> 28 & 1 == 1;
                self.add_size(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1));
            }
            // Place, width - 1 and height - 1, duration, flags; then the chunks of the frame.
            b"ANMF" => {
                self.frames += 1;
                let size = (long24(data, 6).ok_or(CORRUPT)? + 1, long24(data, 9).ok_or(CORRUPT)? + 1);
                self.add_size(size);
                let frame = self.frames;
                self.chunks(data, 16)?;
                if self.frames > frame {
                    return Err(Fault::Corrupt("a frame inside a frame"));
                }
            }
            b"EXIF" => self.orientation = exif::orientation(data),
            _ => {}
        }
        Ok(())
    }

    fn add_size(&mut self, (width, height): (u32, u32)) {
        self.size.get_or_insert((width, height));
        self.area = self.area.max(u64::from(width) * u64::from(height));
    }
}

fn long24(data: &[u8], at: usize) -> Option<u32> {
    let [low, middle, high] = bytes_at(data, at)?;
    Some(u32::from_le_bytes([low, middle, high, 0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::samples::{WEBP, WEBP_ANIMATED, WEBP_LOSSLESS, bytes, exif, webp_with_exif};

    #[test]
    fn headers_of_all_three_kinds_are_read() {
        let header = |mode, frames| Header { width: 16, height: 8, area: 128, mode, frames, orientation: 1 };
        assert_eq!(read(&bytes(WEBP)), (Some(header(Mode::Rgb, 1)), None));
        assert_eq!(read(&bytes(WEBP_LOSSLESS)), (Some(header(Mode::Rgba, 1)), None));
        assert_eq!(read(&bytes(WEBP_ANIMATED)), (Some(header(Mode::Rgb, 2)), None));
        assert_eq!(read(&webp_with_exif(&exif(8))).0.unwrap().orientation, 8);
    }

    #[test]
    fn no_cut_goes_unseen_and_what_follows_the_end_does_not_matter() {
        for base64 in [WEBP, WEBP_LOSSLESS, WEBP_ANIMATED] {
            let whole = bytes(base64);
            for end in 4..whole.len() {
                assert!(read(&whole[..end]).1.is_some(), "{end}");
            }
            assert_eq!(read(&[whole, vec![0; 9]].concat()).1, None);
        }
    }

    #[test]
    fn a_large_image_on_a_small_canvas_counts_as_large() {
        let mut whole = webp_with_exif(&exif(1));
        let at = memchr::memmem::find(&whole, b"\x9D\x01\x2A").unwrap() + 3;
        whole[at..at + 4].copy_from_slice(&[0xFF, 0x3F, 0xFF, 0x3F]);
        let header = read(&whole).0.unwrap();
        assert_eq!((header.width, header.area), (16, 16383 * 16383));
    }
}
