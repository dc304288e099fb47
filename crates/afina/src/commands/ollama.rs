//! `afina export --as ollama`: a GGUF file, and a Modelfile whose template says what the model's own does.

use std::path::Path;

use afina_chat::{ChatFormat, ollama_template};
use afina_checkpoint::{GgufReport, Mix, ModelDir, added_bos, export_ollama};
use anyhow::{Context, Result};

use crate::output::Output;

/// Writes the folder behind a progress bar, and warns of what Ollama will not do as the model was trained.
pub fn export(model: &Path, to: &Path, mix: Mix, output: &Output) -> Result<GgufReport> {
    let context = || format!("failed to export to `{}`", to.display());
    let dir = ModelDir::open(model).with_context(|| format!("failed to open the model `{}`", model.display()))?;
    let bos = added_bos(&dir).with_context(context)?;
    let (template, remarks) = template(model, bos.as_deref());
    for remark in &remarks {
        output.warn(remark);
    }
    let bar = output.progress(1, "writing {bar:30} {pos}/{len} tensors");
    let report = export_ollama(&dir, to, mix, template.as_deref(), &remarks, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    report.with_context(context)
}

/// The template in Ollama's language, and what is to be said of it.
fn template(model: &Path, bos: Option<&str>) -> (Option<String>, Vec<String>) {
    const BY_ITSELF: &str = "Ollama will take the one inside the GGUF if it knows it: compare its answers";
    let chain = |error: anyhow::Error| format!("no TEMPLATE: {error:#}; {BY_ITSELF}");
    let format = match ChatFormat::load(model) {
        Ok(format) => format,
        Err(error) => return (None, vec![chain(error.into())]),
    };
    match ollama_template(&format.template, bos) {
        Ok(text) => {
            let tools =
                "tools are left out of TEMPLATE: Ollama spells their JSON otherwise than the model was trained on";
            let remarks = format.template.capabilities().tools.then(|| tools.to_owned());
            (Some(text), remarks.into_iter().collect())
        }
        Err(error) => (None, vec![chain(error.into())]),
    }
}
