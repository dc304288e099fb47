//! W + Σ scaling · B·A, DoRA's scale on it, and the rounding to a dtype: a few rows at a time, with what each changed.

use afina_quant::format::FormatError;
use rayon::prelude::*;

use crate::tensor::{Dtype, RawTensor, TensorError};

/// Values of a weight that a thread takes at once.
const PIECE: usize = 16 * 1024;

/// A product that is added to a weight.
pub(super) struct Term {
    /// `[r, in]`
    pub a: Vec<f32>,
    /// `[out, r]`
    pub b: Vec<f32>,
    pub scaling: f64,
}

/// What is done to a weight.
pub(super) struct Change {
    /// What takes the weight's place before anything is added.
    pub own: Option<RawTensor>,
    pub terms: Vec<Term>,
    /// DoRA: the length that each row has in the end, `[out]`.
    pub magnitude: Option<Vec<f32>>,
}

/// Sums over a weight's values: squares, and numbers of values.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    /// Of the weight as it was.
    pub weight: f64,
    /// Of what the adapter adds.
    pub change: f64,
    /// Of what the rounding to the dtype adds.
    pub rounding: f64,
    /// Of what lies between the weight and the one that was trained on.
    pub apart: f64,
    pub changed: usize,
    /// Changed, and put back by the rounding.
    pub lost: usize,
}

/// The changed weight in `dtype`. `trained` is the weight that the adapter was trained on, where `weight` is another.
///
/// `weight` must be a matrix of `trained`'s shape that the change fits. Its bytes are reused where the dtype stays.
pub(super) fn add(
    weight: RawTensor,
    trained: Option<&RawTensor>,
    change: &Change,
    dtype: Dtype,
) -> Result<(RawTensor, Sums), TensorError> {
    for tensor in [Some(&weight), trained, change.own.as_ref()].into_iter().flatten() {
        if !tensor.dtype.is_float() {
            return Err(TensorError::NotFloat { name: tensor.name.clone(), dtype: tensor.dtype });
        }
    }
    let columns = weight.shape.last().copied().unwrap_or(1).max(1);
    let rows = (PIECE / columns).max(1);
    let RawTensor { name, dtype: before, shape, bytes } = weight;
    let (source, mut target) = if before == dtype {
        (None, bytes)
    } else {
        let length = bytes.len() / before.size() * dtype.size();
        (Some(bytes), vec![0; length])
    };
    let piece = |bytes: &[u8], dtype: Dtype, index: usize, count: usize| {
        let start = index * rows * columns * dtype.size();
        decoded(dtype, &bytes[start..start + count * dtype.size()])
    };
    let sums: Result<Vec<Sums>, FormatError> = target
        .par_chunks_mut(rows * columns * dtype.size())
        .enumerate()
        .map(|(index, out)| {
            let count = out.len() / dtype.size();
            let weight = match &source {
                Some(bytes) => piece(bytes, before, index, count),
                None => decoded(dtype, out),
            };
            let of = |tensor: &RawTensor| piece(&tensor.bytes, tensor.dtype, index, count);
            let trained = trained.map(of);
            let mut changed = change.own.as_ref().map_or_else(|| weight.clone(), of);
            for (at, row) in changed.chunks_exact_mut(columns).enumerate() {
                let trained = trained.as_ref().map(|trained| &trained[at * columns..][..columns]);
                change.row(index * rows + at, row, trained);
            }
            let behind = |error: FormatError| error.behind(index * rows * columns);
            let unchanged = if before == dtype {
                None
            } else {
                dtype.encode(&weight, out).map_err(behind)?;
                Some(decoded(dtype, out))
            };
            dtype.encode(&changed, out).map_err(behind)?;
            let rounded = decoded(dtype, out);
            Ok(Sums::over(&weight, &changed, &rounded, unchanged.as_deref().unwrap_or(&weight), trained.as_deref()))
        })
        .collect();
    match sums {
        // Added up in their order: the sums do not depend on threads.
        Ok(sums) => {
            let total = sums.into_iter().fold(Sums::default(), Sums::plus);
            Ok((RawTensor { name, dtype, shape, bytes: target }, total))
        }
        Err(source) => Err(TensorError::Encode { name, dtype, source }),
    }
}

fn decoded(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / dtype.size()];
    dtype.decode(bytes, &mut values);
    values
}

impl Change {
    /// Changes a row of the weight in place.
    fn row(&self, index: usize, row: &mut [f32], trained: Option<&[f32]>) {
        if self.terms.is_empty() {
            return;
        }
        let columns = row.len();
        let mut delta = vec![0.0_f32; columns];
        for term in &self.terms {
            let rank = term.a.len() / columns;
            let mut product = vec![0.0_f32; columns];
            for (b, a) in term.b[index * rank..][..rank].iter().zip(term.a.chunks_exact(columns)) {
                product.iter_mut().zip(a).for_each(|(product, a)| *product += b * a);
            }
            delta.iter_mut().zip(&product).for_each(|(delta, product)| *delta += term.scaling as f32 * product);
        }
        // m / ‖W + ΔW‖ of the weight that was trained on (PEFT `tuners/lora/dora.py`; DoRA, 2402.09353).
        let scale = self.magnitude.as_ref().map(|magnitude| {
            let weight = trained.unwrap_or(row);
            let squares = weight.iter().zip(&delta).map(|(weight, delta)| f64::from(weight + delta).powi(2));
            magnitude[index] / squares.sum::<f64>().sqrt() as f32
        });
        row.iter_mut().zip(&delta).for_each(|(weight, delta)| *weight += delta);
        if let Some(scale) = scale {
            row.iter_mut().for_each(|value| *value *= scale);
        }
    }
}

impl Sums {
    /// Of a piece of a weight: before, changed, rounded; what rounding makes of the value before; and as it was trained on.
    fn over(weight: &[f32], changed: &[f32], rounded: &[f32], unchanged: &[f32], trained: Option<&[f32]>) -> Sums {
        let square = |value: f32, other: f32| (f64::from(value) - f64::from(other)).powi(2);
        let mut sums = Sums::default();
        for at in 0..weight.len() {
            sums.weight += square(weight[at], 0.0);
            sums.change += square(changed[at], weight[at]);
            sums.rounding += square(rounded[at], changed[at]);
            sums.changed += usize::from(changed[at] != weight[at]);
            sums.lost += usize::from(changed[at] != weight[at] && rounded[at] == unchanged[at]);
        }
        for (trained, weight) in trained.into_iter().flatten().zip(weight) {
            sums.apart += square(*trained, *weight);
        }
        sums
    }

    pub fn plus(self, other: Sums) -> Sums {
        Sums {
            weight: self.weight + other.weight,
            change: self.change + other.change,
            rounding: self.rounding + other.rounding,
            apart: self.apart + other.apart,
            changed: self.changed + other.changed,
            lost: self.lost + other.lost,
        }
    }

    /// ‖ΔW‖ / ‖W‖
    pub fn relative_change(&self) -> f64 {
        ratio(self.change.sqrt(), self.weight.sqrt())
    }

    /// ‖rounding‖ / ‖ΔW‖
    pub fn relative_rounding(&self) -> f64 {
        ratio(self.rounding.sqrt(), self.change.sqrt())
    }

    /// ‖W − W trained on‖ / ‖ΔW‖
    pub fn relative_distance(&self) -> f64 {
        ratio(self.apart.sqrt(), self.change.sqrt())
    }

    /// Share of the changed values that rounding put back.
    pub fn share_lost(&self) -> f64 {
        ratio(self.lost as f64, self.changed as f64)
    }
}

/// Nothing of nothing is nothing; and what is beside no change at all is told as nothing, too: the change is.
fn ratio(of: f64, to: f64) -> f64 {
    if of == 0.0 || to == 0.0 { 0.0 } else { of / to }
}
