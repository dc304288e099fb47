//! `afina quickstart`: the whole main job on a small real model, from nothing to a served, checked adapter.

mod scoring;
mod table;

use std::path::{Path, PathBuf};
use std::time::Instant;

use afina_checkpoint::{Mix, SHARD_SIZE, export_peft, write_file};
use afina_recipes::{Recipe, find_built_in};
use afina_train::peak_memory_bytes;
use anyhow::{Context, Result};
use burn::tensor::Device;
use serde_json::json;

use super::{INTERRUPTED, OK, REFUSED, export, merge, pull, train};
use crate::args::Quickstart;
use crate::output::Output;
use scoring::{Questions, score};
use table::{Results, Stage};

const MODEL: &str = "smollm2-135m-instruct";
const RECIPE: &str = "smollm2/135M_lora";

/// The example data is part of the program, so that an installed binary has it too.
const DATA: [(&str, &str); 4] = [
    ("data/router/train.jsonl", include_str!("../../../../data/router/train.jsonl")),
    ("data/router/valid.jsonl", include_str!("../../../../data/router/valid.jsonl")),
    ("data/router/test.jsonl", include_str!("../../../../data/router/test.jsonl")),
    ("data/router/routes.toml", include_str!("../../../../data/router/routes.toml")),
];

/// What the stages leave.
struct Places {
    base: PathBuf,
    run: PathBuf,
    peft: PathBuf,
    merged: PathBuf,
    gguf: PathBuf,
}

pub fn run(args: &Quickstart, device: &Device, output: &Output) -> Result<u8> {
    let dir = &args.dir;
    let mut stages = Stages { output, done: Vec::new() };

    let base = stages.run("pull", || pull::pull(&pull::request(MODEL, &dir.join("checkpoints/base")), output))?;
    let places = Places {
        base,
        run: dir.join("checkpoints/quickstart"),
        peft: dir.join("checkpoints/quickstart-peft"),
        merged: dir.join("checkpoints/quickstart-merged"),
        gguf: dir.join("checkpoints/quickstart-q8_0.gguf"),
    };
    let questions = Questions::new(DATA[0].1, DATA[1].1, DATA[2].1, args.short.map(|steps| 3 * steps))?;

    let valid = stages.run("validate", || {
        write_data(dir)?;
        validate(dir, output)
    })?;
    if !valid {
        return Ok(REFUSED);
    }

    let base_score =
        stages.run("score the base", || score(&places.base, None, DATA[3].1, &questions, device, output))?;

    let summary = stages.run("train", || train_adapter(args, dir, &places, device, output))?;
    if summary.as_ref().is_some_and(|summary| summary.interrupted) {
        output.note("stopped and saved; the same command goes on");
        return Ok(INTERRUPTED);
    }

    let tuned_score = stages
        .run("score the adapter", || score(&places.base, Some(&places.run), DATA[3].1, &questions, device, output))?;

    stages.run("export", || {
        for path in [&places.peft, &places.merged, &places.gguf] {
            remove_old(path)?;
        }
        export_peft(&places.run, &places.peft)?;
        merge::merge(&places.base, &places.run, &places.merged, SHARD_SIZE, output)?;
        export::gguf(&places.merged, &places.gguf, Mix::Q8_0, false, output)
    })?;

    let results = Results { base: base_score, tuned: tuned_score, questions: &questions, stages: stages.done };
    let mut json = results.json();
    json["adapter"] = json!(places.run);
    json["merged"] = json!(places.merged);
    json["gguf"] = json!(places.gguf);
    output.result(&(results.text() + &where_it_is(&places)), &json);
    Ok(OK)
}

/// Runs stages one after the other, says which one is on, and keeps their time and the memory reached.
struct Stages<'o> {
    output: &'o Output,
    done: Vec<Stage>,
}

impl Stages<'_> {
    fn run<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.output.note(&self.output.bold_note(&format!("── {name}")));
        let began = Instant::now();
        let result = work().with_context(|| format!("the quickstart stopped at: {name}"))?;
        let (seconds, peak_memory) = (began.elapsed().as_secs_f64(), peak_memory_bytes());
        self.output.note(&format!("   {seconds:.1} s"));
        self.done.push(Stage { name, seconds, peak_memory });
        Ok(result)
    }
}

/// Writes the example data where it is not yet; a file that is there and differs is left alone and refused.
fn write_data(dir: &Path) -> Result<()> {
    for (name, text) in DATA {
        let path = dir.join(name);
        match std::fs::read_to_string(&path) {
            Ok(found) if found == text => continue,
            Ok(_) => anyhow::bail!(
                "`{}` is there and is not the example's: choose another folder with --dir",
                path.display()
            ),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("failed to read `{}`", path.display()));
            }
            Err(_) => {
                let parent = path.parent().expect("the example's files lie in folders");
                std::fs::create_dir_all(parent).with_context(|| format!("failed to make `{}`", parent.display()))?;
                write_file(&path, text.as_bytes()).with_context(|| format!("failed to write `{}`", path.display()))?;
            }
        }
    }
    Ok(())
}

/// Validates the files that training reads; says what was found.
fn validate(dir: &Path, output: &Output) -> Result<bool> {
    let mut clean = true;
    for (name, text) in &DATA[..2] {
        let path = dir.join(name).display().to_string();
        let options = afina_data::ReadOptions::new(afina_data::Method::Sft, afina_data::Profile::OpenAi);
        let mut diagnostics = Vec::new();
        let summary = afina_data::read(&mut text.as_bytes(), &path, &options, &mut |item| {
            if let afina_data::Item::Diagnostic(diagnostic) = item {
                diagnostics.push(diagnostic);
            }
        })?;
        output.note(&format!("   {path}: {}", afina_data::verdict(&summary)));
        if summary.errors > 0 {
            output.note(&afina_data::render_text(&diagnostics, &summary, 20));
            clean = false;
        }
    }
    Ok(clean)
}

/// Trains, goes on with an interrupted run, or finds a finished one and leaves it.
fn train_adapter(
    args: &Quickstart,
    dir: &Path,
    places: &Places,
    device: &Device,
    output: &Output,
) -> Result<Option<afina_recipes::Summary>> {
    let built_in = find_built_in(RECIPE).expect("the quickstart's recipe is built in");
    let path = |name: &str| dir.join(name).display().to_string();
    let mut overrides = vec![
        format!("run={}", run_name(&places.run)),
        format!("model.base={}", places.base.display()),
        format!("data.train={}", path(DATA[0].0)),
        format!("data.validation={}", path(DATA[1].0)),
    ];
    if let Some(steps) = args.short {
        overrides.push(format!("train.max_steps={steps}"));
    }
    let recipe = Recipe::parse(built_in.toml, &overrides)?;
    let run = places.run.display();
    if places.run.join("adapter_model.safetensors").exists() {
        if std::fs::read_to_string(places.run.join("recipe.toml")).is_ok_and(|found| found == recipe.resolved()) {
            output.note(&format!("   already trained: {run} (remove it to train again)"));
            return Ok(None);
        }
        anyhow::bail!(
            "`{run}` holds another training than the quickstart's: remove it, or choose another folder with --dir"
        );
    }
    let resume = places.run.join("latest").exists();
    train::train(&recipe, device, resume, output).map(Some)
}

/// A run's name with a slash is a path.
fn run_name(path: &Path) -> String {
    let name = path.display().to_string();
    if name.contains('/') { name } else { format!("./{name}") }
}

/// Exports of an earlier quickstart give way to this one's.
fn remove_old(path: &Path) -> Result<()> {
    let removed = match path.is_dir() {
        true => std::fs::remove_dir_all(path),
        false if path.exists() => std::fs::remove_file(path),
        false => Ok(()),
    };
    removed.with_context(|| format!("failed to remove `{}`", path.display()))
}

fn where_it_is(places: &Places) -> String {
    let Places { base, run, peft, merged, gguf } = places;
    let (base, run, peft) = (base.display(), run.display(), peft.display());
    let (merged, gguf) = (merged.display(), gguf.display());
    format!(
        "
adapter        {run}  (PEFT; with its optimizer, metrics and recipe)
PEFT folder    {peft}
merged model   {merged}  (Hugging Face folder)
GGUF           {gguf}  (Q8_0, for llama.cpp and its kin)

next:
  afina chat --model {merged} --system \"Agente\"
  afina serve --model {base} --adapter tuned={run}
  afina train {RECIPE} run=mine data.train=YOUR.jsonl data.validation=YOURS.jsonl model.base={base}
"
    )
}
