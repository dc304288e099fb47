//! An exponential of sixteen numbers at once.

use crate::simd::Simd;

/// e to the x, within 2 units in the last place from -87 to 88; clamped beyond.
///
/// Source: Cephes `expf`: split x into n·ln 2 + r, a polynomial of degree 6 for e to the r, and n into the exponent's bits.
#[inline(always)]
pub(crate) fn exp<S: Simd>(x: S::V) -> S::V {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it leaves the nearest integer in the low bits
    let round = S::splat(ROUND);
    // The second of two is taken where one is not a number.
    let x = S::min(S::splat(88.0), S::max(S::splat(-87.0), x));
    let shifted = S::mul_add(x, S::splat(std::f32::consts::LOG2_E), round);
    let n = S::sub(shifted, round);
    let r = S::mul_add(n, S::splat(2.121_944_4e-4), S::mul_add(n, S::splat(-0.693_359_4), x));
    let mut polynomial = S::splat(1.987_569_1e-4);
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.000_000_3e-1] {
        polynomial = S::mul_add(polynomial, r, S::splat(coefficient));
    }
    let mantissa = S::add(S::mul_add(polynomial, S::mul(r, r), r), S::splat(1.0));
    S::mul(mantissa, S::power_of_two(shifted))
}

/// `1 / (1 + e^-x)`; exactly 0 where e to the -x would leave f32: a huge negative gate closes.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(x: S::V) -> S::V {
    let one = S::splat(1.0);
    let sigmoid = S::div(one, S::add(one, exp::<S>(S::sub(S::zero(), x))));
    S::select_less(x, S::splat(-87.0), S::zero(), sigmoid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Cpu, Kernel, run};

    /// The exponentials and the sigmoids of some numbers.
    struct Both<'a>(&'a [f32]);

    impl Kernel for Both<'_> {
        type Output = (Vec<f32>, Vec<f32>);

        #[inline(always)]
        fn run<S: Simd>(self) -> (Vec<f32>, Vec<f32>) {
            let exponentials = self.0.iter().map(|&x| S::to_lanes(exp::<S>(S::splat(x)))[7]).collect();
            (exponentials, self.0.iter().map(|&x| S::to_lanes(sigmoid::<S>(S::splat(x)))[7]).collect())
        }
    }

    #[test]
    fn is_the_exponential() {
        let numbers: Vec<f32> = (-8700..=8800).map(|step| step as f32 / 100.0).collect();
        for cpu in Cpu::available() {
            for (x, found) in numbers.iter().zip(run(cpu, Both(&numbers)).0) {
                let expected = f64::from(*x).exp();
                let error = (f64::from(found) / expected - 1.0).abs();
                assert!(error < 2.5e-7, "{cpu:?}: exp({x}): {found} instead of {expected}, {error:e}");
            }
        }
    }

    #[test]
    fn is_clamped_far_out_and_tells_what_is_not_a_number() {
        for cpu in Cpu::available() {
            let (exp, sigmoid) = run(cpu, Both(&[-1e30, 1e30, f32::NAN]));
            assert!(exp[0] < 2e-38 && exp[0] >= 0.0 && exp[1].is_finite() && exp[2].is_nan());
            assert!(sigmoid[0] == 0.0 && sigmoid[1] == 1.0 && sigmoid[2].is_nan());
        }
    }
}
