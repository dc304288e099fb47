//! Which examples share a row, and in which order they are seen. Nothing is cut and nothing is left out.

use std::{cmp::Reverse, collections::BTreeSet};

/// An example as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizedExample {
    /// Line of the data file, from 1.
    pub line: usize,
    pub tokens: Vec<u32>,
    /// As long as `tokens`: true where the token is one to learn.
    pub loss_mask: Vec<bool>,
}

/// Rows that one window of the order fills, at most: so many that the last, unfilled ones do not matter, and so few
/// that examples stay near their place in the order.
const WINDOW_ROWS: usize = 64;

/// Puts examples into rows of at most `seq_len` tokens: indexes into `examples`, each of `order` once.
///
/// Best fit decreasing inside windows of the order: it fills rows nearly as well as over the whole file, while what is
/// seen early and late stays decided by the order. Rows, and the examples in a row, are in the order of their first
/// example. The same input gives the same rows.
///
/// # Panics
/// If an example of `order` is longer than `seq_len` (see [`over_length`]) or an index is out of range.
pub fn pack(examples: &[TokenizedExample], order: &[usize], seq_len: usize) -> Vec<Vec<usize>> {
    let len = |index: usize| {
        let len = examples[index].tokens.len();
        assert!(len <= seq_len, "line {}: {len} tokens do not fit into {seq_len}", examples[index].line);
        len
    };
    let budget = WINDOW_ROWS.saturating_mul(seq_len).max(1);
    let mut rows = Vec::new();
    let mut window = Vec::new();
    let mut tokens = 0;
    for (place, &index) in order.iter().enumerate() {
        let len = len(index);
        if tokens + len > budget {
            fill_rows(&mut window, seq_len, order, &mut rows);
            tokens = 0;
        }
        tokens += len;
        window.push((len, place));
    }
    fill_rows(&mut window, seq_len, order, &mut rows);
    rows
}

/// Empties a window of `(tokens, place in the order)` into rows.
fn fill_rows(window: &mut Vec<(usize, usize)>, seq_len: usize, order: &[usize], rows: &mut Vec<Vec<usize>>) {
    window.sort_unstable_by_key(|&(len, place)| (Reverse(len), place));
    let mut filled: Vec<Vec<usize>> = Vec::new();
    // Room left in a row, and its index: the first one with enough room is the fullest that fits.
    let mut room = BTreeSet::new();
    for (len, place) in window.drain(..) {
        let fitting = room.range((len, 0)..).next().copied();
        let (left, row) = fitting.unwrap_or((seq_len, filled.len()));
        match fitting {
            Some(fitting) => {
                room.remove(&fitting);
            }
            None => filled.push(Vec::new()),
        }
        filled[row].push(place);
        room.insert((left - len, row));
    }
    filled.iter_mut().for_each(|places| places.sort_unstable());
    filled.sort_unstable_by_key(|places| places[0]);
    rows.extend(filled.into_iter().map(|places| places.into_iter().map(|place| order[place]).collect()));
}

/// One example a row: no packing.
pub fn unpacked(order: &[usize]) -> Vec<Vec<usize>> {
    order.iter().map(|&index| vec![index]).collect()
}

/// Indexes of the examples with more than `seq_len` tokens, which [`pack`] cannot place.
pub fn over_length(examples: &[TokenizedExample], seq_len: usize) -> Vec<usize> {
    (0..examples.len()).filter(|&index| examples[index].tokens.len() > seq_len).collect()
}

/// The order in which epoch `epoch` (from 0) sees `n` examples: a permutation that depends on nothing but its
/// arguments, so that a resumed run goes on in the same order.
///
/// Fisher–Yates over a counter-based generator (SplitMix64's output function of seed, epoch and counter), without
/// modulo bias (Lemire, "Fast random integer generation in an interval", 2019).
pub fn epoch_order(n: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let key = mix(mix(seed) ^ (epoch as u64).wrapping_mul(0xD1B5_4A32_D192_ED03));
    let mut counter = 0u64;
    let mut next = || {
        counter += 1;
        mix(key.wrapping_add(counter.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    };
    let mut below = |bound: u64| {
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(next()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as usize;
            }
        }
    };
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last, below(last as u64 + 1));
    }
    order
}

/// SplitMix64's finalizer (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
pub(crate) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(lengths: &[usize]) -> Vec<TokenizedExample> {
        let example = |(index, &len): (usize, &usize)| TokenizedExample {
            line: index + 1,
            tokens: (0..len as u32).collect(),
            loss_mask: vec![true; len],
        };
        lengths.iter().enumerate().map(example).collect()
    }

    /// Lengths as chats have them: log-normal, most short, a few long.
    fn chat_lengths(n: usize, seq_len: usize) -> Vec<usize> {
        let unit = |counter: u64| mix(counter.wrapping_mul(0x9E37_79B9_7F4A_7C15)) as f64 / u64::MAX as f64;
        let length = |index: u64| {
            let normal = (-2.0 * unit(2 * index + 1).max(1e-12).ln()).sqrt()
                * (std::f64::consts::TAU * unit(2 * index + 2)).cos();
            ((5.5 + 0.8 * normal).exp() as usize).clamp(8, seq_len)
        };
        (0..n as u64).map(length).collect()
    }

    #[track_caller]
    fn check(lengths: &[usize], order: &[usize], seq_len: usize) -> Vec<Vec<usize>> {
        let rows = pack(&examples(lengths), order, seq_len);
        let mut placed: Vec<usize> = rows.iter().flatten().copied().collect();
        let mut wanted = order.to_vec();
        placed.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(placed, wanted, "each example once");
        for row in &rows {
            assert!(!row.is_empty());
            assert!(row.iter().map(|&index| lengths[index]).sum::<usize>() <= seq_len, "{row:?}");
        }
        rows
    }

    #[test]
    fn short_examples_share_a_row() {
        assert_eq!(check(&[4, 6, 3, 7], &[0, 1, 2, 3], 10), [vec![0, 1], vec![2, 3]]);
    }

    #[test]
    fn rows_follow_the_order() {
        assert_eq!(check(&[9, 9, 9], &[2, 0, 1], 10), [vec![2], vec![0], vec![1]]);
    }

    #[test]
    fn nothing_is_lost_or_cut_whatever_the_lengths() {
        for seed in 0..20 {
            let n = 1 + (seed as usize * 37) % 200;
            let lengths: Vec<usize> = epoch_order(n, seed, 7).iter().map(|index| index % 33).collect();
            check(&lengths, &epoch_order(n, seed, 0), 32);
        }
        assert!(check(&[], &[], 32).is_empty());
    }

    #[test]
    fn the_same_input_gives_the_same_rows() {
        let lengths = chat_lengths(500, 1024);
        let order = epoch_order(500, 1, 0);
        assert_eq!(check(&lengths, &order, 1024), check(&lengths, &order, 1024));
    }

    #[test]
    fn rows_of_chats_are_nearly_full() {
        for seq_len in [1024, 2048, 4096] {
            let lengths = chat_lengths(20_000, seq_len);
            let rows = check(&lengths, &epoch_order(lengths.len(), 42, 0), seq_len);
            let efficiency = lengths.iter().sum::<usize>() as f64 / (rows.len() * seq_len) as f64;
            assert!(efficiency > 0.98, "{seq_len}: {efficiency}");
        }
    }

    #[test]
    fn packing_keeps_examples_near_their_place() {
        let lengths = chat_lengths(20_000, 2048);
        let order = epoch_order(lengths.len(), 42, 0);
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(at, &index)| place[index] = at);
        let packed: Vec<usize> = check(&lengths, &order, 2048).concat();
        let farthest = packed.iter().enumerate().map(|(at, &index)| at.abs_diff(place[index])).max();
        // A window of 64 rows holds some 400 of these examples.
        assert!(farthest < Some(1000), "{farthest:?}");
    }

    #[test]
    #[should_panic(expected = "line 2: 11 tokens do not fit into 10")]
    fn an_example_that_does_not_fit_is_refused() {
        let examples = examples(&[3, 11]);
        assert_eq!(over_length(&examples, 10), [1]);
        pack(&examples, &[0, 1], 10);
    }

    #[test]
    fn without_packing_each_example_has_its_row() {
        assert_eq!(unpacked(&[2, 0, 1]), [[2], [0], [1]]);
    }

    #[test]
    fn the_order_is_a_permutation_of_its_own_for_each_epoch_and_seed() {
        for n in [0, 1, 2, 7, 1000] {
            let mut order = epoch_order(n, 42, 3);
            order.sort_unstable();
            assert_eq!(order, (0..n).collect::<Vec<_>>());
        }
        let orders: std::collections::HashSet<_> =
            (0..10).flat_map(|seed| (0..10).map(move |epoch| epoch_order(50, seed, epoch))).collect();
        assert_eq!(orders.len(), 100);
        assert_eq!(epoch_order(8, 42, 0), epoch_order(8, 42, 0));
    }

    #[test]
    fn every_place_is_as_likely_as_any_other() {
        // 6 orders of 3 things, 6000 draws: each about 1000 times; five standard deviations are about 145.
        let mut counts = std::collections::HashMap::new();
        for epoch in 0..6000 {
            *counts.entry(epoch_order(3, 9, epoch)).or_insert(0i32) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (count - 1000).abs() < 145), "{counts:?}");
    }

    #[test]
    fn the_order_stays_what_it_was_in_earlier_versions() {
        // A resumed run relies on it.
        assert_eq!(epoch_order(8, 42, 1), [7, 2, 3, 1, 0, 4, 6, 5]);
    }
}
