//! `silu(gate) · up`, with `silu(x) = x · sigmoid(x)`. Source: Shazeer, "GLU Variants Improve Transformer", 2020.
//!
//! Gate and up are the two halves of the features of one activation.

use rayon::prelude::*;

use crate::cpu::{Cpu, Kernel, run};
use crate::exp::sigmoid;
use crate::panels::{Activations, LANES};
use crate::simd::Simd;

/// `gate_up`: `[tokens, 2 · features]`; returns `[tokens, features]`.
pub fn forward(cpu: Cpu, gate_up: &Activations) -> Activations {
    let features = gate_up.features() / 2;
    let mut y = Activations::unwritten(gate_up.tokens(), features);
    y.data_mut()
        .par_chunks_exact_mut(LANES * features)
        .zip(gate_up.data().par_chunks_exact(2 * LANES * features))
        .for_each(|(y, gate_up)| {
            let (gate, up) = gate_up.split_at(LANES * features);
            run(cpu, Forward { y, gate, up });
        });
    y
}

struct Forward<'a> {
    y: &'a mut [f32],
    gate: &'a [f32],
    up: &'a [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let inputs = self.gate.chunks_exact(LANES).zip(self.up.chunks_exact(LANES));
        for (y, (gate, up)) in self.y.chunks_exact_mut(LANES).zip(inputs) {
            let gate = S::of(gate);
            S::put(S::mul(S::mul(gate, sigmoid::<S>(gate)), S::of(up)), y);
        }
    }
}

/// From the gradient at the result, which becomes the result itself again, to the gradient at `gate_up`.
///
/// The result is computed again rather than kept: the gradient of what reads it needs it.
pub fn backward(cpu: Cpu, dy_to_y: &mut Activations, gate_up: &Activations) -> Activations {
    let features = dy_to_y.features();
    let mut gradient = Activations::unwritten(gate_up.tokens(), 2 * features);
    gradient
        .data_mut()
        .par_chunks_exact_mut(2 * LANES * features)
        .zip(gate_up.data().par_chunks_exact(2 * LANES * features))
        .zip(dy_to_y.data_mut().par_chunks_exact_mut(LANES * features))
        .for_each(|((gradient, gate_up), dy_to_y)| {
            let (gate, up) = gate_up.split_at(LANES * features);
            let (d_gate, d_up) = gradient.split_at_mut(LANES * features);
            run(cpu, Backward { dy_to_y, gate, up, d_gate, d_up });
        });
    gradient
}

struct Backward<'a> {
    dy_to_y: &'a mut [f32],
    gate: &'a [f32],
    up: &'a [f32],
    d_gate: &'a mut [f32],
    d_up: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let inputs = self.gate.chunks_exact(LANES).zip(self.up.chunks_exact(LANES));
        let gradients = self.d_gate.chunks_exact_mut(LANES).zip(self.d_up.chunks_exact_mut(LANES));
        for ((y, (gate, up)), (d_gate, d_up)) in self.dy_to_y.chunks_exact_mut(LANES).zip(inputs).zip(gradients) {
            let (dy, gate, up, one) = (S::of(y), S::of(gate), S::of(up), S::splat(1.0));
            let sigmoid = sigmoid::<S>(gate);
            let silu = S::mul(gate, sigmoid);
            S::put(S::mul(dy, silu), d_up);
            let slope = S::mul(sigmoid, S::mul_add(gate, S::sub(one, sigmoid), one));
            S::put(S::mul(S::mul(dy, up), slope), d_gate);
            S::put(S::mul(silu, up), y);
        }
    }
}
