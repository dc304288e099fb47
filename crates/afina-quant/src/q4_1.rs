//! Q4_1: 32 values in 20 bytes: f16 scale `d`, f16 minimum `m`, then 16 bytes of two 4-bit numbers; value = d·q + m.
//! 5 bits a weight.
//!
//! Byte `j` holds value `j` in its low half and value `j + 16` in its high half.

use crate::{
    f16,
    nibbles::{pack, truncate_to_i8},
};

/// Values in a block.
pub const BLOCK: usize = 32;
/// Bytes of a block.
pub const BYTES: usize = 20;

/// Encodes whole blocks: m = min x, d = (max x − m) / 15, q = (x − m) / d + 0.5 cut to 0..=15.
///
/// Source: ggml's `quantize_row_q4_1_ref`: `d` and `m` divide and subtract in f32, before they are rounded to f16.
/// A value that is not finite gives a block without meaning.
///
/// # Panics
/// If `values` is not a number of whole blocks, or `bytes` not as many.
pub fn encode(values: &[f32], bytes: &mut [u8]) {
    assert_eq!(values.len() % BLOCK, 0, "q4_1 takes blocks of 32 values");
    assert_eq!(bytes.len(), values.len() / BLOCK * BYTES, "q4_1 takes 20 bytes a block");
    for (x, out) in values.chunks_exact(BLOCK).zip(bytes.chunks_exact_mut(BYTES)) {
        // Strict comparisons keep the first of 0.0 and -0.0, as ggml does.
        let min = x.iter().fold(f32::MAX, |min, value| if *value < min { *value } else { min });
        let max = x.iter().fold(f32::MIN, |max, value| if *value > max { *value } else { max });
        let d = (max - min) / 15.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        f16::write(d, out);
        f16::write(min, &mut out[2..]);
        let (low, high) = x.split_at(BLOCK / 2);
        for (q, (low, high)) in out[4..].iter_mut().zip(low.iter().zip(high)) {
            *q = pack(truncate_to_i8((low - min) * inverse + 0.5), truncate_to_i8((high - min) * inverse + 0.5));
        }
    }
}

/// Decodes whole blocks: value = d·q + m.
///
/// # Panics
/// If `bytes` is not a number of whole blocks, or `values` not as many.
pub fn decode(bytes: &[u8], values: &mut [f32]) {
    assert_eq!(values.len() % BLOCK, 0, "q4_1 gives blocks of 32 values");
    assert_eq!(bytes.len(), values.len() / BLOCK * BYTES, "q4_1 takes 20 bytes a block");
    for (block, y) in bytes.chunks_exact(BYTES).zip(values.chunks_exact_mut(BLOCK)) {
        let d = f16::read(block);
        let m = f16::read(&block[2..]);
        let (low, high) = y.split_at_mut(BLOCK / 2);
        for (q, (low, high)) in block[4..].iter().zip(low.iter_mut().zip(high)) {
            *low = f32::from(q & 15) * d + m;
            *high = f32::from(q >> 4) * d + m;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_ggml_on_edges_and_random_values() {
        crate::nibbles::golden::check("q4_1", BLOCK, BYTES, encode, decode);
    }
}
