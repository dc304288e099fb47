//! Numbers of five bits, 32 of them in 20 bytes: the fifth bits as a little-endian u32, then the low halves in pairs.

/// Packs the first and the last sixteen numbers of a block, each cut at `most`; what is above five bits is dropped.
#[inline(always)]
pub(crate) fn pack(mut first: [i8; 16], mut last: [i8; 16], most: i8, out: &mut [u8]) {
    for (first, last) in first.iter_mut().zip(&mut last) {
        *first = (*first).min(most);
        *last = (*last).min(most);
    }
    let high = fifth_bits(&first) | (fifth_bits(&last) << 16);
    out[..4].copy_from_slice(&high.to_le_bytes());
    for (out, (first, last)) in out[4..20].iter_mut().zip(first.iter().zip(&last)) {
        *out = (*first as u8 & 15) | ((*last as u8) << 4);
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fifth_bits(q: &[i8; 16]) -> u32 {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is part of x86-64, and sixteen bytes are read from sixteen.
    unsafe { _mm_movemask_epi8(_mm_slli_epi16::<3>(_mm_loadu_si128(q.as_ptr().cast()))) as u32 }
}

#[cfg(not(target_arch = "x86_64"))]
fn fifth_bits(q: &[i8; 16]) -> u32 {
    q.iter().enumerate().fold(0, |bits, (j, q)| bits | (((*q as u32 >> 4) & 1) << j))
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
