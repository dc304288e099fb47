//! What a loop tells its caller, and what the caller answers.

use std::path::{Path, PathBuf};

use afina_train::{Best, Metrics};

use crate::{Excess, TrainFile, rehearsal::Rehearsal};

/// What the caller sees while the loop runs.
#[derive(Debug)]
pub enum Event<'a> {
    Loading {
        done: usize,
        total: usize,
    },
    Started(&'a Start),
    /// `done` of the `of` micro-batches of a step (from 1) are done; an answer to stop is obeyed at once.
    MicroBatch {
        step: usize,
        done: usize,
        of: usize,
    },
    Step {
        metrics: &'a Metrics,
        total_steps: usize,
    },
    Evaluated {
        step: usize,
        eval_loss: f64,
        token_accuracy: f64,
        is_best: bool,
    },
    /// An answer to a prompt of `eval.samples`.
    Sample {
        step: usize,
        prompt: &'a str,
        text: &'a str,
    },
    /// What is largest in the run went well, once, before the first step.
    Rehearsed(Rehearsal),
    Exported {
        path: &'a Path,
    },
    Saved {
        step: usize,
        path: &'a Path,
    },
}

/// What the caller answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    Continue,
    /// Save and return.
    Stop,
}

/// What is known before the first step: the figures people look for.
#[derive(Debug, Clone)]
pub struct Start {
    pub run_dir: PathBuf,
    pub examples: usize,
    pub validation_examples: usize,
    pub tokens: usize,
    pub trained_tokens: usize,
    pub trainable_parameters: usize,
    pub base_parameters: usize,
    /// Rows in an optimizer step, and examples in one, on average over the run.
    pub rows_per_step: usize,
    pub examples_per_step: f64,
    pub total_steps: usize,
    pub first_step: usize,
    /// Micro-batches of the first step that an interrupted run had done.
    pub first_micro_batch: usize,
    pub recompute: bool,
    pub files: Vec<TrainFile>,
    /// As the recipe names it.
    pub chat_template: String,
    pub template_sha256: String,
    pub base_sha256: String,
    /// Tokens of the longest example allowed, and the examples that were longer.
    pub longest: usize,
    pub excess: Vec<Excess>,
    /// Three examples as (text of a token, is it trained).
    pub shown: Vec<Vec<(String, bool)>>,
}

#[derive(Debug, Clone)]
pub struct Summary {
    pub run_dir: PathBuf,
    /// Steps done; fewer than `total_steps` where the run was interrupted or stopped early.
    pub step: usize,
    pub total_steps: usize,
    /// Of the last of them.
    pub metrics: Option<Metrics>,
    pub interrupted: bool,
    /// With `save.best`: the evaluation whose adapter is the finished one.
    pub best: Option<Best>,
    /// Since the first step of this call.
    pub seconds: f64,
}

/// Something the run depends on is not what it was when the run began.
#[derive(Debug, thiserror::Error)]
#[error("the run cannot go on: {what} has changed since it began")]
pub struct ResumeRefused {
    pub what: String,
}
