//! The files of a merged model that hold no weights.

use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use super::MergeError;
use crate::adapter::CHAT_TEMPLATE;
use crate::atomic::write_file;
use crate::export::copy_plain_companions;
use crate::model_dir::ModelDir;
use crate::tensor::Dtype;

/// How the merged model's config differs from the base's.
pub(super) struct Changes {
    pub untied: bool,
    pub dtype: Option<Dtype>,
}

/// Copies the base's companion files to `folder`, with the config of the merged weights and the chat template of the adapter.
pub(super) fn write(
    base: &ModelDir,
    folder: &Path,
    changes: &Changes,
    template: Option<&Path>,
) -> Result<(), MergeError> {
    copy_plain_companions(base, folder)?;
    let io_error = |source| MergeError::Io { path: folder.into(), source };
    set_config(changes, folder).map_err(io_error)?;
    if let Some(template) = template {
        set_template(template, folder).map_err(io_error)?;
    }
    Ok(())
}

/// Says in config.json what is true of the merged weights.
fn set_config(changes: &Changes, folder: &Path) -> io::Result<()> {
    change_json(&folder.join("config.json"), |config| {
        if changes.untied {
            config.insert("tie_word_embeddings".into(), false.into());
        }
        if let Some(dtype) = changes.dtype {
            let name = match dtype {
                Dtype::F64 => "float64",
                Dtype::F16 => "float16",
                Dtype::BF16 => "bfloat16",
                _ => "float32",
            };
            // `dtype` since transformers 5.
            let key = if config.contains_key("dtype") { "dtype" } else { "torch_dtype" };
            config.insert(key.into(), name.into());
        }
        changes.untied || changes.dtype.is_some()
    })
}

/// Puts a chat template where every program looks for one: in its file, and in tokenizer_config.json if that names one.
fn set_template(template: &Path, folder: &Path) -> io::Result<()> {
    let text = std::fs::read_to_string(template)?;
    write_file(&folder.join(CHAT_TEMPLATE), text.as_bytes())?;
    let path = folder.join("tokenizer_config.json");
    if !path.is_file() {
        return Ok(());
    }
    change_json(&path, |config| match config.get_mut("chat_template") {
        Some(named) => {
            *named = text.into();
            true
        }
        None => false,
    })
}

/// Writes a JSON object again if `change` says that it changed it.
fn change_json(path: &Path, change: impl FnOnce(&mut Map<String, Value>) -> bool) -> io::Result<()> {
    let mut object: Map<String, Value> = serde_json::from_slice(&std::fs::read(path)?)?;
    if change(&mut object) {
        write_file(path, &serde_json::to_vec_pretty(&object)?)?;
    }
    Ok(())
}
