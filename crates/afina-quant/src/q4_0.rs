//! Q4_0: 32 values in 18 bytes: an f16 scale `d`, then 16 bytes of two 4-bit numbers; value = d·(q − 8). 4.5 bits a weight.
//!
//! Byte `j` holds value `j` in its low half and value `j + 16` in its high half.

use crate::{
    f16,
    nibbles::{pack, truncate_to_i8},
};

/// Values in a block.
pub const BLOCK: usize = 32;
/// Bytes of a block.
pub const BYTES: usize = 18;

/// Encodes whole blocks: d = (the value of largest magnitude, with its sign) / −8, q = x / d + 8.5 cut to 0..=15.
///
/// Source: ggml's `quantize_row_q4_0_ref`; the first of equal magnitudes gives the sign.
/// A value that is not finite gives a block without meaning.
///
/// # Panics
/// If `values` is not a number of whole blocks, or `bytes` not as many.
pub fn encode(values: &[f32], bytes: &mut [u8]) {
    assert_eq!(values.len() % BLOCK, 0, "q4_0 takes blocks of 32 values");
    assert_eq!(bytes.len(), values.len() / BLOCK * BYTES, "q4_0 takes 18 bytes a block");
    for (x, out) in values.chunks_exact(BLOCK).zip(bytes.chunks_exact_mut(BYTES)) {
        let largest = x.iter().fold(0.0_f32, |max, value| if max.abs() < value.abs() { *value } else { max });
        let d = largest / -8.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        f16::write(d, out);
        let (low, high) = x.split_at(BLOCK / 2);
        for (q, (low, high)) in out[2..].iter_mut().zip(low.iter().zip(high)) {
            *q = pack(truncate_to_i8(low * inverse + 8.5), truncate_to_i8(high * inverse + 8.5));
        }
    }
}

/// Decodes whole blocks: value = d·(q − 8).
///
/// # Panics
/// If `bytes` is not a number of whole blocks, or `values` not as many.
pub fn decode(bytes: &[u8], values: &mut [f32]) {
    assert_eq!(values.len() % BLOCK, 0, "q4_0 gives blocks of 32 values");
    assert_eq!(bytes.len(), values.len() / BLOCK * BYTES, "q4_0 takes 18 bytes a block");
    for (block, y) in bytes.chunks_exact(BYTES).zip(values.chunks_exact_mut(BLOCK)) {
        let d = f16::read(block);
        let (low, high) = y.split_at_mut(BLOCK / 2);
        for (q, (low, high)) in block[2..].iter().zip(low.iter_mut().zip(high)) {
            *low = f32::from((q & 15) as i8 - 8) * d;
            *high = f32::from((q >> 4) as i8 - 8) * d;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_ggml_on_edges_and_random_values() {
        crate::nibbles::golden::check("q4_0", BLOCK, BYTES, encode, decode);
    }
}
