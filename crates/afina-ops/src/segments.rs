//! Which tokens of a flat batch belong together.

use std::ops::Range;

/// The examples of a flat batch, as ranges of its token axis: attention is causal inside a range and never crosses one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    ranges: Vec<Range<usize>>,
}

impl Segments {
    /// One example of `tokens` tokens.
    pub fn one(tokens: usize) -> Segments {
        Segments::from_lengths(&[tokens])
    }

    /// Examples of these lengths, one after the other; empty ones are passed over.
    pub fn from_lengths(lengths: &[usize]) -> Segments {
        let mut start = 0;
        let ranges = lengths
            .iter()
            .filter(|&&length| length > 0)
            .map(|&length| {
                let range = start..start + length;
                start = range.end;
                range
            })
            .collect();
        Segments { ranges }
    }

    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// The length of the token axis.
    pub fn tokens(&self) -> usize {
        self.ranges.last().map_or(0, |range| range.end)
    }

    /// The position of every token inside its own example, from `first`.
    pub fn positions(&self, first: usize) -> Vec<usize> {
        self.ranges.iter().flat_map(|range| first..first + range.len()).collect()
    }
}
