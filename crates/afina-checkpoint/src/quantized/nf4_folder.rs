//! Writing a model folder in bitsandbytes' NF4, as transformers saves one: the linear layers quantized, the rest as it is.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use afina_quant::format::FormatError;
use afina_quant::{dynamic_map, nf4};
use serde::Serialize;
use serde_json::{Value, json};

use super::bitsandbytes::{
    ABSMAX, NESTED_ABSMAX, NESTED_QUANT_MAP, PACKED, QUANT_MAP, STATE, dtype_of_state, state_json,
};
use super::nf4_matrix::{Matrix, Scales};
use super::{QUANTIZATION_CONFIG, Quantization};
use crate::atomic::{AtomicDir, write_file};
use crate::card::{Card, CardKind, file_name, repo_of, write_card};
use crate::export::copy_plain_companions;
use crate::free_space::require;
use crate::manifest::{Manifest, Origin};
use crate::model_dir::{ModelDir, ModelDirError, WEIGHTS};
use crate::names::parse_module_path;
use crate::safetensors::{AnyError, WriteError, write_safetensors};
use crate::tensor::{Dtype, RawTensor, TensorError, TensorInfo};

/// What a folder in NF4 holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Nf4Report {
    /// Whether the scales are quantized too.
    pub double_quant: bool,
    /// Of all tensors, scales and states among them.
    pub bytes: u64,
    pub parameters: u64,
    /// The model's tensors, in the order of the forward pass.
    pub tensors: Vec<Nf4Tensor>,
}

/// What became of a tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Nf4Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    /// `NF4`, or the dtype of a tensor that is kept as it is.
    pub format: String,
    /// With its scales and its state.
    pub bytes: u64,
    /// √(Σ(stored − given)² / Σ given²), if it was measured.
    pub relative_rmse: Option<f64>,
}

impl Nf4Report {
    /// Bits that a number takes, over all tensors.
    pub fn bits_per_weight(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.parameters.max(1) as f64
    }
}

/// Why a folder in NF4 was not written; nothing is left at its target.
#[derive(Debug, thiserror::Error)]
pub enum Nf4Error {
    #[error("failed to read the model")]
    Model(#[from] ModelDirError),
    #[error("`{}` is quantized already: {quantization}", path.display())]
    Requantize { path: PathBuf, quantization: Quantization },
    #[error("tensor `{name}` cannot be stored as NF4")]
    Encode { name: String, source: FormatError },
    #[error("failed to decode tensor `{name}`")]
    Values { name: String, source: TensorError },
    #[error("failed to write the quantized weights")]
    Write(#[from] WriteError),
    #[error("failed to write `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Writes the model to `to` in NF4: keys, states and config.json are those of transformers' `save_pretrained`.
///
/// Embeddings, head and norms stay as they are. `double_quant` quantizes the scales too. `requantize` allows a model that is
/// quantized already: its first errors stay, and others are added. `measure` tells the error of each tensor. A folder with
/// anything in it is not overwritten. Each matrix is read twice, and one is held at a time: where its state lies in the file
/// depends on what its scales are.
pub fn quantize_nf4(
    model: &ModelDir,
    to: &Path,
    double_quant: bool,
    requantize: bool,
    measure: bool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Nf4Report, Nf4Error> {
    if let (Some(quantization), false) = (model.quantization(), requantize) {
        return Err(Nf4Error::Requantize { path: model.path.clone(), quantization });
    }
    let io_error = |source| Nf4Error::Io { path: to.into(), source };
    let folder = AtomicDir::create_new(to).map_err(io_error)?;
    let weights_sha256 = model.weights_sha256()?;
    copy_plain_companions(model, folder.path())?;
    write_config(model, folder.path(), double_quant).map_err(io_error)?;

    let names = model.tensor_names();
    let linear = names.iter().filter(|name| is_linear(name)).count();
    // Without the scales: the disk is looked at before the first of two passes.
    let least =
        model.infos().iter().map(|info| if is_linear(&info.name) { info.bytes() / 8 } else { info.bytes() }).sum();
    require(folder.path(), least).map_err(io_error)?;
    let total = names.len() + if double_quant { linear } else { 0 };
    let (mut done, mut nested) = (0, HashMap::new());
    if double_quant {
        for name in names.iter().filter(|name| is_linear(name)) {
            if let Scales::Nested { offset, absmax, .. } = Matrix::encode(model, name, true, false)?.scales {
                nested.insert(name.clone(), (offset, absmax));
            }
            done += 1;
            progress(done, total);
        }
    }
    let mut file = File { model, nested, report: Vec::new(), places: HashMap::new(), infos: Vec::new(), matrix: None };
    names.iter().for_each(|name| file.plan(name));
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let infos = std::mem::take(&mut file.infos);
    write_safetensors(&folder.path().join(WEIGHTS), &infos, &metadata, &mut |name| {
        let tensor = file.tensor(name, measure)?;
        if !name.contains(".weight.") {
            done += 1;
            progress(done, total);
        }
        Ok(tensor)
    })?;

    let license = model.origin().ok().flatten().and_then(|manifest| manifest.license);
    let scheme = if double_quant { "nf4, double quantization" } else { "nf4" };
    let name = file_name(to);
    let card = Card {
        name: &name,
        license: license.as_deref(),
        base: Some(&model.path),
        repo: repo_of(&model.path),
        kind: CardKind::Quantized { scheme },
        made_of: vec![(format!("model `{}`", file_name(&model.path)), weights_sha256.clone())],
    };
    write_card(folder.path(), &card).map_err(io_error)?;
    let origin =
        Origin::Quantize { model: model.path.display().to_string(), weights_sha256, scheme: scheme.to_owned() };
    Manifest::write(folder.path(), name, license, origin).map_err(io_error)?;
    folder.commit().map_err(io_error)?;
    let tensors = file.report;
    Ok(Nf4Report {
        double_quant,
        bytes: tensors.iter().map(|tensor| tensor.bytes).sum(),
        parameters: model.config.parameters(),
        tensors,
    })
}

fn is_linear(name: &str) -> bool {
    name.strip_suffix(".weight").is_some_and(|module| parse_module_path(module).is_some())
}

/// The scales of a matrix, where they are quantized: their offset and their own scales.
type Nested = (f32, Vec<f32>);

/// The safetensors file that is being written.
struct File<'a> {
    model: &'a ModelDir,
    /// By weight; empty without double quantization.
    nested: HashMap<String, Nested>,
    report: Vec<Nf4Tensor>,
    /// By tensor of the file: the index in `report`, and which part of the weight it is.
    places: HashMap<String, (usize, Option<&'static str>)>,
    infos: Vec<TensorInfo>,
    /// The last that was encoded.
    matrix: Option<Matrix>,
}

impl File<'_> {
    /// Lists the tensors that stand for one of the model's.
    fn plan(&mut self, name: &str) {
        let info = self.model.info(name).expect("`ModelDir::open` has checked every tensor").clone();
        let index = self.report.len();
        let mut bytes = 0;
        let (places, infos) = (&mut self.places, &mut self.infos);
        let mut push = |name: String, part, dtype: Dtype, shape: Vec<usize>| {
            bytes += (shape.iter().product::<usize>() * dtype.size()) as u64;
            places.insert(name.clone(), (index, part));
            infos.push(TensorInfo { name, dtype, shape });
        };
        let module = name.strip_suffix(".weight").unwrap_or(name);
        let format = if is_linear(name) {
            let values = info.shape.iter().product();
            let blocks = nf4::blocks(values, nf4::BLOCK);
            let nested = self.nested.get(name);
            let state = state_json(&info, nested.map(|(offset, _)| *offset)).len();
            let mut part = |part, dtype, shape| push(format!("{module}.{part}"), Some(part), dtype, shape);
            part(PACKED, Dtype::U8, vec![nf4::packed_len(values), 1]);
            part(QUANT_MAP, Dtype::F32, vec![16]);
            part(STATE, Dtype::U8, vec![state]);
            match nested {
                None => part(ABSMAX, Dtype::F32, vec![blocks]),
                Some((_, nested_absmax)) => {
                    part(ABSMAX, Dtype::U8, vec![blocks]);
                    part(NESTED_ABSMAX, Dtype::F32, vec![nested_absmax.len()]);
                    part(NESTED_QUANT_MAP, Dtype::F32, vec![256]);
                }
            }
            Quantization::Nf4.format()
        } else {
            push(name.to_owned(), None, info.dtype, info.shape.clone());
            info.dtype.as_str().to_owned()
        };
        self.report.push(Nf4Tensor { name: name.to_owned(), shape: info.shape, format, bytes, relative_rmse: None });
    }

    /// The tensor of this name in the file.
    fn tensor(&mut self, name: &str, measure: bool) -> Result<RawTensor, AnyError> {
        let &(index, part) = self.places.get(name).ok_or("an unknown name")?;
        let weight = self.report[index].name.clone();
        let Some(part) = part else {
            self.report[index].relative_rmse = measure.then_some(0.0);
            return Ok(self.model.tensor(&weight)?);
        };
        let floats = |values: &[f32]| Ok(RawTensor::from_f32(name, vec![values.len()], values));
        let bytes = |shape: Vec<usize>, bytes| Ok(RawTensor { name: name.to_owned(), dtype: Dtype::U8, shape, bytes });
        match (part, self.nested.get(&weight)) {
            (QUANT_MAP, _) => floats(&nf4::CODE),
            (NESTED_QUANT_MAP, _) => floats(&dynamic_map::map()),
            (NESTED_ABSMAX, Some((_, nested_absmax))) => floats(nested_absmax),
            (STATE, nested) => {
                let info = self.model.info(&weight).ok_or("an unknown name")?;
                let state = state_json(info, nested.map(|(offset, _)| *offset)).into_bytes();
                bytes(vec![state.len()], state)
            }
            (ABSMAX, _) => match &self.matrix(index, &weight, measure)?.scales {
                Scales::Plain(absmax) => floats(absmax),
                Scales::Nested { numbers, .. } => bytes(vec![numbers.len()], numbers.clone()),
            },
            _ => {
                let packed = self.matrix(index, &weight, measure)?.packed.clone();
                bytes(vec![packed.len(), 1], packed)
            }
        }
    }

    /// The matrix, encoded; parts of one that are asked for one after the other are encoded once.
    fn matrix(&mut self, index: usize, weight: &str, measure: bool) -> Result<&Matrix, Nf4Error> {
        if self.matrix.as_ref().is_none_or(|matrix| matrix.name != weight) {
            self.matrix = None; // before the next is read
            let matrix = Matrix::encode(self.model, weight, self.nested.contains_key(weight), measure)?;
            self.report[index].relative_rmse = matrix.relative_rmse;
            self.matrix = Some(matrix);
        }
        Ok(self.matrix.as_ref().expect("it was put there"))
    }
}

/// Adds to the folder's config.json what transformers' `BitsAndBytesConfig` writes there.
fn write_config(model: &ModelDir, folder: &Path, double_quant: bool) -> io::Result<()> {
    let path = folder.join("config.json");
    let mut config: serde_json::Map<String, Value> = serde_json::from_slice(&std::fs::read(&path)?)?;
    let linear = model.tensor_names().iter().find(|name| is_linear(name)).and_then(|name| model.info(name));
    let compute_dtype = linear.map_or("float32", |info| dtype_of_state(info).1);
    config.insert(
        QUANTIZATION_CONFIG.into(),
        json!({
            "_load_in_4bit": true,
            "_load_in_8bit": false,
            "bnb_4bit_compute_dtype": compute_dtype,
            "bnb_4bit_quant_storage": "uint8",
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": double_quant,
            "llm_int8_enable_fp32_cpu_offload": false,
            "llm_int8_has_fp16_weight": false,
            "llm_int8_skip_modules": null,
            "llm_int8_threshold": 6.0,
            "load_in_4bit": true,
            "load_in_8bit": false,
            "quant_method": "bitsandbytes",
        }),
    );
    write_file(&path, format!("{:#}\n", Value::Object(config)).as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::export::{export_gguf, export_hf};
    use crate::gguf::Squares;
    use crate::inspect::inspect;
    use crate::safetensors::{SafetensorsFile, write_tensors};
    use crate::testing::{overwrite, tiny_model, tiny_tokenizer};

    /// A tiny model with weights in `dtype`, and `nf4` made of it.
    fn quantized(dtype: Dtype, double_quant: bool) -> (tempfile::TempDir, ModelDir, ModelDir, Nf4Report) {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("model"), dir.path().join("nf4"));
        tiny_model(&from, false);
        tiny_tokenizer(&from, 320);
        let file = SafetensorsFile::open(&from.join(WEIGHTS)).unwrap();
        let in_dtype = |name: &String| {
            let tensor = file.read(name).unwrap();
            RawTensor::from_f32_as(name, tensor.shape.clone(), &tensor.to_f32().unwrap(), dtype).unwrap()
        };
        write_tensors(&from.join(WEIGHTS), &file.names().iter().map(in_dtype).collect::<Vec<_>>()).unwrap();
        let model = ModelDir::open(&from).unwrap();
        let (mut calls, mut last) = (0, (0, 0));
        let report = quantize_nf4(&model, &to, double_quant, false, true, &mut |done, total| {
            calls += 1;
            last = (done, total);
        })
        .unwrap();
        let total = 21 + if double_quant { 14 } else { 0 };
        assert_eq!((calls, last), (total, (total, total)));
        let written = ModelDir::open(&to).unwrap();
        (dir, model, written, report)
    }

    #[test]
    fn a_folder_decodes_to_what_its_report_tells() {
        for (dtype, double_quant) in [(Dtype::F32, true), (Dtype::F32, false), (Dtype::BF16, true), (Dtype::F16, false)]
        {
            let (_dir, model, written, report) = quantized(dtype, double_quant);
            assert_eq!(written.quantization(), Some(Quantization::Nf4));
            assert_eq!(report.tensors.len(), model.tensor_names().len());
            for told in &report.tensors {
                let (before, after) = (model.tensor(&told.name).unwrap(), written.tensor(&told.name).unwrap());
                assert_eq!((after.info(), &told.shape), (before.info(), &before.shape));
                if !is_linear(&told.name) {
                    assert_eq!((before.bytes, told.relative_rmse), (after.bytes, Some(0.0)));
                    assert_eq!(told.format, dtype.as_str());
                    continue;
                }
                let mut squares = Squares::default();
                squares.add(&before.to_f32().unwrap(), &after.to_f32().unwrap());
                assert_eq!(Some(squares.relative()), told.relative_rmse, "{}", told.name);
                assert!((0.05..0.15).contains(&squares.relative()), "{}: {}", told.name, squares.relative());
                assert_eq!(
                    (told.format.as_str(), Some((told.format.clone(), told.bytes))),
                    ("NF4", written.stored_as(&told.name))
                );
            }
            let file = fs::metadata(written.path.join(WEIGHTS)).unwrap().len();
            assert!(report.bytes < file && file < report.bytes + 20_000, "{} of {file}", report.bytes);
        }
    }

    #[test]
    fn keys_states_and_config_are_those_of_transformers_and_bitsandbytes() {
        let (_dir, model, written, _) = quantized(Dtype::BF16, true);
        let file = SafetensorsFile::open(&written.path.join(WEIGHTS)).unwrap();
        let module = "model.layers.1.self_attn.k_proj";
        let of_module: Vec<String> = file
            .names()
            .iter()
            .filter(|name| name.starts_with(module))
            .map(|name| {
                let info = file.info(name).unwrap();
                format!("{} {} {:?}", &name[module.len() + 1..], info.dtype, info.shape)
            })
            .collect();
        let expected = [
            "weight.quant_map F32 [16]",
            "weight.nested_absmax F32 [1]",
            "weight.nested_quant_map F32 [256]",
            "weight U8 [1024, 1]",
        ];
        assert_eq!(of_module[..4], expected);
        assert_eq!(of_module[5], "weight.absmax U8 [32]");
        let state = file.read(&format!("{module}.{STATE}")).unwrap();
        let state = String::from_utf8(state.bytes).unwrap();
        let (before, offset) = state.split_once(r#""nested_offset": "#).unwrap();
        let expected = r#"{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [32, 64], "nested_blocksize": 256, "nested_dtype": "float32", "#;
        assert_eq!(before, expected);
        assert!((0.09..0.1).contains(&offset.strip_suffix('}').unwrap().parse::<f32>().unwrap()), "{offset}");

        let config: Value = serde_json::from_slice(&fs::read(written.path.join("config.json")).unwrap()).unwrap();
        let settings = &config[QUANTIZATION_CONFIG];
        assert_eq!(settings.as_object().unwrap().len(), 13);
        assert_eq!(
            (&settings["bnb_4bit_compute_dtype"], &settings["bnb_4bit_use_double_quant"]),
            (&json!("bfloat16"), &json!(true))
        );
        let manifest = written.origin().unwrap().unwrap();
        manifest.verify(&written.path).unwrap();
        let expected = Origin::Quantize {
            model: model.path.display().to_string(),
            weights_sha256: model.weights_sha256().unwrap(),
            scheme: "nf4, double quantization".into(),
        };
        assert_eq!(manifest.origin, expected);
        assert!(manifest.files.contains_key("tokenizer.json"));
    }

    #[test]
    fn what_reads_a_model_reads_this_one() {
        let (dir, _, written, _) = quantized(Dtype::F32, true);
        let at = |name: &str| dir.path().join(name);
        export_hf(&written, &at("copy"), crate::SHARD_SIZE).unwrap();
        let copy = ModelDir::open(&at("copy")).unwrap();
        assert_eq!(
            (copy.quantization(), copy.weights_sha256().unwrap()),
            (Some(Quantization::Nf4), written.weights_sha256().unwrap())
        );
        export_gguf(&written, &at("a.gguf"), afina_quant::mix::Mix::F32, false, &mut |_, _| ()).unwrap();
        let gguf = crate::gguf::GgufFile::open(&at("a.gguf")).unwrap();
        let name = "model.layers.1.mlp.down_proj.weight";
        assert_eq!(gguf.read_f32("blk.1.ffn_down.weight").unwrap(), written.tensor(name).unwrap().to_f32().unwrap());

        let told = inspect(&written.path).unwrap();
        assert_eq!(told.quantization.as_deref(), Some("bitsandbytes nf4"));
        assert_eq!((told.dtypes["NF4"].tensors, told.dtypes["F32"].tensors), (14, 7));
        assert_eq!(told.parameters, written.config.parameters());

        overwrite(&written.path.join("quantize_config.json"), b"{}");
        fs::create_dir(at("plain")).unwrap();
        copy_plain_companions(&written, &at("plain")).unwrap();
        let config: Value = serde_json::from_slice(&fs::read(at("plain/config.json")).unwrap()).unwrap();
        assert_eq!(config.get(QUANTIZATION_CONFIG), None);
        assert_eq!(config["hidden_size"], 64);
        assert!(at("plain/tokenizer.json").exists() && !at("plain/quantize_config.json").exists());
    }

    #[test]
    fn what_is_quantized_or_not_finite_is_refused_and_leaves_nothing() {
        let (dir, model, written, _) = quantized(Dtype::F32, false);
        let to = dir.path().join("again");
        let quantize = |model: &ModelDir, requantize| quantize_nf4(model, &to, true, requantize, false, &mut |_, _| ());
        let error = quantize(&written, false).unwrap_err().to_string();
        assert!(error.ends_with("nf4` is quantized already: bitsandbytes nf4"), "{error}");
        quantize(&written, true).unwrap();
        assert_eq!(ModelDir::open(&to).unwrap().quantization(), Some(Quantization::Nf4));
        assert!(matches!(quantize(&model, false), Err(Nf4Error::Io { .. })), "nothing is overwritten");
        fs::remove_dir_all(&to).unwrap();

        let weights = model.path.join(WEIGHTS);
        let file = SafetensorsFile::open(&weights).unwrap();
        let mut tensors: Vec<RawTensor> = file.names().iter().map(|name| file.read(name).unwrap()).collect();
        let bad = tensors.iter_mut().find(|tensor| tensor.name == "model.layers.1.mlp.up_proj.weight").unwrap();
        bad.bytes[4 * 70..4 * 71].copy_from_slice(&f32::NAN.to_le_bytes());
        write_tensors(&weights, &tensors).unwrap();
        let result = quantize(&ModelDir::open(&model.path).unwrap(), false);
        match result {
            Err(Nf4Error::Encode { name, source: FormatError::NotFinite { index: 70, .. } }) => {
                assert_eq!(name, "model.layers.1.mlp.up_proj.weight");
            }
            other => panic!("{other:?}"),
        }
        assert!(!to.exists());
    }
}
