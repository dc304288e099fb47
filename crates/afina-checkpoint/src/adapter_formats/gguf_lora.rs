//! llama.cpp's adapter: a GGUF file of `general.type` "adapter" with `<tensor>.lora_a` `[r, in]` and `<tensor>.lora_b`
//! `[out, r]`.
//!
//! B·A is multiplied by `adapter.lora.alpha` over the rank of each module, or by 1 where alpha is 0. The rows of q_proj and
//! k_proj lie in GGUF's order, which are those of B alone. Source: llama.cpp `src/llama-adapter.cpp`, and
//! `convert_lora_to_gguf.py`, whose file this is.

use std::path::Path;

use afina_quant::format::Format;

use super::factors::{alpha_of, fold, is_same, shared};
use super::{AdapterFormatError, Pair, Pairs, PlainAdapter, named, peft_config};
use crate::adapter::{AdapterConfig, AdapterError, LoraTensors};
use crate::config::LlamaConfig;
use crate::gguf::{GgufError, GgufFile, GgufTensor, Value, permute, unpermute, write_gguf};
use crate::names::{gguf_lora_name, parse_gguf_lora_name};
use crate::tensor::{Dtype, RawTensor};

const TYPE: &str = "general.type";
const ALPHA: &str = "adapter.lora.alpha";
const BASE_NAME: &str = "general.base_model.0.name";
const TEMPLATE: &str = "tokenizer.chat_template";
/// Where an adapter of this project says what it was trained with; the names of its fields behind it.
const TRAINED_WITH: &str = "afina.";
const TRAINED_WITH_FIELDS: [&str; 3] = ["base_sha256", "template_sha256", "version"];

/// Whether a GGUF file holds an adapter, of whichever kind.
pub(crate) fn is_gguf_adapter(gguf: &GgufFile) -> Result<bool, GgufError> {
    Ok(gguf.str(TYPE)? == Some("adapter"))
}

/// What the file says without its numbers: PEFT's config, and where the two matrices of each module are.
pub(crate) fn describe_gguf_lora(
    gguf: &GgufFile,
) -> Result<(AdapterConfig, Vec<Pair<&GgufTensor>>), AdapterFormatError> {
    for (key, expected) in [(TYPE, "adapter"), ("adapter.type", "lora"), ("general.architecture", "llama")] {
        let found = gguf.str(key)?.ok_or_else(|| gguf.missing_key(key))?;
        if found != expected {
            return Err(bad(gguf, key, expected, found.to_owned()));
        }
    }
    if gguf.get("adapter.alora.invocation_tokens").is_some() {
        let expected = "none: what begins at certain tokens only is no plain LoRA";
        return Err(bad(gguf, "adapter.alora.invocation_tokens", expected, "an array".into()));
    }
    let alpha = gguf.f64(ALPHA)?.unwrap_or(0.0);
    if !alpha.is_finite() {
        return Err(bad(gguf, ALPHA, "a finite number", alpha.to_string()));
    }

    let mut pairs: Pairs<&GgufTensor> = Pairs::new();
    for tensor in gguf.tensors() {
        let (module, half) = parse_gguf_lora_name(&tensor.name)
            .ok_or_else(|| AdapterFormatError::Foreign { name: tensor.name.clone() })?;
        if tensor.shape.len() != 2 {
            let expected = format!("`{half}` of 2 dimensions");
            return Err(AdapterError::Shape { module, expected, found: tensor.shape.clone() }.into());
        }
        pairs.put(&module, half, tensor);
    }
    let pairs = pairs.finish()?;
    for Pair { module, a, b } in &pairs {
        if a.shape[0] != b.shape[1] {
            let expected = format!("`lora_b` with {} in dimension 1, as `lora_a` has rows", a.shape[0]);
            return Err(AdapterError::Shape { module: module.clone(), expected, found: b.shape.clone() }.into());
        }
    }
    let config = config_of(gguf, alpha, &pairs)?;
    Ok((config, pairs))
}

/// `r` is the most frequent rank; the others are in `rank_pattern`.
fn config_of(gguf: &GgufFile, alpha: f64, pairs: &[Pair<&GgufTensor>]) -> Result<AdapterConfig, AdapterFormatError> {
    let ranks: Vec<f64> = pairs.iter().map(|pair| pair.a.shape[0] as f64).collect();
    let r = shared(&ranks, |_| true) as usize;
    let modules: Vec<&str> = pairs.iter().map(|pair| pair.module.as_str()).collect();
    let trained_with: serde_json::Map<String, serde_json::Value> = TRAINED_WITH_FIELDS
        .into_iter()
        .filter_map(|field| {
            let text = gguf.str(&format!("{TRAINED_WITH}{field}")).ok().flatten()?;
            Some((field.to_owned(), text.into()))
        })
        .collect();
    let base = gguf.str(BASE_NAME)?.map(str::to_owned);
    // An alpha of 0 stands for a factor of 1 on every module, whatever its rank.
    let is_one = alpha == 0.0;
    let lora_alpha = if is_one { alpha_of(1.0, r) } else { alpha };
    let mut config = peft_config(r, lora_alpha, &modules, base, Some(&trained_with.into()));
    for Pair { module, a, .. } in pairs.iter().filter(|pair| pair.a.shape[0] != r) {
        config.rank_pattern.push(module.clone(), a.shape[0]);
        if is_one {
            config.alpha_pattern.push(module.clone(), alpha_of(1.0, a.shape[0]));
        }
    }
    Ok(config)
}

/// Reads the file; quantized matrices become F32.
pub(super) fn read_gguf_lora(gguf: &GgufFile, base: Option<&LlamaConfig>) -> Result<PlainAdapter, AdapterFormatError> {
    let (config, pairs) = describe_gguf_lora(gguf)?;
    let mut loras = Vec::with_capacity(pairs.len());
    for Pair { module, a, b } in pairs {
        let a = named(&module, "lora_a", read(gguf, a)?);
        let mut b = named(&module, "lora_b", read(gguf, b)?);
        if let Some((heads, head_dim)) = heads(&module, b.shape[0], base)? {
            b.bytes = unpermute(&b.bytes, heads, head_dim);
        }
        loras.push(LoraTensors { module, a, b });
    }
    let chat_template = gguf.str(TEMPLATE)?.map(str::to_owned);
    Ok(PlainAdapter { config, loras, chat_template })
}

fn read(gguf: &GgufFile, tensor: &GgufTensor) -> Result<RawTensor, GgufError> {
    let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
    let dtype = match tensor.kind.format() {
        Some(Format::F32) => Dtype::F32,
        Some(Format::F16) => Dtype::F16,
        Some(Format::BF16) => Dtype::BF16,
        _ => return Ok(RawTensor::from_f32(name, shape, &gguf.read_f32(&tensor.name)?)),
    };
    Ok(RawTensor { name, dtype, shape, bytes: gguf.read_raw(&tensor.name)? })
}

/// Writes the file; returns the alpha, and how many modules have a factor of their own in B.
pub(super) fn write_gguf_lora(
    to: &Path,
    adapter: &PlainAdapter,
    format: Option<Format>,
    base: Option<&LlamaConfig>,
) -> Result<(f64, usize), AdapterFormatError> {
    let PlainAdapter { config, loras, .. } = adapter;
    let alphas: Vec<f64> = loras.iter().map(|lora| alpha_of(config.scaling(&lora.module), lora.a.shape[0])).collect();
    // 32 bits in the file, and 0 would stand for a factor of 1.
    let alpha = shared(&alphas, |alpha| (alpha as f32).is_normal());
    let factors: Vec<f64> = alphas.iter().map(|own| own / alpha).collect();

    let mut tensors = Vec::with_capacity(loras.len() * 2);
    for (lora, factor) in loras.iter().zip(&factors) {
        heads(&lora.module, lora.b.shape[0], base)?; // what is missing is told before anything is written
        for (half, tensor) in [("lora_a", &lora.a), ("lora_b", &lora.b)] {
            let name = gguf_lora_name(&lora.module, half)
                .ok_or_else(|| AdapterFormatError::Foreign { name: lora.module.clone() })?;
            let own = match tensor.dtype {
                _ if half == "lora_b" && !is_same(*factor) => Format::F32,
                Dtype::F16 => Format::F16,
                Dtype::BF16 => Format::BF16,
                _ => Format::F32,
            };
            let wanted = format.unwrap_or(own);
            let fits = tensor.shape[1].is_multiple_of(wanted.block());
            tensors.push((name, tensor.shape.clone(), if fits { wanted } else { Format::F16 }));
        }
    }
    let mut halves = loras.iter().zip(&factors).flat_map(|(lora, factor)| [(lora, None), (lora, Some(*factor))]);
    write_gguf(to, &metadata(adapter, alpha, to), &tensors, &mut |_| {
        let (lora, factor) = halves.next().ok_or("two matrices of each module")?;
        let Some(factor) = factor else { return Ok(lora.a.to_f32()?) };
        let values = fold(&lora.b, factor)?.to_f32()?;
        Ok(match heads(&lora.module, lora.b.shape[0], base)? {
            Some((heads, head_dim)) => permute(&values, heads, head_dim),
            None => values,
        })
    })?;
    Ok((alpha, factors.iter().filter(|factor| !is_same(**factor)).count()))
}

fn metadata(adapter: &PlainAdapter, alpha: f64, to: &Path) -> Vec<(String, Value)> {
    let text = |text: &str| Value::String(text.to_owned());
    let name = to.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut metadata = vec![
        ("general.architecture".to_owned(), text("llama")),
        (TYPE.to_owned(), text("adapter")),
        ("general.name".to_owned(), text(&name)),
        ("adapter.type".to_owned(), text("lora")),
        (ALPHA.to_owned(), Value::F32(alpha as f32)),
    ];
    if let Some(base) = &adapter.config.base_model_name_or_path {
        metadata.push(("general.base_model.count".to_owned(), Value::U32(1)));
        metadata.push((BASE_NAME.to_owned(), text(base)));
    }
    if let Some(with) = &adapter.config.afina {
        let values = [&with.base_sha256, &with.template_sha256, &with.version];
        for (field, value) in TRAINED_WITH_FIELDS.into_iter().zip(values) {
            metadata.push((format!("{TRAINED_WITH}{field}"), text(value)));
        }
    }
    if let Some(template) = &adapter.chat_template {
        metadata.push((TEMPLATE.to_owned(), text(template)));
    }
    metadata
}

/// Heads and their width, where the rows of a module's B are in another order in GGUF.
fn heads(module: &str, rows: usize, base: Option<&LlamaConfig>) -> Result<Option<(usize, usize)>, AdapterFormatError> {
    let is_query = module.ends_with(".q_proj");
    if !is_query && !module.ends_with(".k_proj") {
        return Ok(None);
    }
    let base = base.ok_or_else(|| AdapterFormatError::NoBase { module: module.to_owned() })?;
    let heads = if is_query { base.num_attention_heads } else { base.num_key_value_heads };
    if rows != heads * base.head_dim {
        let (expected, found) = ([heads * base.head_dim, base.hidden_size], [rows, base.hidden_size]);
        return Err(AdapterFormatError::Shape { module: module.to_owned(), expected, found });
    }
    Ok(Some((heads, base.head_dim)))
}

fn bad(gguf: &GgufFile, key: &'static str, expected: &'static str, found: String) -> AdapterFormatError {
    AdapterFormatError::Value { path: gguf.path().into(), key, expected, found }
}
