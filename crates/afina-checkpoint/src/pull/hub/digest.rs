//! The two hashes by which a hub names content: SHA-256 of large files, git's blob hash of small ones.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::hash::{hex, read_all};

/// A content's hash, as the hub names it in `ETag` and the shared cache in the names under `blobs/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Digest {
    Sha256(String),
    /// SHA-1 of `blob <bytes>\0` and the content.
    GitBlob(String),
}

impl Digest {
    /// 64 or 40 lower-case hexadecimal digits; nothing else becomes the name of a file.
    pub(super) fn parse(text: &str) -> Option<Digest> {
        if !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        match text.len() {
            64 => Some(Digest::Sha256(text.to_owned())),
            40 => Some(Digest::GitBlob(text.to_owned())),
            _ => None,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Digest::Sha256(text) | Digest::GitBlob(text) => text,
        }
    }

    /// `sha256 1234…` or `git blob 1234…`, for messages.
    pub(super) fn show(&self) -> String {
        let name = match self {
            Digest::Sha256(_) => "sha256",
            Digest::GitBlob(_) => "git blob",
        };
        format!("{name} {}", self.as_str())
    }

    /// A hasher of the same kind, for content of `bytes` bytes.
    pub(super) fn hasher(&self, bytes: u64) -> Hasher {
        match self {
            Digest::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Digest::GitBlob(_) => Hasher::GitBlob(Sha1::new_with_prefix(format!("blob {bytes}\0"))),
        }
    }

    /// The same kind of hash of a file's content.
    pub(super) fn of_file(&self, path: &Path) -> io::Result<Digest> {
        let mut file = File::open(path)?;
        let mut hasher = self.hasher(file.metadata()?.len());
        hasher.read(&mut file)?;
        Ok(hasher.finish())
    }
}

#[derive(Clone)]
pub(super) enum Hasher {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::GitBlob(hasher) => hasher.update(bytes),
        }
    }

    /// All that `reader` still gives.
    pub(super) fn read(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        read_all(reader, &mut |bytes| self.update(bytes))
    }

    pub(super) fn finish(self) -> Digest {
        match self {
            Hasher::Sha256(hasher) => Digest::Sha256(hex(&hasher.finalize())),
            Hasher::GitBlob(hasher) => Digest::GitBlob(hex(&hasher.finalize())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_hashes_are_those_of_sha256sum_and_git() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hello");
        crate::atomic::write_file(&path, b"hello\n").unwrap();
        // `git hash-object` and `sha256sum` of the same six bytes.
        let known = [
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        ];
        for text in known {
            let digest = Digest::parse(text).unwrap();
            assert_eq!(digest.of_file(&path).unwrap(), digest);
        }
    }

    #[test]
    fn nothing_but_a_hash_is_taken_for_one() {
        for text in ["", "../../x", "W/\"abc\"", &"A".repeat(64), &"0".repeat(63), &"0".repeat(32)] {
            assert_eq!(Digest::parse(text), None);
        }
    }
}
