//! `silu(gate) · up` in one pass, and its two gradients in one.

use rayon::prelude::*;

use super::exp::exp;

/// Elements a thread takes at once: fits the second-level cache with its inputs.
const CHUNK: usize = 16 * 1024;

pub(crate) fn forward(gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut y = vec![0f32; gate.len()];
    y.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK)).for_each(|((y, gate), up)| {
        for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
            *y = gate * sigmoid(gate) * up;
        }
    });
    y
}

/// The gradients of `gate` and `up`. The sigmoid is computed again rather than kept.
pub(crate) fn backward(dy: &[f32], gate: &[f32], up: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (mut d_gate, mut d_up) = (vec![0f32; gate.len()], vec![0f32; gate.len()]);
    d_gate
        .par_chunks_mut(CHUNK)
        .zip(d_up.par_chunks_mut(CHUNK))
        .zip(dy.par_chunks(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK)))
        .for_each(|((d_gate, d_up), ((dy, gate), up))| {
            for (((d_gate, d_up), &dy), (&gate, &up)) in d_gate.iter_mut().zip(d_up).zip(dy).zip(gate.iter().zip(up)) {
                let sigmoid = sigmoid(gate);
                *d_up = dy * gate * sigmoid;
                *d_gate = dy * up * sigmoid * (1.0 + gate * (1.0 - sigmoid));
            }
        });
    (d_gate, d_up)
}

/// Exactly 0 where e to the -x would leave f32: a huge negative gate closes.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    let sigmoid = 1.0 / (1.0 + exp(-x));
    if x < -87.0 { 0.0 } else { sigmoid }
}
