//! Numbers of five bits, 32 of them in 20 bytes: the fifth bits as a little-endian u32, then the low halves in pairs.

/// Packs numbers of five bits; what is above those is dropped.
#[inline(always)]
pub(crate) fn pack(q: &[u8; 32], out: &mut [u8]) {
    let mut high = 0;
    for (j, q) in q.iter().enumerate() {
        high |= ((u32::from(*q) >> 4) & 1) << j;
    }
    out[..4].copy_from_slice(&high.to_le_bytes());
    for (j, out) in out[4..20].iter_mut().enumerate() {
        *out = (q[j] & 15) | (q[j + 16] << 4);
    }
}

#[inline(always)]
pub(crate) fn unpack(bytes: &[u8]) -> [u8; 32] {
    let high = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let mut q = [0; 32];
    for j in 0..16 {
        q[j] = (bytes[4 + j] & 15) | (((high >> j) & 1) << 4) as u8;
        q[j + 16] = (bytes[4 + j] >> 4) | (((high >> (j + 16)) & 1) << 4) as u8;
    }
    q
}
