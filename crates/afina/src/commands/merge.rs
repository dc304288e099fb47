//! `afina merge`: adapters into the weights of their base.

use std::path::{Path, PathBuf};

use afina_chat::TemplateChoice;
use afina_checkpoint::{Combination, Dtype, MajoritySign, MergeOptions, MergeReport, ModelDir, Origin, merge_adapter};
use afina_eval::Divergence;
use anyhow::{Context, Result};
use burn::tensor::Device;
use serde_json::json;

use super::parity::{TrainingGraph, beyond, number, training_graph};
use super::{OK, REFUSED};
use crate::Usage;
use crate::args::{FloatType, Merge, MergeMethod, ModelArgs, Onto, Sign, WeightedAdapter};
use crate::output::Output;

pub fn run(args: &Merge, device: &Device, output: &Output) -> Result<u8> {
    let base = open(&args.base)?;
    let original = original(args, &base)?;
    let adapters: Vec<(PathBuf, f64)> =
        args.adapter.iter().map(|adapter| (adapter.path.clone(), adapter.weight)).collect();
    let options = MergeOptions {
        adapters: &adapters,
        combination: combination(args)?,
        original: original.as_ref(),
        dtype: args.dtype.map(|dtype| match dtype {
            FloatType::F32 => Dtype::F32,
            FloatType::F16 => Dtype::F16,
            FloatType::Bf16 => Dtype::BF16,
        }),
        shard_size: args.shards.shard_size,
    };
    let graph = graph(args, device, output)?; // what is wrong with the data is told before anything is merged
    let merged = behind_a_bar(output, |progress| afina_checkpoint::merge(&base, &options, &args.to, progress))
        .with_context(|| failed(&adapters, &args.base))?;
    warn(&merged.report, output);
    let measured = graph
        .map(|graph| graph.beside(merged.path(), device, output).map(|(_, divergence)| divergence))
        .transpose()
        .context("failed to hold the merged model against the training graph")?;
    if let (Some(measured), Some(limit)) = (&measured, args.max_kl)
        && beyond(measured.mean_kl, limit)
    {
        let text = format!("{}\nmean KL above {limit}: nothing was written", agreement(measured));
        output.result(&text, &json!({ "passed": false, "measured": measured }));
        return Ok(REFUSED);
    }
    let json = measured.as_ref().map(serde_json::to_value).transpose()?;
    let report = merged.commit(json.as_ref()).with_context(|| failed(&adapters, &args.base))?;
    let mut text = summary(&args.to, &report);
    let mut facts = serde_json::to_value(&report)?;
    if let Some(measured) = &measured {
        text.push_str(&format!("\n  {}", agreement(measured)));
        facts["measured"] = serde_json::to_value(measured)?;
    }
    output.result(&text, &facts);
    Ok(OK)
}

/// The base with its adapter on it, as training runs them, where the merged model is to be held against it.
fn graph(args: &Merge, device: &Device, output: &Output) -> Result<Option<TrainingGraph>> {
    let Some(data) = &args.data else { return Ok(None) };
    let [WeightedAdapter { path, weight: 1.0 }] = args.adapter.as_slice() else {
        return Err(Usage::error(
            "--data holds the merged model against one adapter as it was trained",
            "leave it out where several are combined or weighted",
        ));
    };
    let model = ModelArgs { model: args.base.clone(), adapter: Some(path.clone()) };
    training_graph(&model, &TemplateChoice::Model, data, args.rows, device, output).map(Some)
}

fn agreement(measured: &Divergence) -> String {
    format!(
        "beside the training graph, over {} tokens: mean KL {:.2e}, max |Δlogit| {:.2e}, top-1 {:.2} %",
        measured.tokens,
        measured.mean_kl,
        measured.max_abs_logit,
        100.0 * measured.top1
    )
}

/// Merges one adapter behind a progress bar and warns of what looks wrong.
pub fn merge(base: &Path, adapter: &Path, to: &Path, shard_size: u64, output: &Output) -> Result<MergeReport> {
    let model = open(base)?;
    let report = behind_a_bar(output, |progress| merge_adapter(&model, adapter, to, shard_size, progress))
        .with_context(|| failed(&[(adapter.to_path_buf(), 1.0)], base))?;
    warn(&report, output);
    Ok(report)
}

fn open(base: &Path) -> Result<ModelDir> {
    ModelDir::open(base).with_context(|| format!("failed to open the base model `{}`", base.display()))
}

fn failed(adapters: &[(PathBuf, f64)], base: &Path) -> String {
    let names: Vec<String> = adapters.iter().map(|(path, _)| format!("`{}`", path.display())).collect();
    format!("failed to merge {} into `{}`", names.join(" and "), base.display())
}

fn behind_a_bar<T>(output: &Output, work: impl FnOnce(&mut dyn FnMut(usize, usize)) -> T) -> T {
    let bar = output.progress(1, "merging {bar:30} {pos}/{len} tensors");
    let result = work(&mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    result
}

fn combination(args: &Merge) -> Result<Combination> {
    let density = args.density.unwrap_or(1.0);
    if !(density > 0.0 && density <= 1.0) {
        let message = format!("--density: expected a share above 0 and up to 1, found {density}");
        return Err(Usage::error(message, "0.5 keeps half of each factor's values"));
    }
    if args.density.is_some() && matches!(args.method, MergeMethod::Cat | MergeMethod::Linear) {
        return Err(Usage::error(
            "--density is for ties, dare_linear, dare_ties and magnitude_prune",
            "choose one with --method",
        ));
    }
    let majority_sign = match args.majority_sign {
        Sign::Total => MajoritySign::Total,
        Sign::Frequency => MajoritySign::Frequency,
    };
    Ok(match args.method {
        MergeMethod::Cat => Combination::Cat,
        MergeMethod::Linear => Combination::Linear,
        MergeMethod::Ties => Combination::Ties { density, majority_sign },
        MergeMethod::DareLinear => Combination::DareLinear { density, seed: args.seed },
        MergeMethod::DareTies => Combination::DareTies { density, majority_sign, seed: args.seed },
        MergeMethod::MagnitudePrune => Combination::MagnitudePrune { density },
    })
}

/// The unquantized model, if it was asked for: the one given, or the one that the base's manifest names.
fn original(args: &Merge, base: &ModelDir) -> Result<Option<ModelDir>> {
    if args.onto == Onto::TrainedBase {
        return match &args.original {
            Some(_) => Err(Usage::error("--original is for --onto original", "add --onto original")),
            None => Ok(None),
        };
    }
    let open =
        |path: &Path| ModelDir::open(path).with_context(|| format!("failed to open the original `{}`", path.display()));
    if let Some(path) = &args.original {
        return open(path).map(Some);
    }
    let hint = "name the unquantized model with --original DIR";
    let Some(Origin::Quantize { model, weights_sha256, .. }) = base.origin()?.map(|manifest| manifest.origin) else {
        let message = format!("`{}` does not say what it was quantized from", args.base.display());
        return Err(Usage::error(message, hint));
    };
    let model = ModelDir::open(Path::new(&model)).map_err(|error| {
        let message =
            format!("`{}` was quantized from `{model}`, which cannot be opened: {error}", args.base.display());
        Usage::error(message, hint)
    })?;
    if model.weights_sha256()? != weights_sha256 {
        let message = format!(
            "`{}` is not what `{}` was quantized from: its weights have changed",
            model.path.display(),
            args.base.display()
        );
        return Err(Usage::error(message, hint));
    }
    Ok(Some(model))
}

fn warn(report: &MergeReport, output: &Output) {
    if report.base_matches == Some(false) {
        output.warn("the adapter was trained on another base: the merged model is not what was trained");
    }
    if report.relative_change == 0.0 {
        output.warn("the adapter changes no weight: every B·A is zero");
    } else if report.relative_rounding > 1.0 {
        let dtypes = report.layers.iter().map(|layer| layer.dtype);
        let dtype = dtypes.map(|dtype| dtype.to_string()).next().unwrap_or_default();
        output.warn(&format!(
            "rounding to {dtype} changes the weights {:.1} times as much as the adapter does; --dtype f32 keeps it",
            report.relative_rounding
        ));
    }
}

fn summary(to: &Path, report: &MergeReport) -> String {
    let mut text = format!(
        "{}\n  {} of {} tensors merged, weights sha256 {}…\n  ‖ΔW‖ / ‖W‖ {:.3} %, ‖rounding‖ / ‖ΔW‖ {}, changed values lost to rounding {:.3} %",
        to.display(),
        report.merged,
        report.tensors,
        &report.weights_sha256[..12],
        100.0 * report.relative_change,
        number(report.relative_rounding),
        100.0 * report.lost_to_rounding,
    );
    if let Some(distance) = report.relative_distance {
        text.push_str(&format!("\n  the original is {distance:.2} × ‖ΔW‖ away from the weights that training saw"));
    }
    if report.untied {
        text.push_str("\n  head and embeddings were one tensor and are two: the adapter changes one of them");
    }
    text
}
