//! Root mean square normalization.
//!
//! Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019; `eps` is inside the root, as in Llama.

use rayon::prelude::*;

use crate::cpu::{Cpu, Kernel, Simd, run};
use crate::panels::{Activations, LANES, unwritten};

/// `1 / rms` of every token, pad lanes too: what the other functions need of `x`.
pub fn inverse_rms(cpu: Cpu, x: &Activations, eps: f32) -> Vec<f32> {
    let mut inverse = unwritten(x.panels() * LANES);
    let features = x.features();
    inverse
        .par_chunks_exact_mut(LANES)
        .zip(x.data().par_chunks_exact(LANES * features))
        .for_each(|(inverse, x)| run(cpu, Inverse { inverse, x, eps }));
    inverse
}

struct Inverse<'a> {
    inverse: &'a mut [f32],
    x: &'a [f32],
    eps: f32,
}

impl Kernel for Inverse<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let mut squares = [0f32; LANES];
        for x in self.x.chunks_exact(LANES) {
            for (square, x) in squares.iter_mut().zip(x) {
                *square += x * x;
            }
        }
        let features = (self.x.len() / LANES) as f32;
        for (inverse, square) in self.inverse.iter_mut().zip(squares) {
            *inverse = 1.0 / (square / features + self.eps).sqrt();
        }
    }
}

/// `x · inverse · weight`
pub fn normalize(cpu: Cpu, x: &Activations, inverse: &[f32], weight: &[f32]) -> Activations {
    assert_eq!(x.features(), weight.len(), "one weight a feature");
    let features = x.features();
    let mut y = Activations::unwritten(x.tokens(), features);
    y.data_mut()
        .par_chunks_exact_mut(LANES * features)
        .zip(x.data().par_chunks_exact(LANES * features))
        .zip(inverse.par_chunks_exact(LANES))
        .for_each(|((y, x), inverse)| run(cpu, Normalize { y, x, inverse, weight }));
    y
}

struct Normalize<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
    inverse: &'a [f32],
    weight: &'a [f32],
}

impl Kernel for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let inverse: &[f32; LANES] = self.inverse.try_into().expect("a panel has sixteen lanes");
        for ((y, x), weight) in self.y.chunks_exact_mut(LANES).zip(self.x.chunks_exact(LANES)).zip(self.weight) {
            for ((y, x), inverse) in y.iter_mut().zip(x).zip(inverse) {
                *y = x * inverse * weight;
            }
        }
    }
}

/// Adds to `dx` the gradient at `x` of a loss whose gradient at the normalized tokens is `dy`.
///
/// With n = `1 / rms` and g = `weight · dy`: `n · g − x · n³ · Σ(x · g) / features`.
pub fn backward_onto(
    cpu: Cpu,
    dy: &Activations,
    x: &Activations,
    inverse: &[f32],
    weight: &[f32],
    dx: &mut Activations,
) {
    assert_eq!((dy.features(), dx.features(), x.features()), (weight.len(), weight.len(), weight.len()), "one shape");
    let size = LANES * x.features();
    dx.data_mut()
        .par_chunks_exact_mut(size)
        .zip(dy.data().par_chunks_exact(size))
        .zip(x.data().par_chunks_exact(size))
        .zip(inverse.par_chunks_exact(LANES))
        .for_each(|(((dx, dy), x), inverse)| run(cpu, Backward { dx, dy, x, inverse, weight }));
}

struct Backward<'a> {
    dx: &'a mut [f32],
    dy: &'a [f32],
    x: &'a [f32],
    inverse: &'a [f32],
    weight: &'a [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let inverse: &[f32; LANES] = self.inverse.try_into().expect("a panel has sixteen lanes");
        let mut dots = [0f32; LANES];
        for ((x, dy), weight) in self.x.chunks_exact(LANES).zip(self.dy.chunks_exact(LANES)).zip(self.weight) {
            for ((dot, x), dy) in dots.iter_mut().zip(x).zip(dy) {
                *dot += x * dy * weight;
            }
        }
        let mut back = [0f32; LANES];
        for ((back, dot), n) in back.iter_mut().zip(dots).zip(inverse) {
            *back = dot * n * n * n / self.weight.len() as f32;
        }
        let rows = self.dx.chunks_exact_mut(LANES).zip(self.dy.chunks_exact(LANES)).zip(self.x.chunks_exact(LANES));
        for (((dx, dy), x), weight) in rows.zip(self.weight) {
            for ((((dx, dy), x), n), back) in dx.iter_mut().zip(dy).zip(x).zip(inverse).zip(&back) {
                *dx += n * dy * weight - x * back;
            }
        }
    }
}
