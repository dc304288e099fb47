//! IEEE half precision: one value in two bytes, rounded half to even.

use half::f16;

/// Values in a block.
pub const BLOCK: usize = 1;
/// Bytes of a block.
pub const BYTES: usize = 2;

/// Rounds each value to the nearest half; what is too large becomes an infinity.
///
/// # Panics
/// If `bytes` does not have two bytes for each value.
pub fn encode(values: &[f32], bytes: &mut [u8]) {
    assert_eq!(bytes.len(), values.len() * BYTES, "f16 takes two bytes a value");
    for (value, out) in values.iter().zip(bytes.chunks_exact_mut(BYTES)) {
        out.copy_from_slice(&f16::from_f32(*value).to_le_bytes());
    }
}

/// Widens each half; nothing is lost.
///
/// # Panics
/// If `bytes` does not have two bytes for each value.
pub fn decode(bytes: &[u8], values: &mut [f32]) {
    assert_eq!(bytes.len(), values.len() * BYTES, "f16 takes two bytes a value");
    for (half, out) in bytes.chunks_exact(BYTES).zip(values) {
        *out = read(half);
    }
}

/// The half in the first two bytes, as the block formats store their scales.
pub(crate) fn read(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Stores `value` as a half in the first two bytes.
pub(crate) fn write(value: f32, bytes: &mut [u8]) {
    bytes[..BYTES].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_ggml_on_edges_and_random_values() {
        crate::nibbles::golden::check("f16", BLOCK, BYTES, encode, decode);
    }
}
