//! The folder of downloaded repos that Hugging Face's tools share: `blobs/` by hash, `snapshots/<commit>/` of links to them,
//! `refs/` from branches and tags to commits.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::digest::Digest;
use super::listing::{Content, Listing};
use super::settings::{HubSettings, is_commit};

/// A repo's part of the cache.
pub(super) struct RepoCache {
    repo: CacheRepo,
    revision: String,
}

impl RepoCache {
    pub(super) fn new(settings: &HubSettings, repo: &str, revision: &str) -> RepoCache {
        let named = Repo::with_revision(repo.to_owned(), RepoType::Model, revision.to_owned());
        RepoCache { repo: Cache::new(settings.cache.clone()).repo(named), revision: revision.to_owned() }
    }

    /// Where content of this hash lies, or will.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.repo.blob_path(digest.as_str())
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo.pointer_path(commit)
    }

    /// Makes a blob a file of a commit, and the revision that was asked for a name of the commit.
    pub(super) fn link(&self, commit: &str, name: &str, digest: &Digest) -> io::Result<()> {
        let folder = self.snapshot(commit);
        fs::create_dir_all(&folder)?;
        let (link, target) = (folder.join(name), Path::new("../../blobs").join(digest.as_str()));
        if fs::read_link(&link).ok().as_ref() != Some(&target) {
            if fs::symlink_metadata(&link).is_ok() {
                fs::remove_file(&link)?;
            }
            symlink(&target, &self.blob(digest), &link)?;
        }
        if self.revision != commit { self.repo.create_ref(commit) } else { Ok(()) }
    }

    /// The commit that the cache knows for the revision.
    fn commit(&self) -> Option<String> {
        if is_commit(&self.revision) {
            return Some(self.revision.clone());
        }
        // `snapshots/x` lies two folders below the repo's own.
        let refs = self.snapshot("x").parent()?.parent()?.join("refs");
        let commit = fs::read_to_string(refs.join(&self.revision)).ok()?.trim().to_owned();
        is_commit(&commit).then_some(commit)
    }

    /// What the cache has of the revision, without asking anybody.
    pub(super) fn listing(&self) -> Option<Listing> {
        let commit = self.commit()?;
        let entries = fs::read_dir(self.snapshot(&commit)).ok()?.flatten();
        let mut names: Vec<String> = entries
            .filter(|entry| entry.path().is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        Some(Listing::of_names(commit, names))
    }

    /// A file of a commit, compared with the hash that it is linked by. Where there are no links, it has none.
    pub(super) fn file(&self, commit: &str, name: &str) -> io::Result<Cached> {
        let path = self.snapshot(commit).join(name);
        if !path.is_file() {
            return Ok(Cached::Missing);
        }
        let blob = fs::canonicalize(&path)?;
        match blob.file_name().and_then(|name| Digest::parse(name.to_str()?)) {
            Some(digest) => compare(&blob, &Content { bytes: fs::metadata(&blob)?.len(), digest }),
            None => Ok(Cached::Whole(blob)),
        }
    }
}

/// What became of a file in the cache.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cached {
    Whole(PathBuf),
    Missing,
    /// It was not what its name says; it has been removed.
    Removed {
        expected: String,
        found: String,
    },
}

/// Looks at a blob; one that is not what it should be is removed.
pub(super) fn compare(blob: &Path, content: &Content) -> io::Result<Cached> {
    let bytes = match fs::metadata(blob) {
        Ok(found) if found.is_file() => found.len(),
        _ => return Ok(Cached::Missing),
    };
    let (expected, found) = if bytes != content.bytes {
        (format!("{} bytes", content.bytes), format!("{bytes} bytes"))
    } else {
        let found = content.digest.of_file(blob)?;
        if found == content.digest {
            return Ok(Cached::Whole(blob.to_owned()));
        }
        (content.digest.show(), found.show())
    };
    fs::remove_file(blob)?;
    Ok(Cached::Removed { expected, found })
}

#[cfg(unix)]
fn symlink(target: &Path, _blob: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Windows lets few make symbolic links.
#[cfg(not(unix))]
fn symlink(_target: &Path, blob: &Path, link: &Path) -> io::Result<()> {
    fs::hard_link(blob, link).or_else(|_| fs::copy(blob, link).map(|_| ()))
}
