//! `afina train`: runs a recipe's loop and shows it.

use std::path::Path;

use afina_recipes::{Control, DataRefused, Event, Excess, Recipe, Rehearsal, Start, Summary, find_built_in};
use anyhow::{Context, Result};
use burn::tensor::Device;
use indicatif::ProgressBar;
use serde_json::json;

use super::{INTERRUPTED, OK};
use crate::args::{Common, Train};
use crate::output::Output;
use crate::{Usage, interrupt};

pub fn run(args: &Train, common: &Common, output: &Output) -> Result<u8> {
    let recipe = read_recipe(&args.recipe, &args.overrides, common)?;
    if args.dry_run {
        output.result(&recipe.resolved(), &json!({ "recipe": recipe }));
        return Ok(OK);
    }
    let device = crate::device::device(common.device.as_deref().unwrap_or(&recipe.device.device))?;
    let summary = train(&recipe, &device, args.resume, output)?;
    output.result(&in_words(&summary), &summary_json(&summary));
    Ok(if summary.interrupted { INTERRUPTED } else { OK })
}

/// The recipe with its overrides; its number of threads is taken where the command line names none.
pub fn read_recipe(name: &str, overrides: &[String], common: &Common) -> Result<Recipe> {
    let recipe =
        Recipe::parse(&recipe_text(name)?, overrides).with_context(|| format!("the recipe `{name}` cannot be used"))?;
    if common.threads == 0 && recipe.device.threads > 0 {
        rayon::ThreadPoolBuilder::new()
            .num_threads(recipe.device.threads)
            .build_global()
            .context("failed to set the number of threads")?;
    }
    Ok(recipe)
}

/// What a run came to.
fn in_words(summary: &Summary) -> String {
    let (run, step) = (summary.run_dir.display(), summary.step);
    if summary.interrupted {
        return format!("stopped after step {step}; go on with: afina train {run}/recipe.toml --resume");
    }
    let early = match summary.total_steps {
        total if step < total => format!(" of {total}, for the validation loss had stopped falling,"),
        _ => String::new(),
    };
    let which = match summary.best {
        Some(best) => format!("the best adapter (step {}, validation loss {:.4})", best.step, best.eval_loss),
        None => "the adapter".to_owned(),
    };
    format!("trained {step} steps{early} in {:.0} s; {which} is in {run}", summary.seconds)
}

/// Runs the loop with its figures on stderr; Ctrl-C saves and stops.
pub fn train(recipe: &Recipe, device: &Device, resume: bool, output: &Output) -> Result<Summary> {
    let stopped = interrupt::watch()?;
    let bar = output.progress(0, "{msg}  {bar:24} {pos}/{len}  {elapsed} so far, {eta} to go");
    let result = afina_recipes::run(recipe, device, resume, &mut |event| {
        match event {
            Event::Loading { done, total } => {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
                bar.set_message("loading");
            }
            Event::Started(start) => {
                bar.suspend(|| describe(start, output));
                bar.set_length(start.total_steps as u64);
                bar.set_position(start.first_step as u64);
                bar.reset_elapsed();
                bar.reset_eta();
            }
            Event::Step { metrics, .. } => {
                bar.set_position(metrics.step as u64);
                bar.set_message(format!("loss {:.4}  {:.0} tokens/s", metrics.loss, metrics.tokens_per_second));
            }
            Event::MicroBatch { .. } => {}
            Event::Evaluated { step, eval_loss, token_accuracy, is_best } => note(
                &bar,
                output,
                &format!(
                    "step {step}: validation loss {eval_loss:.4}{}, token accuracy {:.1} %",
                    if is_best { " (the lowest so far)" } else { "" },
                    100.0 * token_accuracy
                ),
            ),
            Event::Sample { step, prompt, text } => {
                note(&bar, output, &format!("step {step}: {prompt} → {}", text.trim().replace('\n', "⏎")));
            }
            Event::Rehearsed(Rehearsal { seconds, peak_memory }) => note(
                &bar,
                output,
                &format!("rehearsal      {seconds:.1} s, peak memory {:.0} MB", peak_memory as f64 / 1e6),
            ),
            Event::Exported { path } => note(&bar, output, &format!("exported       {}", path.display())),
            Event::Saved { step, path } => note(&bar, output, &format!("step {step}: saved {}", path.display())),
        }
        if interrupt::came(&stopped) { Control::Stop } else { Control::Continue }
    });
    bar.finish_and_clear();
    show_refused(result, output)
}

/// Prints the diagnostics of refused data; the error itself goes on.
pub fn show_refused<T>(result: Result<T>, output: &Output) -> Result<T> {
    const SHOWN_OF_A_RULE: usize = 20;
    if let Some(refused) = result.as_ref().err().and_then(|error| error.downcast_ref::<DataRefused>()) {
        output.faults(&afina_data::render_text(&refused.diagnostics, &refused.summary, SHOWN_OF_A_RULE));
    }
    result
}

/// The last step's metrics, and what is known of the whole run.
fn summary_json(summary: &Summary) -> serde_json::Value {
    let mut json = match &summary.metrics {
        Some(metrics) => serde_json::to_value(metrics).expect("metrics are plain numbers"),
        None => json!({ "step": summary.step }),
    };
    json["run"] = json!(summary.run_dir);
    json["interrupted"] = json!(summary.interrupted);
    json["total_steps"] = json!(summary.total_steps);
    json["best"] = json!(summary.best);
    json["seconds"] = json!(summary.seconds);
    json
}

/// A file's text, else a built-in recipe's.
fn recipe_text(name: &str) -> Result<String> {
    if Path::new(name).is_file() {
        return std::fs::read_to_string(name).with_context(|| format!("failed to read the recipe `{name}`"));
    }
    match find_built_in(name) {
        Some(recipe) => Ok(recipe.toml.to_owned()),
        None => Err(Usage::error(
            format!("no recipe file `{name}`, and no built-in recipe of that name"),
            "`afina ls` lists the built-in ones",
        )),
    }
}

fn note(bar: &ProgressBar, output: &Output, text: &str) {
    bar.suspend(|| output.note(text));
}

/// The figures people look for before they let a run go on.
fn describe(start: &Start, output: &Output) {
    let trained = 100.0 * start.trained_tokens as f64 / start.tokens as f64;
    let share = 100.0 * start.trainable_parameters as f64 / start.base_parameters as f64;
    output.note(&format!("run            {}", start.run_dir.display()));
    output.note(&format!(
        "data           {} examples ({} for validation), {} tokens, {} trained ({trained:.1} %)",
        start.examples, start.validation_examples, start.tokens, start.trained_tokens
    ));
    output.note(&format!(
        "batch          {} row{} a step, {:.1} examples on average; {} steps",
        start.rows_per_step,
        if start.rows_per_step == 1 { "" } else { "s" },
        start.examples_per_step,
        start.total_steps
    ));
    output.note(&format!(
        "parameters     {} trainable of {} ({share:.2} %); activations are {}",
        grouped(start.trainable_parameters),
        grouped(start.base_parameters),
        if start.recompute { "computed again in the backward pass" } else { "kept for the backward pass" }
    ));
    if start.files.iter().any(|file| file.weight != 1.0) {
        let files: Vec<String> =
            start.files.iter().map(|file| format!("{} × {}", file.path.display(), file.weight)).collect();
        output.note(&format!("an epoch       {}", files.join(", ")));
    }
    let own = if start.chat_template == "model" { "the model's" } else { &start.chat_template };
    output.note(&format!("chat template  {own}, sha256 {}…", &start.template_sha256[..12]));
    output.note(&format!("base model     sha256 {}…", &start.base_sha256[..12]));
    too_long(start, output);
    if start.first_step + start.first_micro_batch > 0 {
        let inside = match start.first_micro_batch {
            0 => String::new(),
            done => format!(" and {done} micro-batches of the next"),
        };
        output.note(&format!("resumed        after step {}{inside}", start.first_step));
    }
    output.note(if output.color_stderr {
        "examples       trained text in green"
    } else {
        "examples       trained text between «»"
    });
    for example in &start.shown {
        output.note(&format!(
            "  {}",
            super::render::marked(example, |text| output.trained_note(text)).replace('\n', "⏎")
        ));
    }
}

/// What examples that are longer than a row lose.
fn too_long(start: &Start, output: &Output) {
    const SHOWN: usize = 10;
    let Start { excess, longest, .. } = start;
    if excess.is_empty() {
        return;
    }
    let sum = |number: fn(&Excess) -> usize| grouped(excess.iter().map(number).sum());
    output.note(&format!(
        "too long       {} of more than {longest} tokens, {} left out; lost: {} of {} tokens, {} of {} trained",
        grouped(excess.len()),
        grouped(excess.iter().filter(|excess| excess.pieces == 0).count()),
        sum(|excess| excess.tokens - excess.tokens_kept),
        sum(|excess| excess.tokens),
        sum(|excess| excess.trained_tokens_lost),
        sum(|excess| excess.trained_tokens)
    ));
    for Excess { file, line, tokens, tokens_kept, trained_tokens, trained_tokens_lost, pieces, .. } in
        excess.iter().take(SHOWN)
    {
        let pieces = if *pieces > 1 { format!(" in {pieces} examples") } else { String::new() };
        output.note(&format!(
            "  {file}:{line}: {tokens_kept} of {tokens} tokens kept{pieces}, {trained_tokens_lost} of {trained_tokens} trained lost"
        ));
    }
    let (more, all) = (excess.len().saturating_sub(SHOWN), start.run_dir.join("excess.jsonl"));
    output.note(&format!(
        "  {}all in {}",
        if more > 0 { format!("and {more} more; ") } else { String::new() },
        all.display()
    ));
}

/// 4884480 → 4,884,480
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
