//! The gradient of attention: weights are computed again from the log-sum-exp, a block of 128 queries × 64 keys at a time.
//!
//! Source: Dao, "FlashAttention-2", 2023, section 3.2.

use std::ops::Range;

use rayon::prelude::*;

use crate::attention::{
    Heads, Task, Tiles, add_products, check, gather, products_of_keys, rotate, scatter_panel, steps, tasks,
};
use crate::cpu::{Cpu, Kernel, run};
use crate::exp::exp;
use crate::panels::{Activations, LANES};
use crate::rope::RopeAngles;
use crate::simd::Simd;
use crate::tile::Shared;

/// Panels of keys in a block.
const KEYS: usize = 4;
/// Panels of queries in a block: keys, values and their gradients are read once for all of them.
const QUERIES: usize = 8;
const TILE: usize = LANES * LANES;

/// What the forward pass had, and what it gave.
#[derive(Clone, Copy)]
pub struct Saved<'a> {
    pub qkv: &'a Activations,
    pub out: &'a Activations,
    pub log_sums: &'a [f32],
}

/// From the gradient at the result to the gradient at `qkv`.
pub fn backward(
    cpu: Cpu,
    d_out: &Activations,
    saved: Saved,
    segments: &[Range<usize>],
    rope: &RopeAngles,
    heads: Heads,
) -> Activations {
    check(saved.qkv, segments, rope, heads);
    let mut gradient = Activations::zeros(saved.qkv.tokens(), heads.features());
    let to = Shared::new(gradient.data_mut());
    // Every query head has keys and values of its own here; those of a group are added up afterwards, always in the same order.
    let mut of_heads: Vec<(Task, KeyGradient)> = tasks(segments, heads)
        .into_par_iter()
        .map(|task| {
            let kernel = Backward { d_out, saved, rope, heads, head: task.head, segment: task.segment.clone(), to };
            (Task { segment: task.segment, head: task.head }, run(cpu, kernel))
        })
        .collect();
    of_heads.par_chunks_exact_mut(heads.group()).for_each(|group| run(cpu, AddGroup { group, rope, heads, to }));
    gradient
}

/// Floats that a thread works with in one head of a segment of so many tokens: queries, keys, values, the result and its gradient, a block
/// of weights, and the gradient at its queries.
pub fn floats_of_thread(tokens: usize, head_dim: usize) -> usize {
    let panels = tokens.div_ceil(LANES);
    (5 * panels + QUERIES) * head_dim * LANES + 4 * QUERIES * KEYS * TILE
}

/// Gradients at the rotated keys and at the values, both `[tokens / 16][head_dim][16]`.
struct KeyGradient {
    k: Vec<f32>,
    v: Vec<f32>,
}

struct Backward<'a> {
    d_out: &'a Activations,
    saved: Saved<'a>,
    rope: &'a RopeAngles,
    heads: Heads,
    head: usize,
    segment: Range<usize>,
    to: Shared,
}

impl Kernel for Backward<'_> {
    type Output = KeyGradient;

    #[inline(always)]
    fn run<S: Simd>(self) -> KeyGradient {
        let Backward { heads, head, segment, rope, saved, .. } = &self;
        let (head, head_dim) = (*head, heads.head_dim);
        let kv_head = head / heads.group();
        let of = |x, first| gather(x, segment, first, head_dim);
        let (mut q, mut k, v) =
            (of(saved.qkv, heads.query(head)), of(saved.qkv, heads.key(kv_head)), of(saved.qkv, heads.value(kv_head)));
        rotate(rope, &mut k, head_dim, 1.0);
        rotate(rope, &mut q, head_dim, heads.scale());
        let (d_out, out) = (of(self.d_out, head * head_dim), of(saved.out, head * head_dim));

        let size = head_dim * LANES;
        let panels = q.len() / size;
        let log_sums = &saved.log_sums[head * saved.qkv.tokens()..][segment.clone()];
        let mut gradient = KeyGradient { k: vec![0.0; k.len()], v: vec![0.0; v.len()] };
        let mut block = Block::new();
        for queries in (0..panels).step_by(QUERIES).map(|first| first..(first + QUERIES).min(panels)) {
            let mut d_q = vec![0f32; queries.len() * size];
            let dots: Vec<[f32; LANES]> = queries
                .clone()
                .map(|panel| dot::<S>(&d_out[panel * size..][..size], &out[panel * size..][..size]))
                .collect();
            for keys in (0..queries.end).step_by(KEYS).map(|first| first..(first + KEYS).min(queries.end)) {
                for (panel, count) in steps::<S>(queries.clone()) {
                    let index = panel - queries.start;
                    let between = KEYS * TILE;
                    for (place, key_panel) in keys.clone().enumerate() {
                        let at = index * between + place * TILE;
                        let (weights, d_scores) = (&mut block.weights[at..], &mut block.d_scores[at..]);
                        let (k, v) = (&k[key_panel * size..][..size], &v[key_panel * size..][..size]);
                        let (q, d_out) = (&q[panel * size..], &d_out[panel * size..]);
                        if key_panel < panel + count {
                            products_of_keys::<S>(count, k, q, weights, between);
                            products_of_keys::<S>(count, v, d_out, d_scores, between);
                        }
                        for panel in panel..panel + count {
                            let index = panel - queries.start;
                            let at = index * between + place * TILE;
                            let weights = tile_mut(&mut block.weights[at..]);
                            let d_scores = tile_mut(&mut block.d_scores[at..]);
                            if key_panel > panel {
                                weights.fill(0.0);
                                d_scores.fill(0.0);
                            } else {
                                let log_sums = &log_sums[panel * LANES..((panel + 1) * LANES).min(log_sums.len())];
                                gradient_of_scores::<S>(weights, d_scores, log_sums, &dots[index], key_panel == panel);
                            }
                            S::transpose(weights, tile_mut(&mut block.weights_by_query[at..]));
                            S::transpose(d_scores, tile_mut(&mut block.d_scores_by_query[at..]));
                        }
                    }
                    let d_q = &mut d_q[index * size..][..count * size];
                    let d_scores = Tiles { of: &block.d_scores[index * between..], step: TILE, between };
                    let k = &k[keys.start * size..];
                    add_products::<S>(count, k, d_scores, keys.len(), d_q);
                }
                let (q, d_out) = (&q[queries.start * size..], &d_out[queries.start * size..]);
                for (key_panel, count) in steps::<S>(keys.clone()) {
                    let at = (key_panel - keys.start) * TILE;
                    let to = key_panel * size..(key_panel + count) * size;
                    let by_query = |of| Tiles { of, step: KEYS * TILE, between: TILE };
                    let weights = by_query(&block.weights_by_query[at..]);
                    let d_scores = by_query(&block.d_scores_by_query[at..]);
                    let (to_v, to_k) = (&mut gradient.v[to.clone()], &mut gradient.k[to]);
                    add_products::<S>(count, d_out, weights, queries.len(), to_v);
                    add_products::<S>(count, q, d_scores, queries.len(), to_k);
                }
            }
            for (index, d_q) in d_q.chunks_exact_mut(size).enumerate() {
                let panel = queries.start + index;
                rope.turn_back(panel, d_q);
                d_q.iter_mut().for_each(|d_q| *d_q *= heads.scale());
                let token = segment.start + panel * LANES;
                let count = LANES.min(segment.end - token);
                // SAFETY: these tokens of this query head are this task's own.
                unsafe { scatter_panel(d_q, self.to, heads.features(), heads.query(head), token, count) };
            }
        }
        gradient
    }
}

/// Room for the weights of a block and for the gradients at its scores: sixteen queries × sixteen keys a tile, by key and by query.
struct Block {
    weights: Vec<f32>,
    d_scores: Vec<f32>,
    weights_by_query: Vec<f32>,
    d_scores_by_query: Vec<f32>,
}

impl Block {
    fn new() -> Block {
        let room = || vec![0f32; QUERIES * KEYS * TILE];
        Block { weights: room(), d_scores: room(), weights_by_query: room(), d_scores_by_query: room() }
    }
}

#[inline(always)]
fn tile_mut(values: &mut [f32]) -> &mut [f32; TILE] {
    (&mut values[..TILE]).try_into().expect("a tile")
}

/// Turns scores into weights, and the gradients at the weights into those at the scores: `w · (dw − Σ d_out · out)`.
///
/// Lanes beyond the last query become zero, and so do keys after their query where the keys are the queries' own tokens.
#[inline(always)]
fn gradient_of_scores<S: Simd>(
    weights: &mut [f32],
    d_weights: &mut [f32],
    log_sums: &[f32],
    dots: &[f32; LANES],
    own: bool,
) {
    let mut logs = [f32::INFINITY; LANES];
    logs[..log_sums.len()].copy_from_slice(log_sums);
    let (logs, dots) = (S::of(&logs), S::of(dots));
    for (weights, d_weights) in weights.chunks_exact_mut(LANES).zip(d_weights.chunks_exact_mut(LANES)) {
        let weight = exp::<S>(S::sub(S::of(weights), logs));
        S::put(weight, weights);
        S::put(S::mul(weight, S::sub(S::of(d_weights), dots)), d_weights);
    }
    let past_the_end = log_sums.len()..LANES;
    for (key, (weights, d_weights)) in
        weights.chunks_exact_mut(LANES).zip(d_weights.chunks_exact_mut(LANES)).enumerate()
    {
        if own {
            weights[..key].fill(0.0);
            d_weights[..key].fill(0.0);
        }
        weights[past_the_end.clone()].fill(0.0);
        d_weights[past_the_end.clone()].fill(0.0);
    }
}

/// `Σ_d a[d] · b[d]` of each lane.
#[inline(always)]
fn dot<S: Simd>(a: &[f32], b: &[f32]) -> [f32; LANES] {
    let mut dots = S::zero();
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        dots = S::mul_add(S::of(a), S::of(b), dots);
    }
    S::to_lanes(dots)
}

/// Adds the gradients of a group's query heads up and puts them at the keys and values they read.
struct AddGroup<'a> {
    group: &'a mut [(Task, KeyGradient)],
    rope: &'a RopeAngles,
    heads: Heads,
    to: Shared,
}

impl Kernel for AddGroup<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let ((Task { segment, head }, sum), rest) = self.group.split_first_mut().expect("a group has a head");
        for (_, other) in rest {
            for (sum, other) in sum.k.iter_mut().chain(&mut sum.v).zip(other.k.iter().chain(&other.v)) {
                *sum += other;
            }
        }
        let (kv_head, size) = (*head / self.heads.group(), self.heads.head_dim * LANES);
        for panel in 0..sum.k.len() / size {
            let (k, v) = (&mut sum.k[panel * size..][..size], &sum.v[panel * size..][..size]);
            self.rope.turn_back(panel, k);
            let token = segment.start + panel * LANES;
            let count = LANES.min(segment.end - token);
            let features = self.heads.features();
            // SAFETY: these tokens of this key head are this group's own.
            unsafe {
                scatter_panel(k, self.to, features, self.heads.key(kv_head), token, count);
                scatter_panel(v, self.to, features, self.heads.value(kv_head), token, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::forward;
    use crate::testing::{assert_close, numbers, on_any_threads, wide};

    /// Attention in f64, by rows: the result, and the gradient at `qkv` when `d_out` is the gradient at the result.
    fn definition(
        qkv: &[f64],
        d_out: &[f64],
        segments: &[Range<usize>],
        frequencies: &[f32],
        heads: Heads,
    ) -> (Vec<f64>, Vec<f64>) {
        let (dim, half, width) = (heads.head_dim, heads.head_dim / 2, heads.features());
        let turn = |x: &[f64], position: usize, sign: f64| -> Vec<f64> {
            let angle = |i: usize| f64::from(position as f32 * frequencies[i % half]);
            let other = |i: usize| if i < half { -x[i + half] } else { x[i - half] };
            (0..dim).map(|i| x[i] * angle(i).cos() + sign * other(i) * angle(i).sin()).collect()
        };
        let tokens = qkv.len() / width;
        let (mut out, mut gradient) = (vec![0.0; tokens * heads.out_features()], vec![0.0; qkv.len()]);
        for segment in segments {
            for head in 0..heads.heads {
                let kv = head / heads.group();
                let at = |token: usize, first: usize| token * width + first;
                for query in segment.clone() {
                    let position = query - segment.start;
                    let q = turn(&qkv[at(query, heads.query(head))..][..dim], position, 1.0);
                    let keys: Vec<Vec<f64>> = (segment.start..=query)
                        .map(|key| turn(&qkv[at(key, heads.key(kv))..][..dim], key - segment.start, 1.0))
                        .collect();
                    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                    let scale = 1.0 / (dim as f64).sqrt();
                    let weights: Vec<f64> = keys.iter().map(|k| (dot(&q, k) * scale).exp()).collect();
                    let sum: f64 = weights.iter().sum();
                    let to = query * heads.out_features() + head * dim;
                    let d_out = &d_out[to..to + dim];
                    let value = |key: usize| &qkv[at(segment.start + key, heads.value(kv))..][..dim];
                    for (key, weight) in weights.iter().enumerate() {
                        (0..dim).for_each(|i| out[to + i] += weight / sum * value(key)[i]);
                    }
                    let total = dot(&out[to..to + dim], d_out);
                    let mut d_q = vec![0.0; dim];
                    for (key, weight) in weights.iter().enumerate() {
                        let weight = weight / sum;
                        let d_score = weight * (dot(value(key), d_out) - total) * scale;
                        (0..dim).for_each(|i| d_q[i] += d_score * keys[key][i]);
                        let d_k: Vec<f64> = q.iter().map(|q| q * d_score).collect();
                        let d_k = turn(&d_k, key, -1.0);
                        (0..dim).for_each(|i| gradient[at(segment.start + key, heads.key(kv)) + i] += d_k[i]);
                        (0..dim)
                            .for_each(|i| gradient[at(segment.start + key, heads.value(kv)) + i] += weight * d_out[i]);
                    }
                    let d_q = turn(&d_q, position, -1.0);
                    (0..dim).for_each(|i| gradient[at(query, heads.query(head)) + i] += d_q[i]);
                }
            }
        }
        (out, gradient)
    }

    #[test]
    fn both_passes_equal_their_definition() {
        let heads = Heads { heads: 4, kv_heads: 2, head_dim: 10 };
        let frequencies: Vec<f32> = (0..5).map(|i| 0.7f32.powi(i)).collect();
        let rope = RopeAngles::new(&frequencies, 200);
        // Segments that begin and end anywhere in a panel; one of several blocks; tokens that belong to none.
        for lengths in [vec![1], vec![16], vec![5, 20, 1, 33, 16], vec![150, 70]] {
            let mut start = 0;
            let segments: Vec<Range<usize>> = lengths
                .iter()
                .map(|length| {
                    start += length;
                    start - length..start
                })
                .collect();
            let tokens = start + 3;
            let qkv: Vec<f32> = numbers(tokens * heads.features(), 1).iter().map(|x| 3.0 * x).collect();
            let d_out = numbers(tokens * heads.out_features(), 2);
            let (out, gradient) = definition(&wide(&qkv), &wide(&d_out), &segments, &frequencies, heads);
            let (qkv, d_out) =
                (Activations::from_rows(&qkv, heads.features()), Activations::from_rows(&d_out, heads.out_features()));
            for cpu in Cpu::available() {
                let (found, d_qkv) = on_any_threads(|| {
                    let (out, log_sums) = forward(cpu, &qkv, &segments, &rope, heads);
                    let saved = Saved { qkv: &qkv, out: &out, log_sums: &log_sums };
                    let d_qkv = backward(cpu, &d_out, saved, &segments, &rope, heads);
                    (out, d_qkv)
                });
                assert_close(&found.to_rows(), &out, 3e-6, &format!("{cpu:?} {lengths:?}"));
                assert_close(&d_qkv.to_rows(), &gradient, 1e-5, &format!("{cpu:?} {lengths:?}, gradient"));
            }
        }
    }
}
