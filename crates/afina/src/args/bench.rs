//! Flags of the commands that measure speed.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Method, OpenAiTokenizer, TemplateArg};

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Time LoRA training steps: forward, backward, clip, AdamW
    Train(BenchTrain),
    /// Time the parts of `afina validate`, each beside the rules of lines, JSON, messages and tools
    Validate(BenchValidate),
}

#[derive(Debug, Args)]
pub struct BenchTrain {
    /// A Hugging Face model folder
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Sequences × tokens of a step; the tokens are made up and all trained
    #[arg(long, value_name = "BxT", default_value = "1x256", conflicts_with_all = ["rows", "data"])]
    pub shape: String,
    /// The rows of a step, as --write-rows writes them: all of the file, in every step
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub rows: Option<PathBuf>,
    /// A PEFT adapter folder to start from [default: a fresh one, r 8 and alpha 16 on all seven projections]
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// What the frozen weights are kept in
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub precision: Precision,
    /// Timed steps, after one that is not
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Run blocks again in the backward pass
    #[arg(long)]
    pub recompute: bool,
    /// Time nothing: read this chat file and write the rows that training would pack it into
    #[arg(long, value_name = "FILE", requires = "write_rows")]
    pub data: Option<PathBuf>,
    /// Tokens in a packed row of --data
    #[arg(long, value_name = "TOKENS", default_value_t = 1024)]
    pub seq_len: usize,
    /// Where the rows of --data go, as JSON: {"rows": [[{"tokens": […], "loss_mask": […]}, …], …]}
    #[arg(long, value_name = "FILE", requires = "data")]
    pub write_rows: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    F32,
    Bf16,
}

impl From<Precision> for afina_model::Precision {
    fn from(precision: Precision) -> afina_model::Precision {
        match precision {
            Precision::F32 => afina_model::Precision::F32,
            Precision::Bf16 => afina_model::Precision::Bf16,
        }
    }
}

#[derive(Debug, Args)]
pub struct BenchValidate {
    /// The file to read [default: one made of the example data]
    pub file: Option<PathBuf>,
    /// Size of the file that is made, as in 64MB or 1GB
    #[arg(long, value_name = "SIZE", default_value = "256MB", value_parser = file_size, conflicts_with = "file")]
    pub size: u64,
    /// Parts to time, with commas [default: all that the file and the flags have]
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    pub parts: Vec<Part>,
    /// CPU threads of a measurement, with commas; 0 takes every core [default: 1,0]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub threads: Vec<usize>,
    /// Rounds: in each, every measurement is taken once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// How the file will be used
    #[arg(long, default_value = "sft")]
    pub method: Method,
    /// A model folder: examples are counted in its tokens, by its chat template
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub template: TemplateArg,
    /// Count tokens as OpenAI does where no model folder is given
    #[arg(long, value_name = "NAME")]
    pub tokenizer: Option<OpenAiTokenizer>,
    /// Take one measurement of one part in this process: what the command calls itself with
    #[arg(long, hide = true, requires = "file")]
    pub here: bool,
}

/// What is timed: each part is a pass over the file with this beside the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Lines, JSON, messages, tools, exact duplicates
    Rules,
    /// Rules and near duplicates
    NearDuplicates,
    /// Rules, secrets and personal data
    Secrets,
    /// Rules and images, decoded
    Images,
    /// Rules and statistics, without tokens
    Statistics,
    /// Rules and statistics, with tokens
    Tokens,
    /// All that `afina validate` does
    All,
}

/// Bytes, from a number and B, kB, MB or GB (powers of 1000).
fn file_size(text: &str) -> Result<u64, String> {
    let unit = text.trim_start_matches(|char: char| char.is_ascii_digit() || char == '.');
    let number = text[..text.len() - unit.len()].parse::<f64>().ok();
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1.0),
        "k" | "kb" => Some(1e3),
        "m" | "mb" => Some(1e6),
        "g" | "gb" => Some(1e9),
        _ => None,
    };
    match number.zip(factor).map(|(number, factor)| (number * factor) as u64) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(format!("expected a size as in 64MB, found `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(line: &str) -> (usize, BenchValidate) {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}"));
        match cli.command {
            Command::Bench(Bench::Validate(args)) => (cli.common.threads, args),
            command => panic!("{command:?}"),
        }
    }

    #[test]
    fn several_thread_counts_go_through_the_flag_that_elsewhere_takes_one() {
        assert_eq!(parse("afina bench validate x.jsonl --threads 2,4").1.threads, [2, 4]);
        // The process that measures has one, and its pool gets it.
        let (pool, args) = parse("afina bench validate x.jsonl --here --parts near-duplicates --threads 3");
        assert_eq!((pool, args.threads, args.parts), (3, vec![3], vec![Part::NearDuplicates]));
    }

    #[test]
    fn a_size_is_a_number_with_its_unit() {
        let sizes: Vec<_> = ["256MB", "1.5 GB", "20kb", "7", "MB", "5 TB", "-1MB", "0MB"].map(file_size).into();
        assert_eq!(sizes[..4], [Ok(256_000_000), Ok(1_500_000_000), Ok(20_000), Ok(7)]);
        assert!(sizes[4..].iter().all(Result::is_err), "{sizes:?}");
        assert_eq!(parse("afina bench validate").1.size, 256_000_000);
        assert!(Cli::try_parse_from(["afina", "bench", "validate", "x.jsonl", "--size", "1MB"]).is_err());
    }
}
