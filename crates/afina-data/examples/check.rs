//! Validates one file and prints its diagnostics as JSON: the crate without the program around it.
//!
//! `cargo run --release -p afina-data --example check -- validate data/marv.jsonl --method sft`
#![allow(clippy::print_stdout)]

use std::{
    fs::{self, File},
    io::BufReader,
};

use afina_data::{Grader, Item, Method, Profile, ReadOptions, control_tokens_of, read, read_validation, stats};

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let (mut path, mut validation) = (None, None);
    let mut options = ReadOptions::new(Method::Sft, Profile::OpenAi);
    options.examples = false;
    let mut args = std::env::args().skip(1).filter(|arg| arg != "validate");
    while let Some(arg) = args.next() {
        let Some(name) = arg.strip_prefix("--") else {
            path = Some(arg);
            continue;
        };
        let value = args.next().ok_or("a flag without a value")?;
        match name {
            "method" => options.method = value.parse()?,
            "profile" => options.profile = value.parse()?,
            "target" => {
                options.control_tokens = control_tokens_of(&value).ok_or("an unknown model")?;
                options.training_context = stats::training_context(&value).or(options.training_context);
            }
            "validation" => validation = Some(value),
            "ignore" => options.ignored.extend(value.split(',').map(str::to_owned)),
            "grader" => options.grader = Some(Grader::from_json(&fs::read_to_string(&value)?)?),
            _ => {}
        }
    }
    let path = path.ok_or("expected a file")?;
    if let Some(validation) = validation {
        options.validation = Some(read_validation(&mut BufReader::new(File::open(&validation)?), &options)?);
    }
    let mut diagnostics = Vec::new();
    let summary = read(&mut BufReader::new(File::open(&path)?), &path, &options, &mut |item| {
        if let Item::Diagnostic(diagnostic) = item {
            diagnostics.push(diagnostic);
        }
    })?;
    println!("{}", serde_json::json!({ "diagnostics": diagnostics, "summary": summary }));
    Ok(())
}
