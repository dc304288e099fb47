//! The orientation in EXIF data: a TIFF header and its first directory.

const ORIENTATION: u16 = 0x0112;

/// The orientation that `exif` (from `II` or `MM` on, or from `Exif\0\0` on) names: 1, as stored, where it names none.
pub(super) fn orientation(exif: &[u8]) -> u8 {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    find(tiff).filter(|value| (1..=8).contains(value)).map_or(1, |value| value as u8)
}

fn find(tiff: &[u8]) -> Option<u16> {
    let little = match tiff.first_chunk()? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = super::bytes_at(tiff, at)?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes = super::bytes_at(tiff, at)?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let directory = long(4)? as usize;
    let entries = short(directory)?;
    // Tag, type, number of values, value: 12 bytes each.
    let entry = |index: u16| directory.checked_add(2 + usize::from(index) * 12);
    let at = (0..entries).map_while(entry).find(|at| short(*at) == Some(ORIENTATION))?;
    short(at + 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::samples::exif;

    #[test]
    fn the_orientation_is_found_in_both_byte_orders() {
        assert_eq!(orientation(&exif(6)), 6);
        assert_eq!(orientation(&[b"Exif\0\0", exif(8).as_slice()].concat()), 8);
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0";
        assert_eq!(orientation(big), 3);
    }

    #[test]
    fn what_is_broken_or_out_of_range_counts_as_upright() {
        assert_eq!([orientation(&exif(1)), orientation(&exif(0)), orientation(&exif(9))], [1, 1, 1]);
        let whole = exif(6);
        for end in 0..whole.len() - 6 {
            assert_eq!(orientation(&whole[..end]), 1, "{end}");
        }
        assert_eq!(orientation(b"II*\0\xFF\xFF\xFF\xFF\xFF\xFF"), 1);
    }
}
