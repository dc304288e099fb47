//! The innermost loop: a tile of sums, some rows × some panels of sixteen tokens, that stays in registers.

use crate::panels::LANES;
use crate::simd::Simd;

/// `sums[r][p] += Σ_k a[r · ROW_STEP + k · STEP] · b[p · b_panel + k · 16 ..][..16]`.
///
/// The same order of additions whatever the size of the tile, so a sum does not depend on how work is shared out.
///
/// # Safety
/// `a` and `b` can be read at every place named above.
#[inline(always)]
pub(crate) unsafe fn accumulate<S: Simd, const R: usize, const P: usize, const ROW_STEP: usize, const STEP: usize>(
    sums: &mut [[S::V; P]; R],
    a: *const f32,
    b: *const f32,
    b_panel: usize,
    length: usize,
) {
    for k in 0..length {
        // SAFETY: the caller's promise.
        unsafe {
            let mut lanes = [S::zero(); P];
            for (p, lanes) in lanes.iter_mut().enumerate() {
                *lanes = S::load(b.add(p * b_panel + k * LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let factor = S::splat(*a.add(r * ROW_STEP + k * STEP));
                for (sum, &lanes) in sums.iter_mut().zip(&lanes) {
                    *sum = S::mul_add(factor, lanes, *sum);
                }
            }
        }
    }
}

/// The same over pairs of bf16: `k` counts pairs, and steps are in words.
///
/// # Safety
/// `a` and `b` can be read at every place named above.
#[inline(always)]
pub(crate) unsafe fn accumulate_pairs<
    S: Simd,
    const R: usize,
    const P: usize,
    const ROW_STEP: usize,
    const STEP: usize,
>(
    sums: &mut [[S::V; P]; R],
    a: *const u32,
    b: *const u32,
    b_panel: usize,
    length: usize,
) {
    for k in 0..length {
        for (r, sums) in sums.iter_mut().enumerate() {
            for (p, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the caller's promise; a matrix of halves need not begin at a whole word.
                unsafe {
                    let factor = a.add(r * ROW_STEP + k * STEP).read_unaligned();
                    *sum = S::mul_add_pairs(factor, b.add(p * b_panel + k * LANES), *sum);
                }
            }
        }
    }
}

/// Rows of sixteen sums each, at a distance of `panel` between panels.
///
/// # Safety
/// `to` can be written at `R` rows of `P` panels.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd, const R: usize, const P: usize>(sums: &[[S::V; P]; R], to: *mut f32, panel: usize) {
    for (r, sums) in sums.iter().enumerate() {
        for (p, &sum) in sums.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { S::store(to.add(p * panel + r * LANES), sum) };
        }
    }
}

/// The inverse of [`store`].
///
/// # Safety
/// `from` can be read at `R` rows of `P` panels.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd, const R: usize, const P: usize>(from: *const f32, panel: usize) -> [[S::V; P]; R] {
    let mut sums = [[S::zero(); P]; R];
    for (r, sums) in sums.iter_mut().enumerate() {
        for (p, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *sum = unsafe { S::load(from.add(p * panel + r * LANES)) };
        }
    }
    sums
}

/// Rows of the next tile when so many are left: eight are four and four, for a tile of two would wait for itself.
#[inline(always)]
pub(crate) fn tile_rows<S: Simd>(left: usize) -> usize {
    left.div_ceil(left.div_ceil(S::ROWS))
}

/// Runs `$body` with the constant `$R` equal to `$rows`, which is at most the `ROWS` of the level `$S`.
macro_rules! with_rows {
    ($S:ident, $rows:expr, $R:ident => $body:expr) => {
        with_rows!(@ $S, $rows, $R => $body; 1 2 3 4 5 6 7 8 9 10 11 12)
    };
    (@ $S:ident, $rows:expr, $R:ident => $body:expr; $($n:literal)*) => {
        match $rows {
            $($n if $S::ROWS >= $n => { const $R: usize = $n; $body })*
            rows => unreachable!("a tile has 1 to {} rows, not {rows}", $S::ROWS),
        }
    };
}
pub(crate) use with_rows;

/// A place that several threads write to, each at its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32);

// SAFETY: who writes through it keeps to a part that no other thread touches.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(data: &mut [f32]) -> Shared {
        Shared(data.as_mut_ptr())
    }

    #[inline(always)]
    pub(crate) fn get(self) -> *mut f32 {
        self.0
    }
}
