//! How long examples are in tokens, what does not fit, and how well they fill rows.

use serde::Serialize;

use super::{
    histogram::{Bar, histogram},
    quantile::quantile,
};
use crate::pack::row_count;

/// The tokens of one example, in the model's own tokenizer and template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenCounts {
    pub total: u32,
    /// Those that are learned.
    pub trained: u32,
    /// Those of the trained ones that are left when the example is cut after `seq_len` tokens; `trained` where
    /// nothing is cut.
    pub trained_kept: u32,
}

impl TokenCounts {
    /// From an example's loss mask, true where the token is one to learn.
    pub fn new(loss_mask: &[bool], seq_len: Option<u32>) -> TokenCounts {
        let trained = |mask: &[bool]| mask.iter().filter(|&&trained| trained).count() as u32;
        let kept = seq_len.map_or(loss_mask.len(), |seq_len| loss_mask.len().min(seq_len as usize));
        TokenCounts {
            total: loss_mask.len() as u32,
            trained: trained(loss_mask),
            trained_kept: trained(&loss_mask[..kept]),
        }
    }
}

/// The lengths so far: 4 bytes an example, for exact quantiles.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    lengths: Vec<u32>,
    trained: u64,
    lost: u64,
    emptied: usize,
    cut_lines: Vec<OverLength>,
    longest: (u32, usize),
}

/// Lines that are listed.
const LINES: usize = 1000;

/// An example that is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OverLength {
    pub line: usize,
    pub tokens: u32,
    /// Trained tokens behind the cut.
    pub trained_lost: u32,
}

/// The figures of all lengths. Lengths are in tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenReport {
    pub examples: usize,
    pub total: u64,
    pub trained: u64,
    pub min: u32,
    pub p5: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: u32,
    pub mean: f64,
    /// Line of the longest example.
    pub longest_line: usize,
    pub histogram: Vec<Bar>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packing: Option<Packing>,
}

/// How the examples fit into rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Packing {
    pub seq_len: u32,
    /// Nothing is cut: examples longer than a row are refused.
    #[serde(skip)]
    pub local: bool,
    /// Examples longer than a row.
    pub over_length: usize,
    /// The first of them: 1000 at most.
    pub over_length_examples: Vec<OverLength>,
    /// Trained tokens that cutting them would cost.
    pub trained_lost: u64,
    /// Examples that would keep no trained token.
    pub without_trained: usize,
    /// Rows that the others fill when short ones share a row.
    pub rows: usize,
    /// Share of these rows that holds tokens, 0 to 1.
    pub efficiency: f64,
    /// The same with one example a row.
    pub unpacked_efficiency: f64,
}

impl Tokens {
    /// Adds the example of this line.
    pub fn add(&mut self, line: usize, counts: TokenCounts) {
        let TokenCounts { total, trained, trained_kept } = counts;
        if self.lengths.is_empty() || total > self.longest.0 {
            self.longest = (total, line);
        }
        self.lengths.push(total);
        self.trained += u64::from(trained);
        let trained_lost = trained.saturating_sub(trained_kept);
        self.lost += u64::from(trained_lost);
        self.emptied += usize::from(trained > 0 && trained_kept == 0);
        if trained_lost > 0 && self.cut_lines.len() < LINES {
            self.cut_lines.push(OverLength { line, tokens: total, trained_lost });
        }
    }

    /// Of each example, in the order they were added.
    pub fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    /// `None` where nothing was added. `seq_len` is the one that the counts were made with.
    pub(super) fn report(&self, seq_len: Option<u32>, local: bool) -> Option<TokenReport> {
        let mut sorted = self.lengths.clone();
        sorted.sort_unstable();
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let total: u64 = sorted.iter().copied().map(u64::from).sum();
        let at = |q| quantile(&sorted, q);
        Some(TokenReport {
            examples: sorted.len(),
            total,
            trained: self.trained,
            min,
            p5: at(0.05),
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max,
            mean: total as f64 / sorted.len() as f64,
            longest_line: self.longest.1,
            histogram: histogram(&sorted),
            packing: seq_len.filter(|&seq_len| seq_len > 0).map(|seq_len| self.packing(seq_len, local)),
        })
    }

    fn packing(&self, seq_len: u32, local: bool) -> Packing {
        let fitting = || self.lengths.iter().copied().filter(|&length| length <= seq_len);
        let (mut count, mut tokens) = (0usize, 0u64);
        fitting().for_each(|length| (count, tokens) = (count + 1, tokens + u64::from(length)));
        let rows = row_count(fitting(), seq_len);
        let share = |rows: usize| if rows == 0 { 0.0 } else { tokens as f64 / (rows as f64 * f64::from(seq_len)) };
        Packing {
            seq_len,
            local,
            over_length: self.lengths.len() - count,
            over_length_examples: self.cut_lines.clone(),
            trained_lost: self.lost,
            without_trained: self.emptied,
            rows,
            efficiency: share(rows),
            unpacked_efficiency: share(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cut_costs_is_counted_with_its_lines() {
        let mask = |prompt: usize, answer: usize| [vec![false; prompt], vec![true; answer]].concat();
        let mut tokens = Tokens::default();
        for (line, (prompt, answer)) in [(10, 6), (14, 6), (30, 2), (16, 0)].into_iter().enumerate() {
            tokens.add(line + 1, TokenCounts::new(&mask(prompt, answer), Some(16)));
        }
        let report = tokens.report(Some(16), false).unwrap();
        let packing = report.packing.unwrap();
        assert_eq!((report.total, report.trained, report.max, report.longest_line), (84, 14, 32, 3));
        assert_eq!((packing.over_length, packing.trained_lost, packing.without_trained), (2, 4 + 2, 1));
        let lines: Vec<_> = packing.over_length_examples.iter().map(|over| (over.line, over.trained_lost)).collect();
        assert_eq!(lines, [(2, 4), (3, 2)]);
    }

    #[test]
    fn packing_is_the_share_of_rows_that_holds_tokens() {
        let mut tokens = Tokens::default();
        for (line, total) in [4, 6, 3, 7].into_iter().enumerate() {
            tokens.add(line + 1, TokenCounts { total, trained: 1, trained_kept: 1 });
        }
        // 4 + 6 and 3 + 7 fill two rows of 10; of rows of 20 one holds all.
        let packing = |seq_len| tokens.report(Some(seq_len), false).unwrap().packing.unwrap();
        assert_eq!((packing(10).rows, packing(10).efficiency, packing(10).unpacked_efficiency), (2, 1.0, 0.5));
        assert_eq!((packing(20).rows, packing(20).efficiency, packing(20).unpacked_efficiency), (1, 1.0, 0.25));
        assert_eq!((packing(2).rows, packing(2).efficiency, packing(2).over_length), (0, 0.0, 4));
    }

    #[test]
    fn without_examples_there_is_no_report() {
        assert_eq!(Tokens::default().report(Some(16), true), None);
    }
}
