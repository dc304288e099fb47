//! Flags of `afina parity`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::{ModelArgs, TemplateArg};

/// What a program for `--peer` has to do.
pub const PEER_PROTOCOL: &str = "\
A peer is another program that computes logits. COMMAND is cut into words as a shell cuts them (no shell runs it), and is
called with two more words, the paths of two safetensors files. The first is there: tensors `tokens.0`, `tokens.1`, … of I32,
[tokens], a conversation each. The second it writes: `logits.0`, `logits.1`, … of F32, F16 or BF16, [tokens, vocabulary],
the logits behind every token. Under the metadata key `model` it may name the file that it computed with, whose format then
says how near it must be. tests/peers has such programs for llama.cpp and transformers.

Exit codes: 0 done, 1 failed, 2 wrong flags, 3 something is further apart than its format explains";

#[derive(Debug, Args)]
pub struct Parity {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub template: TemplateArg,
    /// What was made of it: a merged folder or a GGUF file; may be given again
    #[arg(long = "with", value_name = "PATH", required_unless_present = "peers")]
    pub with: Vec<PathBuf>,
    /// Another program's logits, too, under a name; may be given again
    #[arg(long = "peer", value_name = "NAME=COMMAND")]
    pub peers: Vec<Peer>,
    /// Chat JSONL that all of them read
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Conversations that are compared, the first of the file; 0 takes all
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub rows: usize,
    /// Conversations whose last answer all of them generate; 0 generates none
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub generate: usize,
    /// Most tokens of a generated answer; what is compared with it may take twice as many
    #[arg(long, value_name = "TOKENS", default_value_t = 64)]
    pub max_tokens: usize,
    /// A question and a text that every answer to it must hold, cut at the last `=`; may be given again
    #[arg(long = "fact", value_name = "QUESTION=ANSWER")]
    pub facts: Vec<Fact>,
    /// A system message before the question of each fact
    #[arg(long)]
    pub system: Option<String>,
    /// Largest mean KL divergence, in nats per token [default: by format]
    #[arg(long, value_name = "NATS")]
    pub max_kl: Option<f64>,
    /// Smallest share of tokens behind which the same one is the likeliest [default: by format]
    #[arg(long, value_name = "SHARE")]
    pub min_top1: Option<f64>,
}

/// A program that computes logits.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    pub name: String,
    /// The program, and its arguments.
    pub command: Vec<String>,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(given: &str) -> Result<Peer, String> {
        let (name, command) =
            given.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("expected NAME=COMMAND")?;
        let command = shlex::split(command).ok_or("the command's quotes do not close")?;
        if command.is_empty() {
            return Err("the command is empty".to_owned());
        }
        Ok(Peer { name: name.to_owned(), command })
    }
}

/// Something that was taught.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    pub question: String,
    pub answer: String,
}

impl FromStr for Fact {
    type Err = String;

    fn from_str(given: &str) -> Result<Fact, String> {
        match given.rsplit_once('=').map(|(question, answer)| (question.trim(), answer.trim())) {
            Some((question, answer)) if !question.is_empty() && !answer.is_empty() => {
                Ok(Fact { question: question.to_owned(), answer: answer.to_owned() })
            }
            _ => Err("expected QUESTION=ANSWER".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_and_facts_are_read_or_refused() {
        let peer = |given: &str| given.parse::<Peer>().map(|peer| (peer.name, peer.command));
        assert_eq!(
            peer("llama.cpp=python3 'my scripts/run.py' --threads=2"),
            Ok(("llama.cpp".into(), ["python3", "my scripts/run.py", "--threads=2"].map(String::from).to_vec()))
        );
        assert_eq!(peer("python3 run.py").unwrap_err(), "expected NAME=COMMAND");
        assert_eq!(peer("a=' x").unwrap_err(), "the command's quotes do not close");
        assert_eq!(peer("a= ").unwrap_err(), "the command is empty");
        let fact = |given: &str| given.parse::<Fact>().map(|fact| (fact.question, fact.answer));
        assert_eq!(fact("¿2 + 2 = ? = 4"), Ok(("¿2 + 2 = ?".into(), "4".into())));
        assert_eq!(fact("¿Quién eres?=").unwrap_err(), "expected QUESTION=ANSWER");
    }
}
