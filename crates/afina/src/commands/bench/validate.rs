//! `afina bench validate`: how fast each part of `afina validate` is, on this machine and file.
//!
//! Each measurement is a process of its own: the memory it reached is its own, and so is its pool of threads.

mod made;
mod pass;
mod table;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::Value;

use super::super::{INTERRUPTED, OK};
use crate::Usage;
use crate::args::{BenchValidate, Part};
use crate::interrupt;
use crate::output::Output;
use table::{Results, Row};

pub fn run(args: &BenchValidate, output: &Output) -> Result<u8> {
    if args.here {
        return pass::measure(args, output);
    }
    let (made, path);
    let path: &Path = match &args.file {
        Some(path) => path,
        None => {
            output.note(&format!("making a file of {:.0} MB of the example data", args.size as f64 / 1e6));
            made = made::file(args.size).context("failed to make a file in the folder for temporary files")?;
            path = made.path().to_owned();
            &path
        }
    };
    let has_images = read_once(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    let parts = parts(args, has_images)?;
    let threads = threads(&args.threads);

    let interrupted = interrupt::watch()?;
    let began = Instant::now();
    let measurements: Vec<(Part, usize)> =
        parts.iter().flat_map(|&part| threads.iter().map(move |&threads| (part, threads))).collect();
    let mut rows: Vec<Row> = measurements.iter().map(|&(part, threads)| Row::new(part, threads)).collect();
    let (mut bytes, mut examples) = (0, 0);
    for round in 0..args.rounds as usize {
        // Each round begins with another one, so that a slow minute hits all alike.
        for turn in 0..rows.len() {
            let row = &mut rows[(turn + round) % measurements.len()];
            let measured = measure_apart(row.part, row.threads, path, args);
            if interrupt::came(&interrupted) {
                return Ok(INTERRUPTED);
            }
            let measured = measured?;
            (bytes, examples) = (measured.bytes, measured.examples);
            row.seconds.push(measured.seconds);
            row.peak_memory = row.peak_memory.max(measured.peak_memory);
            output.note(&format!(
                "round {} of {}: {}, threads {}: {:.2} s",
                round + 1,
                args.rounds,
                table::name(row.part),
                row.threads,
                measured.seconds
            ));
        }
    }
    let file = args.file.as_ref().map(|path| path.display().to_string());
    let seconds = began.elapsed().as_secs_f64();
    let results = Results { file, bytes, examples, rounds: args.rounds, rows, seconds };
    output.result(&results.text(), &results.json());
    Ok(OK)
}

/// Reads the file without looking, so that each measurement finds it in memory. True: it has images, by its first lines.
fn read_once(path: &Path) -> std::io::Result<bool> {
    const HEAD: u64 = 1 << 20;
    let mut file = File::open(path)?;
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head)?;
    std::io::copy(&mut file, &mut std::io::sink())?;
    Ok(String::from_utf8_lossy(&head).contains("image_url"))
}

fn parts(args: &BenchValidate, has_images: bool) -> Result<Vec<Part>> {
    let counts_tokens = args.model.is_some() || args.tokenizer.is_some();
    if args.parts.contains(&Part::Tokens) && !counts_tokens {
        return Err(Usage::error(
            "whose tokens are to be counted is not known",
            "give --model DIR or --tokenizer NAME",
        ));
    }
    let applies = |part: &Part| match part {
        Part::Images => has_images,
        Part::Tokens => counts_tokens,
        _ => true,
    };
    Ok(match args.parts.is_empty() {
        true => Part::value_variants().iter().copied().filter(applies).collect(),
        false => without_repeats(args.parts.iter().copied()),
    })
}

/// As asked for, each once; 0 is every core. Nothing asked for: one, and every core.
fn threads(asked: &[usize]) -> Vec<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // The flag's default elsewhere is 0.
    let asked = if matches!(asked, [] | [0]) { &[1, 0] } else { asked };
    without_repeats(asked.iter().map(|&threads| if threads == 0 { cores } else { threads }))
}

fn without_repeats<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.fold(Vec::new(), |mut list, item| {
        if !list.contains(&item) {
            list.push(item);
        }
        list
    })
}

/// One pass over the file.
struct Measured {
    seconds: f64,
    bytes: u64,
    examples: usize,
    peak_memory: u64,
}

/// Takes one measurement in a process of its own.
fn measure_apart(part: Part, threads: usize, path: &Path, args: &BenchValidate) -> Result<Measured> {
    let program = std::env::current_exe().context("failed to find this program")?;
    let mut command = Command::new(program);
    command.args(["bench", "validate", "--here", "--json", "--threads", &threads.to_string()]);
    command.args(["--parts", &name_of(part), "--method", &name_of(args.method)]);
    if let Some(tokenizer) = args.tokenizer {
        command.args(["--tokenizer", &name_of(tokenizer)]);
    }
    if let Some(model) = &args.model {
        command.args(["--chat-template", &args.template.chat_template.to_string()]).arg("--model").arg(model);
    }
    let run = command.arg("--").arg(path).output().context("failed to start a measurement")?;
    if !run.status.success() {
        bail!("a measurement failed: {}", String::from_utf8_lossy(&run.stderr).trim());
    }
    let measured: Value = serde_json::from_slice(&run.stdout).context("failed to read a measurement")?;
    let number = |name: &str| measured[name].as_u64().unwrap_or_default();
    Ok(Measured {
        seconds: measured["seconds"].as_f64().unwrap_or(f64::NAN),
        bytes: number("bytes"),
        examples: number("examples") as usize,
        peak_memory: number("peak_memory_bytes"),
    })
}

/// A value as the command line has it.
fn name_of(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
