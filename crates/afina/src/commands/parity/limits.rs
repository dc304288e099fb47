//! How far apart a model may be for the format that its weights are stored in.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// Mean KL divergence, nats per token.
    pub max_kl: f64,
    /// Share of tokens behind which the same one is the likeliest.
    pub min_top1: f64,
}

/// From the finest to the coarsest: a format, its largest mean KL and its smallest share of the same likeliest token.
///
/// Chosen by measurement: SmolLM2-135M-Instruct with an adapter of rank 16 on all projections that moves a logit by 7.9 on
/// average, merged, over 376 tokens of the conversations it was trained on (`tests/peers/perplexity.py` measures the same).
///
/// | weights | mean KL | same top | perplexity, 2.217 as trained |
/// |---|---:|---:|---:|
/// | merged folder, F32 GGUF | 5.7e-11 | 100 % | 2.217 |
/// | F32 GGUF in llama.cpp | 3.9e-11 | 100 % | |
/// | BF16 | 2.0e-4 | 100 % | 2.218 |
/// | Q8_0 (in llama.cpp) | 2.7e-3 (7.5e-3) | 97.6 (97.3) % | 2.226 |
/// | Q6_K | 1.3e-2 | 96.3 % | 2.252 |
/// | Q4_K_M | 0.12 | 87.0 % | 2.692 |
/// | Q5_0 | 0.21 | 87.0 % | 2.830 |
/// | Q5_K_M, of Q5_1 where rows are no whole blocks (in llama.cpp) | 0.48 (0.52) | 77.7 (75.1) % | 2.997 |
/// | Q4_0 | 0.74 | 60.6 % | 6.620 |
///
/// The limits are a few times what is noise there, and between what a format does to a model and what it should not: the last
/// three are no longer the model that was trained, in llama.cpp as little as here, and are beyond them.
const LIMITS: [(&str, f64, f64); 12] = [
    ("F64", 1e-6, 0.999),
    ("F32", 1e-6, 0.999),
    ("F16", 1e-3, 0.98),
    ("BF16", 1e-3, 0.98),
    ("Q8_0", 2e-2, 0.95),
    ("Q6_K", 5e-2, 0.93),
    ("Q5_K", 0.1, 0.90),
    ("Q5_1", 0.1, 0.90),
    ("Q5_0", 0.1, 0.90),
    ("Q4_K", 0.3, 0.80),
    ("Q4_1", 0.3, 0.80),
    ("Q4_0", 0.3, 0.80),
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
