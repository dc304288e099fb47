//! `afina merge`: what a user sees of it.

use std::fs;
use std::path::Path;

use afina_checkpoint::{RawTensor, write_file, write_tensors};
use expect_test::expect;
use serde_json::{Value, json};

use crate::check::{check_cli, run_cli};
use crate::tiny_model::model_dir;

/// A PEFT adapter of rank 2 on q_proj of layer 0 of [`model_dir`]'s model, whose factors are `size` times a wave.
fn adapter(dir: &Path, size: f32, changes: &Value) {
    let mut config =
        json!({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]});
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    write_file(&dir.join("adapter_config.json"), config.to_string().as_bytes()).unwrap();
    let half = |half: &str, shape: Vec<usize>| {
        let values: Vec<f32> = (0..64).map(|i| size * (i as f32 * 0.618 + shape[0] as f32).sin()).collect();
        let name = format!("base_model.model.model.layers.0.self_attn.q_proj.{half}.weight");
        RawTensor::from_f32(name, shape, &values)
    };
    let tensors = [half("lora_A", vec![2, 32]), half("lora_B", vec![32, 2])];
    write_tensors(&dir.join("adapter_model.safetensors"), &tensors).unwrap();
}

/// A model `m` and two adapters, `a` and `b`.
fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("m"));
    adapter(&dir.path().join("a"), 0.2, &json!({}));
    adapter(&dir.path().join("b"), 0.1, &json!({}));
    dir
}

fn run(dir: &Path, line: &str) -> String {
    run_cli(dir, &line.split(' ').collect::<Vec<_>>())
}

/// What was printed, whatever the weights' hash is: it may depend on the system's sine.
fn without_hash(seen: &str) -> String {
    let (before, after) = seen.split_once("sha256 ").unwrap();
    format!("{before}sha256 [SHA]{}", &after[12..])
}

#[test]
fn what_was_done_is_told_and_kept_as_a_receipt() {
    let dir = workplace();
    expect![[r#"
        exit 0
        --- stdout
        merged
          1 of 20 tensors merged, weights sha256 [SHA]…
          ‖ΔW‖ / ‖W‖ 32.558 %, ‖rounding‖ / ‖ΔW‖ 0.000, changed values lost to rounding 0.000 %
    "#]]
    .assert_eq(&without_hash(&run(dir.path(), "merge --base m --adapter a --to merged")));
    let seen = run(dir.path(), "merge --base m --adapter a --to bf16 --dtype bf16 --shard-size 50kB --json");
    let report: Value = serde_json::from_str(seen.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
    assert_eq!(report["merged"], json!(1));
    assert!(report["relative_rounding"].as_f64().unwrap() > 1e-4);
    let receipt: Value =
        serde_json::from_slice(&fs::read(dir.path().join("bf16/merge_receipt.json")).unwrap()).unwrap();
    assert_eq!(receipt["layers"], report["layers"]);
    assert_eq!(receipt["origin"]["adapters"][0]["path"], json!("a"));
    assert!(dir.path().join("bf16/model.safetensors.index.json").exists());
}

#[test]
fn several_adapters_are_combined_by_peft_s_methods() {
    let dir = workplace();
    let merge = |method: &str, to: &str| {
        run(dir.path(), &format!("merge --base m --adapter a=0.7 --adapter b=0.3 --method {method} --to {to}"))
    };
    let weights = |to: &str| fs::read(dir.path().join(to).join("model.safetensors")).unwrap();
    for method in ["cat", "linear", "ties --density 0.5", "dare --density 0.5", "dare_ties --density 0.5 --seed 7"] {
        let seen = merge(method, &method.replace(' ', "_"));
        assert!(seen.starts_with("exit 0\n"), "{method}: {seen}");
    }
    assert!(weights("cat") != weights("linear") && weights("linear") != weights("ties_--density_0.5"));
    // The same seed drops the same values.
    merge("dare_ties --density 0.5 --seed 7", "again");
    assert!(weights("again") == weights("dare_ties_--density_0.5_--seed_7"));

    let missing = merge("ties", "none");
    assert!(missing.starts_with("exit 2\n") && missing.contains("--density"), "{missing}");
    adapter(&dir.path().join("b"), 0.1, &json!({"use_dora": true}));
    check_cli(
        dir.path(),
        &["merge", "--base", "m", "--adapter", "a", "--adapter", "b", "--to", "none"],
        expect![[r#"
        exit 1
        --- stderr
        error: failed to merge `a` and `b` into `m`
          cause: failed to read the adapter
          cause: adapter on `model.layers.0.self_attn.q_proj` has no `lora_magnitude_vector`
    "#]],
    );
    assert!(!dir.path().join("none").exists());
}

#[test]
fn an_adapter_below_the_rounding_or_without_effect_is_told() {
    let dir = workplace();
    adapter(&dir.path().join("weak"), 1e-3, &json!({}));
    adapter(&dir.path().join("dead"), 0.0, &json!({}));
    expect![[r#"
        exit 0
        --- stdout
        merged
          1 of 20 tensors merged, weights sha256 [SHA]…
          ‖ΔW‖ / ‖W‖ 0.001 %, ‖rounding‖ / ‖ΔW‖ 232.328, changed values lost to rounding 99.609 %
        --- stderr
        warning: rounding to BF16 changes the weights 232.3 times as much as the adapter does; --dtype f32 keeps it
    "#]]
    .assert_eq(&without_hash(&run(dir.path(), "merge --base m --adapter weak --to merged --dtype bf16")));
    let seen = run(dir.path(), "merge --base m --adapter dead --to same");
    assert!(seen.contains("warning: the adapter changes no weight: every B·A is zero"), "{seen}");
    let seen = run(dir.path(), "export --model m --adapter weak --as gguf --type Q4_0 --to weak.gguf");
    assert!(seen.contains("Q4_0 changes 1 of the adapter's 1 tensors more than the adapter does"), "{seen}");
}

#[test]
fn a_merge_that_is_too_far_from_the_training_graph_is_not_written() {
    let dir = workplace();
    let line = json!({"messages": [{"role": "user", "content": "hola"}, {"role": "assistant", "content": "buenas"}]});
    write_file(&dir.path().join("d.jsonl"), format!("{line}\n").as_bytes()).unwrap();
    let seen = run(dir.path(), "merge --base m --adapter a --to merged --data d.jsonl --max-kl 1e-6 --json");
    assert!(seen.starts_with("exit 0\n"), "{seen}");
    let receipt: Value =
        serde_json::from_slice(&fs::read(dir.path().join("merged/merge_receipt.json")).unwrap()).unwrap();
    assert_eq!(receipt["measured"]["top1"], json!(1.0));
    let seen = run(dir.path(), "merge --base m --adapter a --to none --data d.jsonl --max-kl 1e-30 --dtype bf16");
    assert!(seen.starts_with("exit 3\n") && seen.contains("mean KL above"), "{seen}");
    assert!(!dir.path().join("none").exists());
}

#[test]
fn onto_the_original_needs_to_know_it() {
    let dir = workplace();
    let refused = run(dir.path(), "merge --base m --adapter a --to merged --onto original");
    assert!(refused.starts_with("exit 2\n") && refused.contains("--original DIR"), "{refused}");
    let refused = run(dir.path(), "merge --base m --adapter a --to merged --original m");
    assert!(refused.starts_with("exit 2\n") && refused.contains("add --onto original"), "{refused}");
    run(dir.path(), "quantize --model m --type nf4 --to nf4");
    let seen = run(dir.path(), "merge --base nf4 --adapter a --to on-original --onto original --json");
    let report: Value = serde_json::from_str(seen.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
    assert!(report["relative_distance"].as_f64().unwrap() > 0.01, "{report}");
    run(dir.path(), "merge --base m --adapter a --to plain");
    let weights = |to: &str| fs::read(dir.path().join(to).join("model.safetensors")).unwrap();
    assert!(weights("on-original") == weights("plain"));
    let seen = run(dir.path(), "merge --base nf4 --adapter a --to on-trained");
    assert!(seen.starts_with("exit 0\n"), "{seen}");
    assert!(weights("on-trained") != weights("plain"));
    // What it was quantized from is no more what it was.
    write_file(&dir.path().join("m/model.safetensors"), &weights("on-trained")).unwrap();
    let seen = run(dir.path(), "merge --base nf4 --adapter a --to none --onto original");
    assert!(seen.starts_with("exit 2\n") && seen.contains("its weights have changed"), "{seen}");
}
