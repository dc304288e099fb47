//! In how many bits a base's weights are kept while an adapter is trained on them.

use afina_checkpoint::{Dtype, ModelDir};
use afina_model::Precision;

/// `auto` keeps them as the checkpoint has them, so that nothing of them is lost and bf16 takes half the memory.
pub(crate) fn precision(word: &str, base: &ModelDir) -> Precision {
    let stored = || base.info("model.embed_tokens.weight").map(|info| info.dtype);
    match word {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        _ if stored() == Some(Dtype::BF16) => Precision::Bf16,
        _ => Precision::F32,
    }
}
