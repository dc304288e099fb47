//! The same model on the processor's kernels: every matrix packed, activations in panels, gradients by hand.

use std::ops::Range;

use afina_kernels::attention::Heads;
use afina_kernels::block::{BlockWeights, Factors};
use afina_kernels::{Activations, Cpu, Matrix, RopeAngles, rms_norm};
use afina_ops::Segments;
use burn::tensor::Tensor;

use crate::{Block, Linear, Llama, LoraPair, LoraSet};

/// A [`Llama`] as the kernels take it; its matrices are borrowed.
pub struct PackedLlama<'m> {
    pub cpu: Cpu,
    pub embed_tokens: &'m Matrix,
    pub blocks: Vec<PackedBlock<'m>>,
    pub norm: Vec<f32>,
    pub lm_head: &'m Matrix,
    pub rms_norm_eps: f32,
    inverse_frequencies: &'m [f32],
}

/// A [`Block`] as the kernels take it.
pub struct PackedBlock<'m> {
    input_layernorm: Vec<f32>,
    post_attention_layernorm: Vec<f32>,
    projections: [&'m Matrix; 7],
    heads: Heads,
    rms_norm_eps: f32,
    /// The adapter that sits on the model already.
    attached: [Option<OwnedFactors>; 7],
}

struct OwnedFactors {
    a: Vec<f32>,
    b: Vec<f32>,
    r: usize,
    scale: f32,
}

impl<'m> PackedLlama<'m> {
    /// Nothing where a matrix is not packed: on another device than the processor.
    pub fn new(model: &'m Llama) -> Option<PackedLlama<'m>> {
        Some(PackedLlama {
            cpu: Cpu::detect(),
            embed_tokens: model.embed_tokens.packed()?,
            blocks: model.layers.iter().map(PackedBlock::new).collect::<Option<_>>()?,
            norm: floats(&model.norm),
            lm_head: model.lm_head.packed()?,
            rms_norm_eps: model.config.rms_norm_eps as f32,
            inverse_frequencies: model.rope.inverse_frequencies(),
        })
    }

    /// Angles for the longest of the segments.
    pub fn rope(&self, segments: &Segments) -> RopeAngles {
        let longest = segments.ranges().iter().map(Range::len).max().unwrap_or(0);
        RopeAngles::new(self.inverse_frequencies, longest)
    }

    /// The final norm of some tokens, and what its gradient needs.
    pub fn final_norm(&self, hidden: &Activations) -> (Activations, Vec<f32>) {
        rms_norm::forward(self.cpu, hidden, &self.norm, self.rms_norm_eps)
    }
}

impl<'m> PackedBlock<'m> {
    fn new(block: &'m Block) -> Option<PackedBlock<'m>> {
        let linears = block.projections().map(|(_, linear)| linear);
        let mut projections = Vec::with_capacity(7);
        for linear in linears {
            projections.push(linear.weight.packed()?);
        }
        Some(PackedBlock {
            input_layernorm: floats(&block.input_layernorm),
            post_attention_layernorm: floats(&block.post_attention_layernorm),
            projections: projections.try_into().expect("a block has seven projections"),
            heads: Heads {
                heads: block.self_attn.num_attention_heads,
                kv_heads: block.self_attn.num_key_value_heads,
                head_dim: block.self_attn.head_dim,
            },
            rms_norm_eps: block.rms_norm_eps as f32,
            attached: linears.map(OwnedFactors::of),
        })
    }

    pub fn weights(&self) -> BlockWeights<'_> {
        BlockWeights {
            input_layernorm: &self.input_layernorm,
            post_attention_layernorm: &self.post_attention_layernorm,
            projections: self.projections,
            heads: self.heads,
            rms_norm_eps: self.rms_norm_eps,
        }
    }

    /// The factors that sit on the model.
    pub fn attached(&self) -> [Option<Factors<'_>>; 7] {
        self.attached.each_ref().map(|factors| {
            factors.as_ref().map(|OwnedFactors { a, b, r, scale }| Factors { a, b, r: *r, scale: *scale })
        })
    }

    /// The factors of a layer that are trained, `values` being the adapter's flat buffer; where none are, those that sit on the model.
    pub fn factors<'v>(&'v self, lora: &LoraSet, layer: usize, values: &'v [f32]) -> [Option<Factors<'v>>; 7] {
        let mut factors = self.attached();
        for module in lora.modules.iter().filter(|module| module.layer == layer) {
            let (a, b) = module.ranges(lora.config.r);
            let scale = (lora.config.alpha / lora.config.r as f64) as f32;
            factors[module.place()] = Some(Factors { a: &values[a], b: &values[b], r: lora.config.r, scale });
        }
        factors
    }
}

impl OwnedFactors {
    fn of(linear: &Linear) -> Option<OwnedFactors> {
        let LoraPair { a, b, scale } = linear.lora.as_ref()?;
        let [r, _] = a.dims();
        Some(OwnedFactors { a: floats(a), b: floats(b), r, scale: *scale as f32 })
    }
}

fn floats<const D: usize>(values: &Tensor<D>) -> Vec<f32> {
    values.try_to_vec_as().expect("f32 tensors on the processor can be read")
}
