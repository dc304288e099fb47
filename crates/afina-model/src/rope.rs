//! The angles of rotary position embedding, with the scalings that Llama checkpoints ask for.

use afina_checkpoint::{LlamaConfig, RopeScaling};
use burn::tensor::{Device, Tensor, TensorData};

/// How fast each pair of columns of a head turns.
#[derive(Debug, Clone)]
pub struct RopeTable {
    /// Radians per position, `head_dim / 2` of them, in f32 as transformers keeps them.
    inverse_frequencies: Vec<f32>,
}

impl RopeTable {
    pub fn new(config: &LlamaConfig) -> RopeTable {
        let head_dim = config.head_dim;
        let inverse_frequencies = (0..head_dim / 2)
            .map(|i| {
                let plain = 1.0 / (config.rope_theta as f32).powf((2 * i) as f32 / head_dim as f32);
                match &config.rope_scaling {
                    None => plain,
                    Some(RopeScaling::Linear { factor }) => plain / *factor as f32,
                    Some(RopeScaling::Llama3 {
                        factor,
                        low_freq_factor,
                        high_freq_factor,
                        original_max_position_embeddings,
                    }) => llama3(
                        plain,
                        *factor as f32,
                        *low_freq_factor as f32,
                        *high_freq_factor as f32,
                        *original_max_position_embeddings as f32,
                    ),
                }
            })
            .collect();
        RopeTable { inverse_frequencies }
    }

    pub fn inverse_frequencies(&self) -> &[f32] {
        &self.inverse_frequencies
    }

    /// `(cos, sin)` of each position, both `[positions, head_dim / 2]`.
    pub fn at(&self, positions: &[usize], device: &Device) -> (Tensor<2>, Tensor<2>) {
        let shape = [positions.len(), self.inverse_frequencies.len()];
        let angles = || {
            positions.iter().flat_map(|&position| {
                self.inverse_frequencies.iter().map(move |&frequency| f64::from(position as f32 * frequency))
            })
        };
        let cos: Vec<f32> = angles().map(|angle| angle.cos() as f32).collect();
        let sin: Vec<f32> = angles().map(|angle| angle.sin() as f32).collect();
        (Tensor::from_data(TensorData::new(cos, shape), device), Tensor::from_data(TensorData::new(sin, shape), device))
    }
}

/// Low frequencies are divided by `factor`, high ones kept, those between blended.
///
/// Source: transformers `modeling_rope_utils.py`, `_compute_llama3_parameters`.
fn llama3(plain: f32, factor: f32, low: f32, high: f32, original_context: f32) -> f32 {
    let wavelength = 2.0 * std::f32::consts::PI / plain;
    if wavelength > original_context / low {
        plain / factor
    } else if wavelength < original_context / high {
        plain
    } else {
        let smooth = (original_context / wavelength - low) / (high - low);
        (1.0 - smooth) * plain / factor + smooth * plain
    }
}
