//! Numbers at even steps over a block of 32 values: what Q4_0, Q4_1, Q5_0 and Q5_1 share.

use crate::{
    f16,
    lanes::Lanes,
    nearest::{halves, largest, range},
};

/// Writes d = (the value of largest magnitude, with its sign) / `divisor`, and returns x / d + `middle` without its fraction: of the
/// first sixteen values, and of the last. The quotient is taken with `d` in f32, before it is rounded to f16.
#[inline(always)]
pub(crate) fn around_zero<L: Lanes>(x: &[f32; 32], divisor: f32, middle: f32, out: &mut [u8]) -> [[i8; 16]; 2] {
    let d = largest::<L>(x) / divisor;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    f16::write::<L>(d, out);
    let [low, high] = halves::<L>(x);
    [
        L::truncate(L::add(L::mul(low, L::splat(inverse)), L::splat(middle))),
        L::truncate(L::add(L::mul(high, L::splat(inverse)), L::splat(middle))),
    ]
}

/// Writes d = (max x − min x) / `steps` and m = min x, and returns (x − m) / d + 0.5 without its fraction: of the first sixteen values,
/// and of the last. `d` and `m` divide and subtract in f32, before they are rounded to f16.
#[inline(always)]
pub(crate) fn from_smallest<L: Lanes>(x: &[f32; 32], steps: f32, out: &mut [u8]) -> [[i8; 16]; 2] {
    let (min, max) = range::<L>(x);
    let d = (max - min) / steps;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    f16::write::<L>(d, out);
    f16::write::<L>(min, &mut out[2..]);
    let [low, high] = halves::<L>(x);
    [
        L::truncate(L::add(L::mul(L::sub(low, L::splat(min)), L::splat(inverse)), L::splat(0.5))),
        L::truncate(L::add(L::mul(L::sub(high, L::splat(min)), L::splat(inverse)), L::splat(0.5))),
    ]
}

/// Two 4-bit numbers a byte, each cut at 15: of the first sixteen in the low halves, of the last in the high ones.
#[inline(always)]
pub(crate) fn pack([low, high]: [[i8; 16]; 2], out: &mut [u8]) {
    for (out, (low, high)) in out.iter_mut().zip(low.iter().zip(&high)) {
        *out = (*low).min(15) as u8 | ((*high).min(15) as u8) << 4;
    }
}
