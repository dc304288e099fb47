//! The same operations, fast, on burn's CPU backend: one pass over memory, all cores, a backward pass of their own.
//!
//! Each is an extension of the backend with its gradient registered in burn's autodiff; `reference` is what it must equal.

mod exp;
mod ops;
mod rms_norm;
mod swiglu;

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Tensor};
use std::sync::Arc;

use ops::FlexOps;

/// Whether the fast path can take a tensor: f32 on the CPU.
pub(crate) fn takes<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && matches!(x.device().inner().as_dispatch(), DispatchDevice::Flex(_))
}

pub(crate) fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as FlexOps>::swiglu(gate.into_dispatch(), up.into_dispatch()))
}

pub(crate) fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    let weight: Vec<f32> = weight.try_to_vec_as().expect("a frozen f32 weight on the CPU can be read");
    Tensor::from_dispatch(<Dispatch as FlexOps>::rms_norm(x.into_dispatch(), Arc::new(weight), eps as f32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{reference, test_device};
    use burn::tensor::{Gradients, TensorData};

    /// Numbers that look random and are not: reproducible, of both signs, some large.
    fn tensor(rows: usize, columns: usize, seed: f32) -> Tensor<2> {
        let values: Vec<f32> = (0..rows * columns)
            .map(|i| 4.0 * ((i as f32 + seed) * 12.9898).sin() * ((i as f32) * 0.37 + seed).cos())
            .collect();
        Tensor::from_data(TensorData::new(values, [rows, columns]), &test_device())
    }

    fn assert_close(found: Tensor<2>, expected: Tensor<2>, what: &str) {
        let (found, expected): (Vec<f32>, Vec<f32>) =
            (found.try_into_vec_as().unwrap(), expected.try_into_vec_as().unwrap());
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let tolerance = 2e-6 * expected.abs().max(1.0);
            assert!((found - expected).abs() <= tolerance, "{what}[{index}]: {found}, expected {expected}");
        }
    }

    /// The gradient of sum(y · dy) with respect to each leaf.
    fn backward(y: Tensor<2>, dy: &Tensor<2>) -> Gradients {
        y.mul(dy.clone()).sum().backward()
    }

    #[test]
    fn swiglu_equals_its_definition_forward_and_backward() {
        if !takes(&tensor(1, 1, 0.0)) {
            return; // another device has no fast path to compare
        }
        for (rows, columns) in [(1, 1), (3, 5), (37, 129), (64, 1536)] {
            let (gate, up, dy) = (tensor(rows, columns, 0.1), tensor(rows, columns, 7.3), tensor(rows, columns, 3.9));
            assert_close(swiglu(gate.clone(), up.clone()), reference::swiglu(gate.clone(), up.clone()), "y");
            let leaves = || (gate.clone().autodiff().require_grad(), up.clone().autodiff().require_grad());
            let ((g1, u1), (g2, u2)) = (leaves(), leaves());
            let fast = backward(swiglu(g1.clone(), u1.clone()), &dy);
            let slow = backward(reference::swiglu(g2.clone(), u2.clone()), &dy);
            assert_close(g1.grad(&fast).unwrap(), g2.grad(&slow).unwrap(), "d gate");
            assert_close(u1.grad(&fast).unwrap(), u2.grad(&slow).unwrap(), "d up");
        }
    }

    #[test]
    fn swiglu_of_huge_gates_is_finite() {
        let gate = Tensor::<2>::from_data([[-1e30f32, -200.0, 0.0, 200.0, 1e30]], &test_device());
        let y = swiglu(gate.clone(), gate.ones_like());
        let y: Vec<f32> = y.try_into_vec_as().unwrap();
        assert_eq!(y, [-0.0, -0.0, 0.0, 200.0, 1e30]);
    }

    #[test]
    fn rms_norm_equals_its_definition_forward_and_backward() {
        if !takes(&tensor(1, 1, 0.0)) {
            return; // another device has no fast path to compare
        }
        for (rows, columns) in [(1, 1), (3, 5), (37, 129), (64, 576)] {
            let (x, dy) = (tensor(rows, columns, 0.1), tensor(rows, columns, 3.9));
            let weight: Tensor<1> = tensor(1, columns, 5.5).reshape([columns]);
            let run = |x: Tensor<2>| rms_norm(x, weight.clone(), 1e-5);
            let definition = |x: Tensor<2>| reference::rms_norm(x, weight.clone(), 1e-5);
            assert_close(run(x.clone()), definition(x.clone()), "y");
            let (x1, x2) = (x.clone().autodiff().require_grad(), x.clone().autodiff().require_grad());
            let fast = backward(run(x1.clone()), &dy);
            let slow = backward(definition(x2.clone()), &dy);
            assert_close(x1.grad(&fast).unwrap(), x2.grad(&slow).unwrap(), "d x");
        }
    }

    #[test]
    fn views_are_read_in_their_own_order() {
        let x = tensor(6, 4, 0.1);
        let columns_first = x.clone().transpose();
        assert_close(swiglu(columns_first.clone(), columns_first), reference::swiglu(x.clone(), x).transpose(), "y");
    }
}
