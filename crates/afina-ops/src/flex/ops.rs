//! The operations as an extension of burn's backends: the kernel on the CPU, and its gradient in autodiff.

use std::sync::Arc;

use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::TensorData;

use super::{rms_norm, swiglu};

/// Tensors are f32 and of rank 2; the caller has seen to that.
#[backend_extension(Flex, Autodiff)]
pub trait FlexOps: Backend {
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
    fn rms_norm(x: FloatTensor<Self>, weight: Arc<Vec<f32>>, eps: f32) -> FloatTensor<Self>;
}

impl FlexOps for Flex {
    fn swiglu(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        let (gate, up) = (gate.to_contiguous(), up.to_contiguous());
        like(swiglu::forward(values(&gate), values(&up)), &gate)
    }

    fn rms_norm(x: FlexTensor, weight: Arc<Vec<f32>>, eps: f32) -> FlexTensor {
        let x = x.to_contiguous();
        like(rms_norm::forward(values(&x), &weight, eps).0, &x)
    }
}

impl<C: CheckpointStrategy> FlexOps for Autodiff<Flex, C> {
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct SwigluBackward;

        impl Backward<Flex, 2> for SwigluBackward {
            type State = (FlexTensor, FlexTensor);

            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
                let (gate, up) = ops.state;
                let (d_gate, d_up) = swiglu::backward(values(&dy), values(&gate), values(&up));
                for (parent, gradient) in ops.parents.into_iter().zip([d_gate, d_up]) {
                    if let Some(parent) = parent {
                        grads.register::<Flex>(parent.id, like(gradient, &gate));
                    }
                }
            }
        }

        let prepared = SwigluBackward.prepare::<C>([gate.node(), up.node()]).compute_bound().stateful();
        let (gate, up) = (gate.into_primitive().to_contiguous(), up.into_primitive().to_contiguous());
        let y = like(swiglu::forward(values(&gate), values(&up)), &gate);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((gate, up), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn rms_norm(x: FloatTensor<Self>, weight: Arc<Vec<f32>>, eps: f32) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct RmsNormBackward;

        impl Backward<Flex, 1> for RmsNormBackward {
            type State = (FlexTensor, Arc<Vec<f32>>, Vec<f32>);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
                let (x, weight, inverse) = ops.state;
                let [parent] = ops.parents;
                if let Some(parent) = parent {
                    let dx = rms_norm::backward(values(&dy), values(&x), &weight, &inverse);
                    grads.register::<Flex>(parent.id, like(dx, &x));
                }
            }
        }

        let prepared = RmsNormBackward.prepare::<C>([x.node()]).compute_bound().stateful();
        let x = x.into_primitive().to_contiguous();
        let (y, inverse) = rms_norm::forward(values(&x), &weight, eps);
        let y = like(y, &x);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((x, weight, inverse), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}

fn values(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("the tensor was made contiguous, and the caller checked that it is f32")
}

/// Numbers in another tensor's shape.
fn like(values: Vec<f32>, other: &FlexTensor) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, other.layout().shape().clone()))
}
