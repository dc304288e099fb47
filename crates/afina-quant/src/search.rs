//! The search for the scale (and minimum) of a group of values that leaves the smallest weighted square error.
//!
//! A lane is a group, sixteen are searched side by side. Each lane adds its values in their order, so that every sum is
//! rounded as in ggml's loop over one group, and the same candidate wins.

use crate::{lanes::Lanes, nearest::nearest_int};

/// Below this magnitude a group counts as zeros (ggml's `GROUP_MAX_EPS`).
pub(crate) const ZERO: f32 = 1e-15;

/// What [`scale`] found for sixteen groups.
pub(crate) struct Scale {
    pub(crate) scale: [f32; 16],
    /// The factor that gave each group's best numbers; with it `number` gives them again.
    inverse: [f32; 16],
    is_zero: [f32; 16],
}

impl Scale {
    /// The number of a value of a group, where the rounded scale is zero and cannot give one.
    pub(crate) fn number(&self, group: usize, x: f32) -> u8 {
        if self.is_zero[group] != 0.0 {
            return 0;
        }
        (nearest_int(self.inverse[group] * x).clamp(-32, 31) + 32) as u8
    }
}

/// The scales of sixteen groups of sixteen values for numbers of six bits, −32..=31, each value weighted with its square.
///
/// Nineteen divisors around 32 are tried. `x[i]` holds value `i` of every group.
/// Source: ggml's `make_qx_quants` as `quantize_row_q6_K_ref` calls it.
#[inline(always)]
pub(crate) fn scale<L: Lanes>(x: &[[f32; 16]; 16]) -> Scale {
    let zero = L::splat(0.0);
    let (mut max, mut magnitude) = (zero, zero);
    for x in x {
        let x = L::load(x);
        let larger = L::less(magnitude, L::abs(x));
        max = L::select(larger, x, max);
        magnitude = L::select(larger, L::abs(x), magnitude);
    }
    let is_zero = L::less(magnitude, L::splat(ZERO));

    let mut best_inverse = L::div(L::splat(-32.0), max);
    let (sum_lx, sum_l2) = sums::<L>(x, best_inverse);
    let mut scale = L::select(L::equal(sum_l2, zero), zero, L::div(sum_lx, sum_l2));
    let mut best = L::mul(scale, sum_lx);
    for step in (-9..=9).filter(|step| *step != 0) {
        let inverse = L::div(L::splat(-(32.0 + 0.1 * step as f32)), max);
        let (sum_lx, sum_l2) = sums::<L>(x, inverse);
        let better = L::less(L::mul(best, sum_l2), L::mul(sum_lx, sum_lx));
        let better = L::and(better, L::less(zero, sum_l2));
        best_inverse = L::select(better, inverse, best_inverse);
        scale = L::select(better, L::div(sum_lx, sum_l2), scale);
        best = L::select(better, L::mul(scale, sum_lx), best);
    }
    Scale {
        scale: L::store(L::select(is_zero, zero, scale)),
        inverse: L::store(best_inverse),
        is_zero: L::store(L::select(is_zero, L::splat(1.0), zero)),
    }
}

/// The sums of x²·x·l and of x²·l² over each group, with l the number that `inverse` gives x.
#[inline(always)]
fn sums<L: Lanes>(x: &[[f32; 16]; 16], inverse: L::V) -> (L::V, L::V) {
    let (mut sum_lx, mut sum_l2) = (L::splat(0.0), L::splat(0.0));
    for x in x {
        let x = L::load(x);
        let l = L::nearest(L::mul(inverse, x), -32, 31);
        let w = L::mul(x, x);
        sum_lx = L::add(sum_lx, L::mul(L::mul(w, x), l));
        sum_l2 = L::add(sum_l2, L::mul(L::mul(w, l), l));
    }
    (sum_lx, sum_l2)
}

/// Which numbers [`scale_and_min`] searches for.
pub(crate) struct Steps {
    /// The largest number.
    pub(crate) largest: i32,
    /// The first divisor is `largest + first`.
    pub(crate) first: f32,
    /// How many divisors are tried, each 0.1 above the one before.
    pub(crate) count: usize,
}

/// What [`scale_and_min`] found for sixteen groups: value = scale·number − min.
pub(crate) struct ScaleAndMin {
    pub(crate) scale: [f32; 16],
    pub(crate) min: [f32; 16],
    /// The factor and the offset that gave each group's best numbers; with them `number` gives them again.
    inverse: [f32; 16],
    offset: [f32; 16],
}

impl ScaleAndMin {
    /// The number of a value of a group, where the rounded scale is zero and cannot give one.
    pub(crate) fn number(&self, group: usize, x: f32, largest: i32) -> u8 {
        nearest_int(self.inverse[group] * (x - self.offset[group])).clamp(0, largest) as u8
    }
}

/// The scales and minima of sixteen groups of 32 values, each value weighted with √(mean x²) + |x|.
///
/// `x[i]` holds value `i` of every group. A candidate that wins moves the minimum that later candidates count from.
/// Source: ggml's `make_qkx2_quants` as `quantize_row_q4_K_ref` and `quantize_row_q5_K_ref` call it.
#[inline(always)]
pub(crate) fn scale_and_min<L: Lanes>(x: &[[f32; 16]; 32], steps: &Steps) -> ScaleAndMin {
    let zero = L::splat(0.0);
    let mut sum_x2 = zero;
    for x in x {
        let x = L::load(x);
        sum_x2 = L::add(sum_x2, L::mul(x, x));
    }
    let average = L::sqrt(L::div(sum_x2, L::splat(32.0)));

    let first = L::load(&x[0]);
    let mut w = [L::add(average, L::abs(first)); 32];
    let (mut min, mut max) = (first, first);
    let mut sum_w = w[0];
    let mut sum_x = L::mul(sum_w, first);
    for i in 1..32 {
        let x = L::load(&x[i]);
        min = L::select(L::less(x, min), x, min);
        max = L::select(L::less(max, x), x, max);
        w[i] = L::add(average, L::abs(x));
        sum_w = L::add(sum_w, w[i]);
        sum_x = L::add(sum_x, L::mul(w[i], x));
    }
    min = L::select(L::less(zero, min), zero, min);
    let flat = L::equal(max, min);
    let flat_min = min;

    let mut l = [zero; 32];
    let largest = steps.largest as f32;
    let mut best_inverse = L::div(L::splat(largest), L::sub(max, min));
    let mut best_offset = min;
    let mut scale = L::div(L::splat(1.0), best_inverse);
    for (l, x) in l.iter_mut().zip(x) {
        *l = L::nearest(L::mul(best_inverse, L::sub(L::load(x), min)), 0, steps.largest);
    }
    let mut best_error = error::<L>(x, &w, &l, scale, min);
    for step in 0..steps.count {
        let inverse = L::div(L::splat((steps.first + 0.1 * step as f32) + largest), L::sub(max, min));
        let (mut sum_l, mut sum_l2, mut sum_xl) = (zero, zero, zero);
        for i in 0..32 {
            let x = L::load(&x[i]);
            l[i] = L::nearest(L::mul(inverse, L::sub(x, min)), 0, steps.largest);
            let wl = L::mul(w[i], l[i]);
            sum_l = L::add(sum_l, wl);
            sum_l2 = L::add(sum_l2, L::mul(wl, l[i]));
            sum_xl = L::add(sum_xl, L::mul(wl, x));
        }
        let determinant = L::sub(L::mul(sum_w, sum_l2), L::mul(sum_l, sum_l));
        let this_scale = L::div(L::sub(L::mul(sum_w, sum_xl), L::mul(sum_x, sum_l)), determinant);
        let this_min = L::div(L::sub(L::mul(sum_l2, sum_x), L::mul(sum_l, sum_xl)), determinant);
        let above = L::less(zero, this_min);
        let this_scale = L::select(above, L::div(sum_xl, sum_l2), this_scale);
        let this_min = L::select(above, zero, this_min);
        let this_error = error::<L>(x, &w, &l, this_scale, this_min);
        let better = L::and(L::less(this_error, best_error), L::less(zero, determinant));
        best_error = L::select(better, this_error, best_error);
        best_inverse = L::select(better, inverse, best_inverse);
        best_offset = L::select(better, min, best_offset);
        scale = L::select(better, this_scale, scale);
        min = L::select(better, this_min, min);
    }
    ScaleAndMin {
        scale: L::store(L::select(flat, zero, scale)),
        min: L::store(L::sub(L::splat(-0.0), L::select(flat, flat_min, min))),
        inverse: L::store(L::select(flat, zero, best_inverse)),
        offset: L::store(best_offset),
    }
}

/// The weighted square error of each group, with the numbers `l`.
#[inline(always)]
fn error<L: Lanes>(x: &[[f32; 16]; 32], w: &[L::V; 32], l: &[L::V; 32], scale: L::V, min: L::V) -> L::V {
    let mut error = L::splat(0.0);
    for i in 0..32 {
        let difference = L::sub(L::add(L::mul(scale, l[i]), min), L::load(&x[i]));
        error = L::add(error, L::mul(w[i], L::mul(difference, difference)));
    }
    error
}
