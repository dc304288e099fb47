//! What a run takes of the processor's memory, before it begins: every buffer of the kernels' way, counted from shapes alone.
//!
//! Freed pages stay with the process, so its peak is the sum of what is alive at the largest of a few moments.

use afina_checkpoint::{LlamaConfig, names::expected_tensors, names::linear_shape};
use afina_kernels::{Cpu, LANES, MATRIX_WIDTH, Precision};
use serde::Serialize;

use crate::{
    MicroBatch,
    buffers::{Buffers, floats},
};

/// What decides about memory beside the data.
#[derive(Debug, Clone)]
pub struct MemorySettings<'a> {
    pub config: &'a LlamaConfig,
    /// Bytes of a number in the checkpoint.
    pub stored_bytes: usize,
    pub precision: Precision,
    pub r: usize,
    /// Names of `LINEAR_MODULES`.
    pub target_modules: &'a [String],
    pub recompute: bool,
    /// Whether a gradient waits for those of further micro-batches.
    pub accumulates: bool,
    pub threads: usize,
    /// Whether products with bf16 matrices round what they multiply: see [`rounds_activations`].
    pub rounds_activations: bool,
    /// Bytes of everything else: the program, the tokenizer, the data.
    pub rest: u64,
}

/// A micro-batch as far as memory goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchShape {
    pub tokens: usize,
    /// Tokens when every example fills panels of its own, as attention has them.
    pub own_tokens: usize,
    pub longest: usize,
    /// Tokens that are a target.
    pub trained: usize,
    /// Pairs of tokens of which one sees the other.
    pub pairs: usize,
}

/// Bytes by class at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryClasses {
    /// The base's matrices, packed, and its norms.
    pub base_weights: u64,
    /// The adapter, its gradient, the optimizer's means, and copies of them.
    pub adapter_and_optimizer: u64,
    /// What the forward pass leaves for the backward pass.
    pub kept_activations: u64,
    /// What one block works with.
    pub block: u64,
    /// Hidden states of trained tokens and the logits of some of them.
    pub head: u64,
    /// A tensor of the checkpoint that is being packed.
    pub loading: u64,
    /// The program, the tokenizer, the data.
    pub rest: u64,
}

/// What a run does when its memory is the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Moment {
    Loading,
    Head,
    Backward,
    Evaluation,
    Saving,
}

/// A run's memory at each of its moments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryForecast {
    pub moments: Vec<(Moment, MemoryClasses)>,
}

impl BatchShape {
    pub fn new(lengths: impl IntoIterator<Item = usize>, trained: usize) -> BatchShape {
        let mut shape = BatchShape { trained, ..Default::default() };
        for tokens in lengths {
            shape.tokens += tokens;
            shape.own_tokens += padded(tokens);
            shape.longest = shape.longest.max(tokens);
            shape.pairs += tokens * (tokens + 1) / 2;
        }
        shape
    }

    /// Tokens and the pad lanes of the last panel.
    pub fn padded(&self) -> usize {
        padded(self.tokens)
    }
}

impl From<&MicroBatch> for BatchShape {
    fn from(batch: &MicroBatch) -> BatchShape {
        BatchShape::new(batch.segments.ranges().iter().map(ExactSizeIterator::len), batch.trained.len())
    }
}

impl MemoryClasses {
    pub fn total(&self) -> u64 {
        self.by_name().iter().map(|(_, bytes)| bytes).sum()
    }

    /// With the names people read.
    pub fn by_name(&self) -> [(&'static str, u64); 7] {
        [
            ("base weights", self.base_weights),
            ("adapter and optimizer", self.adapter_and_optimizer),
            ("kept activations", self.kept_activations),
            ("what one block works with", self.block),
            ("hidden states and logits at the head", self.head),
            ("a tensor that is being loaded", self.loading),
            ("program, tokenizer and data", self.rest),
        ]
    }
}

impl MemoryForecast {
    /// The largest moment.
    pub fn peak(&self) -> (Moment, MemoryClasses) {
        *self.moments.iter().max_by_key(|(_, classes)| classes.total()).expect("a run has moments")
    }

    pub fn peak_bytes(&self) -> u64 {
        self.peak().1.total()
    }
}

/// What a run takes whose steps are as large as the `trained` batches, and its evaluations as the `validated` ones.
pub fn memory_forecast(
    settings: &MemorySettings,
    trained: impl IntoIterator<Item = BatchShape>,
    validated: impl IntoIterator<Item = BatchShape>,
) -> MemoryForecast {
    let MemorySettings { config, precision, r, rest, .. } = *settings;
    let resident = MemoryClasses { base_weights: weights(config, precision), rest, ..Default::default() };
    // The values that a step reads and its copy of them, both means, the gradient, and one that waits.
    let parameters = parameters(config, r, settings.target_modules);
    let adapter = |buffers: usize| floats(buffers * parameters);
    let step = adapter(5 + usize::from(settings.accumulates));
    let mut moments = vec![
        (Moment::Loading, loading(settings)),
        // The rehearsal's adapter and means beside the run's, and what a checkpoint is written from.
        (Moment::Saving, MemoryClasses { adapter_and_optimizer: adapter(9), ..resident }),
    ];
    let buffers = Buffers::new(settings);
    let layers = config.num_hidden_layers;
    for batch in trained {
        let input = floats(batch.padded() * config.hidden_size);
        let saved = buffers.saved(&batch);
        let kept = if settings.recompute { input } else { saved } * layers as u64;
        let with = MemoryClasses { adapter_and_optimizer: step, kept_activations: kept, ..resident };
        let head = buffers.head(&batch, true);
        moments.push((Moment::Head, MemoryClasses { head: head + input, ..with }));
        // The block's own input becomes a part of what is saved for it.
        let again = if settings.recompute { saved - input } else { 0 };
        moments.push((Moment::Backward, MemoryClasses { block: again + buffers.backward(&batch), ..with }));
    }
    for batch in validated {
        // The rehearsal's adapter and means beside the run's, and the factors as they sit on the model.
        let with = MemoryClasses { adapter_and_optimizer: adapter(8), ..resident };
        let block = buffers.saved(&batch) + buffers.forward(&batch);
        let head = buffers.head(&batch, false) + floats(batch.padded() * config.hidden_size);
        moments.push((
            Moment::Evaluation,
            if block > head { MemoryClasses { block, ..with } } else { MemoryClasses { head, ..with } },
        ));
    }
    largest_of_each(moments)
}

/// Whether this processor multiplies bf16 by bf16.
pub fn rounds_activations() -> bool {
    Cpu::detect().rounds_activations()
}

/// Threads that the kernels use.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Numbers of an adapter.
pub fn parameters(config: &LlamaConfig, r: usize, target_modules: &[String]) -> usize {
    let of_module = |name: &String| -> usize { linear_shape(config, name).iter().sum::<usize>() * r };
    config.num_hidden_layers * target_modules.iter().map(of_module).sum::<usize>()
}

/// Memory that can be had without swapping, in bytes; `None` where the system does not tell.
pub fn available_memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn largest_of_each(moments: Vec<(Moment, MemoryClasses)>) -> MemoryForecast {
    let mut largest: Vec<(Moment, MemoryClasses)> = Vec::new();
    for (moment, classes) in moments {
        match largest.iter_mut().find(|(known, _)| *known == moment) {
            None => largest.push((moment, classes)),
            Some((_, known)) if known.total() < classes.total() => *known = classes,
            Some(_) => {}
        }
    }
    MemoryForecast { moments: largest }
}

/// The base once it is loaded: matrices as `Matrix` packs them; norms as tensors and as the kernels' copies.
fn weights(config: &LlamaConfig, precision: Precision) -> u64 {
    expected_tensors(config).iter().map(|(_, shape)| tensor(shape, precision)).sum()
}

fn tensor(shape: &[usize], precision: Precision) -> u64 {
    match *shape {
        [rows, columns] => (rows * columns.next_multiple_of(MATRIX_WIDTH) * bytes_of(precision)) as u64,
        _ => 2 * floats(shape.iter().product()),
    }
}

fn bytes_of(precision: Precision) -> usize {
    match precision {
        Precision::F32 => 4,
        Precision::Bf16 => 2,
    }
}

/// The worst tensor: what is loaded before it, its numbers as f32, and the larger of its bytes in the file and as packed, for the
/// second take the place of the first.
fn loading(settings: &MemorySettings) -> MemoryClasses {
    let MemorySettings { config, precision, stored_bytes, rest, .. } = *settings;
    let mut worst = MemoryClasses::default();
    let mut base_weights = 0;
    for (_, shape) in expected_tensors(config) {
        let (numbers, packed) = (shape.iter().product::<usize>(), tensor(&shape, precision));
        let loading = floats(numbers) + packed.max((stored_bytes * numbers) as u64);
        if base_weights + loading > worst.base_weights + worst.loading {
            worst = MemoryClasses { base_weights, loading, rest, ..Default::default() };
        }
        base_weights += packed;
    }
    worst
}

/// Tokens and the pad lanes of their last panel.
pub(crate) fn padded(tokens: usize) -> usize {
    tokens.next_multiple_of(LANES)
}
