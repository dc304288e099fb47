//! Rows of tokens as plain lists: the last stop before tensors.

use crate::pack::TokenizedExample;

/// A batch, row-major `[rows, seq_len]`: `seq_len` is the length of its longest row, shorter rows are padded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub rows: usize,
    pub seq_len: usize,
    /// Token ids; 0 in the padding.
    pub tokens: Vec<u32>,
    /// The next token of the same example; 0 where there is none.
    pub targets: Vec<u32>,
    /// True where the target is trained. The first token of an example is the target of nothing.
    pub loss_mask: Vec<bool>,
    /// Place in the example, from 0; 0 in the padding.
    pub positions: Vec<u32>,
    /// The example's number in its row, from 1; 0 is padding. Attention stays inside a segment.
    pub segments: Vec<u32>,
    /// Trained targets in the batch: what its loss is divided by.
    pub trained: usize,
}

impl Batch {
    /// Lays out `rows`, lists of indexes into `examples` as [`crate::pack`] gives them.
    ///
    /// # Panics
    /// If an index is out of range, or the `loss_mask` of an example is not as long as its tokens.
    pub fn new(examples: &[TokenizedExample], rows: &[Vec<usize>]) -> Batch {
        let row_len = |row: &Vec<usize>| row.iter().map(|&index| examples[index].tokens.len()).sum::<usize>();
        let seq_len = rows.iter().map(row_len).max().unwrap_or(0);
        let size = rows.len() * seq_len;
        let mut batch = Batch {
            rows: rows.len(),
            seq_len,
            tokens: vec![0; size],
            targets: vec![0; size],
            loss_mask: vec![false; size],
            positions: vec![0; size],
            segments: vec![0; size],
            trained: 0,
        };
        for (row, indexes) in rows.iter().enumerate() {
            let mut start = row * seq_len;
            for (number, &index) in indexes.iter().enumerate() {
                start = batch.place(&examples[index], number as u32 + 1, start);
            }
        }
        batch
    }

    /// Writes one example at `start`; returns where the next one begins.
    fn place(&mut self, example: &TokenizedExample, segment: u32, start: usize) -> usize {
        let TokenizedExample { line, tokens, loss_mask } = example;
        assert_eq!(tokens.len(), loss_mask.len(), "line {line}: one mask entry a token");
        let end = start + tokens.len();
        self.tokens[start..end].copy_from_slice(tokens);
        self.segments[start..end].fill(segment);
        for (position, at) in (start..end).enumerate() {
            self.positions[at] = position as u32;
        }
        if tokens.len() > 1 {
            self.targets[start..end - 1].copy_from_slice(&tokens[1..]);
            self.loss_mask[start..end - 1].copy_from_slice(&loss_mask[1..]);
            self.trained += loss_mask[1..].iter().filter(|&&trained| trained).count();
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::{epoch_order, pack};

    fn example(tokens: &[u32], loss_mask: &[u8]) -> TokenizedExample {
        TokenizedExample {
            line: 1,
            tokens: tokens.to_vec(),
            loss_mask: loss_mask.iter().map(|&bit| bit == 1).collect(),
        }
    }

    fn bits(mask: &[bool]) -> Vec<u8> {
        mask.iter().map(|&bit| bit.into()).collect()
    }

    #[test]
    fn examples_in_a_row_stay_apart() {
        let examples = [
            example(&[11, 12, 13], &[0, 1, 1]),
            example(&[21, 22], &[1, 1]),
            example(&[31, 32, 33, 34], &[0, 0, 1, 0]),
        ];
        let batch = Batch::new(&examples, &[vec![0, 1], vec![2]]);
        assert_eq!((batch.rows, batch.seq_len, batch.trained), (2, 5, 4));
        assert_eq!(batch.tokens, [11, 12, 13, 21, 22, 31, 32, 33, 34, 0]);
        assert_eq!(batch.targets, [12, 13, 0, 22, 0, 32, 33, 34, 0, 0]);
        assert_eq!(bits(&batch.loss_mask), [1, 1, 0, 1, 0, 0, 1, 0, 0, 0]);
        assert_eq!(batch.positions, [0, 1, 2, 0, 1, 0, 1, 2, 3, 0]);
        assert_eq!(batch.segments, [1, 1, 1, 2, 2, 1, 1, 1, 1, 0]);
    }

    #[test]
    fn the_first_token_of_an_example_is_no_target() {
        let batch = Batch::new(&[example(&[5], &[1]), example(&[6, 7], &[1, 0])], &[vec![0, 1]]);
        assert_eq!((bits(&batch.loss_mask), batch.trained), (vec![0, 0, 0], 0));
    }

    #[test]
    fn no_rows_are_an_empty_batch() {
        let batch = Batch::new(&[], &[]);
        assert_eq!((batch.rows, batch.seq_len, batch.tokens.len()), (0, 0, 0));
    }

    #[test]
    #[should_panic(expected = "one mask entry a token")]
    fn a_mask_of_another_length_is_refused() {
        Batch::new(&[TokenizedExample { line: 1, tokens: vec![1, 2], loss_mask: vec![true] }], &[vec![0]]);
    }

    /// What a trainer relies on, whatever the examples: read the batch back and compare.
    #[test]
    fn packed_batches_hold_every_token_and_every_target_once() {
        let examples: Vec<_> = (0..300u32)
            .map(|index| {
                let len = index * 7919 % 61;
                let tokens: Vec<u32> = (0..len).map(|at| 1 + index * 100 + at).collect();
                let loss_mask = (0..len).map(|at| (at * 31 + index) % 3 != 0).collect();
                TokenizedExample { line: index as usize + 1, tokens, loss_mask }
            })
            .collect();
        let rows = pack(&examples, &epoch_order(examples.len(), 3, 0), 64);
        let mut seen = vec![Vec::new(); examples.len()];
        let mut trained = 0;
        for rows in rows.chunks(4) {
            let batch = Batch::new(&examples, rows);
            trained += batch.trained;
            assert!(batch.seq_len <= 64);
            assert_eq!(batch.trained, batch.loss_mask.iter().filter(|&&bit| bit).count());
            for at in 0..batch.tokens.len() {
                let last_in_row = (at + 1) % batch.seq_len == 0;
                let same = !last_in_row && batch.segments[at] != 0 && batch.segments[at] == batch.segments[at + 1];
                assert_eq!(batch.targets[at], if same { batch.tokens[at + 1] } else { 0 });
                assert!(same || !batch.loss_mask[at], "only the next token of the same example is a target");
                if batch.segments[at] == 0 {
                    assert_eq!((batch.tokens[at], batch.positions[at]), (0, 0));
                    continue;
                }
                let index = (batch.tokens[at] - 1) as usize / 100;
                assert_eq!(batch.positions[at] as usize, seen[index].len(), "positions count inside the example");
                seen[index].push(batch.tokens[at]);
                if same {
                    assert_eq!(batch.loss_mask[at], examples[index].loss_mask[batch.positions[at] as usize + 1]);
                }
            }
        }
        assert!(seen.iter().zip(&examples).all(|(seen, example)| *seen == example.tokens), "every token, in its order");
        let wanted: usize =
            examples.iter().map(|example| example.loss_mask.iter().skip(1).filter(|&&bit| bit).count()).sum();
        assert_eq!(trained, wanted);
    }
}
