//! LoRA fine-tuning, top to bottom. Copy this file to change the loop.
//!
//! What happens to your data: every line is validated and rendered with the model's own chat template or the one you choose; the
//! tokens of the assistant's turns are the targets; an example that is too long refuses the data, or is dropped, cut or split as
//! you say, and what that loses is told by line; examples are packed into rows without seeing each other; each optimizer step
//! divides its loss by all of its trained tokens, and what each example's loss was is written down.

use std::cell::Cell;
use std::mem::take;
use std::path::{Path, PathBuf};
use std::time::Instant;

use afina_checkpoint::{CHAT_TEMPLATE, read_adapter, write_adapter};
use afina_model::{Llama, LoraConfig, LoraSet, load_llama};
use afina_train::{
    Accumulated, AdamW, AdamWState, LossSum, Metrics, MicroBatch, Schedule, TrainSettings, TrainState, accumulate,
    evaluate, finish_step, load_checkpoint, load_partial, peak_memory_bytes, read_state, resident_memory_bytes,
    save_checkpoint, save_partial,
};
use anyhow::{Context, Result};
use burn::tensor::Device;

use crate::{
    Control, Event, Recipe, Start, Summary,
    data::Data,
    examples::pieces,
    exports::export,
    failed_step::{Failed, find_fault, leave},
    ledger::{entries, places},
    logs::{begin_logs, last_metrics, log_sample, log_step, sync_logs},
    memory::Workload,
    plan::{Plan, in_order},
    precision::precision,
    rehearsal::{Worst, rehearse},
    run_folder::{adapter_config, check_unchanged, fingerprints, own_template, run_dir},
    samples::{answer, prompts, stop_tokens},
};

/// Trains the adapter that `recipe` describes and leaves it in `checkpoints/<run>/`.
pub fn run(
    recipe: &Recipe,
    device: &Device,
    resume: bool,
    on_event: &mut dyn FnMut(Event<'_>) -> Control,
) -> Result<Summary> {
    // 1. The base model's folder, its tokenizer, and the chat template: its own, or the one that the recipe chooses. Data: lines →
    //    examples → tokens with a mask.
    let Data { base, format, train_on, longest, train: read, shares, validation } = Data::read(recipe)?;

    // 2. Rows of them, and the order of the steps.
    let shown =
        read.conversations.iter().take(3).map(|shown| pieces(&format, shown, train_on)).collect::<Result<_>>()?;
    let files = recipe.train_files();
    let file_of = read.file_of(&files);
    let train = read.tokenized;
    let excess = [read.excess, validation.excess].concat();
    let validation = validation.tokenized;
    let places = places(&train, &file_of);
    let exports = recipe.exports()?;
    let prompts = prompts(&recipe.eval.samples, &format, base.config.max_position_embeddings)?;
    let stop_tokens = stop_tokens(&base, &format);
    let plan = Plan::new(recipe, &train, &shares)?;
    let validation_batches = in_order(recipe, &validation);

    // 3. The run's folder, and what must stay the same under it.
    let run_dir = run_dir(recipe, resume)?;
    let fingerprints = fingerprints(recipe, &base, &format)?;
    let checkpoint = run_dir.latest().filter(|_| resume);
    let began = checkpoint.as_deref().map(read_state).transpose()?;
    if let Some(began) = &began {
        check_unchanged(&fingerprints, &began.fingerprints)?;
    }
    // Whether blocks are computed again in the backward pass; a run above its memory limit ends here.
    let recompute = Workload::new(recipe, &base, &plan, &train, &validation_batches, resident_memory_bytes())
        .recompute_within_limit(began.map(|began| began.recompute))?;

    // 4. The model (frozen) and the adapter.
    let stop = Cell::new(false);
    let mut tell = |event: Event<'_>| {
        if on_event(event) == Control::Stop {
            stop.set(true);
        }
    };
    let precision = precision(&recipe.train.precision, &base);
    let model = load_llama(&base, device, precision, &mut |done, total| tell(Event::Loading { done, total }))?;
    let lora_config =
        LoraConfig { r: recipe.lora.r, alpha: recipe.lora.alpha, target_modules: recipe.target_modules() };
    let (mut lora, mut optimizer, mut state) = match &checkpoint {
        Some(checkpoint) => load_checkpoint(checkpoint, &model, lora_config)?,
        None => {
            let lora = LoraSet::init(&model, lora_config, recipe.seed);
            let optimizer = AdamWState::new(&lora.values);
            (lora, optimizer, TrainState::new(recompute, fingerprints.clone()))
        }
    };
    let adapter_config = adapter_config(recipe, &base, &fingerprints);
    let template = own_template(&base, &format);
    begin_logs(recipe, &run_dir, &fingerprints, state.step, &excess)?;
    // What a step that was interrupted between its micro-batches had accumulated.
    let mut under_way = match checkpoint {
        Some(_) => load_partial(&run_dir.file(UNDER_WAY), state.step, &lora)?.unwrap_or_default(),
        None => Accumulated::default(),
    };

    let start = Start {
        run_dir: run_dir.path().to_owned(),
        examples: train.len(),
        validation_examples: validation.len(),
        tokens: train.iter().map(|example| example.tokens.len()).sum(),
        trained_tokens: train.iter().flat_map(|example| &example.loss_mask).filter(|&&trained| trained).count(),
        trainable_parameters: lora.parameters(),
        base_parameters: base.config.parameters() as usize,
        rows_per_step: recipe.train.micro_batch_size * recipe.train.gradient_accumulation_steps,
        examples_per_step: plan.examples_per_step(),
        total_steps: plan.steps.len(),
        first_step: state.step,
        first_micro_batch: under_way.micro_batches,
        recompute,
        files: recipe.data.train.clone(),
        chat_template: recipe.data.chat_template.clone(),
        template_sha256: fingerprints["the chat template"].clone(),
        base_sha256: fingerprints["the base model"].clone(),
        shown,
        longest,
        excess,
    };
    tell(Event::Started(&start));

    // 5. How a step is taken and saved, and a rehearsal of the worst one.
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
    let save = |lora: &LoraSet, optimizer: &AdamWState, state: &TrainState| -> Result<PathBuf> {
        sync_logs(&run_dir)?;
        let path = run_dir.step_dir(state.step);
        save_checkpoint(&path, &adapter_config, template, lora, optimizer, state)?;
        let best = state.best.filter(|_| recipe.save.best).map(|best| best.step);
        run_dir.set_latest(state.step, best, recipe.save.keep)?;
        Ok(path)
    };
    let began = Instant::now();
    let mut last = last_metrics(&run_dir);
    let is_over = |state: &TrainState| {
        let patience = recipe.early_stopping.as_ref().map(|table| table.patience);
        state.step == plan.steps.len() || patience.is_some_and(|patience| state.evaluations_since_best >= patience)
    };
    if state.step + under_way.micro_batches == 0 && !stop.get() {
        let micro_batches = plan.worst_micro_batches(&train);
        let validation = validation_batches.iter().max_by_key(|batch| batch.tokens.len());
        let worst =
            Worst { micro_batches: &micro_batches, validation, learning_rate: schedule.at(0), settings: &settings };
        let save = |aside: &Path, lora: &LoraSet, optimizer: &AdamWState| -> Result<()> {
            let step = aside.join("step");
            save_checkpoint(&step, &adapter_config, template, lora, optimizer, &state)?;
            export(&exports, &base, &step, aside).map(drop)
        };
        let rehearsal = rehearse(&model, &lora, &optimizer, &worst, &run_dir, save)
            .context("the rehearsal before the first step failed")?;
        tell(Event::Rehearsed(rehearsal));
    }

    // 6. The loop.
    'steps: while !is_over(&state) && !stop.get() {
        let step_began = Instant::now();
        let learning_rate = schedule.at(state.step);
        let micro_batches = plan.micro_batches(state.step, &train);
        let tokens_before = under_way.tokens;
        while let Some(batch) = micro_batches.get(under_way.micro_batches) {
            accumulate(&model, &lora, batch, recompute, &mut under_way);
            if !under_way.loss.nats.is_finite() {
                break; // the step fails below
            }
            let (done, of) = (under_way.micro_batches, micro_batches.len());
            tell(Event::MicroBatch { step: state.step + 1, done, of });
            if stop.get() && done < of {
                // Interrupted inside a step: the checkpoint of the step before it, and what this one has so far.
                if !run_dir.steps().contains(&state.step) {
                    save(&lora, &optimizer, &state)?;
                }
                save_partial(&run_dir.file(UNDER_WAY), state.step, &under_way)?;
                tell(Event::Saved { step: state.step, path: &run_dir.file(UNDER_WAY) });
                break 'steps;
            }
        }
        let outcome = finish_step(&mut lora, &mut optimizer, take(&mut under_way), learning_rate, &settings);

        if !outcome.is_finite() {
            let rows = &plan.steps[state.step];
            let failed = Failed { step: state.step + 1, learning_rate, rows, examples: &train, files: &file_of };
            let fault = find_fault(&model, &lora, &micro_batches, recompute);
            let save = |path: &Path| -> Result<()> {
                Ok(save_checkpoint(path, &adapter_config, template, &lora, &optimizer, &state)?)
            };
            return Err(leave(&run_dir, &failed, fault, save)?.into());
        }
        state.step += 1;
        state.num_tokens += outcome.tokens as u64;
        let seconds = step_began.elapsed().as_secs_f64();

        let is_due = |every: usize| state.step == plan.steps.len() || (every > 0 && state.step.is_multiple_of(every));
        let (eval_is_due, save_is_due) = (is_due(recipe.eval.every_steps), is_due(recipe.save.every_steps));
        let (mut eval_loss, mut is_best) = (None, false);
        if eval_is_due {
            let attached = lora.attach(&model);
            if !validation_batches.is_empty() {
                let sum = evaluate_all(&attached, &validation_batches);
                eval_loss = Some(sum.mean());
                is_best = state.evaluated(sum.mean());
                let (eval_loss, token_accuracy) = (sum.mean(), sum.accuracy());
                tell(Event::Evaluated { step: state.step, eval_loss, token_accuracy, is_best });
            }
            for prompt in &prompts {
                let text = answer(&attached, &format, prompt, &stop_tokens)?;
                log_sample(&run_dir, state.step, &prompt.text, &text)?;
                tell(Event::Sample { step: state.step, prompt: &prompt.text, text: &text });
            }
        }
        let metrics = Metrics {
            step: state.step,
            epoch: plan.epoch_after(state.step),
            loss: outcome.loss.mean(),
            grad_norm: outcome.grad_norm,
            learning_rate,
            tokens_per_second: (outcome.tokens - tokens_before) as f64 / seconds,
            num_tokens: state.num_tokens,
            peak_memory: peak_memory_bytes(),
            eval_loss,
            mean_token_accuracy: outcome.loss.accuracy(),
        };
        let seen = entries(state.step, plan.examples(state.step - 1), &outcome.loss.examples, &places)?;
        log_step(&run_dir, &metrics, &seen)?;
        tell(Event::Step { metrics: &metrics, total_steps: plan.steps.len() });
        last = Some(metrics);

        if stop.get() || save_is_due || is_over(&state) || (recipe.save.best && is_best) {
            let path = save(&lora, &optimizer, &state)?;
            run_dir.remove(UNDER_WAY)?;
            tell(Event::Saved { step: state.step, path: &path });
        }
    }

    // 7. The finished adapter, the last or the best, at the top of the run's folder, where every other tool looks for it.
    let interrupted = !is_over(&state);
    let best = state.best.filter(|_| recipe.save.best);
    if !interrupted {
        if let Some(template) = template {
            run_dir.write(CHAT_TEMPLATE, template.as_bytes())?;
        }
        match best {
            Some(best) => {
                let (config, tensors) = read_adapter(&run_dir.step_dir(best.step))?;
                write_adapter(run_dir.path(), &config, &tensors)?;
            }
            None => write_adapter(run_dir.path(), &adapter_config, &lora.to_tensors())?,
        }
        for path in export(&exports, &base, run_dir.path(), run_dir.path())? {
            tell(Event::Exported { path: &path });
        }
    }
    Ok(Summary {
        run_dir: run_dir.path().to_owned(),
        step: state.step,
        total_steps: plan.steps.len(),
        metrics: last,
        interrupted,
        best,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// The folder of a step that was interrupted between its micro-batches.
const UNDER_WAY: &str = "partial";

fn evaluate_all(model: &Llama, batches: &[MicroBatch]) -> LossSum {
    let mut sum = LossSum::default();
    batches.iter().for_each(|batch| sum.add(evaluate(model, batch)));
    sum
}
