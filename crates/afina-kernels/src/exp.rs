//! An exponential that the compiler can vectorize.

/// e to the x, within 2 units in the last place from -87 to 88; clamped beyond.
///
/// Source: Cephes `expf`: split x into n·ln 2 + r, a polynomial of degree 6 for e to the r, and n into the exponent's bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it leaves the nearest integer in the low bits
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let polynomial = 1.987_569_1e-4;
    let polynomial = polynomial * r + 1.398_2e-3;
    let polynomial = polynomial * r + 8.333_452e-3;
    let polynomial = polynomial * r + 4.166_579_6e-2;
    let polynomial = polynomial * r + 1.666_666_5e-1;
    let polynomial = polynomial * r + 5.000_000_3e-1;
    let mantissa = polynomial * r * r + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    mantissa * f32::from_bits(exponent)
}

/// `1 / (1 + e^-x)`; exactly 0 where e to the -x would leave f32: a huge negative gate closes.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let sigmoid = 1.0 / (1.0 + exp(-x));
    if x < -87.0 { 0.0 } else { sigmoid }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_exponential() {
        for step in -8700..=8800 {
            let x = step as f32 / 100.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) / expected - 1.0).abs();
            assert!(error < 2.5e-7, "exp({x}): {} instead of {expected}, {error:e}", exp(x));
        }
    }

    #[test]
    fn is_clamped_far_out() {
        assert!(exp(-1e30) < 2e-38 && exp(-1e30) >= 0.0);
        assert!(exp(1e30).is_finite());
        assert_eq!((sigmoid(-1e30), sigmoid(1e30)), (0.0, 1.0));
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        assert!(exp(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
    }
}
