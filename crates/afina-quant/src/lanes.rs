//! Sixteen floats at once, at the best level of the processor.
//!
//! Code is written once over [`Lanes`] and compiled for each [`Level`]. No level multiplies and adds in one step: ggml's
//! reference functions are built without FMA, and a product that is not rounded before it is added gives other blocks.

use half::f16;

#[cfg(target_arch = "x86_64")]
mod x86;

/// The vector instructions that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// What every processor has.
    Portable,
    /// AVX2 and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
}

impl Level {
    /// The best level of this processor.
    pub(crate) fn detect() -> Level {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") {
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            return if wide { Level::Avx512 } else { Level::Avx2 };
        }
        Level::Portable
    }

    /// The levels of this processor, ascending.
    #[cfg(test)]
    pub(crate) fn available() -> &'static [Level] {
        match Level::detect() {
            Level::Portable => &[Level::Portable],
            Level::Avx2 => &[Level::Portable, Level::Avx2],
            Level::Avx512 => &[Level::Portable, Level::Avx2, Level::Avx512],
        }
    }
}

/// A piece of work for one thread. `run` must be `#[inline(always)]`, and so all it calls, without closures that are given
/// away: only so is it compiled for the level.
pub(crate) trait Work {
    type Output;
    fn run<L: Lanes>(self) -> Self::Output;
}

/// Does work at a level that [`Level::detect`] or below allows.
pub(crate) fn run<W: Work>(level: Level, work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,f16c")]
        unsafe fn avx2<W: Work>(work: W) -> W::Output {
            work.run::<x86::Avx2>()
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,f16c")]
        unsafe fn avx512<W: Work>(work: W) -> W::Output {
            work.run::<x86::Avx512>()
        }
        match level {
            // SAFETY: the level was detected.
            Level::Avx512 => return unsafe { avx512(work) },
            // SAFETY: as above.
            Level::Avx2 => return unsafe { avx2(work) },
            Level::Portable => {}
        }
    }
    let _ = level;
    work.run::<Portable>()
}

/// Sixteen floats; every operation rounds each lane as the single operation does.
pub(crate) trait Lanes: Copy {
    type V: Copy;
    type Mask: Copy;

    fn load(x: &[f32; 16]) -> Self::V;
    fn store(v: Self::V) -> [f32; 16];
    fn splat(x: f32) -> Self::V;
    fn add(a: Self::V, b: Self::V) -> Self::V;
    fn sub(a: Self::V, b: Self::V) -> Self::V;
    fn mul(a: Self::V, b: Self::V) -> Self::V;
    fn div(a: Self::V, b: Self::V) -> Self::V;
    fn sqrt(v: Self::V) -> Self::V;
    fn abs(v: Self::V) -> Self::V;
    /// `a < b`, false where one is not a number.
    fn less(a: Self::V, b: Self::V) -> Self::Mask;
    fn equal(a: Self::V, b: Self::V) -> Self::Mask;
    fn and(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// `a` where the mask holds, else `b`.
    fn select(mask: Self::Mask, a: Self::V, b: Self::V) -> Self::V;
    /// [`nearest_int`](crate::nearest::nearest_int), cut to `low..=high`, as floats.
    fn nearest(v: Self::V, low: i32, high: i32) -> Self::V;
    /// [`truncate_to_i8`](crate::nearest::truncate_to_i8).
    fn truncate(v: Self::V) -> [i8; 16];
    /// Whole numbers from 0 to 255.
    #[inline(always)]
    fn bytes(v: Self::V) -> [u8; 16] {
        let signed = Self::truncate(v);
        let mut bytes = [0; 16];
        for (byte, signed) in bytes.iter_mut().zip(signed) {
            *byte = signed as u8;
        }
        bytes
    }
    /// The smallest and the largest lane of numbers, either zero where both are.
    fn smallest(v: Self::V) -> f32;
    fn largest(v: Self::V) -> f32;
    /// The smaller and the larger of numbers, lane by lane, either zero where both are.
    fn min(a: Self::V, b: Self::V) -> Self::V;
    fn max(a: Self::V, b: Self::V) -> Self::V;
    /// A bit for each lane, the first the lowest.
    fn bits(mask: Self::Mask) -> u32;
    /// The nearest half, half to even.
    fn to_half(x: f32) -> u16;
    fn of_half(half: u16) -> f32;
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

impl Lanes for Portable {
    type V = [f32; 16];
    type Mask = [bool; 16];

    #[inline(always)]
    fn load(x: &[f32; 16]) -> [f32; 16] {
        *x
    }

    #[inline(always)]
    fn store(v: [f32; 16]) -> [f32; 16] {
        v
    }

    #[inline(always)]
    fn splat(x: f32) -> [f32; 16] {
        [x; 16]
    }

    #[inline(always)]
    fn add(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn sqrt(v: [f32; 16]) -> [f32; 16] {
        v.map(f32::sqrt)
    }

    #[inline(always)]
    fn abs(v: [f32; 16]) -> [f32; 16] {
        v.map(f32::abs)
    }

    #[inline(always)]
    fn less(a: [f32; 16], b: [f32; 16]) -> [bool; 16] {
        std::array::from_fn(|i| a[i] < b[i])
    }

    #[inline(always)]
    fn equal(a: [f32; 16], b: [f32; 16]) -> [bool; 16] {
        std::array::from_fn(|i| a[i] == b[i])
    }

    #[inline(always)]
    fn and(a: [bool; 16], b: [bool; 16]) -> [bool; 16] {
        std::array::from_fn(|i| a[i] & b[i])
    }

    #[inline(always)]
    fn select(mask: [bool; 16], a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| if mask[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn nearest(v: [f32; 16], low: i32, high: i32) -> [f32; 16] {
        v.map(|x| crate::nearest::nearest_int(x).clamp(low, high) as f32)
    }

    #[inline(always)]
    fn truncate(v: [f32; 16]) -> [i8; 16] {
        v.map(crate::nearest::truncate_to_i8)
    }

    #[inline(always)]
    fn smallest(v: [f32; 16]) -> f32 {
        v.into_iter().fold(f32::INFINITY, f32::min)
    }

    #[inline(always)]
    fn largest(v: [f32; 16]) -> f32 {
        v.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    fn min(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn max(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn bits(mask: [bool; 16]) -> u32 {
        mask.into_iter().enumerate().fold(0, |bits, (i, bit)| bits | (u32::from(bit) << i))
    }

    #[inline(always)]
    fn to_half(x: f32) -> u16 {
        f16::from_f32(x).to_bits()
    }

    #[inline(always)]
    fn of_half(half: u16) -> f32 {
        f16::from_bits(half).to_f32()
    }
}
