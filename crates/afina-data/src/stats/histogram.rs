//! How many examples have which length, in at most a dozen steps.

use serde::Serialize;

/// Examples of `from` to `to` tokens, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bar {
    pub from: u32,
    pub to: u32,
    pub examples: usize,
}

/// Steps at most.
const BARS: usize = 12;

/// Steps from the shortest length to the longest. Lengths of texts differ by powers of ten, so steps are doubled, from
/// 1, 2, 4 …, until twelve of them are enough; where the longest is less than four times the shortest, they are even.
pub(super) fn histogram(sorted: &[u32]) -> Vec<Bar> {
    let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else { return Vec::new() };
    let mut bars: Vec<Bar> =
        edges(least, most).windows(2).map(|edge| Bar { from: edge[0], to: edge[1] - 1, examples: 0 }).collect();
    let mut rest = sorted;
    for bar in &mut bars {
        let inside = rest.partition_point(|&length| length <= bar.to);
        bar.examples = inside;
        rest = &rest[inside..];
    }
    if let Some(last) = bars.last_mut() {
        last.examples += rest.len();
    }
    bars
}

/// Where each step begins, and behind the last one.
fn edges(least: u32, most: u32) -> Vec<u32> {
    if most / 4 >= least.max(1) {
        let first = if least == 0 { 0 } else { 1 << least.ilog2() };
        let ends =
            std::iter::successors(Some(first.max(1) * 2), |&end: &u32| (end <= most).then(|| end.saturating_mul(2)));
        let mut edges: Vec<u32> = std::iter::once(first).chain(ends).collect();
        // The shortest of very many steps become one.
        let surplus = edges.len().saturating_sub(BARS + 1);
        edges.drain(1..1 + surplus);
        return edges;
    }
    let width = nice((most - least) / (BARS as u32 - 2) + 1);
    let first = least / width * width;
    (0..).map(|step| first + step * width).take_while(|&edge| edge < most + 1 + width).collect()
}

/// The next of 1, 2, 5, 10, 20, 50 …
fn nice(width: u32) -> u32 {
    let mut unit = 1;
    loop {
        match [1, 2, 5].into_iter().map(|factor| factor * unit).find(|&nice| nice >= width) {
            Some(nice) => return nice,
            None => unit *= 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lengths: &[u32], expect: &[(u32, u32, usize)]) {
        let bars = histogram(lengths);
        assert_eq!(bars.iter().map(|bar| (bar.from, bar.to, bar.examples)).collect::<Vec<_>>(), expect);
        assert_eq!(bars.iter().map(|bar| bar.examples).sum::<usize>(), lengths.len());
        assert!(bars.len() <= BARS);
    }

    #[test]
    fn steps_double_where_lengths_differ_much() {
        check(&[26, 28, 45, 111, 300], &[(16, 31, 2), (32, 63, 1), (64, 127, 1), (128, 255, 0), (256, 511, 1)]);
        check(&[3, 12], &[(2, 3, 1), (4, 7, 0), (8, 15, 1)]);
    }

    #[test]
    fn steps_are_even_where_lengths_are_near() {
        check(
            &[100, 104, 119],
            &[
                (100, 101, 1),
                (102, 103, 0),
                (104, 105, 1),
                (106, 107, 0),
                (108, 109, 0),
                (110, 111, 0),
                (112, 113, 0),
                (114, 115, 0),
                (116, 117, 0),
                (118, 119, 1),
            ],
        );
        check(&[7, 7], &[(7, 7, 2)]);
    }

    #[test]
    fn a_dozen_bars_hold_any_lengths() {
        for (least, most) in [(0, 1), (0, 3), (0, 4_000_000), (1, u32::MAX / 2), (999, 3999), (5, 19), (1, 2)] {
            let lengths = [least, least, most];
            let bars = histogram(&lengths);
            assert!(bars.len() <= BARS, "{least} {most}: {bars:?}");
            assert_eq!(bars.iter().map(|bar| bar.examples).sum::<usize>(), 3);
            assert!(bars[0].examples >= 2 && bars[0].from <= least);
        }
        assert_eq!(histogram(&[]), []);
    }
}
