//! What evaluations decide: when a run stops, which adapter is its best, what it answers meanwhile.

use std::path::Path;

use afina_checkpoint::{RunDir, write_file};

use crate::testing::{adapter, log, model_dir, recipe, train};
use crate::{Recipe, learned_rows};

fn read(recipe: &Recipe, name: &str) -> String {
    let path = Path::new(&recipe.run).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A run whose validation loss falls at first and then rises: it learns answers that validation does not have.
fn overfitting(dir: &Path, run: &str, more: &[&str]) -> Recipe {
    let line = |answer: &str| {
        format!(
            "{{\"messages\":[{{\"role\":\"user\",\"content\":\"pregunta\"}},{{\"role\":\"assistant\",\"content\":\"{answer}\"}}]}}\n"
        )
    };
    let validation = dir.join("valid.jsonl");
    write_file(&validation, line("sí, claro que no: 1 2 3").as_bytes()).unwrap();
    let validation = format!("data.validation={}", validation.display());
    let fixed = [
        validation.as_str(),
        "train.max_steps=60",
        "train.learning_rate=5e-2",
        "train.lr_scheduler=constant",
        "eval.every_steps=2",
        "early_stopping.patience=3",
        "save.best=true",
        "save.every_steps=3",
        "save.keep=2",
        "eval.samples=[\"pregunta 1\", \"¿qué?\"]",
    ];
    recipe(dir, run, &[&fixed[..], more].concat())
}

#[test]
fn a_run_stops_early_at_the_same_step_however_often_it_is_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    let whole = overfitting(dir.path(), "whole", &[]);
    let summary = train(&whole, false, None).unwrap();
    let best = summary.best.unwrap();
    assert!(!summary.interrupted && summary.step < 60, "it stops early: {summary:?}");
    assert_eq!(summary.step, best.step + 3 * 2, "after three evaluations without a better one");

    // The log says the same.
    let losses: Vec<(usize, f64)> = log(&whole)
        .iter()
        .filter_map(|metrics| Some((metrics["step"].as_u64()? as usize, metrics["eval_loss"].as_f64()?)))
        .collect();
    let lowest = losses.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert_eq!(*lowest, (best.step, best.eval_loss));

    // The finished adapter is the best one; beside it the two newest checkpoints are kept.
    let run = RunDir::create(Path::new(&whole.run)).unwrap();
    assert_eq!(read(&whole, "best"), format!("step-{:06}\n", best.step));
    assert!(std::fs::read(run.step_dir(best.step).join("adapter_model.safetensors")).unwrap() == adapter(&whole));
    let last_due = (summary.step - 1) / 3 * 3;
    assert_eq!(run.steps(), [best.step, last_due, summary.step]);

    let stopped = overfitting(dir.path(), "stopped", &[]);
    assert!(train(&stopped, false, Some(1)).unwrap().interrupted);
    for step in 2..summary.step {
        let (stop, resumed) = (Some(step), train(&stopped, true, Some(step)).unwrap());
        assert!(resumed.interrupted && Some(resumed.step) == stop);
    }
    for _ in 0..2 {
        // The second time there is nothing left to do.
        let resumed = train(&stopped, true, None).unwrap();
        assert_eq!((resumed.step, resumed.best, resumed.interrupted), (summary.step, summary.best, false));
        assert!(adapter(&stopped) == adapter(&whole));
        assert_eq!(log(&stopped), log(&whole));
        for name in ["samples.jsonl", "ledger.jsonl", "best", "latest"] {
            assert_eq!(read(&stopped, name), read(&whole, name), "{name}");
        }
    }
    let patient = overfitting(dir.path(), "stopped", &["early_stopping.patience=4"]);
    assert!(train(&patient, true, None).is_err(), "what stops a run is part of what it depends on");
}

#[test]
fn prompts_are_answered_at_each_evaluation() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    let recipe = recipe(dir.path(), "r", &["eval.samples=pregunta 8", "train.max_steps=7"]);
    train(&recipe, false, None).unwrap();
    let samples: Vec<serde_json::Value> =
        read(&recipe, "samples.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<u64> = samples.iter().map(|sample| sample["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [3, 6, 7]);
    assert!(samples.iter().all(|sample| sample["prompt"] == "pregunta 8" && sample["text"].is_string()));
    let long = format!("eval.samples={}", "palabra ".repeat(4096));
    let error = train(&crate::testing::recipe(dir.path(), "long", &[&long]), false, None).unwrap_err().to_string();
    assert!(error.contains("leaves no room for an answer in 4096"), "{error}");
}

#[test]
fn the_ledger_has_the_loss_of_every_example_each_time_it_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    let recipe = recipe(dir.path(), "r", &["data.packing=false", "train.max_steps=10"]); // 9 examples in 5 steps: two epochs
    train(&recipe, false, None).unwrap();
    let rows = learned_rows(Path::new(&recipe.run)).unwrap();
    let mut lines: Vec<usize> = rows.iter().map(|row| row.place.line).collect();
    lines.sort_unstable();
    assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(rows.iter().all(|row| row.seen == 2 && row.place.file.ends_with("train.jsonl")));
    assert!(rows.is_sorted_by(|a, b| a.last_loss >= b.last_loss));
    // A step's loss is its examples', each weighed by its tokens.
    let entries: Vec<serde_json::Value> =
        read(&recipe, "ledger.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for metrics in log(&recipe) {
        let of_step = entries.iter().filter(|entry| entry["step"] == metrics["step"]);
        let (nats, tokens) = of_step.fold((0.0, 0.0), |(nats, all), entry| {
            let tokens = entry["tokens"].as_f64().unwrap();
            (nats + entry["loss"].as_f64().unwrap() * tokens, all + tokens)
        });
        let loss = metrics["loss"].as_f64().unwrap();
        assert!((nats / tokens - loss).abs() < 1e-6 * loss, "{metrics}: {}", nats / tokens);
    }
}
