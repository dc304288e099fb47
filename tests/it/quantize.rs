//! `afina quantize` and GGUF exports in few bits.

use std::fs;
use std::path::Path;

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
            error: invalid value 'q4_k_n' for '--type <TYPE>': unknown type `q4_k_n`: did you mean `Q4_K_M`? Known: Q4_0, Q4_1, Q4_K_S, Q4_K_M, Q5_0, Q5_1, Q5_K_S, Q5_K_M, Q6_K, Q8_0, F16, BF16, F32

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
