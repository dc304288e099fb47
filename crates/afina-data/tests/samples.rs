//! Files as people paste them: what is said of them, and what a fix makes of them.

use afina_data::{FixItem, Item, Method, Profile, ReadOptions, fix, read, render_text};
use expect_test::{Expect, expect};

/// One good record, pretty-printed, with spaces at the ends of lines.
const CHAT: &str = include_str!("fixtures/chat_over_lines.json");
/// One record that is not JSON: its list of messages ends before the answer, after a comma.
const VISION: &str = include_str!("fixtures/vision_list_ends_early.json");

/// Diagnostics with their windows, as on a terminal; then the output of a safe fix, its log, and what is said of it.
#[track_caller]
fn check(file: &str, data: &str, expect: Expect) {
    let mut options = ReadOptions::new(Method::Sft, Profile::OpenAi);
    options.windows = true;
    let mut shown = report(file, data.as_bytes(), &options);
    let (mut out, mut log) = (Vec::new(), String::new());
    let mut each = |item| match item {
        FixItem::Change(change) => log += &format!("{change}\n"),
        FixItem::Left { found: left, .. } | FixItem::LeftInWhole(left) => log += &format!("left: {left}\n"),
    };
    fix(&mut data.as_bytes(), file, &options, false, &mut out, &mut each).unwrap();
    shown += &format!("── fixed\n{}{log}", String::from_utf8(out.clone()).unwrap());
    shown += &format!("── then\n{}", report("mended.jsonl", &out, &options));
    expect.assert_eq(&shown);
}

fn report(file: &str, data: &[u8], options: &ReadOptions) -> String {
    let mut diagnostics = Vec::new();
    let mut sink = |item| diagnostics.extend(if let Item::Diagnostic(found) = item { Some(found) } else { None });
    let summary = read(&mut &*data, file, options, &mut sink).unwrap();
    render_text(&diagnostics, &summary, 20)
}

#[test]
fn a_pretty_printed_record_is_one_record_and_becomes_one_line() {
    check(
        "chat.json",
        CHAT,
        expect![[r#"
            chat.json:1:1: error[file-extension]: expected a name that ends in `.jsonl`, found `.json`
              hint: rename the file, once it has one JSON object a line
            chat.json:1:1: error[pretty-printed-json]: expected a record on one line, found one that spans 7 lines
                | {  
                | ^
              hint: write it on one line, as `--fix OUT` does

            chat.json:1:1: error[too-few-examples]: expected at least 10 examples, found 1
              hint: add examples: OpenAI recommends to start with 50
            1 example: 0 valid, 1 invalid; 3 errors
            what can be mended: afina validate chat.json --fix OUT
            ── fixed
            {"messages": [{"role": "system", "content": "Eres un guía de museos que contesta con ironía."}, {"role": "user", "content": "¿Quién pintó «Las meninas»?"}, {"role": "assistant", "content": "Velázquez, aunque él se pintó primero."}]}
            1 → 1: pretty-printed-json: put the record on one line
            left: -:1:1: error[too-few-examples]: expected at least 10 examples, found 1
              hint: add examples: OpenAI recommends to start with 50
            ── then
            mended.jsonl:1:1: error[too-few-examples]: expected at least 10 examples, found 1
              hint: add examples: OpenAI recommends to start with 50
            1 example: 1 valid, 0 invalid; 1 error
        "#]],
    );
}

#[test]
fn a_list_that_ends_before_the_answer_is_told_by_its_causes() {
    check(
        "vision.json",
        VISION,
        expect![[r#"
            vision.json:1:1: error[file-extension]: expected a name that ends in `.jsonl`, found `.json`
              hint: rename the file, once it has one JSON object a line
            vision.json:1:1: error[pretty-printed-json]: expected a record on one line, found one that spans 16 lines
                | {
                | ^
              hint: write it on one line, as `--fix OUT` does

            vision.json:13:4: error[trailing-comma] /messages: expected another value after `,`, found `]`
                |   },
                |    ^
              hint: remove the comma: JSON has none before a closing bracket

            vision.json:15:3: error[invalid-json]: expected a name in double quotes, found `{`
                |   { "role": "assistant", "content": "Drosera" }
                |   ^
              hint: the array before it ends too early, at the `]` in line 14, column 3: move that `]` behind this value

            vision.json:1:1: error[too-few-examples]: expected at least 10 examples, found 1
              hint: add examples: OpenAI recommends to start with 50
            1 example: 0 valid, 1 invalid; 5 errors
            what can be mended: afina validate vision.json --fix OUT
            ── fixed
            {"messages": [{ "role": "system", "content": "Eres un asistente que reconoce plantas." }, { "role": "user", "content": "¿Qué planta es esta?" }, { "role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/plantas/drosera.jpg"}}]}, { "role": "assistant", "content": "Drosera" }]}
            1 → 1: invalid-json: moved the `]` that ended the list too early behind the next message
            1 → 1: trailing-comma: removed the comma before a closing bracket
            1 → 1: pretty-printed-json: put the record on one line
            left: -:1:1: error[too-few-examples]: expected at least 10 examples, found 1
              hint: add examples: OpenAI recommends to start with 50
            ── then
            mended.jsonl:1:176: info[image-policy] /messages/2/content/0: OpenAI skips examples with images of people, faces, children or CAPTCHAs, which cannot be told here
                | …esta?" }, { "role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.…
                |                                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              hint: leave such images out

            mended.jsonl:1:1: error[too-few-examples]: expected at least 10 examples, found 1
              hint: add examples: OpenAI recommends to start with 50
            1 example: 1 valid, 0 invalid; 1 error
        "#]],
    );
}
