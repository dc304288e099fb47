//! What the tests of this crate share: data in, diagnostics as text out.

mod random;

use expect_test::Expect;

pub(crate) use random::{Random, mutate};

use crate::{Diagnostic, Example, Item, Method, Profile, ReadOptions, Summary, read};

/// Everything that reading `data` gives.
pub(crate) fn read_all(data: &[u8], options: &ReadOptions) -> (Vec<Diagnostic>, Vec<Example>, Summary) {
    let (mut diagnostics, mut examples) = (Vec::new(), Vec::new());
    let mut sink = |item| match item {
        Item::Diagnostic(diagnostic) => diagnostics.push(diagnostic),
        Item::Example(example) => examples.push(example),
        Item::Pair(_) => {}
    };
    let summary = read(&mut &*data, "x.jsonl", options, &mut sink).unwrap();
    (diagnostics, examples, summary)
}

/// Compares the diagnostics of a file with what is expected, a line each: no hints, and no word on how many examples
/// there are and whether they say the same.
#[track_caller]
pub(crate) fn check_with(options: &ReadOptions, data: impl AsRef<[u8]>, expect: Expect) {
    check_but(&["near-duplicate-example", "conflicting-answers", "constant-output"], options, data, expect);
}

/// [`check_with`], with all that concerns several records but their number.
#[track_caller]
pub(crate) fn check_dataset(options: &ReadOptions, data: impl AsRef<[u8]>, expect: Expect) {
    check_but(&[], options, data, expect);
}

#[track_caller]
fn check_but(rules: &[&str], options: &ReadOptions, data: impl AsRef<[u8]>, expect: Expect) {
    let about_size = ["too-few-examples", "few-examples", "missing-system-message", "image-policy"];
    let (diagnostics, ..) = read_all(data.as_ref(), options);
    let shown: String = diagnostics
        .iter()
        .filter(|diagnostic| !about_size.contains(&diagnostic.rule) && !rules.contains(&diagnostic.rule))
        .map(|diagnostic| {
            let text = Diagnostic { hint: String::new(), ..diagnostic.clone() }.to_string();
            text.trim_start_matches("x.jsonl:").to_owned() + "\n"
        })
        .collect();
    expect.assert_eq(&shown);
}

/// [`check_with`] for supervised data at OpenAI.
#[track_caller]
pub(crate) fn check(data: impl AsRef<[u8]>, expect: Expect) {
    check_with(&ReadOptions::new(Method::Sft, Profile::OpenAi), data, expect);
}

/// A file with a record of `user` and `assistant`, for each of the given messages put between them.
#[track_caller]
pub(crate) fn check_messages(messages: &[&str], expect: Expect) {
    let record = |message: &&str| {
        let ask = r#"{"role":"user","content":"Hi there."}"#;
        let answer = r#"{"role":"assistant","content":"Hello."}"#;
        format!(r#"{{"messages":[{ask},{message},{answer}]}}"#) + "\n"
    };
    check(messages.iter().map(record).collect::<String>(), expect);
}

/// A file with a record for each of the given URLs (JSON text, without its quotes): an image, a question, an answer.
pub(crate) fn image_records(urls: &[&str]) -> String {
    let record = |(index, url): (usize, &&str)| {
        let image = format!(r#"{{"type":"image_url","image_url":{{"url":"{url}"}}}}"#);
        let ask = format!(r#"{{"role":"user","content":[{image},{{"type":"text","text":"What is it? {index}"}}]}}"#);
        format!(r#"{{"messages":[{ask},{{"role":"assistant","content":"A square."}}]}}"#) + "\n"
    };
    urls.iter().enumerate().map(record).collect()
}
