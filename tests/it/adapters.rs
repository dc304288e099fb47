//! Adapters for PEFT, mlx-lm and llama.cpp, each made of each.

use std::path::Path;

use afina_checkpoint::{
    AdapterConfig, LINEAR_MODULES, LoraTensors, ModelDir, RawTensor, TrainedWith, module_path, names::linear_shape,
    read_adapter, write_adapter,
};
use expect_test::expect;

use crate::check::{check_cli, run_cli};
use crate::tiny_model::model_dir;

/// A model folder `m`, and an adapter `a` on all its linear layers.
fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("m"));
    let model = ModelDir::open(&dir.path().join("m")).unwrap();
    let modules = LINEAR_MODULES.map(str::to_owned).to_vec();
    let with = TrainedWith { base_sha256: "f00d".repeat(16), template_sha256: String::new(), version: "0.1.0".into() };
    let config = AdapterConfig::lora(4, 8.0, modules, "m".into(), with);
    let mut loras = Vec::new();
    for layer in 0..2 {
        for name in LINEAR_MODULES {
            let [out, input] = linear_shape(&model.config, name);
            let matrix = |half: &str, shape: [usize; 2]| {
                let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| ((i * 31 + layer) as f32).sin()).collect();
                RawTensor::from_f32(half, shape.to_vec(), &values)
            };
            let (a, b) = (matrix("a", [4, input]), matrix("b", [out, 4]));
            loras.push(LoraTensors { module: module_path(layer, name), a, b });
        }
    }
    write_adapter(&dir.path().join("a"), &config, &loras).unwrap();
    dir
}

fn matrices(path: &Path) -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let (_, loras) = read_adapter(path).unwrap();
    loras.into_iter().map(|lora| (lora.module, lora.a.bytes, lora.b.bytes)).collect()
}

#[test]
fn an_adapter_goes_round_all_programs_and_comes_back_as_it_was() {
    let dir = workplace();
    check_cli(
        dir.path(),
        &["export", "--adapter", "a", "--as", "mlx", "--to", "b"],
        expect![[r#"
            exit 0
            --- stdout
            b
              PEFT to MLX: 14 layers, scale 2
        "#]],
    );
    check_cli(
        dir.path(),
        &["export", "--adapter", "b", "--as", "gguf-lora", "--model", "m", "--to", "c.gguf"],
        expect![[r#"
            exit 0
            --- stdout
            c.gguf
              MLX to llama.cpp: 14 layers, alpha 8
        "#]],
    );
    check_cli(
        dir.path(),
        &["export", "--adapter", "c.gguf", "--as", "peft", "--model", "m", "--to", "d", "--json"],
        expect![[r#"
            exit 0
            --- stdout
            {"from":"gguf-lora","to":"peft","modules":14,"factor":8.0,"folded":0,"chat_template":false,"path":"d"}
        "#]],
    );
    check_cli(
        dir.path(),
        &["export", "--adapter", "d", "--as", "peft", "--to", "e"],
        expect![[r#"
            exit 0
            --- stdout
            e
        "#]],
    );
    for end in ["d", "e"] {
        assert_eq!(matrices(&dir.path().join(end)), matrices(&dir.path().join("a")));
    }
}

#[test]
fn info_tells_whose_adapter_it_is_and_what_it_holds() {
    let dir = workplace();
    for (kind, to) in [("mlx", "b"), ("gguf-lora", "c.gguf")] {
        let seen = run_cli(dir.path(), &["export", "--adapter", "a", "--as", kind, "--model", "m", "--to", to]);
        assert!(seen.starts_with("exit 0\n"), "{seen}");
    }
    let told = |path: &str| {
        let seen = run_cli(dir.path(), &["info", path]);
        seen.lines().filter(|line| !line.starts_with("sha256")).collect::<Vec<_>>().join("\n")
    };
    expect![[r#"
        exit 0
        --- stdout
        kind           adapter
        parameters     3712 (0.0 MB of weights)
        F32            28 tensors, 3712 parameters
        adapter        PEFT, r 4, alpha 8, q_proj k_proj v_proj o_proj gate_proj up_proj down_proj on 14 layers
        base           m (weights sha256 f00df00df00d…)
        exit 0
        --- stdout
        kind           adapter
        parameters     3712 (0.0 MB of weights)
        F32            28 tensors, 3712 parameters
        adapter        MLX, r 4, alpha 8, q_proj k_proj v_proj o_proj gate_proj up_proj down_proj on 14 layers
        base           m (weights sha256 f00df00df00d…)
        exit 0
        --- stdout
        kind           adapter
        name           c
        architecture   llama
        parameters     3712 (0.0 MB of weights)
        F32            28 tensors, 3712 parameters
        adapter        llama.cpp, r 4, alpha 8, q_proj k_proj v_proj o_proj gate_proj up_proj down_proj on 14 layers
        base           m (weights sha256 f00df00df00d…)
    "#]]
    .assert_eq(&format!("{}\n{}\n{}\n", told("a"), told("b"), told("c.gguf")));
}

#[test]
fn the_way_out_is_told_where_something_is_missing_or_of_another_program() {
    let dir = workplace();
    check_cli(
        dir.path(),
        &["export", "--adapter", "a", "--as", "gguf-lora", "--to", "c.gguf"],
        expect![[r#"
            exit 1
            --- stderr
            error: failed to export `a` to `c.gguf`
              cause: adapter on `model.layers.0.self_attn.q_proj`: GGUF has the rows of its B in another order, which the base model's heads tell
            hint: give the base with --model: a folder with its config.json, or its GGUF file
        "#]],
    );
    for (kind, to) in [("mlx", "b"), ("gguf-lora", "c.gguf")] {
        run_cli(dir.path(), &["export", "--adapter", "a", "--as", kind, "--model", "m", "--to", to]);
    }
    for adapter in ["b", "c.gguf"] {
        let seen = run_cli(dir.path(), &["merge", "--base", "m", "--adapter", adapter, "--to", "merged"]);
        let hint = format!("hint: make it one of PEFT: afina export --adapter {adapter} --as peft --to DIR");
        assert!(seen.starts_with("exit 1\n") && seen.contains(&hint), "{seen}");
    }
    check_cli(
        dir.path(),
        &["export", "--adapter", "a", "--as", "gguf-lora", "--model", "m", "--type", "Q4_K_M", "--to", "d.gguf"],
        expect![[r#"
            exit 2
            --- stderr
            error: --type Q4_K_M: expected F32, F16, BF16 or Q8_0 for an adapter
            hint: to quantize further, merge it: afina export --model DIR --adapter DIR --as gguf --type TYPE
        "#]],
    );
    check_cli(
        dir.path(),
        &["export", "--as", "gguf", "--to", "d.gguf"],
        expect![[r#"
            exit 2
            --- stderr
            error: an export of a model needs the model
            hint: give it with --model DIR
        "#]],
    );
    let seen = run_cli(dir.path(), &["export", "--adapter", "a", "--as", "mlx", "--type", "F16", "--to", "e"]);
    assert!(seen.starts_with("exit 2\n"), "{seen}");
    check_cli(
        dir.path(),
        &["export", "--adapter", "c.gguf", "--as", "gguf-lora", "--model", "m", "--to", "./c.gguf"],
        expect![[r#"
            exit 2
            --- stderr
            error: `./c.gguf` is read by this command
            hint: name another file: what is read is never written
        "#]],
    );
}
