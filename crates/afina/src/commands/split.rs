//! `afina split`: training and validation, with nothing of one in the other.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use afina_checkpoint::is_same_file;
use afina_data::{SplitError, SplitOptions, opening_key, prompt_key};
use anyhow::{Context, Result};
use serde_json::json;

use super::OK;
use super::out_file::OutFile;
use crate::Usage;
use crate::args::{Split, Together};
use crate::output::Output;

pub fn run(args: &Split, output: &Output) -> Result<u8> {
    let name = args.file.display().to_string();
    let beside = |word: &str| {
        let stem = args.file.file_stem().unwrap_or_default().to_string_lossy();
        args.file.with_file_name(format!("{stem}.{word}.jsonl"))
    };
    let train_to = args.train_to.clone().unwrap_or_else(|| beside("train"));
    let validation_to = args.validation_to.clone().unwrap_or_else(|| beside("valid"));
    let file = File::open(&args.file).with_context(|| format!("failed to open `{name}`"))?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(Usage::error(
            format!("expected a file, for it is read twice, found `{name}`"),
            "save it in a file",
        ));
    }
    if is_same_file(&train_to, &validation_to) {
        let message = format!("`--train-to` and `--validation-to` are both `{}`", train_to.display());
        return Err(Usage::error(message, "name two files"));
    }
    let create = |to: &Path| match to == Path::new("-") {
        true => Err(Usage::error("split writes two files, not to standard output", "name a file")),
        false => OutFile::create(to, &[&args.file], output),
    };
    let (mut train, mut validation) = (create(&train_to)?, create(&validation_to)?);
    let options = SplitOptions { validation: args.validation, seed: args.seed };
    let mut key = |record: afina_data::json::Value| match args.together {
        Together::Prompt => prompt_key(record),
        Together::Opening => opening_key(record),
    };
    let split =
        match afina_data::split(&mut BufReader::new(file), &name, options, &mut key, &mut train, &mut validation) {
            Err(error @ (SplitError::Read { .. } | SplitError::Write { .. })) => return Err(error.into()),
            Err(error) => return Err(Usage::error(error.to_string(), error.hint())),
            Ok(split) => split,
        };
    train.commit()?;
    validation.commit()?;
    if split.not_compared > 0 {
        output.warn(&format!("{} records were not compared with one another for near duplicates", split.not_compared));
    }
    for (answer, [train, validation]) in split.lopsided() {
        output.warn(&format!("answer `{answer}`: {train} records in training, {validation} in validation"));
    }
    let text = format!(
        "{} records, {} groups: {} to `{}`, {} to `{}`",
        split.records,
        split.groups,
        split.train,
        train_to.display(),
        split.validation,
        validation_to.display()
    );
    output.result(&text, &json!({ "split": split, "train": train_to, "validation": validation_to }));
    Ok(OK)
}
