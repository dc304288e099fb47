//! `afina bench`, and the quick run of `afina validate`.

use std::path::{Path, PathBuf};

use expect_test::expect;
use serde_json::{Value, json};

use crate::check::{check_cli, run_cli};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data")
}

/// The JSON object among what a user sees.
fn json_of(seen: &str) -> Value {
    let line = seen.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{seen}"));
    serde_json::from_str(line).unwrap()
}

#[test]
fn the_table_has_a_row_for_each_part_and_number_of_threads() {
    let args = ["bench", "validate", "router/train.jsonl", "--rounds", "2", "--threads", "1,2", "--quiet"];
    let seen = run_cli(&data(), &[&args[..], &["--tokenizer", "o200k_base"]].concat());
    assert!(
        seen.starts_with("exit 0\n--- stdout\nrouter/train.jsonl: 0.1 MB, 720 records; medians of 2 rounds"),
        "{seen}"
    );
    let rows: Vec<(&str, &str)> = seen
        .lines()
        .filter(|line| line.contains(" – "))
        .map(|line| (line[..26].trim_end(), line[26..33].trim_start()))
        .collect();
    let parts = [
        "rules",
        "rules + near duplicates",
        "rules + secrets and PII",
        "rules + statistics",
        "statistics + tokens",
        "all",
    ];
    let expected: Vec<(&str, &str)> = parts.iter().flat_map(|part| [(*part, "1"), (*part, "2")]).collect();
    assert_eq!(rows, expected, "{seen}");
}

#[test]
fn a_file_is_made_where_none_is_given_and_does_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_afina"))
        .args([
            "bench",
            "validate",
            "--size",
            "1MB",
            "--rounds",
            "1",
            "--threads",
            "2",
            "--parts",
            "rules,all",
            "--json",
        ])
        .env("TMPDIR", dir.path())
        .output()
        .unwrap();
    let seen = json_of(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(seen["file"], Value::Null);
    assert!(seen["bytes"].as_u64().is_some_and(|bytes| bytes >= 1_000_000), "{seen}");
    let rows = seen["rows"].as_array().unwrap();
    let parts: Vec<&Value> = rows.iter().map(|row| &row["part"]).collect();
    assert_eq!(parts, ["rules", "all"]);
    for row in rows {
        assert_eq!(row["threads"], 2);
        for key in ["megabytes_per_second", "seconds", "seconds_min", "seconds_max"] {
            assert!(row[key].as_f64().is_some_and(|number| number > 0.0), "{key}: {row}");
        }
        assert!(!cfg!(target_os = "linux") || row["peak_memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1_000_000));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn images_are_a_part_of_a_file_that_has_some() {
    let seen = run_cli(&data(), &["bench", "validate", "vision.jsonl", "--rounds", "1", "--threads", "1", "--json"]);
    let seen = json_of(&seen);
    let rows = seen["rows"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["part"] == "images"), "{seen}");
}

#[test]
fn tokens_are_timed_only_where_it_is_said_whose() {
    check_cli(
        &data(),
        &["bench", "validate", "marv.jsonl", "--parts", "tokens"],
        expect![[r#"
        exit 2
        --- stderr
        error: whose tokens are to be counted is not known
        hint: give --model DIR or --tokenizer NAME
    "#]],
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    check_cli(
        &data(),
        &["bench", "validate", "nothing.jsonl"],
        expect![[r#"
        exit 1
        --- stderr
        error: failed to read `nothing.jsonl`
          cause: No such file or directory (os error 2)
    "#]],
    );
}

#[test]
fn validate_without_statistics_says_of_faults_alone() {
    check_cli(
        &data(),
        &["validate", "marv.jsonl", "--no-statistics"],
        expect![[r#"
        exit 0
        --- stdout
        72 examples: 72 valid, 0 invalid
    "#]],
    );
    let seen = json_of(&run_cli(&data(), &["validate", "marv.jsonl", "--no-statistics", "--json"]));
    let keys: Vec<&String> = seen["summary"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["examples", "valid", "errors", "warnings", "infos", "bytes"]);
    let seen = run_cli(&data(), &["validate", "marv.jsonl", "--no-statistics", "--tokenizer", "o200k_base"]);
    assert!(seen.starts_with("exit 2\n") && seen.contains("cannot be used with"), "{seen}");
}

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(path)
}

/// Steps on the small model with peft's adapter; the rows are examples of the golden run, by their indexes.
fn bench_train(rows: &[&[usize]], flags: &[&str]) -> Value {
    let examples: Value =
        serde_json::from_slice(&std::fs::read(fixture("golden/lora/examples.json")).unwrap()).unwrap();
    let rows: Vec<Vec<&Value>> =
        rows.iter().map(|row| row.iter().map(|&index| &examples["examples"][index]).collect()).collect();
    let dir = tempfile::tempdir().unwrap();
    afina_checkpoint::write_file(&dir.path().join("rows.json"), json!({ "rows": rows }).to_string().as_bytes())
        .unwrap();
    let (model, adapter) = (fixture("tiny_llama/tied"), fixture("golden/lora/tied_all/initial"));
    let (model, adapter) = (model.to_str().unwrap(), adapter.to_str().unwrap());
    let args = ["bench", "train", "--model", model, "--adapter", adapter, "--rows", "rows.json", "--json"];
    json_of(&run_cli(dir.path(), &[&args[..], flags].concat()))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[test]
fn a_timed_step_is_pefts_step() {
    let seen = bench_train(&[&[0], &[1], &[2], &[3]], &["--steps", "4"]);
    let counts = ["rows", "tokens", "trained_tokens", "steps"].map(|key| seen[key].as_u64().unwrap());
    assert_eq!(counts, [4, 10 + 20 + 18 + 19, 23, 4]);
    let losses = numbers(&seen["losses"]);
    assert_eq!(losses.len(), 5); // one more, which is not timed
    // `tests/fixtures/golden/lora/tied_all/run.json`, its first step
    assert!((losses[0] / 8.702994 - 1.0).abs() < 1e-4, "{losses:?}");
    assert!(losses.is_sorted_by(|one, next| one > next), "{losses:?}");

    let seconds = numbers(&seen["step_seconds"]);
    let mut timed = seconds[1..].to_vec();
    timed.sort_by(f64::total_cmp);
    let median = seen["median_seconds"].as_f64().unwrap();
    assert_eq!((seconds.len(), median), (5, (timed[1] + timed[2]) / 2.0));
    assert_eq!(seen["tokens_per_second"].as_f64().unwrap(), 67.0 / median);
    if cfg!(target_os = "linux") {
        let resident = numbers(&seen["resident_bytes"]);
        let peak = seen["peak_memory_bytes"].as_f64().unwrap();
        assert!(resident.len() == 5 && resident.iter().all(|&bytes| 1e6 < bytes && bytes <= peak), "{seen}");
    }
}

#[test]
fn rows_that_are_shared_or_computed_again_have_the_same_losses() {
    let alone = bench_train(&[&[0], &[1], &[2], &[3]], &[]);
    for seen in [bench_train(&[&[0, 1, 2], &[3]], &[]), bench_train(&[&[0], &[1], &[2], &[3]], &["--recompute"])] {
        let pairs = numbers(&seen["losses"]).into_iter().zip(numbers(&alone["losses"]));
        assert!(pairs.clone().count() == 4 && pairs.clone().all(|(a, b)| (a / b - 1.0).abs() < 1e-5), "{seen} {alone}");
        for key in ["gflop", "tokens", "trained_tokens"] {
            assert_eq!(seen[key], alone[key], "{key}");
        }
    }
}

/// A folder with the small model, a tokenizer and a chat template, and this data.
fn chat_model(data: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("tiny_llama/tied/config.json", "config.json"),
        ("tiny_llama/tied/model.safetensors", "model.safetensors"),
        ("chat/tokenizers/smollm2.json", "tokenizer.json"),
        ("chat/templates/smollm2.jinja", "chat_template.jinja"),
    ] {
        std::fs::copy(fixture(from), dir.path().join(to)).unwrap();
    }
    for (name, text) in [("tokenizer_config.json", "{\"eos_token\": \"<|im_end|>\"}"), ("chat.jsonl", data)] {
        afina_checkpoint::write_file(&dir.path().join(name), text.as_bytes()).unwrap();
    }
    dir
}

const WRITE_ROWS: [&str; 10] =
    ["bench", "train", "--model", ".", "--data", "chat.jsonl", "--seq-len", "70", "--write-rows", "rows.json"];

#[test]
fn rows_of_a_chat_file_are_those_that_training_packs() {
    let line = |question: &str, answer: &str| {
        let message = |role: &str, content: &str| json!({ "role": role, "content": content });
        let messages = [message("system", "Sé breve."), message("user", question), message("assistant", answer)];
        json!({ "messages": messages }).to_string() + "\n"
    };
    let dir = chat_model(&[line("hola", "sí"), line("¿y tú?", "no"), line("adiós", "ya")].concat());
    check_cli(
        dir.path(),
        &WRITE_ROWS,
        expect![[r#"
            exit 0
            --- stdout
            wrote 2 rows to rows.json: 93 tokens, 8 trained
        "#]],
    );
    let file: Value = serde_json::from_slice(&std::fs::read(dir.path().join("rows.json")).unwrap()).unwrap();
    let rows: Vec<Vec<(usize, usize)>> = file["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let trained = |mask: &Value| mask.as_array().unwrap().iter().filter(|&bit| bit == true).count();
            let lengths =
                |example: &Value| (example["tokens"].as_array().unwrap().len(), trained(&example["loss_mask"]));
            row.as_array().unwrap().iter().map(lengths).collect()
        })
        .collect();
    expect!["[[(30, 3)], [(32, 2), (31, 3)]]"].assert_eq(&format!("{rows:?}"));
    // The tokenizer knows more tokens than this small model.
    check_cli(
        dir.path(),
        &["bench", "train", "--model", ".", "--rows", "rows.json"],
        expect![[r#"
        exit 1
        --- stderr
        error: row 1 of `rows.json`
          cause: expected tokens below 160, found 624
    "#]],
    );
}

#[test]
fn rows_are_made_of_valid_chats_alone() {
    let dir = chat_model("{\"messages\":[{\"role\":\"user\",\"content\":\"hola\"}]}\n");
    check_cli(
        dir.path(),
        &WRITE_ROWS,
        expect![[r#"
        exit 3
        --- stderr
        chat.jsonl:1:13: error[missing-assistant-message] /messages: expected an assistant message to learn, found none
          hint: add the answer as the last message
        1 example: 0 valid, 1 invalid; 1 error
        error: `chat.jsonl` has errors
        hint: mend the lines above; `afina explain RULE` says more of a rule
    "#]],
    );
    assert!(!dir.path().join("rows.json").exists());
}

#[test]
fn rows_that_cannot_be_trained_on_are_refused() {
    let dir = chat_model("");
    let check = |rows: &str, expect| {
        afina_checkpoint::write_file(&dir.path().join("rows.json"), rows.as_bytes()).unwrap();
        check_cli(dir.path(), &["bench", "train", "--model", ".", "--rows", "rows.json"], expect);
    };
    check(
        r#"{"rows":[[{"tokens":[5,6],"loss_mask":[true]}]]}"#,
        expect![[r#"
        exit 1
        --- stderr
        error: row 1 of `rows.json`
          cause: expected a `loss_mask` of 2 entries, one a token, found 1
    "#]],
    );
    // The first token of an example is the target of nothing.
    check(
        r#"{"rows":[[{"tokens":[5],"loss_mask":[true]}]]}"#,
        expect![[r#"
        exit 1
        --- stderr
        error: no token of `rows.json` is trained
    "#]],
    );
}
