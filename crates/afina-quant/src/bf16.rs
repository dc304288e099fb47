//! Brain floating point: the upper half of an f32, rounded half to even.

use half::bf16;

/// Values in a block.
pub const BLOCK: usize = 1;
/// Bytes of a block.
pub const BYTES: usize = 2;

/// Rounds each value to the nearest bf16.
///
/// # Panics
/// If `bytes` does not have two bytes for each value.
pub fn encode(values: &[f32], bytes: &mut [u8]) {
    assert_eq!(bytes.len(), values.len() * BYTES, "bf16 takes two bytes a value");
    for (value, out) in values.iter().zip(bytes.chunks_exact_mut(BYTES)) {
        out.copy_from_slice(&bf16::from_f32(*value).to_le_bytes());
    }
}

/// Widens each bf16; nothing is lost.
///
/// # Panics
/// If `bytes` does not have two bytes for each value.
pub fn decode(bytes: &[u8], values: &mut [f32]) {
    assert_eq!(bytes.len(), values.len() * BYTES, "bf16 takes two bytes a value");
    for (brain, out) in bytes.chunks_exact(BYTES).zip(values) {
        *out = bf16::from_le_bytes([brain[0], brain[1]]).to_f32();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_ggml_on_edges_and_random_values() {
        crate::nibbles::golden::check("bf16", BLOCK, BYTES, encode, decode);
    }
}
