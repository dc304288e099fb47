//! `afina bench validate`, and the quick run of `afina validate`.

use std::path::{Path, PathBuf};

use expect_test::expect;
use serde_json::Value;

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
