//! The whole run's data order, decided before the first step: a pure function of the recipe, so that a resumed run finds its
//! place by its step alone.

use afina_data::{Batch, Share, TokenizedExample, epoch_examples, pack, unpacked};
use afina_train::{BatchShape, MicroBatch};
use anyhow::{Result, bail};

use crate::Recipe;

pub(crate) struct Plan {
    /// Optimizer steps → micro-batches → rows → indexes of examples.
    pub(crate) steps: Vec<Vec<Vec<Vec<usize>>>>,
    steps_per_epoch: Vec<usize>,
}

impl Plan {
    pub(crate) fn new(recipe: &Recipe, examples: &[TokenizedExample], shares: &[Share]) -> Result<Plan> {
        let (mut steps, mut steps_per_epoch) = (Vec::new(), Vec::new());
        for epoch in 0.. {
            let enough = match recipe.train.max_steps {
                Some(max_steps) => steps.len() >= max_steps,
                None => epoch == recipe.train.epochs,
            };
            if enough {
                break;
            }
            let order = epoch_examples(shares, recipe.seed, epoch, recipe.data.shuffle);
            let micro_batches = chunks(recipe, examples, &order);
            let before = steps.len();
            steps.extend(micro_batches.chunks(recipe.train.gradient_accumulation_steps).map(<[_]>::to_vec));
            steps_per_epoch.push(steps.len() - before);
        }
        if let Some(max_steps) = recipe.train.max_steps {
            steps.truncate(max_steps);
        }
        if steps.is_empty() {
            bail!("the weights of `data.train` leave no example in {} epochs", recipe.train.epochs);
        }
        Ok(Plan { steps, steps_per_epoch })
    }

    /// The micro-batches of a step (from 0), as the model reads them.
    pub(crate) fn micro_batches(&self, step: usize, examples: &[TokenizedExample]) -> Vec<MicroBatch> {
        self.steps[step].iter().map(|rows| MicroBatch::new(&Batch::new(examples, rows))).collect()
    }

    /// Steps → micro-batches, as far as memory and time go.
    pub(crate) fn shapes(&self, examples: &[TokenizedExample]) -> Vec<Vec<BatchShape>> {
        let shape = |rows: &Vec<Vec<usize>>| {
            let of_rows = || rows.iter().flatten().map(|&example| &examples[example]);
            let trained = of_rows().flat_map(|example| example.loss_mask.iter().skip(1)).filter(|&&trained| trained);
            BatchShape::new(of_rows().map(|example| example.tokens.len()), trained.count())
        };
        self.steps.iter().map(|step| step.iter().map(shape).collect()).collect()
    }

    /// Indexes of a step's examples, in the order of its micro-batches.
    pub(crate) fn examples(&self, step: usize) -> impl Iterator<Item = usize> {
        self.steps[step].iter().flatten().flatten().copied()
    }

    /// Examples a step sees, on average.
    pub(crate) fn examples_per_step(&self) -> f64 {
        self.steps.iter().flatten().flatten().flatten().count() as f64 / self.steps.len() as f64
    }

    pub(crate) fn epoch_after(&self, step: usize) -> f64 {
        let mut left = step;
        for (epoch, &steps) in self.steps_per_epoch.iter().enumerate() {
            if left <= steps {
                return epoch as f64 + left as f64 / steps.max(1) as f64;
            }
            left -= steps;
        }
        self.steps_per_epoch.len() as f64
    }

    /// The micro-batch with the most tokens, as rows of examples.
    pub(crate) fn largest_micro_batch(&self, examples: &[TokenizedExample]) -> &Vec<Vec<usize>> {
        let tokens = |rows: &&Vec<Vec<usize>>| -> usize {
            rows.iter().flatten().map(|&example| examples[example].tokens.len()).sum()
        };
        self.steps.iter().flatten().max_by_key(tokens).expect("a plan has a step")
    }

    /// The micro-batches that take the most memory: the largest, and the one with the longest example.
    pub(crate) fn worst_micro_batches(&self, examples: &[TokenizedExample]) -> Vec<MicroBatch> {
        let longest =
            |rows: &&Vec<Vec<usize>>| rows.iter().flatten().map(|&example| examples[example].tokens.len()).max();
        let mut worst = vec![self.largest_micro_batch(examples)];
        worst.extend(self.steps.iter().flatten().max_by_key(longest));
        worst.dedup();
        worst.into_iter().map(|rows| MicroBatch::new(&Batch::new(examples, rows))).collect()
    }
}

/// Every example once, in its order, as micro-batches: for validation.
pub(crate) fn in_order(recipe: &Recipe, examples: &[TokenizedExample]) -> Vec<MicroBatch> {
    let order: Vec<usize> = (0..examples.len()).collect();
    chunks(recipe, examples, &order).iter().map(|rows| MicroBatch::new(&Batch::new(examples, rows))).collect()
}

/// Micro-batches of rows of examples.
fn chunks(recipe: &Recipe, examples: &[TokenizedExample], order: &[usize]) -> Vec<Vec<Vec<usize>>> {
    let rows = if recipe.data.packing { pack(examples, order, recipe.data.seq_len) } else { unpacked(order) };
    rows.chunks(recipe.train.micro_batch_size).map(<[_]>::to_vec).collect()
}
