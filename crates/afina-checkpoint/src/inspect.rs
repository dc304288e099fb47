//! What a model folder, adapter folder, GGUF or safetensors file holds, without loading it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::adapter::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, Adapter, AdapterConfig, AdapterError};
use crate::adapter_formats::{
    AdapterFormatError, AdapterKind, MLX_WEIGHTS, adapter_kind, describe_gguf_lora, is_gguf_adapter, read_mlx,
};
use crate::config::{LlamaConfig, RopeScaling};
use crate::gguf::{GgufError, GgufFile, TokenizerModel, Vocabulary, VocabularyError, vocabulary_from_hf};
use crate::gguf::{ToHfError, config_from_gguf, is_gguf};
use crate::hash::{sha256_file, sha256_hex};
use crate::manifest::Origin;
use crate::model_dir::{ModelDir, ModelDirError};
use crate::safetensors::{ReadError, SafetensorsFile};
use crate::tensor::TensorInfo;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    pub kind: Kind,
    pub path: PathBuf,
    pub name: Option<String>,
    pub architecture: Option<String>,
    pub license: Option<String>,
    /// How a folder's weights are quantized, if they are.
    pub quantization: Option<String>,
    pub shape: Option<Shape>,
    pub parameters: u64,
    /// Of the weights, in the file or files.
    pub bytes: u64,
    /// By dtype: how many tensors and how many parameters.
    pub dtypes: BTreeMap<String, DtypeCount>,
    pub tokenizer: Option<TokenizerInfo>,
    /// Why there is no `tokenizer`, if one is there and cannot be read.
    pub tokenizer_error: Option<String>,
    pub template: Option<TemplateInfo>,
    pub adapter: Option<AdapterInfo>,
    /// SHA-256 of the weights: of the file, or as [`ModelDir::weights_sha256`] says.
    pub sha256: String,
    pub origin: Option<Origin>,
    pub tensors: Vec<TensorLine>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Model,
    Adapter,
    Gguf,
    Safetensors,
}

/// The model's numbers, by their names in config.json.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shape {
    pub num_hidden_layers: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub vocab_size: usize,
    pub max_position_embeddings: usize,
    pub rope_theta: f64,
    /// `none`, `linear × 4` or `llama3 × 32`.
    pub rope_scaling: String,
    pub tie_word_embeddings: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DtypeCount {
    pub tensors: usize,
    pub parameters: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenizerInfo {
    /// `byte-level BPE (smollm)` or `SentencePiece BPE`.
    pub kind: String,
    pub vocab_size: usize,
    pub bos_token: Option<String>,
    /// Every token that ends an answer.
    pub eos_tokens: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TemplateInfo {
    /// Of the template's text.
    pub sha256: String,
    pub first_line: String,
    /// Names of further templates.
    pub others: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdapterInfo {
    /// The program whose files it is in.
    pub program: AdapterKind,
    pub base: Option<String>,
    pub base_sha256: Option<String>,
    pub r: usize,
    pub lora_alpha: f64,
    pub target_modules: Vec<String>,
    /// Linear layers that it changes.
    pub modules: usize,
    pub use_rslora: bool,
    pub use_dora: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorLine {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
}

/// Why a path cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("failed to read `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "`{}` is no model folder (config.json), adapter folder (adapter_config.json), GGUF or safetensors file",
        path.display()
    )]
    Unknown { path: PathBuf },
    #[error("failed to read the model")]
    Model(#[from] ModelDirError),
    #[error("failed to read the adapter")]
    Adapter(#[from] AdapterError),
    #[error("failed to read the adapter")]
    AdapterFormat(#[from] Box<AdapterFormatError>),
    #[error("failed to read the GGUF file")]
    Gguf(#[from] GgufError),
    #[error("failed to read the safetensors file")]
    Safetensors(#[from] ReadError),
}

/// Describes what is at `path`.
pub fn inspect(path: &Path) -> Result<Inspection, InspectError> {
    let io_error = |source| InspectError::Io { path: path.into(), source };
    if fs::metadata(path).map_err(io_error)?.is_dir() {
        return if path.join(ADAPTER_CONFIG).is_file() {
            inspect_adapter(path)
        } else if path.join("config.json").is_file() {
            inspect_model(path)
        } else {
            Err(InspectError::Unknown { path: path.into() })
        };
    }
    if is_gguf(path) {
        inspect_gguf(path)
    } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors")) {
        inspect_safetensors(path)
    } else {
        Err(InspectError::Unknown { path: path.into() })
    }
}

fn inspect_model(path: &Path) -> Result<Inspection, InspectError> {
    let model = ModelDir::open(path)?;
    let mut out = Inspection::new(Kind::Model, path);
    for name in model.tensor_names() {
        let info = model.info(name).expect("`ModelDir::open` has checked every tensor");
        let (stored_as, bytes) = model.stored_as(name).expect("what has a header is stored");
        out.add(name, &stored_as, &info.shape, bytes);
    }
    out.architecture = Some("llama".into());
    out.quantization = model.quantization().map(|quantization| quantization.to_string());
    out.shape = Some(Shape::new(&model.config));
    out.sha256 = model.weights_sha256()?;
    if let Some(manifest) = model.origin()? {
        out.name = Some(manifest.name);
        out.license = manifest.license;
        out.origin = Some(manifest.origin);
    }
    out.set_tokenizer(vocabulary_from_hf(path, model.config.vocab_size, &model.eos_token_ids()));
    if let (Some(tokenizer), ids) = (&mut out.tokenizer, model.eos_token_ids())
        && tokenizer.eos_tokens.is_empty()
    {
        tokenizer.eos_tokens = ids.iter().map(u32::to_string).collect();
    }
    Ok(out)
}

fn inspect_adapter(path: &Path) -> Result<Inspection, InspectError> {
    let program = adapter_kind(path).unwrap_or(AdapterKind::Peft); // whose reader says what is missing
    let mut others: Vec<TensorInfo> = Vec::new();
    let (weights, (config, adapters)) = match program {
        AdapterKind::Mlx => {
            let adapter = read_mlx(path).map_err(Box::new)?;
            (MLX_WEIGHTS, (adapter.config, adapter.loras))
        }
        _ => {
            let adapter = Adapter::open(path)?;
            let outside = adapter.magnitudes.iter().map(|(module, magnitude)| {
                let name = format!("{module}.lora_magnitude_vector");
                TensorInfo { name, ..magnitude.info() }
            });
            let whole =
                adapter.whole_tensors().map(|(name, info)| TensorInfo { name: name.to_owned(), ..info.clone() });
            others.extend(outside.chain(whole));
            (ADAPTER_WEIGHTS, (adapter.config, adapter.lora))
        }
    };
    let mut out = Inspection::new(Kind::Adapter, path);
    for lora in &adapters {
        for (half, tensor) in [("lora_A", &lora.a), ("lora_B", &lora.b)] {
            let name = format!("{}.{half}", lora.module);
            out.add(&name, tensor.dtype.as_str(), &tensor.shape, tensor.bytes.len() as u64);
        }
    }
    for info in others {
        let bytes = info.elements().unwrap_or(0) * info.dtype.size();
        out.add(&info.name, info.dtype.as_str(), &info.shape, bytes as u64);
    }
    out.adapter = Some(AdapterInfo::new(program, config, adapters.len()));
    out.template = chat_template(path)?.map(|text| TemplateInfo::new(&text, Vec::new()));
    out.sha256 = hash(&path.join(weights))?;
    Ok(out)
}

fn inspect_gguf(path: &Path) -> Result<Inspection, InspectError> {
    let gguf = GgufFile::open(path)?;
    let mut out = Inspection::new(Kind::Gguf, path);
    for tensor in gguf.tensors() {
        out.add(&tensor.name, &tensor.kind.to_string(), &tensor.shape, tensor.bytes);
    }
    let text = |key| gguf.str(key).map(|value| value.map(str::to_owned));
    out.name = text("general.name")?;
    out.architecture = text("general.architecture")?;
    out.license = text("general.license")?;
    if is_gguf_adapter(&gguf)? {
        out.kind = Kind::Adapter;
        match describe_gguf_lora(&gguf) {
            Ok((config, pairs)) => {
                out.adapter = Some(AdapterInfo::new(AdapterKind::GgufLora, config, pairs.len()));
            }
            // Another architecture's, or on other tensors: described as far as it goes.
            Err(AdapterFormatError::Value { .. } | AdapterFormatError::Foreign { .. }) => {}
            Err(error) => return Err(Box::new(error).into()),
        }
        out.template = gguf.str("tokenizer.chat_template")?.map(|text| TemplateInfo::new(text, Vec::new()));
        out.sha256 = hash(path)?;
        return Ok(out);
    }
    out.shape = match config_from_gguf(&gguf) {
        Ok(config) => Some(Shape::new(&config)),
        // Another architecture is described as far as it goes.
        Err(ToHfError::Gguf(error @ GgufError::Io { .. })) => return Err(error.into()),
        Err(_) => None,
    };
    if gguf.get("tokenizer.ggml.model").is_some() {
        out.set_tokenizer(Vocabulary::from_gguf(&gguf));
    }
    out.sha256 = gguf.sha256().map_err(|source| InspectError::Io { path: path.into(), source })?;
    Ok(out)
}

fn inspect_safetensors(path: &Path) -> Result<Inspection, InspectError> {
    let file = SafetensorsFile::open(path)?;
    let mut out = Inspection::new(Kind::Safetensors, path);
    for name in file.names() {
        let info = file.info(name).expect("it is one of the file's names");
        out.add(name, info.dtype.as_str(), &info.shape, info.elements().unwrap_or(0) as u64 * info.dtype.size() as u64);
    }
    out.sha256 = hash(path)?;
    Ok(out)
}

impl Inspection {
    fn new(kind: Kind, path: &Path) -> Inspection {
        Inspection {
            kind,
            path: path.into(),
            name: None,
            architecture: None,
            license: None,
            quantization: None,
            shape: None,
            parameters: 0,
            bytes: 0,
            dtypes: BTreeMap::new(),
            tokenizer: None,
            tokenizer_error: None,
            template: None,
            adapter: None,
            sha256: String::new(),
            origin: None,
            tensors: Vec::new(),
        }
    }

    fn add(&mut self, name: &str, dtype: &str, shape: &[usize], bytes: u64) {
        let parameters = shape.iter().map(|dim| *dim as u64).product::<u64>();
        let count = self.dtypes.entry(dtype.into()).or_insert(DtypeCount { tensors: 0, parameters: 0 });
        count.tensors += 1;
        count.parameters += parameters;
        self.parameters += parameters;
        self.bytes += bytes;
        self.tensors.push(TensorLine { name: name.into(), dtype: dtype.into(), shape: shape.into() });
    }

    fn set_tokenizer(&mut self, vocabulary: Result<Vocabulary, VocabularyError>) {
        match vocabulary {
            Ok(vocabulary) => {
                let others = vocabulary.named_templates.iter().map(|(name, _)| name.clone()).collect();
                self.template = vocabulary.chat_template.as_ref().map(|text| TemplateInfo::new(text, others));
                self.tokenizer = Some(TokenizerInfo::new(&vocabulary));
            }
            Err(error) => self.tokenizer_error = Some(error.to_string()),
        }
    }
}

impl Shape {
    fn new(config: &LlamaConfig) -> Shape {
        Shape {
            num_hidden_layers: config.num_hidden_layers,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            vocab_size: config.vocab_size,
            max_position_embeddings: config.max_position_embeddings,
            rope_theta: config.rope_theta,
            rope_scaling: match config.rope_scaling {
                None => "none".into(),
                Some(RopeScaling::Linear { factor }) => format!("linear × {factor}"),
                Some(RopeScaling::Llama3 { factor, .. }) => format!("llama3 × {factor}"),
            },
            tie_word_embeddings: config.tie_word_embeddings,
        }
    }
}

impl TemplateInfo {
    fn new(text: &str, others: Vec<String>) -> TemplateInfo {
        let first_line = text.lines().next().unwrap_or_default().to_owned();
        TemplateInfo { sha256: sha256_hex(text.as_bytes()), first_line, others }
    }
}

impl TokenizerInfo {
    fn new(vocabulary: &Vocabulary) -> TokenizerInfo {
        TokenizerInfo {
            kind: match &vocabulary.model {
                TokenizerModel::Bpe { pre, .. } => format!("byte-level BPE ({pre})"),
                TokenizerModel::SentencePiece { .. } => "SentencePiece BPE".into(),
            },
            vocab_size: vocabulary.tokens.len(),
            bos_token: vocabulary.token(vocabulary.bos).map(str::to_owned),
            eos_tokens: vocabulary
                .end_ids()
                .into_iter()
                .filter_map(|id| vocabulary.token(Some(id)).map(str::to_owned))
                .collect(),
        }
    }
}

impl AdapterInfo {
    fn new(program: AdapterKind, config: AdapterConfig, modules: usize) -> AdapterInfo {
        AdapterInfo {
            program,
            base: config.base_model_name_or_path,
            base_sha256: config.afina.map(|trained| trained.base_sha256),
            r: config.r,
            lora_alpha: config.lora_alpha,
            target_modules: config.target_modules,
            modules,
            use_rslora: config.use_rslora,
            use_dora: config.use_dora,
        }
    }
}

/// The text of the default chat template of a model's folder or GGUF file; `None` if it has none.
pub fn chat_template(path: &Path) -> Result<Option<String>, InspectError> {
    if is_gguf(path) {
        return Ok(GgufFile::open(path)?.str("tokenizer.chat_template")?.map(str::to_owned));
    }
    let io_error = |source| InspectError::Io { path: path.into(), source };
    let file = path.join("chat_template.jinja");
    if file.is_file() {
        return fs::read_to_string(file).map(Some).map_err(io_error);
    }
    if !path.join("tokenizer_config.json").is_file() {
        return Ok(None);
    }
    let config = crate::model_dir::read_json(&path.join("tokenizer_config.json"))?;
    Ok(match &config["chat_template"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => list
            .iter()
            .find(|entry| entry["name"] == "default")
            .and_then(|entry| entry["template"].as_str().map(str::to_owned)),
        _ => None,
    })
}

fn hash(path: &Path) -> Result<String, InspectError> {
    sha256_file(path).map_err(|source| InspectError::Io { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use afina_quant::mix::Mix;

    use super::*;
    use crate::export::export_gguf;
    use crate::testing::{tiny_adapter, tiny_model, tiny_tokenizer};

    #[test]
    fn folder_and_gguf_of_a_model_tell_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("tiny");
        tiny_model(&folder, true);
        tiny_tokenizer(&folder, 320);
        let file = dir.path().join("tiny.gguf");
        let model = ModelDir::open(&folder).unwrap();
        export_gguf(&model, &file, Mix::Q8_0, false, &mut |_, _| ()).unwrap();

        let (a, b) = (inspect(&folder).unwrap(), inspect(&file).unwrap());
        assert_eq!((a.kind, b.kind), (Kind::Model, Kind::Gguf));
        assert_eq!(a.shape, b.shape);
        assert_eq!((a.parameters, b.parameters), (model.config.parameters(), model.config.parameters()));
        assert_eq!(a.dtypes["F32"].tensors, 20);
        assert_eq!(b.dtypes["Q8_0"].tensors, 15);
        assert!(b.bytes < a.bytes / 3);
        let tokenizer = b.tokenizer.as_ref().unwrap();
        assert_eq!((tokenizer.kind.as_str(), tokenizer.vocab_size), ("byte-level BPE (smollm)", 320));
        assert_eq!(tokenizer.eos_tokens, ["<|im_end|>"]);
        assert_eq!((&a.template, &a.tokenizer), (&b.template, &b.tokenizer));
        assert_eq!(a.template.unwrap().first_line, "{{ messages }}");
        for path in [&folder, &file] {
            assert_eq!(chat_template(path).unwrap().unwrap(), "{{ messages }}");
        }
        assert!(serde_json::to_value(&b).unwrap()["shape"]["head_dim"] == 16);
    }

    #[test]
    fn adapters_and_weights_files_are_described_and_others_refused() {
        let dir = tempfile::tempdir().unwrap();
        tiny_adapter(dir.path());
        let adapter = inspect(dir.path()).unwrap();
        let info = adapter.adapter.unwrap();
        assert_eq!((info.r, info.lora_alpha, info.modules, adapter.tensors.len()), (4, 8.0, 4, 8));
        assert_eq!(adapter.template, None);
        crate::atomic::write_file(&dir.path().join("chat_template.jinja"), b"{{ tools }}").unwrap();
        assert_eq!(inspect(dir.path()).unwrap().template.unwrap().first_line, "{{ tools }}");
        let weights = inspect(&dir.path().join(ADAPTER_WEIGHTS)).unwrap();
        assert_eq!((weights.kind, weights.parameters), (Kind::Safetensors, adapter.parameters));

        let (mlx, gguf) = (dir.path().join("mlx"), dir.path().join("x.gguf"));
        for (to, kind) in [(&mlx, AdapterKind::Mlx), (&gguf, AdapterKind::GgufLora)] {
            let base = crate::testing::tiny_config(true);
            crate::convert_adapter(dir.path(), to, kind, None, Some(&base)).unwrap();
            let found = inspect(to).unwrap();
            assert_eq!((found.kind, found.parameters), (Kind::Adapter, adapter.parameters));
            assert_eq!(found.template.unwrap().first_line, "{{ tools }}");
            assert_eq!(found.adapter, Some(AdapterInfo { program: kind, ..info.clone() }));
        }

        let other = dir.path().join("x.bin");
        crate::atomic::write_file(&other, b"1234567").unwrap();
        assert!(matches!(inspect(&other), Err(InspectError::Unknown { .. })));
        assert!(matches!(inspect(&dir.path().join("nothing")), Err(InspectError::Io { .. })));
    }
}
