//! One file from the hub into the cache: begun where it stopped, and looked at before it counts.
//!
//! A half file must outlive the process, so it is not written through `atomic.rs`: it lies beside the blob as `<hash>.part`,
//! with a lock `<hash>.lock` while somebody writes it, as hf-hub names them, and becomes the blob by a rename.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ureq::Body;
use ureq::http::{Response, StatusCode};

use super::cache::{Cached, RepoCache, compare};
use super::client::{Client, Method, TRIES, header};
use super::digest::Hasher;
use super::error::HubError;
use super::listing::{Content, RemoteFile};
use crate::pull::PullError;

/// What happens to a file.
pub(super) enum Event {
    /// So many bytes of it are there.
    Loaded(u64),
    /// What the cache had was wrong; it is loaded again.
    Damaged(String),
}

/// Brings a file into the cache unless it is there, and returns its path.
pub(super) fn download(
    client: &Client<'_>,
    cache: &RepoCache,
    commit: &str,
    file: &RemoteFile,
    tell: &mut dyn FnMut(Event),
) -> Result<PathBuf, PullError> {
    let blob = cache.blob(&file.content.digest);
    let io_error = |source| PullError::Io { path: blob.clone(), source };
    fs::create_dir_all(blob.parent().expect("a blob lies in a folder")).map_err(io_error)?;
    let _lock = lock(client, &blob, &file.name)?;
    match compare(&blob, &file.content).map_err(io_error)? {
        Cached::Whole(_) => {}
        other => {
            if let Cached::Removed { expected, found } = other {
                tell(Event::Damaged(format!(
                    "`{}` in the cache is not what it should be: expected {expected}, found {found}",
                    file.name
                )));
            }
            load(client, commit, file, &blob, tell)?;
        }
    }
    tell(Event::Loaded(file.content.bytes));
    cache.link(commit, &file.name, &file.content.digest).map_err(io_error)?;
    Ok(blob)
}

/// Nobody else writes this blob while the file lives; a process that is killed lets go of it.
fn lock(client: &Client<'_>, blob: &Path, name: &str) -> Result<File, PullError> {
    let path = blob.with_extension("lock");
    let io_error = |source| PullError::Io { path: path.clone(), source };
    let file = File::create(&path).map_err(io_error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            let cache = client.settings.cache.clone();
            Err(HubError::Locked { file: name.to_owned(), cache }.into())
        }
        Err(fs::TryLockError::Error(source)) => Err(io_error(source)),
    }
}

fn load(
    client: &Client<'_>,
    commit: &str,
    file: &RemoteFile,
    blob: &Path,
    tell: &mut dyn FnMut(Event),
) -> Result<(), PullError> {
    let part_path = blob.with_extension("part");
    let io_error = |source| PullError::Io { path: part_path.clone(), source };
    let mut part = Part::open(&part_path, &file.content).map_err(io_error)?;
    let url = client.file_url(commit, &file.name);
    let mut tries = 0;
    while part.bytes < file.content.bytes {
        let before = part.bytes;
        let from = (before > 0).then_some(before);
        let cut = match client.patiently(|| client.send(Method::Get, &url, from)) {
            Ok(response) => match part.take(response, tell).map_err(io_error)? {
                Taken::Whole => break,
                Taken::Cut(source) => source,
            },
            // The line went before anything came; the first file of all has shown that there is a hub.
            Err(HubError::Connect { source, .. }) => io::Error::other(source),
            Err(error) => return Err(error.into()),
        };
        tries = if part.bytes > before { 1 } else { tries + 1 };
        if tries == TRIES {
            let (file, bytes) = (file.name.clone(), file.content.bytes);
            return Err(HubError::Cut { file, done: part.bytes, bytes, tries, source: cut }.into());
        }
        client.wait(tries);
    }
    part.finish(file, &part_path, blob)
}

/// A half file, and the hash of what there is of it.
struct Part<'a> {
    file: File,
    bytes: u64,
    hasher: Hasher,
    content: &'a Content,
}

enum Taken {
    /// The answer came to its end, right or wrong.
    Whole,
    Cut(io::Error),
}

impl<'a> Part<'a> {
    /// Opens what is there, or begins. More than the file should have is no beginning of it.
    fn open(path: &Path, content: &'a Content) -> io::Result<Part<'a>> {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut hasher = content.digest.hasher(content.bytes);
        let mut bytes = file.metadata()?.len();
        if bytes > content.bytes {
            file.set_len(0)?;
            bytes = 0;
        }
        hasher.read(&mut file)?;
        Ok(Part { file, bytes, hasher, content })
    }

    /// Writes what an answer brings, to the file's end or one byte beyond, which shows that it is wrong.
    fn take(&mut self, mut response: Response<Body>, tell: &mut dyn FnMut(Event)) -> io::Result<Taken> {
        let begins = match response.status() {
            StatusCode::PARTIAL_CONTENT => range_start(header(response.headers(), "content-range")),
            _ => Some(0),
        };
        // A server that gives another part than was asked for, or all: from the beginning then.
        match begins {
            Some(begins) if begins == self.bytes => {}
            Some(0) => self.begin_again()?,
            _ => {
                self.begin_again()?;
                return Ok(Taken::Cut(io::Error::other("the server gave another part than was asked for")));
            }
        }
        let mut reader = response.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 17];
        loop {
            let room = (self.content.bytes.saturating_add(1) - self.bytes).min(buffer.len() as u64) as usize;
            match reader.read(&mut buffer[..room]) {
                Ok(0) if self.bytes < self.content.bytes => {
                    let why = "the answer is shorter than the file";
                    return Ok(Taken::Cut(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
                }
                Ok(0) => return Ok(Taken::Whole),
                Ok(n) => {
                    self.file.write_all(&buffer[..n])?;
                    self.hasher.update(&buffer[..n]);
                    self.bytes += n as u64;
                    tell(Event::Loaded(self.bytes.min(self.content.bytes)));
                    if self.bytes > self.content.bytes {
                        return Ok(Taken::Whole);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if self.bytes == self.content.bytes => return Ok(Taken::Whole),
                Err(error) => return Ok(Taken::Cut(error)),
            }
        }
    }

    fn begin_again(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.bytes = 0;
        self.hasher = self.content.digest.hasher(self.content.bytes);
        Ok(())
    }

    /// Makes the half file the blob, if it is right, and removes it if it is wrong.
    fn finish(self, file: &RemoteFile, path: &Path, blob: &Path) -> Result<(), PullError> {
        let io_error = |source| PullError::Io { path: path.into(), source };
        let (expected, found) = if self.bytes != self.content.bytes {
            (format!("{} bytes", self.content.bytes), format!("more than {} bytes", self.content.bytes))
        } else {
            let found = self.hasher.finish();
            if found == self.content.digest {
                self.file.sync_all().map_err(io_error)?;
                return fs::rename(path, blob).map_err(io_error);
            }
            (self.content.digest.show(), found.show())
        };
        fs::remove_file(path).map_err(io_error)?;
        Err(HubError::Corrupt { file: file.name.clone(), expected, found }.into())
    }
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn range_start(range: Option<&str>) -> Option<u64> {
    range?.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}
