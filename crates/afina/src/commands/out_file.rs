//! The data file that a command writes: put in place when it is complete, or standard output.

use std::io::{self, BufWriter, ErrorKind, IntoInnerError, Write};
use std::path::{Path, PathBuf};

use afina_checkpoint::{AtomicFile, file_behind, is_same_file};
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
    refuse_inputs(to, inputs)?;
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

/// A usage error where `to` is one of `inputs`, by another name too.
pub fn refuse_inputs(to: &Path, inputs: &[&Path]) -> Result<()> {
    if inputs.iter().any(|input| is_same_file(input, to)) {
        return Err(Usage::error(
            format!("`{}` is read by this command", to.display()),
            "name another file: what is read is never written",
        ));
    }
    Ok(())
}
