//! `afina quantize`: fewer bits a weight.

use std::fmt::Write;
use std::path::Path;

use afina_checkpoint::{
    Format, GgufFile, GgufReport, Mix, Nf4Error, Nf4Report, QuantizeError, quantize_gguf, quantize_nf4,
};
use anyhow::{Context, Result};
use serde_json::json;

use super::{OK, export, out_file};
use crate::Usage;
use crate::args::{Quantize, QuantizedType};
use crate::output::Output;

const REQUANTIZE: &str = "take the F32, F16 or BF16 model it came from, or add --allow-requantize: errors add up";

pub fn run(args: &Quantize, output: &Output) -> Result<u8> {
    out_file::refuse_inputs(&args.to, &[&args.model])?;
    let mix = match args.kind {
        QuantizedType::Nf4 => return nf4(args, output),
        QuantizedType::Gguf(mix) => mix,
    };
    if args.no_double_quant {
        return Err(Usage::error("--no-double-quant is for NF4", format!("leave it out for {mix}")));
    }
    let report = if args.model.is_dir() {
        refuse_requantizing(args, mix)?;
        export::gguf(&args.model, &args.to, mix, args.report, output)?
    } else {
        file(args, mix, output)?
    };
    let mut text = export::summary(&args.to, &report);
    if args.report {
        text = format!("{}{text}", table(&lines_of_gguf(&report)));
    }
    output.result(&text, &export::facts(&args.to, &report, args.report)?);
    Ok(OK)
}

/// A GGUF file into another one behind a progress bar.
fn file(args: &Quantize, mix: Mix, output: &Output) -> Result<GgufReport> {
    let source = args.model.display();
    let gguf = GgufFile::open(&args.model).with_context(|| format!("failed to open the model `{source}`"))?;
    let bar = output.progress(1, "writing {bar:30} {pos}/{len} tensors");
    let result = quantize_gguf(&gguf, &args.to, mix, args.allow_requantize, args.report, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    match result {
        Err(error @ QuantizeError::Requantize { .. }) => Err(Usage::error(error.to_string(), REQUANTIZE)),
        other => other.with_context(|| format!("failed to quantize `{source}`")),
    }
}

/// A folder whose weights are quantized loses more, in any format of few bits.
fn refuse_requantizing(args: &Quantize, mix: Mix) -> Result<()> {
    let model = export::open(&args.model)?;
    let few_bits = !matches!(mix.format(), Format::F32 | Format::F16 | Format::BF16);
    match model.quantization() {
        Some(quantization) if few_bits && !args.allow_requantize => {
            let message = format!("`{}` is quantized already: {quantization}", args.model.display());
            Err(Usage::error(message, REQUANTIZE))
        }
        _ => Ok(()),
    }
}

/// A folder into one in NF4 behind a progress bar.
fn nf4(args: &Quantize, output: &Output) -> Result<u8> {
    let source = args.model.display();
    if args.model.is_file() {
        let hint = format!("make one of the file first: `afina pull {source}`");
        return Err(Usage::error(format!("`{source}` is a file, and NF4 is made of a Hugging Face folder"), hint));
    }
    let model = export::open(&args.model)?;
    let bar = output.progress(1, "writing {bar:30} {pos}/{len} tensors");
    let (double_quant, requantize) = (!args.no_double_quant, args.allow_requantize);
    let result = quantize_nf4(&model, &args.to, double_quant, requantize, args.report, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let report = match result {
        Err(error @ Nf4Error::Requantize { .. }) => return Err(Usage::error(error.to_string(), REQUANTIZE)),
        other => other.with_context(|| format!("failed to quantize `{source}`"))?,
    };
    let mut text = summary(&args.to, &report);
    if args.report {
        text = format!("{}{text}", table(&lines_of_nf4(&report)));
    }
    let mut facts = serde_json::to_value(&report)?;
    let object = facts.as_object_mut().expect("a report is an object");
    object.extend([
        ("type".to_owned(), json!("NF4")),
        ("path".to_owned(), json!(args.to.display().to_string())),
        ("bits_per_weight".to_owned(), json!(report.bits_per_weight())),
    ]);
    if !args.report {
        object.remove("tensors");
    }
    output.result(&text, &facts);
    Ok(OK)
}

fn summary(to: &Path, report: &Nf4Report) -> String {
    let (megabytes, bits) = (report.bytes as f64 / 1e6, report.bits_per_weight());
    let scales = if report.double_quant { " with double quantization" } else { "" };
    let kept = report.tensors.iter().filter(|tensor| tensor.format != "NF4").count();
    format!("{}\n  NF4{scales}: {megabytes:.1} MB, {bits:.2} bits a weight; {kept} tensors as they were", to.display())
}

/// What the report tells of a tensor.
struct Line<'a> {
    name: &'a str,
    shape: &'a [usize],
    format: String,
    bytes: u64,
    error: Option<f64>,
}

fn lines_of_gguf(report: &GgufReport) -> Vec<Line<'_>> {
    let lines = report.tensors.iter().map(|tensor| Line {
        name: &tensor.name,
        shape: &tensor.shape,
        format: tensor.kind.to_string(),
        bytes: tensor.bytes,
        error: tensor.relative_rmse,
    });
    lines.collect()
}

fn lines_of_nf4(report: &Nf4Report) -> Vec<Line<'_>> {
    let lines = report.tensors.iter().map(|tensor| Line {
        name: &tensor.name,
        shape: &tensor.shape,
        format: tensor.format.clone(),
        bytes: tensor.bytes,
        error: tensor.relative_rmse,
    });
    lines.collect()
}

fn table(lines: &[Line<'_>]) -> String {
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
    let mut text = format!("{:<width$} {:>15} {:>6} {:>12} {:>10}\n", "tensor", "shape", "format", "bytes", "error");
    for Line { name, shape, format, bytes, error } in lines {
        let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
        let error = error.map_or_else(|| "-".to_owned(), |error| format!("{:.4} %", error * 100.0));
        writeln!(text, "{name:<width$} {:>15} {format:>6} {bytes:>12} {error:>10}", shape.join(" × "))
            .expect("a string takes all");
    }
    text
}
