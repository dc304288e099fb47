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
use crate::weight_gradient::{Features, WeightGradient, weight_gradients};

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
    /// The small sides of each group's updates.
    low_rank: [Option<Activations>; 4],
}

/// Projections of one input are computed at once, their results side by side: q, k and v; o; gate and up; down.
const GROUPS: [Range<usize>; 4] = [0..3, 3..4, 4..6, 6..7];
const QKV: usize = 0;
const O: usize = 1;
const GATE_UP: usize = 2;
const DOWN: usize = 3;

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
    let groups = groups(block, factors);

    let (normed, attention_inverse_rms) = rms_norm::forward(cpu, &x, block.input_layernorm, block.rms_norm_eps);
    let (qkv, low_qkv) = groups[QKV].forward(cpu, &normed, Onto::Nothing);
    drop(normed);
    let (attended, log_sums) = attention::forward(cpu, &qkv, context.segments, context.rope, block.heads);
    let (after_attention, low_o) = groups[O].forward(cpu, &attended, Onto::Residual(&x));

    let (normed, mlp_inverse_rms) =
        rms_norm::forward(cpu, &after_attention, block.post_attention_layernorm, block.rms_norm_eps);
    let (gate_up, low_gate_up) = groups[GATE_UP].forward(cpu, &normed, Onto::Nothing);
    drop(normed);
    let gated = swiglu::forward(cpu, &gate_up);
    let (y, low_down) = groups[DOWN].forward(cpu, &gated, Onto::Residual(&after_attention));

    let low_rank = [low_qkv, low_o, low_gate_up, low_down];
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
    let groups = groups(block, factors);
    let mut to = GROUPS.map(|group| gradients[group].iter_mut().map(Option::take).collect::<Vec<_>>());
    let mut to_of = |group: usize| std::mem::take(&mut to[group]);

    // Feed-forward: y = after_attention + down(silu(gate) · up).
    let (mut gated, low) = groups[DOWN].backward(cpu, &d_y);
    let d_gate_up = swiglu::backward(cpu, &mut gated, &saved.gate_up);
    groups[DOWN].factor_gradients(cpu, &gated, &d_y, &saved.low_rank[DOWN], &low, to_of(DOWN));
    drop(gated);

    let (d_normed, low) = groups[GATE_UP].backward(cpu, &d_gate_up);
    let inverse = &saved.mlp_inverse_rms;
    let normed = rms_norm::normalize(cpu, &saved.after_attention, inverse, block.post_attention_layernorm);
    groups[GATE_UP].factor_gradients(cpu, &normed, &d_gate_up, &saved.low_rank[GATE_UP], &low, to_of(GATE_UP));
    drop((normed, d_gate_up));
    let mut d_x = d_y; // the residual's share
    rms_norm::backward_onto(cpu, &d_normed, &saved.after_attention, inverse, block.post_attention_layernorm, &mut d_x);
    drop(d_normed);

    // Attention: after_attention = x + o(attention(q, k, v)).
    let (d_attended, low) = groups[O].backward(cpu, &d_x);
    groups[O].factor_gradients(cpu, &saved.attended, &d_x, &saved.low_rank[O], &low, to_of(O));
    let of_attention = attention_backward::Saved { qkv: &saved.qkv, out: &saved.attended, log_sums: &saved.log_sums };
    let d_qkv =
        attention_backward::backward(cpu, &d_attended, of_attention, context.segments, context.rope, block.heads);
    drop(d_attended);

    let (d_normed, low) = groups[QKV].backward(cpu, &d_qkv);
    let inverse = &saved.attention_inverse_rms;
    let normed = rms_norm::normalize(cpu, &saved.x, inverse, block.input_layernorm);
    groups[QKV].factor_gradients(cpu, &normed, &d_qkv, &saved.low_rank[QKV], &low, to_of(QKV));
    rms_norm::backward_onto(cpu, &d_normed, &saved.x, inverse, block.input_layernorm, &mut d_x);
    d_x
}

/// Projections of one input.
struct Group<'a> {
    projections: Vec<Projection<'a>>,
    /// All ranks together: features of the small side.
    ranks: usize,
}

struct Projection<'a> {
    weight: &'a Matrix,
    /// Where its result begins in the group's.
    first: usize,
    factors: Option<PackedFactors>,
}

/// A projection's factors, laid out for products: `a` is scaled, `b` is not.
struct PackedFactors {
    a: Matrix,
    b: Matrix,
    scale: f32,
    /// Where its small side begins in the group's.
    first: usize,
}

fn groups<'a>(block: &BlockWeights<'a>, factors: &[Option<Factors>; 7]) -> [Group<'a>; 4] {
    GROUPS.map(|group| {
        let (mut rows, mut ranks) = (0, 0);
        let projections = group.map(|projection| {
            let weight = block.projections[projection];
            let factors = factors[projection].map(|Factors { a, b, r, scale }| {
                let (a, b) = (Matrix::scaled(a, r, a.len() / r, scale), Matrix::scaled(b, b.len() / r, r, 1.0));
                ranks += r;
                PackedFactors { a, b, scale, first: ranks - r }
            });
            rows += weight.rows();
            Projection { weight, first: rows - weight.rows(), factors }
        });
        let projections = projections.collect();
        Group { projections, ranks }
    })
}

impl Group<'_> {
    fn packed(&self) -> impl Iterator<Item = (&Projection<'_>, &PackedFactors)> {
        self.projections.iter().filter_map(|projection| Some((projection, projection.factors.as_ref()?)))
    }

    /// `onto + W·x + B·(scale · A·x)`, and the small side, `scale · A·x`, where there is one.
    fn forward(&self, cpu: Cpu, x: &Activations, onto: Onto) -> (Activations, Option<Activations>) {
        let low_rank = (self.ranks > 0).then(|| {
            let mut low_rank = Activations::unwritten(x.tokens(), self.ranks);
            let parts = self.packed().map(|(_, PackedFactors { a, .. })| vec![Term { matrix: a, x, first: 0 }]);
            product::forward(cpu, &parts.collect::<Vec<_>>(), Onto::Nothing, &mut low_rank);
            low_rank
        });
        let rows = self.projections.iter().map(|projection| projection.weight.rows()).sum();
        let mut out = Activations::unwritten(x.tokens(), rows);
        let parts = self.projections.iter().map(|Projection { weight, factors, .. }| {
            let mut terms = vec![Term { matrix: weight, x, first: 0 }];
            if let (Some(PackedFactors { b, first, .. }), Some(low_rank)) = (factors, &low_rank) {
                terms.push(Term { matrix: b, x: low_rank, first: *first });
            }
            terms
        });
        product::forward(cpu, &parts.collect::<Vec<_>>(), onto, &mut out);
        (out, low_rank)
    }

    /// `Σ Wᵀ·dy + (scale · A)ᵀ·Bᵀ·dy`, and `Bᵀ·dy`.
    fn backward(&self, cpu: Cpu, d_y: &Activations) -> (Activations, Option<Activations>) {
        let low_rank = (self.ranks > 0).then(|| {
            let mut low_rank = Activations::unwritten(d_y.tokens(), self.ranks);
            let parts = self.packed().map(|(Projection { first, .. }, PackedFactors { b, .. })| {
                vec![Term { matrix: b, x: d_y, first: *first }]
            });
            product::backward(cpu, &parts.collect::<Vec<_>>(), Onto::Nothing, &mut low_rank);
            low_rank
        });
        let mut terms = Vec::with_capacity(2 * self.projections.len());
        for Projection { weight, first, factors } in &self.projections {
            terms.push(Term { matrix: weight, x: d_y, first: *first });
            if let (Some(PackedFactors { a, first, .. }), Some(low_rank)) = (factors, &low_rank) {
                terms.push(Term { matrix: a, x: low_rank, first: *first });
            }
        }
        let mut d_x = Activations::unwritten(d_y.tokens(), self.projections[0].weight.columns());
        product::backward(cpu, &[terms], Onto::Nothing, &mut d_x);
        (d_x, low_rank)
    }

    /// `dA = scale · (Bᵀ·dy)·xᵀ` and `dB = dy·(scale · A·x)ᵀ`, where they are asked for.
    fn factor_gradients(
        &self,
        cpu: Cpu,
        x: &Activations,
        d_y: &Activations,
        low_rank: &Option<Activations>,
        d_low_rank: &Option<Activations>,
        to: Vec<Option<FactorGradients>>,
    ) {
        let (Some(low_rank), Some(d_low_rank)) = (low_rank, d_low_rank) else { return };
        let mut gradients = Vec::with_capacity(2 * to.len());
        for (projection, to) in self.projections.iter().zip(to) {
            let (Some(factors), Some(FactorGradients { a, b })) = (&projection.factors, to) else { continue };
            let of = |of, first, count| Features { of, first, count };
            let (r, rows) = (factors.a.rows(), projection.weight.rows());
            let (left, right) = (of(d_low_rank, factors.first, r), of(x, 0, x.features()));
            gradients.push(WeightGradient { left, right, scale: factors.scale, to: a });
            let (left, right) = (of(d_y, projection.first, rows), of(low_rank, factors.first, r));
            gradients.push(WeightGradient { left, right, scale: 1.0, to: b });
        }
        weight_gradients(cpu, gradients);
    }
}
