//! `afina export`: what other programs load.

use std::path::Path;

use afina_checkpoint::{
    AdapterKind, AtomicDir, Fallback, Format, GgufReport, MergeReport, Mix, ModelDir, SHARD_SIZE, export_gguf,
    export_hf, file_behind,
};
use anyhow::{Context, Result};
use serde_json::json;

use super::{OK, adapters, merge, ollama};
use crate::Usage;
use crate::args::{Export, ExportKind};
use crate::output::Output;

pub fn run(args: &Export, output: &Output) -> Result<u8> {
    match args.kind {
        ExportKind::Peft => return adapters::export(args, AdapterKind::Peft, output),
        ExportKind::Mlx => return adapters::export(args, AdapterKind::Mlx, output),
        ExportKind::GgufLora => return adapters::export(args, AdapterKind::GgufLora, output),
        ExportKind::Hf | ExportKind::Gguf | ExportKind::Ollama => {}
    }
    let Some(model) = &args.model else {
        return Err(Usage::error("an export of a model needs the model", "give it with --model DIR"));
    };
    if args.kind == ExportKind::Hf && args.mix.is_some() {
        return Err(Usage::error("only a GGUF has a --type", "leave it out, or write one with --as gguf"));
    }
    if args.kind != ExportKind::Hf {
        warn_of_requantizing(model, args.mix.unwrap_or(Mix::Q8_0), output)?;
    }
    match (args.kind, args.adapter.as_deref()) {
        (ExportKind::Hf, None) => {
            export_hf(&open(model)?, &args.to, args.shards.shard_size)
                .with_context(|| format!("failed to export to `{}`", args.to.display()))?;
        }
        (ExportKind::Hf, Some(adapter)) => {
            merge::merge(model, adapter, &args.to, args.shards.shard_size, output)?;
        }
        (_, None) => return told(&args.to, &quantized(model, args, false, output)?, None, output),
        (_, Some(adapter)) => {
            // Merged aside, in a folder beside the target, so that one disk holds both; it goes when that is there, and where
            // the program is killed, with the next write to the same target.
            // What is in the way is told before hours of work.
            let aside = match args.kind {
                ExportKind::Ollama => AtomicDir::create_new(&args.to),
                _ => file_behind(&args.to).and_then(|_| AtomicDir::create(&args.to)),
            };
            let aside = aside.with_context(|| format!("failed to make a folder beside `{}`", args.to.display()))?;
            // The folder's name becomes the model's in the GGUF.
            let name = if args.kind == ExportKind::Ollama { args.to.file_name() } else { args.to.file_stem() };
            let merged = aside.path().join(name.unwrap_or("merged".as_ref()));
            let merge = merge::merge(model, adapter, &merged, SHARD_SIZE, output)?;
            return told(&args.to, &quantized(&merged, args, true, output)?, Some(&merge), output);
        }
    }
    let path = args.to.display().to_string();
    output.result(&path, &json!({ "path": path }));
    Ok(OK)
}

/// Writes a model folder as one GGUF file behind a progress bar.
pub fn gguf(model: &Path, to: &Path, mix: Mix, measure: bool, output: &Output) -> Result<GgufReport> {
    let bar = output.progress(1, "writing {bar:30} {pos}/{len} tensors");
    let result = export_gguf(&open(model)?, to, mix, measure, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    result.with_context(|| format!("failed to export to `{}`", to.display()))
}

/// A base that is quantized keeps the errors of that, and gets others.
fn warn_of_requantizing(model: &Path, mix: Mix, output: &Output) -> Result<()> {
    let few_bits = !matches!(mix.format(), Format::F32 | Format::F16 | Format::BF16);
    if let Some(quantization) = open(model)?.quantization().filter(|_| few_bits) {
        let model = model.display();
        output.warn(&format!(
            "`{model}` is quantized already ({quantization}), and {mix} adds its errors to those; --type F16 adds almost none"
        ));
    }
    Ok(())
}

/// A GGUF file, or Ollama's folder with one.
fn quantized(model: &Path, args: &Export, measure: bool, output: &Output) -> Result<GgufReport> {
    let mix = args.mix.unwrap_or(Mix::Q8_0);
    match args.kind {
        ExportKind::Ollama => ollama::export(model, &args.to, mix, output),
        _ => gguf(model, &args.to, mix, measure, output),
    }
}

fn told(to: &Path, report: &GgufReport, merge: Option<&MergeReport>, output: &Output) -> Result<u8> {
    let (mut text, mut facts) = (summary(to, report), facts(to, report, false)?);
    if let Some((drowned @ 1.., changed)) = merge.map(|merge| report.drowned(merge)) {
        text.push_str(&format!(
            "\n  {} changes {drowned} of the adapter's {changed} tensors more than the adapter does: see with `afina parity`",
            report.mix
        ));
        facts["changed_more_than_by_the_adapter"] = drowned.into();
    }
    output.result(&text, &facts);
    Ok(OK)
}

/// Where the file is, how large, and which tensors have another format than the mix has for them.
pub fn summary(to: &Path, report: &GgufReport) -> String {
    let (megabytes, bits) = (report.bytes as f64 / 1e6, report.bits_per_weight());
    let mut text = format!("{}\n  {}: {megabytes:.1} MB, {bits:.2} bits a weight", to.display(), report.mix);
    let fallbacks = report.fallbacks();
    if !fallbacks.is_empty() {
        let each: Vec<String> = fallbacks.iter().map(fallback).collect();
        text.push_str(&format!("\n  other formats: {}", each.join("; ")));
    }
    text
}

fn fallback(Fallback { columns, wanted, format, tensors }: &Fallback) -> String {
    let (block, tensors) = (wanted.block(), if *tensors == 1 { "1 tensor" } else { &format!("{tensors} tensors") });
    format!("{format} in place of {wanted} in {tensors}, rows of {columns} are no whole blocks of {block}")
}

/// The same as JSON; `tensors` each, if they were asked for.
pub fn facts(to: &Path, report: &GgufReport, tensors: bool) -> Result<serde_json::Value> {
    let mut facts = serde_json::to_value(report)?;
    facts["path"] = to.display().to_string().into();
    facts["bits_per_weight"] = report.bits_per_weight().into();
    facts["fallbacks"] = serde_json::to_value(report.fallbacks())?;
    if !tensors {
        facts.as_object_mut().expect("a report is an object").remove("tensors");
    }
    Ok(facts)
}

pub fn open(model: &Path) -> Result<ModelDir> {
    ModelDir::open(model).with_context(|| format!("failed to open the model `{}`", model.display()))
}
