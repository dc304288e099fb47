//! bitsandbytes' NF4: packed numbers under the weight's own name, scales beside them, and a JSON that says the rest.

use afina_quant::{dynamic_map, nf4};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{QuantizationError, Taken, flag, read, setting, wrong_part};
use crate::stored::StoredTensors;
use crate::tensor::{Dtype, RawTensor, TensorInfo};

/// The parts of a weight, behind its module's name: the packed numbers, the JSON of what is no tensor as bytes, the code,
/// the scales; and where those are quantized themselves, their scales and code.
pub(super) const PACKED: &str = "weight";
pub(super) const STATE: &str = "weight.quant_state.bitsandbytes__nf4";
pub(super) const QUANT_MAP: &str = "weight.quant_map";
pub(super) const ABSMAX: &str = "weight.absmax";
pub(super) const NESTED_ABSMAX: &str = "weight.nested_absmax";
pub(super) const NESTED_QUANT_MAP: &str = "weight.nested_quant_map";

/// A longer JSON is no quantization state: real ones have 200 bytes.
const MAX_STATE: usize = 4096;

/// Only the method's 4-bit NF4 is read.
pub(super) fn check_settings(settings: &Map<String, Value>) -> Result<(), QuantizationError> {
    let refused = |scheme: &str| Err(QuantizationError::Scheme { scheme: scheme.into() });
    if flag(settings, "load_in_8bit")? {
        return refused("bitsandbytes int8");
    }
    if !flag(settings, "load_in_4bit")? {
        return Err(setting("load_in_4bit", "true", settings.get("load_in_4bit").unwrap_or(&Value::Null)));
    }
    match settings.get("bnb_4bit_quant_type").and_then(Value::as_str) {
        Some("nf4") => Ok(()),
        // The method's default.
        None => refused("bitsandbytes fp4"),
        Some(other) => refused(&format!("bitsandbytes {other}")),
    }
}

/// A weight in NF4, its parts checked.
#[derive(Debug)]
pub(super) struct Nf4 {
    block: usize,
    /// Offset of scales that are quantized themselves.
    nested_offset: Option<f32>,
}

/// What the JSON says; keys as bitsandbytes' `QuantState.as_dict` names them.
#[derive(Debug, Deserialize)]
struct State {
    quant_type: String,
    blocksize: usize,
    dtype: String,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_dtype: Option<String>,
    nested_offset: Option<f64>,
}

impl Nf4 {
    /// The dtype that the weight decodes to, and how.
    pub(super) fn find(take: &mut Taken<'_>, shape: [usize; 2]) -> Result<(Dtype, Nf4), QuantizationError> {
        let state_info = take.required(STATE)?;
        if state_info.dtype != Dtype::U8 || state_info.shape.len() != 1 || state_info.shape[0] > MAX_STATE {
            return Err(wrong_part(state_info, format!("U8 of one dimension, at most {MAX_STATE}")));
        }
        let name = state_info.name.clone();
        let state: State = serde_json::from_slice(&take.read(STATE)?.bytes)
            .map_err(|source| QuantizationError::State { name: name.clone(), source })?;
        let bad = |key: &'static str, expected: String, found: String| {
            Err(QuantizationError::StateValue { name: name.clone(), key, expected, found })
        };
        if state.quant_type != "nf4" {
            return bad("quant_type", "nf4".into(), state.quant_type);
        }
        if !nf4::BLOCKS.contains(&state.blocksize) {
            return bad("blocksize", format!("one of {:?}", nf4::BLOCKS), state.blocksize.to_string());
        }
        if state.shape != shape {
            return bad("shape", format!("{shape:?}"), format!("{:?}", state.shape));
        }
        let dtype = match state.dtype.as_str() {
            "float32" => Dtype::F32,
            "float16" => Dtype::F16,
            "bfloat16" => Dtype::BF16,
            _ => return bad("dtype", "float32, float16 or bfloat16".into(), state.dtype),
        };

        let values = shape[0] * shape[1];
        check_packed(take, nf4::packed_len(values))?;
        take.exactly(QUANT_MAP, Dtype::F32, &[16])?;
        let map = take.read(QUANT_MAP)?.to_f32()?;
        // What decodes has these numbers of its own; bitsandbytes holds two states for equal within the same bound.
        if map.iter().zip(nf4::CODE).any(|(found, code)| (found - code).abs() > 1e-6 || found.is_nan()) {
            let name = format!("{}.{QUANT_MAP}", take.module);
            return Err(QuantizationError::Part {
                name,
                expected: "the numbers of nf4".into(),
                found: format!("{map:?}"),
            });
        }
        let blocks = nf4::blocks(values, state.blocksize);
        let Some(offset) = state.nested_offset else {
            take.exactly(ABSMAX, Dtype::F32, &[blocks])?;
            return Ok((dtype, Nf4 { block: state.blocksize, nested_offset: None }));
        };
        if state.nested_blocksize != Some(dynamic_map::BLOCK) {
            return bad("nested_blocksize", dynamic_map::BLOCK.to_string(), format!("{:?}", state.nested_blocksize));
        }
        if state.nested_dtype.as_deref() != Some("float32") {
            return bad("nested_dtype", "float32".into(), format!("{:?}", state.nested_dtype));
        }
        let offset = offset as f32;
        if !offset.is_finite() {
            return bad("nested_offset", "a finite number".into(), offset.to_string());
        }
        take.exactly(ABSMAX, Dtype::U8, &[blocks])?;
        take.exactly(NESTED_ABSMAX, Dtype::F32, &[blocks.div_ceil(dynamic_map::BLOCK)])?;
        take.exactly(NESTED_QUANT_MAP, Dtype::F32, &[256])?;
        Ok((dtype, Nf4 { block: state.blocksize, nested_offset: Some(offset) }))
    }

    /// A number of the code times its block's scale, in f32, rounded to the state's dtype.
    ///
    /// Source: bitsandbytes 0.50.2's `dequantize_4bit`.
    pub(super) fn read(&self, info: &TensorInfo, stored: &StoredTensors) -> Result<RawTensor, QuantizationError> {
        let module = info.name.strip_suffix(".weight").expect("a quantized tensor is a weight");
        let part = |part: &str| read(stored, module, part);
        let absmax = match self.nested_offset {
            None => part(ABSMAX)?.to_f32()?,
            Some(offset) => {
                let bytes = part(ABSMAX)?.bytes;
                let map = part(NESTED_QUANT_MAP)?.to_f32()?;
                let map: &[f32; 256] = map[..].try_into().expect("`find` has looked at its shape");
                let nested = part(NESTED_ABSMAX)?.to_f32()?;
                let mut absmax = vec![0.0; bytes.len()];
                nf4::unnest(&bytes, map, &nested, offset, &mut absmax);
                absmax
            }
        };
        let mut values = vec![0.0; info.shape.iter().product()];
        nf4::decode(&part(PACKED)?.bytes, &absmax, self.block, &mut values);
        Ok(RawTensor::from_f32_as(&info.name, info.shape.clone(), &values, info.dtype)?)
    }
}

/// The packed numbers: bytes in a column, which FSDP wants to be called by another dtype (`bnb_4bit_quant_storage`).
fn check_packed(take: &mut Taken<'_>, bytes: usize) -> Result<(), QuantizationError> {
    let info = take.required(PACKED)?;
    let size = info.dtype.size();
    let storable = matches!(info.dtype, Dtype::U8 | Dtype::I8 | Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64);
    if storable && info.shape == [bytes / size, 1] && bytes.is_multiple_of(size) {
        return Ok(());
    }
    Err(wrong_part(info, format!("{bytes} bytes in a column, U8 {:?}", [bytes, 1])))
}

/// What a weight is decoded to again, and torch's name of it; NF4 is made of f32 where a weight is wider.
pub(super) fn dtype_of_state(info: &TensorInfo) -> (Dtype, &'static str) {
    match info.dtype {
        Dtype::F16 => (Dtype::F16, "float16"),
        Dtype::BF16 => (Dtype::BF16, "bfloat16"),
        _ => (Dtype::F32, "float32"),
    }
}

/// The JSON of a weight's state, byte for byte as Python's `json.dumps` writes bitsandbytes' `QuantState.as_dict`.
pub(super) fn state_json(info: &TensorInfo, nested_offset: Option<f32>) -> String {
    let shape: Vec<String> = info.shape.iter().map(usize::to_string).collect();
    let (dtype, shape) = (dtype_of_state(info).1, shape.join(", "));
    let nested = nested_offset.map_or_else(String::new, |offset| {
        let (block, offset) = (dynamic_map::BLOCK, python_float(f64::from(offset)));
        format!(r#", "nested_blocksize": {block}, "nested_dtype": "float32", "nested_offset": {offset}"#)
    });
    let block = nf4::BLOCK;
    format!(r#"{{"quant_type": "nf4", "blocksize": {block}, "dtype": "{dtype}", "shape": [{shape}]{nested}}}"#)
}

/// A finite float as Python writes it: the shortest digits that read back, with an exponent below 1e-4 and from 1e16 on.
fn python_float(x: f64) -> String {
    if x == 0.0 || (1e-4..1e16).contains(&x.abs()) {
        return format!("{x:?}");
    }
    let text = format!("{x:e}");
    let (digits, exponent) = text.split_once('e').expect("`e` writes an exponent");
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_spelled_as_python_does() {
        for (x, text) in [
            (0.0, "0.0"),
            (0.018_920_304_253_697_395, "0.018920304253697395"),
            (1e-4, "0.0001"),
            (9.5e-5, "9.5e-05"),
            (1.5e-300, "1.5e-300"),
            (-3.0, "-3.0"),
            (1e16, "1e+16"),
            (123456789012345680.0, "1.2345678901234568e+17"),
        ] {
            assert_eq!(python_float(x), text);
        }
    }
}
