//! Training loops to copy and change, and the settings to run them with. A loop is one file that imports no other loop; this file is the registry.

mod built_in;
mod chat_format;
mod event;
mod examples;
mod keys;
mod logs;
mod lora_finetune;
mod plan;
mod recipe;
#[cfg(test)]
mod resumed;
mod run_folder;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tool_rows;
mod train_file;

pub use built_in::{BUILT_IN, BuiltIn, find_built_in};
pub use chat_format::chat_format;
pub use event::{Control, Event, ResumeRefused, Start, Summary};
pub use examples::{DataRefused, Examples, cannot_render, pieces, read_examples};
pub use recipe::{
    DataTable, DeviceTable, EvalTable, LoraTable, ModelTable, Recipe, RecipeError, SaveTable, TargetModules, TrainTable,
};
pub use train_file::TrainFile;

use burn::tensor::Device;

/// Runs the loop that a recipe names.
pub fn run(
    recipe: &Recipe,
    device: &Device,
    resume: bool,
    on_event: &mut dyn FnMut(Event<'_>) -> Control,
) -> anyhow::Result<Summary> {
    match recipe.recipe.as_str() {
        "lora_finetune" => lora_finetune::run(recipe, device, resume, on_event),
        other => anyhow::bail!("unknown recipe `{other}`: this program has `lora_finetune`"),
    }
}
