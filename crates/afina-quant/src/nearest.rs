//! C's conversions of floats to integers, as ggml's functions do them on x86.

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
pub(crate) fn largest<const N: usize>(x: &[f32; N]) -> f32 {
    // As integers, the largest of the positive and the largest of the negative: sums of floats have an order, maxima of
    // integers have none, and are taken sixteen at a time.
    let mut positive = i32::MIN;
    let mut negative = 0;
    for value in x {
        positive = positive.max(value.to_bits() as i32);
        negative = negative.max(value.to_bits());
    }
    let positive = positive.max(0);
    let negative = if negative >> 31 == 1 { (negative & 0x7FFF_FFFF) as i32 } else { 0 };
    if positive > negative {
        f32::from_bits(positive as u32)
    } else if negative > positive {
        -f32::from_bits(negative as u32)
    } else {
        let magnitude = f32::from_bits(positive as u32);
        let first = x.iter().find(|value| value.abs() == magnitude);
        if magnitude == 0.0 { 0.0 } else { *first.expect("the magnitude is that of a value") }
    }
}

/// The smallest and the largest value, the first of 0.0 and -0.0.
#[inline(always)]
pub(crate) fn range<const N: usize>(x: &[f32; N]) -> (f32, f32) {
    // The order of floats as an order of integers, for the reason given above.
    let key = |bits: i32| bits ^ ((bits >> 31) & 0x7FFF_FFFF);
    let (mut min, mut max) = (i32::MAX, i32::MIN);
    for value in x {
        let key = key(value.to_bits() as i32);
        min = min.min(key);
        max = max.max(key);
    }
    let (min, max) = (f32::from_bits(key(min) as u32), f32::from_bits(key(max) as u32));
    if min != 0.0 && max != 0.0 {
        return (min, max);
    }
    let min = x.iter().fold(f32::MAX, |min, value| if *value < min { *value } else { min });
    let max = x.iter().fold(f32::MIN, |max, value| if *value > max { *value } else { max });
    (min, max)
}

/// The largest magnitude.
#[inline(always)]
pub(crate) fn largest_magnitude<const N: usize>(x: &[f32; N]) -> f32 {
    let mut largest = 0;
    for value in x {
        largest = largest.max(value.to_bits() & 0x7FFF_FFFF);
    }
    f32::from_bits(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(largest(&[1.0, -3.0, 3.0, 2.0]), -3.0);
        assert_eq!(largest(&[1.0, 3.0, -3.0, 2.0]), 3.0);
        assert_eq!(largest(&[-1.0, -0.5, -2.0, -0.25]), -2.0);
        assert_eq!(largest(&[-0.0, 0.0]).to_bits(), 0);
        assert_eq!(largest(&[-0.0; 4]).to_bits(), 0);
    }

    #[test]
    fn the_first_of_both_zeros_is_the_limit_of_a_range() {
        let signs = |(min, max): (f32, f32)| (min.to_bits(), max.to_bits());
        assert_eq!(signs(range(&[0.0, -0.0, 1.0])), (0, 1.0_f32.to_bits()));
        assert_eq!(signs(range(&[-0.0, 0.0, -1.0])), ((-1.0_f32).to_bits(), (-0.0_f32).to_bits()));
        assert_eq!(range(&[-4.0, 7.0, -9.5, 2.0]), (-9.5, 7.0));
    }
}
