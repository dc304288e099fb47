//! NF4: four bits that choose one of sixteen numbers between −1 and 1, and an f32 for each 64 values that they are
//! multiplied with: bitsandbytes' format of QLoRA. 4.5 bits a weight; 4.127 where the scales take eight bits ([`nest`]).
//!
//! Numbers and scales are two tensors, not blocks of bytes, and a tensor is one run of values: a block goes on in the next
//! row. Of two values, the first has the high half of the byte.

use rayon::prelude::*;

use crate::{
    blocks::all_finite,
    dynamic_map,
    format::FormatError,
    lanes::{self, Lanes, Level, Work},
};

/// Values in a block, where nothing else is said.
pub const BLOCK: usize = 64;

/// The block sizes that bitsandbytes knows.
pub const BLOCKS: [usize; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/// The sixteen numbers: quantiles of the normal distribution, with −1, 0 and 1 among them.
pub const CODE: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Magnitudes are not divided by less than this.
const SMALLEST: f32 = 1e-38;

/// Bytes of so many values.
pub fn packed_len(values: usize) -> usize {
    values.div_ceil(2)
}

/// Blocks of so many values, the last of which may be shorter.
pub fn blocks(values: usize, block: usize) -> usize {
    values.div_ceil(block)
}

/// Encodes finite values on all threads of the rayon pool: in each block the largest magnitude, and for each value the
/// nearest number of [`CODE`] to value / magnitude, the lower one of a tie.
///
/// Source: bitsandbytes 0.50.2's `quantize_4bit` on the CPU: a whole block is multiplied with 1 / magnitude, a shorter one
/// at the end is divided; the half of a last byte that no value has is 7, which stands for 0.
///
/// # Panics
/// If `block` is none of [`BLOCKS`], or the lengths are not [`packed_len`] and [`blocks`].
pub fn encode(values: &[f32], block: usize, packed: &mut [u8], absmax: &mut [f32]) -> Result<(), FormatError> {
    assert_sizes(values.len(), block, packed.len(), absmax.len());
    let level = Level::detect();
    let blocks = PIECE / block;
    let pieces = values.par_chunks(PIECE).zip(packed.par_chunks_mut(PIECE / 2)).zip(absmax.par_chunks_mut(blocks));
    let finite = pieces
        .map(|((values, packed), absmax)| lanes::run(level, Encode { values, block, packed, absmax }))
        .reduce(|| true, |a, b| a & b);
    if finite {
        return Ok(());
    }
    let index = values.iter().position(|value| !value.is_finite()).expect("one was seen");
    Err(FormatError::NotFinite { index, value: values[index] })
}

/// Values that a thread takes at once: whole blocks of every size.
const PIECE: usize = 16 * 1024;

struct Encode<'a> {
    values: &'a [f32],
    block: usize,
    packed: &'a mut [u8],
    absmax: &'a mut [f32],
}

impl Work for Encode<'_> {
    /// Whether all values were finite.
    type Output = bool;

    #[inline(always)]
    fn run<L: Lanes>(self) -> bool {
        if !all_finite(self.values) {
            return false;
        }
        let packed = self.packed.chunks_mut(self.block / 2);
        for ((values, packed), absmax) in self.values.chunks(self.block).zip(packed).zip(self.absmax) {
            let mut largest = 0;
            for value in values {
                largest = largest.max(value.to_bits() & 0x7FFF_FFFF);
            }
            *absmax = f32::from_bits(largest);
            if values.len() < self.block {
                *absmax = absmax.max(SMALLEST);
                encode_shorter_block(values, *absmax, packed);
                continue;
            }
            let inverse = L::splat(1.0 / absmax.max(SMALLEST));
            for (values, packed) in values.as_chunks::<16>().0.iter().zip(packed.as_chunks_mut::<8>().0) {
                let x = L::mul(L::load(values), inverse);
                let mut number = L::splat(0.0);
                for pair in CODE.windows(2) {
                    let above = L::less(L::splat((pair[0] + pair[1]) / 2.0), x);
                    number = L::select(above, L::add(number, L::splat(1.0)), number);
                }
                let numbers = L::bytes(number);
                for (byte, pair) in packed.iter_mut().zip(numbers.as_chunks::<2>().0) {
                    *byte = (pair[0] << 4) | pair[1];
                }
            }
        }
        true
    }
}

fn encode_shorter_block(values: &[f32], absmax: f32, packed: &mut [u8]) {
    let number = |value: f32| CODE.windows(2).filter(|pair| (pair[0] + pair[1]) / 2.0 < value).count() as u8;
    for (byte, pair) in packed.iter_mut().zip(values.chunks(2)) {
        let second = pair.get(1).map_or(0.0, |value| value / absmax);
        *byte = (number(pair[0] / absmax) << 4) | number(second);
    }
}

/// Decodes on all threads of the rayon pool: the number of [`CODE`] times the block's magnitude, in f32.
///
/// # Panics
/// If `block` is none of [`BLOCKS`], or the lengths are not [`packed_len`] and [`blocks`].
pub fn decode(packed: &[u8], absmax: &[f32], block: usize, values: &mut [f32]) {
    assert_sizes(values.len(), block, packed.len(), absmax.len());
    let blocks = values.par_chunks_mut(block).zip(packed.par_chunks(block / 2)).zip(absmax);
    blocks.with_min_len(PIECE / block).for_each(|((values, packed), absmax)| {
        let scaled = CODE.map(|number| number * absmax);
        for (pair, byte) in values.chunks_mut(2).zip(packed) {
            pair[0] = scaled[usize::from(byte >> 4)];
            if let Some(second) = pair.get_mut(1) {
                *second = scaled[usize::from(byte & 15)];
            }
        }
    });
}

fn assert_sizes(values: usize, block: usize, packed: usize, absmax: usize) {
    assert!(BLOCKS.contains(&block), "nf4 has blocks of {BLOCKS:?} values");
    assert_eq!(packed, packed_len(values), "nf4 has a byte for two values");
    assert_eq!(absmax, blocks(values, block), "nf4 has a scale for each block");
}

/// The offset that [`nest`] takes away from scales: their mean.
///
/// bitsandbytes takes `torch.mean`, whose last bits depend on the processor and the number of threads; this is the exact
/// mean, rounded once. A checkpoint brings the offset it was made with (`nested_offset`).
pub fn offset(absmax: &[f32]) -> f32 {
    let sum: f64 = absmax.iter().map(|scale| f64::from(*scale)).sum();
    if absmax.is_empty() { 0.0 } else { (sum / absmax.len() as f64) as f32 }
}

/// Encodes scales in eight bits ("double quantization"): less the offset, in blocks of 256 of the
/// [`dynamic_map`](crate::dynamic_map).
///
/// # Panics
/// If there is not one byte for each scale and one `nested_absmax` for each 256.
pub fn nest(absmax: &[f32], offset: f32, bytes: &mut [u8], nested_absmax: &mut [f32]) {
    let centred: Vec<f32> = absmax.iter().map(|scale| scale - offset).collect();
    dynamic_map::encode(&centred, &dynamic_map::map(), bytes, nested_absmax);
}

/// Decodes scales that take eight bits, with the map that the checkpoint brings.
///
/// # Panics
/// If there is not one byte for each scale and one `nested_absmax` for each 256.
pub fn unnest(bytes: &[u8], map: &[f32; 256], nested_absmax: &[f32], offset: f32, absmax: &mut [f32]) {
    dynamic_map::decode(bytes, map, nested_absmax, absmax);
    for scale in absmax {
        *scale += offset;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{floats, fnv, hex, nf4_lines, to_bytes, unhex};

    #[test]
    fn equals_bitsandbytes_on_edges_and_random_values() {
        let lines = nf4_lines("nf4");
        assert!(lines.len() >= 14, "only {} golden lines", lines.len());
        for (columns, values) in lines {
            let block = columns[5].parse().unwrap();
            let mut packed = vec![0; packed_len(values.len())];
            let mut absmax = vec![0.0; blocks(values.len(), block)];
            encode(&values, block, &mut packed, &mut absmax).unwrap();
            assert_eq!(
                (hex(&packed).as_str(), hex(&to_bytes(&absmax)).as_str()),
                (columns[6], columns[7]),
                "{columns:?}"
            );
            let mut decoded = vec![0.0; values.len()];
            decode(&packed, &absmax, block, &mut decoded);
            assert_eq!(format!("{:016x}", fnv(&to_bytes(&decoded))), columns[8], "{columns:?}");
        }
    }

    #[test]
    fn every_level_of_the_processor_gives_the_same_numbers() {
        for (columns, values) in nf4_lines("nf4") {
            let block = columns[5].parse().unwrap();
            for level in Level::available() {
                let mut packed = vec![0; packed_len(values.len())];
                let mut absmax = vec![0.0; blocks(values.len(), block)];
                let work = Encode { values: &values, block, packed: &mut packed, absmax: &mut absmax };
                assert!(lanes::run(*level, work));
                assert_eq!(hex(&packed), columns[6], "{columns:?} at {level:?}");
            }
        }
    }

    #[test]
    fn scales_in_eight_bits_equal_bitsandbytes() {
        let lines = nf4_lines("nest");
        assert!(lines.len() >= 5, "only {} golden lines", lines.len());
        for (columns, scales) in lines {
            let offset_expected = floats(&unhex(columns[5]))[0];
            assert_eq!(offset(&scales), offset_expected, "{columns:?}");
            let mut bytes = vec![0; scales.len()];
            let mut nested = vec![0.0; blocks(scales.len(), dynamic_map::BLOCK)];
            nest(&scales, offset_expected, &mut bytes, &mut nested);
            assert_eq!(
                (hex(&bytes).as_str(), hex(&to_bytes(&nested)).as_str()),
                (columns[6], columns[7]),
                "{columns:?}"
            );
            let mut decoded = vec![0.0; scales.len()];
            unnest(&bytes, &dynamic_map::map(), &nested, offset_expected, &mut decoded);
            assert_eq!(format!("{:016x}", fnv(&to_bytes(&decoded))), columns[8], "{columns:?}");
        }
    }

    #[test]
    fn a_value_that_is_not_finite_is_refused_by_its_index() {
        let mut values = vec![0.5; 40_000];
        values[33_333] = f32::NEG_INFINITY;
        values[39_999] = f32::NAN;
        let mut absmax = vec![0.0; blocks(values.len(), BLOCK)];
        let error = encode(&values, BLOCK, &mut [0; 20_000], &mut absmax).unwrap_err();
        assert!(matches!(error, FormatError::NotFinite { index: 33_333, .. }), "{error}");
    }
}
