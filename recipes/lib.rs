//! Training loops to copy and change, and the settings to run them with. A loop is one file that imports no other loop; this file is the registry.

mod built_in;
mod chat_format;
mod data;
#[cfg(test)]
mod evaluated;
mod event;
mod examples;
mod excess;
mod exports;
mod failed_step;
mod fit;
mod forecast;
mod keys;
mod ledger;
mod logs;
mod lora_finetune;
mod memory;
#[cfg(test)]
mod over_length;
mod plan;
mod precision;
mod probe;
mod recipe;
mod rehearsal;
#[cfg(test)]
mod rehearsed;
#[cfg(test)]
mod resumed;
mod run_folder;
mod samples;
mod tables;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tool_rows;
mod train_file;
mod work;

pub use built_in::{BUILT_IN, BuiltIn, find_built_in};
pub use chat_format::chat_format;
pub use event::{Control, Event, ResumeRefused, Start, Summary};
pub use examples::{DataRefused, Examples, cannot_render, pieces, read_examples};
pub use excess::{Excess, ExcessLength};
pub use exports::ExportAs;
pub use failed_step::{Fault, StepFailed};
pub use fit::{Setting, fit};
pub use forecast::{Forecast, Prepared};
pub use ledger::{Place, Row, learned_rows};
pub use memory::{WouldNotFit, check_limit, in_bytes, parse_bytes};
pub use probe::{MeasuredStep, Probe, probe};
pub use recipe::{Recipe, RecipeError};
pub use rehearsal::Rehearsal;
pub use tables::{
    DataTable, DeviceTable, EarlyStoppingTable, EvalTable, ExportTable, LoraTable, ModelTable, SaveTable,
    TargetModules, TrainTable,
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
