//! `afina logits`: what the model computes for a raw prompt, for comparison with other programs.

use afina_chat::TemplateChoice;
use afina_checkpoint::{Dtype, RawTensor, write_tensors};
use afina_ops::Segments;
use anyhow::{Context, Result};
use burn::tensor::Device;
use serde_json::json;

use super::{OK, model};
use crate::args::Logits;
use crate::output::Output;

pub fn run(args: &Logits, device: &Device, output: &Output) -> Result<u8> {
    let (engine, id) = model::load(&args.model, &TemplateChoice::Model, device, output)?;
    let tokens = engine
        .format(id)
        .expect("the model was just loaded under this id")
        .tokenizer
        .encode_with_specials(&args.prompt);
    if tokens.is_empty() {
        return Err(crate::Usage::error("the prompt has no tokens", "give --prompt some text"));
    }
    let llama = engine.llama(id).expect("the model was just loaded under this id");
    let hidden = llama.forward(&tokens, Segments::one(tokens.len()), None);
    let logits = llama.logits(hidden);
    let [rows, vocab] = logits.dims();
    let values: Vec<f32> = logits.try_into_vec_as().context("failed to read the logits from the device")?;
    let ids = tokens.iter().flat_map(|&id| i64::from(id).to_le_bytes()).collect();
    let tensors = [
        RawTensor { name: "tokens".to_owned(), dtype: Dtype::I64, shape: vec![rows], bytes: ids },
        RawTensor::from_f32("logits".to_owned(), vec![rows, vocab], &values),
    ];
    write_tensors(&args.to, &tensors).with_context(|| format!("failed to write `{}`", args.to.display()))?;
    let path = args.to.display().to_string();
    output.result(
        &format!("wrote {rows} × {vocab} logits to {path}"),
        &json!({ "path": path, "tokens": rows, "vocab": vocab }),
    );
    Ok(OK)
}
