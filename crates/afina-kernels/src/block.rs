//! A Llama block whose weights are frozen and whose projections may carry LoRA factors: forward, and the gradients by hand.
//!
//! Source of the computation: transformers `modeling_llama.py`; Hu et al., "LoRA", 2021.

use std::ops::Range;

use crate::attention::{self, Heads};
use crate::attention_backward;
use crate::cpu::Cpu;
use crate::matrix::Matrix;
use crate::panels::Activations;
use crate::product::{self, Onto, Term};
use crate::rms_norm;
use crate::rope::RopeAngles;
use crate::swiglu;
use crate::weight_gradient::{Features, weight_gradient};

/// The frozen part of a block.
#[derive(Debug, Clone, Copy)]
pub struct BlockWeights<'a> {
    pub input_layernorm: &'a [f32],
    pub post_attention_layernorm: &'a [f32],
    /// q, k, v, o, gate, up, down, each `[out, in]`.
    pub projections: [&'a Matrix; 7],
    pub heads: Heads,
    pub rms_norm_eps: f32,
}

/// LoRA factors of one projection.
#[derive(Debug, Clone, Copy)]
pub struct Factors<'a> {
    /// `[r, in]`
    pub a: &'a [f32],
    /// `[out, r]`
    pub b: &'a [f32],
    pub r: usize,
    /// `alpha / r`
    pub scale: f32,
}

/// Which tokens see each other, and how far they have turned.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub segments: &'a [Range<usize>],
    pub rope: &'a RopeAngles,
}

/// Where the gradients of a projection's factors go.
#[derive(Debug)]
pub struct FactorGradients<'a> {
    pub a: &'a mut [f32],
    pub b: &'a mut [f32],
}

/// What the backward pass needs of the forward pass.
#[derive(Debug)]
pub struct Saved {
    x: Activations,
    attention_inverse_rms: Vec<f32>,
    qkv: Activations,
    attended: Activations,
    log_sums: Vec<f32>,
    after_attention: Activations,
    mlp_inverse_rms: Vec<f32>,
    gate_up: Activations,
    /// The small side of each projection's update, `[tokens, r]`, scaled.
    low_rank: [Option<Activations>; 7],
}

const Q: usize = 0;
const O: usize = 3;
const GATE: usize = 4;
const DOWN: usize = 6;

/// `x`: `[tokens, hidden]`, and so the result. The result alone is what [`forward_saving`] gives.
pub fn forward(
    cpu: Cpu,
    block: &BlockWeights,
    factors: &[Option<Factors>; 7],
    x: Activations,
    context: Context,
) -> Activations {
    forward_saving(cpu, block, factors, x, context).0
}

/// The result, and what [`backward`] needs.
pub fn forward_saving(
    cpu: Cpu,
    block: &BlockWeights,
    factors: &[Option<Factors>; 7],
    x: Activations,
    context: Context,
) -> (Activations, Saved) {
    let packed = pack(factors);
    let mut low_rank = [const { None }; 7];
    let tokens = x.tokens();
    let widths = block.projections.map(Matrix::rows);

    let attention_inverse_rms = rms_norm::inverse_rms(cpu, &x, block.rms_norm_eps);
    let normed = rms_norm::normalize(cpu, &x, &attention_inverse_rms, block.input_layernorm);
    let mut qkv = Activations::unwritten(tokens, block.heads.features());
    let mut first = 0;
    for projection in Q..O {
        low_rank[projection] = project(cpu, block, &packed, projection, &normed, Onto::Nothing, &mut qkv, first);
        first += widths[projection];
    }
    drop(normed);
    let (attended, log_sums) = attention::forward(cpu, &qkv, context.segments, context.rope, block.heads);
    let mut after_attention = Activations::unwritten(tokens, x.features());
    low_rank[O] = project(cpu, block, &packed, O, &attended, Onto::Residual(&x), &mut after_attention, 0);

    let mlp_inverse_rms = rms_norm::inverse_rms(cpu, &after_attention, block.rms_norm_eps);
    let normed = rms_norm::normalize(cpu, &after_attention, &mlp_inverse_rms, block.post_attention_layernorm);
    let mut gate_up = Activations::unwritten(tokens, widths[GATE] + widths[GATE + 1]);
    low_rank[GATE] = project(cpu, block, &packed, GATE, &normed, Onto::Nothing, &mut gate_up, 0);
    low_rank[GATE + 1] = project(cpu, block, &packed, GATE + 1, &normed, Onto::Nothing, &mut gate_up, widths[GATE]);
    drop(normed);
    let gated = swiglu::forward(cpu, &gate_up);
    let mut y = Activations::unwritten(tokens, x.features());
    low_rank[DOWN] = project(cpu, block, &packed, DOWN, &gated, Onto::Residual(&after_attention), &mut y, 0);

    let saved = Saved {
        x,
        attention_inverse_rms,
        qkv,
        attended,
        log_sums,
        after_attention,
        mlp_inverse_rms,
        gate_up,
        low_rank,
    };
    (y, saved)
}

/// From the gradient at the result to the gradient at `x`; the gradients of the factors are written where `gradients` says.
pub fn backward(
    cpu: Cpu,
    block: &BlockWeights,
    factors: &[Option<Factors>; 7],
    saved: Saved,
    d_y: Activations,
    context: Context,
    gradients: &mut [Option<FactorGradients>; 7],
) -> Activations {
    let packed = pack(factors);
    let mut pass = BackwardPass { cpu, block, packed: &packed, low_rank: &saved.low_rank, gradients };

    // Feed-forward: y = after_attention + down(silu(gate) · up).
    let mut gated = Activations::unwritten(d_y.tokens(), block.projections[DOWN].columns());
    let low = [pass.low_rank_gradient(DOWN, &d_y, 0)];
    pass.input_gradient(DOWN..DOWN + 1, &d_y, &low, &mut gated);
    let d_gate_up = swiglu::backward(cpu, &mut gated, &saved.gate_up);
    pass.factor_gradients(DOWN, &d_y, 0, &gated, &low[0]);
    drop(gated);

    let width = block.projections[GATE].rows();
    let low = [pass.low_rank_gradient(GATE, &d_gate_up, 0), pass.low_rank_gradient(GATE + 1, &d_gate_up, width)];
    let mut d_normed = Activations::unwritten(d_y.tokens(), d_y.features());
    pass.input_gradient(GATE..DOWN, &d_gate_up, &low, &mut d_normed);
    let inverse = &saved.mlp_inverse_rms;
    let normed = rms_norm::normalize(cpu, &saved.after_attention, inverse, block.post_attention_layernorm);
    pass.factor_gradients(GATE, &d_gate_up, 0, &normed, &low[0]);
    pass.factor_gradients(GATE + 1, &d_gate_up, width, &normed, &low[1]);
    drop((normed, d_gate_up));
    let mut d_x = d_y; // the residual's share
    rms_norm::backward_onto(cpu, &d_normed, &saved.after_attention, inverse, block.post_attention_layernorm, &mut d_x);

    // Attention: after_attention = x + o(attention(q, k, v)).
    let mut d_attended = Activations::unwritten(d_x.tokens(), block.heads.out_features());
    let low = [pass.low_rank_gradient(O, &d_x, 0)];
    pass.input_gradient(O..O + 1, &d_x, &low, &mut d_attended);
    pass.factor_gradients(O, &d_x, 0, &saved.attended, &low[0]);
    let of_attention = attention_backward::Saved { qkv: &saved.qkv, out: &saved.attended, log_sums: &saved.log_sums };
    let d_qkv =
        attention_backward::backward(cpu, &d_attended, of_attention, context.segments, context.rope, block.heads);
    drop(d_attended);

    let firsts = [0, block.projections[Q].rows(), block.projections[Q].rows() + block.projections[Q + 1].rows()];
    let low = [0, 1, 2].map(|part| pass.low_rank_gradient(Q + part, &d_qkv, firsts[part]));
    pass.input_gradient(Q..O, &d_qkv, &low, &mut d_normed);
    let inverse = &saved.attention_inverse_rms;
    let normed = rms_norm::normalize(cpu, &saved.x, inverse, block.input_layernorm);
    for part in 0..3 {
        pass.factor_gradients(Q + part, &d_qkv, firsts[part], &normed, &low[part]);
    }
    rms_norm::backward_onto(cpu, &d_normed, &saved.x, inverse, block.input_layernorm, &mut d_x);
    d_x
}

/// A projection's factors, laid out for products: `a` is scaled, `b` is not.
struct PackedFactors {
    a: Matrix,
    b: Matrix,
    scale: f32,
}

fn pack(factors: &[Option<Factors>; 7]) -> [Option<PackedFactors>; 7] {
    factors.map(|factors| {
        let Factors { a, b, r, scale } = factors?;
        let a = Matrix::scaled(a, r, a.len() / r, scale);
        Some(PackedFactors { a, b: Matrix::scaled(b, b.len() / r, r, 1.0), scale })
    })
}

/// `out[first..] = onto + W·x + B·(scale · A·x)`; returns the small side, `scale · A·x`.
#[allow(clippy::too_many_arguments)]
fn project(
    cpu: Cpu,
    block: &BlockWeights,
    packed: &[Option<PackedFactors>; 7],
    projection: usize,
    x: &Activations,
    onto: Onto,
    out: &mut Activations,
    first: usize,
) -> Option<Activations> {
    let base = Term { matrix: block.projections[projection], x, first: 0 };
    let Some(PackedFactors { a, b, .. }) = &packed[projection] else {
        product::forward(cpu, &[base], onto, out, first);
        return None;
    };
    let mut low_rank = Activations::unwritten(x.tokens(), a.rows());
    product::forward(cpu, &[Term { matrix: a, x, first: 0 }], Onto::Nothing, &mut low_rank, 0);
    product::forward(cpu, &[base, Term { matrix: b, x: &low_rank, first: 0 }], onto, out, first);
    Some(low_rank)
}

struct BackwardPass<'a, 'g> {
    cpu: Cpu,
    block: &'a BlockWeights<'a>,
    packed: &'a [Option<PackedFactors>; 7],
    low_rank: &'a [Option<Activations>; 7],
    gradients: &'a mut [Option<FactorGradients<'g>>; 7],
}

impl BackwardPass<'_, '_> {
    /// `Bᵀ·dy`, `dy` being the features from `first` on.
    fn low_rank_gradient(&self, projection: usize, d_y: &Activations, first: usize) -> Option<Activations> {
        let PackedFactors { b, .. } = self.packed[projection].as_ref()?;
        let mut low_rank = Activations::unwritten(d_y.tokens(), b.columns());
        product::backward(self.cpu, &[Term { matrix: b, x: d_y, first }], Onto::Nothing, &mut low_rank, 0);
        Some(low_rank)
    }

    /// `Σ Wᵀ·dy + (scale · A)ᵀ·Bᵀ·dy` over projections that read the same input, their outputs lying side by side in `d_y`.
    fn input_gradient(
        &self,
        projections: Range<usize>,
        d_y: &Activations,
        low: &[Option<Activations>],
        d_x: &mut Activations,
    ) {
        let mut terms = Vec::with_capacity(2 * low.len());
        let mut first = 0;
        for (projection, low) in projections.zip(low) {
            let matrix = self.block.projections[projection];
            terms.push(Term { matrix, x: d_y, first });
            first += matrix.rows();
            if let (Some(PackedFactors { a, .. }), Some(low)) = (&self.packed[projection], low) {
                terms.push(Term { matrix: a, x: low, first: 0 });
            }
        }
        product::backward(self.cpu, &terms, Onto::Nothing, d_x, 0);
    }

    /// `dA = scale · (Bᵀ·dy)·xᵀ` and `dB = dy·(scale · A·x)ᵀ`.
    fn factor_gradients(
        &mut self,
        projection: usize,
        d_y: &Activations,
        first: usize,
        x: &Activations,
        low: &Option<Activations>,
    ) {
        let (Some(low), Some(PackedFactors { b, scale, .. }), Some(low_rank), Some(to)) =
            (low, &self.packed[projection], &self.low_rank[projection], &mut self.gradients[projection])
        else {
            return;
        };
        let all = |of| Features { of, first: 0, count: Activations::features(of) };
        weight_gradient(self.cpu, all(low), all(x), *scale, to.a);
        let of_y = Features { of: d_y, first, count: b.rows() };
        weight_gradient(self.cpu, of_y, all(low_rank), 1.0, to.b);
    }
}
