//! One matrix of a model in NF4, with its scales.

use afina_quant::{dynamic_map, nf4};

use super::bitsandbytes::dtype_of_state;
use super::nf4_folder::Nf4Error;
use crate::gguf::Squares;
use crate::model_dir::ModelDir;
use crate::tensor::RawTensor;

/// A matrix in NF4.
pub(super) struct Matrix {
    pub name: String,
    pub packed: Vec<u8>,
    pub scales: Scales,
    /// √(Σ(stored − given)² / Σ given²), if it was measured.
    pub relative_rmse: Option<f64>,
}

/// The scales of a matrix.
pub(super) enum Scales {
    Plain(Vec<f32>),
    /// In eight bits: numbers, their own scales, and what was taken away from them before.
    Nested {
        numbers: Vec<u8>,
        absmax: Vec<f32>,
        offset: f32,
    },
}

impl Matrix {
    pub(super) fn encode(model: &ModelDir, name: &str, double_quant: bool, measure: bool) -> Result<Matrix, Nf4Error> {
        let values_error = |source| Nf4Error::Values { name: name.to_owned(), source };
        let info = model.info(name).expect("`ModelDir::open` has checked every tensor");
        let values = model.tensor(name)?.to_f32().map_err(values_error)?;
        let mut packed = vec![0; nf4::packed_len(values.len())];
        let mut absmax = vec![0.0; nf4::blocks(values.len(), nf4::BLOCK)];
        nf4::encode(&values, nf4::BLOCK, &mut packed, &mut absmax)
            .map_err(|source| Nf4Error::Encode { name: name.to_owned(), source })?;
        let scales = if double_quant { Scales::nest(&absmax) } else { Scales::Plain(absmax) };

        let mut relative_rmse = None;
        if measure {
            let mut decoded = vec![0.0; values.len()];
            nf4::decode(&packed, &scales.decode(), nf4::BLOCK, &mut decoded);
            let stored = RawTensor::from_f32_as(name, info.shape.clone(), &decoded, dtype_of_state(info).0);
            let mut squares = Squares::default();
            squares.add(&values, &stored.and_then(|stored| stored.to_f32()).map_err(values_error)?);
            relative_rmse = Some(squares.relative());
        }
        Ok(Matrix { name: name.to_owned(), packed, scales, relative_rmse })
    }
}

impl Scales {
    fn nest(absmax: &[f32]) -> Scales {
        let offset = nf4::offset(absmax);
        let mut numbers = vec![0; absmax.len()];
        let mut nested = vec![0.0; nf4::blocks(absmax.len(), dynamic_map::BLOCK)];
        nf4::nest(absmax, offset, &mut numbers, &mut nested);
        Scales::Nested { numbers, absmax: nested, offset }
    }

    /// As a reader gets them.
    fn decode(&self) -> Vec<f32> {
        match self {
            Scales::Plain(absmax) => absmax.clone(),
            Scales::Nested { numbers, absmax, offset } => {
                let mut decoded = vec![0.0; numbers.len()];
                nf4::unnest(numbers, &dynamic_map::map(), absmax, *offset, &mut decoded);
                decoded
            }
        }
    }
}
