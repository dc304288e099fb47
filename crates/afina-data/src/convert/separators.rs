//! What files for the old completion models have around their texts, as OpenAI's guide for them advised: a separator
//! behind every prompt, a space before every completion, a stop behind it. Chat models need none of them.

use std::io::{self, BufRead};

use super::{Format, detect, values::Values};
use crate::json::{Kind, Parser, Value};

/// What all the prompts and all the completions of a file share, and a conversation does without. Empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Separators {
    /// Behind every prompt.
    pub behind_prompts: String,
    /// White space before every completion.
    pub before_completions: String,
    /// Behind every completion.
    pub behind_completions: String,
}

const MARKS: [&str; 6] = ["###", "->", "=>", "→", "===", "---"];
const STOPS: [&str; 4] = ["END", "STOP", "###", "<|endoftext|>"];

impl Separators {
    pub(super) fn of_prompt<'t>(&self, text: &'t str) -> &'t str {
        without(text, "", &self.behind_prompts)
    }

    pub(super) fn of_completion<'t>(&self, text: &'t str) -> &'t str {
        without(text, &self.before_completions, &self.behind_completions)
    }
}

/// The text without what stands around it; all of it, where nothing else is in it.
fn without<'t>(text: &'t str, before: &str, behind: &str) -> &'t str {
    let inner = text.strip_prefix(before).unwrap_or(text);
    let inner = inner.strip_suffix(behind).unwrap_or(inner);
    if inner.trim().is_empty() { text } else { inner }
}

/// Reads a file of prompts and completions for what they share; of any other file, its first record. To be told to
/// [`super::convert`].
pub fn separators(source: &mut dyn BufRead, from: Option<Format>) -> io::Result<Separators> {
    let (mut values, mut parser, mut bytes) = (Values::new(source), Parser::default(), Vec::new());
    let (mut prompts, mut completions) = (Common::default(), Common::default());
    while values.next(&mut bytes)?.is_some() {
        let text = String::from_utf8_lossy(&bytes);
        let Some(record) = parser.parse(&text, 0).root() else { continue };
        if from.or_else(|| detect::detect(record)) != Some(Format::PromptCompletion) {
            break;
        }
        let text = |name: &str| record.get(name).filter(|value: &Value| value.kind() == Kind::String)?.text();
        if let (Some(prompt), Some(completion)) = (text("prompt"), text("completion")) {
            prompts.add(&prompt);
            completions.add(&completion);
        }
    }
    Ok(Separators {
        behind_prompts: separator(prompts.end.as_deref().unwrap_or_default(), &MARKS).to_owned(),
        before_completions: completions.space.unwrap_or_default(),
        behind_completions: separator(completions.end.as_deref().unwrap_or_default(), &STOPS).to_owned(),
    })
}

/// What texts have in common at their ends.
#[derive(Default)]
struct Common {
    end: Option<String>,
    /// The white space that they begin with.
    space: Option<String>,
}

impl Common {
    fn add(&mut self, text: &str) {
        let end = self.end.take().unwrap_or_else(|| text.to_owned());
        let same = end.chars().rev().zip(text.chars().rev()).take_while(|(one, other)| one == other);
        let len: usize = same.map(|(char, _)| char.len_utf8()).sum();
        self.end = Some(end[end.len() - len..].to_owned());
        let space = &text[..text.len() - text.trim_start().len()];
        let known = self.space.take().unwrap_or_else(|| space.to_owned());
        let same = known.chars().zip(space.chars()).take_while(|(one, other)| one == other);
        self.space = Some(same.map(|(char, _)| char).collect());
    }
}

/// The part of a common end that separates: a mark with the white space around it, or white space alone.
fn separator<'t>(end: &'t str, marks: &[&str]) -> &'t str {
    let text = end.trim_end();
    let mark = marks.iter().find(|mark| text.ends_with(**mark));
    let Some(mark) = mark else { return &end[text.len()..] };
    let sign = mark.chars().next().filter(|char| "#=-".contains(*char) && mark.len() > 2);
    let before = text.strip_suffix(mark).unwrap_or(text);
    let before = sign.map_or(before, |sign| before.trim_end_matches(sign));
    let start = before.trim_end().len();
    // A word is a stop only where it stands alone: not the end of another word.
    if mark.chars().all(char::is_alphanumeric) && start == before.len() {
        return &end[text.len()..];
    }
    &end[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(records: &[(&str, &str)], expected: [&str; 3]) {
        let line = |(prompt, completion): &(&str, &str)| {
            serde_json::json!({ "prompt": prompt, "completion": completion }).to_string() + "\n"
        };
        let source: String = records.iter().map(line).collect();
        let found = separators(&mut source.as_bytes(), None).unwrap();
        let [prompt, before, behind] = expected.map(str::to_owned);
        assert_eq!(
            found,
            Separators { behind_prompts: prompt, before_completions: before, behind_completions: behind }
        );
    }

    #[test]
    fn what_all_records_share_is_a_separator() {
        check(&[("Q: x\n\n###\n\n", " y END"), ("Q: z\n\n###\n\n", " w END")], ["\n\n###\n\n", " ", " END"]);
        check(&[("a ->", " b\n"), ("c ->", " d\n")], [" ->", " ", "\n"]);
        check(&[("a?\n\n###\n\n", "b###"), ("c?\n\n###\n\n", "d###")], ["\n\n###\n\n", "", "###"]);
        check(&[("a\n\n", " b"), ("c\n\n", "d")], ["\n\n", "", ""]);
    }

    #[test]
    fn what_some_lack_or_what_says_something_stays() {
        check(&[("a ->", " b END"), ("c", "d")], ["", "", ""]);
        check(&[("Why?", "Because."), ("How?", "So.")], ["", "", ""]);
        check(&[("a", "the LEGEND"), ("c", "a LEGEND")], ["", "", ""]);
        let separators = Separators { behind_prompts: " ->".into(), ..Separators::default() };
        assert_eq!((separators.of_prompt("a ->"), separators.of_prompt(" ->")), ("a", " ->"));
    }

    #[test]
    fn other_formats_have_none() {
        let source = "{\"messages\":[]}\n{\"prompt\":\"a ->\",\"completion\":\" b\"}\n";
        assert_eq!(separators(&mut source.as_bytes(), None).unwrap(), Separators::default());
    }
}
