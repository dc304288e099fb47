//! Another program's logits: tokens go to it in a safetensors file, and logits come back in one.

use std::path::Path;
use std::process::{Command, Stdio};

use afina_checkpoint::{Dtype, RawTensor, SafetensorsFile, write_tensors};
use afina_data::TokenizedExample;
use afina_eval::{Divergence, divergence_of_logits};
use anyhow::{Context, Result, bail};

use super::training_graph::TrainingGraph;
use crate::args::Peer;
use crate::output::Output;

/// Lines of what a failed peer wrote to its standard error that are shown.
const SHOWN: usize = 5;

/// What a peer computed, and the file that it says it computed with.
pub struct PeerRun {
    pub divergence: Divergence,
    pub model: Option<String>,
}

/// Runs a peer on all examples and compares it with the training graph.
pub fn run(peer: &Peer, graph: &TrainingGraph, output: &Output) -> Result<PeerRun> {
    let dir = tempfile::tempdir().context("failed to make a temporary folder")?;
    let [tokens, logits] = ["tokens.safetensors", "logits.safetensors"].map(|name| dir.path().join(name));
    write_tensors(&tokens, &token_tensors(&graph.examples)).context("failed to write the tokens")?;
    output.note(&format!("running {} on {} conversations", peer.name, graph.examples.len()));
    call(peer, &tokens, &logits)?;

    let file = SafetensorsFile::open(&logits).context("it has written no logits that can be read")?;
    let vocabulary = graph.llama().config.vocab_size;
    let bar = output.progress(graph.examples.len() as u64, "logits {bar:30} {pos}/{len}");
    let divergence = divergence_of_logits(
        graph.llama(),
        &graph.examples,
        &mut |index| read_logits(&file, index, [graph.examples[index].tokens.len(), vocabulary]),
        &mut |done, _| bar.set_position(done as u64),
    )?;
    bar.finish_and_clear();
    Ok(PeerRun { divergence, model: file.metadata().get("model").cloned() })
}

fn token_tensors(examples: &[TokenizedExample]) -> Vec<RawTensor> {
    let tensor = |(index, example): (usize, &TokenizedExample)| RawTensor {
        name: format!("tokens.{index}"),
        dtype: Dtype::I32,
        shape: vec![example.tokens.len()],
        bytes: example.tokens.iter().flat_map(|token| token.to_le_bytes()).collect(),
    };
    examples.iter().enumerate().map(tensor).collect()
}

fn call(peer: &Peer, tokens: &Path, logits: &Path) -> Result<()> {
    let (program, arguments) = peer.command.split_first().expect("a peer's command is not empty");
    let ended = Command::new(program)
        .args(arguments)
        .args([tokens, logits])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("failed to run `{program}`"))?;
    if !ended.status.success() {
        let told = String::from_utf8_lossy(&ended.stderr);
        let lines: Vec<&str> = told.trim_end().lines().collect();
        let last = lines[lines.len().saturating_sub(SHOWN)..].join("\n    ");
        bail!("`{}` ended with {}\n    {last}", peer.command.join(" "), ended.status);
    }
    Ok(())
}

fn read_logits(file: &SafetensorsFile, index: usize, expected: [usize; 2]) -> Result<Vec<f32>> {
    let name = format!("logits.{index}");
    match file.info(&name) {
        None => bail!("it has written no tensor `{name}`"),
        Some(info) if info.shape != expected => {
            bail!("tensor `{name}`: expected shape {expected:?}, found {:?}", info.shape)
        }
        Some(_) => Ok(file.read(&name)?.to_f32()?),
    }
}
