//! A batch as the model reads it: no padding, every example's tokens one after the other.

use afina_data::Batch;
use afina_ops::Segments;

#[derive(Debug, Clone)]
pub struct MicroBatch {
    pub tokens: Vec<u32>,
    pub segments: Segments,
    /// Where on the token axis a trained target is predicted.
    pub trained: Vec<usize>,
    /// The target at each of those places.
    pub targets: Vec<u32>,
}

impl MicroBatch {
    pub fn new(batch: &Batch) -> MicroBatch {
        let (mut tokens, mut trained, mut targets, mut lengths) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut current = None;
        for (index, &segment) in batch.segments.iter().enumerate() {
            if segment == 0 {
                continue; // padding
            }
            let example = (index / batch.seq_len, segment);
            if current != Some(example) {
                current = Some(example);
                lengths.push(0);
            }
            *lengths.last_mut().expect("an example was just begun") += 1;
            if batch.loss_mask[index] {
                trained.push(tokens.len());
                targets.push(batch.targets[index]);
            }
            tokens.push(batch.tokens[index]);
        }
        MicroBatch { tokens, segments: Segments::from_lengths(&lengths), trained, targets }
    }
}
