//! The whole model in reading order. Fields are named as the checkpoint's tensors.
//!
//! Source of the computation: transformers `modeling_llama.py`.

use afina_checkpoint::LlamaConfig;
use afina_ops::{Segments, Weight};
use burn::tensor::{Device, Tensor};

use crate::{KvCache, Linear, RopeTable};

#[derive(Debug, Clone)]
pub struct Llama {
    pub config: LlamaConfig,
    /// `[vocab, hidden]`
    pub embed_tokens: Weight,
    pub layers: Vec<Block>,
    /// `[hidden]`
    pub norm: Tensor<1>,
    /// `[vocab, hidden]`; the embedding itself when the checkpoint ties them.
    pub lm_head: Weight,
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
        self.embed_tokens.rows(tokens)
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

    /// Reads `prompt` behind the cache, and behind it each of the branches, which do not see each other, all in one pass. The cache gets the prompt.
    ///
    /// Returns the branches' final hidden states, `[branch tokens, hidden]`.
    pub fn forward_branches(&self, prompt: &[u32], branches: &[Vec<u32>], cache: &mut KvCache) -> Tensor<2> {
        let lengths: Vec<usize> = branches.iter().map(Vec::len).collect();
        let stem = Segments::one(prompt.len());
        let twigs = Segments::from_lengths(&lengths);
        let first = cache.len();
        let positions = [stem.positions(first), twigs.positions(first + prompt.len())].concat();
        let (cos, sin) = self.rope.at(&positions, &self.device());

        let mut hidden = self.embed(&[prompt, &branches.concat()].concat());
        for (index, layer) in self.layers.iter().enumerate() {
            let past = cache.past(index);
            hidden = layer.forward_with(hidden, |attention, x| {
                let (out, k, v) = attention.forward_branches(x, &cos, &sin, past, &stem, &twigs);
                cache.append(index, k, v);
                out
            });
        }
        cache.advance(prompt);
        self.final_norm(hidden.narrow(0, prompt.len(), twigs.tokens()))
    }

    pub fn final_norm(&self, hidden: Tensor<2>) -> Tensor<2> {
        afina_ops::rms_norm(hidden, self.norm.clone(), self.config.rms_norm_eps)
    }

    /// `[tokens, vocab]`
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        afina_ops::linear(hidden, &self.lm_head)
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
        let (q, k, v) = self.queries_keys_values(x, &context.cos, &context.sin);
        let out = afina_ops::attention(q, k.clone(), v.clone(), past, &context.segments);
        (self.output(out), k, v)
    }

    /// The first tokens of `x` are the `stem`, the rest `twigs` that each see the past and the stem. Returns the output, and the stem's keys and values.
    fn forward_branches(
        &self,
        x: Tensor<2>,
        cos: &Tensor<2>,
        sin: &Tensor<2>,
        past: Option<(Tensor<3>, Tensor<3>)>,
        stem: &Segments,
        twigs: &Segments,
    ) -> (Tensor<2>, Tensor<3>, Tensor<3>) {
        let (q, k, v) = self.queries_keys_values(x, cos, sin);
        let (length, rest) = (stem.tokens(), twigs.tokens());
        let stem_of = |x: &Tensor<3>| x.clone().narrow(0, 0, length);
        let twigs_of = |x: &Tensor<3>| x.clone().narrow(0, length, rest);
        let (stem_k, stem_v) = (stem_of(&k), stem_of(&v));
        let behind = match &past {
            None => (stem_k.clone(), stem_v.clone()),
            Some((past_k, past_v)) => (
                Tensor::cat(vec![past_k.clone(), stem_k.clone()], 0),
                Tensor::cat(vec![past_v.clone(), stem_v.clone()], 0),
            ),
        };
        let out = Tensor::cat(
            vec![
                afina_ops::attention(stem_of(&q), stem_k.clone(), stem_v.clone(), past, stem),
                afina_ops::attention(twigs_of(&q), twigs_of(&k), twigs_of(&v), Some(behind), twigs),
            ],
            0,
        );
        (self.output(out), stem_k, stem_v)
    }

    /// Queries and keys are rotated.
    fn queries_keys_values(&self, x: Tensor<2>, cos: &Tensor<2>, sin: &Tensor<2>) -> (Tensor<3>, Tensor<3>, Tensor<3>) {
        let [tokens, _] = x.dims();
        let heads = |x: Tensor<2>, heads: usize| x.reshape([tokens, heads, self.head_dim]);
        let q = heads(self.q_proj.forward(x.clone()), self.num_attention_heads);
        let k = heads(self.k_proj.forward(x.clone()), self.num_key_value_heads);
        let v = heads(self.v_proj.forward(x), self.num_key_value_heads);
        let rotate = |x| afina_ops::rotary(x, cos.clone(), sin.clone());
        (rotate(q), rotate(k), v)
    }

    /// `out`: `[tokens, heads, head_dim]`
    fn output(&self, out: Tensor<3>) -> Tensor<2> {
        let [tokens, heads, head_dim] = out.dims();
        self.o_proj.forward(out.reshape([tokens, heads * head_dim]))
    }
}

impl Mlp {
    /// `x`: `[tokens, hidden]`, and so the result.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gated = afina_ops::swiglu(self.gate_proj.forward(x.clone()), self.up_proj.forward(x));
        self.down_proj.forward(gated)
    }
}
