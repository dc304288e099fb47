//! Adapters of other programs: `afina export --as peft|mlx|gguf-lora`, and the way to it where only PEFT's are taken.

use std::error::Error;
use std::path::Path;

use afina_checkpoint::{
    AdapterError, AdapterFormatError, AdapterKind, AdapterReport, Format, Mix, adapter_kind, base_config,
    convert_adapter, export_peft,
};
use anyhow::{Context, Result};
use serde_json::json;

use super::{OK, out_file};
use crate::Usage;
use crate::args::Export;
use crate::output::Output;

/// Writes an adapter for a program.
pub fn export(args: &Export, kind: AdapterKind, output: &Output) -> Result<u8> {
    let Some(adapter) = &args.adapter else {
        return Err(Usage::error("an export of an adapter needs the adapter", "give it with --adapter PATH"));
    };
    let format = format(args.mix, kind)?;
    if kind == AdapterKind::GgufLora {
        let inputs: Vec<&Path> =
            [Some(adapter), args.model.as_ref()].into_iter().flatten().map(|path| &**path).collect();
        out_file::refuse_inputs(&args.to, &inputs)?;
    }
    if kind == AdapterKind::Peft && !matches!(adapter_kind(adapter), Ok(AdapterKind::Mlx | AdapterKind::GgufLora)) {
        export_peft(adapter, &args.to).with_context(|| format!("failed to export to `{}`", args.to.display()))?;
        let path = args.to.display().to_string();
        output.result(&path, &json!({ "path": path }));
        return Ok(OK);
    }
    let base = args.model.as_deref().map(base_config).transpose()?;
    let report = convert_adapter(adapter, &args.to, kind, format, base.as_ref())
        .with_context(|| format!("failed to export `{}` to `{}`", adapter.display(), args.to.display()))?;
    if report.chat_template && kind != AdapterKind::Peft {
        output.warn(&format!(
            "the adapter was trained with a chat template of its own, which {} does not look for: it goes along, and has to be given to it",
            program(kind)
        ));
    }
    let mut facts = serde_json::to_value(&report)?;
    facts["path"] = args.to.display().to_string().into();
    output.result(&summary(&args.to, &report), &facts);
    Ok(OK)
}

fn format(mix: Option<Mix>, kind: AdapterKind) -> Result<Option<Format>> {
    let Some(mix) = mix else { return Ok(None) };
    if kind != AdapterKind::GgufLora {
        return Err(Usage::error("only a GGUF has a --type", "leave it out: matrices keep their own"));
    }
    match mix {
        Mix::F32 | Mix::F16 | Mix::BF16 | Mix::Q8_0 => Ok(Some(mix.format())),
        other => Err(Usage::error(
            format!("--type {other}: expected F32, F16, BF16 or Q8_0 for an adapter"),
            "to quantize further, merge it: afina export --model DIR --adapter DIR --as gguf --type TYPE",
        )),
    }
}

fn summary(to: &Path, report: &AdapterReport) -> String {
    let factor = match report.to {
        AdapterKind::Mlx => "scale",
        AdapterKind::Peft | AdapterKind::GgufLora => "alpha",
    };
    let mut text = format!(
        "{}\n  {} to {}: {} layers, {factor} {}",
        to.display(),
        program(report.from),
        program(report.to),
        report.modules,
        report.factor
    );
    if report.folded > 0 {
        text.push_str(&format!("; {} of them have another, which is multiplied into their B", report.folded));
    }
    text
}

/// The program's own name.
pub fn program(kind: AdapterKind) -> &'static str {
    match kind {
        AdapterKind::Peft => "PEFT",
        AdapterKind::Mlx => "MLX",
        AdapterKind::GgufLora => "llama.cpp",
    }
}

/// What to do where the base's numbers are missing, or another program's adapter was given for one of PEFT.
pub fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(AdapterFormatError::NoBase { .. }) = error.downcast_ref() {
        return Some("give the base with --model: a folder with its config.json, or its GGUF file".to_owned());
    }
    let path = match error.downcast_ref()? {
        AdapterError::NotAdapter { path, .. } => path,
        AdapterError::Json { path, .. } | AdapterError::Io { path, .. } => path.parent()?,
        _ => return None,
    };
    let base = match adapter_kind(path).ok()? {
        AdapterKind::Peft => return None,
        AdapterKind::Mlx => "",
        AdapterKind::GgufLora => " --model BASE",
    };
    Some(format!("make it one of PEFT: afina export --adapter {} --as peft --to DIR{base}", path.display()))
}
