//! What the tests of the loop share: a tiny random Llama, a recipe for it, and a look at what a run left.

use std::path::Path;

use afina_checkpoint::write_file;
use afina_ops::test_device;

use crate::{Control, Event, Recipe, Summary, run};

#[path = "../tests/tiny_model.rs"]
mod tiny_model;

pub(crate) use tiny_model::model_dir;

/// A short run on nine lines that the folder holds.
pub(crate) fn recipe(dir: &Path, run: &str, overrides: &[&str]) -> Recipe {
    let lines: String = (0..9)
        .map(|i| {
            format!(
                "{{\"messages\":[{{\"role\":\"user\",\"content\":\"pregunta {i}\"}},{{\"role\":\"assistant\",\"content\":\"{}\"}}]}}\n",
                "sí ".repeat(i + 1).trim_end()
            )
        })
        .collect();
    write_file(&dir.join("train.jsonl"), lines.as_bytes()).unwrap();
    let text = format!(
        "version = 1\nrecipe = \"lora_finetune\"\nrun = \"{0}/{run}\"\n[model]\nbase = \"{0}/base\"\n[lora]\nr = 4\n[data]\ntrain = [\"{0}/train.jsonl\"]\nvalidation = [\"{0}/train.jsonl\"]\nseq_len = 128\n[train]\nmax_steps = 7\nmicro_batch_size = 1\ngradient_accumulation_steps = 2\nlearning_rate = 1e-2\n[eval]\nevery_steps = 3\n[save]\nevery_steps = 2\nkeep = 1\n",
        dir.display()
    );
    let overrides: Vec<String> = overrides.iter().map(|&given| given.to_owned()).collect();
    Recipe::parse(&text, &overrides).unwrap()
}

/// Runs a recipe, up to a step where one is given.
pub(crate) fn train(recipe: &Recipe, resume: bool, stop_after: Option<usize>) -> anyhow::Result<Summary> {
    train_until(
        recipe,
        resume,
        |event| matches!(event, Event::Step { metrics, .. } if Some(metrics.step) == stop_after),
    )
}

/// Runs a recipe, up to the first event of which `stop` says yes.
pub(crate) fn train_until(
    recipe: &Recipe,
    resume: bool,
    mut stop: impl FnMut(&Event<'_>) -> bool,
) -> anyhow::Result<Summary> {
    run(recipe, &test_device(), resume, &mut |event| if stop(&event) { Control::Stop } else { Control::Continue })
}

/// The log without what a clock or the machine decides.
pub(crate) fn log(recipe: &Recipe) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(Path::new(&recipe.run).join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut metrics: serde_json::Value = serde_json::from_str(line).unwrap();
            metrics["tokens_per_second"] = 0.into();
            metrics["peak_memory"] = 0.into();
            metrics
        })
        .collect()
}

pub(crate) fn adapter(recipe: &Recipe) -> Vec<u8> {
    std::fs::read(Path::new(&recipe.run).join("adapter_model.safetensors")).unwrap()
}
