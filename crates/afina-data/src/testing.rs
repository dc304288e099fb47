//! What the tests of this crate share: data in, diagnostics as text out.

use expect_test::Expect;

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

/// Numbers that look random and are the same in every run (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) % bound as u64) as usize
    }
}

/// `text` with a few bytes changed, removed, doubled or moved; often still nearly what it was.
pub(crate) fn mutate(text: &[u8], random: &mut Random) -> Vec<u8> {
    const PIECES: [&[u8]; 24] = [
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\n",
        b"\r",
        b"\t",
        b" ",
        b"'",
        b"#",
        b"//",
        b"null",
        b"NaN",
        b"\\u00",
        b"\\ud83d",
        b"\xEF\xBB\xBF",
        b"\xFF",
        "é".as_bytes(),
        b"\0",
        b"1e",
    ];
    let mut bytes = text.to_vec();
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(12)).min(bytes.len());
        match random.below(5) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
            2 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            3 => {
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                drop(bytes.splice(to..to, piece));
            }
            _ => bytes.truncate(if random.below(4) == 0 { at } else { bytes.len() }),
        }
    }
    bytes
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
