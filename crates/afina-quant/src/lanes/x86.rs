//! The lanes of AVX2 and of AVX-512.

use super::Lanes;
use crate::nearest::{MAGIC, MANTISSA, MIDDLE};
use std::arch::x86_64::*;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2;

#[derive(Clone, Copy)]
pub(crate) struct Pair(__m256, __m256);

// SAFETY (of every intrinsic here): code at this level runs only where the processor has AVX2.
impl Lanes for Avx2 {
    type V = Pair;
    type Mask = Pair;

    #[inline(always)]
    fn load(x: &[f32; 16]) -> Pair {
        unsafe { Pair(_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))) }
    }

    #[inline(always)]
    fn store(v: Pair) -> [f32; 16] {
        let mut x = [0.0; 16];
        unsafe {
            _mm256_storeu_ps(x.as_mut_ptr(), v.0);
            _mm256_storeu_ps(x.as_mut_ptr().add(8), v.1);
        }
        x
    }

    #[inline(always)]
    fn splat(x: f32) -> Pair {
        unsafe { Pair(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
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
    fn sqrt(v: Pair) -> Pair {
        unsafe { Pair(_mm256_sqrt_ps(v.0), _mm256_sqrt_ps(v.1)) }
    }

    #[inline(always)]
    fn abs(v: Pair) -> Pair {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            Pair(_mm256_andnot_ps(sign, v.0), _mm256_andnot_ps(sign, v.1))
        }
    }

    #[inline(always)]
    fn less(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(_mm256_cmp_ps::<_CMP_LT_OQ>(a.0, b.0), _mm256_cmp_ps::<_CMP_LT_OQ>(a.1, b.1)) }
    }

    #[inline(always)]
    fn equal(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(_mm256_cmp_ps::<_CMP_EQ_OQ>(a.0, b.0), _mm256_cmp_ps::<_CMP_EQ_OQ>(a.1, b.1)) }
    }

    #[inline(always)]
    fn and(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(_mm256_and_ps(a.0, b.0), _mm256_and_ps(a.1, b.1)) }
    }

    #[inline(always)]
    fn select(mask: Pair, a: Pair, b: Pair) -> Pair {
        unsafe { Pair(_mm256_blendv_ps(b.0, a.0, mask.0), _mm256_blendv_ps(b.1, a.1, mask.1)) }
    }

    #[inline(always)]
    fn nearest(v: Pair, low: i32, high: i32) -> Pair {
        unsafe { Pair(nearest(v.0, low, high), nearest(v.1, low, high)) }
    }

    #[inline(always)]
    fn truncate(v: Pair) -> [i8; 16] {
        let mut out = [0; 16];
        unsafe {
            // What does not fit has a low byte of zero.
            let byte = _mm256_set1_epi32(0xFF);
            let low = _mm256_and_si256(_mm256_cvttps_epi32(v.0), byte);
            let high = _mm256_and_si256(_mm256_cvttps_epi32(v.1), byte);
            let both = _mm256_permute4x64_epi64::<0xD8>(_mm256_packus_epi32(low, high));
            let both = _mm_packus_epi16(_mm256_castsi256_si128(both), _mm256_extracti128_si256::<1>(both));
            _mm_storeu_si128(out.as_mut_ptr().cast(), both);
        }
        out
    }

    #[inline(always)]
    fn smallest(v: Pair) -> f32 {
        unsafe {
            let eight = _mm256_min_ps(v.0, v.1);
            let four = _mm_min_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_min_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_min_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn largest(v: Pair) -> f32 {
        unsafe {
            let eight = _mm256_max_ps(v.0, v.1);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn min(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(_mm256_min_ps(a.0, b.0), _mm256_min_ps(a.1, b.1)) }
    }

    #[inline(always)]
    fn max(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(_mm256_max_ps(a.0, b.0), _mm256_max_ps(a.1, b.1)) }
    }

    #[inline(always)]
    fn bits(mask: Pair) -> u32 {
        unsafe { (_mm256_movemask_ps(mask.0) | (_mm256_movemask_ps(mask.1) << 8)) as u32 }
    }

    #[inline(always)]
    fn to_half(x: f32) -> u16 {
        unsafe { _mm_cvtsi128_si32(_mm_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm_set_ss(x))) as u16 }
    }

    #[inline(always)]
    fn of_half(half: u16) -> f32 {
        unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(half)))) }
    }
}

#[inline(always)]
unsafe fn nearest(v: __m256, low: i32, high: i32) -> __m256 {
    unsafe {
        let bits = _mm256_castps_si256(_mm256_add_ps(v, _mm256_set1_ps(MAGIC)));
        let whole = _mm256_and_si256(bits, _mm256_set1_epi32(MANTISSA));
        let whole = _mm256_sub_epi32(whole, _mm256_set1_epi32(MIDDLE));
        let cut = _mm256_min_epi32(whole, _mm256_set1_epi32(high));
        _mm256_cvtepi32_ps(_mm256_max_epi32(cut, _mm256_set1_epi32(low)))
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512;

// SAFETY (of every intrinsic here): code at this level runs only where the processor has AVX-512 F and DQ.
impl Lanes for Avx512 {
    type V = __m512;
    type Mask = __mmask16;

    #[inline(always)]
    fn load(x: &[f32; 16]) -> __m512 {
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn store(v: __m512) -> [f32; 16] {
        let mut x = [0.0; 16];
        unsafe { _mm512_storeu_ps(x.as_mut_ptr(), v) };
        x
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
    fn sqrt(v: __m512) -> __m512 {
        unsafe { _mm512_sqrt_ps(v) }
    }

    #[inline(always)]
    fn abs(v: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(v) }
    }

    #[inline(always)]
    fn less(a: __m512, b: __m512) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
    }

    #[inline(always)]
    fn equal(a: __m512, b: __m512) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b) }
    }

    #[inline(always)]
    fn and(a: __mmask16, b: __mmask16) -> __mmask16 {
        a & b
    }

    #[inline(always)]
    fn select(mask: __mmask16, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(mask, b, a) }
    }

    #[inline(always)]
    fn nearest(v: __m512, low: i32, high: i32) -> __m512 {
        unsafe {
            let bits = _mm512_castps_si512(_mm512_add_ps(v, _mm512_set1_ps(MAGIC)));
            let whole = _mm512_and_si512(bits, _mm512_set1_epi32(MANTISSA));
            let whole = _mm512_sub_epi32(whole, _mm512_set1_epi32(MIDDLE));
            let cut = _mm512_min_epi32(whole, _mm512_set1_epi32(high));
            _mm512_cvtepi32_ps(_mm512_max_epi32(cut, _mm512_set1_epi32(low)))
        }
    }

    #[inline(always)]
    fn truncate(v: __m512) -> [i8; 16] {
        let mut out = [0; 16];
        // What does not fit has a low byte of zero.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(v))) };
        out
    }

    #[inline(always)]
    fn smallest(v: __m512) -> f32 {
        unsafe { _mm512_reduce_min_ps(v) }
    }

    #[inline(always)]
    fn largest(v: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(v) }
    }

    #[inline(always)]
    fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn bits(mask: __mmask16) -> u32 {
        u32::from(mask)
    }

    #[inline(always)]
    fn to_half(x: f32) -> u16 {
        unsafe { _mm_cvtsi128_si32(_mm_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm_set_ss(x))) as u16 }
    }

    #[inline(always)]
    fn of_half(half: u16) -> f32 {
        unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(half)))) }
    }
}
