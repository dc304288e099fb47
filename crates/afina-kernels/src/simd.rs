//! Vectors of sixteen floats, as every level has them.

/// Sixteen floats, and the size of the tile of outputs that the registers hold: `ROWS` × `PANELS` of them.
pub(crate) trait Simd: Copy {
    type V: Copy;
    const ROWS: usize;
    const PANELS: usize;

    fn zero() -> Self::V;
    fn splat(x: f32) -> Self::V;
    fn add(a: Self::V, b: Self::V) -> Self::V;
    fn sub(a: Self::V, b: Self::V) -> Self::V;
    fn mul(a: Self::V, b: Self::V) -> Self::V;
    fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a` where it is larger, else `b`: `b` where either is not a number.
    fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `a` where it is smaller, else `b`.
    fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `then` where `x` is less than `limit`, else `other`.
    fn select_less(x: Self::V, limit: Self::V, then: Self::V, other: Self::V) -> Self::V;
    /// The float whose bits are those of `x` shifted 23 to the left, plus those of 1: 2 to the integer in the low bits of `x`.
    fn power_of_two(x: Self::V) -> Self::V;
    /// `a · b + c`, rounded once where the processor can.
    fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a.0 · b.0 + a.1 · b.1 + c` of pairs of bf16, the first of a pair in the low half; `b` is sixteen pairs.
    ///
    /// # Safety
    /// Sixteen pairs can be read at `b`.
    unsafe fn mul_add_pairs(a: u32, b: *const u32, c: Self::V) -> Self::V;
    fn sum(v: Self::V) -> f32;
    /// Sixteen rows of sixteen become columns.
    #[inline(always)]
    fn transpose(from: &[f32; 256], to: &mut [f32; 256]) {
        for row in 0..16 {
            for column in 0..16 {
                to[column * 16 + row] = from[row * 16 + column];
            }
        }
    }
    /// # Safety
    /// Sixteen floats can be read at `p`.
    unsafe fn load(p: *const f32) -> Self::V;
    /// # Safety
    /// Sixteen floats can be written at `p`.
    unsafe fn store(p: *mut f32, v: Self::V);

    /// The first sixteen.
    #[inline(always)]
    fn of(lanes: &[f32]) -> Self::V {
        let lanes: &[f32; 16] = lanes.first_chunk().expect("sixteen lanes");
        // SAFETY: there are sixteen.
        unsafe { Self::load(lanes.as_ptr()) }
    }

    /// Into the first sixteen.
    #[inline(always)]
    fn put(v: Self::V, lanes: &mut [f32]) {
        let lanes: &mut [f32; 16] = lanes.first_chunk_mut().expect("sixteen lanes");
        // SAFETY: there are sixteen.
        unsafe { Self::store(lanes.as_mut_ptr(), v) };
    }

    #[inline(always)]
    fn to_lanes(v: Self::V) -> [f32; 16] {
        let mut lanes = [0.0; 16];
        // SAFETY: there are sixteen.
        unsafe { Self::store(lanes.as_mut_ptr(), v) };
        lanes
    }

    /// Rounds to bf16, to nearest, ties to even: `low` into the low halves of sixteen words, `high` into the high halves.
    #[inline(always)]
    fn round_pairs(low: Self::V, high: Self::V, to: &mut [u32; 16]) {
        let (low, high) = (Self::to_lanes(low), Self::to_lanes(high));
        for lane in 0..16 {
            to[lane] = rounded(low[lane]) >> 16 | rounded(high[lane]);
        }
    }
}

/// The bits of the nearest bf16, ties to even, in the high half of a word. Infinities stay, and what is not a number stays none.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000;
    if x.is_nan() { 0x7FC0_0000 } else { rounded }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    type V = [f32; 16];
    const ROWS: usize = 2;
    const PANELS: usize = 1;

    #[inline(always)]
    fn zero() -> [f32; 16] {
        [0.0; 16]
    }

    #[inline(always)]
    fn splat(x: f32) -> [f32; 16] {
        [x; 16]
    }

    #[inline(always)]
    fn add(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        each(|lane| a[lane] + b[lane])
    }

    #[inline(always)]
    fn sub(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        each(|lane| a[lane] - b[lane])
    }

    #[inline(always)]
    fn mul(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        each(|lane| a[lane] * b[lane])
    }

    #[inline(always)]
    fn div(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        each(|lane| a[lane] / b[lane])
    }

    #[inline(always)]
    fn max(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        each(|lane| if a[lane] > b[lane] { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    fn min(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        each(|lane| if a[lane] < b[lane] { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    fn select_less(x: [f32; 16], limit: [f32; 16], then: [f32; 16], other: [f32; 16]) -> [f32; 16] {
        each(|lane| if x[lane] < limit[lane] { then[lane] } else { other[lane] })
    }

    #[inline(always)]
    fn power_of_two(x: [f32; 16]) -> [f32; 16] {
        each(|lane| f32::from_bits((x[lane].to_bits() << 23).wrapping_add(ONE)))
    }

    #[inline(always)]
    fn mul_add(a: [f32; 16], b: [f32; 16], mut c: [f32; 16]) -> [f32; 16] {
        for lane in 0..16 {
            c[lane] += a[lane] * b[lane];
        }
        c
    }

    #[inline(always)]
    unsafe fn mul_add_pairs(a: u32, b: *const u32, mut c: [f32; 16]) -> [f32; 16] {
        // SAFETY: the caller's promise.
        let b = unsafe { b.cast::<[u32; 16]>().read_unaligned() };
        let (low, high) = (f32::from_bits(a << 16), f32::from_bits(a & 0xFFFF_0000));
        for lane in 0..16 {
            c[lane] += low * f32::from_bits(b[lane] << 16) + high * f32::from_bits(b[lane] & 0xFFFF_0000);
        }
        c
    }

    #[inline(always)]
    fn sum(v: [f32; 16]) -> f32 {
        sum_of(v)
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 16] {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f32; 16]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; 16]) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f32; 16]>().write_unaligned(v) }
    }
}

/// The bits of 1.
pub(crate) const ONE: u32 = 1f32.to_bits();

#[inline(always)]
fn each(of: impl Fn(usize) -> f32) -> [f32; 16] {
    std::array::from_fn(of)
}

/// The same order of additions at every level.
#[inline(always)]
pub(crate) fn sum_of(v: [f32; 16]) -> f32 {
    let mut eight = [0f32; 8];
    for lane in 0..8 {
        eight[lane] = v[lane] + v[lane + 8];
    }
    let four = [eight[0] + eight[4], eight[1] + eight[5], eight[2] + eight[6], eight[3] + eight[7]];
    (four[0] + four[2]) + (four[1] + four[3])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Cpu, Kernel, run};

    struct Transpose;

    impl Kernel for Transpose {
        type Output = [f32; 256];

        #[inline(always)]
        fn run<S: Simd>(self) -> [f32; 256] {
            let mut to = [0.0; 256];
            S::transpose(&std::array::from_fn(|i| i as f32), &mut to);
            to
        }
    }

    #[test]
    fn rows_become_columns() {
        for cpu in Cpu::available() {
            let transposed = run(cpu, Transpose);
            assert!((0..256).all(|i| transposed[i] == (i % 16 * 16 + i / 16) as f32), "{cpu:?}");
        }
    }
}
