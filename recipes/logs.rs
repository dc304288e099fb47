//! The files of a run beside its checkpoints: what it was made from, and what was measured.

use std::collections::BTreeMap;

use afina_checkpoint::RunDir;
use afina_train::{Metrics, csv_header, csv_row};
use anyhow::{Context, Result};

use crate::ledger::LEDGER;
use crate::{Excess, Recipe};

/// The files that grow with the run, step by step.
const LOGS: [&str; 4] = ["metrics.jsonl", "metrics.csv", LEDGER, "samples.jsonl"];

/// What was too long, line by line.
const EXCESS: &str = "excess.jsonl";

/// Starts the run's files, or cuts the logs back to where a resumed run goes on.
pub(crate) fn begin_logs(
    recipe: &Recipe,
    run_dir: &RunDir,
    fingerprints: &BTreeMap<String, String>,
    step: usize,
    excess: &[Excess],
) -> Result<()> {
    let manifest = serde_json::json!({
        "program": concat!("afina ", env!("CARGO_PKG_VERSION")),
        "seed": recipe.seed,
        "device": recipe.device.device,
        "chat_template": recipe.data.chat_template,
        "sha256": fingerprints,
    });
    let failed = || format!("failed to write the logs of `{}`", run_dir.path().display());
    run_dir.write("recipe.toml", recipe.resolved().as_bytes()).with_context(failed)?;
    run_dir.write("manifest.json", &serde_json::to_vec_pretty(&manifest)?).with_context(failed)?;
    let excess: Vec<String> = excess.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    match excess.is_empty() {
        true => run_dir.remove(EXCESS).with_context(failed)?,
        false => run_dir.write(EXCESS, (excess.join("\n") + "\n").as_bytes()).with_context(failed)?,
    }
    if step == 0 {
        LOGS.iter().try_for_each(|name| run_dir.remove(name)).with_context(failed)?;
        return append(run_dir, "metrics.csv", &format!("{}\n", csv_header()));
    }
    for name in LOGS {
        let number = |line: &str| match name.ends_with(".csv") {
            true => line.split(',').next()?.parse().ok(),
            false => serde_json::from_str::<Logged>(line).ok().map(|logged| logged.step),
        };
        let is_header = |line: &str| line == csv_header();
        let keep = |line: &str| is_header(line) || number(line).is_some_and(|logged| logged <= step);
        run_dir.retain_lines(name, keep).with_context(failed)?;
    }
    Ok(())
}

/// What every line of a log has.
#[derive(serde::Deserialize)]
struct Logged {
    step: usize,
}

/// Writes down what a step was, and the ledger's lines on its examples.
pub(crate) fn log_step(run_dir: &RunDir, metrics: &Metrics, seen: &str) -> Result<()> {
    append(run_dir, LEDGER, seen)?;
    append(run_dir, "metrics.jsonl", &format!("{}\n", serde_json::to_string(metrics)?))?;
    append(run_dir, "metrics.csv", &format!("{}\n", csv_row(metrics)))
}

/// Writes down what the model answered.
pub(crate) fn log_sample(run_dir: &RunDir, step: usize, prompt: &str, text: &str) -> Result<()> {
    let line = serde_json::json!({ "step": step, "prompt": prompt, "text": text });
    append(run_dir, "samples.jsonl", &format!("{line}\n"))
}

/// Adds lines to a log.
fn append(run_dir: &RunDir, name: &str, lines: &str) -> Result<()> {
    run_dir.append(name, lines).with_context(|| format!("failed to write `{}`", run_dir.file(name).display()))
}

/// Sees to it that the logs are on the disk before the checkpoint that they lead up to.
pub(crate) fn sync_logs(run_dir: &RunDir) -> Result<()> {
    for name in LOGS {
        run_dir.sync(name).with_context(|| format!("failed to write `{}`", run_dir.file(name).display()))?;
    }
    Ok(())
}

/// What the log's last line says: where a run that is resumed with nothing left to do stands.
pub(crate) fn last_metrics(run_dir: &RunDir) -> Option<Metrics> {
    let log = std::fs::read_to_string(run_dir.file("metrics.jsonl")).ok()?;
    serde_json::from_str(log.lines().last()?).ok()
}
