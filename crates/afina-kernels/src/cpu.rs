//! What the processor can, and vectors of sixteen floats on it.
//!
//! A kernel is written once over [`Simd`] and compiled for each level; which one runs is decided when it is called.

/// The vector instructions that kernels may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpu {
    /// What every processor has.
    Portable,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 F, BW, VL.
    Avx512,
    /// AVX-512 with `vdpbf16ps`: products of bf16 pairs.
    Avx512Bf16,
}

impl Cpu {
    /// The best level of this processor.
    pub fn detect() -> Cpu {
        *Cpu::available().last().expect("the portable level is always there")
    }

    /// The levels of this processor, ascending.
    pub fn available() -> Vec<Cpu> {
        #[allow(unused_mut)]
        let mut levels = vec![Cpu::Portable];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            levels.push(Cpu::Avx2);
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
            {
                levels.push(Cpu::Avx512);
                if is_x86_feature_detected!("avx512bf16") {
                    levels.push(Cpu::Avx512Bf16);
                }
            }
        }
        levels
    }

    /// Whether a product with a bf16 matrix rounds what it multiplies to bf16 as well, into a copy.
    pub fn rounds_activations(self) -> bool {
        self == Cpu::Avx512Bf16
    }
}

/// A piece of work for one thread. `run` must be `#[inline(always)]`, and so all it calls: only so is it compiled for the level.
pub(crate) trait Kernel {
    type Output;
    fn run<S: Simd>(self) -> Self::Output;
}

/// Runs a kernel at a level.
pub(crate) fn run<K: Kernel>(cpu: Cpu, kernel: K) -> K::Output {
    match cpu {
        Cpu::Portable => kernel.run::<Portable>(),
        // SAFETY: a level comes from `available`, which asked the processor.
        #[cfg(target_arch = "x86_64")]
        Cpu::Avx2 => unsafe { run_avx2(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Cpu::Avx512 => unsafe { run_avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Cpu::Avx512Bf16 => unsafe { run_avx512_bf16(kernel) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => kernel.run::<Portable>(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512<false>>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma")]
unsafe fn run_avx512_bf16<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512<true>>()
}

/// Sixteen floats, and the size of the tile of outputs that the registers hold: `ROWS` × `PANELS` of them.
pub(crate) trait Simd: Copy {
    type V: Copy;
    const ROWS: usize;
    const PANELS: usize;
    /// Whether a product and a sum are one instruction, rounded once.
    const FMA: bool;

    /// `a · b + c` of single floats, for loops that the compiler vectorizes.
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        if Self::FMA { a.mul_add(b, c) } else { a * b + c }
    }

    fn zero() -> Self::V;
    fn splat(x: f32) -> Self::V;
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
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    type V = [f32; 16];
    const ROWS: usize = 2;
    const PANELS: usize = 1;
    const FMA: bool = false;

    #[inline(always)]
    fn zero() -> [f32; 16] {
        [0.0; 16]
    }

    #[inline(always)]
    fn splat(x: f32) -> [f32; 16] {
        [x; 16]
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

/// The same order of additions at every level.
#[inline(always)]
fn sum_of(v: [f32; 16]) -> f32 {
    let mut eight = [0f32; 8];
    for lane in 0..8 {
        eight[lane] = v[lane] + v[lane + 8];
    }
    let four = [eight[0] + eight[4], eight[1] + eight[5], eight[2] + eight[6], eight[3] + eight[7]];
    (four[0] + four[2]) + (four[1] + four[3])
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Simd, sum_of};
    use std::arch::x86_64::*;

    /// Sixteen registers: 6 rows × one panel are twelve sums, and four are left.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx2;

    #[derive(Clone, Copy)]
    pub(crate) struct Pair(__m256, __m256);

    // SAFETY (of every intrinsic here): a kernel at this level runs only where the processor has AVX2 and FMA.
    impl Simd for Avx2 {
        type V = Pair;
        const ROWS: usize = 6;
        const PANELS: usize = 1;
        const FMA: bool = true;

        #[inline(always)]
        fn zero() -> Pair {
            unsafe { Pair(_mm256_setzero_ps(), _mm256_setzero_ps()) }
        }

        #[inline(always)]
        fn splat(x: f32) -> Pair {
            unsafe {
                let x = _mm256_set1_ps(x);
                Pair(x, x)
            }
        }

        #[inline(always)]
        fn mul_add(a: Pair, b: Pair, c: Pair) -> Pair {
            unsafe { Pair(_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1)) }
        }

        #[inline(always)]
        fn transpose(from: &[f32; 256], to: &mut [f32; 256]) {
            unsafe { transpose(from, to) }
        }

        #[inline(always)]
        unsafe fn mul_add_pairs(a: u32, b: *const u32, c: Pair) -> Pair {
            unsafe {
                let (low, high) =
                    (_mm256_set1_ps(f32::from_bits(a << 16)), _mm256_set1_ps(f32::from_bits(a & 0xFFFF_0000)));
                let half = |b: *const u32, c: __m256| {
                    let b = _mm256_loadu_si256(b.cast());
                    let of_high = _mm256_and_si256(b, _mm256_set1_epi32(0xFFFF_0000_u32 as i32));
                    let c = _mm256_fmadd_ps(low, _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b)), c);
                    _mm256_fmadd_ps(high, _mm256_castsi256_ps(of_high), c)
                };
                Pair(half(b, c.0), half(b.add(8), c.1))
            }
        }

        #[inline(always)]
        fn sum(v: Pair) -> f32 {
            unsafe {
                let eight = _mm256_add_ps(v.0, v.1);
                let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
            }
        }

        #[inline(always)]
        unsafe fn load(p: *const f32) -> Pair {
            unsafe { Pair(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
        }

        #[inline(always)]
        unsafe fn store(p: *mut f32, v: Pair) {
            unsafe {
                _mm256_storeu_ps(p, v.0);
                _mm256_storeu_ps(p.add(8), v.1);
            }
        }
    }

    /// Thirty-two registers: 12 rows × two panels are twenty-four sums. `BF16`: with `vdpbf16ps`.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx512<const BF16: bool>;

    // SAFETY (of every intrinsic here): a kernel at this level runs only where the processor has AVX-512 F.
    impl<const BF16: bool> Simd for Avx512<BF16> {
        type V = __m512;
        const ROWS: usize = 12;
        const PANELS: usize = 2;
        const FMA: bool = true;

        #[inline(always)]
        fn zero() -> __m512 {
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        fn splat(x: f32) -> __m512 {
            unsafe { _mm512_set1_ps(x) }
        }

        #[inline(always)]
        fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn transpose(from: &[f32; 256], to: &mut [f32; 256]) {
            unsafe { transpose(from, to) }
        }

        #[inline(always)]
        unsafe fn mul_add_pairs(a: u32, b: *const u32, c: __m512) -> __m512 {
            unsafe {
                let (a, b) = (_mm512_set1_epi32(a as i32), _mm512_loadu_si512(b.cast()));
                if BF16 {
                    // SAFETY: both are 512 bits; a pair of bf16 is 32 of them.
                    let pairs = |x: __m512i| std::mem::transmute::<__m512i, __m512bh>(x);
                    return _mm512_dpbf16_ps(c, pairs(a), pairs(b));
                }
                let low = |x| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(x));
                let high = |x| _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(0xFFFF_0000_u32 as i32)));
                _mm512_fmadd_ps(high(a), high(b), _mm512_fmadd_ps(low(a), low(b), c))
            }
        }

        #[inline(always)]
        fn sum(v: __m512) -> f32 {
            let mut lanes = [0f32; 16];
            unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), v) };
            sum_of(lanes)
        }

        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(p) }
        }

        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            unsafe { _mm512_storeu_ps(p, v) }
        }
    }

    /// Four times eight by eight.
    #[inline(always)]
    unsafe fn transpose(from: &[f32; 256], to: &mut [f32; 256]) {
        for (row, column) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
            unsafe {
                let at = |i: usize| _mm256_loadu_ps(from.as_ptr().add((row + i) * 16 + column));
                let r = [at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)];
                let low = |i: usize| _mm256_unpacklo_ps(r[i], r[i + 1]);
                let high = |i: usize| _mm256_unpackhi_ps(r[i], r[i + 1]);
                let (a, b) = ([low(0), low(2), low(4), low(6)], [high(0), high(2), high(4), high(6)]);
                let fours = |x: [__m256; 4], i: usize| {
                    [_mm256_shuffle_ps::<0x44>(x[i], x[i + 1]), _mm256_shuffle_ps::<0xEE>(x[i], x[i + 1])]
                };
                let (a0, b0, a1, b1) = (fours(a, 0), fours(b, 0), fours(a, 2), fours(b, 2));
                let halves = [(a0[0], a1[0]), (a0[1], a1[1]), (b0[0], b1[0]), (b0[1], b1[1])];
                for (i, (x, y)) in halves.into_iter().enumerate() {
                    let to = to.as_mut_ptr().add((column + i) * 16 + row);
                    _mm256_storeu_ps(to, _mm256_permute2f128_ps::<0x20>(x, y));
                    _mm256_storeu_ps(to.add(4 * 16), _mm256_permute2f128_ps::<0x31>(x, y));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
