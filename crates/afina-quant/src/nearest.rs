//! C's conversions of floats to integers, as ggml's functions do them on x86; and the limits of a block.

use crate::lanes::Lanes;

/// 1.5 · 2²³: added to a float below 2²² in magnitude, it leaves the nearest integer (half to even) in the mantissa.
pub(crate) const MAGIC: f32 = 12_582_912.0;
/// The mantissa's bits.
pub(crate) const MANTISSA: i32 = 0x007F_FFFF;
/// What the mantissa holds for zero.
pub(crate) const MIDDLE: i32 = 0x0040_0000;

/// The nearest integer, half to even; for 2²² and more (a scale that underflowed), whatever the mantissa holds.
///
/// Source: ggml's `nearest_int`.
#[inline(always)]
pub(crate) fn nearest_int(x: f32) -> i32 {
    ((x + MAGIC).to_bits() as i32 & MANTISSA) - MIDDLE
}

/// `(int8_t) x` as x86 does it: towards zero, and 0 for what fits in no 32-bit integer (an infinity times a scale).
#[inline(always)]
pub(crate) fn truncate_to_i8(x: f32) -> i8 {
    let in_range = x.abs() < 2_147_483_648.0; // false for NaN as well
    // SAFETY: the number was just seen to be in the range of i32.
    if in_range { (unsafe { x.to_int_unchecked::<i32>() }) as i8 } else { 0 }
}

/// The value of largest magnitude, the first of equal ones; 0.0 where all are zeros of either sign.
#[inline(always)]
pub(crate) fn largest<L: Lanes>(x: &[f32; 32]) -> f32 {
    let [low, high] = halves::<L>(x);
    let magnitude = L::largest(L::max(L::abs(low), L::abs(high)));
    if magnitude == 0.0 {
        return 0.0;
    }
    let (positive, negative) = (L::splat(magnitude), L::splat(-magnitude));
    let positive = L::bits(L::equal(low, positive)) | (L::bits(L::equal(high, positive)) << 16);
    let negative = L::bits(L::equal(low, negative)) | (L::bits(L::equal(high, negative)) << 16);
    if positive.trailing_zeros() < negative.trailing_zeros() { magnitude } else { -magnitude }
}

/// The largest magnitude.
#[inline(always)]
pub(crate) fn largest_magnitude<L: Lanes>(x: &[f32; 32]) -> f32 {
    let [low, high] = halves::<L>(x);
    L::largest(L::max(L::abs(low), L::abs(high)))
}

/// The smallest and the largest value, the first of 0.0 and -0.0.
#[inline(always)]
pub(crate) fn range<L: Lanes>(x: &[f32; 32]) -> (f32, f32) {
    let [low, high] = halves::<L>(x);
    let (min, max) = (L::smallest(L::min(low, high)), L::largest(L::max(low, high)));
    if min != 0.0 && max != 0.0 {
        return (min, max);
    }
    let min = x.iter().fold(f32::MAX, |min, value| if *value < min { *value } else { min });
    let max = x.iter().fold(f32::MIN, |max, value| if *value > max { *value } else { max });
    (min, max)
}

/// A block of 32 as two times sixteen lanes.
#[inline(always)]
pub(crate) fn halves<L: Lanes>(x: &[f32; 32]) -> [L::V; 2] {
    let [low, high] = x.as_chunks::<16>().0 else { unreachable!("32 are two times 16") };
    [L::load(low), L::load(high)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Portable;

    /// A block that begins with `x`, the last of which fills it.
    fn block(x: &[f32]) -> [f32; 32] {
        std::array::from_fn(|i| x[i.min(x.len() - 1)])
    }

    #[test]
    fn ties_go_to_the_even_integer() {
        for (x, nearest) in
            [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (-2.5, -2), (2.500_000_2, 3), (-7.4, -7)]
        {
            assert_eq!(nearest_int(x), nearest, "{x}");
        }
    }

    #[test]
    fn the_first_of_equal_magnitudes_is_the_largest() {
        let largest = |x: &[f32]| largest::<Portable>(&block(x));
        assert_eq!(largest(&[1.0, -3.0, 3.0, 2.0]), -3.0);
        assert_eq!(largest(&[1.0, 3.0, -3.0, 2.0]), 3.0);
        assert_eq!(largest(&[-1.0, -0.5, -2.0, -0.25]), -2.0);
        assert_eq!(largest(&[-0.0, 0.0]).to_bits(), 0);
        assert_eq!(largest(&[-0.0; 4]).to_bits(), 0);
    }

    #[test]
    fn the_first_of_both_zeros_is_the_limit_of_a_range() {
        let range = |x: &[f32]| range::<Portable>(&block(x));
        let signs = |(min, max): (f32, f32)| (min.to_bits(), max.to_bits());
        assert_eq!(signs(range(&[0.0, -0.0, 1.0])), (0, 1.0_f32.to_bits()));
        assert_eq!(signs(range(&[-0.0, 0.0, -1.0])), ((-1.0_f32).to_bits(), (-0.0_f32).to_bits()));
        assert_eq!(range(&[-4.0, 7.0, -9.5, 2.0]), (-9.5, 7.0));
    }
}
