//! Next-token cross-entropy through the head, without ever holding the logits of more than a few tokens.

use rayon::prelude::*;

use crate::cpu::{Cpu, Kernel, run};
use crate::exp::exp;
use crate::matrix::Matrix;
use crate::panels::{Activations, LANES};
use crate::product::{self, Onto, Term};
use crate::simd::Simd;

/// Tokens whose logits are alive at once. A row of a vocabulary of 128k is half a megabyte.
pub const CHUNK: usize = 8 * LANES;

/// Exponentials that are summed by themselves first: a vocabulary added up one by one would lose the last digits of a loss.
const PART: usize = 256;

/// What the head says of some tokens.
#[derive(Debug, Clone)]
pub struct HeadLoss {
    /// Nats of each token.
    pub losses: Vec<f32>,
    /// Whether a token's target has its largest logit.
    pub correct: Vec<bool>,
    /// Of the summed loss, `[tokens, hidden]`, where it was asked for.
    pub gradient: Option<Activations>,
}

/// The head is frozen, so the gradient of the sum is closed-form: `(softmax(logits) − onehot(target)) · head`.
///
/// # Shapes
/// - `hidden`: `[tokens, hidden]`, only tokens whose target is trained
/// - `head`: `[vocab, hidden]`
/// - `targets`: a token id each
pub fn linear_cross_entropy(
    cpu: Cpu,
    hidden: &Activations,
    head: &Matrix,
    targets: &[u32],
    want_gradient: bool,
) -> HeadLoss {
    assert_eq!(hidden.tokens(), targets.len(), "one target a token");
    let (features, vocabulary) = (hidden.features(), head.rows());
    let mut result = HeadLoss {
        losses: vec![0.0; targets.len()],
        correct: vec![false; targets.len()],
        gradient: want_gradient.then(|| Activations::unwritten(targets.len(), features)),
    };
    for start in (0..targets.len()).step_by(CHUNK) {
        let tokens = start..(start + CHUNK).min(targets.len());
        let chunk = hidden.slice(tokens.clone());
        let mut logits = Activations::unwritten(chunk.tokens(), vocabulary);
        product::forward(cpu, &[&[Term { matrix: head, x: &chunk, first: 0 }]], Onto::Nothing, &mut logits);

        let sums: Vec<[f32; LANES]> = logits
            .data_mut()
            .par_chunks_exact_mut(vocabulary * LANES)
            .zip(result.losses[tokens.clone()].par_chunks_mut(LANES))
            .zip(result.correct[tokens.clone()].par_chunks_mut(LANES))
            .zip(targets[tokens.clone()].par_chunks(LANES))
            .map(|(((logits, losses), correct), targets)| run(cpu, Softmax { logits, losses, correct, targets }))
            .collect();
        let Some(gradient) = &mut result.gradient else { continue };

        let mut part = Activations::unwritten(chunk.tokens(), features);
        product::backward(cpu, &[&[Term { matrix: head, x: &logits, first: 0 }]], Onto::Nothing, &mut part);
        let panel = features * LANES;
        for ((part, sum), gradient) in part
            .data()
            .chunks_exact(panel)
            .zip(&sums)
            .zip(gradient.data_mut()[start / LANES * panel..].chunks_exact_mut(panel))
        {
            for (part, gradient) in part.chunks_exact(LANES).zip(gradient.chunks_exact_mut(LANES)) {
                for ((part, sum), gradient) in part.iter().zip(sum).zip(gradient) {
                    *gradient = part / sum;
                }
            }
        }
    }
    result
}

/// Turns the logits of a panel into `e^(logit − largest)`, less the sum of these at the target: the gradient, times the sum.
///
/// Returns the sums.
struct Softmax<'a> {
    logits: &'a mut [f32],
    losses: &'a mut [f32],
    correct: &'a mut [bool],
    targets: &'a [u32],
}

impl Kernel for Softmax<'_> {
    type Output = [f32; LANES];

    #[inline(always)]
    fn run<S: Simd>(self) -> [f32; LANES] {
        // A logit that is not a number is taken, and so is seen in the loss.
        let mut largest = S::splat(f32::NEG_INFINITY);
        for logits in self.logits.chunks_exact(LANES) {
            largest = S::max(largest, S::of(logits));
        }
        let of_lanes = S::to_lanes(largest);
        for (lane, (&target, loss)) in self.targets.iter().zip(self.losses.iter_mut()).enumerate() {
            *loss = of_lanes[lane] - self.logits[target as usize * LANES + lane];
        }
        let mut sums = S::zero();
        for logits in self.logits.chunks_mut(PART * LANES) {
            let mut part = S::zero();
            for logit in logits.chunks_exact_mut(LANES) {
                let exponential = exp::<S>(S::sub(S::of(logit), largest));
                S::put(exponential, logit);
                part = S::add(part, exponential);
            }
            sums = S::add(sums, part);
        }
        let sums = S::to_lanes(sums);
        for (lane, (&target, (loss, correct))) in
            self.targets.iter().zip(self.losses.iter_mut().zip(self.correct)).enumerate()
        {
            *correct = *loss == 0.0;
            *loss += sums[lane].ln();
            self.logits[target as usize * LANES + lane] -= sums[lane];
        }
        // Pad lanes carry no gradient.
        for logits in self.logits.chunks_exact_mut(LANES).filter(|_| self.targets.len() < LANES) {
            logits[self.targets.len()..].fill(0.0);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Precision;
    use crate::testing::{assert_close, numbers, on_any_threads, product, transposed, wide};

    #[test]
    fn losses_and_gradient_equal_their_definition() {
        for (tokens, features, vocabulary) in [(1, 4, 3), (21, 12, 50), (150, 30, 1000)] {
            let hidden: Vec<f32> = numbers(tokens * features, 1).iter().map(|x| 4.0 * x).collect();
            let head = Matrix::new(&numbers(vocabulary * features, 2), vocabulary, features, Precision::F32);
            let targets: Vec<u32> = (0..tokens).map(|token| (token * 7919 % vocabulary) as u32).collect();
            let weight = wide(&head.to_rows());
            let mut d_logits = product(&wide(&hidden), &weight, features);
            let (mut losses, mut correct) = (Vec::new(), Vec::new());
            for (logits, &target) in d_logits.chunks_exact_mut(vocabulary).zip(&targets) {
                let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                correct.push(logits[target as usize] == largest);
                let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
                losses.push(sum.ln() + largest - logits[target as usize]);
                logits.iter_mut().for_each(|logit| *logit = (*logit - largest).exp() / sum);
                logits[target as usize] -= 1.0;
            }
            let gradient = product(&d_logits, &transposed(&weight, features), vocabulary);
            let hidden = Activations::from_rows(&hidden, features);
            for cpu in Cpu::available() {
                let what = format!("{cpu:?} {tokens} {features} {vocabulary}");
                let (found, found_correct, found_gradient) = on_any_threads(|| {
                    let result = linear_cross_entropy(cpu, &hidden, &head, &targets, true);
                    (result.losses, result.correct, result.gradient.unwrap().to_rows())
                });
                assert_close(&found, &losses, 2e-6, &what);
                assert_eq!(found_correct, correct);
                assert_close(&found_gradient, &gradient, 3e-6, &what);
                assert!(linear_cross_entropy(cpu, &hidden, &head, &targets, false).gradient.is_none());
            }
        }
    }

    #[test]
    fn a_token_that_is_nearly_certain_has_an_exact_gradient() {
        // Logits 20 and 0: the loss is ln(1 + e^-20), and the gradient at the target's logit is minus the other's.
        let head = Matrix::new(&[1.0, 0.0, 0.0, 1.0], 2, 2, Precision::F32);
        let hidden = Activations::from_rows(&[20.0, 0.0], 2);
        for cpu in Cpu::available() {
            let gradient = linear_cross_entropy(cpu, &hidden, &head, &[0], true).gradient.unwrap().to_rows();
            assert!((gradient[1] - 2.061_153_6e-9).abs() < 1e-14, "{gradient:?}");
        }
    }

    #[test]
    fn a_logit_that_is_not_a_number_makes_a_loss_that_is_none() {
        let head = Matrix::new(&[1.0, f32::NAN, 0.5], 3, 1, Precision::F32);
        let hidden = Activations::from_rows(&[1.0], 1);
        for cpu in Cpu::available() {
            assert!(linear_cross_entropy(cpu, &hidden, &head, &[0], false).losses[0].is_nan());
        }
    }
}
