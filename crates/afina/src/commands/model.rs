//! A model for a command that uses one: loaded behind a progress bar, with its adapter on.

use std::path::Path;

use afina_chat::{ChatFormat, TemplateChoice};
use afina_recipes::chat_format;
use anyhow::Result;
use burn::tensor::Device;

use crate::args::ModelArgs;
use crate::engine::LlamaEngine;
use crate::output::Output;

/// Names by which a command's two models are known to the engine.
pub const BASE: &str = "base";
pub const ADAPTER: &str = "adapter";

/// Loads a base model under a name, to be used with a chat format.
pub fn load_base(dir: &Path, id: &str, format: ChatFormat, device: &Device, output: &Output) -> Result<LlamaEngine> {
    let bar = output.progress(1, "loading {bar:30} {pos}/{len} tensors");
    let engine = LlamaEngine::load(dir, id, format, device, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    Ok(engine)
}

/// Loads a model with a chat template and, where one is given, an adapter with its own; returns the id to ask the engine for.
pub fn load(
    ModelArgs { model, adapter }: &ModelArgs,
    template: &TemplateChoice,
    device: &Device,
    output: &Output,
) -> Result<(LlamaEngine, &'static str)> {
    let adapter = adapter.as_deref();
    let mut engine = load_base(model, BASE, chat_format(model, adapter, template)?, device, output)?;
    let Some(adapter) = adapter else { return Ok((engine, BASE)) };
    if let Some(warning) = engine.add_adapter(ADAPTER, adapter)? {
        output.warn(&warning);
    }
    Ok((engine, ADAPTER))
}
