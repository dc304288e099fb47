//! The folder a model is brought to: whether it is free, complete, damaged or somebody else's.

use std::fs;
use std::path::{Path, PathBuf};

use super::{PullError, PullEvent, PullRequest};
use crate::atomic::AtomicDir;
use crate::gguf::cut_name;
use crate::manifest::{Manifest, Origin};

/// Where a model goes.
pub(super) struct Target {
    pub path: PathBuf,
}

/// What is at the target.
pub(super) enum State {
    Free,
    /// This model, and every file as recorded.
    Complete,
    /// This model, and a file that is not as recorded.
    Damaged {
        why: String,
    },
}

impl State {
    /// Tells what was found; `false` if nothing needs to be done.
    pub(super) fn proceed(&self, progress: &mut dyn FnMut(PullEvent)) -> bool {
        match self {
            State::Free => true,
            State::Complete => {
                progress(PullEvent::AlreadyComplete);
                false
            }
            State::Damaged { why } => {
                progress(PullEvent::Damaged { why: why.clone() });
                true
            }
        }
    }
}

impl Target {
    pub(super) fn new(request: &PullRequest, name: &str) -> Target {
        Target { path: request.to.clone().unwrap_or_else(|| request.base_dir.join(name)) }
    }

    /// Looks at what is there; `same` tells whether a manifest is that of the wanted model.
    pub(super) fn state(&self, same: &dyn Fn(&Manifest) -> bool) -> Result<State, PullError> {
        let empty = match fs::read_dir(&self.path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(source) => return Err(PullError::Io { path: self.path.clone(), source }),
        };
        if empty {
            return Ok(State::Free);
        }
        let taken = |holds: String| PullError::Taken { path: self.path.clone(), holds };
        let Some(manifest) = Manifest::read(&self.path)? else {
            return Err(taken("it has files and no manifest".into()));
        };
        if !same(&manifest) {
            return Err(taken(format!("it holds `{}` from another source", manifest.name)));
        }
        Ok(match manifest.verify(&self.path) {
            Ok(()) => State::Complete,
            Err(error) => State::Damaged { why: error.to_string() },
        })
    }

    /// A folder beside the target for what is only passing through.
    pub(super) fn beside(&self, suffix: &str) -> Result<AtomicDir, PullError> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(suffix);
        AtomicDir::create(&self.path.with_file_name(name))
            .map_err(|source| PullError::Io { path: self.path.clone(), source })
    }

    pub(super) fn start(&self) -> Result<AtomicDir, PullError> {
        AtomicDir::create(&self.path).map_err(|source| PullError::Io { path: self.path.clone(), source })
    }

    /// Writes the manifest and puts the folder in place; a damaged one is replaced.
    pub(super) fn finish(
        &self,
        folder: AtomicDir,
        state: &State,
        license: Option<String>,
        origin: Origin,
    ) -> Result<PathBuf, PullError> {
        let io_error = |source| PullError::Io { path: self.path.clone(), source };
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Manifest::write(folder.path(), name, license, origin).map_err(io_error)?;
        match state {
            State::Damaged { .. } => folder.commit_replacing().map_err(io_error)?,
            _ => folder.commit().map_err(io_error)?,
        }
        Ok(self.path.clone())
    }
}

/// `SmolLM2-135M-Instruct.Q4_1.gguf` gives `smollm2-135m-instruct-q4_1`; a file that is not quantized keeps its bare name.
pub(super) fn name_of_gguf(path: &Path, file_type: &str) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    // Of a model in several files, the name that they share.
    let stem = match cut_name(&name) {
        Some((shared, _)) => shared.to_owned(),
        None => Path::new(&name).file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let bare = stem.strip_suffix(file_type).map_or(stem.as_str(), |bare| bare.trim_end_matches(['.', '-', '_']));
    let bare = if bare.is_empty() { "model" } else { bare };
    match file_type {
        "f32" | "f16" | "bf16" => bare.to_owned(),
        quantized => format!("{bare}-{quantized}"),
    }
}

/// `license:` of a model card's front matter.
pub(super) fn license_of_card(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines();
    (lines.next()?.trim() == "---").then_some(())?;
    let line = lines.take_while(|line| line.trim() != "---").find_map(|line| line.strip_prefix("license:"))?;
    let license = line.trim().trim_matches(['"', '\'']);
    (!license.is_empty()).then(|| license.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantized_files_say_so_in_their_name() {
        for (file, kind, name) in [
            ("a/SmolLM2-135M-Instruct.Q4_1.gguf", "q4_1", "smollm2-135m-instruct-q4_1"),
            ("tiny-q8_0.gguf", "q8_0", "tiny-q8_0"),
            ("Tiny.gguf", "q4_0", "tiny-q4_0"),
            ("tiny-f16.gguf", "f16", "tiny"),
            ("q4_1.gguf", "q4_1", "model-q4_1"),
            ("Tiny-Q8_0-00001-of-00003.gguf", "q8_0", "tiny-q8_0"),
        ] {
            assert_eq!(name_of_gguf(Path::new(file), kind), name);
        }
    }

    #[test]
    fn licence_is_read_from_a_model_card() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("README.md");
        crate::atomic::write_file(&path, b"---\nlanguage: en\nlicense: apache-2.0\n---\n# x\n").unwrap();
        assert_eq!(license_of_card(&path).as_deref(), Some("apache-2.0"));
        crate::atomic::write_file(&path, b"# x\nlicense: mit\n").unwrap();
        assert_eq!(license_of_card(&path), None);
    }
}
