//! Several training files in one epoch, each with its weight.

use std::ops::Range;

use crate::pack::{epoch_order, mix};

/// A file's examples, which follow those of the file before it, and how often an epoch passes over them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    pub examples: usize,
    /// Passes over the file in an epoch: 0.5 sees half of it, 2 sees it twice.
    pub weight: f64,
}

/// The examples that epoch `epoch` (from 0) sees, in their order: a function of nothing but its arguments, so that a
/// resumed run goes on with the same.
///
/// Each file is dealt out like a deck of cards that is shuffled anew when it is used up: after k epochs it has been passed
/// over weight × k times, every example as often as any other or once more, and which come first depends on the seed. So at
/// weight 0.5 two epochs see two halves that make up the whole. Without `shuffle` the files stand one after the other, each
/// in its order, pass by pass.
pub fn epoch_examples(shares: &[Share], seed: u64, epoch: usize, shuffle: bool) -> Vec<usize> {
    let mut chosen = Vec::new();
    let mut first = 0;
    for (file, share) in shares.iter().enumerate() {
        let dealt = |epochs: usize| (epochs as f64 * share.weight * share.examples as f64).round() as usize;
        deal(share.examples, mix(seed ^ mix(file as u64 + 1)), dealt(epoch)..dealt(epoch + 1), |examples| {
            chosen.extend(examples.iter().map(|example| first + example));
        });
        first += share.examples;
    }
    if shuffle {
        epoch_order(chosen.len(), seed, epoch).into_iter().map(|place| chosen[place]).collect()
    } else {
        chosen
    }
}

/// The cards at the places `dealt` of an endless row of shuffled decks of `n`: deck by deck, in the order of the file.
fn deal(n: usize, seed: u64, dealt: Range<usize>, mut each: impl FnMut(&[usize])) {
    let mut place = dealt.start;
    while n > 0 && place < dealt.end {
        let (deck, from) = (place / n, place % n);
        let to = n.min(from + dealt.end - place);
        let mut cards = if to - from == n { (0..n).collect() } else { epoch_order(n, seed, deck)[from..to].to_vec() };
        cards.sort_unstable();
        each(&cards);
        place += to - from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn shares(list: &[(usize, f64)]) -> Vec<Share> {
        list.iter().map(|&(examples, weight)| Share { examples, weight }).collect()
    }

    #[test]
    fn files_of_weight_one_are_one_file() {
        let shares = shares(&[(7, 1.0), (5, 1.0)]);
        for epoch in 0..5 {
            assert_eq!(epoch_examples(&shares, 42, epoch, true), epoch_order(12, 42, epoch));
            assert_eq!(epoch_examples(&shares, 42, epoch, false), (0..12).collect::<Vec<_>>());
        }
    }

    #[test]
    fn two_halves_make_up_the_whole_and_two_is_twice() {
        let shares = shares(&[(6, 2.0), (10, 0.5)]);
        let epoch = |epoch| epoch_examples(&shares, 1, epoch, false);
        expect!["[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13]"].assert_eq(&format!("{:?}", epoch(0)));
        let mut halves: Vec<usize> =
            [epoch(2), epoch(3)].concat().into_iter().filter(|&example| example >= 6).collect();
        halves.sort_unstable();
        assert_eq!(halves, (6..16).collect::<Vec<_>>());
        let other_seed = epoch_examples(&shares, 2, 0, false);
        assert_ne!(other_seed, epoch(0), "which half comes first is the seed's choice");
    }

    #[test]
    fn every_weight_holds_over_the_epochs() {
        for (n, weight) in [(1, 0.3), (7, 0.1), (9, 1.7), (100, 0.333), (3, 2.5), (50, 0.01)] {
            let shares = shares(&[(n, weight)]);
            let mut seen = vec![0; n];
            for epoch in 0..40 {
                epoch_examples(&shares, 9, epoch, true).iter().for_each(|&example| seen[example] += 1);
                let expected = ((epoch + 1) as f64 * weight * n as f64).round() as usize;
                assert_eq!(seen.iter().sum::<usize>(), expected, "{n} × {weight} after epoch {epoch}");
                let (least, most) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
                assert!(most - least <= 1, "{seen:?}");
            }
        }
    }

    #[test]
    fn files_without_examples_are_no_trouble() {
        assert_eq!(epoch_examples(&shares(&[(0, 3.0), (2, 1.0)]), 1, 0, false), [0, 1]);
    }
}
