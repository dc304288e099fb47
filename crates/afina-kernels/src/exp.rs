//! An exponential that the compiler can vectorize.

use crate::cpu::Simd;

/// e to the x, within 2 units in the last place from -87 to 88; clamped beyond.
///
/// Source: Cephes `expf`: split x into n·ln 2 + r, a polynomial of degree 6 for e to the r, and n into the exponent's bits.
#[inline(always)]
pub(crate) fn exp<S: Simd>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it leaves the nearest integer in the low bits
    let x = x.clamp(-87.0, 88.0);
    let shifted = S::multiply_add(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = S::multiply_add(n, 2.121_944_4e-4, S::multiply_add(n, -0.693_359_4, x));
    let polynomial = 1.987_569_1e-4;
    let polynomial = S::multiply_add(polynomial, r, 1.398_2e-3);
    let polynomial = S::multiply_add(polynomial, r, 8.333_452e-3);
    let polynomial = S::multiply_add(polynomial, r, 4.166_579_6e-2);
    let polynomial = S::multiply_add(polynomial, r, 1.666_666_5e-1);
    let polynomial = S::multiply_add(polynomial, r, 5.000_000_3e-1);
    let mantissa = S::multiply_add(polynomial, r * r, r) + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    mantissa * f32::from_bits(exponent)
}

/// `1 / (1 + e^-x)`; exactly 0 where e to the -x would leave f32: a huge negative gate closes.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(x: f32) -> f32 {
    let sigmoid = 1.0 / (1.0 + exp::<S>(-x));
    if x < -87.0 { 0.0 } else { sigmoid }
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
            (self.0.iter().map(|&x| exp::<S>(x)).collect(), self.0.iter().map(|&x| sigmoid::<S>(x)).collect())
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
