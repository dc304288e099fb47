//! Checked lines in the order of the file, as far as they were read.

use std::collections::VecDeque;

use super::check::{Chunk, Outcome, Record};
use crate::jsonl::Line;

/// A queue of chunks, consumed line by line; lines further on can be looked at before.
#[derive(Default)]
pub(super) struct Feed {
    chunks: VecDeque<Chunk>,
    /// The next line, in the first chunk.
    at: usize,
    /// No more chunks will come.
    pub(super) ended: bool,
    /// Chunks that are used up: their buffers are worth keeping.
    pub(super) spare: Vec<Chunk>,
}

/// There are more lines in the file than were read so far.
pub(super) struct NeedMore;

impl Feed {
    pub(super) fn extend(&mut self, chunks: impl IntoIterator<Item = Chunk>) {
        self.chunks.extend(chunks);
    }

    /// The line `ahead` of the next one (0: that one itself); `None` at the end of the file.
    pub(super) fn peek(&self, ahead: usize) -> Result<Option<(Line, &[u8])>, NeedMore> {
        let mut index = self.at + ahead;
        for chunk in &self.chunks {
            if index < chunk.lines.len() {
                return Ok(Some(chunk.lines.get(index)));
            }
            index -= chunk.lines.len();
        }
        if self.ended { Ok(None) } else { Err(NeedMore) }
    }

    /// What the next line is, and its records.
    ///
    /// # Panics
    /// If there is no next line.
    pub(super) fn take_outcome(&mut self) -> (Outcome, Vec<Record>) {
        let chunk = &mut self.chunks[0];
        let outcome = std::mem::take(&mut chunk.outcomes[self.at]);
        let records = match &outcome {
            Outcome::Records(range) => {
                let range = range.start as usize..range.end as usize;
                chunk.records[range].iter_mut().map(std::mem::take).collect()
            }
            _ => Vec::new(),
        };
        (outcome, records)
    }

    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.chunks.front().and_then(|chunk| chunk.outcomes.get(self.at))
    }

    /// Steps over lines.
    pub(super) fn advance(&mut self, lines: usize) {
        self.at += lines;
        while let Some(first) = self.chunks.front() {
            if self.at < first.lines.len() {
                break;
            }
            self.at -= first.lines.len();
            self.spare.extend(self.chunks.pop_front());
        }
    }
}
