//! Examples of more tokens than a row has room for: refused, left out, cut or split, and what that loses told by line.

use afina_data::TokenizedExample;
use serde::{Deserialize, Serialize};

/// `data.excess_length`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExcessLength {
    /// The data is refused.
    #[default]
    Error,
    /// The example is left out.
    Drop,
    /// The example loses its end, but never an end-of-turn token: an answer that the cut goes through keeps its own behind what
    /// is left of it, and a cut between two answers takes what follows the first.
    Truncate,
    /// The example becomes several, each of which sees nothing of the others. One without a trained token is left out.
    Split,
}

/// An example that was too long, and what was left of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Excess {
    pub file: String,
    pub line: usize,
    pub tokens: usize,
    pub tokens_kept: usize,
    pub trained_tokens: usize,
    pub trained_tokens_lost: usize,
    /// Examples it became.
    pub pieces: usize,
    /// Parts of it that were left out, for they held no trained token.
    pub pieces_dropped: usize,
}

/// What takes the place of an example of more than `longest` tokens: examples of at most so many, each with a trained token.
pub(crate) fn fit(
    example: &TokenizedExample,
    file: &str,
    longest: usize,
    excess_length: ExcessLength,
    is_special: &dyn Fn(u32) -> bool,
) -> (Vec<TokenizedExample>, Excess) {
    let parts = match excess_length {
        ExcessLength::Error | ExcessLength::Drop => Vec::new(),
        ExcessLength::Truncate => vec![(0, truncate(example, longest, is_special))],
        ExcessLength::Split => split(example, longest),
    };
    let of = parts.len();
    let kept: Vec<(usize, TokenizedExample)> = parts.into_iter().filter(|(_, part)| trained(part) > 0).collect();
    // A part begins with the token that the one before it ends with.
    let tokens: usize = kept.iter().map(|(_, part)| part.tokens.len()).sum();
    let twice = kept.windows(2).filter(|pair| pair[1].0 < pair[0].0 + pair[0].1.tokens.len()).count();
    let excess = Excess {
        file: file.to_owned(),
        line: example.line,
        tokens: example.tokens.len(),
        tokens_kept: tokens - twice,
        trained_tokens: trained(example),
        trained_tokens_lost: trained(example) - kept.iter().map(|(_, part)| trained(part)).sum::<usize>(),
        pieces: kept.len(),
        pieces_dropped: of - kept.len(),
    };
    (kept.into_iter().map(|(_, part)| part).collect(), excess)
}

/// The first of an example's tokens is the target of nothing.
pub(crate) fn trained(example: &TokenizedExample) -> usize {
    example.loss_mask.iter().skip(1).filter(|&&trained| trained).count()
}

fn truncate(example: &TokenizedExample, longest: usize, is_special: &dyn Fn(u32) -> bool) -> TokenizedExample {
    let TokenizedExample { line, tokens, loss_mask } = example;
    let take = |end: usize| (tokens[..end].to_vec(), loss_mask[..end].to_vec());
    let cut = longest - 1; // room for the end of the turn
    let (tokens, loss_mask) = if cut > 0 && loss_mask[cut - 1] && loss_mask[cut] {
        let end = cut + loss_mask[cut..].iter().take_while(|&&trained| trained).count();
        let end_of_turn = (cut..end).rev().find(|&at| is_special(tokens[at])).unwrap_or(end - 1);
        let (mut kept, mut mask) = take(cut);
        kept.push(tokens[end_of_turn]);
        mask.push(true);
        (kept, mask)
    } else {
        take(loss_mask[..cut].iter().rposition(|&trained| trained).map_or(0, |last| last + 1))
    };
    TokenizedExample { line: *line, tokens, loss_mask }
}

/// Parts with where they begin. Each begins with the last token of the one before, so that every token is predicted once.
fn split(example: &TokenizedExample, longest: usize) -> Vec<(usize, TokenizedExample)> {
    let TokenizedExample { line, tokens, loss_mask } = example;
    let part = |start: usize| {
        let end = tokens.len().min(start + longest);
        let mut mask = loss_mask[start..end].to_vec();
        mask[0] &= start == 0;
        (start, TokenizedExample { line: *line, tokens: tokens[start..end].to_vec(), loss_mask: mask })
    };
    (0..tokens.len() - 1).step_by(longest - 1).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two turns of a prompt (1), an answer (2) and its end (0), with a line end (3) behind: "111222203 1112203".
    fn example() -> TokenizedExample {
        let tokens = vec![1, 1, 1, 2, 2, 2, 2, 0, 3, 1, 1, 1, 2, 2, 0, 3];
        let loss_mask = tokens.iter().map(|token| [0, 2].contains(token)).collect();
        TokenizedExample { line: 7, tokens, loss_mask }
    }

    fn cut(longest: usize, excess_length: ExcessLength) -> (Vec<String>, Excess) {
        let (parts, excess) = fit(&example(), "x.jsonl", longest, excess_length, &|token| token == 0);
        let show = |part: &TokenizedExample| {
            assert!(part.tokens.len() <= longest && part.tokens.len() == part.loss_mask.len() && part.line == 7);
            let marked = |(token, trained): (&u32, &bool)| format!("{token}{}", if *trained { "'" } else { "" });
            part.tokens.iter().zip(&part.loss_mask).map(marked).collect()
        };
        (parts.iter().map(show).collect(), excess)
    }

    #[test]
    fn what_is_dropped_is_lost_whole() {
        let (parts, excess) = cut(8, ExcessLength::Drop);
        assert!(parts.is_empty());
        assert_eq!((excess.tokens, excess.tokens_kept), (16, 0));
        assert_eq!((excess.trained_tokens, excess.trained_tokens_lost), (8, 8));
    }

    #[test]
    fn an_answer_that_is_cut_keeps_its_end_of_turn() {
        for (longest, left, lost) in [
            (15, "1112'2'2'2'0'31112'2'0'", 0), // only the line end goes
            (14, "1112'2'2'2'0'31112'0'", 1),
            (13, "1112'2'2'2'0'", 3), // nothing would be left of the second answer
            (9, "1112'2'2'2'0'", 3),
            (8, "1112'2'2'2'0'", 3),
            (7, "1112'2'2'0'", 4),
            (5, "1112'0'", 6),
        ] {
            let (parts, excess) = cut(longest, ExcessLength::Truncate);
            assert_eq!((parts, excess.trained_tokens_lost), (vec![left.to_owned()], lost), "{longest}");
        }
        let (parts, excess) = cut(4, ExcessLength::Truncate);
        assert_eq!((parts.len(), excess.pieces_dropped, excess.tokens_kept), (0, 1, 0), "no answer is left");
    }

    #[test]
    fn parts_hold_every_trained_token_once() {
        for longest in 2..16 {
            let (parts, excess) = cut(longest, ExcessLength::Split);
            let marks: usize = parts.iter().map(|part| part.matches('\'').count()).sum();
            assert_eq!((marks, excess.trained_tokens_lost), (8, 0), "{longest}: {parts:?}");
            assert!(parts.iter().all(|part| part.contains('\'')), "{longest}: {parts:?}");
        }
        let (parts, excess) = cut(6, ExcessLength::Split);
        assert_eq!(parts, ["1112'2'2'", "22'0'311", "112'2'0'3"]);
        assert_eq!((excess.pieces, excess.pieces_dropped, excess.tokens_kept), (3, 0, 16));
        let (parts, excess) = cut(3, ExcessLength::Split);
        assert_eq!(parts, ["12'2'", "22'2'", "20'3", "112'", "22'0'"]);
        assert_eq!((excess.pieces, excess.pieces_dropped, excess.tokens_kept), (5, 3, 12));
    }
}
