//! `afina plan`: what a run would take, and the settings that fit.

use std::path::Path;

use serde_json::Value;

use crate::check::run_cli;
use crate::training::workplace;

fn json(dir: &Path, more: &[&str]) -> Value {
    let seen = run_cli(dir, &[&["plan", "r.toml", "--json"], more].concat());
    assert!(seen.starts_with("exit 0\n"), "{seen}");
    serde_json::from_str(seen.lines().find(|line| line.starts_with('{')).expect("one line of JSON")).unwrap()
}

fn bytes(value: &Value, class: &str) -> u64 {
    value["memory"]["classes"][class].as_u64().unwrap()
}

#[test]
fn plan_tells_memory_by_class_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    workplace(dir.path(), 3);
    let seen = run_cli(dir.path(), &["plan", "r.toml", "train.precision=f32"]);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..2], ["exit 0", "--- stdout"], "{seen}");
    assert!(lines[2].starts_with("steps          3, each of 2 micro-batches × 1 row; "), "{seen}");
    assert_eq!(
        lines[3], "settings       f32, r 4 (3,712 parameters), activations are kept for the backward pass",
        "{seen}"
    );
    for (line, begins) in lines[4..].iter().zip([
        "memory                                  at the peak     at most",
        "  base weights                         ",
        "  adapter and optimizer                ",
        "  kept activations                     ",
        "  what one block works with            ",
        "  hidden states and logits at the head ",
        "  a tensor that is being loaded        ",
        "  program, tokenizer and data          ",
        "  peak                                 ",
    ]) {
        assert!(line.starts_with(begins), "{seen}");
    }
    assert!(!dir.path().join("whole").exists(), "no run folder");

    let kept = json(dir.path(), &["train.gradient_checkpointing=off", "train.precision=f32"]);
    let classes = kept["memory"]["classes"].as_object().unwrap();
    assert_eq!(kept["memory"]["peak"], classes.values().map(|bytes| bytes.as_u64().unwrap()).sum::<u64>());
    // Two layers of 32: q and o are 32 × 32, k and v 16 × 32, gate and up 48 × 32, with columns padded to 48; down 32 × 48.
    let matrices = 1024 * 48 + 2 * (32 + 16 + 16 + 32 + 48 + 48 + 32) * 48;
    let norms = 2 * 5 * 32;
    assert_eq!(bytes(&kept, "base_weights"), 4 * (matrices + norms));
    let halved = json(dir.path(), &["train.gradient_checkpointing=off", "train.precision=bf16"]);
    assert_eq!(bytes(&halved, "base_weights"), 2 * matrices + 4 * norms);
    let again = json(dir.path(), &["train.gradient_checkpointing=on", "train.precision=f32"]);
    // The rest is measured, and differs by more than a tiny model's activations.
    let backward = |plan: &Value| plan["memory"]["moments"]["backward"].as_u64().unwrap() - bytes(plan, "rest");
    assert!(backward(&again) < backward(&kept));
    assert_eq!((&again["recompute"], &kept["recompute"]), (&true.into(), &false.into()));
}

#[test]
fn a_probe_tells_the_time_of_the_run() {
    let dir = tempfile::tempdir().unwrap();
    workplace(dir.path(), 4);
    let probed = json(dir.path(), &["--probe"]);
    let time = &probed["time"];
    let number = |name: &str| time[name].as_f64().unwrap();
    assert_eq!(time["measured"].as_array().unwrap().len(), 3);
    assert!(number("median_step_seconds") > 0.0 && number("run_seconds") > 3.0 * number("median_step_seconds"));
    assert!(number("seconds_per_token") > 0.0 && number("tokens_per_second") > 0.0, "{time}");
    let seen = run_cli(dir.path(), &["plan", "r.toml", "--probe"]);
    assert!(seen.contains("\ntime           ") && seen.contains(" s a step (median), "), "{seen}");
    assert!(!dir.path().join("whole").exists(), "no run folder");
}

#[test]
fn fit_finds_the_fastest_setting_or_says_what_the_least_takes() {
    let dir = tempfile::tempdir().unwrap();
    workplace(dir.path(), 3);
    let seen = run_cli(dir.path(), &["plan", "r.toml", "--fit", "4GB"]);
    let fastest = if afina_train::rounds_activations() { "bf16" } else { "f32" };
    let all_rows_at_once = format!(
        "fits           into 4.00 GB, with: afina train r.toml train.micro_batch_size=2 train.gradient_accumulation_steps=1 \
         train.gradient_checkpointing=off train.precision={fastest}\n"
    );
    assert!(seen.starts_with("exit 0\n") && seen.contains(&all_rows_at_once), "{seen}");

    let seen = run_cli(dir.path(), &["plan", "r.toml", "--fit", "4GB", "lora.r=2", "train.precision=f32"]);
    assert!(seen.contains("afina train r.toml lora.r=2 train.micro_batch_size=2 "), "each key once: {seen}");
    assert!(seen.contains(" train.gradient_checkpointing=off train.precision=f32\n"), "{seen}");

    let seen = run_cli(dir.path(), &["plan", "r.toml", "--fit", "1MB", "train.precision=bf16"]);
    assert!(seen.starts_with("exit 4\n"), "{seen}");
    assert!(seen.contains("error: no setting fits into 1.0 MB: it takes "), "{seen}");
    assert!(seen.contains(" at least, with train.micro_batch_size=1 train.gradient_accumulation_steps=2 "), "{seen}");
    assert!(seen.contains("train.precision=bf16\nhint: "), "the recipe's own precision stays: {seen}");

    for size in ["4", "4GiB", "-1GB"] {
        let seen = run_cli(dir.path(), &["plan", "r.toml", &format!("--fit={size}")]);
        assert!(seen.starts_with("exit 2\n") && seen.contains("expected a size in kB, MB or GB, found `"), "{seen}");
    }
}

#[test]
fn a_run_above_its_memory_limit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    workplace(dir.path(), 2);
    let seen = run_cli(dir.path(), &["train", "r.toml", "device.memory_limit=1MB"]);
    assert!(seen.starts_with("exit 4\n"), "{seen}");
    assert!(seen.contains(" of memory, `device.memory_limit` allows 1.0 MB\nhint: `afina plan "), "{seen}");
    assert!(!dir.path().join("whole/metrics.jsonl").exists());
    let seen = run_cli(dir.path(), &["plan", "r.toml", "device.memory_limit=1MB"]);
    assert!(seen.starts_with("exit 4\n--- stdout\nsteps "), "the table comes first: {seen}");
    let seen = run_cli(dir.path(), &["plan", "r.toml", "device.memory_limit=1MB", "--fit", "4GB"]);
    assert!(seen.starts_with("exit 4\n") && seen.contains("no setting fits into 1.0 MB"), "{seen}");
    let seen = run_cli(dir.path(), &["train", "r.toml", "device.memory_limit=8GB"]);
    assert!(seen.starts_with("exit 0\n"), "{seen}");
    let seen = run_cli(dir.path(), &["train", "r.toml", "device.memory_limit=8 gigabytes"]);
    assert!(seen.starts_with("exit 2\n") && seen.contains("expected a size in kB, MB or GB"), "{seen}");
}
