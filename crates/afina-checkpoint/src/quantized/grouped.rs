//! What GPTQ and AWQ share: a scale and a zero point for each output and each group of inputs.

use rayon::prelude::*;

use super::{QuantizationError, Taken, read, setting, wrong_part};
use crate::stored::StoredTensors;
use crate::tensor::{Dtype, RawTensor, TensorInfo};

/// The packed numbers.
pub(super) const QWEIGHT: &str = "qweight";
/// The packed zero points.
pub(super) const QZEROS: &str = "qzeros";
const SCALES: &str = "scales";
const BIAS: &str = "bias";

/// Outputs that a thread decodes at once.
const OUTPUTS: usize = 32;

/// `group_size`, by the first of the names that is there: −1 is one group for all inputs.
pub(super) fn group_size(
    settings: &serde_json::Map<String, serde_json::Value>,
    names: &[&'static str],
) -> Result<Option<usize>, QuantizationError> {
    const EXPECTED: &str = "-1, or a number of inputs from 1 to 2^24";
    let Some((name, value)) = names.iter().find_map(|name| Some((*name, settings.get(*name)?))) else {
        return Err(setting(names[0], EXPECTED, &serde_json::Value::Null));
    };
    match value.as_i64() {
        Some(-1) => Ok(None),
        Some(size @ 1..=0x100_0000) => Ok(Some(size as usize)),
        _ => Err(setting(name, EXPECTED, value)),
    }
}

/// Groups of so many inputs, the last of which may be smaller.
pub(super) fn groups(inputs: usize, group_size: Option<usize>) -> usize {
    group_size.map_or(1, |size| inputs.div_ceil(size))
}

/// Checks scales of `[groups, out]` and gives their dtype, which is that of the decoded weight.
pub(super) fn find_scales(take: &mut Taken<'_>, groups: usize, out: usize) -> Result<Dtype, QuantizationError> {
    let info = take.required(SCALES)?;
    if matches!(info.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32) && info.shape == [groups, out] {
        return Ok(info.dtype);
    }
    Err(wrong_part(info, format!("F16, BF16 or F32 {:?}", [groups, out])))
}

/// A bias that is there must be nothing: older programs write one of zeros with every layer.
pub(super) fn find_bias(take: &mut Taken<'_>, out: usize) -> Result<(), QuantizationError> {
    let Some(info) = take.optional(BIAS) else { return Ok(()) };
    if info.shape != [out] {
        return Err(wrong_part(info, format!("a bias of {:?}", [out])));
    }
    let bias = take.read(BIAS)?;
    if bias.to_f32()?.iter().any(|value| *value != 0.0) {
        return Err(QuantizationError::Bias { name: bias.name });
    }
    Ok(())
}

/// Numbers of a few bits one behind the other in 32-bit words, the lowest bits first; one of three bits goes on in the next
/// word.
pub(super) struct Words(Vec<u32>);

impl Words {
    pub(super) fn read(stored: &StoredTensors, module: &str, part: &str) -> Result<Words, QuantizationError> {
        let bytes = read(stored, module, part)?.bytes;
        Ok(Words(bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect()))
    }

    /// The number that begins at `bit` of a run of words that begins with word `first` and goes on every `step` words.
    #[inline(always)]
    pub(super) fn number(&self, first: usize, step: usize, bit: usize, bits: u32) -> i32 {
        let (word, shift) = (first + bit / 32 * step, bit as u32 % 32);
        let mut number = self.0[word] >> shift;
        if shift + bits > 32 {
            number |= self.0[word + step] << (32 - shift);
        }
        (number & ((1 << bits) - 1)) as i32
    }
}

/// Decodes a weight of `[out, in]`: (number − zero point) × scale, rounded once to the dtype of the scales.
///
/// `zeros` are `[groups, out]`, `group_of` the group of each input, `number` that of an input and an output.
pub(super) fn dequantize(
    info: &TensorInfo,
    stored: &StoredTensors,
    zeros: &[i32],
    group_of: &[usize],
    number: impl Fn(usize, usize) -> i32 + Sync,
) -> Result<RawTensor, QuantizationError> {
    let module = info.name.strip_suffix(".weight").expect("a quantized tensor is a weight");
    let scales = read(stored, module, SCALES)?.to_f32()?;
    let &[out, inputs] = &info.shape[..] else { unreachable!("`find` takes weights of two dimensions") };
    let mut values = vec![0.0; out * inputs];
    values.par_chunks_mut(OUTPUTS * inputs).enumerate().for_each(|(chunk, values)| {
        let outputs = values.len() / inputs;
        for (input, group) in group_of.iter().enumerate() {
            for of_chunk in 0..outputs {
                let output = chunk * OUTPUTS + of_chunk;
                let at = group * out + output;
                values[of_chunk * inputs + input] = (number(input, output) - zeros[at]) as f32 * scales[at];
            }
        }
    });
    Ok(RawTensor::from_f32_as(&info.name, info.shape.clone(), &values, info.dtype)?)
}
