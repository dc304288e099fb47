//! A projection: a frozen weight and, on top of it, an optional adapter.

use burn::tensor::Tensor;

/// `x · weightᵀ + scale · ((x · aᵀ) · bᵀ)`: LoRA in activation form, so that no dense update is ever built.
///
/// Source: Hu et al., "LoRA", 2021.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`, frozen.
    pub weight: Tensor<2>,
    pub lora: Option<LoraPair>,
}

/// The two factors of one projection's update.
#[derive(Debug, Clone)]
pub struct LoraPair {
    /// `[r, in]`
    pub a: Tensor<2>,
    /// `[out, r]`
    pub b: Tensor<2>,
    /// `alpha / r`
    pub scale: f64,
}

impl Linear {
    pub fn frozen(weight: Tensor<2>) -> Linear {
        Linear { weight, lora: None }
    }

    /// `x`: `[tokens, in]`; returns `[tokens, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.lora {
            None => afina_ops::linear(x, self.weight.clone()),
            Some(LoraPair { a, b, scale }) => {
                let low_rank = afina_ops::linear(x.clone(), a.clone()).mul_scalar(*scale); // [tokens, r]: the small side is scaled
                afina_ops::linear(x, self.weight.clone()).add(afina_ops::linear(low_rank, b.clone()))
            }
        }
    }
}
