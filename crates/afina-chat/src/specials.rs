//! The special tokens of a tokenizer, and where they stand in a rendered text.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::jinja::is_python_space;

/// A special token as tokenizer.json describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Special {
    pub(crate) id: u32,
    pub(crate) content: String,
    /// Takes the white space on its left or right with it.
    pub(crate) lstrip: bool,
    pub(crate) rstrip: bool,
    /// Counts only where no letter, digit or underscore touches it.
    pub(crate) single_word: bool,
}

/// A stretch of a text: a special token, or text between two of them. The stretches of a text cover it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stretch {
    Special { id: u32, range: Range<usize> },
    Text { range: Range<usize> },
}

#[derive(Debug, Clone)]
pub(crate) struct Specials {
    list: Vec<Special>,
    matcher: AhoCorasick,
}

impl Specials {
    pub(crate) fn new(list: Vec<Special>) -> Result<Specials, aho_corasick::BuildError> {
        let matcher = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(list.iter().map(|special| &special.content))?;
        Ok(Specials { list, matcher })
    }

    pub(crate) fn list(&self) -> &[Special] {
        &self.list
    }

    /// Splits at every special token, leftmost and longest first, as the `tokenizers` library does.
    pub(crate) fn split(&self, text: &str) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        let mut done = 0;
        for found in self.matcher.find_iter(text) {
            let special = &self.list[found.pattern()];
            let (before, after) = (&text[..found.start()], &text[found.end()..]);
            if special.single_word && (before.ends_with(is_word) || after.starts_with(is_word)) {
                continue;
            }
            let mut range = found.range();
            if special.lstrip {
                range.start = before.trim_end_matches(is_python_space).len().max(done);
            }
            if special.rstrip {
                range.end = text.len() - after.trim_start_matches(is_python_space).len();
            }
            if done < range.start {
                stretches.push(Stretch::Text { range: done..range.start });
            }
            done = range.end;
            stretches.push(Stretch::Special { id: special.id, range });
        }
        if done < text.len() {
            stretches.push(Stretch::Text { range: done..text.len() });
        }
        stretches
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn special(id: u32, content: &str) -> Special {
        Special { id, content: content.to_owned(), lstrip: false, rstrip: false, single_word: false }
    }

    fn check(list: Vec<Special>, text: &str, expect: Expect) {
        let shown: Vec<String> = Specials::new(list)
            .unwrap()
            .split(text)
            .into_iter()
            .map(|stretch| match stretch {
                Stretch::Special { id, range } => format!("{id}:{:?}", &text[range]),
                Stretch::Text { range } => format!("{:?}", &text[range]),
            })
            .collect();
        expect.assert_eq(&shown.join(" "));
    }

    #[test]
    fn leftmost_and_longest_wins() {
        let list = vec![special(1, "<a>"), special(2, "<a><b>"), special(3, "<b>")];
        check(list, "x<a><b><a>y<b>", expect![[r#""x" 2:"<a><b>" 1:"<a>" "y" 3:"<b>""#]]);
        check(vec![], "x", expect![[r#""x""#]]);
        check(vec![special(1, "<a>")], "", expect![""]);
    }

    #[test]
    fn white_space_goes_with_tokens_that_strip() {
        let list = vec![Special { lstrip: true, ..special(1, "<l>") }, Special { rstrip: true, ..special(2, "<r>") }];
        check(list, "a <l> b <r> \n<l>c", expect![[r#""a" 1:" <l>" " b " 2:"<r> \n" 1:"<l>" "c""#]]);
    }

    #[test]
    fn single_words_do_not_match_inside_words() {
        let list = vec![Special { single_word: true, ..special(1, "eos") }];
        check(list, "eos xeos eos_ (eos)", expect![[r#"1:"eos" " xeos eos_ (" 1:"eos" ")""#]]);
    }
}
