//! `afina rows`: the lines of a run's data that were learned worst.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use afina_chat::{Conversation, Message, Role};
use afina_checkpoint::sha256_file;
use afina_data::{Item, Method, Profile, ReadOptions};
use afina_recipes::{Place, Row, learned_rows};
use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::OK;
use super::train::grouped;
use crate::args::Rows;
use crate::output::Output;

pub fn run(args: &Rows, output: &Output) -> Result<u8> {
    let run = match args.run.is_dir() {
        true => args.run.clone(),
        false => Path::new("checkpoints").join(&args.run),
    };
    let rows = learned_rows(&run)?;
    let worst = &rows[..args.worst.min(rows.len())];
    let answers = answers(&run, worst, output);
    let text = |row: &Row| answers.get(&(row.place.file.clone(), row.place.line)).cloned().unwrap_or_default();

    let mut table = String::from("   last   first  seen  line\n");
    for row in worst {
        let Place { file, line, piece } = &row.place;
        let piece = piece.map_or_else(String::new, |piece| format!(" (part {piece})"));
        table += &format!(
            "{:7.4} {:7.4} {:5}  {}:{line}{piece}  {}\n",
            row.last_loss,
            row.first_loss,
            row.seen,
            file.display(),
            text(row)
        );
    }
    table += &format!(
        "{} of the {} examples seen, the highest loss first: nats per trained token, when last and first seen",
        grouped(worst.len()),
        grouped(rows.len())
    );
    let rows_json: Vec<Value> = worst
        .iter()
        .map(|row| {
            let mut json = serde_json::to_value(row).expect("a row is plain numbers and a path");
            json["answer"] = json!(text(row));
            json
        })
        .collect();
    output.result(&table, &json!({ "rows": rows_json, "examples": rows.len() }));
    Ok(OK)
}

/// What the lines of `rows` teach, shortened. A file that has changed since, or is not there, is warned of.
fn answers(run: &Path, rows: &[Row], output: &Output) -> BTreeMap<(PathBuf, usize), String> {
    let manifest = std::fs::read_to_string(run.join("manifest.json")).unwrap_or_default();
    let manifest: Value = serde_json::from_str(&manifest).unwrap_or_default();
    let files: BTreeSet<&PathBuf> = rows.iter().map(|row| &row.place.file).collect();
    let mut answers = BTreeMap::new();
    for file in files {
        let name = file.display().to_string();
        let trained_on = manifest["sha256"][format!("the data file `{name}`")].as_str();
        match sha256_file(file) {
            Err(error) => {
                output.warn(&format!("`{name}` cannot be read ({error}): its lines are shown without their answers"));
                continue;
            }
            Ok(found) if trained_on.is_some_and(|sha256| sha256 != found) => {
                output.warn(&format!("`{name}` has changed since the run: its lines are shown without their answers"));
                continue;
            }
            Ok(_) => {}
        }
        let lines = rows.iter().filter(|row| row.place.file == *file).map(|row| row.place.line).collect();
        match answers_of(file, &lines) {
            Ok(found) => answers.extend(found.into_iter().map(|(line, text)| ((file.clone(), line), text))),
            Err(error) => output.warn(&format!("{error:#}")),
        }
    }
    answers
}

fn answers_of(file: &Path, lines: &BTreeSet<usize>) -> Result<Vec<(usize, String)>> {
    let name = file.display().to_string();
    let source = File::open(file).with_context(|| format!("failed to open `{name}`"))?;
    let mut found = Vec::new();
    let options = ReadOptions::new(Method::Sft, Profile::Local);
    afina_data::read(&mut BufReader::new(source), &name, &options, &mut |item| {
        if let Item::Example(example) = item
            && lines.contains(&example.line())
        {
            found.push((example.line(), answer(example.conversation())));
        }
    })
    .with_context(|| format!("failed to read `{name}`"))?;
    Ok(found)
}

/// The last answer that is trained, on one line.
fn answer(conversation: &Conversation) -> String {
    const SHOWN: usize = 60;
    let is_answer = |message: &&Message| message.role == Role::Assistant && message.weight != Some(0);
    let Some(message) = conversation.messages.iter().rev().find(is_answer) else { return String::new() };
    let mut text = message.text().into_owned();
    for call in message.tool_calls.iter().flatten() {
        text += &format!("{}({})", call.function.name, call.function.arguments);
    }
    let text = text.replace('\n', "⏎");
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
