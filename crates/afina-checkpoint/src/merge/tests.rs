use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::SHARD_SIZE;
use crate::adapter::{CHAT_TEMPLATE, LoraTensors, TrainedWith, write_adapter};
use crate::safetensors::{SafetensorsFile, write_tensors};
use crate::testing::{tiny_adapter, tiny_model, tiny_tokenizer};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures");

fn golden(name: &str) -> PathBuf {
    Path::new(FIXTURES).join("golden/merge").join(name)
}

/// A base and its adapter, and where the merged model goes.
struct Place {
    dir: tempfile::TempDir,
    config: AdapterConfig,
    lora: Vec<LoraTensors>,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        tiny_model(&dir.path().join("base"), true);
        let (config, lora) = tiny_adapter(&dir.path().join("adapter"));
        Place { dir, config, lora }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn base(&self) -> ModelDir {
        ModelDir::open(&self.path("base")).unwrap()
    }

    fn write_adapter(&self) {
        write_adapter(&self.path("adapter"), &self.config, &self.lora).unwrap();
    }

    fn merge(&self) -> Result<MergeReport, MergeError> {
        merge_adapter(&self.base(), &self.path("adapter"), &self.path("merged"), SHARD_SIZE, &mut |_, _| ())
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(path)).unwrap()).unwrap()
    }
}

fn merge_with(base: &Path, options: &MergeOptions, to: &Path) -> Result<MergeReport, MergeError> {
    merge(&ModelDir::open(base).unwrap(), options, to, &mut |_, _| ())?.commit(None)
}

fn options(adapters: &[(PathBuf, f64)], combination: Combination) -> MergeOptions<'_> {
    MergeOptions { adapters, combination, original: None, dtype: None, shard_size: SHARD_SIZE }
}

/// Every tensor of the file is the merged model's, within float noise, and every other one the base's.
fn assert_merged(base: &Path, merged: &Path, expected: &Path) {
    let (base, merged) = (ModelDir::open(base).unwrap(), ModelDir::open(merged).unwrap());
    let expected = SafetensorsFile::open(expected).unwrap();
    let mut found = 0;
    for name in merged.tensor_names() {
        let values = merged.tensor(name).unwrap().to_f32().unwrap();
        if expected.info(name).is_none() {
            let source = if base.has(name) { name } else { "model.embed_tokens.weight" };
            assert_eq!(values, base.tensor(source).unwrap().to_f32().unwrap(), "{name}");
            continue;
        }
        found += 1;
        let expected = expected.read(name).unwrap().to_f32().unwrap();
        let worst = expected.iter().zip(&values).map(|(expected, found)| (expected - found).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-6, "{name}: {worst}"); // weights up to about 1, products in another order
    }
    assert_eq!(found, expected.names().len());
}

#[test]
fn each_sort_of_adapter_is_merged_as_peft_runs_it() {
    for (name, untied) in [
        ("dora", false),
        ("rslora_patterns", false),
        ("embeddings_saved", true),
        ("head_saved", true),
        ("norm_saved", false),
        ("embeddings_lora", true),
        ("head_lora", true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (base, to) = (Path::new(FIXTURES).join("tiny_llama/tied"), dir.path().join("merged"));
        let adapters = [(golden(name), 1.0)];
        let report = merge_with(&base, &options(&adapters, Combination::Cat), &to).unwrap();
        assert_eq!(report.untied, untied, "{name}");
        assert_merged(&base, &to, &golden(name).join("merged.safetensors"));
        assert_eq!(ModelDir::open(&to).unwrap().config.tie_word_embeddings, !untied);
    }
}

#[test]
fn adapters_are_combined_as_peft_combines_them() {
    let cases: Value = serde_json::from_slice(&fs::read(golden("combined.json")).unwrap()).unwrap();
    let seed = cases["dare_seed"].as_u64().unwrap();
    for case in cases["cases"].as_array().unwrap() {
        let density = case["density"].as_f64().unwrap_or(1.0);
        let majority_sign = match case["majority_sign_method"].as_str() {
            Some("frequency") => MajoritySign::Frequency,
            _ => MajoritySign::Total,
        };
        let combination = match case["combination_type"].as_str().unwrap() {
            "cat" => Combination::Cat,
            "linear" => Combination::Linear,
            "ties" => Combination::Ties { density, majority_sign },
            "magnitude_prune" => Combination::MagnitudePrune { density },
            "dare_linear" => Combination::DareLinear { density, seed },
            "dare_ties" => Combination::DareTies { density, majority_sign, seed },
            other => panic!("{other}"),
        };
        let weights = case["weights"].as_array().unwrap();
        let adapters: Vec<_> = case["adapters"].as_array().unwrap().iter().zip(weights).collect();
        let adapters: Vec<_> =
            adapters.iter().map(|(name, weight)| (golden(name.as_str().unwrap()), weight.as_f64().unwrap())).collect();
        let dir = tempfile::tempdir().unwrap();
        let (base, to) = (Path::new(FIXTURES).join("tiny_llama/tied"), dir.path().join("merged"));
        merge_with(&base, &options(&adapters, combination), &to).unwrap();
        let name = case["name"].as_str().unwrap();
        assert_merged(&base, &to, &golden(&format!("{name}.safetensors")));
    }
}

#[test]
fn what_cannot_be_combined_is_refused() {
    let base = Path::new(FIXTURES).join("tiny_llama/tied");
    let error = |names: [&str; 2], combination| {
        let dir = tempfile::tempdir().unwrap();
        let adapters = names.map(|name| (golden(name), 0.5));
        let error = merge_with(&base, &options(&adapters, combination), &dir.path().join("merged")).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let sources = [error.to_string(), std::error::Error::source(&error).map(|e| e.to_string()).unwrap_or_default()];
        sources.join(" ").replace(&golden("").display().to_string(), "")
    };
    let ranks = error(["first", "wide"], Combination::Linear);
    assert!(ranks.contains("have ranks 6 and 4: only `cat` combines different ranks"), "{ranks}");
    let dora = error(["first", "dora"], Combination::Cat);
    assert!(dora.starts_with("the adapter `dora` has DoRA's magnitudes: it can only be merged alone"), "{dora}");
    let whole = error(["head_saved", "first"], Combination::Cat);
    assert!(whole.starts_with("the adapter `head_saved` has whole tensors (`modules_to_save`)"), "{whole}");
}

#[test]
fn adapters_of_different_templates_are_not_combined() {
    let place = Place::new();
    tiny_tokenizer(&place.path("base"), 320);
    tiny_adapter(&place.path("other"));
    let adapters = [(place.path("adapter"), 0.5), (place.path("other"), 0.5)];
    let merge = |to: &str| merge_with(&place.path("base"), &options(&adapters, Combination::Cat), &place.path(to));
    merge("both").unwrap();
    write_file(&place.path("other").join(CHAT_TEMPLATE), b"{{ tools }}").unwrap();
    assert!(matches!(merge("none"), Err(MergeError::Templates { .. })));
    write_file(&place.path("other").join(CHAT_TEMPLATE), b"{{ messages }}").unwrap();
    merge("same").unwrap(); // the base's own text
}

#[test]
fn a_method_on_one_adapter_is_in_the_receipt_and_not_for_dora() {
    let place = Place::new();
    let adapters = [(place.path("adapter"), 1.0)];
    let pruned = options(&adapters, Combination::MagnitudePrune { density: 0.5 });
    merge_with(&place.path("base"), &pruned, &place.path("pruned")).unwrap();
    let receipt = place.json("pruned/merge_receipt.json");
    assert_eq!(receipt["origin"]["combination"], json!("MagnitudePrune { density: 0.5 }"));
    let dora = [(golden("dora"), 1.0)];
    let options = MergeOptions { adapters: &dora, ..pruned };
    let tied = Path::new(FIXTURES).join("tiny_llama/tied");
    assert!(matches!(merge_with(&tied, &options, &place.path("none")), Err(MergeError::NotCombined { .. })));
}

#[test]
fn whole_tensors_of_whole_numbers_are_refused_by_name() {
    let place = Place::new();
    let weights = place.path("adapter").join(ADAPTER_WEIGHTS);
    let file = SafetensorsFile::open(&weights).unwrap();
    let mut tensors: Vec<RawTensor> = file.names().iter().map(|name| file.read(name).unwrap()).collect();
    let name = "base_model.model.model.norm.weight".to_owned();
    tensors.push(RawTensor { name, dtype: Dtype::I64, shape: vec![64], bytes: vec![1; 64 * 8] });
    write_tensors(&weights, &tensors).unwrap();
    let error = place.merge().unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("expected a float dtype, found `I64`"), "{source}");
}

#[test]
fn merged_is_base_plus_scaled_product_and_the_rest_is_untouched() {
    let mut place = Place::new();
    write_file(&place.path("base/tokenizer.json"), b"{}").unwrap();
    let base = place.base();
    place.config.afina = Some(TrainedWith {
        base_sha256: base.weights_sha256().unwrap(),
        template_sha256: String::new(),
        version: "0.1.0".into(),
    });
    place.write_adapter();

    let mut calls = Vec::new();
    let to = place.path("merged");
    let report =
        merge_adapter(&base, &place.path("adapter"), &to, SHARD_SIZE, &mut |done, total| calls.push((done, total)))
            .unwrap();
    assert_eq!((report.merged, report.tensors, report.base_matches), (place.lora.len(), 20, Some(true)));
    assert_eq!(calls.last(), Some(&(20, 20)));
    let merged = ModelDir::open(&to).unwrap();
    assert_eq!(merged.weights_sha256().unwrap(), report.weights_sha256);
    assert_eq!(fs::read(to.join("tokenizer.json")).unwrap(), b"{}");
    assert_eq!(fs::read(to.join("config.json")).unwrap(), fs::read(place.path("base/config.json")).unwrap());

    for name in base.tensor_names() {
        let (before, after) = (base.tensor(name).unwrap(), merged.tensor(name).unwrap());
        let Some(lora) = place.lora.iter().find(|lora| format!("{}.weight", lora.module) == *name) else {
            assert_eq!(before, after);
            continue;
        };
        let (w, m) = (before.to_f32().unwrap(), after.to_f32().unwrap());
        let (a, b) = (lora.a.to_f32().unwrap(), lora.b.to_f32().unwrap());
        let columns = before.shape[1];
        for (index, (w, m)) in w.iter().zip(&m).enumerate() {
            let (row, column) = (index / columns, index % columns);
            let delta: f64 = (0..4).map(|k| f64::from(b[row * 4 + k]) * f64::from(a[k * columns + column])).sum();
            assert!((f64::from(*w) + 2.0 * delta - f64::from(*m)).abs() < 1e-6, "{name} {index}");
        }
    }
}

#[test]
fn receipt_tells_what_the_adapter_does_and_what_rounding_takes_of_it() {
    let place = Place::new();
    let adapters = [(place.path("adapter"), 1e-4)];
    let f32_options = options(&adapters, Combination::Cat);
    let f32_report = merge_with(&place.path("base"), &f32_options, &place.path("f32")).unwrap();
    let bf16_options = MergeOptions { dtype: Some(Dtype::BF16), ..f32_options };
    let bf16_report = merge_with(&place.path("base"), &bf16_options, &place.path("bf16")).unwrap();
    // In f64, from the files.
    let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    let (base, f32_model, bf16_model) =
        (place.base(), ModelDir::open(&place.path("f32")).unwrap(), ModelDir::open(&place.path("bf16")).unwrap());
    let layer = &bf16_report.layers[0];
    assert_eq!((layer.name.as_str(), layer.dtype), ("model.layers.0.self_attn.q_proj.weight", Dtype::BF16));
    let read = |model: &ModelDir| -> Vec<f64> {
        model.tensor(&layer.name).unwrap().to_f32().unwrap().into_iter().map(f64::from).collect()
    };
    let (w, exact, rounded) = (read(&base), read(&f32_model), read(&bf16_model));
    let minus = |one: &[f64], other: &[f64]| -> Vec<f64> { one.iter().zip(other).map(|(a, b)| a - b).collect() };
    let change = norm(&minus(&exact, &w));
    let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}");
    close(layer.relative_change, change / norm(&w));
    close(layer.relative_rounding, norm(&minus(&rounded, &exact)) / change);
    assert!(bf16_report.relative_rounding > 1.0 && bf16_report.lost_to_rounding > 0.5);
    assert!(f32_report.relative_rounding < 0.2 && f32_report.lost_to_rounding < 0.1);

    let receipt = place.json("bf16/merge_receipt.json");
    assert_eq!(receipt["layers"][0]["relative_rounding"], json!(layer.relative_rounding));
    assert_eq!(receipt["origin"]["adapters"][0]["weight"], json!(1e-4));
    assert_eq!(receipt.get("weights_sha256"), None);
    assert_eq!(place.json("bf16/config.json")["torch_dtype"], json!("bfloat16"));
    bf16_model.origin().unwrap().unwrap().verify(&bf16_model.path).unwrap();
    assert!(!bf16_model.companion_files().unwrap().iter().any(|name| name == MERGE_RECEIPT), "it is of this folder");
}

#[test]
fn a_merge_that_is_looked_at_and_dropped_leaves_nothing() {
    let place = Place::new();
    let adapters = [(place.path("adapter"), 1.0)];
    let options = options(&adapters, Combination::Cat);
    let merged = merge(&place.base(), &options, &place.path("merged"), &mut |_, _| ()).unwrap();
    ModelDir::open(merged.path()).unwrap();
    drop(merged);
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 2);
    let merged = merge(&place.base(), &options, &place.path("merged"), &mut |_, _| ()).unwrap();
    merged.commit(Some(&json!({"mean_kl": 1e-9}))).unwrap();
    assert_eq!(place.json("merged/merge_receipt.json")["measured"]["mean_kl"], json!(1e-9));
}

#[test]
fn onto_the_original_adds_to_other_weights_and_tells_how_far_they_are() {
    let place = Place::new();
    tiny_model(&place.path("original"), true);
    let weights = place.path("original").join(crate::model_dir::WEIGHTS);
    let file = SafetensorsFile::open(&weights).unwrap();
    let tensors: Vec<RawTensor> = file
        .names()
        .iter()
        .map(|name| {
            let tensor = file.read(name).unwrap();
            let moved: Vec<f32> = tensor.to_f32().unwrap().iter().map(|value| value + 0.01).collect();
            RawTensor::from_f32(name, tensor.shape, &moved)
        })
        .collect();
    write_tensors(&weights, &tensors).unwrap();
    let original = ModelDir::open(&place.path("original")).unwrap();
    let adapters = [(place.path("adapter"), 1.0)];
    let options = MergeOptions { original: Some(&original), ..options(&adapters, Combination::Cat) };
    let report = merge_with(&place.path("base"), &options, &place.path("merged")).unwrap();
    let plain = place.path("plain");
    merge_adapter(&place.base(), &place.path("adapter"), &plain, SHARD_SIZE, &mut |_, _| ()).unwrap();
    let (merged, plain) = (ModelDir::open(&place.path("merged")).unwrap(), ModelDir::open(&plain).unwrap());
    for name in merged.tensor_names() {
        let values = |model: &ModelDir| model.tensor(name).unwrap().to_f32().unwrap();
        for (found, expected) in values(&merged).iter().zip(values(&plain)) {
            assert!((found - 0.01 - expected).abs() < 1e-7, "{name}");
        }
    }
    // Every value is 0.01 away; ‖ΔW‖ as the report itself has it for the first layer of 64 × 64.
    let layer = &report.layers[0];
    let weight: f64 =
        original.tensor(&layer.name).unwrap().to_f32().unwrap().iter().map(|w| f64::from(*w).powi(2)).sum();
    let expected = 0.01 * 64.0 / (layer.relative_change * weight.sqrt());
    assert!((layer.relative_distance.unwrap() / expected - 1.0).abs() < 1e-4, "{layer:?} {expected}");
}

#[test]
fn merged_model_has_the_template_that_the_adapter_was_trained_with() {
    let place = Place::new();
    tiny_tokenizer(&place.path("base"), 320);
    write_file(&place.path("adapter").join(CHAT_TEMPLATE), b"{{ tools }}").unwrap();
    place.merge().unwrap();
    let to = place.path("merged");
    assert_eq!(crate::inspect::chat_template(&to).unwrap().unwrap(), "{{ tools }}");
    let mut before = place.json("base/tokenizer_config.json");
    before["chat_template"] = "{{ tools }}".into();
    assert_eq!(place.json("merged/tokenizer_config.json"), before, "nothing else changes");

    let file = place.path("m.gguf");
    let mix = afina_quant::mix::Mix::F32;
    crate::export::export_gguf(&ModelDir::open(&to).unwrap(), &file, mix, false, &mut |_, _| ()).unwrap();
    let gguf = crate::gguf::GgufFile::open(&file).unwrap();
    assert_eq!(gguf.str("tokenizer.chat_template").unwrap(), Some("{{ tools }}"));
}

#[test]
fn adapter_of_another_model_and_full_target_are_refused_and_leave_nothing() {
    let mut place = Place::new();
    let good = place.lora[0].clone();
    place.lora[0].module = "model.layers.7.self_attn.q_proj".into();
    place.write_adapter();
    assert_eq!(
        place.merge().unwrap_err().to_string(),
        "adapter on `model.layers.7.self_attn.q_proj`: the base has no such layer"
    );
    place.lora[0] = good.clone();
    place.lora[0].a = RawTensor::from_f32("a", vec![4, 3], &[0.0; 12]);
    place.write_adapter();
    assert!(matches!(place.merge(), Err(MergeError::Shape { .. })));
    place.lora[0] = good;
    place.lora[0].a = RawTensor::from_f32("a", vec![4, 64], &[f32::INFINITY; 256]);
    place.write_adapter();
    assert!(matches!(place.merge(), Err(MergeError::Write(_))));
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 2);

    tiny_adapter(&place.path("adapter"));
    write_file(&place.path("merged/mine.txt"), b"x").unwrap();
    assert!(place.merge().is_err());
    assert_eq!(fs::read_dir(place.path("merged")).unwrap().count(), 1);
}
