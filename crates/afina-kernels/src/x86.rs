//! AVX2 and AVX-512.

use crate::simd::{ONE, Simd, sum_of};
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
    fn add(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)) }
    }

    #[inline(always)]
    fn sub(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1)) }
    }

    #[inline(always)]
    fn mul(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)) }
    }

    #[inline(always)]
    fn div(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1)) }
    }

    #[inline(always)]
    fn max(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(_mm256_max_ps(a.0, b.0), _mm256_max_ps(a.1, b.1)) }
    }

    #[inline(always)]
    fn min(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(_mm256_min_ps(a.0, b.0), _mm256_min_ps(a.1, b.1)) }
    }

    #[inline(always)]
    fn select_less(x: Pair, limit: Pair, then: Pair, other: Pair) -> Pair {
        unsafe {
            let select = |x, limit, then, other| _mm256_blendv_ps(other, then, _mm256_cmp_ps::<_CMP_LT_OQ>(x, limit));
            Pair(select(x.0, limit.0, then.0, other.0), select(x.1, limit.1, then.1, other.1))
        }
    }

    #[inline(always)]
    fn power_of_two(x: Pair) -> Pair {
        unsafe {
            let power = |x| {
                let shifted = _mm256_slli_epi32::<23>(_mm256_castps_si256(x));
                _mm256_castsi256_ps(_mm256_add_epi32(shifted, _mm256_set1_epi32(ONE as i32)))
            };
            Pair(power(x.0), power(x.1))
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

    #[inline(always)]
    fn zero() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn select_less(x: __m512, limit: __m512, then: __m512, other: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, limit), other, then) }
    }

    #[inline(always)]
    fn power_of_two(x: __m512) -> __m512 {
        unsafe {
            let shifted = _mm512_slli_epi32::<23>(_mm512_castps_si512(x));
            _mm512_castsi512_ps(_mm512_add_epi32(shifted, _mm512_set1_epi32(ONE as i32)))
        }
    }

    #[inline(always)]
    fn round_pairs(low: __m512, high: __m512, to: &mut [u32; 16]) {
        unsafe {
            let rounded = |x| {
                let bits = _mm512_castps_si512(x);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let sum = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
                let not_a_number = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
                _mm512_mask_blend_epi32(not_a_number, sum, _mm512_set1_epi32(0x7FC0_0000))
            };
            let high = _mm512_and_si512(rounded(high), _mm512_set1_epi32(0xFFFF_0000_u32 as i32));
            let words = _mm512_or_si512(_mm512_srli_epi32::<16>(rounded(low)), high);
            _mm512_storeu_si512(to.as_mut_ptr().cast(), words);
        }
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
