//! Root mean square normalization.
//!
//! Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019; `eps` is inside the root, as in Llama.

use rayon::prelude::*;

use crate::cpu::{Cpu, Kernel, run};
use crate::panels::{Activations, LANES, unwritten};
use crate::simd::Simd;

/// `x · weight / rms`, and `1 / rms` of every token, pad lanes too: what the other functions need of `x`.
pub fn forward(cpu: Cpu, x: &Activations, weight: &[f32], eps: f32) -> (Activations, Vec<f32>) {
    assert_eq!(x.features(), weight.len(), "one weight a feature");
    let size = LANES * x.features();
    let (mut y, mut inverse) = (Activations::unwritten(x.tokens(), x.features()), unwritten(x.panels() * LANES));
    y.data_mut()
        .par_chunks_exact_mut(size)
        .zip(inverse.par_chunks_exact_mut(LANES))
        .zip(x.data().par_chunks_exact(size))
        .for_each(|((y, inverse), x)| run(cpu, Forward { y, inverse, x, weight, eps }));
    (y, inverse)
}

struct Forward<'a> {
    y: &'a mut [f32],
    inverse: &'a mut [f32],
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let mut squares = S::zero();
        for x in self.x.chunks_exact(LANES) {
            let x = S::of(x);
            squares = S::mul_add(x, x, squares);
        }
        let features = self.weight.len() as f32;
        for (inverse, square) in self.inverse.iter_mut().zip(S::to_lanes(squares)) {
            *inverse = 1.0 / (square / features + self.eps).sqrt();
        }
        Normalize { y: self.y, x: self.x, inverse: self.inverse, weight: self.weight }.run::<S>();
    }
}

/// `x · inverse · weight`
pub fn normalize(cpu: Cpu, x: &Activations, inverse: &[f32], weight: &[f32]) -> Activations {
    assert_eq!(x.features(), weight.len(), "one weight a feature");
    let size = LANES * x.features();
    let mut y = Activations::unwritten(x.tokens(), x.features());
    y.data_mut()
        .par_chunks_exact_mut(size)
        .zip(x.data().par_chunks_exact(size))
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
        let inverse = S::of(self.inverse);
        for ((y, x), weight) in self.y.chunks_exact_mut(LANES).zip(self.x.chunks_exact(LANES)).zip(self.weight) {
            S::put(S::mul(S::mul(S::of(x), inverse), S::splat(*weight)), y);
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
        let n = S::of(self.inverse);
        let mut dot = S::zero();
        for ((x, dy), weight) in self.x.chunks_exact(LANES).zip(self.dy.chunks_exact(LANES)).zip(self.weight) {
            dot = S::mul_add(S::mul(S::of(x), S::of(dy)), S::splat(*weight), dot);
        }
        let cubed = S::mul(S::mul(n, n), n);
        let minus_back = S::div(S::mul(dot, cubed), S::splat(-(self.weight.len() as f32)));
        let rows = self.dx.chunks_exact_mut(LANES).zip(self.dy.chunks_exact(LANES)).zip(self.x.chunks_exact(LANES));
        for (((dx, dy), x), weight) in rows.zip(self.weight) {
            let of_y = S::mul(S::mul(n, S::of(dy)), S::splat(*weight));
            S::put(S::add(S::mul_add(S::of(x), minus_back, of_y), S::of(dx)), dx);
        }
    }
}
