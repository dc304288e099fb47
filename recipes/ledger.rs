//! What every training example's loss was each time it was seen: which lines were never learned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use afina_data::TokenizedExample;
use afina_train::ExampleLoss;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The log's name in the run's folder.
pub(crate) const LEDGER: &str = "ledger.jsonl";

/// Where an example comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place<F = PathBuf> {
    pub file: F,
    pub line: usize,
    /// From 1, where a line was split into several examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub piece: Option<usize>,
}

/// One line of the ledger.
#[derive(Serialize, Deserialize)]
struct Seen<F = PathBuf> {
    step: usize,
    #[serde(flatten)]
    place: Place<F>,
    /// Nats per trained token, before the step that saw it moved the adapter.
    loss: f32,
    /// Trained tokens.
    tokens: usize,
}

/// An example's history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub place: Place,
    /// Nats per trained token, when it was first and last seen.
    pub first_loss: f32,
    pub last_loss: f32,
    pub seen: usize,
    /// Trained tokens.
    pub tokens: usize,
}

/// The places of all examples, which stand in the order of their files.
pub(crate) fn places<'f>(examples: &[TokenizedExample], file_of: &[&'f Path]) -> Vec<Place<&'f Path>> {
    let lines: Vec<(&'f Path, usize)> =
        file_of.iter().copied().zip(examples.iter().map(|example| example.line)).collect();
    let of_line = |pieces: &[(&'f Path, usize)]| -> Vec<Place<&'f Path>> {
        let ((file, line), of) = (pieces[0], pieces.len());
        (1..=of).map(|piece| Place { file, line, piece: (of > 1).then_some(piece) }).collect()
    };
    lines.chunk_by(|a, b| a == b).flat_map(of_line).collect()
}

/// The ledger's lines for a step: `examples` are its indexes into `places`, `losses` stand in the same order.
pub(crate) fn entries(
    step: usize,
    examples: impl Iterator<Item = usize>,
    losses: &[ExampleLoss],
    places: &[Place<&Path>],
) -> Result<String> {
    let mut lines = String::new();
    for (index, &ExampleLoss { nats, tokens }) in examples.zip(losses) {
        let seen = Seen { step, place: places[index].clone(), loss: (nats / tokens as f64) as f32, tokens };
        lines += &serde_json::to_string(&seen)?;
        lines.push('\n');
    }
    Ok(lines)
}

/// The examples of a run, those with the highest loss when last seen first.
pub fn learned_rows(run: &Path) -> Result<Vec<Row>> {
    let path = run.join(LEDGER);
    let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
    let mut rows: BTreeMap<Place, Row> = BTreeMap::new();
    // A last line without its end was cut off by a kill.
    for (index, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| line.ends_with('\n')) {
        let Seen { place, loss, tokens, .. } = serde_json::from_str(line)
            .with_context(|| format!("`{}`: line {} is broken", path.display(), index + 1))?;
        let new = Row { place: place.clone(), first_loss: loss, last_loss: loss, seen: 0, tokens };
        let row = rows.entry(place).or_insert(new);
        row.last_loss = loss;
        row.seen += 1;
    }
    let mut rows: Vec<Row> = rows.into_values().collect();
    rows.sort_by(|a, b| b.last_loss.total_cmp(&a.last_loss));
    Ok(rows)
}
