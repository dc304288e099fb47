//! A LoRA adapter in the files of other programs: PEFT's, MLX's and llama.cpp's, each into each.
//!
//! In between stand PEFT's config and matrices. Programs differ in what B·A is multiplied by: PEFT has alpha / r or alpha / √r
//! for each module, MLX one scale, llama.cpp one alpha over the rank of each module. What a file cannot say is multiplied
//! into B; otherwise the matrices keep their bytes.

mod factors;
mod gguf_lora;
mod mlx;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use afina_quant::format::Format;
use serde::Serialize;
use serde_json::Value;

use crate::adapter::{
    ADAPTER_WEIGHTS, AdapterConfig, AdapterError, CHAT_TEMPLATE, LoraTensors, TrainedWith, read_adapter, write_adapter,
};
use crate::atomic::{AtomicDir, write_file};
use crate::config::{ConfigError, LlamaConfig};
use crate::gguf::{GgufError, GgufFile, GgufWriteError, ToHfError, config_from_gguf};
use crate::model_dir::{ModelDirError, read_json};
use crate::names::{LINEAR_MODULES, linear_shape, module_path, parse_module_path, peft_key};
use crate::safetensors::{ReadError, WriteError};
use crate::tensor::{RawTensor, TensorError};
pub(crate) use gguf_lora::{describe_gguf_lora, is_gguf_adapter};
pub(crate) use mlx::{MLX_WEIGHTS, read_mlx};

/// The program whose files an adapter is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdapterKind {
    /// A folder with adapter_model.safetensors.
    Peft,
    /// A folder with adapters.safetensors, as mlx-lm writes it.
    Mlx,
    /// A GGUF file of type `adapter`, as llama.cpp reads it.
    GgufLora,
}

/// An adapter as PEFT has it, whichever file it came from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlainAdapter {
    pub config: AdapterConfig,
    pub loras: Vec<LoraTensors>,
    /// The text of its own chat template, where it was trained with one.
    pub chat_template: Option<String>,
}

/// What a conversion did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdapterReport {
    pub from: AdapterKind,
    pub to: AdapterKind,
    /// Linear layers that the adapter changes.
    pub modules: usize,
    /// What B·A is multiplied by: `lora_alpha` of PEFT, `scale` of MLX, `adapter.lora.alpha` of llama.cpp.
    pub factor: f64,
    /// Modules whose own factor was multiplied into B, because the file has one for all.
    pub folded: usize,
    /// Whether the adapter has a chat template of its own, which neither MLX nor llama.cpp looks for.
    pub chat_template: bool,
}

/// Why an adapter cannot be read from, or written for, another program.
#[derive(Debug, thiserror::Error)]
pub enum AdapterFormatError {
    #[error(
        "`{}` is no adapter: expected a folder with `adapter_model.safetensors` (PEFT) or `adapters.safetensors` (MLX), or a \
         GGUF file of type `adapter`", path.display()
    )]
    NotAdapter { path: PathBuf },
    #[error("failed to read or write `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("`{}` is not valid JSON", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("`{}`: `{key}`: expected {expected}, found `{found}`", path.display())]
    Value { path: PathBuf, key: &'static str, expected: &'static str, found: String },
    #[error("adapter tensor `{name}` is not a LoRA matrix on a linear layer of a Llama model")]
    Foreign { name: String },
    #[error("adapter on `{module}`: GGUF has the rows of its B in another order, which the base model's heads tell")]
    NoBase { module: String },
    #[error("adapter on `{module}`: the base has no such layer")]
    NoLayer { module: String },
    #[error("adapter on `{module}`: expected B·A of shape {expected:?}, found {found:?}")]
    Shape { module: String, expected: [usize; 2], found: [usize; 2] },
    #[error("failed to read the base model")]
    Base(#[from] Box<BaseConfigError>),
    #[error("the adapter cannot be used")]
    Adapter(#[from] AdapterError),
    #[error("failed to read the adapter's GGUF file")]
    Gguf(#[from] GgufError),
    #[error("failed to read the adapter's weights")]
    Read(#[from] ReadError),
    #[error("failed to write the adapter's weights")]
    Write(#[from] WriteError),
    #[error("failed to write the adapter's GGUF file")]
    WriteGguf(#[from] GgufWriteError),
    #[error("failed to convert a matrix")]
    Tensor(#[from] TensorError),
}

/// Why the numbers of a base model cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BaseConfigError {
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(transparent)]
    File(#[from] ToHfError),
    #[error(transparent)]
    Folder(#[from] ModelDirError),
    #[error("`{}` does not describe a usable model", path.display())]
    Config { path: PathBuf, source: ConfigError },
}

/// Which program's adapter is at a path.
pub fn adapter_kind(path: &Path) -> Result<AdapterKind, AdapterFormatError> {
    let io_error = |source| AdapterFormatError::Io { path: path.into(), source };
    if fs::metadata(path).map_err(io_error)?.is_dir() {
        return if path.join(ADAPTER_WEIGHTS).is_file() {
            Ok(AdapterKind::Peft)
        } else if path.join(MLX_WEIGHTS).is_file() {
            Ok(AdapterKind::Mlx)
        } else {
            Err(AdapterFormatError::NotAdapter { path: path.into() })
        };
    }
    let mut magic = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(fs::File::open(path).map_err(io_error)?, 4), &mut magic)
        .map_err(io_error)?;
    if magic == b"GGUF" && is_gguf_adapter(&GgufFile::open(path)?)? {
        Ok(AdapterKind::GgufLora)
    } else {
        Err(AdapterFormatError::NotAdapter { path: path.into() })
    }
}

/// The numbers of a base model: of a folder's config.json, whose weights need not be there, or of a GGUF file.
pub fn base_config(path: &Path) -> Result<LlamaConfig, Box<BaseConfigError>> {
    let config = || {
        if path.is_file() {
            return Ok(config_from_gguf(&GgufFile::open(path)?)?);
        }
        let path = path.join("config.json");
        LlamaConfig::from_json(&read_json(&path)?).map_err(|source| BaseConfigError::Config { path, source })
    };
    config().map_err(Box::new)
}

/// Writes the adapter at `from`, whichever program's it is, for another program: a folder, or a GGUF file. B·A times its
/// factor stays what it was on every module, within the rounding of F32.
///
/// `base` is needed where the rows of q_proj and k_proj change their order, which is between GGUF and the others; where it is
/// given, the adapter has to fit it. `format` is that of the matrices in a GGUF file, otherwise each keeps its own; rows that
/// are no whole blocks of it are F16. Nothing is left at `to` when it fails, and no folder with anything in it overwritten.
pub fn convert_adapter(
    from: &Path,
    to: &Path,
    kind: AdapterKind,
    format: Option<Format>,
    base: Option<&LlamaConfig>,
) -> Result<AdapterReport, AdapterFormatError> {
    let from_kind = adapter_kind(from)?;
    let adapter = match from_kind {
        AdapterKind::Peft => read_peft(from)?,
        AdapterKind::Mlx => read_mlx(from)?,
        AdapterKind::GgufLora => gguf_lora::read_gguf_lora(&GgufFile::open(from)?, base)?,
    };
    if let Some(base) = base {
        check_fits(&adapter.loras, base)?;
    }
    let (factor, folded) = match kind {
        AdapterKind::Peft => write_peft(to, &adapter)?,
        AdapterKind::Mlx => mlx::write_mlx(to, &adapter, base)?,
        AdapterKind::GgufLora => gguf_lora::write_gguf_lora(to, &adapter, format, base)?,
    };
    let modules = adapter.loras.len();
    let chat_template = adapter.chat_template.is_some();
    Ok(AdapterReport { from: from_kind, to: kind, modules, factor, folded, chat_template })
}

fn read_peft(dir: &Path) -> Result<PlainAdapter, AdapterFormatError> {
    let (config, loras) = read_adapter(dir)?;
    Ok(PlainAdapter { config, loras, chat_template: read_template(dir)? })
}

fn write_peft(to: &Path, adapter: &PlainAdapter) -> Result<(f64, usize), AdapterFormatError> {
    let folder = new_folder(to)?;
    write_adapter(folder.path(), &adapter.config, &adapter.loras)?;
    write_template(folder.path(), adapter)?;
    commit(folder, to)?;
    Ok((adapter.config.lora_alpha, 0))
}

fn read_template(dir: &Path) -> Result<Option<String>, AdapterFormatError> {
    let path = dir.join(CHAT_TEMPLATE);
    match path.is_file() {
        true => fs::read_to_string(&path).map(Some).map_err(|source| AdapterFormatError::Io { path, source }),
        false => Ok(None),
    }
}

fn write_template(folder: &Path, adapter: &PlainAdapter) -> Result<(), AdapterFormatError> {
    let Some(text) = &adapter.chat_template else { return Ok(()) };
    let path = folder.join(CHAT_TEMPLATE);
    write_file(&path, text.as_bytes()).map_err(|source| AdapterFormatError::Io { path, source })
}

fn new_folder(to: &Path) -> Result<AtomicDir, AdapterFormatError> {
    AtomicDir::create_new(to).map_err(|source| AdapterFormatError::Io { path: to.into(), source })
}

fn commit(folder: AtomicDir, to: &Path) -> Result<(), AdapterFormatError> {
    folder.commit().map_err(|source| AdapterFormatError::Io { path: to.into(), source })
}

fn check_fits(loras: &[LoraTensors], base: &LlamaConfig) -> Result<(), AdapterFormatError> {
    for LoraTensors { module, a, b } in loras {
        let (layer, name) = parse_module_path(module).expect("every reader has looked at the module");
        if layer >= base.num_hidden_layers {
            return Err(AdapterFormatError::NoLayer { module: module.clone() });
        }
        let (expected, found) = (linear_shape(base, name), [b.shape[0], a.shape[1]]);
        if found != expected {
            return Err(AdapterFormatError::Shape { module: module.clone(), expected, found });
        }
    }
    Ok(())
}

/// Both matrices on a linear layer, or where they are.
#[derive(Debug)]
pub(crate) struct Pair<T> {
    pub module: String,
    pub a: T,
    pub b: T,
}

/// The two halves of each module, as their reader meets them; in the end in the order of the model's layers.
#[derive(Debug)]
struct Pairs<T> {
    halves: BTreeMap<String, [Option<T>; 2]>,
}

impl<T> Pairs<T> {
    fn new() -> Pairs<T> {
        Pairs { halves: BTreeMap::new() }
    }

    /// `half` is `lora_a` or `lora_b`.
    fn put(&mut self, module: &str, half: &str, tensor: T) {
        self.halves.entry(module.to_owned()).or_insert([None, None])[usize::from(half == "lora_b")] = Some(tensor);
    }

    fn finish(self) -> Result<Vec<Pair<T>>, AdapterError> {
        let mut pairs = Vec::with_capacity(self.halves.len());
        for (module, pair) in self.halves {
            match pair {
                [Some(a), Some(b)] => pairs.push(Pair { module, a, b }),
                [None, _] => return Err(AdapterError::Unpaired { module, missing: "lora_a" }),
                [_, None] => return Err(AdapterError::Unpaired { module, missing: "lora_b" }),
            }
        }
        if pairs.is_empty() {
            return Err(AdapterError::Empty);
        }
        pairs.sort_by_key(|pair| {
            let (layer, name) = parse_module_path(&pair.module).expect("every reader has looked at the module");
            (layer, LINEAR_MODULES.iter().position(|other| *other == name))
        });
        Ok(pairs)
    }
}

/// PEFT's `target_modules` of these modules: bare names where each is on every layer up to the last that has any, otherwise
/// whole paths, so that PEFT puts nothing elsewhere.
fn target_modules<'a>(modules: impl Iterator<Item = &'a str>) -> Vec<String> {
    let places: BTreeSet<(usize, &str)> =
        modules.map(|module| parse_module_path(module).expect("every reader has looked at the module")).collect();
    let layers = places.last().map_or(0, |(layer, _)| layer + 1);
    let names: Vec<&str> =
        LINEAR_MODULES.into_iter().filter(|name| places.iter().any(|(_, other)| other == name)).collect();
    if places.len() == names.len().saturating_mul(layers) {
        return names.into_iter().map(str::to_owned).collect();
    }
    places.into_iter().map(|(layer, name)| module_path(layer, name)).collect()
}

/// A plain LoRA of PEFT's, as read from another program's files.
fn peft_config(
    r: usize,
    lora_alpha: f64,
    modules: &[&str],
    base: Option<String>,
    afina: Option<&Value>,
) -> AdapterConfig {
    let trained_with: Option<TrainedWith> = afina.and_then(|with| serde_json::from_value(with.clone()).ok());
    let unknown = || TrainedWith { base_sha256: String::new(), template_sha256: String::new(), version: String::new() };
    let mut config = AdapterConfig::lora(
        r,
        lora_alpha,
        target_modules(modules.iter().copied()),
        String::new(),
        trained_with.clone().unwrap_or_else(unknown),
    );
    (config.base_model_name_or_path, config.afina) = (base, trained_with);
    config
}

/// A matrix under PEFT's key.
fn named(module: &str, half: &str, tensor: RawTensor) -> RawTensor {
    let half = if half == "lora_a" { "lora_A" } else { "lora_B" };
    RawTensor { name: peft_key(module, half), ..tensor }
}
