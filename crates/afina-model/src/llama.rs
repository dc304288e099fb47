//! The whole model in reading order. Fields are named as the checkpoint's tensors.
//!
//! Source of the computation: transformers `modeling_llama.py`.

use afina_checkpoint::LlamaConfig;
use afina_ops::Segments;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{KvCache, Linear, RopeTable};

#[derive(Debug, Clone)]
pub struct Llama {
    pub config: LlamaConfig,
    /// `[vocab, hidden]`
    pub embed_tokens: Tensor<2>,
    pub layers: Vec<Block>,
    /// `[hidden]`
    pub norm: Tensor<1>,
    /// `[vocab, hidden]`; the embedding itself when the checkpoint ties them.
    pub lm_head: Tensor<2>,
    pub rope: RopeTable,
}

#[derive(Debug, Clone)]
pub struct Block {
    pub input_layernorm: Tensor<1>,
    pub self_attn: Attention,
    pub post_attention_layernorm: Tensor<1>,
    pub mlp: Mlp,
    pub rms_norm_eps: f64,
}

#[derive(Debug, Clone)]
pub struct Attention {
    pub q_proj: Linear,
    pub k_proj: Linear,
    pub v_proj: Linear,
    pub o_proj: Linear,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
}

#[derive(Debug, Clone)]
pub struct Mlp {
    pub gate_proj: Linear,
    pub up_proj: Linear,
    pub down_proj: Linear,
}

/// What a block needs to know of the tokens it sees: `cos` and `sin` are `[tokens, head_dim / 2]`.
#[derive(Debug, Clone)]
pub struct Context {
    pub cos: Tensor<2>,
    pub sin: Tensor<2>,
    pub segments: Segments,
}

impl Llama {
    pub fn device(&self) -> Device {
        self.embed_tokens.device()
    }

    /// Angles and segments of a flat batch whose first tokens are at position `first`.
    pub fn context(&self, segments: Segments, first: usize) -> Context {
        let (cos, sin) = self.rope.at(&segments.positions(first), &self.device());
        Context { cos, sin, segments }
    }

    /// `[tokens, hidden]`
    pub fn embed(&self, tokens: &[u32]) -> Tensor<2> {
        let ids: Vec<i32> = tokens.iter().map(|&id| id as i32).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [tokens.len()]), &self.device());
        self.embed_tokens.clone().select(0, ids)
    }

    /// Final hidden states, normalized: `[tokens, hidden]`. With a cache, the tokens follow those it holds, and are added to it.
    pub fn forward(&self, tokens: &[u32], segments: Segments, mut cache: Option<&mut KvCache>) -> Tensor<2> {
        let first = cache.as_ref().map_or(0, |cache| cache.len());
        let context = self.context(segments, first);
        let mut hidden = self.embed(tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            hidden = match cache.as_deref_mut() {
                None => layer.forward(hidden, &context),
                Some(cache) => layer.forward_cached(hidden, &context, index, cache),
            };
        }
        if let Some(cache) = cache {
            cache.advance(tokens);
        }
        self.final_norm(hidden)
    }

    /// Like [`Llama::forward`] behind `past`, which every segment sees and none changes.
    pub fn forward_after(&self, past: &KvCache, tokens: &[u32], segments: Segments) -> Tensor<2> {
        let context = self.context(segments, past.len());
        let mut hidden = self.embed(tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            hidden = layer.forward_with(hidden, |attention, x| attention.forward(x, &context, past.past(index)).0);
        }
        self.final_norm(hidden)
    }

    pub fn final_norm(&self, hidden: Tensor<2>) -> Tensor<2> {
        afina_ops::rms_norm(hidden, self.norm.clone(), self.config.rms_norm_eps)
    }

    /// `[tokens, vocab]`
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        afina_ops::linear(hidden, self.lm_head.clone())
    }
}

impl Block {
    /// `x`: `[tokens, hidden]`, and so the result.
    pub fn forward(&self, x: Tensor<2>, context: &Context) -> Tensor<2> {
        self.forward_with(x, |attention, x| attention.forward(x, context, None).0)
    }

    fn forward_cached(&self, x: Tensor<2>, context: &Context, index: usize, cache: &mut KvCache) -> Tensor<2> {
        let past = cache.past(index);
        self.forward_with(x, |attention, x| {
            let (out, k, v) = attention.forward(x, context, past);
            cache.append(index, k, v);
            out
        })
    }

    fn forward_with(&self, x: Tensor<2>, attend: impl FnOnce(&Attention, Tensor<2>) -> Tensor<2>) -> Tensor<2> {
        let normed = afina_ops::rms_norm(x.clone(), self.input_layernorm.clone(), self.rms_norm_eps);
        let x = x.add(attend(&self.self_attn, normed));
        let normed = afina_ops::rms_norm(x.clone(), self.post_attention_layernorm.clone(), self.rms_norm_eps);
        x.add(self.mlp.forward(normed))
    }

    /// The seven projections by their checkpoint names, in checkpoint order.
    pub fn projections_mut(&mut self) -> [(&'static str, &mut Linear); 7] {
        [
            ("q_proj", &mut self.self_attn.q_proj),
            ("k_proj", &mut self.self_attn.k_proj),
            ("v_proj", &mut self.self_attn.v_proj),
            ("o_proj", &mut self.self_attn.o_proj),
            ("gate_proj", &mut self.mlp.gate_proj),
            ("up_proj", &mut self.mlp.up_proj),
            ("down_proj", &mut self.mlp.down_proj),
        ]
    }

    /// The same, to read.
    pub fn projections(&self) -> [(&'static str, &Linear); 7] {
        [
            ("q_proj", &self.self_attn.q_proj),
            ("k_proj", &self.self_attn.k_proj),
            ("v_proj", &self.self_attn.v_proj),
            ("o_proj", &self.self_attn.o_proj),
            ("gate_proj", &self.mlp.gate_proj),
            ("up_proj", &self.mlp.up_proj),
            ("down_proj", &self.mlp.down_proj),
        ]
    }
}

impl Attention {
    /// `x`: `[tokens, hidden]`. Returns the output and this call's own keys (rotated) and values, `[tokens, kv_heads, head_dim]`.
    fn forward(
        &self,
        x: Tensor<2>,
        context: &Context,
        past: Option<(Tensor<3>, Tensor<3>)>,
    ) -> (Tensor<2>, Tensor<3>, Tensor<3>) {
        let [tokens, _] = x.dims();
        let heads = |x: Tensor<2>, heads: usize| x.reshape([tokens, heads, self.head_dim]);
        let q = heads(self.q_proj.forward(x.clone()), self.num_attention_heads);
        let k = heads(self.k_proj.forward(x.clone()), self.num_key_value_heads);
        let v = heads(self.v_proj.forward(x), self.num_key_value_heads);
        let q = afina_ops::rotary(q, context.cos.clone(), context.sin.clone());
        let k = afina_ops::rotary(k, context.cos.clone(), context.sin.clone());
        let out = afina_ops::attention(q, k.clone(), v.clone(), past, &context.segments);
        let out = out.reshape([tokens, self.num_attention_heads * self.head_dim]);
        (self.o_proj.forward(out), k, v)
    }
}

impl Mlp {
    /// `x`: `[tokens, hidden]`, and so the result.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gated = afina_ops::swiglu(self.gate_proj.forward(x.clone()), self.up_proj.forward(x));
        self.down_proj.forward(gated)
    }
}
