//! From flags to what the library takes.

use afina_data::stats::{PRICES_TOML, Prices, is_model, tokenizer_of, training_context};
use afina_data::{Grader, GraderError, ReadOptions, control_tokens_of};
use anyhow::{Context, Result};

use super::source::is_stdin;
use crate::Usage;
use crate::args::{Method, OpenAiTokenizer, OutputFormat, Profile, Validate};
use crate::output::Output;

/// Flags that ask for what cannot be together.
pub fn check_flags(args: &Validate, output: &Output) -> Result<()> {
    let copies = args.fix.is_some() || args.redact.is_some();
    if copies && matches!(output.format, OutputFormat::Sarif | OutputFormat::Github) {
        let message = "what --fix and --redact did is not written as sarif or github";
        return Err(Usage::error(message, "use --format text or json, and validate the copy in the other format"));
    }
    if copies && args.files.iter().any(|file| is_stdin(file)) {
        return Err(Usage::error(
            "expected a file to make a copy of, found `-`",
            "save what comes through the pipe first",
        ));
    }
    if args.validation.as_deref().is_some_and(is_stdin) {
        let message = "the validation file is read twice, and standard input can be read once";
        return Err(Usage::error(message, "save it first"));
    }
    let counts = args.model.is_some() || args.tokenizer.is_some();
    if args.seq_len.is_some() && !counts {
        let message = "--seq-len is a number of tokens, and nothing says how to count them";
        return Err(Usage::error(message, "add --model DIR, or --tokenizer NAME"));
    }
    if args.prices.is_some() && args.tokenizer.is_none() {
        let message = "--prices is for OpenAI's tokens, and nothing says how to count them";
        return Err(Usage::error(
            message,
            "add --tokenizer o200k_base (gpt-4o, gpt-4.1) or cl100k_base (gpt-3.5-turbo, gpt-4)",
        ));
    }
    if let (Some(target), Some(tokenizer)) = (&args.target, args.tokenizer)
        && let Some(own) = tokenizer_of(target).filter(|own| *own != name_of(tokenizer))
    {
        let message = format!("`{target}` counts in {own}, not in {}", name_of(tokenizer));
        return Err(Usage::error(message, format!("use --tokenizer {own}, or leave --target out")));
    }
    Ok(())
}

fn name_of(tokenizer: OpenAiTokenizer) -> &'static str {
    match tokenizer {
        OpenAiTokenizer::Cl100kBase => "cl100k_base",
        OpenAiTokenizer::O200kBase => "o200k_base",
    }
}

/// How files are judged.
pub fn options(args: &Validate) -> Result<ReadOptions> {
    let profile = match args.profile {
        Profile::Openai => afina_data::Profile::OpenAi,
        Profile::Azure => afina_data::Profile::Azure,
        Profile::Together => afina_data::Profile::Together,
        Profile::Local => afina_data::Profile::Local,
    };
    let mut options = ReadOptions::new(method(args.method), profile);
    options.has_validation = args.validation.is_some();
    for rule in &args.ignore {
        if !afina_data::rules().iter().any(|known| known.id == rule) {
            return Err(Usage::error(format!("no rule `{rule}`"), "`afina rules` lists them"));
        }
        options.ignored.insert(rule.clone());
    }
    if let Some(target) = &args.target {
        options.control_tokens = control_tokens_of(target).ok_or_else(|| {
            Usage::error(
                format!("no model `{target}` is known"),
                "give a name such as gpt-4o or llama-3, or --model DIR",
            )
        })?;
        if let Some(context) = training_context(target) {
            options.training_context = Some(context);
        }
    }
    if let Some(path) = &args.grader {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("failed to read `{name}`"))?;
        let grader = Grader::from_json(&text).map_err(|error| {
            let why = match &error {
                // It says in which line and column.
                GraderError::Json(source) => source.to_string(),
                _ => error.to_string(),
            };
            Usage::error(format!("`{name}` is no grader: {why}"), "give the grader of the job, as OpenAI's JSON")
        })?;
        options.grader = Some(grader);
    }
    Ok(options)
}

/// The method by the library's name.
pub fn method(method: Method) -> afina_data::Method {
    match method {
        Method::Sft => afina_data::Method::Sft,
        Method::Dpo => afina_data::Method::Dpo,
        Method::Rft => afina_data::Method::Rft,
    }
}

/// What the models cost that the tokens were counted for: the target, or all with the tokenizer. `None`: nothing is
/// billed, as it is a local model, or one of somebody else.
pub fn prices(args: &Validate) -> Result<Option<Prices>> {
    let Some(tokenizer) = args.tokenizer else { return Ok(None) };
    let (name, text) = match &args.prices {
        None => ("the built-in prices".to_owned(), PRICES_TOML.to_owned()),
        Some(path) => {
            let name = format!("`{}`", path.display());
            (name.clone(), std::fs::read_to_string(path).with_context(|| format!("failed to read {name}"))?)
        }
    };
    let mut prices: Prices = toml::from_str(&text).map_err(|error| {
        let hint = "a table is `currency = \"USD\"` and, for each model, `[models.\"NAME\"]` with `training_per_million = 3.0`";
        let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        let line = line.map_or(String::new(), |line| format!("line {line}: "));
        Usage::error(format!("{name} cannot be read: {line}{}", error.message()), hint)
    })?;
    match &args.target {
        Some(target) => prices.models.retain(|name, _| is_model(name, target)),
        None => prices.models.retain(|name, _| tokenizer_of(name).is_none_or(|own| own == name_of(tokenizer))),
    }
    Ok((!prices.models.is_empty()).then_some(prices))
}
