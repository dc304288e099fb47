//! The files of a run beside its checkpoints: what it was made from, and what was measured.

use std::collections::BTreeMap;

use afina_checkpoint::RunDir;
use afina_train::{Metrics, csv_header, csv_row};
use anyhow::{Context, Result};

use crate::Recipe;

/// The files that grow with the run, step by step.
const LOGS: [&str; 2] = ["metrics.jsonl", "metrics.csv"];

/// Starts the run's files, or cuts the logs back to where a resumed run goes on.
pub(crate) fn begin_logs(
    recipe: &Recipe,
    run_dir: &RunDir,
    fingerprints: &BTreeMap<String, String>,
    step: usize,
) -> Result<()> {
    let manifest = serde_json::json!({
        "program": concat!("afina ", env!("CARGO_PKG_VERSION")),
        "seed": recipe.seed,
        "device": recipe.device.device,
        "chat_template": recipe.data.chat_template,
        "sha256": fingerprints,
    });
    run_dir.write("recipe.toml", recipe.resolved().as_bytes())?;
    run_dir.write("manifest.json", &serde_json::to_vec_pretty(&manifest)?)?;
    if step == 0 {
        LOGS.iter().try_for_each(|name| run_dir.remove(name))?;
        run_dir.write("metrics.csv", format!("{}\n", csv_header()).as_bytes())?;
        return Ok(());
    }
    for name in LOGS {
        let number = |line: &str| match name.ends_with(".csv") {
            true => line.split(',').next()?.parse().ok(),
            false => serde_json::from_str::<Logged>(line).ok().map(|logged| logged.step),
        };
        let is_header = |line: &str| line == csv_header();
        run_dir.retain_lines(name, |line| is_header(line) || number(line).is_some_and(|logged| logged <= step))?;
    }
    Ok(())
}

/// What every line of a log has.
#[derive(serde::Deserialize)]
struct Logged {
    step: usize,
}

/// Writes down what a step was.
pub(crate) fn log_step(run_dir: &RunDir, metrics: &Metrics) -> Result<()> {
    append(run_dir, "metrics.jsonl", &format!("{}\n", serde_json::to_string(metrics)?))?;
    append(run_dir, "metrics.csv", &format!("{}\n", csv_row(metrics)))
}

/// Adds lines to a log.
pub(crate) fn append(run_dir: &RunDir, name: &str, lines: &str) -> Result<()> {
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
