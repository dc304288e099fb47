//! `afina validate`: every fault of data files, then figures of what is in them; mended and redacted copies.

mod copies;
pub(super) mod counting;
mod flags;
mod source;

use std::collections::BTreeSet;
use std::io::{self, BufReader};
use std::path::Path;

use afina_data::stats::{COOKBOOK_MAX_TOKENS, COUNTED_RULES, ReportOptions, render_statistics};
use afina_data::{Earlier, Item, ReadOptions, Report, ReportFormat, Severity, Summary};
use anyhow::{Context, Result};
use serde_json::{Map, json};

use super::{FAILED, OK, REFUSED};
use crate::Usage;
use crate::args::{OutputFormat, Validate};
use crate::output::Output;
use counting::{Counting, Tokens};
pub(super) use flags::method;
use source::{Source, open};

/// Diagnostics of one rule that are printed in full; the rest are counted.
pub(super) const SHOWN_OF_A_RULE: usize = 20;

pub fn run(args: &Validate, output: &Output) -> Result<u8> {
    crate::allocator::avoid_huge_pages();
    flags::check_flags(args, output)?;
    let mut options = flags::options(args)?;
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
    let prices = flags::prices(args)?;
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
    let mut report = Report::new(format, SHOWN_OF_A_RULE, output.color, &mut stdout);
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
    let mut failed = false;
    for path in &args.files {
        match check(path, &options, counting.as_mut()) {
            Ok(earlier) => options.earlier.push(earlier),
            // The others are checked all the same.
            Err(error) if args.files.len() > 1 => {
                output.error(&error, None);
                failed = true;
            }
            Err(error) => return Err(error),
        }
    }
    options.earlier.clear();
    if let Some(path) = &args.validation {
        let options = ReadOptions { is_validation: true, validation: None, examples: false, ..options.clone() };
        check(path, &options, None)?;
    }
    let report_options = ReportOptions {
        seq_len: args.seq_len,
        billed_per_example: options.training_context.unwrap_or(COOKBOOK_MAX_TOKENS),
        prices,
        local: args.model.is_some(),
        checked: checked(args, &options),
    };
    let statistics = counting.map(|counting| counting.statistics.report(&report_options));
    let mut more = Map::new();
    if let serde_json::Value::Object(figures) = json!(statistics) {
        // The number of examples is the summary's own: records, broken ones included.
        more.extend(figures.into_iter().filter(|(name, _)| name != "examples"));
    }
    report.finish_with(&total, more).or_else(gone)?;
    if let Some(statistics) = statistics.filter(|_| format == ReportFormat::Text && total.examples > 0) {
        let statistics = render_statistics(&statistics);
        if !statistics.is_empty() {
            output.stream(&format!("\n{statistics}"));
        }
    }
    Ok(match total.errors {
        _ if failed => FAILED,
        0 => OK,
        _ => REFUSED,
    })
}

/// The rules of which it can be said that they found nothing.
fn checked(args: &Validate, options: &ReadOptions) -> Vec<&'static str> {
    let rules = COUNTED_RULES.iter().map(|(rule, ..)| *rule).filter(|rule| !options.ignored.contains(*rule));
    let applies = |rule: &&str| match *rule {
        "train-validation-overlap" => args.validation.is_some(),
        "conflicting-answers" => options.method == afina_data::Method::Sft,
        _ => true,
    };
    rules.filter(applies).collect()
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
    let Source { name, bytes, is_stream } = Source::open(path, output)?;
    let mut source = BufReader::new(bytes);
    let of_stream = is_stream.then(|| ReadOptions { is_stream, ..options.clone() });
    let options = of_stream.as_ref().unwrap_or(options);
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
        Item::Pair(shape) => {
            if let Some(counting) = counting.as_deref_mut() {
                counting.statistics.pairs.add(shape);
            }
        }
    })
    .with_context(|| format!("failed to read `{name}`"))?;
    if let Some(counting) = counting {
        counting.flush(&name, options, &mut more);
    }
    let refused = more.iter().filter(|found| found.severity == Severity::Error).map(|found| found.line);
    summary.valid = summary.valid.saturating_sub(refused.collect::<BTreeSet<_>>().len());
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

/// A reader of the report that has gone away (`| head`) is no failure.
fn gone(error: io::Error) -> Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error).context("failed to write the report") }
}
