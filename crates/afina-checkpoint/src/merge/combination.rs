//! Several adapters into one, with PEFT's definitions.
//!
//! Source: PEFT 0.21, `LoraModel.add_weighted_adapter` and `utils/merge_utils.py`. All but `cat` work on the factors A and B
//! each for itself, so that products of one adapter's A with another's B come in: PEFT calls `linear` "a very rough
//! approximation". `cat` is the weighted sum of what each adapter does.

use super::MergeError;
use super::add::Term;
use crate::adapter::{EMBEDDINGS, LoraTensors};
use crate::tensor::RawTensor;

/// How adapters are combined, by the names of PEFT's `combination_type`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Combination {
    /// Σ weight · scaling · B·A, exactly; ranks may differ.
    Cat,
    /// Σ √(weight · scaling) · A, and B likewise.
    Linear,
    /// Trim each factor to its largest values, elect a sign for each value, average those that have it (TIES, 2306.01708).
    Ties { density: f64, majority_sign: MajoritySign },
    /// Drop values at random and enlarge the others, then as `Linear` (DARE, 2311.03099).
    DareLinear { density: f64, seed: u64 },
    /// Drop values at random and enlarge the others, then elect signs as `Ties`.
    DareTies { density: f64, majority_sign: MajoritySign, seed: u64 },
    /// Trim each factor to its largest values, then as `Linear`.
    MagnitudePrune { density: f64 },
}

/// What decides on the sign of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MajoritySign {
    /// The sum over the adapters.
    Total,
    /// The number of adapters.
    Frequency,
}

/// An adapter's factors on a module.
pub(super) struct Factors<'a> {
    /// The adapter's place among those that are merged: what DARE drops of each is drawn by it.
    pub adapter: usize,
    pub weight: f64,
    pub scaling: f64,
    pub lora: &'a LoraTensors,
}

impl Combination {
    /// The products whose sum is what the adapters do to the module; the ranks must be equal but for `Cat`.
    pub(super) fn terms(self, factors: &[Factors]) -> Result<Vec<Term>, MergeError> {
        if self == Combination::Cat {
            let term = |of: &Factors| {
                Ok(Term { a: values(&of.lora.a)?, b: values(&of.lora.b)?, scaling: of.weight * of.scaling })
            };
            return factors.iter().map(term).collect();
        }
        let mut halves = Vec::with_capacity(2);
        for (half, matrix) in [("lora_A", 0), ("lora_B", 1)] {
            let mut pieces = Vec::with_capacity(factors.len());
            for of in factors {
                let mut piece = values([&of.lora.a, &of.lora.b][matrix])?;
                self.sparsify(&mut piece, of, half);
                let root = (of.weight * of.scaling).abs().sqrt() as f32;
                // The sign goes to one half only, or it would cancel: PEFT's A, which is our B of embeddings.
                let signed = usize::from(of.lora.module == EMBEDDINGS);
                let negative = matrix == signed && of.weight * of.scaling < 0.0;
                pieces.push((if negative { -root } else { root }, piece));
            }
            halves.push(self.mixed(&pieces));
        }
        let (b, a) = (halves.pop().expect("two halves"), halves.pop().expect("two halves"));
        Ok(vec![Term { a, b, scaling: 1.0 }])
    }

    fn sparsify(self, values: &mut [f32], of: &Factors, half: &str) {
        match self {
            Combination::Cat | Combination::Linear => {}
            Combination::Ties { density, .. } | Combination::MagnitudePrune { density } => {
                keep_largest(values, density)
            }
            Combination::DareLinear { density, seed } | Combination::DareTies { density, seed, .. }
                if density < 1.0 =>
            {
                let stream = stream(seed, of.adapter, &of.lora.module, half);
                for (index, value) in values.iter_mut().enumerate() {
                    *value = if uniform(stream, index) < density { *value / density as f32 } else { 0.0 };
                }
            }
            Combination::DareLinear { .. } | Combination::DareTies { .. } => {}
        }
    }

    /// The pieces' weighted sum, or the average over those that have the elected sign.
    fn mixed(self, pieces: &[(f32, Vec<f32>)]) -> Vec<f32> {
        let at = |index: usize| pieces.iter().map(move |(weight, values)| (*weight, values[index]));
        let elected = match self {
            Combination::Ties { majority_sign, .. } | Combination::DareTies { majority_sign, .. } => {
                Some(majority_sign)
            }
            _ => None,
        };
        let count = pieces.first().map_or(0, |(_, values)| values.len());
        let Some(majority_sign) = elected else {
            return (0..count).map(|index| at(index).map(|(weight, value)| weight * value).sum()).collect();
        };
        let sign = |value: f32| if value == 0.0 { 0.0 } else { value.signum() };
        (0..count)
            .map(|index| {
                let sum: f32 = match majority_sign {
                    MajoritySign::Total => at(index).map(|(_, value)| value).sum(),
                    MajoritySign::Frequency => at(index).map(|(_, value)| sign(value)).sum(),
                };
                let elected = if sum >= 0.0 { 1.0 } else { -1.0 };
                let (mut total, mut agreeing) = (0.0_f32, 0.0_f32);
                for (weight, value) in at(index).filter(|(_, value)| sign(*value) == elected) {
                    total += weight * value;
                    agreeing += 1.0;
                }
                total / agreeing.max(1.0)
            })
            .collect()
    }
}

/// Sets all but the `density` of the values that are largest to zero; of equal ones, the first stay.
fn keep_largest(values: &mut [f32], density: f64) {
    let keep = (density * values.len() as f64) as usize;
    if density >= 1.0 || keep >= values.len() {
        return;
    }
    let mut order: Vec<u32> = (0..values.len() as u32).collect();
    let size = |index: &u32| values[*index as usize].abs();
    order.sort_by(|one, other| size(other).total_cmp(&size(one)));
    for index in &order[keep..] {
        values[*index as usize] = 0.0;
    }
}

/// A stream of numbers of its own for each half of each adapter on each module (FNV-1a of their names).
fn stream(seed: u64, adapter: usize, module: &str, half: &str) -> u64 {
    let bytes = format!("{seed}/{adapter}/{module}.{half}").into_bytes();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The number at an index of a stream, from 0 to below 1 (SplitMix64).
fn uniform(stream: u64, index: usize) -> f64 {
    let mut mixed = stream.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

fn values(tensor: &RawTensor) -> Result<Vec<f32>, MergeError> {
    tensor.to_f32().map_err(|source| MergeError::Tensor { name: tensor.name.clone(), source })
}
