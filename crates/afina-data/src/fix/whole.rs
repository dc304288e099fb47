//! What is wrong with the output as a whole: it is read while it is written.

use std::{
    io::{self, BufReader, Read, Write},
    panic::resume_unwind,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use super::rounds::is_about_file;
use crate::{Diagnostic, Item, ReadOptions, Severity, read};

/// Bytes that are handed over together, and how many such parts may wait.
const PART_BYTES: usize = 256 << 10;
const WAITING: usize = 8;

/// Runs `write` with a copy of `out`, and returns, with what it returned, the errors of what it wrote that are about
/// several records or about the file: their lines are the output's.
pub(super) fn watch<T>(
    options: &ReadOptions,
    out: &mut dyn Write,
    write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
) -> io::Result<(T, Vec<Diagnostic>)> {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(WAITING);
        let reader = scope.spawn(move || errors(Received { from: receiver, part: Vec::new(), at: 0 }, options));
        let mut copied = Copied { out, to: sender, part: Vec::new() };
        let done = write(&mut copied);
        copied.hand_over();
        drop(copied);
        let found = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok((done?, found?))
    })
}

fn errors(received: Received, options: &ReadOptions) -> io::Result<Vec<Diagnostic>> {
    let options = ReadOptions { examples: false, windows: false, ..options.clone() };
    let mut found = Vec::new();
    read(&mut BufReader::with_capacity(PART_BYTES, received), "-", &options, &mut |item| {
        let Item::Diagnostic(diagnostic) = item else { return };
        let whole = is_about_file(diagnostic.rule)
            || matches!(diagnostic.rule, "mixed-formats" | "file-empty" | "file-too-large");
        if whole && diagnostic.severity == Severity::Error {
            found.push(diagnostic);
        }
    })?;
    Ok(found)
}

/// Hands over what it writes.
struct Copied<'w> {
    out: &'w mut dyn Write,
    to: SyncSender<Vec<u8>>,
    part: Vec<u8>,
}

impl Copied<'_> {
    fn hand_over(&mut self) {
        // A reader that needs no more has gone.
        let _ = self.to.send(std::mem::take(&mut self.part));
    }
}

impl Write for Copied<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.part.extend_from_slice(&bytes[..written]);
        if self.part.len() >= PART_BYTES {
            self.hand_over();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What was handed over, as a source.
struct Received {
    from: Receiver<Vec<u8>>,
    part: Vec<u8>,
    at: usize,
}

impl Read for Received {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.part.len() {
            let Ok(part) = self.from.recv() else { return Ok(0) };
            (self.part, self.at) = (part, 0);
        }
        let count = into.len().min(self.part.len() - self.at);
        into[..count].copy_from_slice(&self.part[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
