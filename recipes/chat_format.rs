//! Which chat template a model, and an adapter on it, are used with outside of training.

use std::path::Path;

use afina_chat::{ChatFormat, TemplateChoice};
use afina_checkpoint::{GgufModel, TokenizerFiles, adapter_template, is_gguf};
use anyhow::{Context, Result};

/// The chat format of a model's folder or GGUF file. An adapter brings the template it was trained with, and is refused where neither its
/// folder nor the model's holds that one; `choice` is for a model without an adapter.
pub fn chat_format(model: &Path, adapter: Option<&Path>, choice: &TemplateChoice) -> Result<ChatFormat> {
    let own = match adapter {
        Some(adapter) => adapter_template(model, adapter)
            .with_context(|| format!("the adapter `{}` cannot be used on `{}`", adapter.display(), model.display()))?
            .map_or(TemplateChoice::Model, TemplateChoice::File),
        None => choice.clone(),
    };
    load(model, &own).with_context(|| format!("failed to load the chat format of `{}`", model.display()))
}

fn load(model: &Path, choice: &TemplateChoice) -> Result<ChatFormat> {
    if !is_gguf(model) {
        return Ok(ChatFormat::load_with_template(model, choice)?);
    }
    let TokenizerFiles { tokenizer, config } = GgufModel::open(model)?.tokenizer_files()?;
    Ok(ChatFormat::from_json(model, tokenizer.to_string().as_bytes(), &config.to_string(), choice)?)
}
