//! Flags of the commands on data files.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::TemplateArg;

#[derive(Debug, Args)]
pub struct Validate {
    /// JSONL files; - is standard input
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// How the file will be used
    #[arg(long, default_value = "sft")]
    pub method: Method,
    /// Whose rules decide
    #[arg(long, default_value = "openai")]
    pub profile: Profile,
    /// The validation file: checked as well, and compared with the training file
    #[arg(long, value_name = "FILE")]
    pub validation: Option<PathBuf>,
    /// The grader of a reinforcement job, as JSON: the fields it reads must be there
    #[arg(long, value_name = "FILE")]
    pub grader: Option<PathBuf>,
    /// The model that will be trained, by name, as in llama-3: its control tokens are errors
    #[arg(long, value_name = "MODEL", conflicts_with = "model")]
    pub target: Option<String>,
    /// A model folder: examples are counted in its tokens, by its chat template
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub template: TemplateArg,
    /// Tokens of a row in training: what is longer is listed; needs --model or --tokenizer
    #[arg(long, value_name = "TOKENS")]
    pub seq_len: Option<u32>,
    /// Count tokens and what they cost as OpenAI does: o200k_base for gpt-4o and later, cl100k_base before
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    pub tokenizer: Option<OpenAiTokenizer>,
    /// With --tokenizer: prices per million training tokens, as TOML, for what a job would cost [default: a built-in table]
    #[arg(long, value_name = "FILE")]
    pub prices: Option<PathBuf>,
    /// Report faults alone: faster, as no example is kept to be counted
    #[arg(long, conflicts_with_all = ["model", "tokenizer", "seq_len", "prices"])]
    pub no_statistics: bool,
    /// Rules to leave out, by id
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub ignore: Vec<String>,
    /// Write a mended copy of the file (`-`: to standard output); a safe fix removes no line and no trained text
    #[arg(long, value_name = "OUT")]
    pub fix: Option<PathBuf>,
    /// With --fix: remove too what says nothing, was cut, or has no place: keys, messages, records
    #[arg(long, requires = "fix")]
    pub unsafe_fixes: bool,
    /// Write a copy with placeholders for secrets and personal data (`-`: to standard output)
    #[arg(long, value_name = "OUT", conflicts_with = "fix")]
    pub redact: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Method {
    Sft,
    Dpo,
    Rft,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum OpenAiTokenizer {
    #[value(name = "cl100k_base")]
    Cl100kBase,
    #[value(name = "o200k_base")]
    O200kBase,
}

#[derive(Debug, Args)]
pub struct Convert {
    /// JSON or JSONL in another format
    pub file: PathBuf,
    /// The format of the file [default: told by its keys]
    #[arg(long, value_name = "FORMAT")]
    pub from: Option<String>,
    /// Where to write OpenAI's JSONL (`-`: to standard output)
    #[arg(long, value_name = "OUT")]
    pub to: PathBuf,
}

#[derive(Debug, Args)]
pub struct Split {
    /// JSONL
    pub file: PathBuf,
    /// Share of the records for validation
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub validation: f64,
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// What keeps records together: an equal prompt, or an equal opening (system and first user message)
    #[arg(long, value_name = "WHAT", default_value = "prompt")]
    pub together: Together,
    /// The training file [default: FILE with .train before its extension]
    #[arg(long, value_name = "OUT")]
    pub train_to: Option<PathBuf>,
    /// The validation file [default: FILE with .valid before its extension]
    #[arg(long, value_name = "OUT")]
    pub validation_to: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Together {
    Prompt,
    Opening,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Profile {
    Openai,
    Azure,
    Together,
    Local,
}
