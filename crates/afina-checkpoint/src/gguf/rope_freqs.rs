//! `rope_freqs.weight`: Llama 3.1's rope scaling, which GGUF stores as the factors themselves.

use super::reader::{GgufError, GgufFile};
use crate::config::RopeScaling;

/// The tensor's name: `head_dim / 2` factors, in F32.
pub(crate) const ROPE_FREQS: &str = "rope_freqs.weight";

/// The scaling whose factors the file holds; `None` if it holds none.
///
/// GGUF keeps the factors but not the numbers they came from. Every Llama 3.1, 3.2 and 3.3 was made with low and high
/// frequency factors 1 and 4 over 8192 positions, so only `factor` is looked for, and the result is compared.
pub(crate) fn llama3_scaling(
    gguf: &GgufFile,
    head_dim: usize,
    rope_theta: f64,
) -> Result<Option<RopeScaling>, GgufError> {
    if gguf.tensor(ROPE_FREQS).is_none() {
        return Ok(None);
    }
    let found = gguf.read_f32(ROPE_FREQS)?;
    let factor = f64::from(found.iter().copied().fold(1.0, f32::max));
    let scaling = RopeScaling::Llama3 {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let expected = scaling.factors(head_dim, rope_theta);
    let equal =
        expected.len() == found.len() && expected.iter().zip(&found).all(|(a, b)| (a - b).abs() <= 1e-4 * a.abs());
    match equal {
        true => Ok(Some(scaling)),
        false => Err(GgufError::Tensor {
            path: gguf.path().into(),
            name: ROPE_FREQS.into(),
            reason: "its factors are not those of Llama 3's rope scaling".into(),
        }),
    }
}
