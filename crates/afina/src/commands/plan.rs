//! `afina plan`: what a recipe would take of memory and time, before it is trained.

use afina_recipes::{Forecast, Prepared, Probe, Recipe, Setting, check_limit, fit, in_bytes, parse_bytes, probe};
use afina_train::BatchShape;
use anyhow::Result;
use serde_json::{Value, json};

use super::OK;
use super::train::{grouped, read_recipe, show_refused};
use crate::Usage;
use crate::args::{Common, Plan};
use crate::output::Output;

pub fn run(args: &Plan, common: &Common, output: &Output) -> Result<u8> {
    let recipe = read_recipe(&args.recipe, &args.overrides, common)?;
    let device = common.device.as_deref().unwrap_or(&recipe.device.device);
    if !["auto", "cpu"].contains(&device) {
        let hint = "run it with --device cpu: what a graphics card takes is not counted yet";
        return Err(Usage::error(format!("device `{device}` cannot be planned"), hint));
    }
    let device = crate::device::device(device)?;
    let limit = args.fit.as_deref().map(|size| limit(size, &recipe)).transpose()?;
    let prepared = show_refused(Prepared::read(&recipe), output)?;
    let Setting { recipe, overrides, forecast } = match limit {
        Some(limit) => fit(&recipe, &prepared, limit)?,
        None => Setting { forecast: prepared.forecast(&recipe)?, overrides: Vec::new(), recipe },
    };
    let bar = output.progress(0, "loading  {bar:24} {pos}/{len}");
    let probe = args.probe.then(|| {
        probe(&recipe, &prepared, &device, &mut |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        })
    });
    bar.finish_and_clear();
    let probe = probe.transpose()?;

    let mut text = in_words(&recipe, &forecast);
    let mut value = as_json(&recipe, &forecast);
    if let Some(limit) = limit {
        let command = train_command(args, &overrides);
        text.push_str(&format!("fits           into {}, with: {command}\n", in_bytes(limit)));
        value["fit"] = json!({ "limit": limit, "overrides": overrides });
    }
    if let Some(probe) = probe {
        text.push_str(&time_in_words(&probe));
        value["time"] = json!(probe);
    }
    output.result(&text, &value);
    check_limit(&recipe, &forecast.memory)?;
    Ok(OK)
}

/// What `--fit` says, or the recipe's own limit where that is lower.
fn limit(size: &str, recipe: &Recipe) -> Result<u64> {
    let Some(limit) = parse_bytes(size) else {
        return Err(Usage::error(format!("expected a size in kB, MB or GB, found `{size}`"), "as in --fit 4GB"));
    };
    Ok(limit.min(recipe.memory_limit()?.unwrap_or(limit)))
}

/// The command that trains so: what was given, and what was found, each key once.
fn train_command(args: &Plan, found: &[String]) -> String {
    let key = |word: &str| word.split('=').next().map(str::to_owned);
    let given = args.overrides.iter().filter(|given| !found.iter().any(|found| key(found) == key(given)));
    let words = ["afina train", &args.recipe].into_iter().chain(given.chain(found).map(String::as_str));
    words.collect::<Vec<_>>().join(" ")
}

fn in_words(recipe: &Recipe, forecast: &Forecast) -> String {
    let (_, at_peak) = forecast.memory.peak();
    let of_steps = |number: fn(&BatchShape) -> usize| grouped(forecast.steps.iter().flatten().map(number).sum());
    let mut text = format!(
        "steps          {}, each of {} × {}; {} tokens, {} trained\n",
        grouped(forecast.steps.len()),
        counted(recipe.train.gradient_accumulation_steps, "micro-batch", "micro-batches"),
        counted(recipe.train.micro_batch_size, "row", "rows"),
        of_steps(|batch| batch.tokens),
        of_steps(|batch| batch.trained),
    );
    text.push_str(&format!(
        "settings       {}, r {} ({} parameters), activations are {}\n",
        precision(forecast),
        recipe.lora.r,
        grouped(forecast.trainable_parameters),
        if forecast.recompute { "computed again in the backward pass" } else { "kept for the backward pass" },
    ));
    text.push_str(&format!("memory         {:24}{:>12}{:>12}\n", "", "at the peak", "at most"));
    for (index, (name, bytes)) in at_peak.by_name().into_iter().enumerate() {
        let most = forecast.memory.moments.iter().map(|(_, classes)| classes.by_name()[index].1).max().unwrap_or(0);
        text.push_str(&format!("  {name:37}{:>12}{:>12}\n", in_table(bytes), in_table(most)));
    }
    text.push_str(&format!("  {:37}{:>12}   while {}\n", "peak", in_bytes(at_peak.total()), moment(forecast)));
    text
}

fn in_table(bytes: u64) -> String {
    if bytes == 0 { "–".to_owned() } else { in_bytes(bytes) }
}

fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { several })
}

fn time_in_words(probe: &Probe) -> String {
    let Probe {
        median_step_seconds, tokens_per_second, run_seconds, seconds_per_token, seconds_per_trained_token, ..
    } = probe;
    format!(
        "time           {} for the run: {median_step_seconds:.2} s a step (median), {tokens_per_second:.0} tokens/s\n  a token takes {:.2} ms, and {:.2} ms more where it is trained\n",
        duration(*run_seconds),
        1e3 * seconds_per_token,
        1e3 * seconds_per_trained_token,
    )
}

fn duration(seconds: f64) -> String {
    match seconds {
        7200.0.. => format!("{:.1} hours", seconds / 3600.0),
        120.0.. => format!("{:.0} minutes", seconds / 60.0),
        _ => format!("{seconds:.0} s"),
    }
}

fn as_json(recipe: &Recipe, forecast: &Forecast) -> Value {
    let (moment, at_peak) = forecast.memory.peak();
    let batches = || forecast.steps.iter().flatten();
    let moments: serde_json::Map<String, Value> = forecast
        .memory
        .moments
        .iter()
        .map(|(moment, classes)| (json!(moment).as_str().unwrap_or_default().to_owned(), json!(classes.total())))
        .collect();
    json!({
        "memory": { "peak": at_peak.total(), "moment": moment, "classes": at_peak, "moments": moments },
        "steps": forecast.steps.len(),
        "tokens": batches().map(|batch| batch.tokens).sum::<usize>(),
        "trained_tokens": batches().map(|batch| batch.trained).sum::<usize>(),
        "largest_micro_batch": batches().map(|batch| batch.tokens).max(),
        "longest_example": batches().map(|batch| batch.longest).max(),
        "trainable_parameters": forecast.trainable_parameters,
        "micro_batch_size": recipe.train.micro_batch_size,
        "gradient_accumulation_steps": recipe.train.gradient_accumulation_steps,
        "precision": precision(forecast),
        "recompute": forecast.recompute,
    })
}

fn precision(forecast: &Forecast) -> &'static str {
    if forecast.is_bf16 { "bf16" } else { "f32" }
}

fn moment(forecast: &Forecast) -> &'static str {
    use afina_train::Moment;
    match forecast.memory.peak().0 {
        Moment::Loading => "the model is loaded",
        Moment::Head => "logits are computed",
        Moment::Backward => "the last block's gradient is computed",
        Moment::Evaluation => "validation data is evaluated",
        Moment::Saving => "a checkpoint is written",
    }
}
