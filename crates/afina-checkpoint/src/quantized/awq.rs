//! AWQ's `gemm` form: 4-bit numbers packed along the outputs, `[in, out / 8]`, the eight of a word in an order of their own.

use serde_json::{Map, Value};

use super::grouped::{QWEIGHT, QZEROS, Words, dequantize, find_bias, find_scales, group_size, groups};
use super::{Quantization, QuantizationError, Taken, setting, wrong_part};
use crate::stored::StoredTensors;
use crate::tensor::{Dtype, RawTensor, TensorInfo};

const BITS: u32 = 4;
const IN_WORD: usize = 8;

/// The place in its word of each of eight outputs.
///
/// Source: AutoAWQ's `AWQ_REVERSE_ORDER`.
const PLACE: [usize; IN_WORD] = [0, 4, 1, 5, 2, 6, 3, 7];

/// What `quantization_config` says, as AutoAWQ and transformers write it.
pub(super) fn settings(settings: &Map<String, Value>) -> Result<Quantization, QuantizationError> {
    let first = |names: &[&'static str]| {
        let found = names.iter().find_map(|key| Some((*key, settings.get(*key).filter(|value| !value.is_null())?)));
        found.unwrap_or((names[0], &Value::Null))
    };
    let (key, bits) = first(&["bits", "w_bit"]);
    if bits.as_u64() != Some(u64::from(BITS)) {
        return Err(setting(key, "4", bits));
    }
    let (key, version) = first(&["version", "format"]);
    if !version.is_null() && !version.as_str().is_some_and(|version| version.eq_ignore_ascii_case("gemm")) {
        return Err(setting(key, "gemm", version));
    }
    let (key, zero_point) = first(&["zero_point"]);
    if !zero_point.is_null() && zero_point != &Value::Bool(true) {
        return Err(setting(key, "true", zero_point));
    }
    Ok(Quantization::Awq { group_size: group_size(settings, &["group_size", "q_group_size"])? })
}

/// A weight in AWQ's form, its parts checked.
#[derive(Debug)]
pub(super) struct Awq {
    group_size: Option<usize>,
}

impl Awq {
    /// The dtype that the weight decodes to, and how.
    pub(super) fn find(
        take: &mut Taken<'_>,
        [out, input]: [usize; 2],
        group_size: Option<usize>,
    ) -> Result<(Dtype, Awq), QuantizationError> {
        let whole_groups = group_size.is_none_or(|size| input.is_multiple_of(size));
        if !out.is_multiple_of(IN_WORD) || !whole_groups {
            let info = take.required(QWEIGHT)?;
            let expected = format!("whole groups of {input} inputs, and {out} outputs by eight");
            return Err(wrong_part(info, expected));
        }
        let groups = groups(input, group_size);
        take.exactly(QWEIGHT, Dtype::I32, &[input, out / IN_WORD])?;
        take.exactly(QZEROS, Dtype::I32, &[groups, out / IN_WORD])?;
        let dtype = find_scales(take, groups, out)?;
        find_bias(take, out)?;
        Ok((dtype, Awq { group_size }))
    }

    /// Source: AutoAWQ's `dequantize_gemm`.
    pub(super) fn read(&self, info: &TensorInfo, stored: &StoredTensors) -> Result<RawTensor, QuantizationError> {
        let module = info.name.strip_suffix(".weight").expect("a quantized tensor is a weight");
        let &[out, inputs] = &info.shape[..] else { unreachable!("`find` takes weights of two dimensions") };
        let number = |words: &Words, row: usize, output: usize| {
            let bit = PLACE[output % IN_WORD] * BITS as usize;
            words.number(row * (out / IN_WORD) + output / IN_WORD, 1, bit, BITS)
        };
        let packed = Words::read(stored, module, QZEROS)?;
        let groups = groups(inputs, self.group_size);
        let mut zeros = Vec::with_capacity(groups * out);
        for group in 0..groups {
            zeros.extend((0..out).map(|output| number(&packed, group, output)));
        }
        let group_of: Vec<usize> = (0..inputs).map(|input| self.group_size.map_or(0, |size| input / size)).collect();
        let numbers = Words::read(stored, module, QWEIGHT)?;
        dequantize(info, stored, &zeros, &group_of, |input, output| number(&numbers, input, output))
    }
}
