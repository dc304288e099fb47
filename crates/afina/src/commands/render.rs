//! `afina render`: what an example becomes, token by token.

use std::fs::File;
use std::io::BufReader;

use afina_chat::TrainOn;
use afina_data::{Diagnostic, Example, Item, Method, Profile, ReadOptions, Severity, Summary};
use afina_recipes::{DataRefused, cannot_render, chat_format};
use anyhow::{Context, Result};
use serde_json::json;

use super::{OK, train};
use crate::Usage;
use crate::args::Render;
use crate::output::Output;

pub fn run(args: &Render, output: &Output) -> Result<u8> {
    let format = chat_format(&args.model.model, args.model.adapter.as_deref(), &args.template.chat_template)?;
    let (example, mut summary) = find(args, output)?;
    let name = args.file.display().to_string();
    let tokens = match format.training_pieces(example.conversation(), TrainOn::Assistant) {
        Ok(tokens) => tokens,
        Err(error) => {
            let fault = cannot_render(&name, &example, &format, error);
            (summary.valid, summary.errors) = (summary.valid.saturating_sub(1), summary.errors + 1);
            return refuse(&name, vec![fault], summary, output);
        }
    };
    let pieces: Vec<(String, bool)> = tokens.iter().map(|piece| (piece.text.clone(), piece.trained)).collect();
    let trained = tokens.iter().filter(|piece| piece.trained).count();
    let marks = if output.color { "green is trained" } else { "«» is trained" };
    let text = format!(
        "{}\n{} tokens, {trained} trained ({marks})",
        marked(&pieces, |text| output.trained(text)).trim_end_matches('\n'),
        tokens.len()
    );
    let tokens: Vec<_> =
        tokens.iter().map(|piece| json!({ "id": piece.token, "text": piece.text, "trained": piece.trained })).collect();
    output.result(&text, &json!({ "line": args.line, "tokens": tokens, "trained": trained }));
    Ok(OK)
}

/// The text of tokens, runs of trained ones marked.
pub fn marked(pieces: &[(String, bool)], mark: impl Fn(&str) -> String) -> String {
    pieces
        .chunk_by(|a, b| a.1 == b.1)
        .map(|run| {
            let text: String = run.iter().map(|(text, _)| text.as_str()).collect();
            if run[0].1 { mark(&text) } else { text }
        })
        .collect()
}

fn refuse<T>(name: &str, diagnostics: Vec<Diagnostic>, summary: Summary, output: &Output) -> Result<T> {
    let refused = DataRefused { files: vec![format!("`{name}`")], diagnostics, summary };
    train::show_refused(Err(refused.into()), output)
}

fn find(args: &Render, output: &Output) -> Result<(Example, Summary)> {
    let name = args.file.display().to_string();
    let file = File::open(&args.file).with_context(|| format!("failed to open `{name}`"))?;
    let (mut found, mut faults, mut last) = (None, Vec::new(), 0);
    let options = ReadOptions::new(Method::Sft, Profile::Local);
    let summary = afina_data::read(&mut BufReader::new(file), &name, &options, &mut |item| match item {
        Item::Example(example) => {
            last = example.line();
            if example.line() == args.line {
                found = Some(example);
            }
        }
        Item::Diagnostic(diagnostic) if diagnostic.line == args.line && diagnostic.severity == Severity::Error => {
            faults.push(diagnostic);
        }
        Item::Diagnostic(_) | Item::Pair(_) => {}
    })
    .with_context(|| format!("failed to read `{name}`"))?;
    match found {
        Some(example) => Ok((example, summary)),
        None if faults.is_empty() => Err(Usage::error(
            format!("`{name}` has no example at line {}", args.line),
            format!("its last one is at line {last}"),
        )),
        None => refuse(&name, faults, summary, output),
    }
}
