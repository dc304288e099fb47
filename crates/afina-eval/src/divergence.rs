//! How far the logits of two models are apart over the same tokens.

use std::ops::Range;

use afina_data::TokenizedExample;
use afina_model::{Llama, Segments};
use rayon::prelude::*;
use serde::Serialize;

/// Rows of logits that are computed at once, of each model: of a vocabulary of 49152, 13 MB.
const ROWS: usize = 64;

/// A model beside a reference, over every token of some examples.
///
/// A logit that is not a finite number makes differences and divergences infinite, or not a number: what is compared with a limit
/// does not pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Divergence {
    /// The largest difference of any logit.
    pub max_abs_logit: f64,
    /// The mean difference of all logits.
    pub mean_abs_logit: f64,
    /// KL(reference ‖ other) of the next token, in nats, the mean of all tokens.
    pub mean_kl: f64,
    /// The largest of them.
    pub max_kl: f64,
    /// Share of tokens behind which both find the same token the likeliest.
    pub top1: f64,
    /// Tokens behind which the next one was compared.
    pub tokens: usize,
    /// The reference's nats per trained token, and e to them.
    pub reference_loss: f64,
    pub reference_perplexity: f64,
    pub loss: f64,
    pub perplexity: f64,
    pub trained_tokens: usize,
}

/// Compares two models. Both are asked for one example's tokens at a time.
///
/// # Panics
/// If their vocabularies are not of one size.
pub fn divergence(
    reference: &Llama,
    other: &Llama,
    examples: &[TokenizedExample],
    progress: &mut dyn FnMut(usize, usize),
) -> Divergence {
    let mut sums = Sums::default();
    for (index, example) in examples.iter().enumerate() {
        sums.add(example, logits_of(reference, example), logits_of(other, example));
        progress(index + 1, examples.len());
    }
    sums.finish()
}

/// Compares a model with logits from elsewhere: `logits_at` gives those of an example, `[tokens, vocabulary]`.
///
/// # Panics
/// If it gives more or fewer.
pub fn divergence_of_logits<E>(
    reference: &Llama,
    examples: &[TokenizedExample],
    logits_at: &mut dyn FnMut(usize) -> Result<Vec<f32>, E>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Divergence, E> {
    let mut sums = Sums::default();
    let vocabulary = reference.config.vocab_size;
    for (index, example) in examples.iter().enumerate() {
        let logits = logits_at(index)?;
        assert_eq!(logits.len(), example.tokens.len() * vocabulary, "as many logits as tokens of the vocabulary");
        let rows = |rows: Range<usize>| logits[rows.start * vocabulary..rows.end * vocabulary].to_vec();
        sums.add(example, logits_of(reference, example), rows);
        progress(index + 1, examples.len());
    }
    Ok(sums.finish())
}

/// What a model computes for an example; logits are made of it some rows at a time.
fn logits_of<'m>(model: &'m Llama, example: &TokenizedExample) -> impl Fn(Range<usize>) -> Vec<f32> + use<'m> {
    let hidden = model.forward(&example.tokens, Segments::one(example.tokens.len()), None);
    move |rows| {
        let logits = model.logits(hidden.clone().narrow(0, rows.start, rows.len()));
        logits.try_into_vec_as().expect("logits are f32 and lie on a device that answers")
    }
}

#[derive(Default)]
struct Sums {
    max_abs: f64,
    abs: f64,
    logits: usize,
    kl: f64,
    max_kl: f64,
    same_top: usize,
    tokens: usize,
    nats: [f64; 2],
    trained: usize,
}

impl Sums {
    fn add(
        &mut self,
        example: &TokenizedExample,
        reference: impl Fn(Range<usize>) -> Vec<f32>,
        other: impl Fn(Range<usize>) -> Vec<f32>,
    ) {
        let tokens = &example.tokens;
        for start in (0..tokens.len()).step_by(ROWS) {
            let rows = start..(start + ROWS).min(tokens.len());
            let (a, b) = (reference(rows.clone()), other(rows.clone()));
            assert_eq!(a.len(), b.len(), "both have one vocabulary");
            let vocabulary = a.len() / rows.len();
            let target = |row: usize| example.loss_mask.get(row + 1)?.then(|| tokens[row + 1] as usize);
            let compared: Vec<Row> = a
                .par_chunks_exact(vocabulary)
                .zip(b.par_chunks_exact(vocabulary))
                .zip(rows.into_par_iter())
                .map(|((a, b), row)| Row::compare(a, b, target(row)))
                .collect();
            // In their order: no number depends on the threads.
            compared.iter().for_each(|row| self.add_row(row, vocabulary));
        }
    }

    fn add_row(&mut self, row: &Row, vocabulary: usize) {
        self.max_abs = larger(self.max_abs, row.max_abs);
        self.abs += row.abs;
        self.logits += vocabulary;
        self.kl += row.kl;
        self.max_kl = larger(self.max_kl, row.kl);
        self.same_top += usize::from(row.same_top);
        self.tokens += 1;
        if let Some(nats) = row.nats {
            self.nats[0] += nats[0];
            self.nats[1] += nats[1];
            self.trained += 1;
        }
    }

    fn finish(self) -> Divergence {
        let [reference_loss, loss] = self.nats.map(|nats| nats / self.trained as f64);
        Divergence {
            max_abs_logit: self.max_abs,
            mean_abs_logit: self.abs / self.logits as f64,
            mean_kl: self.kl / self.tokens as f64,
            max_kl: self.max_kl,
            top1: self.same_top as f64 / self.tokens as f64,
            tokens: self.tokens,
            reference_loss,
            reference_perplexity: reference_loss.exp(),
            loss,
            perplexity: loss.exp(),
            trained_tokens: self.trained,
        }
    }
}

/// The logits behind one token, compared.
struct Row {
    max_abs: f64,
    abs: f64,
    kl: f64,
    same_top: bool,
    /// Of the trained target, where there is one.
    nats: Option<[f64; 2]>,
}

impl Row {
    fn compare(reference: &[f32], other: &[f32], target: Option<usize>) -> Row {
        let [a, b] = [reference, other].map(Softmax::of);
        let (mut kl, mut max_abs, mut abs) = (0.0, 0.0, 0.0);
        for (&x, &y) in reference.iter().zip(other) {
            let difference = (f64::from(x) - f64::from(y)).abs();
            max_abs = larger(max_abs, difference);
            abs += difference;
            let logprob = a.logprob(x);
            kl += logprob.exp() * (logprob - b.logprob(y));
        }
        let nats = target.map(|target| [-a.logprob(reference[target]), -b.logprob(other[target])]);
        // Rounding can leave a sum of nothing just below it.
        Row { max_abs, abs, kl: if kl < 0.0 { 0.0 } else { kl }, same_top: a.top == b.top, nats }
    }
}

/// What the logits behind a token have in common, in f64.
struct Softmax {
    /// ln Σ e^logit
    log_sum: f64,
    /// The likeliest token, the first of several.
    top: usize,
}

impl Softmax {
    fn of(logits: &[f32]) -> Softmax {
        let mut top = 0;
        for (token, &logit) in logits.iter().enumerate() {
            if logit > logits[top] {
                top = token;
            }
        }
        let max = f64::from(logits[top]);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum();
        Softmax { log_sum: max + sum.ln(), top }
    }

    fn logprob(&self, logit: f32) -> f64 {
        f64::from(logit) - self.log_sum
    }
}

/// Unlike `f64::max`, what is not a number stays.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "found {found}, expected {expected}");
    }

    fn sums(reference: &[f32], other: &[f32], vocabulary: usize, tokens: &[u32], mask: &[bool]) -> Divergence {
        let example = TokenizedExample { line: 1, tokens: tokens.to_vec(), loss_mask: mask.to_vec() };
        let of = |logits: &[f32]| {
            let logits = logits.to_vec();
            move |rows: Range<usize>| logits[rows.start * vocabulary..rows.end * vocabulary].to_vec()
        };
        let mut sums = Sums::default();
        sums.add(&example, of(reference), of(other));
        sums.finish()
    }

    #[test]
    fn divergence_is_the_formula_in_f64() {
        // Row 0: probabilities 1/2, 1/4, 1/4 beside 1/4, 1/4, 1/2, the logits moved by 3; row 1: the same on both sides.
        let (ln2, ln4) = (2f32.ln(), 4f32.ln());
        let reference = [-ln2, -ln4, -ln4, 0.0, 1.0, 2.0];
        let other = [3.0 - ln4, 3.0 - ln4, 3.0 - ln2, 0.0, 1.0, 2.0];
        let found = sums(&reference, &other, 3, &[0, 2], &[false, true]);

        let definition = |p: &[f32], q: &[f32]| -> f64 {
            let softmax = |logits: &[f32]| -> Vec<f64> {
                let exp: Vec<f64> = logits.iter().map(|&logit| f64::from(logit).exp()).collect();
                exp.iter().map(|value| value / exp.iter().sum::<f64>()).collect()
            };
            softmax(p).iter().zip(softmax(q)).map(|(p, q)| p * (p / q).ln()).sum()
        };
        let kl = definition(&reference[..3], &other[..3]);
        assert!((kl - 0.25 * 2f64.ln()).abs() < 1e-6, "1/2 ln 2 + 1/4 ln 1 + 1/4 ln 1/2 = {kl}");
        close(found.mean_kl, kl / 2.0);
        close(found.max_kl, kl);
        assert_eq!((found.tokens, found.trained_tokens, found.top1), (2, 1, 0.5));
        close(found.max_abs_logit, f64::from(3.0 - ln2) + f64::from(ln4));
        // The only trained target is token 2 behind row 0.
        assert!((found.reference_loss - 4f64.ln()).abs() < 1e-6 && (found.loss - 2f64.ln()).abs() < 1e-6, "{found:?}");
        assert!((found.perplexity - 2.0).abs() < 1e-5, "{found:?}");
    }

    #[test]
    fn equal_logits_are_nothing_apart_however_large_or_far() {
        let logits: Vec<f32> = (0..4 * 257).map(|i| ((i * 37) % 101) as f32 * 3.0 - 150.0).collect();
        let found = sums(&logits, &logits, 257, &[1, 2, 3, 4], &[false, true, true, true]);
        assert_eq!((found.max_abs_logit, found.mean_abs_logit, found.max_kl, found.top1), (0.0, 0.0, 0.0, 1.0));
        assert_eq!(found.loss, found.reference_loss);
        assert!(found.loss.is_finite());
    }

    #[test]
    fn rows_beyond_a_chunk_are_compared_too() {
        let tokens: Vec<u32> = (0..ROWS as u32 + 3).map(|i| i % 2).collect();
        let reference = vec![0.0; tokens.len() * 2];
        let mut other = reference.clone();
        *other.last_mut().unwrap() = 1.0;
        let found = sums(&reference, &other, 2, &tokens, &vec![true; tokens.len()]);
        assert_eq!((found.tokens, found.trained_tokens), (ROWS + 3, ROWS + 2));
        close(found.max_abs_logit, 1.0);
        close(found.max_kl, -2f64.ln() + (1.0 + 1f64.exp()).ln() - 0.5);
        close(found.top1, 1.0 - 1.0 / (ROWS + 3) as f64);
    }

    #[test]
    fn what_is_not_a_number_passes_no_limit() {
        let found = sums(&[0.0, 1.0, 0.0, 1.0], &[0.0, f32::NAN, 0.0, 1.0], 2, &[0, 1], &[false, true]);
        assert!(found.mean_kl.is_nan() && found.max_kl.is_nan() && found.max_abs_logit.is_nan(), "{found:?}");
        let found = sums(&[0.0, 1.0], &[0.0, f32::INFINITY], 2, &[0], &[false]);
        assert!(!found.mean_kl.is_finite() && found.max_abs_logit == f64::INFINITY, "{found:?}");
    }
}
