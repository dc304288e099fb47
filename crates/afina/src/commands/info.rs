//! `afina info`: what a folder or file holds.

use std::fmt::Write;
use std::path::Path;

use afina_checkpoint::{Inspection, inspect};
use anyhow::Result;

use super::{OK, adapters};
use crate::output::Output;

pub fn run(path: &Path, output: &Output) -> Result<u8> {
    let inspection = inspect(path)?;
    output.result(&text(&inspection)?, &serde_json::to_value(&inspection)?);
    Ok(OK)
}

fn text(inspection: &Inspection) -> Result<String> {
    let mut text = String::new();
    let mut line = |name: &str, value: String| writeln!(text, "{name:<14} {value}");
    line("kind", format!("{:?}", inspection.kind).to_lowercase())?;
    for (name, value) in [
        ("name", &inspection.name),
        ("architecture", &inspection.architecture),
        ("license", &inspection.license),
        ("quantized", &inspection.quantization),
    ] {
        if let Some(value) = value {
            line(name, value.clone())?;
        }
    }
    if let Some(shape) = &inspection.shape {
        line(
            "shape",
            format!(
                "{} layers, hidden {}, {} heads ({} key/value) of {}, ffn {}, vocabulary {}{}",
                shape.num_hidden_layers,
                shape.hidden_size,
                shape.num_attention_heads,
                shape.num_key_value_heads,
                shape.head_dim,
                shape.intermediate_size,
                shape.vocab_size,
                if shape.tie_word_embeddings { ", head tied to the embedding" } else { "" }
            ),
        )?;
        line(
            "context",
            format!(
                "{} tokens, rope theta {}, scaling {}",
                shape.max_position_embeddings, shape.rope_theta, shape.rope_scaling
            ),
        )?;
    }
    line("parameters", format!("{} ({:.1} MB of weights)", inspection.parameters, inspection.bytes as f64 / 1e6))?;
    for (dtype, count) in &inspection.dtypes {
        line(dtype, format!("{} tensors, {} parameters", count.tensors, count.parameters))?;
    }
    if let Some(tokenizer) = &inspection.tokenizer {
        let bos = tokenizer.bos_token.as_deref().unwrap_or("none");
        line(
            "tokenizer",
            format!(
                "{}, {} tokens, bos {bos}, ends at {}",
                tokenizer.kind,
                tokenizer.vocab_size,
                tokenizer.eos_tokens.join(" ")
            ),
        )?;
    }
    if let Some(error) = &inspection.tokenizer_error {
        line("tokenizer", format!("unreadable: {error}"))?;
    }
    if let Some(template) = &inspection.template {
        line("template", format!("sha256 {}…", &template.sha256[..12]))?;
    }
    if let Some(adapter) = &inspection.adapter {
        line(
            "adapter",
            format!(
                "{}, r {}, alpha {}, {} on {} layers",
                adapters::program(adapter.program),
                adapter.r,
                adapter.lora_alpha,
                adapter.target_modules.join(" "),
                adapter.modules
            ),
        )?;
        if let Some(base) = &adapter.base {
            let hash = adapter
                .base_sha256
                .as_deref()
                .map(|hash| format!(" (weights sha256 {}…)", hash.get(..12).unwrap_or(hash)));
            line("base", format!("{base}{}", hash.unwrap_or_default()))?;
        }
    }
    if let Some(origin) = &inspection.origin {
        line("origin", serde_json::to_string(origin)?)?;
    }
    line("sha256", inspection.sha256.clone())?;
    Ok(text)
}
