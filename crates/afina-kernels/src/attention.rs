//! Causal grouped-query attention inside each segment of a flat batch, forward. The scores of 64 queries are alive at once in a thread.
//!
//! Source: Dao, "FlashAttention-2", 2023, for the backward pass from the log-sum-exp alone; here a row of scores is short enough to hold.

use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::{Cpu, Kernel, run};
use crate::exp::exp;
use crate::panels::{Activations, LANES};
use crate::rope::RopeAngles;
use crate::simd::Simd;
use crate::tile::{Shared, accumulate, load, store, tile_rows, with_rows};

/// Panels of queries whose scores a thread has at once: keys and values are read once for all of them.
const QUERIES: usize = 4;
/// Panels of keys whose values stay in the first-level cache.
const KEYS: usize = 4;
const TILE: usize = LANES * LANES;

/// How queries, keys and values share the features of one activation: `heads · head_dim` of queries, then `kv_heads · head_dim` of keys,
/// then of values. Query head `h` reads key head `h / (heads / kv_heads)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl Heads {
    /// Features of queries, keys and values together.
    pub fn features(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Features of the result.
    pub fn out_features(&self) -> usize {
        self.heads * self.head_dim
    }

    pub(crate) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    pub(crate) fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    pub(crate) fn query(&self, head: usize) -> usize {
        head * self.head_dim
    }

    pub(crate) fn key(&self, kv_head: usize) -> usize {
        (self.heads + kv_head) * self.head_dim
    }

    pub(crate) fn value(&self, kv_head: usize) -> usize {
        (self.heads + self.kv_heads + kv_head) * self.head_dim
    }
}

/// `qkv`: `[tokens, (heads + 2 · kv_heads) · head_dim]`, not yet rotated; `segments`: ranges of tokens, each attending to itself alone.
///
/// Returns `[tokens, heads · head_dim]`, and the log of every query's sum of exponentials, `[heads, tokens]`. Scores are scaled by
/// `1 / sqrt(head_dim)`.
pub fn forward(
    cpu: Cpu,
    qkv: &Activations,
    segments: &[Range<usize>],
    rope: &RopeAngles,
    heads: Heads,
) -> (Activations, Vec<f32>) {
    check(qkv, segments, rope, heads);
    let tokens = qkv.tokens();
    let mut out = Activations::zeros(tokens, heads.out_features());
    let mut log_sums = vec![0.0; heads.heads * tokens];
    let (to, log_sums_to) = (Shared::new(out.data_mut()), Shared::new(&mut log_sums));
    tasks(segments, heads).into_par_iter().for_each(|Task { segment, head }| {
        let kernel = Forward { qkv, rope, heads, head, segment, to, log_sums: log_sums_to };
        run(cpu, kernel);
    });
    (out, log_sums)
}

/// Floats that a thread works with in one head of a segment of so many tokens: queries, keys and values, scores, and a part of the result.
pub fn floats_of_thread(tokens: usize, head_dim: usize) -> usize {
    let panels = tokens.div_ceil(LANES);
    3 * panels * head_dim * LANES + QUERIES * (panels * TILE + head_dim * LANES)
}

pub(crate) fn check(qkv: &Activations, segments: &[Range<usize>], rope: &RopeAngles, heads: Heads) {
    assert_eq!(qkv.features(), heads.features(), "queries, keys and values");
    assert_eq!(rope.head_dim(), heads.head_dim, "angles of these heads");
    for segment in segments {
        assert!(segment.end <= qkv.tokens(), "segment {segment:?} of {} tokens", qkv.tokens());
        assert!(
            segment.len() <= rope.positions(),
            "a segment of {} tokens, angles of {}",
            segment.len(),
            rope.positions()
        );
    }
}

/// One head of one segment.
pub(crate) struct Task {
    pub segment: Range<usize>,
    pub head: usize,
}

/// Longest first, so that the threads end together.
pub(crate) fn tasks(segments: &[Range<usize>], heads: Heads) -> Vec<Task> {
    let mut segments: Vec<Range<usize>> = segments.to_vec();
    segments.sort_by_key(|segment| std::cmp::Reverse(segment.len()));
    segments
        .into_iter()
        .flat_map(|segment| (0..heads.heads).map(move |head| Task { segment: segment.clone(), head }))
        .collect()
}

struct Forward<'a> {
    qkv: &'a Activations,
    rope: &'a RopeAngles,
    heads: Heads,
    head: usize,
    segment: Range<usize>,
    to: Shared,
    log_sums: Shared,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Heads { head_dim, .. } = self.heads;
        let kv_head = self.head / self.heads.group();
        let gather = |first| gather(self.qkv, &self.segment, first, head_dim);
        let (mut q, mut k, v) =
            (gather(self.heads.query(self.head)), gather(self.heads.key(kv_head)), gather(self.heads.value(kv_head)));
        rotate(self.rope, &mut k, head_dim, 1.0);
        rotate(self.rope, &mut q, head_dim, self.heads.scale());

        let size = head_dim * LANES;
        let panels = q.len() / size;
        let mut scores = vec![0f32; QUERIES * panels * TILE]; // of each panel of queries, [keys, 16 queries]
        let mut out = vec![0f32; QUERIES * size]; // of each panel of queries, [head_dim, 16 queries]
        for first in (0..panels).step_by(QUERIES) {
            let queries = first..(first + QUERIES).min(panels);
            let of_panel = |panel: usize, keys: usize| ((panel - first) * panels + keys) * TILE;
            for keys in 0..queries.end {
                let k = &k[keys * size..][..size];
                for (panel, count) in steps::<S>(keys.max(first)..queries.end) {
                    let scores = &mut scores[of_panel(panel, keys)..];
                    let q = &q[panel * size..];
                    products_of_keys::<S>(count, k, q, scores, panels * TILE);
                }
            }
            let mut sums = [([0f32; LANES], [0f32; LANES]); QUERIES];
            for panel in queries.clone() {
                let scores = &mut scores[of_panel(panel, 0)..];
                sums[panel - first] = softmax::<S>(&mut scores[..(panel + 1) * TILE]);
                if panel + 1 < queries.end {
                    scores[(panel + 1) * TILE..][..TILE].fill(0.0); // two panels of queries read as many keys
                }
            }
            out.fill(0.0);
            for keys in (0..queries.end).step_by(KEYS) {
                for (panel, count) in steps::<S>(keys.max(first)..queries.end) {
                    let last = panel + count - 1;
                    let keys = keys..(keys + KEYS).min(last + 1);
                    let weights =
                        Tiles { of: &scores[of_panel(panel, keys.start)..], step: TILE, between: panels * TILE };
                    let (v, out) =
                        (&v[keys.start * size..], &mut out[(panel - first) * size..(last + 1 - first) * size]);
                    add_products::<S>(count, v, weights, keys.len(), out);
                }
            }
            for panel in queries.clone() {
                let (sums, log_sums) = &sums[panel - first];
                let out = &mut out[(panel - first) * size..][..size];
                let sums = S::of(sums);
                for values in out.chunks_exact_mut(LANES) {
                    S::put(S::div(S::of(values), sums), values);
                }
                let token = self.segment.start + panel * LANES;
                let count = LANES.min(self.segment.end - token);
                // SAFETY: these tokens of this head are this task's own.
                unsafe {
                    scatter_panel(out, self.to, self.heads.out_features(), self.head * head_dim, token, count);
                    let to = self.log_sums.get().add(self.head * self.qkv.tokens() + token);
                    for (lane, &log_sum) in log_sums[..count].iter().enumerate() {
                        *to.add(lane) = log_sum;
                    }
                }
            }
        }
    }
}

/// Panels two at a time where a tile holds two, the last one alone where their number is odd: the first, and how many.
pub(crate) fn steps<S: Simd>(panels: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
    panels.clone().step_by(S::PANELS).map(move |panel| (panel, S::PANELS.min(panels.end - panel)))
}

/// `scores[key][query] = Σ_d keys[d][key] · queries[d][query]`: sixteen keys with one or two panels of sixteen queries, all of them
/// `[head_dim][16]`; the scores of two panels lie `between` apart.
#[inline(always)]
pub(crate) fn products_of_keys<S: Simd>(
    count: usize,
    keys: &[f32],
    queries: &[f32],
    scores: &mut [f32],
    between: usize,
) {
    match count {
        2 => products_of_panels::<S, 2>(keys, queries, scores, between),
        _ => products_of_panels::<S, 1>(keys, queries, scores, between),
    }
}

#[inline(always)]
fn products_of_panels<S: Simd, const P: usize>(keys: &[f32], queries: &[f32], scores: &mut [f32], between: usize) {
    let head_dim = keys.len() / LANES;
    assert!(queries.len() >= P * keys.len() && scores.len() >= (P - 1) * between + TILE);
    let mut key = 0;
    while key < LANES {
        let rows = tile_rows::<S>(LANES - key);
        // SAFETY: the lengths were looked at above.
        with_rows!(S, rows, R => unsafe {
            let mut sums = [[S::zero(); P]; R];
            let keys_of = keys.as_ptr().add(key);
            accumulate::<S, R, P, 1, LANES>(&mut sums, keys_of, queries.as_ptr(), keys.len(), head_dim);
            store::<S, R, P>(&sums, scores.as_mut_ptr().add(key * LANES), between);
        });
        key += rows;
    }
}

/// Tiles of sixteen × sixteen: one follows the other at a distance of `step`, and a second row of them begins `between` after the first.
#[derive(Clone, Copy)]
pub(crate) struct Tiles<'a> {
    pub of: &'a [f32],
    pub step: usize,
    pub between: usize,
}

/// `to[p][d][lane] += Σ_panel Σ_i left[panel][d][i] · right[p][panel][i][lane]` over `panels`, for `count` neighbouring panels `p`, one
/// or two.
#[inline(always)]
pub(crate) fn add_products<S: Simd>(count: usize, left: &[f32], right: Tiles, panels: usize, to: &mut [f32]) {
    match count {
        2 => add_to_panels::<S, 2>(left, right, panels, to),
        _ => add_to_panels::<S, 1>(left, right, panels, to),
    }
}

#[inline(always)]
fn add_to_panels<S: Simd, const P: usize>(left: &[f32], right: Tiles, panels: usize, to: &mut [f32]) {
    let size = to.len() / P;
    let head_dim = size / LANES;
    assert!(left.len() >= panels * size, "whole panels");
    assert!(right.of.len() >= (P - 1) * right.between + (panels - 1) * right.step + TILE, "whole tiles");
    let mut row = 0;
    while row < head_dim {
        let rows = tile_rows::<S>(head_dim - row);
        // SAFETY: the lengths were looked at above.
        with_rows!(S, rows, R => unsafe {
            let to = to.as_mut_ptr().add(row * LANES);
            let mut sums = load::<S, R, P>(to, size);
            for panel in 0..panels {
                let left = left.as_ptr().add((panel * head_dim + row) * LANES);
                let right_of = right.of.as_ptr().add(panel * right.step);
                accumulate::<S, R, P, LANES, 1>(&mut sums, left, right_of, right.between, LANES);
            }
            store::<S, R, P>(&sums, to, size);
        });
        row += rows;
    }
}

/// Exponentials of the scores of sixteen queries, less each query's largest; keys after their query become zero, the last sixteen keys
/// being the queries' own. Returns their sums, and the logs of the sums of the exponentials themselves.
#[inline(always)]
fn softmax<S: Simd>(scores: &mut [f32]) -> ([f32; LANES], [f32; LANES]) {
    let own = scores.len() - LANES * LANES;
    for (key, scores) in scores[own..].chunks_exact_mut(LANES).enumerate() {
        scores[..key].fill(f32::NEG_INFINITY);
    }
    let mut largest = S::splat(f32::NEG_INFINITY);
    for scores in scores.chunks_exact(LANES) {
        largest = S::max(largest, S::of(scores));
    }
    let mut sums = S::zero();
    for scores in scores.chunks_exact_mut(LANES) {
        let exponential = exp::<S>(S::sub(S::of(scores), largest));
        S::put(exponential, scores);
        sums = S::add(sums, exponential);
    }
    let (largest, sums) = (S::to_lanes(largest), S::to_lanes(sums));
    // The exponential is clamped above zero.
    for (key, scores) in scores[own..].chunks_exact_mut(LANES).enumerate() {
        scores[..key].fill(0.0);
    }
    let mut log_sums = [0f32; LANES];
    for ((log_sum, sum), largest) in log_sums.iter_mut().zip(&sums).zip(&largest) {
        *log_sum = largest + sum.ln();
    }
    (sums, log_sums)
}

/// The features of one head for the tokens of one segment, in panels that begin with the segment: `[tokens / 16][head_dim][16]`.
#[inline(always)]
pub(crate) fn gather(x: &Activations, segment: &Range<usize>, first: usize, head_dim: usize) -> Vec<f32> {
    let (size, features) = (head_dim * LANES, x.features());
    let mut gathered = vec![0f32; segment.len().div_ceil(LANES) * size];
    for (panel, to) in gathered.chunks_exact_mut(size).enumerate() {
        let token = segment.start + panel * LANES;
        let count = LANES.min(segment.end - token);
        let (lane, head) = (token % LANES, (LANES - token % LANES).min(count));
        let from = &x.data()[(token / LANES * features + first) * LANES..];
        if head == LANES {
            to.copy_from_slice(&from[..size]);
            continue;
        }
        for (to, from) in to.chunks_exact_mut(LANES).zip(from.chunks_exact(LANES)) {
            to[..head].copy_from_slice(&from[lane..lane + head]);
        }
        if count > head {
            let from = &x.data()[((token / LANES + 1) * features + first) * LANES..];
            for (to, from) in to.chunks_exact_mut(LANES).zip(from.chunks_exact(LANES)) {
                to[head..count].copy_from_slice(&from[..count - head]);
            }
        }
    }
    gathered
}

/// Puts the first `count` lanes of a panel, `[head_dim][16]`, where their tokens lie in activations of `features` features.
///
/// # Safety
/// No other thread touches these tokens' features from `first` on.
#[inline(always)]
pub(crate) unsafe fn scatter_panel(
    panel: &[f32],
    to: Shared,
    features: usize,
    first: usize,
    token: usize,
    count: usize,
) {
    let (lane, head) = (token % LANES, (LANES - token % LANES).min(count));
    for (row, values) in panel.chunks_exact(LANES).enumerate() {
        // SAFETY: the tokens are there, and theirs are `features` features.
        unsafe {
            let at = to.get().add((token / LANES * features + first + row) * LANES);
            std::ptr::copy_nonoverlapping(values.as_ptr(), at.add(lane), head);
            std::ptr::copy_nonoverlapping(values.as_ptr().add(head), at.add(features * LANES), count - head);
        }
    }
}

/// Turns every panel by its positions and scales it.
#[inline(always)]
pub(crate) fn rotate(rope: &RopeAngles, x: &mut [f32], head_dim: usize, scale: f32) {
    for (panel, x) in x.chunks_exact_mut(head_dim * LANES).enumerate() {
        rope.turn(panel, x);
        if scale != 1.0 {
            x.iter_mut().for_each(|x| *x *= scale);
        }
    }
}
