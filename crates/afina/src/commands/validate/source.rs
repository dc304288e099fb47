//! Where the bytes come from: files, standard input, pipes.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::ProgressBar;

use crate::output::Output;

/// Something to read, and what it is called.
pub struct Source {
    pub name: String,
    pub bytes: Watched,
    /// No file of its own: standard input, a pipe. Its name tells nothing, and it is read once.
    pub is_stream: bool,
}

/// `-` is standard input.
pub fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

impl Source {
    /// Opens `path`. A progress bar shows how far it was read, once that takes more than a second.
    pub fn open(path: &Path, output: &Output) -> Result<Source> {
        if is_stdin(path) {
            let bytes = Watched::new(Box::new(io::stdin()), 0, output);
            return Ok(Source { name: "<stdin>".to_owned(), bytes, is_stream: true });
        }
        let (name, file) = open(path)?;
        let metadata = file.metadata().with_context(|| format!("failed to read `{name}`"))?;
        // `/dev/stdin` may lead to a file, and its name is none of a file all the same.
        let is_stream = !metadata.is_file() || path.starts_with("/dev") || path.starts_with("/proc");
        Ok(Source { name, bytes: Watched::new(Box::new(file), metadata.len(), output), is_stream })
    }
}

/// A file, and its name for messages.
pub fn open(path: &Path) -> Result<(String, File)> {
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| format!("failed to open `{name}`"))?;
    Ok((name, file))
}

/// Bytes that show how far they were read, once that takes more than a second.
pub struct Watched {
    source: Box<dyn Read>,
    size: u64,
    read: u64,
    since: Instant,
    bar: Option<ProgressBar>,
    wanted: bool,
    make: Box<dyn Fn(u64) -> ProgressBar>,
}

impl Watched {
    fn new(source: Box<dyn Read>, size: u64, output: &Output) -> Watched {
        let output = output.clone();
        let template = "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        Watched {
            source,
            size,
            read: 0,
            since: Instant::now(),
            bar: None,
            wanted: io::stderr().is_terminal() && size > 0,
            make: Box::new(move |size| output.progress(size, template)),
        }
    }
}

impl Read for Watched {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(bytes)?;
        self.read += read as u64;
        if self.wanted && self.bar.is_none() && self.since.elapsed() > Duration::from_secs(1) {
            self.bar = Some((self.make)(self.size));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.read);
            if read == 0 {
                bar.finish_and_clear();
            }
        }
        Ok(read)
    }
}
