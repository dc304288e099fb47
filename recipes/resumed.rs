//! The loop, end to end, on a tiny random Llama: a run that is stopped and resumed is the run that never was.

use std::path::Path;

use afina_checkpoint::{RunDir, write_file};

use crate::testing::{adapter, log, model_dir, recipe, train, train_until};
use crate::{Event, Recipe, ResumeRefused};

#[test]
fn a_resumed_run_leaves_the_bytes_of_one_that_was_never_stopped() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    let whole = recipe(dir.path(), "whole", &[]);
    let summary = train(&whole, false, None).unwrap();
    assert_eq!((summary.step, summary.interrupted), (7, false));
    for stop in [1, 3, 6] {
        let stopped = recipe(dir.path(), &format!("stopped-{stop}"), &[]);
        let summary = train(&stopped, false, Some(stop)).unwrap();
        assert_eq!((summary.step, summary.interrupted), (stop, true));
        assert!(!Path::new(&stopped.run).join("adapter_model.safetensors").exists());
        train(&stopped, true, None).unwrap();
        assert!(adapter(&stopped) == adapter(&whole), "stopped after step {stop}");
        assert_eq!(log(&stopped), log(&whole), "stopped after step {stop}");
    }
}

#[test]
fn a_run_goes_on_inside_a_step_as_if_it_had_never_stopped() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    let overrides = ["data.packing=false", "train.gradient_accumulation_steps=3"]; // 9 examples: 3 steps an epoch
    let whole = recipe(dir.path(), "whole", &overrides);
    train(&whole, false, None).unwrap();
    // Between the micro-batches of the first step, of one with a checkpoint before it, of one without; and twice in one step.
    for (run, stops) in
        [("first", &[(1, 2)][..]), ("saved", &[(3, 1)]), ("unsaved", &[(4, 2)]), ("twice", &[(6, 1), (6, 2)])]
    {
        let stopped = recipe(dir.path(), run, &overrides);
        for (index, &stop) in stops.iter().enumerate() {
            let summary = train_until(
                &stopped,
                index > 0,
                |event| matches!(event, Event::MicroBatch { step, done, .. } if (*step, *done) == stop),
            )
            .unwrap();
            assert_eq!((summary.step, summary.interrupted), (stop.0 - 1, true), "{run}");
        }
        let mut read = 0;
        let count = |event: &Event<'_>| {
            read += usize::from(matches!(event, Event::MicroBatch { .. }));
            false
        };
        train_until(&stopped, true, count).unwrap();
        let (step, done) = stops[stops.len() - 1];
        assert_eq!(read, 7 * 3 - (step - 1) * 3 - done, "{run}: no micro-batch is read twice");
        assert!(adapter(&stopped) == adapter(&whole), "{run}");
        assert_eq!(log(&stopped), log(&whole), "{run}");
        assert!(!Path::new(&stopped.run).join("partial").exists(), "{run}");
    }
}

#[test]
fn a_run_that_was_stopped_before_its_first_checkpoint_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    let recipe = recipe(dir.path(), "r", &[]);
    let error = train(&recipe, true, None).unwrap_err().to_string();
    assert!(error.ends_with("r` holds no run to resume") && !Path::new(&recipe.run).exists(), "{error}");
    let summary = train_until(&recipe, false, |event| matches!(event, Event::Loading { .. })).unwrap();
    assert_eq!((summary.step, summary.interrupted, summary.metrics), (0, true, None));
    assert_eq!(train(&recipe, true, None).unwrap().step, 7);
}

#[test]
fn a_log_line_that_a_kill_cut_off_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    let [whole, stopped] = ["whole", "stopped"].map(|run| recipe(dir.path(), run, &["eval.samples=¿qué?"]));
    train(&whole, false, None).unwrap();
    train(&stopped, false, Some(3)).unwrap();
    let run = RunDir::create(Path::new(&stopped.run)).unwrap();
    for (name, cut) in [
        ("metrics.jsonl", "{\"step\":4,\"epoch\":0.5,\"lo"),
        ("metrics.csv", "4"),
        ("ledger.jsonl", "{\"step\":4,\"file\":\"x\"}\n{\"step\":4,\"fi"),
        ("samples.jsonl", "{"),
    ] {
        run.append(name, cut).unwrap();
    }
    train(&stopped, true, None).unwrap();
    assert_eq!(log(&stopped), log(&whole));
    let read = |recipe: &Recipe, name: &str| std::fs::read_to_string(Path::new(&recipe.run).join(name)).unwrap();
    for name in ["ledger.jsonl", "samples.jsonl"] {
        assert_eq!(read(&stopped, name), read(&whole, name));
    }
    let steps = |recipe: &Recipe| -> Vec<String> {
        read(recipe, "metrics.csv").lines().map(|line| line.split(',').next().unwrap().to_owned()).collect()
    };
    assert_eq!(steps(&stopped), ["step", "1", "2", "3", "4", "5", "6", "7"]);
}

#[test]
fn a_run_goes_on_as_it_began_whatever_memory_is_free() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    let recipe = recipe(dir.path(), "r", &["train.gradient_checkpointing=auto"]);
    train(&recipe, false, Some(3)).unwrap();
    let path = Path::new(&recipe.run).join("step-000003/state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(state["recompute"], false, "a tiny model fits into any memory");
    state["recompute"] = true.into(); // as if it had begun where memory was short
    write_file(&path, state.to_string().as_bytes()).unwrap();
    let mut recomputes = None;
    train_until(&recipe, true, |event| {
        if let Event::Started(start) = event {
            recomputes = Some(start.recompute);
        }
        false
    })
    .unwrap();
    assert_eq!(recomputes, Some(true));
}

#[test]
fn what_a_run_depends_on_may_not_change_under_it() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    train(&recipe(dir.path(), "r", &[]), false, Some(2)).unwrap();
    let refused = |recipe: &Recipe| {
        let error = train(recipe, true, None).unwrap_err();
        error.downcast_ref::<ResumeRefused>().unwrap_or_else(|| panic!("{error:#}")).what.clone()
    };
    assert_eq!(refused(&recipe(dir.path(), "r", &["lora.r=8"])), "the recipe");
    let same = recipe(dir.path(), "r", &["save.keep=3"]); // decides nothing that is computed
    let data = dir.path().join("train.jsonl");
    let text = std::fs::read_to_string(&data).unwrap();
    write_file(&data, text.replace("pregunta 0", "pregunta x").as_bytes()).unwrap();
    assert_eq!(refused(&same), format!("the data file `{}`", data.display()));
    write_file(&data, text.as_bytes()).unwrap();
    train(&same, true, None).unwrap();
}

#[test]
fn a_finished_or_stopped_run_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    let recipe = recipe(dir.path(), "r", &[]);
    train(&recipe, false, Some(1)).unwrap();
    let error = train(&recipe, false, None).unwrap_err().to_string();
    assert!(error.contains("holds an earlier run"), "{error}");
}

#[test]
fn a_resumed_run_on_weighted_files_leaves_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    let file = |name: &str| dir.path().join(name).display().to_string();
    let weighted = format!(
        "data.train=[\"{}\", {{ path = \"{}\", weight = 0.5 }}, {{ path = \"{}\", weight = 2 }}]",
        file("train.jsonl"),
        file("half.jsonl"),
        file("twice.jsonl")
    );
    // Unpacked, so that an epoch has several steps: 9 + 2 or 3 + 2 × 4 examples, two a step.
    let overrides = [weighted.as_str(), "data.packing=false", "train.max_steps=14", "eval.every_steps=0"];
    for (name, lines) in [("half", 5), ("twice", 4)] {
        let line = |i| {
            format!(
                "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{name} {i}\"}},{{\"role\":\"assistant\",\"content\":\"no\"}}]}}\n"
            )
        };
        write_file(&dir.path().join(format!("{name}.jsonl")), (0..lines).map(line).collect::<String>().as_bytes())
            .unwrap();
    }
    let whole = recipe(dir.path(), "whole", &overrides);
    assert_eq!(train(&whole, false, None).unwrap().step, 14);
    for stop in [4, 11] {
        let stopped = recipe(dir.path(), &format!("stopped-{stop}"), &overrides);
        assert!(train(&stopped, false, Some(stop)).unwrap().interrupted);
        train(&stopped, true, None).unwrap();
        assert!(adapter(&stopped) == adapter(&whole), "stopped after step {stop}");
        assert_eq!(log(&stopped), log(&whole), "stopped after step {stop}");
    }
    let lighter =
        recipe(dir.path(), "stopped-4", &[overrides[0].replace("0.5", "0.25").as_str(), overrides[1], overrides[2]]);
    let error = train(&lighter, true, None).unwrap_err();
    assert!(error.is::<ResumeRefused>(), "a weight is part of what a run depends on: {error:#}");
    let resolved = std::fs::read_to_string(Path::new(&whole.run).join("recipe.toml")).unwrap();
    assert_eq!(Recipe::parse(&resolved, &[]).unwrap(), whole);
}
