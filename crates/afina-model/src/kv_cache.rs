//! Keys and values of the tokens already read, a pair of tensors per layer.

use burn::tensor::Tensor;

/// What generation has read so far: the tokens, and what each layer kept of them.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    tokens: Vec<u32>,
    /// `(k, v)` of each layer, both `[tokens, kv_heads, head_dim]`, keys already rotated.
    layers: Vec<(Tensor<3>, Tensor<3>)>,
}

impl KvCache {
    pub fn new() -> KvCache {
        KvCache::default()
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Keeps what it shares with `prompt`, but for the prompt's last token, which must be read again to give logits.
    pub fn keep_common_prefix(&mut self, prompt: &[u32]) {
        let common = self.tokens.iter().zip(prompt).take_while(|(cached, wanted)| cached == wanted).count();
        self.truncate(common.min(prompt.len().saturating_sub(1)));
    }

    /// Forgets everything after the first `tokens` tokens.
    pub fn truncate(&mut self, tokens: usize) {
        if tokens >= self.tokens.len() {
            return;
        }
        self.tokens.truncate(tokens);
        if tokens == 0 {
            self.layers.clear();
        }
        for (k, v) in &mut self.layers {
            *k = k.clone().narrow(0, 0, tokens);
            *v = v.clone().narrow(0, 0, tokens);
        }
    }

    pub(crate) fn past(&self, layer: usize) -> Option<(Tensor<3>, Tensor<3>)> {
        self.layers.get(layer).cloned()
    }

    /// Adds a layer's new keys and values behind those it has. Layers are filled in order.
    pub(crate) fn append(&mut self, layer: usize, k: Tensor<3>, v: Tensor<3>) {
        match self.layers.get_mut(layer) {
            None => self.layers.push((k, v)),
            Some((past_k, past_v)) => {
                *past_k = Tensor::cat(vec![past_k.clone(), k], 0);
                *past_v = Tensor::cat(vec![past_v.clone(), v], 0);
            }
        }
    }

    /// Called once every layer has the keys and values of `tokens`.
    pub(crate) fn advance(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }
}
