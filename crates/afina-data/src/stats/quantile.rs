//! Quantiles as numpy takes them.

/// Quantile `q` (0 to 1) of sorted numbers, between two of them in proportion: numpy's `quantile` by its default
/// method, `linear`. Of no numbers it is 0.
pub fn quantile(sorted: &[u32], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = q.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (sorted[place as usize], sorted[(place as usize + 1).min(last)]);
    f64::from(low) + (f64::from(high) - f64::from(low)) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_numpy_s() {
        // The cookbook's example file as its notebook prints it: mean 1648.4, median 45.0, 0.1 and 0.9: 26.8, 4863.6.
        let lengths = [26, 28, 45, 111, 8032];
        assert_eq!(quantile(&lengths, 0.5), 45.0);
        assert!((quantile(&lengths, 0.1) - 26.8).abs() < 1e-9);
        assert!((quantile(&lengths, 0.9) - 4863.6).abs() < 1e-9);
        assert_eq!((quantile(&lengths, 0.0), quantile(&lengths, 1.0)), (26.0, 8032.0));
        // Python: statistics.quantiles(range(1, 101), n=20, method="inclusive")[0] = 5.95
        let numbers: Vec<u32> = (1..=100).collect();
        assert!((quantile(&numbers, 0.05) - 5.95).abs() < 1e-9);
        assert!((quantile(&numbers, 0.99) - 99.01).abs() < 1e-9);
    }

    #[test]
    fn of_one_number_every_quantile_is_that_number() {
        assert_eq!((quantile(&[7], 0.01), quantile(&[7], 1.0), quantile(&[], 0.5)), (7.0, 7.0, 0.0));
    }
}
