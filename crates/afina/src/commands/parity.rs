//! `afina parity`: proof that what was trained is what runs.

mod chat;
mod facts;
mod limits;
mod pair;
mod peer;
mod table;
mod training_graph;

use std::path::Path;

use afina_checkpoint::open_weights;
use afina_eval::{GreedyAnswer, greedy_agreement};
use anyhow::{Context, Result};
use burn::tensor::Device;
use serde::Serialize;

use self::chat::chat_agreement;
use self::facts::{Recall, recall};
use self::limits::{Limits, limits};
use self::pair::{Pair, TRAINING};
pub use self::pair::{beyond, number};
pub use self::training_graph::{TrainingGraph, training_graph};
use super::{OK, REFUSED, model};
use crate::args::{Parity, Peer};
use crate::output::Output;

/// The loss that training computes and the one of the logits are summed in another order; this much apart they are the same.
const SAME_LOSS: f64 = 1e-4;

#[derive(Debug, Serialize)]
pub struct Report {
    pub reference: Reference,
    pub adapter: Option<Moved>,
    pub pairs: Vec<Pair>,
    /// Of the training graph, and of all pairs.
    pub failures: Vec<String>,
    pub passed: bool,
}

/// The training graph by itself.
#[derive(Debug, Serialize)]
pub struct Reference {
    pub rows: usize,
    pub tokens: usize,
    pub trained_tokens: usize,
    /// By the code that trains, in nats per trained token.
    pub loss: f64,
    pub perplexity: f64,
    pub answers: Option<Answers>,
    pub facts: Vec<Recall>,
}

#[derive(Debug, Serialize)]
pub struct Answers {
    pub answers: usize,
    pub tokens_per_answer: f64,
    pub ended: usize,
    pub exact: usize,
}

/// What an adapter does to its base's logits.
#[derive(Debug, Serialize)]
pub struct Moved {
    pub mean_abs_logit: f64,
    pub moves: bool,
}

pub fn run(args: &Parity, device: &Device, output: &Output) -> Result<u8> {
    let graph = training_graph(&args.model, &args.template.chat_template, &args.data, args.rows, device, output)?;
    let answers = graph.answers(graph.llama(), graph.stop_tokens(), args.generate, args.max_tokens, output)?;
    let own = (graph.llama(), graph.format(), graph.stop_tokens());
    let facts = recall(own, &args.facts, args.system.as_deref(), args.max_tokens)?;
    let adapter = graph.moved().map(|(mean_abs_logit, moves)| Moved { mean_abs_logit, moves });
    let reference = Reference::new(&graph, graph.training_loss(output), &answers, facts);

    let mut pairs = Vec::new();
    for path in &args.with {
        let pair = made_model(path, &graph, &answers, args, device, output);
        pairs.push(pair.with_context(|| format!("failed to compare `{}`", path.display()))?);
    }
    for peer in &args.peers {
        let pair = peer_pair(peer, &graph, output);
        pairs.push(pair.with_context(|| format!("failed to compare the peer `{}`", peer.name))?);
    }
    for pair in &mut pairs {
        pair.limits = Limits {
            max_kl: args.max_kl.unwrap_or(pair.limits.max_kl),
            min_top1: args.min_top1.unwrap_or(pair.limits.min_top1),
        };
        pair.judge(&reference.facts);
    }

    let report = Report::new(reference, adapter, pairs);
    output.result(&table::text(&report), &serde_json::to_value(&report)?);
    Ok(if report.passed { OK } else { REFUSED })
}

/// A merged folder or a GGUF file beside the training graph.
fn made_model(
    path: &Path,
    graph: &TrainingGraph,
    answers: &[GreedyAnswer],
    args: &Parity,
    device: &Device,
    output: &Output,
) -> Result<Pair> {
    let (engine, divergence) = graph.beside(path, device, output)?;
    let llama = engine.llama(model::BASE).expect("the model was loaded under this id");
    let format = engine.format(model::BASE).expect("the model was loaded under this id");
    let stop_tokens = engine.stop_tokens(model::BASE).unwrap_or_default();

    // Another wording may be longer: an answer that does not end is one that goes on far beyond.
    let theirs = graph.answers(llama, stop_tokens, args.generate, 2 * args.max_tokens, output)?;
    let agreement = (!answers.is_empty()).then(|| greedy_agreement(answers, &theirs));
    let weights = open_weights(path)?;
    let formats = weights.formats();
    let (coarsest, limits) = limits(formats.iter().map(String::as_str));
    Ok(Pair {
        a: TRAINING,
        b: path.display().to_string(),
        format: Some(coarsest.to_owned()),
        bytes: Some(weights.bytes()),
        divergence,
        greedy_prefix: agreement.as_ref().map(|agreement| agreement.equal_prefix),
        answers: agreement,
        chat: Some(chat_agreement(
            [graph.format(), format],
            &graph.conversations,
            &graph.examples,
            [graph.stop_tokens(), stop_tokens],
        )),
        facts: recall((llama, format, stop_tokens), &args.facts, args.system.as_deref(), args.max_tokens)?,
        limits,
        failures: Vec::new(),
    })
}

/// Another program's logits beside the training graph's.
fn peer_pair(peer: &Peer, graph: &TrainingGraph, output: &Output) -> Result<Pair> {
    let run = peer::run(peer, graph, output)?;
    let weights = match &run.model {
        Some(path) => Some(open_weights(Path::new(path)).context("the model that it says it computed with")?),
        None => None,
    };
    let formats = weights.as_ref().map(|weights| weights.formats());
    let known = formats.as_ref().map(|formats| limits(formats.iter().map(String::as_str)));
    Ok(Pair {
        a: TRAINING,
        b: peer.name.clone(),
        format: known.map(|(coarsest, _)| coarsest.to_owned()),
        bytes: weights.map(|weights| weights.bytes()),
        divergence: run.divergence,
        greedy_prefix: None,
        answers: None,
        chat: None,
        facts: Vec::new(),
        limits: known.map_or_else(|| limits(["F16"]).1, |(_, limits)| limits),
        failures: Vec::new(),
    })
}

impl Reference {
    fn new(graph: &TrainingGraph, loss: f64, answers: &[GreedyAnswer], facts: Vec<Recall>) -> Reference {
        let count = |holds: fn(&GreedyAnswer) -> bool| answers.iter().filter(|answer| holds(answer)).count();
        let tokens: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
        Reference {
            rows: graph.examples.len(),
            tokens: graph.examples.iter().map(|example| example.tokens.len()).sum(),
            trained_tokens: graph
                .examples
                .iter()
                .flat_map(|example| &example.loss_mask)
                .filter(|&&trained| trained)
                .count(),
            loss,
            perplexity: loss.exp(),
            answers: (!answers.is_empty()).then(|| Answers {
                answers: answers.len(),
                tokens_per_answer: tokens as f64 / answers.len() as f64,
                ended: count(|answer| answer.ended),
                exact: count(|answer| answer.exact),
            }),
            facts,
        }
    }
}

impl Report {
    fn new(reference: Reference, adapter: Option<Moved>, pairs: Vec<Pair>) -> Report {
        let mut failures = Vec::new();
        if let Some(moved) = adapter.as_ref().filter(|moved| !moved.moves) {
            let moved = number(moved.mean_abs_logit);
            failures.push(format!(
                "{TRAINING}: the adapter moves nothing: {moved} a logit is noise, so equal logits prove nothing"
            ));
        }
        if let Some(pair) = pairs.first() {
            let of_logits = pair.divergence.reference_loss;
            if beyond((of_logits - reference.loss).abs(), SAME_LOSS * reference.loss.max(1.0)) {
                failures
                    .push(format!("{TRAINING}: its loss is {:.5}, and {of_logits:.5} of its logits", reference.loss));
            }
        }
        for fact in reference.facts.iter().filter(|fact| !fact.recalled) {
            let (question, found, expected) = (&fact.question, fact.found.trim(), &fact.expected);
            failures.push(format!("{TRAINING}: `{question}` is answered by `{found}`, without `{expected}`"));
        }
        failures.extend(pairs.iter().flat_map(|pair| pair.failures.iter().cloned()));
        let passed = failures.is_empty();
        Report { reference, adapter, pairs, failures, passed }
    }
}
