//! `afina validate`: every fault of data files, then figures of what is in them; mended and redacted copies.

mod copies;
pub(super) mod counting;

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use afina_data::stats::{COOKBOOK_MAX_TOKENS, PRICES_TOML, Prices, ReportOptions, render_statistics};
use afina_data::{Earlier, Grader, Item, ReadOptions, Report, ReportFormat, Summary, control_tokens_of};
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use serde_json::{Map, json};

use super::{OK, REFUSED};
use crate::Usage;
use crate::args::{Method, OutputFormat, Profile, Validate};
use crate::output::Output;
use counting::{Counting, Tokens};

/// Diagnostics of one rule that are printed in full; the rest are counted.
pub(super) const SHOWN_OF_A_RULE: usize = 20;

pub fn run(args: &Validate, output: &Output) -> Result<u8> {
    let mut options = options(args)?;
    let one_file = || match args.files.as_slice() {
        [file] => Ok(file.as_path()),
        _ => Err(Usage::error("expected one file to make a copy of", "give one file at a time")),
    };
    if let Some(to) = &args.fix {
        return copies::fix(one_file()?, to, &options, args, output);
    }
    if let Some(to) = &args.redact {
        return copies::redact(one_file()?, to, args, output);
    }
    let prices = prices(args)?;
    options.examples = !args.no_statistics;
    let mut counting = match args.no_statistics {
        true => None,
        false => {
            let template = &args.template.chat_template;
            let tokens = Tokens::new(args.model.as_deref(), template, args.tokenizer, &mut options)?;
            Some(Counting::new(tokens, args.seq_len.or(options.training_context)))
        }
    };
    let format = match output.format {
        OutputFormat::Text => ReportFormat::Text,
        OutputFormat::Json => ReportFormat::Json,
        OutputFormat::Sarif => ReportFormat::Sarif,
        OutputFormat::Github => ReportFormat::GitHub,
    };
    options.windows = format == ReportFormat::Text;
    let mut stdout = output.stdout();
    let mut report = Report::new(format, SHOWN_OF_A_RULE, &mut stdout);
    let mut total = Summary::default();
    if let Some(path) = &args.validation {
        let (name, file) = open(path)?;
        options.validation = Some(
            afina_data::read_validation(&mut BufReader::new(file), &options)
                .with_context(|| format!("failed to read `{name}`"))?,
        );
    }
    let mut check = |path: &Path, options: &ReadOptions, counting: Option<&mut Counting>| -> Result<Earlier> {
        check_file(path, options, counting, &mut report, &mut total, output)
    };
    for path in &args.files {
        let earlier = check(path, &options, counting.as_mut())?;
        options.earlier.push(earlier);
    }
    options.earlier.clear();
    if let Some(path) = &args.validation {
        let options = ReadOptions { is_validation: true, validation: None, examples: false, ..options.clone() };
        check(path, &options, None)?;
    }
    let report_options = ReportOptions {
        seq_len: args.seq_len,
        billed_per_example: options.training_context.unwrap_or(COOKBOOK_MAX_TOKENS),
        prices: Some(prices),
    };
    let statistics = counting.map(|counting| counting.statistics.report(&report_options));
    let mut more = Map::new();
    if let serde_json::Value::Object(figures) = json!(statistics) {
        // The number of examples is the summary's own: records, broken ones included.
        more.extend(figures.into_iter().filter(|(name, _)| name != "examples"));
    }
    report.finish_with(&total, more).or_else(gone)?;
    if let Some(statistics) = statistics.filter(|_| format == ReportFormat::Text && total.examples > 0) {
        output.stream(&format!("\n{}", render_statistics(&statistics)));
    }
    Ok(if total.errors > 0 { REFUSED } else { OK })
}

/// Reads one file: its faults into the report, its figures into `counting`, and the sums of both into `total`.
pub(super) fn check_file(
    path: &Path,
    options: &ReadOptions,
    mut counting: Option<&mut Counting>,
    report: &mut Report,
    total: &mut Summary,
    output: &Output,
) -> Result<Earlier> {
    let (name, file) = open(path)?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let mut source = BufReader::new(Watched::new(file, size, output));
    let mut shown = Ok(());
    let mut more = Vec::new();
    let (mut summary, earlier) = afina_data::read_one_of(&mut source, &name, options, &mut |item| match item {
        Item::Diagnostic(diagnostic) => {
            if let Some(counting) = counting.as_deref_mut() {
                counting.statistics.add_diagnostic(&diagnostic);
            }
            if shown.is_ok() {
                shown = report.show(&diagnostic);
            }
        }
        Item::Example(example) => {
            if let Some(counting) = counting.as_deref_mut() {
                counting.add(&name, example, options, &mut more);
            }
        }
    })
    .with_context(|| format!("failed to read `{name}`"))?;
    if let Some(counting) = counting {
        counting.flush(&name, options, &mut more);
    }
    for diagnostic in &more {
        summary.add(diagnostic.severity);
        if shown.is_ok() {
            shown = report.show(diagnostic);
        }
    }
    total.examples += summary.examples;
    total.valid += summary.valid;
    total.errors += summary.errors;
    total.warnings += summary.warnings;
    total.infos += summary.infos;
    total.bytes += summary.bytes;
    shown.or_else(gone)?;
    Ok(earlier)
}

fn options(args: &Validate) -> Result<ReadOptions> {
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
        if let Some(context) = afina_data::stats::training_context(target) {
            options.training_context = Some(context);
        }
    }
    if let Some(path) = &args.grader {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("failed to read `{name}`"))?;
        let grader = Grader::from_json(&text).map_err(|error| {
            Usage::error(format!("`{name}` is no grader: {error}"), "give the grader of the job, as OpenAI's JSON")
        })?;
        options.grader = Some(grader);
    }
    Ok(options)
}

pub(super) fn method(method: Method) -> afina_data::Method {
    match method {
        Method::Sft => afina_data::Method::Sft,
        Method::Dpo => afina_data::Method::Dpo,
        Method::Rft => afina_data::Method::Rft,
    }
}

fn prices(args: &Validate) -> Result<Prices> {
    let (name, text) = match &args.prices {
        None => ("the built-in prices".to_owned(), PRICES_TOML.to_owned()),
        Some(path) => {
            let name = format!("`{}`", path.display());
            (name.clone(), std::fs::read_to_string(path).with_context(|| format!("failed to read {name}"))?)
        }
    };
    toml::from_str(&text).map_err(|error| {
        let hint = "a table is `currency = \"USD\"` and, for each model, `[models.\"NAME\"]` with `training_per_million = 3.0`";
        Usage::error(format!("{name} cannot be read: {}", error.message()), hint)
    })
}

fn open(path: &Path) -> Result<(String, File)> {
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| format!("failed to open `{name}`"))?;
    Ok((name, file))
}

/// A reader of the report that has gone away (`| head`) is no failure.
fn gone(error: io::Error) -> Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error).context("failed to write the report") }
}

/// A file that shows how far it was read, once that takes more than a second.
struct Watched {
    file: File,
    size: u64,
    read: u64,
    since: Instant,
    bar: Option<ProgressBar>,
    wanted: bool,
    make: Box<dyn Fn(u64) -> ProgressBar>,
}

impl Watched {
    fn new(file: File, size: u64, output: &Output) -> Watched {
        let output = output.clone();
        let template = "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        Watched {
            file,
            size,
            read: 0,
            since: Instant::now(),
            bar: None,
            wanted: io::stderr().is_terminal() && size > 0,
            make: Box::new(move |size| output.progress(size, template)),
        }
    }
}

impl Read for Watched {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(bytes)?;
        self.read += read as u64;
        if self.wanted && self.bar.is_none() && self.since.elapsed() > Duration::from_secs(1) {
            self.bar = Some((self.make)(self.size));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.read);
            if read == 0 {
                bar.finish_and_clear();
            }
        }
        Ok(read)
    }
}
