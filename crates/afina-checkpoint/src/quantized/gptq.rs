//! GPTQ: numbers packed along the inputs, `[in · bits / 32, out]`.

use serde_json::{Map, Value};

use super::grouped::{QWEIGHT, QZEROS, Words, dequantize, find_bias, find_scales, group_size, groups};
use super::{Quantization, QuantizationError, Taken, flag, read, setting, wrong_part};
use crate::stored::StoredTensors;
use crate::tensor::{Dtype, RawTensor, TensorInfo};

/// The group of each input.
const G_IDX: &str = "g_idx";

/// What `quantization_config` says, as AutoGPTQ, GPTQModel and transformers write it.
pub(super) fn settings(settings: &Map<String, Value>) -> Result<Quantization, QuantizationError> {
    let bits = match settings.get("bits").and_then(Value::as_u64) {
        Some(bits @ (2 | 3 | 4 | 8)) => bits as u32,
        _ => return Err(setting("bits", "2, 3, 4 or 8", settings.get("bits").unwrap_or(&Value::Null))),
    };
    if flag(settings, "is_marlin_format")? {
        return Err(setting("is_marlin_format", "false", &Value::Bool(true)));
    }
    let (key, format) = ["checkpoint_format", "format"]
        .into_iter()
        .find_map(|key| Some((key, settings.get(key).filter(|value| !value.is_null())?)))
        .unwrap_or(("checkpoint_format", &Value::Null));
    let v2 = match format.as_str() {
        Some("gptq_v2") => true,
        Some("gptq") => false,
        None if format.is_null() => false,
        _ => return Err(setting(key, "gptq or gptq_v2", format)),
    };
    Ok(Quantization::Gptq {
        bits,
        group_size: group_size(settings, &["group_size"])?,
        v2,
        desc_act: flag(settings, "desc_act")?,
    })
}

/// A weight in GPTQ's form, its parts checked.
#[derive(Debug)]
pub(super) struct Gptq {
    bits: u32,
    group_size: Option<usize>,
    v2: bool,
    has_g_idx: bool,
}

impl Gptq {
    /// The dtype that the weight decodes to, and how.
    pub(super) fn find(
        take: &mut Taken<'_>,
        [out, input]: [usize; 2],
        bits: u32,
        group_size: Option<usize>,
        v2: bool,
        desc_act: bool,
    ) -> Result<(Dtype, Gptq), QuantizationError> {
        let groups = groups(input, group_size);
        let words = |numbers: usize| numbers * bits as usize / 32;
        for numbers in [input, out] {
            if !(numbers * bits as usize).is_multiple_of(32) {
                let info = take.required(QWEIGHT)?;
                return Err(wrong_part(info, format!("{numbers} numbers of {bits} bits in whole words of 32 bits")));
            }
        }
        take.exactly(QWEIGHT, Dtype::I32, &[words(input), out])?;
        take.exactly(QZEROS, Dtype::I32, &[groups, words(out)])?;
        let dtype = find_scales(take, groups, out)?;
        find_bias(take, out)?;
        let has_g_idx = desc_act || take.has(G_IDX);
        if has_g_idx {
            take.exactly(G_IDX, Dtype::I32, &[input])?;
        }
        Ok((dtype, Gptq { bits, group_size, v2, has_g_idx }))
    }

    /// Source: GPTQModel's `TorchQuantLinear`; the first form stores zero points less one, in so many bits.
    pub(super) fn read(&self, info: &TensorInfo, stored: &StoredTensors) -> Result<RawTensor, QuantizationError> {
        let module = info.name.strip_suffix(".weight").expect("a quantized tensor is a weight");
        let &[out, inputs] = &info.shape[..] else { unreachable!("`find` takes weights of two dimensions") };
        let (bits, groups) = (self.bits, groups(inputs, self.group_size));
        let packed = Words::read(stored, module, QZEROS)?;
        let words_of_group = out * bits as usize / 32;
        let mut zeros = Vec::with_capacity(groups * out);
        for group in 0..groups {
            for output in 0..out {
                let zero = packed.number(group * words_of_group, 1, output * bits as usize, bits);
                zeros.push(if self.v2 { zero } else { (zero + 1) & ((1 << bits) - 1) });
            }
        }
        let group_of = self.group_of(module, inputs, groups, stored)?;
        let numbers = Words::read(stored, module, QWEIGHT)?;
        dequantize(info, stored, &zeros, &group_of, |input, output| {
            numbers.number(output, out, input * bits as usize, bits)
        })
    }

    fn group_of(
        &self,
        module: &str,
        inputs: usize,
        groups: usize,
        stored: &StoredTensors,
    ) -> Result<Vec<usize>, QuantizationError> {
        if !self.has_g_idx {
            return Ok((0..inputs).map(|input| self.group_size.map_or(0, |size| input / size)).collect());
        }
        let g_idx = read(stored, module, G_IDX)?;
        let found = g_idx.bytes.as_chunks().0.iter().map(|group| i32::from_le_bytes(*group));
        found
            .enumerate()
            .map(|(input, found)| match usize::try_from(found) {
                Ok(group) if group < groups => Ok(group),
                _ => Err(QuantizationError::Group { name: g_idx.name.clone(), input, found, groups }),
            })
            .collect()
    }
}
