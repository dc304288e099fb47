//! Files before and after.

use expect_test::{Expect, expect};

use super::*;
use crate::{Method, Profile, testing::read_all};

mod losses;

/// The output of a fix, and its log.
pub(super) fn fixed(data: &[u8], options: &ReadOptions, unsafe_fixes: bool) -> (Vec<u8>, Vec<FixItem>, FixSummary) {
    let (mut out, mut log) = (Vec::new(), Vec::new());
    let summary = fix(&mut &*data, "x.jsonl", options, unsafe_fixes, &mut out, &mut |item| log.push(item)).unwrap();
    (out, log, summary)
}

#[track_caller]
pub(super) fn check_with(options: &ReadOptions, unsafe_fixes: bool, data: impl AsRef<[u8]>, expect: Expect) {
    let (out, log, _) = fixed(data.as_ref(), options, unsafe_fixes);
    let mut shown = String::from_utf8_lossy(&out).into_owned() + "──\n";
    for item in log {
        match item {
            FixItem::Change(change) => shown += &format!("{change}\n"),
            FixItem::Left { found, output_line } => {
                shown += &format!("left {} → {output_line}: {}\n", found.line, found.rule);
            }
            // A test has fewer records than a job needs.
            FixItem::LeftInWhole(found) if found.rule == "too-few-examples" => {}
            FixItem::LeftInWhole(found) => shown += &format!("left in the whole: {}\n", found.rule),
        }
    }
    expect.assert_eq(&shown);
    let (again, ..) = fixed(&out, options, unsafe_fixes);
    assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&out), "a second fix changes nothing");
}

/// Safe fixes, for supervised data.
#[track_caller]
pub(super) fn check(data: impl AsRef<[u8]>, expect: Expect) {
    check_with(&ReadOptions::new(Method::Sft, Profile::OpenAi), false, data, expect);
}

/// All fixes.
#[track_caller]
pub(super) fn check_unsafe(data: impl AsRef<[u8]>, expect: Expect) {
    check_with(&ReadOptions::new(Method::Sft, Profile::OpenAi), true, data, expect);
}

/// Safe fixes of a record of `user` and `assistant`, with the given messages between them.
#[track_caller]
pub(super) fn check_messages(messages: &[&str], expect: Expect) {
    check(records(messages), expect);
}

fn records(messages: &[&str]) -> String {
    let record = |message: &&str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"Hi."}},{message},{{"role":"assistant","content":"Ok."}}]}}"#
        )
    };
    messages.iter().map(record).map(|record| record + "\n").collect()
}

const ONE: &str = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#;
const TWO: &str = r#"{"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}"#;

#[test]
fn good_lines_come_out_as_they_went_in() {
    for data in [format!("{ONE}\n{TWO}\n"), format!(" {ONE} \r\n{TWO}"), format!("{ONE}\r\n{TWO}\r\n")] {
        let (out, log, summary) = fixed(data.as_bytes(), &ReadOptions::new(Method::Sft, Profile::Local), true);
        assert_eq!((String::from_utf8(out).unwrap(), log), (data, Vec::new()));
        assert_eq!(summary, FixSummary { records: 2, ..FixSummary::default() });
    }
}

#[test]
fn lines_and_bytes_are_mended() {
    check(
        format!("\u{FEFF}{ONE}\n\n \n\u{FEFF}{TWO},\n\n\n"),
        expect![[r#"
        {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
        {"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}
        ──
        1 → 1: file-bom: removed the byte order mark of the file
        2 → -: blank-line: removed 2 blank lines
        4 → 2: bom-mid-file: removed a byte order mark
        4 → 2: comma-between-lines: removed the comma behind the record
        5 → -: trailing-blank-lines: removed 2 blank lines
    "#]],
    );
    check(
        format!("{ONE}\r{TWO}\r"),
        expect![[r#"
        {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
        {"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}
        ──
        1 → 1: bare-cr-line-endings: ended lines with `\n`, not `\r`
    "#]],
    );
    check(
        format!("{ONE} {TWO}}}\n"),
        expect![[r#"
        {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
        {"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}
        ──
        1 → 1: multiple-objects-on-line: removed `}` behind the record
        1 → 2: multiple-objects-on-line: put the record on a line of its own
    "#]],
    );
    check(
        format!("# notes\n{ONE} // one\n"),
        expect![[r#"
        {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
        ──
        1 → -: json-comments: removed the comment `# notes`
        2 → 1: json-comments: removed the comment `// one`
    "#]],
    );
    check(
        ONE.replace("\"a\"", "\"caf\u{e9}\"").chars().map(|char| char as u8).collect::<Vec<_>>(),
        expect![[r#"
            {"messages":[{"role":"user","content":"café"},{"role":"assistant","content":"b"}]}──
            1 → 1: file-not-utf8: rewrote 1 character as UTF-8, from Windows-1252
        "#]],
    );
    let utf16: Vec<u8> = format!("\u{FEFF}{ONE}\n").encode_utf16().flat_map(u16::to_le_bytes).collect();
    check(
        utf16,
        expect![[r#"
        {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
        ──
        1 → 1: file-utf16: wrote UTF-8 for UTF-16LE
    "#]],
    );
}

#[test]
fn an_array_around_the_file_becomes_lines() {
    check(
        format!("[{ONE},{TWO}]"),
        expect![[r#"
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
            {"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}──
            1 → 1: json-array-file: took the record out of the array around the file
            1 → 2: json-array-file: took the record out of the array around the file
        "#]],
    );
    check(
        format!("[\n  {ONE},\n  {TWO}\n]\n"),
        expect![[r#"
        {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
        {"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}
        ──
        1 → -: json-array-file: removed the array around the records
        2 → 1: json-array-file: took the record out of the array around the file
        3 → 2: json-array-file: took the record out of the array around the file
        4 → -: json-array-file: removed the array around the records
    "#]],
    );
    let pretty = "[\n  {\n    \"messages\": [\n      {\"role\": \"user\", \"content\": \"a\"},\n      {\"role\": \"assistant\", \"content\": \"b\"}\n    ]\n  },\n";
    check(
        format!("{pretty}  {TWO}\n]\n"),
        expect![[r#"
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
        {"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}
        ──
        1 → -: json-array-file: removed the array around the records
        2 → 1: pretty-printed-json: put the record on one line
        2 → 1: json-array-file: took the record out of the array around the file
        8 → 2: json-array-file: took the record out of the array around the file
        9 → -: json-array-file: removed the array around the records
    "#]],
    );
    check(
        r#"[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]"#,
        expect![[r#"
        {"messages": [{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}──
        1 → 1: record-not-object: put the messages in a record
    "#]],
    );
    check(
        "[\n{\"role\":\"user\",\"content\":\"a\"},\n{\"role\":\"assistant\",\"content\":\"b\"}\n]\n",
        expect![[r#"
        {"messages": [{"role":"user","content":"a"}, {"role":"assistant","content":"b"}]}
        ──
        1 → 1: pretty-printed-json: put the record on one line
        1 → 1: record-not-object: put the messages in a record
    "#]],
    );
}

#[test]
fn a_record_over_several_lines_is_put_on_one() {
    check(
        "{  \n  \"messages\": [  \n    {\"role\": \"system\", \"content\": \"Sé breve.\"},  \n    {\"role\": \"user\", \"content\": \"¿Qué?\"},\n    {\"role\": \"assistant\", \"content\": \"Sí.\"}  \n  ]  \n}\n",
        expect![[r#"
            {"messages": [{"role": "system", "content": "Sé breve."}, {"role": "user", "content": "¿Qué?"}, {"role": "assistant", "content": "Sí."}]}
            ──
            1 → 1: pretty-printed-json: put the record on one line
        "#]],
    );
    check(
        ONE.replace("\"b\"", "\"b\nb\tb\""),
        expect![[r#"
        {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b\nb\tb"}]}──
        1 → 1: unescaped-control-char: wrote `\n` for a raw control character
        1 → 1: unescaped-control-char: wrote `\t` for a raw control character
    "#]],
    );
}

#[test]
fn a_list_that_ends_before_its_last_message_is_put_together() {
    check(
        "{\n  \"messages\": [\n    { \"role\": \"user\", \"content\": \"¿Qué queso?\" },\n    { \"role\": \"user\", \"content\": [\n      {\n        \"type\": \"image_url\",\n        \"image_url\": {\n          \"url\": \"https://example.com/danbo.jpg\"\n        }\n      }\n    ]\n  },\n  ],\n  { \"role\": \"assistant\", \"content\": \"Danbo\" }\n}\n",
        expect![[r#"
            {"messages": [{ "role": "user", "content": "¿Qué queso?" }, { "role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/danbo.jpg"}}]}, { "role": "assistant", "content": "Danbo" }]}
            ──
            1 → 1: invalid-json: moved the `]` that ended the list too early behind the next message
            1 → 1: trailing-comma: removed the comma before a closing bracket
            1 → 1: pretty-printed-json: put the record on one line
        "#]],
    );
}

#[test]
fn nearly_json_becomes_json() {
    check(
        "{'messages': [{'role': 'user', 'content': \"it's\"}, {'role': 'assistant', 'content': 'a \"b\"', 'weight': True}]}\n",
        expect![[r#"
            {"messages": [{"role": "user", "content": "it's"}, {"role": "assistant", "content": "a \"b\"", "weight": 1}]}
            ──
            1 → 1: python-dict-repr: wrote Python's notation as JSON
            1 → 1: weight-invalid: wrote weight 1 for `true`
        "#]],
    );
    check(
        [
            ONE.replace("\"a\"", r#""she said "hi" to me""#),
            ONE.replace("\"a\"", r#""C:\Users\new \d""#),
            ONE.replace("}]", "},]"),
            ONE.replace("\"b\"", "\"b\\ud83d\""),
            ONE.replace("\"role\"", "role"),
        ]
        .join("\n"),
        expect![[r#"
            {"messages":[{"role":"user","content":"she said \"hi\" to me"},{"role":"assistant","content":"b"}]}
            {"messages":[{"role":"user","content":"C:\\Users\\new \\d"},{"role":"assistant","content":"b"}]}
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b\ufffd"}]}
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}──
            1 → 1: unescaped-quote: escaped a quotation mark inside a string (2 times)
            2 → 2: invalid-escape: doubled the backslash of `\U`
            2 → 2: invalid-escape: doubled the backslashes of a path
            2 → 2: invalid-escape: doubled the backslash of `\d`
            3 → 3: trailing-comma: removed the comma before a closing bracket
            4 → 4: lone-surrogate: wrote `\ufffd` for `\ud83d`, half a character
            5 → 5: invalid-json: put a name in double quotes (2 times)
        "#]],
    );
}

#[test]
fn what_nobody_can_mend_stays_and_is_named() {
    check(
        format!("{ONE}\n{{\"messages\": oops}}\n{TWO} and more\n{}", &ONE[..40]),
        expect![[r#"
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
            {"messages": oops}
            {"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]} and more
            {"messages":[{"role":"user","content":"a──
            left 2 → 2: invalid-json
            left 3 → 3: multiple-objects-on-line
            left 4 → 4: truncated-line
        "#]],
    );
    check_unsafe(
        format!("{ONE}\n{{\"messages\": oops}}\n{TWO} and more\n{}", &ONE[..40]),
        expect![[r#"
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
            {"messages": oops}
            {"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}
            ──
            left 2 → 2: invalid-json
            3 → 3: multiple-objects-on-line: removed `and more` behind the record (unsafe)
            4 → -: truncated-line: removed `{"messages":[{"role":"user","content":"a`, a record that was cut (unsafe)
        "#]],
    );
    check(
        b"\x1f\x8b\x08",
        expect![[r#"
            �──
            left 1 → 1: wrong-file-type
        "#]],
    );
    check(
        "",
        expect![[r#"
            ──
            left in the whole: file-empty
        "#]],
    );
}

#[test]
fn what_takes_something_away_is_done_where_asked_for() {
    let file = format!(
        "{ONE}\n{ONE}\n{}\n{{\"messages\":[]}}\n",
        [
            r#"{"messages":[{"role":"user","content":"a","id":7},{"role":"assistant","content":" b<|im_end|> "},{"role":"user","content":"c"}],"source":"x"}"#,
            r#"{"messages":[{"role":"user","content":"cafÃ©"},{"role":"assistant","content":"x\u0000"},{"role":"user","content":null},{"role":"assistant","content":"y"}]}"#,
        ]
        .join("\n")
    );
    check(
        &file,
        expect![[r#"
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
            {"messages":[{"role":"user","content":"a","id":7},{"role":"assistant","content":" b<|im_end|> "},{"role":"user","content":"c"}],"source":"x"}
            {"messages":[{"role":"user","content":"cafÃ©"},{"role":"assistant","content":"x\u0000"},{"role":"user","content":null},{"role":"assistant","content":"y"}]}
            {"messages":[]}
            ──
            left 3 → 3: unknown-message-key
            left 3 → 3: special-token-in-content
            left 3 → 3: last-message-not-assistant
            left 3 → 3: unknown-top-level-key
            left 4 → 4: null-content
            left 5 → 5: messages-empty
        "#]],
    );
    check_unsafe(
        &file,
        expect![[r#"
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
            {"messages":[{"role":"user","content":"café"},{"role":"assistant","content":"x"},{"role":"assistant","content":"y"}]}
            ──
            2 → -: duplicate-example: removed the line: an earlier one is the same (unsafe)
                {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
            3 → -: unknown-message-key: removed the key `id` with `7` (unsafe)
            3 → -: assistant-edge-whitespace: removed whitespace around an answer (unsafe)
            3 → -: special-token-in-content: removed `<|im_end|>` from a text (unsafe)
            3 → -: last-message-not-assistant: removed the last message (unsafe)
                {"role":"user","content":"c"}
            3 → -: unknown-top-level-key: removed the key `source` with `"x"` (unsafe)
            3 → -: duplicate-example: removed the line: an earlier one is the same (unsafe)
                {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
            4 → 2: mojibake: wrote `é` for `Ã©` (unsafe)
            4 → 2: nul-char: removed U+0000 from a text (unsafe)
                "x\u0000"
            4 → 2: null-content: removed a user message without content (unsafe)
                {"role":"user","content":null}
            5 → -: messages-empty: removed the line: it has no messages (unsafe)
                {"messages":[]}
        "#]],
    );
}

#[test]
fn what_comes_to_the_head_of_the_file_is_mended_as_its_head() {
    // Once the lines before are gone: a byte order mark, an array, lines that end with `\r`.
    check(
        "\u{FEFF}\u{FEFF}oops\n",
        expect![[r#"
            oops
            ──
            1 → 1: bom-mid-file: removed a byte order mark
            1 → 1: file-bom: removed the byte order mark of the file
            left 1 → 1: invalid-json
        "#]],
    );
    check(
        format!("\n\u{FEFF}oops\n{ONE}\n"),
        expect![[r#"
            oops
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
            ──
            1 → -: blank-line: removed a blank line
            2 → -: bom-mid-file: removed a byte order mark
            left 2 → 1: invalid-json
        "#]],
    );
    check(
        format!("\noops}}\r{ONE}\r{TWO}\n"),
        expect![[r#"
            oops}
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
            {"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}
            ──
            1 → -: blank-line: removed a blank line
            2 → -: bare-cr-line-endings: ended lines with `\n`, not `\r`
            left 2 → 1: invalid-json
        "#]],
    );
    check(
        format!("[{ONE}]\n{TWO}\n"),
        expect![[r#"
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
            {"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}
            ──
            1 → 1: json-array-file: took the record out of the array around the file
        "#]],
    );
}

#[test]
fn an_array_that_cannot_be_read_on_is_left_behind() {
    check_unsafe(
        format!("[{{\"messages\":[{{\"role\":\"assi\n{ONE},\noops\n{TWO}]\n"),
        expect![[r#"
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
            oops
            {"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}
            ──
            1 → -: json-array-file: removed the array around the records
            1 → -: truncated-line: removed `{"messages":[{"role":"assi`, a record that was cut (unsafe)
            2 → 1: comma-between-lines: removed the comma behind the record
            left 3 → 2: invalid-json
            4 → 3: multiple-objects-on-line: removed `]` behind the record
        "#]],
    );
    check(
        format!("[\n{ONE},\noops,\n{TWO}\n]\n"),
        expect![[r#"
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
            oops,
            {"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}
            ──
            1 → -: json-array-file: removed the array around the records
            2 → 1: json-array-file: took the record out of the array around the file
            left 3 → 2: invalid-json
            5 → -: json-array-file: removed the array around the records
        "#]],
    );
    check_unsafe(
        "[\n  {   ]\n  \"a\": [\n",
        expect![[r#"
            ──
            2 → -: invalid-json: put `}` before a bracket of the other kind
            2 → -: multiple-objects-on-line: removed `"a": [` behind the record (unsafe)
            2 → -: json-array-file: took the record out of the array around the file
            2 → -: missing-messages: removed the line: it is an empty object (unsafe)
                {   }
            left in the whole: file-empty
        "#]],
    );
}

#[test]
fn azure_asks_for_a_byte_order_mark() {
    check_with(
        &ReadOptions::new(Method::Sft, Profile::Azure),
        false,
        format!("{ONE}\n"),
        expect![[r#"
        ﻿{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
        ──
        1 → 1: file-bom: put a byte order mark before the file
    "#]],
    );
}

#[test]
fn a_file_larger_than_a_batch_is_mended_in_order() {
    let line = |index: usize| match index % 3 {
        0 => format!(
            "{{\"messages\":[{{\"role\":\"human\",\"content\":\"{index}\"}},{{\"role\":\"assistant\",\"content\":\"b\"}}]}}\n"
        ),
        1 => format!(
            "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{index}\"}},{{\"role\":\"assistant\",\"content\":\"b\"}}]}}\n"
        ),
        _ => "\n".to_owned(),
    };
    let data: String = (0..15_001).map(line).collect();
    let options = ReadOptions::new(Method::Sft, Profile::Local);
    let (out, log, summary) = fixed(data.as_bytes(), &options, false);
    let expected = data.replace("human", "user").replace("\n\n", "\n");
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    assert_eq!((summary.records, summary.changed, summary.left), (10_001, 5001, 0));
    let FixItem::Change(last) = log.last().unwrap() else { panic!("the last item is a change") };
    assert_eq!((last.line, last.output_line), (15_001, Some(10_001)));
    assert_eq!(read_all(expected.as_bytes(), &options).2.valid, 10_001);
}
