//! A model for a command that uses one: loaded behind a progress bar, with its adapter on.

use std::path::Path;

use anyhow::Result;
use burn::tensor::Device;

use crate::engine::LlamaEngine;
use crate::output::Output;

/// Names by which a command's two models are known to the engine.
pub const BASE: &str = "base";
pub const ADAPTER: &str = "adapter";

/// Loads a base model as [`BASE`].
pub fn load_base(dir: &Path, id: &str, device: &Device, output: &Output) -> Result<LlamaEngine> {
    let bar = output.progress(1, "loading {bar:30} {pos}/{len} tensors");
    let engine = LlamaEngine::load(dir, id, device, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    Ok(engine)
}

/// Loads a model and, where one is given, an adapter; returns the id to ask the engine for.
pub fn load(
    model: &Path,
    adapter: Option<&Path>,
    device: &Device,
    output: &Output,
) -> Result<(LlamaEngine, &'static str)> {
    let mut engine = load_base(model, BASE, device, output)?;
    let Some(adapter) = adapter else { return Ok((engine, BASE)) };
    if let Some(warning) = engine.add_adapter(ADAPTER, adapter)? {
        output.warn(&warning);
    }
    Ok((engine, ADAPTER))
}
