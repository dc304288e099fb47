//! What a repo holds, and which of its files are needed.

use serde::Deserialize;

use super::client::{Client, Method, header};
use super::digest::Digest;
use super::error::HubError;
use super::settings::is_commit;
use crate::model_dir::{WEIGHTS, WEIGHTS_INDEX, is_pickle};
use crate::shard_index::is_plain_name;

/// Lists longer than this are no list of a model's files.
const MAX_INFO: u64 = 64 << 20;

/// Small files that are taken where they are there, beside licences.
const COMPANIONS: [&str; 12] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "README.md",
];

/// A repo at one commit.
#[derive(Debug)]
pub(super) struct Listing {
    pub commit: String,
    files: Vec<Listed>,
}

#[derive(Debug, Clone)]
struct Listed {
    name: String,
    /// Size and hash, where the list has both.
    content: Option<Content>,
}

/// What a file must turn out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub bytes: u64,
    pub digest: Digest,
}

/// A file that is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteFile {
    pub name: String,
    pub content: Content,
}

/// Where a repo keeps its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weights {
    Whole,
    Shards,
}

impl Listing {
    /// Asks the hub. A name that leads out of its folder makes the whole repo refused.
    pub(super) fn ask(client: &Client<'_>) -> Result<Listing, HubError> {
        #[derive(Deserialize)]
        struct Info {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Sibling {
            rfilename: String,
            size: Option<u64>,
            blob_id: Option<String>,
            lfs: Option<Lfs>,
        }
        #[derive(Deserialize)]
        struct Lfs {
            sha256: Option<String>,
            size: Option<u64>,
        }
        let expected = "a commit and a list of files";
        let wrong =
            || HubError::Answer { url: format!("{}/api/models/{}", client.settings.base(), client.repo), expected };
        let body = client.info()?.into_body();
        let info: Info = body.into_with_config().limit(MAX_INFO).read_json().map_err(|_| wrong())?;
        if !is_commit(&info.sha) {
            return Err(wrong());
        }
        let files = info.siblings.into_iter().map(|sibling| {
            let name = sibling.rfilename;
            if !stays_inside(&name) {
                return Err(HubError::UnsafeName { repo: client.repo.to_owned(), name });
            }
            let (bytes, digest) = match sibling.lfs {
                Some(lfs) => (lfs.size.or(sibling.size), lfs.sha256),
                None => (sibling.size, sibling.blob_id),
            };
            let digest = digest.as_deref().and_then(Digest::parse);
            let content = bytes.zip(digest).map(|(bytes, digest)| Content { bytes, digest });
            Ok(Listed { name, content })
        });
        Ok(Listing { commit: info.sha, files: files.collect::<Result<_, _>>()? })
    }

    /// A repo whose files are known by name alone.
    pub(super) fn of_names(commit: String, names: Vec<String>) -> Listing {
        Listing { commit, files: names.into_iter().map(|name| Listed { name, content: None }).collect() }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.name == name)
    }

    /// The small files to take, in the order in which they lie in the list.
    pub(super) fn companions(&self) -> Vec<&str> {
        let licence =
            |name: &str| ["LICENSE", "LICENCE", "NOTICE", "USE_POLICY"].iter().any(|start| name.starts_with(start));
        let wanted = |name: &&str| is_plain_name(name) && (COMPANIONS.contains(name) || licence(name));
        self.files.iter().map(|file| file.name.as_str()).filter(wanted).collect()
    }

    /// Where the weights are: safetensors, or an error that says what the repo has instead.
    pub(super) fn weights(&self, repo: &str) -> Result<Weights, HubError> {
        if self.has(WEIGHTS) {
            return Ok(Weights::Whole);
        }
        if self.has(WEIGHTS_INDEX) {
            return Ok(Weights::Shards);
        }
        let at_top = self.files.iter().map(|file| &file.name).filter(|name| !name.contains('/'));
        match at_top.clone().find(|name| is_pickle(name)) {
            Some(file) => Err(HubError::Pickle { repo: repo.to_owned(), file: file.clone() }),
            None => Err(self.not_model(repo, WEIGHTS)),
        }
    }

    /// The error of a repo that lacks a file of every model.
    pub(super) fn not_model(&self, repo: &str, missing: &'static str) -> HubError {
        let has = if self.files.iter().any(|file| file.name.ends_with(".gguf")) {
            "it holds GGUF files"
        } else if self.has(crate::adapter::ADAPTER_CONFIG) {
            "it holds an adapter"
        } else {
            ""
        };
        HubError::NotModel { repo: repo.to_owned(), missing, has: has.to_owned() }
    }

    /// A file with what it must be: as listed, or as the hub answers for it where the list lacks that, as some mirrors' do.
    pub(super) fn file(&self, client: &Client<'_>, name: &str) -> Result<RemoteFile, HubError> {
        let listed = self.files.iter().find(|file| file.name == name).and_then(|file| file.content.clone());
        let content = match listed {
            Some(content) => content,
            None => ask_content(client, &self.commit, name)?,
        };
        Ok(RemoteFile { name: name.to_owned(), content })
    }
}

/// Size and hash by a HEAD request. A file in large storage has them in `X-Linked-Size` and `X-Linked-Etag`.
fn ask_content(client: &Client<'_>, commit: &str, name: &str) -> Result<Content, HubError> {
    let url = client.file_url(commit, name);
    let response = client.patiently(|| client.send(Method::Head, &url, None))?;
    let headers = response.headers();
    let either = |first, second| header(headers, first).or_else(|| header(headers, second));
    let bytes = either("x-linked-size", "content-length").and_then(|bytes| bytes.parse().ok());
    let digest = either("x-linked-etag", "etag").and_then(|etag| Digest::parse(etag.trim_matches('"')));
    let (Some(bytes), Some(digest)) = (bytes, digest) else {
        return Err(HubError::NoHash { file: name.to_owned() });
    };
    Ok(Content { bytes, digest })
}

/// Whether a path of a repo stays inside it, on every system.
fn stays_inside(path: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..");
    path.split('/').all(part) && !path.contains(['\\', ':', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: &[&str]) -> Listing {
        Listing::of_names("0".repeat(40), names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn only_what_is_needed_is_taken() {
        let names = [
            ".gitattributes",
            "README.md",
            "LICENSE.txt",
            "USE_POLICY.md",
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "chat_template.jinja",
            "model.safetensors",
            "pytorch_model.bin",
            "onnx/config.json",
            "original/tokenizer.model",
            "training_args.bin",
            "LICENSES/a",
            "flax_model.msgpack",
        ];
        let expected = [
            "README.md",
            "LICENSE.txt",
            "USE_POLICY.md",
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "chat_template.jinja",
        ];
        assert_eq!(listing(&names).companions(), expected);
    }

    #[test]
    fn safetensors_are_taken_and_anything_else_is_named() {
        assert_eq!(listing(&["pytorch_model.bin", WEIGHTS]).weights("a/b").unwrap(), Weights::Whole);
        assert_eq!(listing(&[WEIGHTS_INDEX, "x.pth"]).weights("a/b").unwrap(), Weights::Shards);
        for name in
            ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "consolidated.00.pth", "x.ckpt"]
        {
            let error = listing(&["config.json", name]).weights("a/b").unwrap_err();
            assert_eq!(error.to_string(), format!("`a/b` has only pickled weights (`{name}`)"));
            assert!(
                error.hint().unwrap().contains("can run any code") && error.hint().unwrap().contains("save_pretrained")
            );
        }
        let error = listing(&["x.Q4_0.gguf"]).weights("a/b").unwrap_err();
        assert_eq!(error.to_string(), "`a/b` has no `model.safetensors`: it holds GGUF files");
        assert!(error.hint().unwrap().contains("afina pull FILE.gguf"));
        let error = listing(&["adapter_config.json"]).weights("a/b").unwrap_err();
        assert_eq!(error.to_string(), "`a/b` has no `model.safetensors`: it holds an adapter");
        assert_eq!(
            listing(&["original/consolidated.00.pth"]).weights("a/b").unwrap_err().to_string(),
            "`a/b` has no `model.safetensors`"
        );
    }

    #[test]
    fn paths_that_lead_out_are_told() {
        for path in ["a", "a/b.json", "..a", "a..b/c"] {
            assert!(stays_inside(path), "{path}");
        }
        for path in ["", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "./a", "C:\\x", "C:x", "a\\b"] {
            assert!(!stays_inside(path), "{path}");
        }
    }
}
