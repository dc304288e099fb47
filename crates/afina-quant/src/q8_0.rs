//! Q8_0: 32 values in 34 bytes: an f16 scale `d`, then 32 signed bytes; value = d·q. 8.5 bits a weight.

use crate::{f16, nibbles::truncate_to_i8};

/// Values in a block.
pub const BLOCK: usize = 32;
/// Bytes of a block.
pub const BYTES: usize = 34;

/// Encodes whole blocks: d = max |x| / 127, q = x / d rounded half away from zero.
///
/// The quotient is taken with `d` in f32, before it is rounded to f16, as ggml's `quantize_row_q8_0_ref` does.
/// A value that is not finite gives a block without meaning.
///
/// # Panics
/// If `values` is not a number of whole blocks, or `bytes` not as many.
pub fn encode(values: &[f32], bytes: &mut [u8]) {
    assert_eq!(values.len() % BLOCK, 0, "q8_0 takes blocks of 32 values");
    assert_eq!(bytes.len(), values.len() / BLOCK * BYTES, "q8_0 takes 34 bytes a block");
    for (x, out) in values.chunks_exact(BLOCK).zip(bytes.chunks_exact_mut(BYTES)) {
        let amax = x.iter().fold(0.0_f32, |amax, value| amax.max(value.abs()));
        let d = amax / 127.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        f16::write(d, out);
        for (q, value) in out[2..].iter_mut().zip(x) {
            *q = truncate_to_i8((value * inverse).round()) as u8;
        }
    }
}

/// Decodes whole blocks: value = d·q.
///
/// # Panics
/// If `bytes` is not a number of whole blocks, or `values` not as many.
pub fn decode(bytes: &[u8], values: &mut [f32]) {
    assert_eq!(values.len() % BLOCK, 0, "q8_0 gives blocks of 32 values");
    assert_eq!(bytes.len(), values.len() / BLOCK * BYTES, "q8_0 takes 34 bytes a block");
    for (block, y) in bytes.chunks_exact(BYTES).zip(values.chunks_exact_mut(BLOCK)) {
        let d = f16::read(block);
        for (value, q) in y.iter_mut().zip(&block[2..]) {
            *value = f32::from(*q as i8) * d;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_ggml_on_edges_and_random_values() {
        crate::nibbles::golden::check("q8_0", BLOCK, BYTES, encode, decode);
    }
}
