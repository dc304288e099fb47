//! `afina validate`: every fault of data files.

use std::fs::File;
use std::io::BufReader;

use afina_data::{Diagnostic, Item, ReadOptions, Summary, TextReport};
use anyhow::{Context, Result};
use serde_json::json;

use super::{OK, REFUSED};
use crate::args::{Method, Profile, Validate};
use crate::output::Output;

/// Diagnostics of one rule that are printed in full; the rest are counted.
const SHOWN_OF_A_RULE: usize = 20;

pub fn run(args: &Validate, output: &Output) -> Result<u8> {
    let method = match args.method {
        Method::Sft => afina_data::Method::Sft,
    };
    let profile = match args.profile {
        Profile::Openai => afina_data::Profile::OpenAi,
        Profile::Azure => afina_data::Profile::Azure,
        Profile::Together => afina_data::Profile::Together,
        Profile::Local => afina_data::Profile::Local,
    };
    let options = ReadOptions::new(method, profile);
    let mut report = TextReport::new(SHOWN_OF_A_RULE);
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    let mut total = Summary::default();
    for path in &args.files {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("failed to open `{name}`"))?;
        let summary = afina_data::read(&mut BufReader::new(file), &name, &options, &mut |item| {
            let Item::Diagnostic(diagnostic) = item else { return };
            if output.json {
                diagnostics.push(diagnostic);
            } else if let Some(text) = report.show(&diagnostic) {
                output.stream(&text);
            }
        })
        .with_context(|| format!("failed to read `{name}`"))?;
        total.examples += summary.examples;
        total.valid += summary.valid;
        total.errors += summary.errors;
        total.warnings += summary.warnings;
        total.infos += summary.infos;
        total.bytes += summary.bytes;
    }
    output.result(&report.finish(&total), &json!({ "diagnostics": diagnostics, "summary": total }));
    Ok(if total.errors > 0 { REFUSED } else { OK })
}
