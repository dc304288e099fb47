//! Weights that lie quantized in a Hugging Face folder: which tensors belong together, and what they decode to.
//!
//! A linear layer's weight is there either plain, under its own name, or as several parts. [`Parts`] knows the parts of one
//! and gives the tensor that they stand for, under the plain name: whoever reads a model does not see the difference. Nothing
//! of a part is trusted: shapes and settings are checked when the folder is opened, contents when they are read.

mod awq;
mod bitsandbytes;
mod error;
mod gptq;
mod grouped;
mod nf4_folder;
mod nf4_matrix;

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde_json::{Map, Value};

use crate::stored::StoredTensors;
use crate::tensor::{Dtype, RawTensor, TensorInfo};
use awq::Awq;
use bitsandbytes::Nf4;
pub use error::QuantizationError;
use gptq::Gptq;
pub use nf4_folder::{Nf4Error, Nf4Report, Nf4Tensor, quantize_nf4};

/// The key of config.json that says how weights are quantized.
pub const QUANTIZATION_CONFIG: &str = "quantization_config";

/// How a folder's weights are quantized, as config.json says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantization {
    /// bitsandbytes' 4-bit NF4; block sizes and double quantization are said with each weight.
    Nf4,
    Gptq {
        bits: u32,
        /// Inputs that share a scale; `None`: all of them.
        group_size: Option<usize>,
        /// Whether zero points are stored as they are (`gptq_v2`), or less one.
        v2: bool,
        /// Whether inputs are in their groups in another order than their own: then `g_idx` must be there.
        desc_act: bool,
    },
    /// AWQ's `gemm` packing, 4-bit.
    Awq { group_size: Option<usize> },
}

impl Quantization {
    /// What config.json says; `None` where it does not name a scheme. What is not read here is refused by name.
    pub fn of_config(config: &Value) -> Result<Option<Quantization>, QuantizationError> {
        let settings = match config.get(QUANTIZATION_CONFIG) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(settings)) => settings,
            Some(other) => return Err(setting(QUANTIZATION_CONFIG, "an object", other)),
        };
        let text = |key: &str| settings.get(key).and_then(Value::as_str).map(str::to_lowercase);
        // Before it had a name, bitsandbytes was the only method.
        let method = text("quant_method").unwrap_or_else(|| "bitsandbytes".into());
        match method.as_str() {
            "bitsandbytes" | "bitsandbytes_4bit" => {
                bitsandbytes::check_settings(settings).map(|()| Some(Quantization::Nf4))
            }
            "gptq" => gptq::settings(settings).map(Some),
            "awq" => awq::settings(settings).map(Some),
            _ => Err(QuantizationError::Scheme { scheme: method }),
        }
    }

    /// Tensors one of which is there where the weight `name` is quantized, and none where it is plain.
    pub(crate) fn marks(self, name: &str) -> Option<[String; 2]> {
        let module = name.strip_suffix(".weight")?;
        let marks = match self {
            Quantization::Nf4 => [bitsandbytes::STATE, bitsandbytes::ABSMAX],
            Quantization::Gptq { .. } | Quantization::Awq { .. } => [grouped::QWEIGHT, grouped::QZEROS],
        };
        Some(marks.map(|part| format!("{module}.{part}")))
    }

    /// `NF4`, `GPTQ 4-bit` or `AWQ 4-bit`: what a tensor is stored as.
    pub fn format(self) -> String {
        match self {
            Quantization::Nf4 => "NF4".into(),
            Quantization::Gptq { bits, .. } => format!("GPTQ {bits}-bit"),
            Quantization::Awq { .. } => "AWQ 4-bit".into(),
        }
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = |size: &Option<usize>| size.map_or("one group".to_owned(), |size| format!("groups of {size}"));
        match self {
            Quantization::Nf4 => write!(f, "bitsandbytes nf4"),
            Quantization::Gptq { bits, group_size, desc_act, .. } => {
                let order = if *desc_act { ", by activation" } else { "" };
                write!(f, "gptq, {bits} bits, {}{order}", groups(group_size))
            }
            Quantization::Awq { group_size } => write!(f, "awq, 4 bits, {}", groups(group_size)),
        }
    }
}

/// A weight that lies in several tensors.
#[derive(Debug)]
pub(crate) struct Parts {
    /// What the parts decode to.
    pub info: TensorInfo,
    /// That the parts take in the files.
    pub bytes: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Nf4(Nf4),
    Gptq(Gptq),
    Awq(Awq),
}

impl Parts {
    /// Reads and decodes the weight.
    pub(crate) fn read(&self, stored: &StoredTensors) -> Result<RawTensor, QuantizationError> {
        match &self.kind {
            Kind::Nf4(nf4) => nf4.read(&self.info, stored),
            Kind::Gptq(gptq) => gptq.read(&self.info, stored),
            Kind::Awq(awq) => awq.read(&self.info, stored),
        }
    }
}

/// The weights of a model that lie in parts, by name, and the names of all their parts.
pub(crate) type Found = (HashMap<String, Parts>, HashSet<String>);

/// Finds the quantized ones among `expected`, weights with their shapes, and checks their parts.
pub(crate) fn find(
    scheme: Option<Quantization>,
    expected: &[(String, Vec<usize>)],
    stored: &StoredTensors,
) -> Result<Found, QuantizationError> {
    refuse_other_parts(scheme, stored)?;
    let (mut found, mut parts) = (HashMap::new(), HashSet::new());
    let Some(scheme) = scheme else { return Ok((found, parts)) };
    for (name, shape) in expected {
        let (Some(marks), &[out, input]) = (scheme.marks(name), &shape[..]) else { continue };
        if marks.iter().all(|mark| stored.info(mark).is_none()) {
            continue;
        }
        let module = name.strip_suffix(".weight").expect("what has marks is a weight");
        let mut take = Taken { module, stored, names: Vec::new(), bytes: 0 };
        let shape_of = [out, input];
        let (dtype, kind) = match scheme {
            Quantization::Nf4 => {
                let (dtype, nf4) = Nf4::find(&mut take, shape_of)?;
                (dtype, Kind::Nf4(nf4))
            }
            Quantization::Gptq { bits, group_size, v2, desc_act } => {
                let (dtype, gptq) = Gptq::find(&mut take, shape_of, bits, group_size, v2, desc_act)?;
                (dtype, Kind::Gptq(gptq))
            }
            Quantization::Awq { group_size } => {
                let (dtype, awq) = Awq::find(&mut take, shape_of, group_size)?;
                (dtype, Kind::Awq(awq))
            }
        };
        let bytes = take.bytes;
        if let (false, Some(plain)) = (take.names.contains(name), stored.info(name)) {
            return Err(wrong_part(plain, "none beside its quantized parts".into()));
        }
        parts.extend(take.names);
        let info = TensorInfo { name: name.clone(), dtype, shape: shape.clone() };
        found.insert(name.clone(), Parts { info, bytes, kind });
    }
    Ok((found, parts))
}

/// Parts of a scheme that config.json does not name would otherwise be told as some tensor that is missing or too much.
fn refuse_other_parts(scheme: Option<Quantization>, stored: &StoredTensors) -> Result<(), QuantizationError> {
    let is_nf4 = |name: &str| name.contains(".weight.quant_state.") || name.ends_with(".weight.absmax");
    let is_grouped = |name: &str| name.ends_with(".qweight") || name.ends_with(".qzeros");
    let is_int8 = |name: &str| name.ends_with(".SCB");
    let is_other = |name: &str| match scheme {
        None => is_nf4(name) || is_grouped(name) || is_int8(name),
        Some(Quantization::Nf4) => is_grouped(name) || is_int8(name),
        Some(_) => is_nf4(name) || is_int8(name),
    };
    match (stored.names().filter(|name| is_other(name)).min(), scheme) {
        (None, _) => Ok(()),
        (Some(name), None) => Err(QuantizationError::Unsaid { name: name.clone() }),
        (Some(name), Some(scheme)) => {
            Err(QuantizationError::OtherScheme { scheme: scheme.to_string(), name: name.clone() })
        }
    }
}

/// The parts of one weight, as they are asked for.
struct Taken<'a> {
    module: &'a str,
    stored: &'a StoredTensors,
    names: Vec<String>,
    bytes: u64,
}

impl<'a> Taken<'a> {
    fn has(&self, part: &str) -> bool {
        self.stored.info(&format!("{}.{part}", self.module)).is_some()
    }

    /// A part that may be missing: its name behind the module's, and its header.
    fn optional(&mut self, part: &str) -> Option<&'a TensorInfo> {
        let name = format!("{}.{part}", self.module);
        let info = self.stored.info(&name)?;
        // The file has been checked against its header, so that this does not overflow.
        self.bytes += info.elements().unwrap_or(0) as u64 * info.dtype.size() as u64;
        self.names.push(name);
        Some(info)
    }

    fn required(&mut self, part: &str) -> Result<&'a TensorInfo, QuantizationError> {
        let module = self.module;
        let missing =
            || QuantizationError::MissingPart { module: module.to_owned(), missing: format!("{module}.{part}") };
        self.optional(part).ok_or_else(missing)
    }

    /// A part that must have this dtype and shape.
    fn exactly(&mut self, part: &str, dtype: Dtype, shape: &[usize]) -> Result<(), QuantizationError> {
        let info = self.required(part)?;
        if info.dtype == dtype && info.shape == shape {
            return Ok(());
        }
        Err(wrong_part(info, format!("{dtype} {shape:?}")))
    }

    /// Reads a part that has been asked for.
    fn read(&self, part: &str) -> Result<RawTensor, QuantizationError> {
        read(self.stored, self.module, part)
    }
}

/// Reads a part of a module's weight.
fn read(stored: &StoredTensors, module: &str, part: &str) -> Result<RawTensor, QuantizationError> {
    let name = format!("{module}.{part}");
    match stored.read(&name) {
        Some(tensor) => Ok(tensor?),
        None => Err(QuantizationError::MissingPart { module: module.to_owned(), missing: name }),
    }
}

fn wrong_part(info: &TensorInfo, expected: String) -> QuantizationError {
    let found = format!("{} {:?}", info.dtype, info.shape);
    QuantizationError::Part { name: info.name.clone(), expected, found }
}

fn setting(key: &'static str, expected: &'static str, found: &Value) -> QuantizationError {
    let found: String = found.to_string().trim_matches('"').chars().take(60).collect();
    QuantizationError::Setting { key, expected, found }
}

/// A setting that is true or false, by a name of its own; `false` where it is not there.
fn flag(settings: &Map<String, Value>, key: &'static str) -> Result<bool, QuantizationError> {
    match settings.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(other) => Err(setting(key, "true or false", other)),
    }
}

#[cfg(test)]
mod tests;
