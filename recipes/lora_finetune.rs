//! LoRA fine-tuning, top to bottom. Copy this file to change the loop.
//!
//! What happens to your data: every line is validated and rendered with the model's own chat template or the one you choose; the tokens of the assistant's turns are the targets;
//! examples are packed into rows without seeing each other; each optimizer step divides its loss by all of its trained tokens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use afina_chat::{ChatFormat, TrainOn};
use afina_checkpoint::{
    AdapterConfig, CHAT_TEMPLATE, ModelDir, RunDir, TrainedWith, chat_template, sha256_file, sha256_hex, write_adapter,
};
use afina_data::{Batch, Share, TokenizedExample, epoch_examples, pack, unpacked};
use afina_model::{Llama, LoraConfig, LoraSet, Precision, load_llama};
use afina_train::{
    AdamW, AdamWState, LossSum, Metrics, MicroBatch, Schedule, TrainSettings, TrainState, activation_bytes,
    available_memory_bytes, csv_row, evaluate, load_checkpoint, peak_memory_bytes, read_state, save_checkpoint,
    train_step,
};
use anyhow::{Context, Result, bail};
use burn::tensor::Device;

use crate::{
    Control, Event, Recipe, ResumeRefused, Start, Summary,
    examples::{pieces, read_examples},
    logs::{begin_logs, last_metrics},
};

/// Trains the adapter that `recipe` describes and leaves it in `checkpoints/<run>/`.
pub fn run(
    recipe: &Recipe,
    device: &Device,
    resume: bool,
    on_event: &mut dyn FnMut(Event<'_>) -> Control,
) -> Result<Summary> {
    // 1. The base model's folder, its tokenizer, and the chat template: its own, or the one that the recipe chooses.
    let base = ModelDir::open(&recipe.model.base)
        .with_context(|| format!("failed to open the base model `{}`", recipe.model.base.display()))?;
    let format = ChatFormat::load_with_template(&recipe.model.base, &recipe.template_choice()?)
        .with_context(|| format!("failed to load the chat format of `{}`", recipe.model.base.display()))?;

    // 2. Data: lines → examples → tokens with a mask → rows.
    let train_on = match recipe.data.train_on.as_str() {
        "last" => TrainOn::Last,
        "all" => TrainOn::All,
        _ => TrainOn::Assistant,
    };
    let longest = recipe.data.seq_len.min(base.config.max_position_embeddings);
    let files: Vec<PathBuf> = recipe.data.train.iter().map(|file| file.path.clone()).collect();
    let read = read_examples(&files, &format, train_on, longest)?;
    let shares: Vec<Share> = read
        .per_file
        .iter()
        .zip(&recipe.data.train)
        .map(|(&examples, file)| Share { examples, weight: file.weight })
        .collect();
    let shown =
        read.conversations.iter().take(3).map(|shown| pieces(&format, shown, train_on)).collect::<Result<_>>()?;
    let train = read.tokenized;
    let validation = read_examples(&recipe.data.validation, &format, train_on, longest)?.tokenized;
    let plan = Plan::new(recipe, &train, &shares)?;
    let in_order: Vec<usize> = (0..validation.len()).collect();
    let validation_batches = batches(&validation, &rows_of(recipe, &validation, &in_order), recipe);

    // 3. The run's folder, and what must stay the same under it.
    let run_dir = run_dir(recipe, resume)?;
    let fingerprints = fingerprints(recipe, &base, &format)?;
    let checkpoint = run_dir.latest().filter(|_| resume);
    if let Some(checkpoint) = &checkpoint {
        let found = read_state(checkpoint)?.fingerprints;
        if let Some((what, _)) = fingerprints.iter().find(|(what, hash)| found.get(*what) != Some(*hash)) {
            return Err(ResumeRefused { what: what.clone() }.into());
        }
    }

    // 4. The model (frozen) and the adapter.
    let model = load_llama(&base, device, Precision::F32, &mut |done, total| {
        on_event(Event::Loading { done, total });
    })?;
    let lora_config =
        LoraConfig { r: recipe.lora.r, alpha: recipe.lora.alpha, target_modules: recipe.target_modules() };
    let (mut lora, mut optimizer, mut state) = match checkpoint {
        Some(checkpoint) => load_checkpoint(&checkpoint, &model, lora_config)?,
        None => {
            let lora = LoraSet::init(&model, lora_config, recipe.seed);
            let optimizer = AdamWState::new(&lora.values);
            (
                lora,
                optimizer,
                TrainState { step: 0, num_tokens: 0, eval_loss: None, fingerprints: fingerprints.clone() },
            )
        }
    };
    let adapter_config = adapter_config(recipe, &base, &fingerprints);
    let template = own_template(&base, &format);
    let recompute = gradient_checkpointing(recipe, &model, &plan, &train);
    begin_logs(recipe, &run_dir, &fingerprints, state.step)?;

    let start = Start {
        run_dir: run_dir.path().to_owned(),
        examples: train.len(),
        validation_examples: validation.len(),
        tokens: train.iter().map(|example| example.tokens.len()).sum(),
        trained_tokens: train.iter().flat_map(|example| &example.loss_mask).filter(|&&trained| trained).count(),
        trainable_parameters: lora.parameters(),
        base_parameters: base.config.parameters() as usize,
        rows_per_step: recipe.train.micro_batch_size * recipe.train.gradient_accumulation_steps,
        examples_per_step: plan.steps.iter().flatten().flatten().flatten().count() as f64 / plan.steps.len() as f64,
        total_steps: plan.steps.len(),
        first_step: state.step,
        recompute,
        files: recipe.data.train.clone(),
        chat_template: recipe.data.chat_template.clone(),
        template_sha256: fingerprints["the chat template"].clone(),
        base_sha256: fingerprints["the base model"].clone(),
        shown,
    };
    on_event(Event::Started(&start));

    // 5. The loop.
    let schedule = Schedule {
        scheduler: recipe.train.lr_scheduler,
        learning_rate: recipe.train.learning_rate,
        warmup_ratio: recipe.train.warmup_ratio,
        min_lr_ratio: recipe.train.min_lr_ratio,
        total_steps: plan.steps.len(),
    };
    let settings = TrainSettings {
        adamw: AdamW { betas: recipe.train.betas, eps: recipe.train.eps, weight_decay: recipe.train.weight_decay },
        max_grad_norm: recipe.train.max_grad_norm,
        recompute,
    };
    let began = Instant::now();
    let mut last = last_metrics(&run_dir);
    let mut interrupted = false;
    while state.step < plan.steps.len() && !interrupted {
        let step_began = Instant::now();
        let learning_rate = schedule.at(state.step);
        let micro_batches: Vec<MicroBatch> =
            plan.steps[state.step].iter().map(|rows| MicroBatch::new(&Batch::new(&train, rows))).collect();

        let outcome = train_step(&model, &mut lora, &mut optimizer, &micro_batches, learning_rate, &settings);

        if !outcome.loss.nats.is_finite() || !outcome.grad_norm.is_finite() {
            let lines: Vec<usize> =
                plan.steps[state.step].iter().flatten().flatten().map(|&example| train[example].line).collect();
            bail!(
                "step {}: the loss is {} and the gradient's norm {}; the step was not applied (lines {lines:?} of the training data)",
                state.step + 1,
                outcome.loss.mean(),
                outcome.grad_norm
            );
        }
        state.step += 1;
        state.num_tokens += outcome.tokens as u64;
        let seconds = step_began.elapsed().as_secs_f64();

        let is_last = state.step == plan.steps.len();
        let is_due = |every: usize| is_last || (every > 0 && state.step.is_multiple_of(every));
        let eval_loss = if is_due(recipe.eval.every_steps) && !validation_batches.is_empty() {
            let sum = evaluate_all(&lora.attach(&model), &validation_batches);
            state.eval_loss = Some(sum.mean());
            on_event(Event::Evaluated { step: state.step, eval_loss: sum.mean(), token_accuracy: sum.accuracy() });
            state.eval_loss
        } else {
            None
        };
        let metrics = Metrics {
            step: state.step,
            epoch: plan.epoch_after(state.step),
            loss: outcome.loss.mean(),
            grad_norm: outcome.grad_norm,
            learning_rate,
            tokens_per_second: outcome.tokens as f64 / seconds,
            num_tokens: state.num_tokens,
            peak_memory: peak_memory_bytes(),
            eval_loss,
            mean_token_accuracy: outcome.loss.accuracy(),
        };
        run_dir.append_line("metrics.jsonl", &serde_json::to_string(&metrics)?)?;
        run_dir.append_line("metrics.csv", &csv_row(&metrics))?;
        interrupted =
            on_event(Event::Step { metrics: &metrics, total_steps: plan.steps.len() }) == Control::Stop && !is_last;
        last = Some(metrics);

        if interrupted || is_due(recipe.save.every_steps) {
            let path = run_dir.step_dir(state.step);
            save_checkpoint(&path, &adapter_config, template, &lora, &optimizer, &state)?;
            run_dir.set_latest(state.step, recipe.save.keep)?;
            on_event(Event::Saved { step: state.step, path: &path });
        }
    }

    // 6. The finished adapter, at the top of the run's folder, where every other tool looks for it.
    if !interrupted {
        if let Some(template) = template {
            run_dir.write(CHAT_TEMPLATE, template.as_bytes())?;
        }
        write_adapter(run_dir.path(), &adapter_config, &lora.to_tensors())?;
    }
    let metrics = last.context("the plan has no step, and the run has no log")?;
    Ok(Summary { run_dir: run_dir.path().to_owned(), metrics, interrupted, seconds: began.elapsed().as_secs_f64() })
}

/// The whole run's data order, decided before the first step: a pure function of the recipe, so that a resumed run finds its place by its step alone.
struct Plan {
    /// Optimizer steps → micro-batches → rows → indexes of examples.
    steps: Vec<Vec<Vec<Vec<usize>>>>,
    steps_per_epoch: Vec<usize>,
}

impl Plan {
    fn new(recipe: &Recipe, examples: &[TokenizedExample], shares: &[Share]) -> Result<Plan> {
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
            let rows = rows_of(recipe, examples, &order);
            let micro_batches: Vec<Vec<Vec<usize>>> =
                rows.chunks(recipe.train.micro_batch_size).map(<[_]>::to_vec).collect();
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

    fn epoch_after(&self, step: usize) -> f64 {
        let mut left = step;
        for (epoch, &steps) in self.steps_per_epoch.iter().enumerate() {
            if left <= steps {
                return epoch as f64 + left as f64 / steps.max(1) as f64;
            }
            left -= steps;
        }
        self.steps_per_epoch.len() as f64
    }

    /// Tokens of the largest micro-batch.
    fn largest_micro_batch(&self, examples: &[TokenizedExample]) -> usize {
        let tokens =
            |rows: &Vec<Vec<usize>>| rows.iter().flatten().map(|&example| examples[example].tokens.len()).sum();
        self.steps.iter().flatten().map(tokens).max().unwrap_or(0)
    }
}

fn rows_of(recipe: &Recipe, examples: &[TokenizedExample], order: &[usize]) -> Vec<Vec<usize>> {
    if recipe.data.packing { pack(examples, order, recipe.data.seq_len) } else { unpacked(order) }
}

fn batches(examples: &[TokenizedExample], rows: &[Vec<usize>], recipe: &Recipe) -> Vec<MicroBatch> {
    rows.chunks(recipe.train.micro_batch_size).map(|rows| MicroBatch::new(&Batch::new(examples, rows))).collect()
}

fn evaluate_all(model: &Llama, batches: &[MicroBatch]) -> LossSum {
    let mut sum = LossSum::default();
    batches.iter().for_each(|batch| sum.add(evaluate(model, batch)));
    sum
}

fn run_dir(recipe: &Recipe, resume: bool) -> Result<RunDir> {
    let path =
        if recipe.run.contains('/') { PathBuf::from(&recipe.run) } else { Path::new("checkpoints").join(&recipe.run) };
    let run_dir =
        RunDir::create(&path).with_context(|| format!("failed to make the run's folder `{}`", path.display()))?;
    if resume && run_dir.latest().is_none() {
        bail!("`{}` holds no checkpoint to resume from", path.display());
    }
    if !resume && run_dir.is_used() {
        bail!(
            "`{}` holds an earlier run: go on with it (--resume), name another (run=NAME), or remove it",
            path.display()
        );
    }
    Ok(run_dir)
}

/// sha256 of everything that decides what the run computes.
fn fingerprints(recipe: &Recipe, base: &ModelDir, format: &ChatFormat) -> Result<BTreeMap<String, String>> {
    let mut decisive = recipe.clone();
    (decisive.save, decisive.eval, decisive.device) = Default::default();
    let file = |name: &str| {
        let path = base.path.join(name);
        sha256_file(&path).with_context(|| format!("failed to read `{}`", path.display()))
    };
    let mut fingerprints = BTreeMap::from([
        ("the base model".to_owned(), base.weights_sha256()?),
        ("the chat template".to_owned(), sha256_hex(format.template.source().as_bytes())),
        ("the base's config.json".to_owned(), file("config.json")?),
        ("the base's tokenizer.json".to_owned(), file("tokenizer.json")?),
        ("the recipe".to_owned(), sha256_hex(decisive.resolved().as_bytes())),
    ]);
    for path in recipe.data.train.iter().map(|file| &file.path).chain(&recipe.data.validation) {
        let hash = sha256_file(path).with_context(|| format!("failed to read `{}`", path.display()))?;
        fingerprints.insert(format!("the data file `{}`", path.display()), hash);
    }
    Ok(fingerprints)
}

/// The template to keep with the adapter: nothing where it is the base's.
fn own_template<'f>(base: &ModelDir, format: &'f ChatFormat) -> Option<&'f str> {
    let of_base = chat_template(&base.path).ok().flatten(); // one that cannot be read is not the one in use
    Some(format.template.source()).filter(|source| of_base.as_deref() != Some(*source))
}

/// PEFT's config of the adapter, with what it was trained on.
fn adapter_config(recipe: &Recipe, base: &ModelDir, fingerprints: &BTreeMap<String, String>) -> AdapterConfig {
    let trained_with = TrainedWith {
        base_sha256: fingerprints["the base model"].clone(),
        template_sha256: fingerprints["the chat template"].clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let base = base.path.display().to_string();
    AdapterConfig::lora(recipe.lora.r, recipe.lora.alpha, recipe.target_modules(), base, trained_with)
}

/// `auto` computes blocks again when keeping their activations would take more than half of the free memory.
fn gradient_checkpointing(recipe: &Recipe, model: &Llama, plan: &Plan, examples: &[TokenizedExample]) -> bool {
    match recipe.train.gradient_checkpointing.as_str() {
        "on" => true,
        "off" => false,
        _ => {
            let longest = examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
            let needed = activation_bytes(&model.config, plan.largest_micro_batch(examples), longest);
            available_memory_bytes().is_some_and(|available| needed > available / 2)
        }
    }
}
