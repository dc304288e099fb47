//! Operations that have a fast path: taken where it can be, else the definition.

use afina_kernels::{
    Activations, Cpu, LANES, adamw, linear_cross_entropy as cross_entropy_kernel, rms_norm as norm_kernel,
};
use burn::tensor::{DType, Tensor, TensorData};

use crate::weight::is_cpu;
use crate::{Weight, reference};

/// `x · weightᵀ`.
///
/// # Shapes
/// - `x`: `[tokens, in]`
/// - returns `[tokens, out]`
pub fn linear(x: Tensor<2>, weight: &Weight) -> Tensor<2> {
    match weight.packed() {
        Some(matrix) if takes(&x) => {
            let device = x.device();
            let [tokens, _] = x.dims();
            let y = afina_kernels::linear(Cpu::detect(), &activations(x), matrix).to_rows();
            Tensor::from_data(TensorData::new(y, [tokens, matrix.rows()]), &device)
        }
        _ => reference::linear(x, weight.to_tensor()),
    }
}

/// Root mean square normalization over the last axis, then a scale per column.
///
/// # Shapes
/// - `x`: `[tokens, hidden]`
/// - `weight`: `[hidden]`, frozen: it gets no gradient
///
/// Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019; `eps` is inside the root, as in Llama.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    let [tokens, hidden] = x.dims();
    if tokens < LANES || !takes(&x) {
        return reference::rms_norm(x, weight, eps);
    }
    let (cpu, device) = (Cpu::detect(), x.device());
    let weight: Vec<f32> = weight.try_into_vec_as().expect("a frozen f32 weight on the CPU can be read");
    let x = activations(x);
    let (y, _) = norm_kernel::forward(cpu, &x, &weight, eps as f32);
    Tensor::from_data(TensorData::new(y.to_rows(), [tokens, hidden]), &device)
}

/// Next-token cross-entropy of some rows, each by itself, and the gradient of their sum with respect to the rows.
///
/// # Shapes
/// - `hidden`: `[rows, hidden]`, only rows whose target is trained
/// - `head`: `[vocab, hidden]`
/// - `targets`: one token id a row
///
/// Returns the loss of each row in nats, whether each row's largest logit is its target, and the gradient `[rows, hidden]` of the summed loss
/// (when asked for).
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    head: &Weight,
    targets: &[u32],
    want_gradient: bool,
) -> (Vec<f32>, Vec<bool>, Option<Tensor<2>>) {
    match head.packed() {
        Some(matrix) if takes(&hidden) => {
            let (device, dims) = (hidden.device(), hidden.dims());
            let loss = cross_entropy_kernel(Cpu::detect(), &activations(hidden), matrix, targets, want_gradient);
            let gradient =
                loss.gradient.map(|gradient| Tensor::from_data(TensorData::new(gradient.to_rows(), dims), &device));
            (loss.losses, loss.correct, gradient)
        }
        _ => reference::linear_cross_entropy(hidden, head.to_tensor(), targets, want_gradient),
    }
}

/// The 2-norm of a gradient.
pub fn norm(gradient: &Tensor<1>) -> f64 {
    if takes(gradient) { adamw::norm(&values(gradient.clone())) } else { reference::norm(gradient.clone()) }
}

/// One AdamW update of flat buffers, `[parameters]` each, after the gradient was multiplied with `update.gradient_scale`: `values` and
/// the running means of the gradient and of its square are moved.
pub fn adamw_step(update: adamw::Update, [values_of, mean, square]: [&mut Tensor<1>; 3], gradient: Tensor<1>) {
    if !takes(&gradient) {
        return reference::adamw_step(update, [values_of, mean, square], gradient);
    }
    let device = gradient.device();
    let mut taken = [&*values_of, &*mean, &*square].map(|tensor| values(tensor.clone()));
    let [new_values, new_mean, new_square] = &mut taken;
    adamw::step(Cpu::detect(), update, new_values, new_mean, new_square, &values(gradient));
    let shape = values_of.dims();
    for (tensor, moved) in [values_of, mean, square].into_iter().zip(taken) {
        *tensor = Tensor::from_data(TensorData::new(moved, shape), &device);
    }
}

/// Whether the kernels can take a tensor: f32 on the CPU, and no gradient wanted.
fn takes<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && is_cpu(&x.device()) && !x.device().is_autodiff()
}

fn activations(x: Tensor<2>) -> Activations {
    let [_, features] = x.dims();
    Activations::from_rows(&values(x), features)
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.try_into_vec_as().expect("an f32 tensor on the CPU can be read")
}
