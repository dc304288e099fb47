//! A file per command; each returns the exit code.

pub mod adapters;
mod bench;
mod chat;
mod convert;
mod eval;
mod export;
mod generate;
mod info;
mod logits;
mod merge;
mod model;
mod ollama;
mod out_file;
mod parity;
mod plan;
mod pull;
mod quantize;
mod quickstart;
mod recipes;
mod render;
mod router;
mod rows;
mod rules;
mod serve;
mod split;
mod train;
mod validate;

use anyhow::Result;

use crate::Usage;
use crate::args::{Bench, Cli, Command, OutputFormat, Router};
use crate::output::Output;

pub const OK: u8 = 0;
/// Something could not be done.
pub const FAILED: u8 = 1;
/// The data, or a gate, said no.
pub const REFUSED: u8 = 3;
/// The run would not fit into memory.
pub const TOO_LARGE: u8 = 4;
/// Stopped by a signal, with the work saved.
pub const INTERRUPTED: u8 = 130;

pub fn run(cli: Cli, output: &Output) -> Result<u8> {
    if matches!(output.format, OutputFormat::Sarif | OutputFormat::Github)
        && !matches!(cli.command, Command::Validate(_))
    {
        return Err(Usage::error("only `validate` writes sarif and github", "use --format text or json"));
    }
    let device = || crate::device::device(cli.common.device.as_deref().unwrap_or("auto"));
    match cli.command {
        Command::Quickstart(args) => quickstart::run(&args, &device()?, output),
        Command::Pull(args) => pull::run(&args, output),
        Command::Info(args) => info::run(&args.path, output),
        Command::Validate(args) => validate::run(&args, output),
        Command::Convert(args) => convert::run(&args, output),
        Command::Split(args) => split::run(&args, output),
        Command::Explain { rule } => rules::explain(&rule, output),
        Command::Rules => rules::list(output),
        Command::Render(args) => render::run(&args, output),
        Command::Train(args) => train::run(&args, &cli.common, output),
        Command::Plan(args) => plan::run(&args, &cli.common, output),
        Command::Rows(args) => rows::run(&args, output),
        Command::Ls => recipes::list(output),
        Command::Cp { name, out } => recipes::copy(&name, &out, output),
        Command::Cat { name } => recipes::print(&name, output),
        Command::Eval(args) => eval::run(&args, &device()?, output),
        Command::Generate(args) => generate::run(&args, &device()?, output),
        Command::Chat(args) => chat::run(&args, &device()?, output),
        Command::Logits(args) => logits::run(&args, &device()?, output),
        Command::Parity(args) => parity::run(&args, &device()?, output),
        Command::Merge(args) => merge::run(&args, &device()?, output),
        Command::Quantize(args) => quantize::run(&args, output),
        Command::Export(args) => export::run(&args, output),
        Command::Serve(args) => serve::run(&args, &device()?, output),
        Command::Router(Router::Run { routes, question, decide }) => router::run(&routes, &question, decide, output),
        Command::Router(Router::Test { routes, cases, min_accuracy }) => {
            router::test(&routes, &cases, min_accuracy, output)
        }
        Command::Router(Router::Lint { routes }) => router::lint(&routes, output),
        Command::Bench(Bench::Train(args)) => bench::train::run(&args, &device()?, output),
        Command::Bench(Bench::Validate(args)) => bench::validate::run(&args, output),
    }
}
