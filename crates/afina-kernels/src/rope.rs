//! Rotary position embedding in Hugging Face's rotate-half form: feature `i` of a head turns with feature `i + head_dim / 2`.
//!
//! Source: Su et al., "RoFormer", 2021; transformers `modeling_llama.py`, `apply_rotary_pos_emb`.

use crate::panels::LANES;

/// Cosines and sines of the positions from 0 on, in panels of sixteen positions: `[positions / 16][head_dim / 2][16]`.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeAngles {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeAngles {
    /// `inverse_frequencies`: radians per position, `head_dim / 2` of them. The angle is an f32, as transformers has it.
    pub fn new(inverse_frequencies: &[f32], positions: usize) -> RopeAngles {
        let half = inverse_frequencies.len();
        let size = positions.div_ceil(LANES) * LANES * half;
        let (mut cos, mut sin) = (Vec::with_capacity(size), Vec::with_capacity(size));
        for panel in 0..positions.div_ceil(LANES) {
            for &frequency in inverse_frequencies {
                for lane in 0..LANES {
                    let angle = f64::from((panel * LANES + lane) as f32 * frequency);
                    cos.push(angle.cos() as f32);
                    sin.push(angle.sin() as f32);
                }
            }
        }
        RopeAngles { half, cos, sin }
    }

    /// Features of a head.
    pub fn head_dim(&self) -> usize {
        2 * self.half
    }

    /// Positions that it has, a multiple of sixteen.
    pub fn positions(&self) -> usize {
        self.cos.len() / self.half
    }

    /// Turns the sixteen positions of a panel, `[head_dim][16]`, forth.
    #[inline(always)]
    pub(crate) fn turn(&self, panel: usize, x: &mut [f32]) {
        self.turn_by(panel, x, 1.0);
    }

    /// And back: the gradient of [`RopeAngles::turn`].
    #[inline(always)]
    pub(crate) fn turn_back(&self, panel: usize, x: &mut [f32]) {
        self.turn_by(panel, x, -1.0);
    }

    #[inline(always)]
    fn turn_by(&self, panel: usize, x: &mut [f32], sign: f32) {
        let size = self.half * LANES;
        let angles = panel * size..(panel + 1) * size;
        let (first, second) = x.split_at_mut(size);
        let angles = self.cos[angles.clone()].iter().zip(&self.sin[angles]);
        for ((first, second), (cos, sin)) in first.iter_mut().zip(second).zip(angles) {
            let (a, b, sin) = (*first, *second, sin * sign);
            *first = a * cos - b * sin;
            *second = b * cos + a * sin;
        }
    }
}
