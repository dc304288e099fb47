//! A projection: a frozen weight and, on top of it, an optional adapter.

use afina_ops::{Weight, reference::linear};
use burn::tensor::Tensor;

/// `x · weightᵀ + scale · ((x · aᵀ) · bᵀ)`: LoRA in activation form, so that no dense update is ever built.
///
/// Source: Hu et al., "LoRA", 2021.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`, frozen.
    pub weight: Weight,
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
    pub fn frozen(weight: Weight) -> Linear {
        Linear { weight, lora: None }
    }

    /// `x`: `[tokens, in]`; returns `[tokens, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.lora {
            None => afina_ops::linear(x, &self.weight),
            Some(LoraPair { a, b, scale }) => {
                let low_rank = linear(x.clone(), a.clone()).mul_scalar(*scale); // [tokens, r]: the small side is scaled
                afina_ops::linear(x, &self.weight).add(linear(low_rank, b.clone()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use afina_ops::test_device;
    use burn::module::{Lora, Module, ModuleMapper, Param, ParamId};
    use burn::nn::LinearConfig;
    use burn::tensor::TensorData;

    const IN: usize = 5;
    const OUT: usize = 7;
    const R: usize = 3;

    fn tensor(rows: usize, columns: usize, seed: f32) -> Tensor<2> {
        let values: Vec<f32> = (0..rows * columns).map(|i| ((i as f32 + seed) * 12.9898).sin()).collect();
        Tensor::from_data(TensorData::new(values, [rows, columns]), &test_device())
    }

    /// Puts a value into one parameter of a burn module.
    struct Set {
        id: ParamId,
        value: Tensor<2>,
    }

    impl ModuleMapper for Set {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if param.id != self.id {
                return param;
            }
            let (id, old, mapper) = param.consume();
            let value = Tensor::from_data(self.value.to_data(), &old.device()).require_grad();
            Param::from_mapped_value(id, value, mapper)
        }
    }

    #[test]
    fn activation_form_equals_burns_own_lora_forward_and_backward() {
        let alpha = 6.0;
        let (a, b) = (tensor(R, IN, 1.7), tensor(OUT, R, 2.9));
        let (x, dy) = (tensor(4, IN, 5.1), tensor(4, OUT, 8.2));

        // burn keeps [in, out], composes the dense weight and differentiates through it.
        let device = test_device().autodiff();
        let theirs = LinearConfig::new(IN, OUT).with_bias(false).init(&device).apply_lora(Lora::new(R, alpha));
        let ids = {
            let adapter = theirs.weight.adapter().expect("apply_lora adapts a linear layer");
            (adapter.a.id, adapter.b.id)
        };
        let theirs = theirs
            .map(&mut Set { id: ids.0, value: a.clone().transpose() })
            .map(&mut Set { id: ids.1, value: b.clone().transpose() });
        let base = theirs.weight.base().inner().transpose();
        let adapter = theirs.weight.adapter().expect("the adapter is still there");
        let x_theirs = x.clone().autodiff().require_grad();
        let y_theirs = theirs.forward(x_theirs.clone());
        let gradients_theirs = y_theirs.clone().mul(dy.clone()).sum().backward();

        let (a_ours, b_ours) = (a.autodiff().require_grad(), b.autodiff().require_grad());
        let pair = LoraPair { a: a_ours.clone(), b: b_ours.clone(), scale: alpha / R as f64 };
        let ours = Linear { weight: Weight::dense(base), lora: Some(pair) };
        let x_ours = x.autodiff().require_grad();
        let y_ours = ours.forward(x_ours.clone());
        let gradients_ours = y_ours.clone().mul(dy).sum().backward();

        let close = |ours: Tensor<2>, theirs: Tensor<2>, what: &str| {
            let (ours, theirs): (Vec<f32>, Vec<f32>) =
                (ours.inner().try_into_vec_as().unwrap(), theirs.inner().try_into_vec_as().unwrap());
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert!((ours - theirs).abs() <= 1e-5, "{what}: {ours}, burn has {theirs}");
            }
        };
        close(y_ours, y_theirs, "y");
        close(x_ours.grad(&gradients_ours).unwrap(), x_theirs.grad(&gradients_theirs).unwrap(), "d x");
        let a_theirs = adapter.a.val().grad(&gradients_theirs).unwrap();
        let b_theirs = adapter.b.val().grad(&gradients_theirs).unwrap();
        close(a_ours.grad(&gradients_ours).unwrap(), a_theirs.transpose(), "d a");
        close(b_ours.grad(&gradients_ours).unwrap(), b_theirs.transpose(), "d b");
    }
}
