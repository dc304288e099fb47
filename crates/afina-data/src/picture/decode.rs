//! Pixels decoded and thrown away: whether they are all there.

use std::{io::Cursor, panic::AssertUnwindSafe};

use image::{
    ImageDecoder, ImageError, ImageResult, Limits,
    codecs::{jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder},
};

use super::{Fault, Format, MAX_PIXELS};

/// Memory that a decoder may take beside what the pixels need.
const SPARE_BYTES: u64 = 64 << 20;

/// Decodes the first frame into `pixels`. `area`: pixels that the header promises.
///
/// What a decoder does not support is no fault of the image.
pub(super) fn decode(format: Format, bytes: &[u8], area: u64, pixels: &mut Vec<u8>) -> Option<Fault> {
    let mut limits = Limits::no_limits();
    // Up to four samples of two bytes a pixel, once decoded and once on the way.
    limits.max_alloc = Some(area * 16 + SPARE_BYTES);
    let decode = || match format {
        Format::Jpeg => JpegDecoder::new(Cursor::new(bytes)).and_then(|decoder| read(decoder, limits, pixels)),
        Format::Png => PngDecoder::with_limits(Cursor::new(bytes), limits.clone())
            .and_then(|decoder| read(decoder, limits, pixels)),
        Format::Webp => WebPDecoder::new(Cursor::new(bytes)).and_then(|decoder| read(decoder, limits, pixels)),
    };
    // The bytes are anybody's: should a decoder trip over them, they are at fault, and the file is read on.
    match std::panic::catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(()) | Err(ImageError::Unsupported(_) | ImageError::Limits(_))) => None,
        Ok(Err(_)) | Err(_) => Some(Fault::Corrupt("pixels")),
    }
}

fn read(mut decoder: impl ImageDecoder, limits: Limits, pixels: &mut Vec<u8>) -> ImageResult<()> {
    let (width, height) = decoder.dimensions();
    // The decoder read another size than the header says: nothing is known of it, and it may be too large.
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Ok(());
    }
    decoder.set_limits(limits)?;
    pixels.resize(decoder.total_bytes() as usize, 0);
    decoder.read_image(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        picture::samples::{self, bytes, png},
        testing::Random,
    };

    fn check(format: Format, bytes: &[u8]) -> Option<Fault> {
        decode(format, bytes, 1000, &mut Vec::new())
    }

    #[test]
    fn whole_images_of_every_kind_are_decoded() {
        for (format, base64) in samples::ALL {
            assert_eq!(check(format, &bytes(base64)), None, "{base64}");
        }
        for (bits, color) in [(8, 2), (8, 6), (8, 3), (1, 3), (1, 0), (2, 0), (16, 0), (8, 4), (16, 6)] {
            assert_eq!(check(Format::Png, &png(3, 2, bits, color)), None, "{bits} {color}");
        }
    }

    #[test]
    fn missing_and_damaged_pixels_are_found() {
        let whole = png(30, 20, 8, 2);
        let mut damaged = whole.clone();
        damaged[100] ^= 1;
        assert_eq!(check(Format::Png, &damaged), Some(Fault::Corrupt("pixels")));
        assert_eq!(check(Format::Png, &whole[..900]), Some(Fault::Corrupt("pixels")));
        let lossless = bytes(samples::WEBP_LOSSLESS);
        assert_eq!(check(Format::Webp, &lossless[..lossless.len() - 8]), Some(Fault::Corrupt("pixels")));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut seeds: Vec<Vec<u8>> = samples::ALL.iter().map(|(_, base64)| bytes(base64)).collect();
        seeds.extend([png(30, 20, 8, 2), png(5, 4, 8, 3), png(9, 2, 1, 0), samples::webp_with_exif(&samples::exif(6))]);
        let mut random = Random(5);
        let (mut faults, mut pixels) = (0, Vec::new());
        for round in 0..6000 {
            let mut bytes = seeds[round % seeds.len()].clone();
            for _ in 0..1 + random.below(4) {
                let at = random.below(bytes.len());
                match random.below(8) {
                    0 => bytes.truncate(at.max(1)),
                    1 => drop(bytes.splice(at..at, [0xFF, random.below(256) as u8])),
                    2 => drop(bytes.drain(at..(at + 3).min(bytes.len() - 1).max(at))),
                    _ => bytes[at] = [0, 0xFF, 0x7F, random.below(256) as u8][random.below(4)],
                }
            }
            if let crate::picture::Content::Image { fault: Some(_), .. } = crate::picture::content(&bytes, &mut pixels)
            {
                faults += 1;
            }
        }
        assert!(faults > 1000, "{faults}");
    }
}
