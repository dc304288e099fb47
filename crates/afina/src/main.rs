//! The program: flags in, exit code out.

mod allocator;
mod args;
mod commands;
mod device;
mod engine;
mod hub;
mod interrupt;
mod output;

use std::io::ErrorKind;
use std::process::ExitCode;

use afina_chat::FormatError;
use output::Output;

fn main() -> ExitCode {
    allocator::keep_freed_pages();
    let cli = args::parse();
    let output = Output::new(&cli.common);
    if cli.common.threads > 0 {
        rayon::ThreadPoolBuilder::new()
            .num_threads(cli.common.threads)
            .build_global()
            .expect("nothing has used the thread pool before the command runs");
    }
    match commands::run(cli, &output) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let (code, hint) = verdict(&error);
            output.error(&error, hint.as_deref());
            ExitCode::from(code)
        }
    }
}

/// The exit code of an error, and what to do about it.
fn verdict(error: &anyhow::Error) -> (u8, Option<String>) {
    use commands::FAILED;
    const USAGE: u8 = 2;
    for cause in error.chain() {
        if let Some(recipe) = cause.downcast_ref::<afina_recipes::RecipeError>() {
            return (USAGE, recipe.hint().map(str::to_owned));
        }
        if cause.is::<afina_recipes::DataRefused>() {
            return (
                commands::REFUSED,
                Some("mend the lines above; `afina explain RULE` says more of a rule".to_owned()),
            );
        }
        if let Some(too_large) = cause.downcast_ref::<afina_recipes::WouldNotFit>() {
            let hint = match too_large {
                afina_recipes::WouldNotFit::Limit { .. } => {
                    "`afina plan RECIPE --fit SIZE` finds the fastest setting that fits"
                }
                afina_recipes::WouldNotFit::NoSetting { .. } => {
                    "shorten data.seq_len or lower lora.r, or give it more memory"
                }
            };
            return (commands::TOO_LARGE, Some(hint.to_owned()));
        }
        if cause.is::<afina_recipes::ResumeRefused>() {
            return (USAGE, Some("put it back as it was, or start a new run (run=NAME)".to_owned()));
        }
        if let Some(failed) = cause.downcast_ref::<afina_recipes::StepFailed>() {
            let hint = format!(
                "`{}/batch.json` holds its files, lines and tokens, and the folder the adapter before it; look at a line with `afina render FILE --line N --model BASE`, then mend it, or lower train.learning_rate, in a new run",
                failed.folder.display()
            );
            return (FAILED, Some(hint));
        }
        if let Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) =
            cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind)
        {
            let hint = "make room on the disk; a training run then goes on with --resume from its last checkpoint";
            return (FAILED, Some(hint.to_owned()));
        }
        if let Some(usage) = cause.downcast_ref::<Usage>() {
            return (USAGE, usage.hint.clone());
        }
        if let Some(afina_checkpoint::AdapterError::Template { .. }) = cause.downcast_ref() {
            let hint = "put the template it was trained with into the adapter's folder, as chat_template.jinja";
            return (FAILED, Some(hint.to_owned()));
        }
        if let Some(hint) = commands::adapters::hint(cause) {
            return (FAILED, Some(hint));
        }
        if let Some(FormatError::NoTemplate { .. } | FormatError::MissingToken { .. }) = cause.downcast_ref() {
            let hint =
                "choose a template that fits the tokenizer: data.chat_template in a recipe, --chat-template elsewhere";
            return (USAGE, Some(hint.to_owned()));
        }
        if let Some(afina_checkpoint::ModelDirError::Quantized { source, .. }) = cause.downcast_ref() {
            return (FAILED, source.hint().map(str::to_owned));
        }
        if let Some(pull) = cause.downcast_ref::<afina_checkpoint::PullError>() {
            let code = if pull.is_usage() { USAGE } else { FAILED };
            return (code, pull.hint());
        }
    }
    (FAILED, None)
}

/// The command line asks for something that cannot be.
#[derive(Debug)]
struct Usage {
    message: String,
    hint: Option<String>,
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Usage {}

impl Usage {
    fn error(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
        Usage { message: message.into(), hint: Some(hint.into()) }.into()
    }
}
