//! Examples that are longer than what a model is trained on.

use crate::{
    diagnostic::Diagnostic,
    findings::{Findings, Place},
    json::{Kind, Tree, Value},
    read::{Method, ReadOptions},
    view::Turns,
};

/// Tokens of a text without a tokenizer: what it has at least, and what it has most likely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Estimate {
    pub(crate) least: usize,
    pub(crate) likely: usize,
}

/// Characters a token: more of them no long text has, and English has so many.
const MOST_CHARS: usize = 8;
const LIKELY_CHARS: usize = 4;

/// An image has as many tokens at least.
const IMAGE_TOKENS: usize = 85;

/// Tokens around each message.
const MESSAGE_TOKENS: usize = 3;

impl Estimate {
    /// A run of letters, of up to three digits, of signs or of line breaks begins a new token in OpenAI's tokenizers, and
    /// so do most Chinese characters (here: every second). Runs of spaces count as one character.
    fn of(text: &str) -> Estimate {
        let (mut runs, mut wide, mut chars) = (0, 0, 0);
        let (mut last, mut digits) = (b' ', 0);
        for char in text.chars() {
            let class = match char {
                ' ' | '\t' => b' ',
                '0'..='9' => b'0',
                'a'..='z' | 'A'..='Z' => b'a',
                '\u{2E80}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}' => {
                    wide += 1;
                    b'w'
                }
                char if char.is_alphabetic() => b'a',
                '\n' => b'n',
                _ => b'.',
            };
            chars += usize::from(class != b' ' || last != b' ');
            digits = if class == b'0' { digits + 1 } else { 0 };
            runs += usize::from(class != last && !matches!(class, b' ' | b'w') || digits > 3 && digits % 3 == 1);
            last = class;
        }
        let words = runs + wide / 2;
        let least = words.max((chars - wide) / MOST_CHARS + wide / 2);
        Estimate { least, likely: least.max(chars / LIKELY_CHARS) }
    }

    fn add(&mut self, other: Estimate) {
        self.least += other.least;
        self.likely += other.likely;
    }
}

/// Both rules, for a record that is so long that they can hold: a token has a byte at least. `lists` are its messages,
/// in the order of training; of a preference record the input and the longer of the outputs.
pub(crate) fn check_length(record: Value, tools: Option<Value>, lists: &[&Turns], out: &mut Findings) {
    let Some(context) = out.options.training_context.map(|context| context as usize) else { return };
    if record.raw().len() <= context {
        return;
    }
    let mut tokens = tools.map_or(Estimate::default(), |tools| Estimate::of(tools.raw()));
    let mut before_target = None;
    for message in lists.iter().flat_map(|turns| &turns.messages) {
        if message.trained {
            before_target.get_or_insert(tokens);
        }
        tokens.add(Estimate { least: MESSAGE_TOKENS, likely: MESSAGE_TOKENS });
        for text in message.texts().filter_map(|text| text.text()) {
            tokens.add(Estimate::of(&text));
        }
        let parts = message.content.into_iter().flat_map(|content| content.items());
        let images = parts.filter(|part| part.get("image_url").is_some()).count() * IMAGE_TOKENS;
        tokens.add(Estimate { least: images, likely: images });
        for call in [message.tool_calls, message.function_call].into_iter().flatten() {
            let strings = call.strings().filter(|text| text.kind() == Kind::String);
            strings.filter_map(|text| text.text()).for_each(|text| tokens.add(Estimate::of(&text)));
        }
    }
    if tokens.likely > context {
        example_too_long(record.into(), "about ", tokens.likely, context, out);
    }
    let before = before_target.filter(|before| before.least >= context && out.options.method == Method::Sft);
    if let Some(before) = before {
        let found = format!("at least {} before it", before.least);
        truncation_drops_target(record.into(), &found, context, out);
    }
}

/// The first rule, for the example of a line that was counted with the tokenizer and template of a local model: nothing
/// is cut here, and training refuses what does not fit.
///
/// The estimate is then not wanted: set [`ReadOptions::training_context`] to `None`.
pub fn check_counted_length(
    file: &str,
    line: usize,
    tokens: u32,
    seq_len: u32,
    options: &ReadOptions,
) -> Option<Diagnostic> {
    if tokens <= seq_len {
        return None;
    }
    let mut out = Findings::new(options);
    out.error(
        "example-too-long",
        Place::line(line),
        format!("expected at most {seq_len} tokens, found {tokens}: `afina train` refuses the file"),
        "shorten or split it, take it out, or raise `data.seq_len`, up to what the model takes",
    );
    let nothing = Tree { text: "", nodes: &[] };
    out.resolve(nothing, file).pop().map(|found| found.diagnostic)
}

/// An example has more tokens than the model is trained on.
///
/// A service cuts it at its end, which is where the answer stands. OpenAI's models of today take 65,536 tokens an
/// example, gpt-3.5-turbo 16,385. Without the model's tokenizer the count is an estimate: four characters a token, or
/// more tokens where words, numbers and signs make more; it is checked for OpenAI and Azure, and for other models where
/// their length is given. `afina train` cuts nothing and refuses the file: with `--model DIR --seq-len N` it is an
/// error. Split the conversation or shorten it.
fn example_too_long(place: Place, about: &str, tokens: usize, context: usize, out: &mut Findings) {
    out.warning(
        "example-too-long",
        place,
        format!("expected at most {context} tokens, found {about}{tokens}: the end is cut off"),
        "split the conversation, or shorten it",
    );
}

/// A cut at the model's length leaves nothing to learn.
///
/// What comes before the first trained message fills all tokens that the model is trained on (see `example-too-long`),
/// so the answer is cut off: the example costs and teaches nothing. Without the model's tokenizer it is said where even
/// the least number of tokens is too many. Shorten what comes before the answer.
fn truncation_drops_target(place: Place, found: &str, context: usize, out: &mut Findings) {
    out.error(
        "truncation-drops-target",
        place,
        format!("expected a token to learn within the first {context}, found {found}"),
        "shorten what comes before the answer",
    );
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::{Method, Profile, ReadOptions, testing::check_with};

    #[track_caller]
    fn check(profile: Profile, user: &str, answer: &str, expect: Expect) {
        let record = format!(
            r#"{{"messages":[{{"role":"user","content":"{user}"}},{{"role":"assistant","content":"{answer}"}}]}}"#
        );
        check_with(&ReadOptions::new(Method::Sft, profile), record, expect);
    }

    #[test]
    fn tokens_are_estimated_between_bounds() {
        let of = |text: &str| (Estimate::of(text).least, Estimate::of(text).likely);
        assert_eq!(of(""), (0, 0));
        // 9 words and 2 signs; 44 characters.
        assert_eq!(of("The quick brown fox, it jumps over the dog."), (11, 11));
        assert_eq!(of("1234567890"), (4, 4));
        assert_eq!(of("你好你好"), (2, 2));
        assert_eq!(of(&" ".repeat(1000)), (0, 0));
        assert_eq!(of(&"internationalization ".repeat(10)), (26, 52));
    }

    #[test]
    fn an_answer_that_is_cut_is_named() {
        check(
            Profile::OpenAi,
            "Write a book.",
            &"word ".repeat(66_000),
            expect![[r#"
            1:1: warning[example-too-long]: expected at most 65536 tokens, found about 82510: the end is cut off
            1:330086: warning[assistant-edge-whitespace] /messages/1/content: expected text without whitespace around it, found text that ends with it
        "#]],
        );
        check(
            Profile::OpenAi,
            "Write a book.",
            &"word ".repeat(50_000),
            expect![[r#"
            1:250086: warning[assistant-edge-whitespace] /messages/1/content: expected text without whitespace around it, found text that ends with it
        "#]],
        );
        check(
            Profile::Local,
            "Write a book.",
            &"word ".repeat(66_000),
            expect![[r#"
            1:330086: warning[assistant-edge-whitespace] /messages/1/content: expected text without whitespace around it, found text that ends with it
        "#]],
        );
    }

    #[test]
    fn an_answer_that_is_cut_off_is_an_error() {
        check(
            Profile::OpenAi,
            &"word ".repeat(66_000),
            "ok",
            expect![[r#"
            1:1: warning[example-too-long]: expected at most 65536 tokens, found about 82507: the end is cut off
            1:1: error[truncation-drops-target]: expected a token to learn within the first 65536, found at least 66003 before it
        "#]],
        );
        // An image is not its letters.
        let image = format!(
            r#"[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{}"}}}}]"#,
            "A".repeat(400_000)
        );
        let record =
            format!(r#"{{"messages":[{{"role":"user","content":{image}}},{{"role":"assistant","content":"ok"}}]}}"#);
        let mut options = ReadOptions::new(Method::Sft, Profile::OpenAi);
        options.ignored = crate::rules()
            .iter()
            .map(|rule| rule.id.to_owned())
            .filter(|id| !id.contains("trunc") && !id.contains("long"))
            .collect();
        check_with(&options, record, expect![[""]]);
    }

    #[test]
    fn what_was_counted_for_a_local_model_is_refused_and_not_cut() {
        let options = ReadOptions::new(Method::Sft, Profile::Local);
        assert_eq!(check_counted_length("x.jsonl", 7, 100, 100, &options), None);
        let found = check_counted_length("x.jsonl", 7, 130, 100, &options).unwrap();
        expect![[r#"
            x.jsonl:7:1: error[example-too-long]: expected at most 100 tokens, found 130: `afina train` refuses the file
              hint: shorten or split it, take it out, or raise `data.seq_len`, up to what the model takes"#]]
        .assert_eq(&found.to_string());
    }

    #[test]
    fn the_context_is_the_model_s() {
        let mut options = ReadOptions::new(Method::Sft, Profile::Local);
        options.training_context = Some(16);
        let long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen";
        let record =
            format!(r#"{{"messages":[{{"role":"user","content":"{long}"}},{{"role":"assistant","content":"ok"}}]}}"#);
        check_with(
            &options,
            record,
            expect![[r#"
                1:1: warning[example-too-long]: expected at most 16 tokens, found about 31: the end is cut off
                1:1: error[truncation-drops-target]: expected a token to learn within the first 16, found at least 19 before it
            "#]],
        );
    }
}
