//! The data file that a command writes: put in place when it is complete, or standard output.

use std::fs::Metadata;
use std::io::{self, BufWriter, ErrorKind, IntoInnerError, Write};
use std::path::{Path, PathBuf};

use afina_checkpoint::{AtomicFile, file_behind};
use anyhow::{Context, Result};

use crate::Usage;
use crate::output::{Output, Stdout};

/// What is written as a data file, by a command that reads others.
pub enum OutFile {
    File { to: PathBuf, file: BufWriter<AtomicFile> },
    Stdout(Stdout),
}

impl OutFile {
    /// `-` is standard output. Refuses what is one of `inputs` (by another name too), and what is no file.
    pub fn create(to: &Path, inputs: &[&Path], output: &Output) -> Result<OutFile> {
        if to == Path::new("-") {
            if output.json {
                return Err(Usage::error(
                    "`-` and `--json` both write to standard output",
                    "name a file, or leave out one",
                ));
            }
            return Ok(OutFile::Stdout(output.data()));
        }
        let target = writable(to, inputs)?;
        let file = AtomicFile::create(&target).with_context(|| format!("failed to write `{}`", to.display()))?;
        Ok(OutFile::File { to: to.to_path_buf(), file: BufWriter::new(file) })
    }

    pub fn is_stdout(&self) -> bool {
        matches!(self, OutFile::Stdout(_))
    }

    /// Puts the file in place, complete.
    pub fn commit(self) -> Result<()> {
        match self {
            OutFile::File { to, file } => {
                let file = file.into_inner().map_err(IntoInnerError::into_error);
                file.and_then(AtomicFile::commit).with_context(|| format!("failed to write `{}`", to.display()))
            }
            OutFile::Stdout(mut stdout) => stdout.flush().context("failed to write to standard output"),
        }
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            OutFile::File { file, .. } => file.write(bytes),
            OutFile::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            OutFile::File { file, .. } => file.flush(),
            OutFile::Stdout(stdout) => stdout.flush(),
        }
    }
}

/// Where a file for `to` goes. A usage error where that would take the place of an input, or of something that is no
/// file, or where there is no folder for it.
fn writable(to: &Path, inputs: &[&Path]) -> Result<PathBuf> {
    let shown = to.display();
    if inputs.iter().any(|input| is_same(input, to)) {
        return Err(Usage::error(
            format!("`{shown}` is read by this command"),
            "name another file: what is read is never written",
        ));
    }
    let target = file_behind(to).map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => Usage::error(
            format!("`{shown}`: {error}"),
            "name a file: it is written aside and then put in place, which only a file can take",
        ),
        _ => error.into(),
    })?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let folder = folder.display();
        let hint = format!("make it first: `mkdir -p '{folder}'`, or correct the path");
        return Err(Usage::error(format!("`{shown}`: there is no folder `{folder}`"), hint));
    }
    Ok(target)
}

/// Whether two paths lead to one file, or will once it is written.
pub fn is_same(one: &Path, other: &Path) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one_is), Ok(other_is)) if is_one_file(&one_is, &other_is) => true,
        _ => place(one).is_some_and(|one| Some(one) == place(other)),
    }
}

/// Two names of a file, by links of either sort.
#[cfg(unix)]
fn is_one_file(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_one_file(_: &Metadata, _: &Metadata) -> bool {
    false
}

/// The full path of a file that need not be there yet.
fn place(path: &Path) -> Option<PathBuf> {
    let target = file_behind(path).ok()?;
    if let Ok(whole) = target.canonicalize() {
        return Some(whole);
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(folder.canonicalize().ok()?.join(target.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_all_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        afina_checkpoint::write_file(&at("data/a.jsonl"), b"{}\n").unwrap();
        afina_checkpoint::write_file(&at("data/b.jsonl"), b"{}\n").unwrap();
        assert!(is_same(&at("data/a.jsonl"), &at("data/../data/./a.jsonl")));
        assert!(!is_same(&at("data/a.jsonl"), &at("data/b.jsonl")));
        assert!(is_same(&at("new.jsonl"), &at("data/../new.jsonl")));
        assert!(!is_same(&at("new.jsonl"), &at("data/new.jsonl")));
        #[cfg(unix)]
        {
            std::fs::hard_link(at("data/a.jsonl"), at("hard.jsonl")).unwrap();
            std::os::unix::fs::symlink("data/a.jsonl", at("soft.jsonl")).unwrap();
            std::os::unix::fs::symlink("new.jsonl", at("dangling.jsonl")).unwrap();
            assert!(is_same(&at("data/a.jsonl"), &at("hard.jsonl")));
            assert!(is_same(&at("hard.jsonl"), &at("soft.jsonl")));
            assert!(is_same(&at("dangling.jsonl"), &at("new.jsonl")));
        }
    }
}
