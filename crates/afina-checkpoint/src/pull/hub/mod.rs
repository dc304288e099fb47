//! Base models from a Hugging Face hub: looked at before they are loaded, loaded through the cache that other tools share,
//! every file compared with the hash that the hub names.

mod cache;
mod client;
mod digest;
mod download;
mod error;
mod listing;
mod settings;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use self::cache::{Cached, RepoCache};
use self::client::Client;
pub use self::error::HubError;
use self::listing::{Listing, Weights};
use self::settings::is_revision;
pub use self::settings::{HUB, HubSettings, Token};
pub(super) use self::settings::{is_repo_id, repo_id_of_page};
use super::target::{self, State, Target};
use super::{PullError, PullEvent, PullRequest};
use crate::config::LlamaConfig;
use crate::manifest::{Manifest, Origin};
use crate::model_dir::{ModelDir, WEIGHTS, WEIGHTS_INDEX, read_json};
use crate::names::expected_tensors;
use crate::quantized::Quantization;
use crate::shard_index::ShardIndex;

/// The branch that is taken unless another revision is asked for.
const MAIN: &str = "main";

pub(super) fn pull_hub(
    repo: &str,
    request: &PullRequest,
    progress: &mut dyn FnMut(PullEvent),
) -> Result<PathBuf, PullError> {
    let revision = request.revision.as_deref().unwrap_or(MAIN);
    if !is_repo_id(repo) {
        return Err(HubError::RepoId { text: repo.to_owned() }.into());
    }
    if !is_revision(revision) {
        return Err(HubError::Revision { text: revision.to_owned() }.into());
    }
    let name = repo.rsplit('/').next().expect("a split has a last part").to_lowercase();
    let target = Target::new(request, &name);
    let settings = &request.hub;
    // What can only be one commit, or may be asked of nobody, is known without a question.
    if let Some((there, commit)) = commit_there(&target, repo)?
        && (commit == revision || settings.offline && there == revision)
        && let state @ State::Complete = look(&target, repo, revision, &commit)?
    {
        state.proceed(progress);
        return Ok(target.path);
    }

    let cache = RepoCache::new(settings, repo, revision);
    let client = if settings.offline { None } else { Some(Client::new(settings, repo, revision)?) };
    let listing = match &client {
        Some(client) => {
            progress(PullEvent::Trying { source: format!("{}/{repo}", settings.base()) });
            Listing::ask(client)?
        }
        None => cache.listing().ok_or_else(|| HubError::Offline {
            repo: repo.to_owned(),
            missing: revision.to_owned(),
            cache: settings.cache.clone(),
        })?,
    };
    let state = look(&target, repo, revision, &listing.commit)?;
    if !state.proceed(progress) {
        return Ok(target.path);
    }

    let source = Repo { settings, repo, cache, client, listing };
    let files = source.bring(progress)?;
    // In the cache, so that what is wrong with a model is said of a path that stays.
    let snapshot = source.cache.snapshot(&source.listing.commit);
    ModelDir::open(&snapshot).map_err(|source| PullError::Folder { path: snapshot.clone(), source })?;

    let folder = target.start()?;
    for (name, path) in &files {
        place(path, &folder.path().join(name)).map_err(|source| PullError::Io { path: path.clone(), source })?;
    }
    let license = target::license_of_card(&folder.path().join("README.md"));
    let origin = Origin::Hub {
        endpoint: settings.base().to_owned(),
        repo: repo.to_owned(),
        revision: revision.to_owned(),
        commit: source.listing.commit.clone(),
    };
    target.finish(folder, &state, license, origin)
}

/// A repo at a commit, and where its files come from.
struct Repo<'a> {
    settings: &'a HubSettings,
    repo: &'a str,
    cache: RepoCache,
    /// `None` offline.
    client: Option<Client<'a>>,
    listing: Listing,
}

impl Repo<'_> {
    /// Brings every file that is needed into the cache: first the small ones that tell whether the rest is of use.
    fn bring(&self, progress: &mut dyn FnMut(PullEvent)) -> Result<Vec<(String, PathBuf)>, PullError> {
        if !self.listing.has("config.json") {
            // Offline, what is not in the cache may well be in the repo.
            return Err(self.missing("config.json").into());
        }
        let json = self.json("config.json", progress)?;
        let config = LlamaConfig::from_json(&json)
            .map_err(|source| HubError::Config { repo: self.repo.to_owned(), source: source.into() })?;
        let quantization = Quantization::of_config(&json)
            .map_err(|source| HubError::Quantization { repo: self.repo.to_owned(), source: source.into() })?;
        let mut names: Vec<String> = self.listing.companions().into_iter().map(str::to_owned).collect();
        match self.listing.weights(self.repo) {
            Ok(Weights::Whole) => names.push(WEIGHTS.to_owned()),
            Ok(Weights::Shards) => {
                names.push(WEIGHTS_INDEX.to_owned());
                names.extend(self.shards(&config, quantization, progress)?);
            }
            Err(HubError::NotModel { .. }) => return Err(self.missing(WEIGHTS).into()),
            Err(error) => return Err(error.into()),
        }

        let Some(client) = &self.client else {
            return names.into_iter().map(|name| Ok((name.clone(), self.cached(&name)?))).collect();
        };
        let remote = names.iter().map(|name| self.listing.file(client, name)).collect::<Result<Vec<_>, HubError>>()?;
        let total = remote.iter().fold(0_u64, |sum, file| sum.saturating_add(file.content.bytes));
        progress(PullEvent::Found { commit: self.listing.commit.clone(), files: remote.len(), bytes: total });
        let mut before = 0;
        let mut files = Vec::with_capacity(remote.len());
        for file in &remote {
            let path = self.load(client, file, before, total, progress)?;
            before += file.content.bytes;
            files.push((file.name.clone(), path));
        }
        Ok(files)
    }

    /// The shards that the index names, once it is clear that all the tensors are in shards of the repo.
    fn shards(
        &self,
        config: &LlamaConfig,
        quantization: Option<Quantization>,
        progress: &mut dyn FnMut(PullEvent),
    ) -> Result<Vec<String>, PullError> {
        let repo = || self.repo.to_owned();
        let path = self.small(WEIGHTS_INDEX, progress)?;
        let index =
            ShardIndex::read(&path).map_err(|source| HubError::Index { repo: repo(), source: source.into() })?;
        let has = |name: &String| {
            let marks = quantization.and_then(|quantization| quantization.marks(name));
            index.has(name) || marks.is_some_and(|marks| marks.iter().any(|mark| index.has(mark)))
        };
        if let Some((tensor, _)) = expected_tensors(config).into_iter().find(|(name, _)| !has(name)) {
            return Err(HubError::NoTensor { repo: repo(), tensor }.into());
        }
        let shards: Vec<String> = index.shards().into_iter().map(str::to_owned).collect();
        match shards.iter().find(|shard| !self.listing.has(shard)) {
            Some(shard) if self.client.is_some() => {
                Err(HubError::NoShard { repo: repo(), shard: shard.clone() }.into())
            }
            Some(shard) => Err(self.offline_without(shard).into()),
            None => Ok(shards),
        }
    }

    fn json(&self, name: &str, progress: &mut dyn FnMut(PullEvent)) -> Result<serde_json::Value, PullError> {
        let path = self.small(name, progress)?;
        read_json(&path).map_err(|source| PullError::Folder { path, source })
    }

    /// A file that is needed before the size of all is known. It is at its place in the snapshot afterwards.
    fn small(&self, name: &str, progress: &mut dyn FnMut(PullEvent)) -> Result<PathBuf, PullError> {
        match &self.client {
            Some(client) => {
                let file = self.listing.file(client, name)?;
                self.load(client, &file, 0, file.content.bytes, &mut |event| {
                    if matches!(event, PullEvent::Damaged { .. }) {
                        progress(event);
                    }
                })?;
                Ok(self.cache.snapshot(&self.listing.commit).join(name))
            }
            None => self.cached(name),
        }
    }

    fn load(
        &self,
        client: &Client<'_>,
        file: &listing::RemoteFile,
        before: u64,
        total: u64,
        progress: &mut dyn FnMut(PullEvent),
    ) -> Result<PathBuf, PullError> {
        let mut tell = |event: download::Event| match event {
            download::Event::Loaded(bytes) => {
                progress(PullEvent::Downloading { file: file.name.clone(), done: before + bytes, total });
            }
            download::Event::Damaged(why) => progress(PullEvent::Damaged { why }),
        };
        download::download(client, &self.cache, &self.listing.commit, file, &mut tell)
    }

    fn cached(&self, name: &str) -> Result<PathBuf, PullError> {
        let found = self.cache.file(&self.listing.commit, name);
        match found.map_err(|source| PullError::Io { path: self.settings.cache.clone(), source })? {
            Cached::Whole(path) => Ok(path),
            Cached::Missing => Err(self.offline_without(name).into()),
            Cached::Removed { expected, found } => {
                Err(HubError::Corrupt { file: name.to_owned(), expected, found }.into())
            }
        }
    }

    /// The error of a repo, or of what the cache has of it, without a file of every model.
    fn missing(&self, name: &'static str) -> HubError {
        match self.client {
            Some(_) => self.listing.not_model(self.repo, name),
            None => self.offline_without(name),
        }
    }

    fn offline_without(&self, name: &str) -> HubError {
        let (repo, cache) = (self.repo.to_owned(), self.settings.cache.clone());
        HubError::Offline { repo, missing: name.to_owned(), cache }
    }
}

/// Revision and commit of the target, if it came from this repo.
fn commit_there(target: &Target, repo: &str) -> Result<Option<(String, String)>, PullError> {
    Ok(match Manifest::read(&target.path)?.map(|manifest| manifest.origin) {
        Some(Origin::Hub { repo: there, revision, commit, .. }) if there == repo => Some((revision, commit)),
        _ => None,
    })
}

/// Looks at the target. Another commit of the same repo is not replaced: something may have been trained on it.
fn look(target: &Target, repo: &str, revision: &str, commit: &str) -> Result<State, PullError> {
    if let Some((_, there)) = commit_there(target, repo)?
        && there != commit
    {
        let holds = format!("it holds commit `{there:.7}` of `{repo}`, and `{revision}` is `{commit:.7}`");
        return Err(PullError::Taken { path: target.path.clone(), holds });
    }
    target.state(&|manifest| {
        matches!(&manifest.origin, Origin::Hub { repo: there, commit: other, .. } if there == repo && other == commit)
    })
}

/// Puts a file of the cache into a folder. Weights are the same bytes on the disk where that can be: nothing here writes
/// into a file that is there, and what somebody else would change, the manifest tells.
fn place(from: &Path, to: &Path) -> io::Result<()> {
    let from = fs::canonicalize(from)?;
    if to.extension().is_some_and(|extension| extension == "safetensors") && fs::hard_link(&from, to).is_ok() {
        return Ok(());
    }
    fs::copy(&from, to)?;
    File::open(to)?.sync_all()
}

#[cfg(test)]
#[path = "../../../../../tests/hub_server.rs"]
mod server;
#[cfg(test)]
mod tests;
