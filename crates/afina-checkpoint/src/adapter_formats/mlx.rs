//! mlx-lm's adapter folder: adapter_config.json with `lora_parameters`, and adapters.safetensors.
//!
//! Both matrices are PEFT's transposed: `lora_a` is `[in, r]`, `lora_b` `[r, out]`. There is one rank and one scale for all
//! modules, and the scale multiplies B·A as it is. Source: mlx-lm `tuner/utils.py`, `load_adapters`, and `tuner/lora.py`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::factors::{alpha_of, fold, folded_dtype, is_same, shared, transposed, with_rows};
use super::{
    AdapterFormatError, Pair, Pairs, PlainAdapter, commit, named, new_folder, peft_config, read_template,
    write_template,
};
use crate::adapter::{ADAPTER_CONFIG, AdapterConfig, AdapterError, LoraTensors};
use crate::atomic::write_file;
use crate::config::LlamaConfig;
use crate::names::{LINEAR_MODULES, mlx_key, module_path, parse_mlx_key, parse_module_path};
use crate::safetensors::{SafetensorsFile, write_safetensors};
use crate::tensor::{Dtype, RawTensor, TensorError, TensorInfo};

/// mlx-lm's weights file in an adapter folder.
pub(crate) const MLX_WEIGHTS: &str = "adapters.safetensors";

/// Every layer, whichever they are: what mlx-lm's `--num-layers` takes for all.
const ALL_LAYERS: i64 = -1;

/// Reads mlx-lm's folder.
pub(crate) fn read_mlx(dir: &Path) -> Result<PlainAdapter, AdapterFormatError> {
    let path = dir.join(ADAPTER_CONFIG);
    let bytes = fs::read(&path).map_err(|source| AdapterFormatError::Io { path: path.clone(), source })?;
    let object: Map<String, Value> =
        serde_json::from_slice(&bytes).map_err(|source| AdapterFormatError::Json { path: path.clone(), source })?;
    let Parameters { rank, scale, dropout } = parameters(&path, &object)?;

    let file = SafetensorsFile::open(&dir.join(MLX_WEIGHTS))?;
    let mut pairs: Pairs<RawTensor> = Pairs::new();
    for name in file.names() {
        let (module, half) = parse_mlx_key(name).ok_or_else(|| AdapterFormatError::Foreign { name: name.clone() })?;
        let info = file.info(name).expect("it is one of the file's names");
        let axis = usize::from(half == "lora_a");
        if info.shape.len() != 2 || info.shape[axis] != rank || info.shape[1 - axis] == 0 {
            let expected = format!("`{half}` with {rank}, the `rank`, in dimension {axis} of 2");
            return Err(AdapterError::Shape { module: module.into(), expected, found: info.shape.clone() }.into());
        }
        if !matches!(info.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(TensorError::NotFloat { name: name.clone(), dtype: info.dtype }.into());
        }
        pairs.put(module, half, named(module, half, transposed(&file.read(name)?)));
    }
    let loras: Vec<LoraTensors> =
        pairs.finish()?.into_iter().map(|Pair { module, a, b }| LoraTensors { module, a, b }).collect();
    let modules: Vec<&str> = loras.iter().map(|lora| lora.module.as_str()).collect();
    let base = object.get("model").and_then(Value::as_str).map(str::to_owned);
    let mut config = peft_config(rank, alpha_of(scale, rank), &modules, base, object.get("afina"));
    config.lora_dropout = dropout;
    Ok(PlainAdapter { config, loras, chat_template: read_template(dir)? })
}

struct Parameters {
    rank: usize,
    scale: f64,
    dropout: f64,
}

fn parameters(path: &Path, object: &Map<String, Value>) -> Result<Parameters, AdapterFormatError> {
    let bad = |key, expected, found: Option<&Value>| {
        let found = found.map_or_else(|| "nothing".to_owned(), Value::to_string);
        Err(AdapterFormatError::Value { path: path.into(), key, expected, found })
    };
    match object.get("fine_tune_type").map(Value::as_str) {
        None | Some(Some("lora")) => {}
        _ => {
            return bad(
                "fine_tune_type",
                "lora (mlx-lm's `fuse` makes a model of the others)",
                object.get("fine_tune_type"),
            );
        }
    }
    let Some(Value::Object(parameters)) = object.get("lora_parameters") else {
        return bad("lora_parameters", "an object with `rank` and `scale`", object.get("lora_parameters"));
    };
    if parameters.contains_key("alpha") {
        let expected = "none: early versions of mlx-lm multiplied by scale · alpha / rank, later ones by scale";
        return bad("alpha", expected, parameters.get("alpha"));
    }
    let rank = parameters.get("rank").and_then(Value::as_u64).filter(|rank| *rank > 0);
    let Some(rank) = rank.and_then(|rank| usize::try_from(rank).ok()) else {
        return bad("rank", "a whole number above 0", parameters.get("rank"));
    };
    // A product with the rank that is not finite would be no alpha.
    let scale = parameters.get("scale").and_then(Value::as_f64).filter(|scale| (scale * rank as f64).is_finite());
    let Some(scale) = scale else { return bad("scale", "a finite number", parameters.get("scale")) };
    let dropout = match parameters.get("dropout") {
        None | Some(Value::Null) => 0.0,
        Some(value) => match value.as_f64() {
            Some(dropout) => dropout,
            None => return bad("dropout", "a number", Some(value)),
        },
    };
    Ok(Parameters { rank, scale, dropout })
}

/// Writes mlx-lm's folder; returns the scale, and how many modules have a factor of their own in B.
pub(super) fn write_mlx(
    to: &Path,
    adapter: &PlainAdapter,
    base: Option<&LlamaConfig>,
) -> Result<(f64, usize), AdapterFormatError> {
    let PlainAdapter { config, loras, .. } = adapter;
    let scales: Vec<f64> = loras.iter().map(|lora| config.scaling(&lora.module)).collect();
    let scale = shared(&scales, |scale| scale.is_normal());
    let rank = loras.iter().map(|lora| lora.a.shape[0]).max().ok_or(AdapterError::Empty)?;

    let mut halves: BTreeMap<String, (&LoraTensors, f64)> = BTreeMap::new();
    let mut infos = Vec::with_capacity(loras.len() * 2);
    let mut folded = 0;
    for (lora, own) in loras.iter().zip(&scales) {
        let factor = own / scale;
        folded += usize::from(!is_same(factor));
        let (a, b) = (mlx_key(&lora.module, "lora_a"), mlx_key(&lora.module, "lora_b"));
        let (out, input) = (lora.b.shape[0], lora.a.shape[1]);
        infos.push(TensorInfo { name: a.clone(), dtype: known_to_mlx(lora.a.dtype), shape: vec![input, rank] });
        let dtype = folded_dtype(known_to_mlx(lora.b.dtype), factor);
        infos.push(TensorInfo { name: b.clone(), dtype, shape: vec![rank, out] });
        halves.insert(a, (lora, factor));
        halves.insert(b, (lora, factor));
    }

    let folder = new_folder(to)?;
    let metadata = BTreeMap::from([("format".to_owned(), "mlx".to_owned())]);
    write_safetensors(&folder.path().join(MLX_WEIGHTS), &infos, &metadata, &mut |name| {
        let (lora, factor) = halves.get(name).ok_or("an unknown name")?;
        let tensor = if name.ends_with("lora_a") {
            transposed(&with_rows(&narrowed(&lora.a)?, rank))
        } else {
            with_rows(&transposed(fold(&narrowed(&lora.b)?, *factor)?.as_ref()), rank)
        };
        Ok(RawTensor { name: name.to_owned(), ..tensor })
    })?;
    let path = folder.path().join(ADAPTER_CONFIG);
    let mut json = format!("{:#}", config_json(config, loras, rank, scale, base));
    json.push('\n');
    write_file(&path, json.as_bytes()).map_err(|source| AdapterFormatError::Io { path, source })?;
    write_template(folder.path(), adapter)?;
    commit(folder, to)?;
    Ok((scale, folded))
}

/// mlx-lm puts adapters on the last `num_layers` layers, where `keys` are; what has no matrices there adds nothing.
fn config_json(
    config: &AdapterConfig,
    loras: &[LoraTensors],
    rank: usize,
    scale: f64,
    base: Option<&LlamaConfig>,
) -> Value {
    let places = || loras.iter().filter_map(|lora| parse_module_path(&lora.module));
    let first = places().map(|(layer, _)| layer).min().unwrap_or(0);
    let layers = base.map_or(ALL_LAYERS, |base| base.num_hidden_layers.saturating_sub(first) as i64);
    let in_layer = |name| module_path(0, name).replacen("model.layers.0.", "", 1);
    let keys: Vec<String> =
        LINEAR_MODULES.into_iter().filter(|name| places().any(|(_, other)| other == *name)).map(in_layer).collect();
    let mut json = json!({
        "fine_tune_type": "lora",
        "model": config.base_model_name_or_path,
        "num_layers": layers,
        "lora_parameters": {"rank": rank, "scale": scale, "dropout": config.lora_dropout, "keys": keys},
    });
    if let Some(trained_with) = &config.afina {
        json["afina"] = json!(trained_with);
    }
    json
}

/// MLX computes nothing in F64.
fn known_to_mlx(dtype: Dtype) -> Dtype {
    if dtype == Dtype::F64 { Dtype::F32 } else { dtype }
}

fn narrowed(tensor: &RawTensor) -> Result<RawTensor, TensorError> {
    match tensor.dtype {
        Dtype::F64 => Ok(RawTensor::from_f32(tensor.name.clone(), tensor.shape.clone(), &tensor.to_f32()?)),
        _ => Ok(tensor.clone()),
    }
}
