//! How far apart a model may be for the format that its weights are stored in.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// Mean KL divergence, nats per token.
    pub max_kl: f64,
    /// Share of tokens behind which the same one is the likeliest.
    pub min_top1: f64,
}

/// From the finest to the coarsest.
const LIMITS: [(&str, f64, f64); 12] = [
    ("F64", 1e-6, 0.999),
    ("F32", 1e-6, 0.999),
    ("F16", 1e-3, 0.98),
    ("BF16", 1e-3, 0.98),
    ("Q8_0", 1e-2, 0.95),
    ("Q6_K", 2e-2, 0.93),
    ("Q5_K", 5e-2, 0.90),
    ("Q5_1", 5e-2, 0.90),
    ("Q5_0", 5e-2, 0.90),
    ("Q4_K", 2e-1, 0.80),
    ("Q4_1", 2e-1, 0.80),
    ("Q4_0", 3e-1, 0.75),
];

/// The coarsest of a model's formats, and what it explains. A format that is not listed is taken for the coarsest that is.
pub fn limits<'f>(formats: impl IntoIterator<Item = &'f str>) -> (&'f str, Limits) {
    let place = |format: &str| LIMITS.iter().position(|(name, ..)| *name == format).unwrap_or(LIMITS.len());
    let coarsest = formats.into_iter().max_by_key(|format| place(format)).unwrap_or("F32");
    let (_, max_kl, min_top1) = LIMITS[place(coarsest).min(LIMITS.len() - 1)];
    (coarsest, Limits { max_kl, min_top1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_held_to_its_coarsest_format() {
        assert_eq!(limits(["F32"]).0, "F32");
        assert_eq!(limits(["Q6_K", "Q4_K", "Q5_0", "Q8_0"]).0, "Q4_K");
        assert_eq!(limits(["BF16", "F32"]).0, "BF16");
        assert_eq!(limits(["U8", "F32"]), ("U8", limits(["Q4_0"]).1));
        assert_eq!(limits([]).0, "F32");
    }

    #[test]
    fn a_coarser_format_is_never_held_to_more() {
        for pair in LIMITS.windows(2) {
            assert!(pair[0].1 <= pair[1].1 && pair[0].2 >= pair[1].2, "{} and {}", pair[0].0, pair[1].0);
        }
    }
}
