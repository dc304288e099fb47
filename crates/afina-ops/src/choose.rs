//! Operations that have a fast path: taken where it can be, else the definition.

use burn::tensor::Tensor;

use crate::{flex, reference};

/// Root mean square normalization over the last axis, then a scale per column.
///
/// # Shapes
/// - `x`: `[tokens, hidden]`
/// - `weight`: `[hidden]`, frozen: it gets no gradient
///
/// Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019; `eps` is inside the root, as in Llama.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    if flex::takes(&x) { flex::rms_norm(x, weight, eps) } else { reference::rms_norm(x, weight, eps) }
}

/// `silu(gate) · up`, with `silu(x) = x · sigmoid(x)`.
///
/// # Shapes
/// - `gate`, `up`: `[tokens, intermediate]`
///
/// Source: Shazeer, "GLU Variants Improve Transformer", 2020.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    if flex::takes(&gate) { flex::swiglu(gate, up) } else { reference::swiglu(gate, up) }
}
