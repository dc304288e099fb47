//! What the kernels allocate for a micro-batch, counted as `afina_kernels::block` and `packed.rs` allocate it, with their names.

use afina_checkpoint::{LINEAR_MODULES, names::linear_shape};
use afina_kernels::{HEAD_CHUNK, MATRIX_WIDTH, Precision, attention, attention_backward};

use crate::{BatchShape, MemorySettings, plan::padded};

/// Features of what lies in panels.
pub(crate) struct Buffers<'a> {
    settings: &'a MemorySettings<'a>,
    hidden: usize,
    intermediate: usize,
    /// Queries, keys and values.
    qkv: usize,
    attended: usize,
    /// Of each projection the small side of its update.
    low_rank: [usize; 7],
    /// Bytes of the factors of a block as matrices.
    factors: u64,
}

impl<'a> Buffers<'a> {
    pub(crate) fn new(settings: &'a MemorySettings<'a>) -> Buffers<'a> {
        let MemorySettings { config, r, .. } = *settings;
        let attended = config.num_attention_heads * config.head_dim;
        let is_adapted = |name: &str| settings.target_modules.iter().any(|target| target == name);
        let factors = LINEAR_MODULES.iter().filter(|name| is_adapted(name)).map(|name| {
            let [out, input] = linear_shape(config, name);
            r * input.next_multiple_of(MATRIX_WIDTH) + out * r.next_multiple_of(MATRIX_WIDTH)
        });
        Buffers {
            settings,
            hidden: config.hidden_size,
            intermediate: config.intermediate_size,
            qkv: attended + 2 * config.num_key_value_heads * config.head_dim,
            attended,
            low_rank: LINEAR_MODULES.map(|name| if is_adapted(name) { r } else { 0 }),
            factors: floats(factors.sum()),
        }
    }

    /// `block::Saved`.
    pub(crate) fn saved(&self, batch: &BatchShape) -> u64 {
        let low_rank: usize = self.low_rank.iter().sum();
        let per_token = 2 * self.hidden + self.qkv + self.attended + 2 * self.intermediate + low_rank + 2;
        let log_sums = self.settings.config.num_attention_heads * batch.tokens;
        floats(batch.padded() * per_token + log_sums)
    }

    /// Beside `Saved`, in the forward pass: the gated features and the result, or what attention works with while most of `Saved` is
    /// not there yet.
    pub(crate) fn forward(&self, batch: &BatchShape) -> u64 {
        let Buffers { hidden, intermediate, low_rank: [_, _, _, o, gate, up, down], .. } = *self;
        let tokens = batch.padded();
        let of_mlp = tokens * (intermediate + self.rounded(intermediate) + hidden);
        let not_there_yet = tokens * (hidden + o + 2 * intermediate + gate + up + down);
        let of_attention = self.of_threads(batch, attention::floats_of_thread).saturating_sub(not_there_yet);
        floats(of_mlp.max(of_attention)) + self.fixed(batch)
    }

    /// Beside `Saved`, in the backward pass: the largest of what is alive at once.
    pub(crate) fn backward(&self, batch: &BatchShape) -> u64 {
        let Buffers { hidden, intermediate, qkv, attended, low_rank: [q, k, v, o, gate, up, down], .. } = *self;
        let tokens = batch.padded();
        // d_y, gated, d_gate_up.
        let of_swiglu = hidden + 3 * intermediate + down;
        // d_y, d_gate_up, d_normed; then normed, and before it d_gate_up rounded.
        let after = down + gate + up;
        let of_gate_up = 2 * hidden + 2 * intermediate + hidden.max(self.rounded(2 * intermediate)) + after;
        // d_x, d_attended, d_qkv.
        let of_attention = hidden + attended + qkv + after + o;
        // d_x, d_normed, d_qkv; then normed, and before it d_qkv rounded.
        let of_qkv = 2 * hidden + qkv + hidden.max(self.rounded(qkv)) + after + o + q + k + v;
        // Every query head has gradients at its keys and values.
        let of_heads = 2 * attended * batch.own_tokens + self.of_threads(batch, attention_backward::floats_of_thread);
        let alive = [tokens * of_swiglu, tokens * of_gate_up, tokens * of_attention + of_heads, tokens * of_qkv];
        floats(alive.into_iter().max().unwrap_or(0)) + self.fixed(batch)
    }

    /// Hidden states of trained tokens (as they are, normed, their gradient), and of the tokens of a chunk these and the logits.
    pub(crate) fn head(&self, batch: &BatchShape, with_gradient: bool) -> u64 {
        let (tokens, trained) = (batch.padded(), padded(batch.trained));
        let chunk = trained.min(HEAD_CHUNK);
        let (hidden, vocabulary) = (self.hidden, self.settings.config.vocab_size);
        if !with_gradient {
            return floats(2 * trained * hidden + chunk * (hidden + self.rounded(hidden) + vocabulary));
        }
        let logits = 3 * trained * hidden + chunk * (2 * hidden + vocabulary + self.rounded(vocabulary));
        floats(logits.max(4 * trained * hidden + tokens * hidden))
    }

    /// The factors as matrices, and the angles.
    fn fixed(&self, batch: &BatchShape) -> u64 {
        self.factors + floats(padded(batch.longest) * self.settings.config.head_dim)
    }

    /// Floats of the threads, each of which has a head of an example: at most all heads of all examples.
    fn of_threads(&self, batch: &BatchShape, of_thread: fn(usize, usize) -> usize) -> usize {
        let config = self.settings.config;
        let of_thread = |tokens| of_thread(tokens, config.head_dim);
        (self.settings.threads * of_thread(batch.longest)).min(config.num_attention_heads * of_thread(batch.own_tokens))
    }

    /// Floats that the copy takes which a product with a bf16 matrix makes of so many features.
    fn rounded(&self, features: usize) -> usize {
        let rounds = self.settings.rounds_activations && self.settings.precision == Precision::Bf16;
        if rounds { features.div_ceil(2) } else { 0 }
    }
}

/// Bytes of so many.
pub(crate) fn floats(count: usize) -> u64 {
    4 * count as u64
}
