//! `afina quantize` and GGUF exports in few bits.

use std::fs;
use std::path::Path;

use afina_checkpoint::{ModelDir, RawTensor, write_tensors};
use expect_test::expect;

use crate::check::{check_cli, run_cli};
use crate::tiny_model::model_dir;

/// A model folder `m`, and `f32/m.gguf` of it.
fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("m"));
    let seen = run_cli(dir.path(), &["export", "--model", "m", "--as", "gguf", "--type", "F32", "--to", "f32/m.gguf"]);
    assert!(seen.starts_with("exit 0\n"), "{seen}");
    dir
}

fn json(dir: &Path, args: &[&str]) -> serde_json::Value {
    let seen = run_cli(dir, args);
    let line = seen.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{seen}"));
    serde_json::from_str(line).unwrap()
}

#[test]
fn a_folder_and_its_f32_file_become_the_same_file() {
    let dir = workplace();
    check_cli(
        dir.path(),
        &["quantize", "--model", "f32/m.gguf", "--type", "q4_k_m", "--to", "a/m.gguf"],
        expect![[r#"
            exit 0
            --- stdout
            a/m.gguf
              Q4_K_M: 0.1 MB, 8.32 bits a weight
              other formats: Q8_0 in place of Q6_K in 2 tensors, rows of 32 are no whole blocks of 256; Q5_0 in place of Q4_K in 11 tensors, rows of 32 are no whole blocks of 256; F16 in place of Q4_K in 1 tensor, rows of 48 are no whole blocks of 256; F16 in place of Q6_K in 1 tensor, rows of 48 are no whole blocks of 256
        "#]],
    );
    check_cli(
        dir.path(),
        &["export", "--model", "m", "--as", "gguf", "--type", "Q4_K", "--to", "b/m.gguf"],
        expect![[r#"
            exit 0
            --- stdout
            b/m.gguf
              Q4_K_M: 0.1 MB, 8.32 bits a weight
              other formats: Q8_0 in place of Q6_K in 2 tensors, rows of 32 are no whole blocks of 256; Q5_0 in place of Q4_K in 11 tensors, rows of 32 are no whole blocks of 256; F16 in place of Q4_K in 1 tensor, rows of 48 are no whole blocks of 256; F16 in place of Q6_K in 1 tensor, rows of 48 are no whole blocks of 256
        "#]],
    );
    let quantize = ["quantize", "--model", "m", "--type", "Q4_K_M", "--to", "c/m.gguf"];
    assert!(run_cli(dir.path(), &quantize).starts_with("exit 0\n"));
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert!(read("a/m.gguf") == read("b/m.gguf") && read("a/m.gguf") == read("c/m.gguf"));
    let seen = run_cli(dir.path(), &["pull", "a/m.gguf", "--to", "back"]);
    assert!(seen.starts_with("exit 0\n"), "{seen}");
}

#[test]
fn the_report_tells_format_bytes_and_error_of_every_tensor() {
    let dir = workplace();
    let to = dir.path().join("a.gguf");
    let args = ["quantize", "--model", "f32/m.gguf", "--type", "Q8_0", "--to", "a.gguf", "--report"];
    check_cli(
        dir.path(),
        &args,
        expect![[r#"
        exit 0
        --- stdout
        tensor                             shape format        bytes      error
        output_norm.weight                    32    F32          128   0.0000 %
        token_embd.weight              1024 × 32   Q8_0        34816   0.3164 %
        blk.0.attn_k.weight              16 × 32   Q8_0          544   0.3174 %
        blk.0.attn_norm.weight                32    F32          128   0.0000 %
        blk.0.attn_output.weight         32 × 32   Q8_0         1088   0.3151 %
        blk.0.attn_q.weight              32 × 32   Q8_0         1088   0.3153 %
        blk.0.attn_v.weight              16 × 32   Q8_0          544   0.3148 %
        blk.0.ffn_down.weight            32 × 48    F16         3072   0.0231 %
        blk.0.ffn_gate.weight            48 × 32   Q8_0         1632   0.3163 %
        blk.0.ffn_norm.weight                 32    F32          128   0.0000 %
        blk.0.ffn_up.weight              48 × 32   Q8_0         1632   0.3121 %
        blk.1.attn_k.weight              16 × 32   Q8_0          544   0.3195 %
        blk.1.attn_norm.weight                32    F32          128   0.0000 %
        blk.1.attn_output.weight         32 × 32   Q8_0         1088   0.3173 %
        blk.1.attn_q.weight              32 × 32   Q8_0         1088   0.3132 %
        blk.1.attn_v.weight              16 × 32   Q8_0          544   0.3156 %
        blk.1.ffn_down.weight            32 × 48    F16         3072   0.0230 %
        blk.1.ffn_gate.weight            48 × 32   Q8_0         1632   0.3167 %
        blk.1.ffn_norm.weight                 32    F32          128   0.0000 %
        blk.1.ffn_up.weight              48 × 32   Q8_0         1632   0.3137 %
        a.gguf
          Q8_0: 0.1 MB, 9.06 bits a weight
          other formats: F16 in place of Q8_0 in 2 tensors, rows of 48 are no whole blocks of 32
    "#]],
    );
    let told = json(dir.path(), &[&args[..], &["--json"]].concat());
    let tensors = told["tensors"].as_array().unwrap();
    assert_eq!((told["path"].as_str(), told["type"].as_str(), tensors.len()), (Some("a.gguf"), Some("Q8_0"), 20));
    let sum: u64 = tensors.iter().map(|tensor| tensor["bytes"].as_u64().unwrap()).sum();
    assert_eq!(told["bytes"].as_u64(), Some(sum));
    assert!(sum < fs::metadata(&to).unwrap().len());
    for tensor in tensors {
        let error = tensor["relative_rmse"].as_f64().unwrap();
        match tensor["format"].as_str().unwrap() {
            "F32" => assert_eq!(error, 0.0, "{tensor}"),
            "F16" => assert!((1e-6..1e-3).contains(&error), "{tensor}"),
            _ => assert!((1e-3..1e-2).contains(&error), "{tensor}"),
        }
    }
    let fallback = &told["fallbacks"][0];
    assert_eq!((fallback["columns"].as_u64(), fallback["format"].as_str()), (Some(48), Some("F16")));
    assert!(json(dir.path(), &[&args[..7], &["--json"]].concat()).get("tensors").is_none());
}

#[test]
fn what_would_lose_more_than_meant_is_refused_with_the_way_out() {
    let dir = workplace();
    let quantize = |model: &str, mix: &str, to: &str| {
        run_cli(dir.path(), &["quantize", "--model", model, "--type", mix, "--to", to])
    };
    assert!(quantize("f32/m.gguf", "Q8_0", "q8.gguf").starts_with("exit 0\n"));
    let before = fs::read(dir.path().join("q8.gguf")).unwrap();
    check_cli(
        dir.path(),
        &["quantize", "--model", "q8.gguf", "--type", "Q4_0", "--to", "q4.gguf"],
        expect![[r#"
        exit 2
        --- stderr
        error: `q8.gguf` is quantized already: 12 tensors would be quantized again, the first is `blk.0.attn_k.weight` in `Q8_0`
        hint: take the F32, F16 or BF16 model it came from, or add --allow-requantize: errors add up
    "#]],
    );
    assert!(!dir.path().join("q4.gguf").exists());
    let allowed = ["quantize", "--model", "q8.gguf", "--type", "Q4_0", "--to", "q4.gguf", "--allow-requantize"];
    assert!(run_cli(dir.path(), &allowed).starts_with("exit 0\n"));
    check_cli(
        dir.path(),
        &["quantize", "--model", "q8.gguf", "--type", "Q8_0", "--to", "./q8.gguf"],
        expect![[r#"
        exit 2
        --- stderr
        error: `./q8.gguf` is read by this command
        hint: name another file: what is read is never written
    "#]],
    );
    assert!(fs::read(dir.path().join("q8.gguf")).unwrap() == before);
    check_cli(
        dir.path(),
        &["quantize", "--model", "f32/m.gguf", "--type", "q4_k_n", "--to", "x.gguf"],
        expect![[r#"
            exit 2
            --- stderr
            error: invalid value 'q4_k_n' for '--type <TYPE>': unknown type `q4_k_n`: did you mean `Q4_K_M`? Known: Q4_0, Q4_1, Q4_K_S, Q4_K_M, Q5_0, Q5_1, Q5_K_S, Q5_K_M, Q6_K, Q8_0, F16, BF16, F32, NF4

            For more information, try '--help'.
        "#]],
    );
}

#[test]
fn a_weight_that_is_not_finite_is_named_and_leaves_nothing() {
    let dir = workplace();
    let path = dir.path().join("f32/m.gguf");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 4 * 5; // of the last tensor, blk.1.ffn_up.weight
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    afina_checkpoint::write_file(&path, &bytes).unwrap();
    check_cli(
        dir.path(),
        &["quantize", "--model", "f32/m.gguf", "--type", "Q4_0", "--to", "x.gguf"],
        expect![[r#"
        exit 1
        --- stderr
        error: failed to quantize `f32/m.gguf`
          cause: failed to write the GGUF file
          cause: tensor `blk.1.ffn_up.weight` cannot be stored as `Q4_0`
          cause: value 1531 is NaN, and only finite numbers can be encoded
    "#]],
    );
    assert!(!dir.path().join("x.gguf").exists());
}

#[test]
fn nf4_is_a_folder_that_every_command_takes() {
    let dir = workplace();
    let seen = run_cli(dir.path(), &["quantize", "--model", "m", "--type", "nf4", "--to", "nf4", "--report"]);
    let columns = |start: &str| {
        let line = seen.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {seen}"));
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(seen.starts_with("exit 0\n--- stdout\ntensor "), "{seen}");
    let up = columns("model.layers.0.mlp.up_proj.weight");
    assert_eq!((&up[1..5].join(" ")[..], up[7].as_str()), ("48 × 32 NF4", "%"), "{seen}");
    // 768 bytes of numbers, 24 of scales, 4 of their scales, 64 and 1024 of the two codes, and the state.
    let bytes: usize = up[5].parse().unwrap();
    assert!((768 + 24 + 4 + 64 + 1024..2100).contains(&bytes), "{seen}");
    assert!((5.0..15.0).contains(&up[6].parse::<f64>().unwrap()), "{seen}");
    assert_eq!(columns("model.norm.weight")[1..].join(" "), "32 F32 128 0.0000 %");
    assert!(seen.contains("\nnf4\n  NF4 with double quantization: 0.2 MB, "), "{seen}");
    assert!(seen.contains(" bits a weight; 6 tensors as they were\n"), "{seen}");
    let told = json(
        dir.path(),
        &["quantize", "--model", "m", "--type", "NF4", "--to", "plain", "--no-double-quant", "--json"],
    );
    assert_eq!(
        (told["type"].as_str(), told["double_quant"].as_bool(), told.get("tensors")),
        (Some("NF4"), Some(false), None)
    );
    let seen = run_cli(dir.path(), &["info", "nf4"]);
    assert!(seen.contains("quantized") && seen.contains("bitsandbytes nf4"), "{seen}");
    let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(
        text("nf4/config.json").contains("bnb_4bit_use_double_quant")
            && text("nf4/manifest.json").contains("\"quantize\"")
    );

    // What it decodes to is the same, in whichever form it is asked for; and a copy stays what it is.
    let run = |args: &[&str]| assert!(run_cli(dir.path(), args).starts_with("exit 0\n"), "{args:?}");
    run(&["export", "--model", "nf4", "--as", "gguf", "--type", "F32", "--to", "once/m.gguf"]);
    run(&["export", "--model", "nf4", "--as", "hf", "--shard-size", "10kB", "--to", "copy"]);
    assert!(text("copy/config.json").contains("quantization_config"));
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert!(read("copy/model.safetensors") == read("nf4/model.safetensors"));
    let (folder, file) = (ModelDir::open(&dir.path().join("nf4")).unwrap(), dir.path().join("once/m.gguf"));
    let file = afina_checkpoint::open_weights(&file).unwrap();
    for name in folder.tensor_names() {
        let values = folder.tensor(name).unwrap().to_f32().unwrap();
        assert_eq!(file.tensor(name).unwrap().to_f32().unwrap(), values, "{name}");
    }
    run(&["generate", "--model", "nf4", "--prompt", "hola", "--max-tokens", "2"]);
}

#[test]
fn an_adapter_merged_into_quantized_weights_gives_a_plain_folder() {
    let dir = workplace();
    let run = |args: &[&str]| assert!(run_cli(dir.path(), args).starts_with("exit 0\n"), "{args:?}");
    run(&["quantize", "--model", "m", "--type", "nf4", "--to", "nf4"]);
    let config = r#"{"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"],
                     "base_model_name_or_path": "nf4"}"#;
    afina_checkpoint::write_file(&dir.path().join("adapter/adapter_config.json"), config.as_bytes()).unwrap();
    let half = |half: &str, shape: [usize; 2]| {
        let name = format!("base_model.model.model.layers.0.self_attn.q_proj.{half}.weight");
        RawTensor::from_f32(name, shape.to_vec(), &[0.5; 32])
    };
    let halves = [half("lora_A", [1, 32]), half("lora_B", [32, 1])];
    write_tensors(&dir.path().join("adapter/adapter_model.safetensors"), &halves).unwrap();
    run(&["merge", "--base", "nf4", "--adapter", "adapter", "--to", "merged"]);

    let open = |name: &str| ModelDir::open(&dir.path().join(name)).unwrap();
    let (base, merged) = (open("nf4"), open("merged"));
    assert!(merged.quantization().is_none());
    for name in base.tensor_names() {
        let (before, after) = (base.tensor(name).unwrap(), merged.tensor(name).unwrap());
        let added = if name == "model.layers.0.self_attn.q_proj.weight" { 0.25 } else { 0.0 };
        let expected: Vec<f32> = before.to_f32().unwrap().iter().map(|value| value + added).collect();
        assert_eq!(after.to_f32().unwrap(), expected, "{name}");
    }
}

#[test]
fn quantized_folders_are_not_quantized_again_unless_that_is_asked_for() {
    let dir = workplace();
    assert!(run_cli(dir.path(), &["quantize", "--model", "m", "--type", "nf4", "--to", "nf4"]).starts_with("exit 0\n"));
    for (kind, to) in [("nf4", "again"), ("Q4_0", "again.gguf")] {
        let args = ["quantize", "--model", "nf4", "--type", kind, "--to", to, "--allow-requantize"];
        check_cli(
            dir.path(),
            &args[..7],
            expect![[r#"
                exit 2
                --- stderr
                error: `nf4` is quantized already: bitsandbytes nf4
                hint: take the F32, F16 or BF16 model it came from, or add --allow-requantize: errors add up
            "#]],
        );
        assert!(!dir.path().join(to).exists());
        assert!(run_cli(dir.path(), &args).starts_with("exit 0\n"));
    }
    assert!(
        run_cli(dir.path(), &["quantize", "--model", "nf4", "--type", "F16", "--to", "f16.gguf"])
            .starts_with("exit 0\n")
    );
    check_cli(
        dir.path(),
        &["quantize", "--model", "f32/m.gguf", "--type", "nf4", "--to", "x"],
        expect![[r#"
            exit 2
            --- stderr
            error: `f32/m.gguf` is a file, and NF4 is made of a Hugging Face folder
            hint: make one of the file first: `afina pull f32/m.gguf`
        "#]],
    );
    check_cli(
        dir.path(),
        &["quantize", "--model", "m", "--type", "Q8_0", "--to", "x.gguf", "--no-double-quant"],
        expect![[r#"
            exit 2
            --- stderr
            error: --no-double-quant is for NF4
            hint: leave it out for Q8_0
        "#]],
    );
}

#[test]
fn a_scheme_that_is_not_read_is_told_with_the_way_out() {
    let dir = workplace();
    let path = dir.path().join("m/config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["quantization_config"] = serde_json::json!({"quant_method": "compressed-tensors"});
    afina_checkpoint::write_file(&path, config.to_string().as_bytes()).unwrap();
    check_cli(
        dir.path(),
        &["quantize", "--model", "m", "--type", "Q8_0", "--to", "x.gguf"],
        expect![[r#"
            exit 1
            --- stderr
            error: failed to open the model `m`
              cause: `m` has quantized weights that cannot be used
              cause: weights quantized with `compressed-tensors` are not read, expected bitsandbytes nf4, gptq or awq
            hint: take the model that it was made from, unquantized; or dequantize it once with the program that wrote it (transformers: `model.dequantize()`, then `save_pretrained`)
        "#]],
    );
}
