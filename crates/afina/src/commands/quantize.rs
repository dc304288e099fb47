//! `afina quantize`: fewer bits a weight.

use std::fmt::Write;

use afina_checkpoint::{GgufFile, GgufReport, QuantizeError, quantize_gguf};
use anyhow::{Context, Result};

use super::{OK, export, out_file};
use crate::Usage;
use crate::args::Quantize;
use crate::output::Output;

pub fn run(args: &Quantize, output: &Output) -> Result<u8> {
    out_file::refuse_inputs(&args.to, &[&args.model])?;
    let report = if args.model.is_dir() {
        export::gguf(&args.model, &args.to, args.mix, args.report, output)?
    } else {
        file(args, output)?
    };
    let mut text = export::summary(&args.to, &report);
    if args.report {
        text = format!("{}{text}", table(&report));
    }
    output.result(&text, &export::facts(&args.to, &report, args.report)?);
    Ok(OK)
}

/// A GGUF file into another one behind a progress bar.
fn file(args: &Quantize, output: &Output) -> Result<GgufReport> {
    let source = args.model.display();
    let gguf = GgufFile::open(&args.model).with_context(|| format!("failed to open the model `{source}`"))?;
    let bar = output.progress(1, "writing {bar:30} {pos}/{len} tensors");
    let result = quantize_gguf(&gguf, &args.to, args.mix, args.allow_requantize, args.report, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    match result {
        Err(error @ QuantizeError::Requantize { .. }) => {
            let hint = "take the F32, F16 or BF16 model it came from, or add --allow-requantize: errors add up";
            Err(Usage::error(error.to_string(), hint))
        }
        other => other.with_context(|| format!("failed to quantize `{source}`")),
    }
}

/// A line a tensor.
fn table(report: &GgufReport) -> String {
    let width = report.tensors.iter().map(|tensor| tensor.name.len()).max().unwrap_or(0);
    let mut text = format!("{:<width$} {:>15} {:>6} {:>12} {:>10}\n", "tensor", "shape", "format", "bytes", "error");
    for tensor in &report.tensors {
        let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        let error = tensor.relative_rmse.map_or_else(|| "-".to_owned(), |error| format!("{:.4} %", error * 100.0));
        let (name, kind, bytes) = (&tensor.name, tensor.kind.to_string(), tensor.bytes);
        writeln!(text, "{name:<width$} {:>15} {kind:>6} {bytes:>12} {error:>10}", shape.join(" × "))
            .expect("a string takes all");
    }
    text
}
