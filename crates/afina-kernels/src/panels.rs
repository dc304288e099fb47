//! How activations and matrices lie in memory, so that every kernel reads them in order and none has to rearrange them.

/// Tokens of a panel: the lanes of a vector.
pub const LANES: usize = 16;

/// Columns of a matrix panel: a multiple of the rows of every tile.
pub const WIDTH: usize = 24;

/// Activations, `[tokens, features]`, as panels of sixteen tokens: `[tokens / 16][features][16]`. Sixteen tokens lie side by side, so
/// that what is computed for each token (a norm, a product with a weight, a softmax) is computed for sixteen at once.
///
/// Lanes beyond the last token are zero, and every kernel keeps them so.
#[derive(Debug, Clone, PartialEq)]
pub struct Activations {
    tokens: usize,
    features: usize,
    data: Vec<f32>,
}

impl Activations {
    pub fn zeros(tokens: usize, features: usize) -> Activations {
        Activations { tokens, features, data: vec![0.0; tokens.div_ceil(LANES) * LANES * features] }
    }

    /// For a kernel that writes every number, pad lanes too.
    pub(crate) fn unwritten(tokens: usize, features: usize) -> Activations {
        Activations { tokens, features, data: unwritten(tokens.div_ceil(LANES) * LANES * features) }
    }

    /// From rows, `[tokens, features]`.
    pub fn from_rows(rows: &[f32], features: usize) -> Activations {
        let tokens = rows.len() / features;
        assert_eq!(rows.len(), tokens * features, "whole rows");
        let mut panels = Activations::zeros(tokens, features);
        for (panel, rows) in panels.data.chunks_exact_mut(LANES * features).zip(rows.chunks(LANES * features)) {
            for (lane, row) in rows.chunks_exact(features).enumerate() {
                for (feature, &value) in row.iter().enumerate() {
                    panel[feature * LANES + lane] = value;
                }
            }
        }
        panels
    }

    /// As rows, `[tokens, features]`.
    pub fn to_rows(&self) -> Vec<f32> {
        let features = self.features;
        let mut rows = vec![0.0; self.tokens * features];
        for (rows, panel) in rows.chunks_mut(LANES * features).zip(self.data.chunks_exact(LANES * features)) {
            for (lane, row) in rows.chunks_exact_mut(features).enumerate() {
                for (feature, value) in row.iter_mut().enumerate() {
                    *value = panel[feature * LANES + lane];
                }
            }
        }
        rows
    }

    /// Some tokens, in the order given.
    pub fn select(&self, tokens: &[usize]) -> Activations {
        let mut selected = Activations::zeros(tokens.len(), self.features);
        for (to, &from) in tokens.iter().enumerate() {
            assert!(from < self.tokens, "token {from} of {}", self.tokens);
            let (from, to) = (self.start(from), selected.start(to));
            for feature in 0..self.features {
                selected.data[to + feature * LANES] = self.data[from + feature * LANES];
            }
        }
        selected
    }

    /// The inverse of [`Activations::select`]: tokens that are not named are zero.
    pub fn scatter(&self, tokens: &[usize], all: usize) -> Activations {
        let mut scattered = Activations::zeros(all, self.features);
        for (from, &to) in tokens.iter().enumerate() {
            assert!(to < all, "token {to} of {all}");
            let (from, to) = (self.start(from), scattered.start(to));
            for feature in 0..self.features {
                scattered.data[to + feature * LANES] = self.data[from + feature * LANES];
            }
        }
        scattered
    }

    /// Neighbouring tokens, the first of them at the start of a panel.
    pub(crate) fn slice(&self, tokens: std::ops::Range<usize>) -> Activations {
        assert!(tokens.start.is_multiple_of(LANES) && tokens.end <= self.tokens, "{tokens:?} of {}", self.tokens);
        let first = tokens.start * self.features;
        let length = tokens.len().div_ceil(LANES) * LANES * self.features;
        let mut data = self.data[first..first + length].to_vec();
        let used = (tokens.len() - 1) % LANES + 1;
        if tokens.end < self.tokens && used < LANES {
            let last = length - LANES * self.features;
            data[last..].chunks_exact_mut(LANES).for_each(|lanes| lanes[used..].fill(0.0));
        }
        Activations { tokens: tokens.len(), features: self.features, data }
    }

    pub fn tokens(&self) -> usize {
        self.tokens
    }

    pub fn features(&self) -> usize {
        self.features
    }

    pub fn panels(&self) -> usize {
        self.tokens.div_ceil(LANES)
    }

    /// `[panels][features][16]`
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    pub(crate) fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// Where a token's first feature lies; the next ones follow at a distance of [`LANES`].
    fn start(&self, token: usize) -> usize {
        token / LANES * LANES * self.features + token % LANES
    }
}

/// Room that is written before it is read: a vector of zeros would be written twice.
pub(crate) fn unwritten(length: usize) -> Vec<f32> {
    let mut data = Vec::with_capacity(length);
    // SAFETY: every bit pattern is a float, and the caller writes before it reads.
    #[allow(clippy::uninit_vec)]
    unsafe {
        data.set_len(length)
    };
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        for (tokens, features) in [(1, 1), (15, 3), (16, 5), (37, 24)] {
            let rows: Vec<f32> = (0..tokens * features).map(|i| i as f32).collect();
            let panels = Activations::from_rows(&rows, features);
            assert_eq!(panels.data().len() % (LANES * features), 0);
            assert_eq!(panels.to_rows(), rows);
        }
    }

    #[test]
    fn selected_tokens_go_back_to_their_places() {
        let rows: Vec<f32> = (0..40 * 2).map(|i| i as f32).collect();
        let panels = Activations::from_rows(&rows, 2);
        let tokens = [39, 0, 17];
        let selected = panels.select(&tokens);
        assert_eq!(selected.to_rows(), [78.0, 79.0, 0.0, 1.0, 34.0, 35.0]);
        let back = selected.scatter(&tokens, 40).to_rows();
        assert_eq!((back[34], back[78], back.iter().filter(|&&value| value != 0.0).count()), (34.0, 78.0, 5));
    }
}
