use std::collections::HashMap;

use serde_json::json;

use super::*;
use crate::atomic::write_file;
use crate::gguf::{Value as GgufValue, permute, write_gguf};
use crate::safetensors::{SafetensorsFile, write_tensors};
use crate::testing::{noise, tiny_config};

/// On all seven layers twice, of a model of four heads over two: a config with these keys, matrices in these dtypes.
fn peft_adapter(dir: &Path, changes: Value, dtype: fn(&str) -> crate::Dtype) -> (AdapterConfig, Vec<LoraTensors>) {
    let mut config = json!({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6, "inference_mode": true,
        "target_modules": LINEAR_MODULES, "base_model_name_or_path": "base", "lora_dropout": 0.05});
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let config: AdapterConfig = serde_json::from_value(config).unwrap();
    let model = tiny_config(true);
    let mut loras = Vec::new();
    for layer in 0..2 {
        for (index, name) in LINEAR_MODULES.into_iter().enumerate() {
            let [out, input] = linear_shape(&model, name);
            let module = module_path(layer, name);
            let rank = config.rank(&module);
            let matrix = |half: &str, shape: Vec<usize>, seed: usize| {
                let values = noise(seed as u64, shape.iter().product());
                let name = peft_key(&module, half);
                RawTensor::from_f32_as(name, shape, &values, dtype(half)).unwrap()
            };
            let seed = 100 * layer + 10 * index;
            let (a, b) = (matrix("lora_A", vec![rank, input], seed + 1), matrix("lora_B", vec![out, rank], seed + 2));
            loras.push(LoraTensors { module, a, b });
        }
    }
    write_adapter(dir, &config, &loras).unwrap();
    (config, loras)
}

fn f32_everywhere(_: &str) -> crate::Dtype {
    crate::Dtype::F32
}

/// `factor · B · A` in F64, `[out, in]`.
fn product(b: &RawTensor, a: &RawTensor, factor: f64) -> Vec<f64> {
    let (&[out, rank], &[_, input]) = (&b.shape[..], &a.shape[..]) else { panic!("two matrices") };
    let (b, a) = (b.to_f32().unwrap(), a.to_f32().unwrap());
    let mut product = vec![0.0; out * input];
    for row in 0..out {
        for k in 0..rank {
            let left = factor * f64::from(b[row * rank + k]);
            for column in 0..input {
                product[row * input + column] += left * f64::from(a[k * input + column]);
            }
        }
    }
    product
}

fn deltas(config: &AdapterConfig, loras: &[LoraTensors]) -> HashMap<String, Vec<f64>> {
    loras.iter().map(|lora| (lora.module.clone(), product(&lora.b, &lora.a, config.scaling(&lora.module)))).collect()
}

/// The largest difference, relative to the largest number.
fn difference(one: &[f64], other: &[f64]) -> f64 {
    assert_eq!(one.len(), other.len());
    let largest = one.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    let worst = one.iter().zip(other).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs()));
    if worst == 0.0 { 0.0 } else { worst / largest }
}

fn assert_same(expected: &HashMap<String, Vec<f64>>, dir: &Path, what: &str) {
    let (config, loras) = read_adapter(dir).unwrap();
    let found = deltas(&config, &loras);
    assert_eq!(found.len(), expected.len(), "{what}");
    for (module, delta) in expected {
        let difference = difference(delta, &found[module]);
        assert!(difference < 1e-6, "{what}, {module}: {difference:e}");
    }
}

fn variants() -> Vec<Value> {
    let ranks = json!({"k_proj": 2, "model.layers.1.mlp.down_proj": 8});
    let alphas = json!({"up_proj": 1.5, "layers.0.self_attn.q_proj": 40});
    vec![
        json!({}),
        json!({"use_rslora": true}),
        json!({"rank_pattern": ranks}),
        json!({"alpha_pattern": alphas}),
        json!({"rank_pattern": ranks, "alpha_pattern": alphas}),
        json!({"rank_pattern": ranks, "alpha_pattern": alphas, "use_rslora": true}),
        json!({"alpha_pattern": {"v_proj": 0}}),
        json!({"lora_alpha": 0}),
        json!({"lora_alpha": 0, "alpha_pattern": {"v_proj": 2}}),
    ]
}

#[test]
fn every_way_between_the_programs_keeps_each_product() {
    use AdapterKind::{GgufLora, Mlx, Peft};
    let base = tiny_config(true);
    for changes in variants() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (config, loras) = peft_adapter(&at("peft"), changes.clone(), f32_everywhere);
        let expected = deltas(&config, &loras);
        let convert = |from: &str, to: &str, kind| {
            convert_adapter(&at(from), &at(to), kind, None, Some(&base)).unwrap();
            assert_eq!(adapter_kind(&at(to)).unwrap(), kind);
        };
        // Each pair, and the whole round in both directions; what arrives in PEFT is compared.
        convert("peft", "peft.gguf", GgufLora);
        convert("peft", "mlx", Mlx);
        convert("mlx", "mlx-peft", Peft);
        convert("peft.gguf", "gguf-peft", Peft);
        convert("mlx", "mlx.gguf", GgufLora);
        convert("mlx.gguf", "mlx-gguf-peft", Peft);
        convert("peft.gguf", "gguf-mlx", Mlx);
        convert("gguf-mlx", "gguf-mlx-peft", Peft);
        convert("gguf-peft", "again", Peft);
        for end in ["mlx-peft", "gguf-peft", "mlx-gguf-peft", "gguf-mlx-peft", "again"] {
            assert_same(&expected, &at(end), &format!("{changes}, {end}"));
        }
    }
}

#[test]
fn matrices_that_need_no_factor_keep_their_bytes() {
    let base = tiny_config(true);
    let dtypes = |half: &str| if half == "lora_A" { crate::Dtype::F16 } else { crate::Dtype::BF16 };
    // One scale for MLX; one alpha over each rank for llama.cpp, which also says alpha · √r where ranks are equal.
    for (changes, through) in [
        (json!({}), vec!["x", "x.gguf"]),
        (json!({"use_rslora": true}), vec!["x", "x.gguf"]),
        (json!({"rank_pattern": {"k_proj": 3}}), vec!["x.gguf"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (_, loras) = peft_adapter(&at("peft"), changes.clone(), dtypes);
        for (number, name) in through.into_iter().enumerate() {
            let kind = if name == "x" { AdapterKind::Mlx } else { AdapterKind::GgufLora };
            let report = convert_adapter(&at("peft"), &at(name), kind, None, Some(&base)).unwrap();
            assert_eq!((report.modules, report.folded), (14, 0), "{changes}");
            let back = at(&format!("back {number}"));
            convert_adapter(&at(name), &back, AdapterKind::Peft, None, Some(&base)).unwrap();
            assert_eq!(read_adapter(&back).unwrap().1, loras, "{changes}, {name}");
        }
    }
}

#[test]
fn only_modules_with_another_factor_change_and_become_f32() {
    let base = tiny_config(true);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let changes = json!({"alpha_pattern": {"o_proj": 9}, "rank_pattern": {"v_proj": 2}});
    let (_, loras) = peft_adapter(&at("peft"), changes, |_| crate::Dtype::F16);
    for (kind, name, expected) in [(AdapterKind::GgufLora, "x.gguf", 2), (AdapterKind::Mlx, "x", 4)] {
        let report = convert_adapter(&at("peft"), &at(name), kind, None, Some(&base)).unwrap();
        assert_eq!(report.folded, expected);
        let back = at(&format!("{name} back"));
        convert_adapter(&at(name), &back, AdapterKind::Peft, None, Some(&base)).unwrap();
        let changed: Vec<String> = read_adapter(&back)
            .unwrap()
            .1
            .into_iter()
            .zip(&loras)
            .filter(|(new, old)| new.b.dtype != old.b.dtype)
            .map(|(new, _)| new.module.rsplit('.').next().unwrap().to_owned())
            .collect();
        let wanted: &[&str] =
            if expected == 2 { &["o_proj", "o_proj"] } else { &["v_proj", "o_proj", "v_proj", "o_proj"] };
        assert_eq!(changed, wanted);
    }
}

#[test]
fn mlx_finds_its_own_formula_in_its_folder() {
    for changes in variants() {
        let dir = tempfile::tempdir().unwrap();
        let (peft, mlx) = (dir.path().join("peft"), dir.path().join("mlx"));
        let (config, loras) = peft_adapter(&peft, changes.clone(), f32_everywhere);
        let report = convert_adapter(&peft, &mlx, AdapterKind::Mlx, None, None).unwrap();
        let json: Value = serde_json::from_slice(&fs::read(mlx.join("adapter_config.json")).unwrap()).unwrap();
        let parameters = &json["lora_parameters"];
        assert_eq!((&json["fine_tune_type"], &json["num_layers"]), (&json!("lora"), &json!(-1)));
        assert_eq!(parameters["keys"].as_array().unwrap().len(), 7);
        assert_eq!((&parameters["keys"][0], &parameters["dropout"]), (&json!("self_attn.q_proj"), &json!(0.05)));
        let scale = parameters["scale"].as_f64().unwrap();
        assert_eq!(scale, report.factor);
        let file = SafetensorsFile::open(&mlx.join("adapters.safetensors")).unwrap();
        assert_eq!(file.names().len(), 28);
        for lora in &loras {
            // `scale · (x · a) · b` for the unit vectors x: the rows of (scale · B · A)ᵀ.
            let read = |half: &str| file.read(&format!("{}.{half}", lora.module)).unwrap();
            let (a, b) = (read("lora_a"), read("lora_b"));
            let rank = parameters["rank"].as_u64().unwrap() as usize;
            assert_eq!((a.shape[1], b.shape[0]), (rank, rank), "one rank for all");
            let found = product(&a, &b, scale);
            let expected = product(&lora.b, &lora.a, config.scaling(&lora.module));
            let (input, out) = (a.shape[0], b.shape[1]);
            let turned: Vec<f64> = (0..input * out).map(|index| expected[index % out * input + index / out]).collect();
            assert!(difference(&turned, &found) < 1e-6, "{changes}, {}", lora.module);
        }
    }
}

#[test]
fn llama_cpp_finds_its_own_formula_in_its_file() {
    let base = tiny_config(true);
    for changes in variants() {
        let dir = tempfile::tempdir().unwrap();
        let (peft, path) = (dir.path().join("peft"), dir.path().join("x.gguf"));
        let (config, loras) = peft_adapter(&peft, changes.clone(), f32_everywhere);
        convert_adapter(&peft, &path, AdapterKind::GgufLora, None, Some(&base)).unwrap();
        let gguf = GgufFile::open(&path).unwrap();
        let Some(GgufValue::F32(alpha)) = gguf.get("adapter.lora.alpha") else { panic!("32 bits") };
        assert!(*alpha != 0.0, "0 would be a factor of 1");
        assert_eq!(gguf.tensors().len(), 28);
        for lora in &loras {
            let read = |half: &str| {
                let name = crate::names::gguf_lora_name(&lora.module, half).unwrap();
                let shape = gguf.tensor(&name).unwrap().shape.clone();
                RawTensor::from_f32(name.clone(), shape, &gguf.read_f32(&name).unwrap())
            };
            let (a, b) = (read("lora_a"), read("lora_b"));
            let found = product(&b, &a, f64::from(*alpha) / b.shape[1] as f64);
            let expected = product(&lora.b, &lora.a, config.scaling(&lora.module));
            // What is added to the weight as GGUF has it.
            let expected = match lora.module.rsplit('.').next().unwrap() {
                "q_proj" => permute(&expected, base.num_attention_heads, base.head_dim),
                "k_proj" => permute(&expected, base.num_key_value_heads, base.head_dim),
                _ => expected,
            };
            assert!(difference(&expected, &found) < 1e-6, "{changes}, {}", lora.module);
        }
    }
}

#[test]
fn file_holds_what_llama_cpps_own_converter_writes() {
    // A golden file of `tests/fixtures/gguf/make_adapter.py`.
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gguf/adapter");
    let base = base_config(&fixture).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (theirs, format) in [("llama.cpp-f32.gguf", None), ("llama.cpp-q8_0.gguf", Some(Format::Q8_0))] {
        let (theirs, ours) = (GgufFile::open(&fixture.join(theirs)).unwrap(), dir.path().join("ours.gguf"));
        convert_adapter(&fixture, &ours, AdapterKind::GgufLora, format, Some(&base)).unwrap();
        let ours = GgufFile::open(&ours).unwrap();
        assert_eq!((ours.tensors().len(), theirs.tensors().len()), (6, 6));
        for tensor in theirs.tensors() {
            let found = ours.tensor(&tensor.name).unwrap();
            assert_eq!((found.kind, &found.shape), (tensor.kind, &tensor.shape));
            assert_eq!(ours.read_raw(&tensor.name).unwrap(), theirs.read_raw(&tensor.name).unwrap(), "{}", tensor.name);
        }
        for key in ["general.architecture", "general.type", "adapter.type", "adapter.lora.alpha"] {
            assert_eq!(ours.get(key), theirs.get(key), "{key}");
        }
    }
    let back = dir.path().join("back");
    convert_adapter(&fixture.join("llama.cpp-f32.gguf"), &back, AdapterKind::Peft, None, Some(&base)).unwrap();
    let ((config, loras), (again, back)) = (read_adapter(&fixture).unwrap(), read_adapter(&back).unwrap());
    assert_eq!((back, again.r, again.lora_alpha), (loras, config.r, config.lora_alpha));
}

#[test]
fn base_is_needed_for_queries_and_keys_alone_and_has_to_fit() {
    let dir = tempfile::tempdir().unwrap();
    let (peft, file, back) = (dir.path().join("peft"), dir.path().join("x.gguf"), dir.path().join("back"));
    let (config, mut loras) = peft_adapter(&peft, json!({}), f32_everywhere);
    let to_gguf =
        |base: Option<&LlamaConfig>| convert_adapter(&peft, &file, AdapterKind::GgufLora, None, base).map(|_| ());
    assert_eq!(
        to_gguf(None).unwrap_err().to_string(),
        "adapter on `model.layers.0.self_attn.q_proj`: GGUF has the rows of its B in another order, which the base model's heads tell"
    );
    let mut other = tiny_config(true);
    other.num_hidden_layers = 1;
    assert_eq!(
        to_gguf(Some(&other)).unwrap_err().to_string(),
        "adapter on `model.layers.1.self_attn.q_proj`: the base has no such layer"
    );
    other.intermediate_size = 128;
    assert_eq!(
        to_gguf(Some(&other)).unwrap_err().to_string(),
        "adapter on `model.layers.0.mlp.gate_proj`: expected B·A of shape [128, 64], found [96, 64]"
    );
    assert!(!file.exists());
    loras.retain(|lora| !lora.module.ends_with(".q_proj") && !lora.module.ends_with(".k_proj"));
    write_adapter(&peft, &config, &loras).unwrap();
    to_gguf(None).unwrap();
    convert_adapter(&file, &back, AdapterKind::Peft, None, None).unwrap();
    let (config, again) = read_adapter(&back).unwrap();
    assert_eq!(again, loras);
    assert_eq!(config.target_modules, ["v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]);
}

#[test]
fn layers_without_matrices_get_none() {
    let dir = tempfile::tempdir().unwrap();
    let (peft, mlx, back) = (dir.path().join("peft"), dir.path().join("mlx"), dir.path().join("back"));
    let (config, mut loras) = peft_adapter(&peft, json!({}), f32_everywhere);
    loras.retain(|lora| lora.module == "model.layers.1.mlp.up_proj");
    write_adapter(&peft, &config, &loras).unwrap();
    convert_adapter(&peft, &mlx, AdapterKind::Mlx, None, Some(&tiny_config(true))).unwrap();
    let json: Value = serde_json::from_slice(&fs::read(mlx.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!((&json["num_layers"], &json["lora_parameters"]["keys"]), (&json!(1), &json!(["mlp.up_proj"])));
    convert_adapter(&mlx, &back, AdapterKind::Peft, None, None).unwrap();
    assert_eq!(read_adapter(&back).unwrap().0.target_modules, ["model.layers.1.mlp.up_proj"]);
}

#[test]
fn matrices_take_the_format_that_is_asked_for_where_their_rows_are_whole_blocks() {
    let base = tiny_config(true);
    let dir = tempfile::tempdir().unwrap();
    let (peft, path) = (dir.path().join("peft"), dir.path().join("x.gguf"));
    peft_adapter(&peft, json!({}), f32_everywhere);
    for (format, a, b) in [
        (Format::Q8_0, Format::Q8_0, Format::F16), // rows of A are 64 or 96 long, of B as long as the rank
        (Format::F16, Format::F16, Format::F16),
        (Format::BF16, Format::BF16, Format::BF16),
    ] {
        convert_adapter(&peft, &path, AdapterKind::GgufLora, Some(format), Some(&base)).unwrap();
        let gguf = GgufFile::open(&path).unwrap();
        for tensor in gguf.tensors() {
            let expected = if tensor.name.ends_with("lora_a") { a } else { b };
            assert_eq!(tensor.kind.format(), Some(expected), "{}", tensor.name);
        }
        convert_adapter(&path, &dir.path().join(format.name()), AdapterKind::Peft, None, Some(&base)).unwrap();
    }
}

#[test]
fn what_an_adapter_was_trained_with_goes_along() {
    let base = tiny_config(true);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let with = json!({"base_sha256": "abc", "template_sha256": "def", "version": "0.1.0"});
    let (config, _) = peft_adapter(&at("peft"), json!({"afina": with}), f32_everywhere);
    write_file(&at("peft").join(CHAT_TEMPLATE), b"{{ tools }}").unwrap();
    let report = convert_adapter(&at("peft"), &at("mlx"), AdapterKind::Mlx, None, None).unwrap();
    assert!(report.chat_template);
    convert_adapter(&at("mlx"), &at("x.gguf"), AdapterKind::GgufLora, None, Some(&base)).unwrap();
    convert_adapter(&at("x.gguf"), &at("back"), AdapterKind::Peft, None, Some(&base)).unwrap();
    let (again, _) = read_adapter(&at("back")).unwrap();
    assert_eq!((again.afina, again.base_model_name_or_path), (config.afina, config.base_model_name_or_path));
    assert_eq!(fs::read(at("back").join(CHAT_TEMPLATE)).unwrap(), b"{{ tools }}");
}

/// The error that a conversion to PEFT ends with, and its causes.
fn refused(path: &Path) -> String {
    let error = convert_adapter(path, &path.with_extension("out"), AdapterKind::Peft, None, Some(&tiny_config(true)));
    let error = error.map(|_| ()).unwrap_err();
    let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
    let text: Vec<String> = [error.to_string()].into_iter().chain(causes.map(ToString::to_string)).collect();
    text.join(": ").replace(&path.display().to_string(), "X")
}

#[test]
fn what_mlx_can_say_and_peft_cannot_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mlx");
    let (a, b) = ("model.layers.0.mlp.up_proj.lora_a", "model.layers.0.mlp.up_proj.lora_b");
    let matrices = |a: &str, b: &str, rank: usize| {
        let tensors = [("a", a, vec![64, rank]), ("b", b, vec![rank, 96])].map(|(_, name, shape)| {
            let values = vec![0.5; shape.iter().product()];
            RawTensor::from_f32(name, shape, &values)
        });
        write_tensors(&path.join("adapters.safetensors"), &tensors).unwrap();
    };
    let error = |config: Value| {
        write_file(&path.join("adapter_config.json"), config.to_string().as_bytes()).unwrap();
        refused(&path)
    };
    let good = json!({"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {"rank": 2, "scale": 20.0}});
    let with = |key: &str, value: Value| {
        let mut config = good.clone();
        *config.pointer_mut(key).unwrap() = value;
        config
    };
    matrices(a, b, 2);
    assert_eq!(
        error(with("/fine_tune_type", json!("dora"))),
        "`X/adapter_config.json`: `fine_tune_type`: expected lora (mlx-lm's `fuse` makes a model of the others), found `\"dora\"`"
    );
    assert!(error(with("/fine_tune_type", json!("full"))).contains("`fine_tune_type`"));
    assert!(error(with("/lora_parameters", json!(null))).contains("expected an object with `rank` and `scale`"));
    assert!(error(with("/lora_parameters/rank", json!(0))).contains("`rank`: expected a whole number above 0"));
    assert!(error(with("/lora_parameters/scale", json!("2"))).contains("`scale`: expected a finite number"));
    let early = json!({"rank": 2, "scale": 10.0, "alpha": 16.0});
    assert!(error(with("/lora_parameters", early)).contains("early versions of mlx-lm"));
    assert!(error(with("/lora_parameters/rank", json!(3))).contains("expected `lora_a` with 3, the `rank`"));
    matrices("lm_head.lora_a", "lm_head.lora_b", 2);
    assert_eq!(
        error(good.clone()),
        "adapter tensor `lm_head.lora_a` is not a LoRA matrix on a linear layer of a Llama model"
    );
    matrices(a, "model.layers.1.mlp.up_proj.lora_b", 2);
    assert!(error(good.clone()).ends_with("adapter on `model.layers.0.mlp.up_proj` has no `lora_b`"));
    assert!(!path.with_extension("out").exists());
}

#[test]
fn what_llama_cpp_would_take_otherwise_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    let text = |text: &str| GgufValue::String(text.to_owned());
    let good = [
        ("general.type", text("adapter")),
        ("general.architecture", text("llama")),
        ("adapter.type", text("lora")),
        ("adapter.lora.alpha", GgufValue::F32(4.0)),
    ];
    let error = |changes: &[(&str, GgufValue)], tensors: &[(&str, Vec<usize>)]| {
        let mut keys: Vec<(String, GgufValue)> =
            good.iter().map(|(key, value)| ((*key).into(), value.clone())).collect();
        for (key, value) in changes {
            match keys.iter_mut().find(|(other, _)| other == key) {
                Some(entry) => entry.1 = value.clone(),
                None => keys.push(((*key).into(), value.clone())),
            }
        }
        let tensors: Vec<_> =
            tensors.iter().map(|(name, shape)| ((*name).to_owned(), shape.clone(), Format::F32)).collect();
        write_gguf(&path, &keys, &tensors, &mut |name| {
            let (_, shape, _) = tensors.iter().find(|(other, ..)| other == name).unwrap();
            Ok(vec![0.5; shape.iter().product()])
        })
        .unwrap();
        refused(&path)
    };
    let (a, b) = (("blk.0.ffn_up.weight.lora_a", vec![2, 64]), ("blk.0.ffn_up.weight.lora_b", vec![96, 2]));
    let whole = [a.clone(), b.clone()];
    assert!(error(&[("general.type", text("model"))], &whole).starts_with("`X` is no adapter: expected a folder"));
    let message = error(&[("general.architecture", text("qwen2"))], &whole);
    assert_eq!(message, "`X`: `general.architecture`: expected llama, found `qwen2`");
    assert!(error(&[("adapter.type", text("control_vector"))], &whole).contains("`adapter.type`: expected lora"));
    assert!(error(&[("adapter.lora.alpha", GgufValue::F32(f32::NAN))], &whole).contains("expected a finite number"));
    let tokens = GgufValue::Array(vec![GgufValue::U32(1)]);
    assert!(error(&[("adapter.alora.invocation_tokens", tokens)], &whole).contains("no plain LoRA"));
    for foreign in
        ["output.weight.lora_a", "token_embd.weight.lora_b", "blk.0.attn_norm.weight", "blk.0.attn_q.bias.lora_a"]
    {
        let message = error(&[], &[a.clone(), b.clone(), (foreign, vec![64])]);
        assert!(message.starts_with(&format!("adapter tensor `{foreign}` is not a LoRA matrix")), "{message}");
    }
    assert!(error(&[], std::slice::from_ref(&b)).ends_with("has no `lora_a`"));
    assert!(error(&[], &[a.clone(), (b.0, vec![96, 3])]).contains("expected `lora_b` with 2 in dimension 1"));
    assert!(error(&[], &[a, (b.0, vec![64, 2])]).contains("expected B·A of shape [96, 64], found [64, 64]"));
    assert!(error(&[], &[]).ends_with("adapter holds no LoRA matrices"));
}

#[test]
fn alpha_of_zero_is_a_factor_of_one_as_llama_cpp_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("x.gguf"), dir.path().join("peft"));
    let text = |text: &str| GgufValue::String(text.to_owned());
    let keys = [("general.type", "adapter"), ("general.architecture", "llama"), ("adapter.type", "lora")]
        .map(|(key, value)| (key.to_owned(), text(value)));
    let tensors = [("up", 2), ("gate", 2), ("down", 3)].into_iter().flat_map(|(name, rank)| {
        let [out, input] = linear_shape(&tiny_config(true), &format!("{name}_proj"));
        let name = |half| format!("blk.1.ffn_{name}.weight.{half}");
        [(name("lora_a"), vec![rank, input], Format::F32), (name("lora_b"), vec![out, rank], Format::F32)]
    });
    let tensors: Vec<_> = tensors.collect();
    write_gguf(&path, &keys, &tensors, &mut |name| {
        Ok(noise(name.len() as u64, tensors.iter().find(|tensor| tensor.0 == name).unwrap().1.iter().product()))
    })
    .unwrap();
    convert_adapter(&path, &out, AdapterKind::Peft, None, None).unwrap();
    let (config, loras) = read_adapter(&out).unwrap();
    assert_eq!(config.rank_pattern.values().collect::<Vec<_>>(), [3]);
    assert_eq!(config.rank("model.layers.1.mlp.down_proj"), 3);
    for lora in loras {
        assert_eq!(config.scaling(&lora.module), 1.0);
    }
}
