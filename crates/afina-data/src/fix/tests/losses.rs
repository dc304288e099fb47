//! What a fix takes away, what it leaves, and what it says of both.

use expect_test::expect;

use super::*;

#[test]
fn what_the_output_lacks_as_a_whole_is_left_too() {
    let (_, log, summary) = fixed(ONE.as_bytes(), &ReadOptions::new(Method::Sft, Profile::OpenAi), false);
    let [FixItem::LeftInWhole(found)] = &log[..] else { panic!("{log:?}") };
    assert_eq!((found.rule, found.line, summary.left), ("too-few-examples", 1, 1));
    let ten: String = (0..10).map(|index| ONE.replace("\"a\"", &format!("\"a{index}\"")) + "\n").collect();
    let (_, log, summary) = fixed(ten.as_bytes(), &ReadOptions::new(Method::Sft, Profile::OpenAi), false);
    assert_eq!((log, summary.left), (vec![], 0));
    let empty = fixed(b"{\"messages\":[]}\n", &ReadOptions::new(Method::Sft, Profile::Local), true);
    assert!(matches!(&empty.1[1..], [FixItem::LeftInWhole(found)] if found.rule == "file-empty"), "{:?}", empty.1);
}

#[test]
fn a_record_that_lacks_brackets_gets_them_and_one_that_was_cut_goes() {
    let (open, cut) = (&ONE[..ONE.len() - 1], &ONE[..ONE.len() - 6]);
    check(
        format!("{open}\n{TWO}\n{cut}\n{}\n", ONE.replace("\"a\"", "\"e\"")),
        expect![[r#"
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
            {"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":
            {"messages":[{"role":"user","content":"e"},{"role":"assistant","content":"b"}]}
            ──
            1 → 1: truncated-line: put the missing `}` behind the record
            left 3 → 3: truncated-line
        "#]],
    );
    check_unsafe(
        format!("{cut}\n{TWO}\n{cut}\n{{\"messages\":[]}}\n"),
        expect![[r#"
        {"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}
        ──
        1 → -: truncated-line: removed `{"messages":[{"role":"user","content":"a…`, a record that was cut (unsafe)
        3 → -: truncated-line: removed `{"messages":[{"role":"user","content":"a…`, a record that was cut (unsafe)
        4 → -: messages-empty: removed the line: it has no messages (unsafe)
            {"messages":[]}
    "#]],
    );
    let (_, _, summary) = fixed(
        format!("{cut}\n{TWO}\n{cut}\n{{\"messages\":[]}}\n").as_bytes(),
        &ReadOptions::new(Method::Sft, Profile::Local),
        true,
    );
    assert_eq!((summary.records, summary.removed, summary.changed, summary.left), (1, 3, 0, 0));
    // What is left is told as it is of the file.
    let file = format!("{cut}\n{TWO}\n");
    let (_, log, _) = fixed(file.as_bytes(), &ReadOptions::new(Method::Sft, Profile::Local), false);
    let left: Vec<_> = log
        .into_iter()
        .filter_map(|item| if let FixItem::Left { found, .. } = item { Some(found) } else { None })
        .map(|found| (found.line, found.column, found.rule))
        .collect();
    let (found, ..) = read_all(file.as_bytes(), &ReadOptions::new(Method::Sft, Profile::Local));
    let errors = found.iter().filter(|found| found.severity == crate::Severity::Error);
    assert_eq!(left, errors.map(|found| (found.line, found.column, found.rule)).collect::<Vec<_>>());
}

#[test]
fn what_went_stands_in_the_log_whole() {
    let long = "Buenas tardes, ¿qué necesita? ".repeat(9);
    let data = format!(
        "{}\n{TWO}\n{}\n{TWO}\n",
        r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","respuesta":"LONG"},{"role":"assistant","content":"b","id":7}]}"#.replace("LONG", &long),
        r#"{"messages":[{"role":"user","content":"sin respuesta"}]}"#,
    );
    check_unsafe(
        &data,
        expect![[r#"
        {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
        {"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}
        ──
        1 → 1: missing-content: removed an assistant message without content (unsafe)
            {"role":"assistant","respuesta":"Buenas tardes, ¿qué necesita? Buenas tardes, ¿qué necesita? Buenas tardes, ¿qué necesita? Buenas tardes, ¿qué necesita? Buenas …
        1 → 1: unknown-message-key: removed the key `id` with `7` (unsafe)
        3 → -: missing-assistant-message: removed the line: no message of it is the assistant's (unsafe)
            {"messages":[{"role":"user","content":"sin respuesta"}]}
        4 → -: duplicate-example: removed the line: an earlier one is the same (unsafe)
            {"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}
    "#]],
    );
    let (_, log, _) = fixed(data.as_bytes(), &ReadOptions::new(Method::Sft, Profile::Local), true);
    let gone: String = log
        .into_iter()
        .filter_map(|item| if let FixItem::Change(change) = item { Some(change.removed.join("\n")) } else { None })
        .collect();
    assert!(gone.contains(&long) && gone.contains("sin respuesta") && gone.contains(TWO), "{gone}");
}

#[test]
fn quotes_inside_a_string_are_escaped_whatever_follows_them() {
    let said = |text: &str| ONE.replace("\"a\"", &format!("\"{text}\"")) + "\n";
    check(
        [
            r#"Dijo "hola" y se fue"#,
            r#"¿Me pueden mandar la factura del pedido "grande" 10074?"#,
            r#"El "grande" ¿cuál es?"#,
            r#"El "grande" (ese)"#,
            r#"Dijo "hola", y se fue"#,
            r#"Lo "primero", 2 veces "hola"."#,
        ]
        .map(said)
        .join(""),
        expect![[r#"
            {"messages":[{"role":"user","content":"Dijo \"hola\" y se fue"},{"role":"assistant","content":"b"}]}
            {"messages":[{"role":"user","content":"¿Me pueden mandar la factura del pedido \"grande\" 10074?"},{"role":"assistant","content":"b"}]}
            {"messages":[{"role":"user","content":"El \"grande\" ¿cuál es?"},{"role":"assistant","content":"b"}]}
            {"messages":[{"role":"user","content":"El \"grande\" (ese)"},{"role":"assistant","content":"b"}]}
            {"messages":[{"role":"user","content":"Dijo \"hola\", y se fue"},{"role":"assistant","content":"b"}]}
            {"messages":[{"role":"user","content":"Lo \"primero\", 2 veces \"hola\"."},{"role":"assistant","content":"b"}]}
            ──
            1 → 1: unescaped-quote: escaped a quotation mark inside a string (2 times)
            2 → 2: unescaped-quote: escaped a quotation mark inside a string (2 times)
            3 → 3: unescaped-quote: escaped a quotation mark inside a string (2 times)
            4 → 4: unescaped-quote: escaped a quotation mark inside a string (2 times)
            5 → 5: unescaped-quote: escaped a quotation mark inside a string (2 times)
            6 → 6: unescaped-quote: escaped a quotation mark inside a string (4 times)
        "#]],
    );
}

#[test]
fn a_null_that_would_be_a_fault_again_is_not_written_for_nan() {
    let data = [
        r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":NaN},{"role":"assistant","content":"b"}]}"#,
        r#"{"messages":[{"role":"user","content":"a","score":NaN},{"role":"assistant","content":"b"}]}"#,
    ]
    .join("\n");
    check(
        &data,
        expect![[r#"
        {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":NaN},{"role":"assistant","content":"b"}]}
        {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}──
        left 1 → 1: nan-infinity
        left 1 → 1: content-not-string
        2 → 2: nan-infinity: wrote null for `NaN`
        2 → 2: unknown-message-key: removed the key `score` with `null`
    "#]],
    );
    check_unsafe(
        &data,
        expect![[r#"
        {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
        ──
        1 → 1: nan-infinity: wrote null for `NaN` (unsafe)
        1 → 1: null-content: removed an assistant message without content (unsafe)
            {"role":"assistant","content":null}
        2 → -: nan-infinity: wrote null for `NaN`
        2 → -: unknown-message-key: removed the key `score` with `null`
        2 → -: duplicate-example: removed the line: an earlier one is the same (unsafe)
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
    "#]],
    );
}

#[test]
fn a_line_that_holds_no_record_goes_where_asked_for() {
    let data = format!("\"hola\"\n[]\n{{}}\n42\n{ONE}\n{{\"a\":1}}\n");
    check(
        &data,
        expect![[r#"
        "hola"
        []
        {}
        42
        {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
        {"a":1}
        ──
        left 1 → 1: record-not-object
        left 2 → 2: record-not-object
        left 3 → 3: missing-messages
        left 4 → 4: record-not-object
        left 6 → 6: missing-messages
    "#]],
    );
    check_unsafe(
        &data,
        expect![[r#"
        {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
        {"a":1}
        ──
        1 → -: record-not-object: removed the line: it is no record (unsafe)
            "hola"
        2 → -: record-not-object: removed the line: it is no record (unsafe)
            []
        3 → -: missing-messages: removed the line: it is an empty object (unsafe)
            {}
        4 → -: record-not-object: removed the line: it is no record (unsafe)
            42
        left 6 → 2: missing-messages
    "#]],
    );
}
