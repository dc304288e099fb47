//! How records and lines go together: one record a line.

use super::syntax::found;
use crate::{
    findings::{Findings, Place},
    json::Value,
};

/// More than one value stands on a line.
///
/// JSONL has one record a line. Records were written without a line end between them, or something was appended.
/// The records that follow on the line are checked too.
pub(crate) fn multiple_objects_on_line(text: &str, offset: usize, out: &mut Findings) {
    let hint = match text.as_bytes()[offset] {
        b'}' | b']' => "a bracket too many: remove it",
        b'{' | b'[' => "put each record on a line of its own",
        b',' => "put each record on a line of its own, without a comma between them",
        _ => "remove what follows the record",
    };
    let message = format!("expected the end of the line after the record, found {}", found(text, offset));
    out.error("multiple-objects-on-line", Place::byte(offset), message, hint);
}

/// Records of one line, or of one array, that are checked: they are held together, and a line of 64 MB has room for
/// millions.
pub(crate) const MAX_RECORDS_TOGETHER: usize = 100_000;

/// What is left of a line, or of an array, was not looked at.
pub(crate) fn too_many_together(offset: usize, out: &mut Findings) {
    out.error(
        "multiple-objects-on-line",
        Place::byte(offset),
        format!("expected at most {MAX_RECORDS_TOGETHER} records on a line, found more: they were not checked"),
        "put each record on a line of its own",
    );
}

/// A comma stands at the end of a record's line.
///
/// The lines of a JSON array were cut apart, commas included. Drop the comma: in JSONL the line end separates records.
pub(crate) fn comma_between_lines(offset: usize, out: &mut Findings) {
    out.error(
        "comma-between-lines",
        Place::byte(offset),
        "expected the end of the line after the record, found `,`",
        "drop the comma: in JSONL the line end separates records",
    );
}

/// The file is one JSON array.
///
/// JSONL has one object a line, without brackets around them and commas between. The records inside are checked.
///
/// Convert it: `jq -c '.[]' IN > OUT`.
pub(crate) fn json_array_file(place: Place, records: Option<usize>, out: &mut Findings) {
    let found = match records {
        Some(1) => "one array of 1 record".to_owned(),
        Some(records) => format!("one array of {records} records"),
        None => "a JSON array".to_owned(),
    };
    out.error(
        "json-array-file",
        place,
        format!("expected JSONL, one object a line, found {found}"),
        "convert it: `jq -c '.[]' IN > OUT`",
    );
}

/// A record spans several lines.
///
/// In JSONL a line end ends the record; this is pretty-printed JSON. The record is checked all the same.
///
/// Convert it: `jq -c . IN > OUT`.
pub(crate) fn pretty_printed_json(lines: usize, out: &mut Findings) {
    out.error(
        "pretty-printed-json",
        Place::byte(0),
        format!("expected a record on one line, found one that spans {lines} lines"),
        "convert it: `jq -c . IN > OUT`",
    );
}

/// A line is JSON, but not an object.
///
/// Each line is an object such as `{"messages": […]}`. A bare array of messages has to be wrapped in one.
pub(crate) fn record_not_object(record: Value, out: &mut Findings) {
    let messages = record.items().next().is_some_and(|item| item.get("role").is_some());
    let hint = if messages {
        "wrap the messages: `{\"messages\": […]}`"
    } else {
        "write one object a line: `{\"messages\": […]}`"
    };
    out.error("record-not-object", record, format!("expected an object, found {}", record.described()), hint);
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::check;

    const RECORD: &str =
        r#"{"messages":[{"role":"user","content":"Hi there."},{"role":"assistant","content":"Hello."}]}"#;

    #[test]
    fn lines_hold_one_record_each() {
        let other = RECORD.replace("Hi", "Hey");
        check(
            format!("{RECORD} {other}\n"),
            expect![[r#"
            1:94: error[multiple-objects-on-line]: expected the end of the line after the record, found `{`
        "#]],
        );
        check(
            format!("{RECORD}}}\n{other},\n"),
            expect![[r#"
            1:93: error[multiple-objects-on-line]: expected the end of the line after the record, found `}`
            2:94: error[comma-between-lines]: expected the end of the line after the record, found `,`
        "#]],
        );
        check(
            format!("{RECORD}\n42\n[1]\n"),
            expect![[r#"
            2:1: error[record-not-object]: expected an object, found a number
            3:1: error[record-not-object]: expected an object, found an array
        "#]],
        );
    }

    #[test]
    fn an_array_of_records_is_recognised_and_looked_into() {
        let other = RECORD.replace("user", "human");
        check(
            format!("[{RECORD},{other}]\n"),
            expect![[r#"
            1:1: error[json-array-file]: expected JSONL, one object a line, found one array of 2 records
            1:116: error[unknown-role] /1/messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `human`
        "#]],
        );
        check(
            format!("[\n  {RECORD},\n  {other}\n]\n"),
            expect![[r#"
            1:1: error[json-array-file]: expected JSONL, one object a line, found one array of 2 records
            3:24: error[unknown-role] /1/messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `human`
        "#]],
        );
        check(
            r#"[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]"#,
            expect![[r#"
            1:1: error[record-not-object]: expected an object, found an array
        "#]],
        );
        check(
            format!("[{RECORD}]\n[{RECORD}]\n"),
            expect![[r#"
            1:1: error[record-not-object]: expected an object, found an array
            2:1: error[record-not-object]: expected an object, found an array
        "#]],
        );
    }

    #[test]
    fn a_pretty_printed_record_is_recognised_and_looked_into() {
        let pretty = "{\n  \"messages\": [\n    {\"role\": \"human\", \"content\": \"Hi\"},\n    {\"role\": \"assistant\", \"content\": \"b\"}\n  ]\n}\n";
        check(
            format!("{pretty}{RECORD}\n"),
            expect![[r#"
            1:1: error[pretty-printed-json]: expected a record on one line, found one that spans 6 lines
            3:14: error[unknown-role] /messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `human`
        "#]],
        );
    }

    #[test]
    fn a_list_closed_too_early_is_found_at_its_line_and_column() {
        let early = "{\n  \"messages\": [\n    { \"role\": \"user\", \"content\": \"¿Qué?\" },\n  ],\n  { \"role\": \"assistant\", \"content\": \"b\" }\n}";
        check(
            early,
            expect![[r#"
            1:1: error[pretty-printed-json]: expected a record on one line, found one that spans 6 lines
            3:43: error[trailing-comma] /messages: expected another value after `,`, found `]`
            5:3: error[invalid-json]: expected a name in double quotes, found `{`
        "#]],
        );
        let (diagnostics, ..) = crate::testing::read_all(
            early.as_bytes(),
            &crate::ReadOptions::new(crate::Method::Sft, crate::Profile::OpenAi),
        );
        let hint = &diagnostics.iter().find(|diagnostic| diagnostic.rule == "invalid-json").unwrap().hint;
        expect!["the array before it ends too early, at the `]` in line 4, column 3: move that `]` behind this value"]
            .assert_eq(hint);
    }

    #[test]
    fn a_line_break_inside_a_string_joins_its_lines() {
        let broken = RECORD.replace("there", "\nthere\n");
        check(
            format!("{broken}\n{RECORD}\n"),
            expect![[r#"
            1:43: error[unescaped-control-char] /messages/0/content: expected an escape inside a string, found a raw line break
        "#]],
        );
    }

    #[test]
    fn a_cut_line_does_not_swallow_the_next() {
        for cut in [RECORD.len() - 1, RECORD.len() - 2, 60, 45, 20] {
            let (diagnostics, examples, summary) = crate::testing::read_all(
                format!("{}\n{RECORD}\n", &RECORD[..cut]).as_bytes(),
                &crate::ReadOptions::new(crate::Method::Sft, crate::Profile::Local),
            );
            let errors: Vec<_> =
                diagnostics.iter().filter(|diagnostic| diagnostic.severity == crate::Severity::Error).collect();
            assert_eq!(
                errors.iter().map(|error| (error.rule, error.line)).collect::<Vec<_>>(),
                [("truncated-line", 1)],
                "{cut}"
            );
            assert_eq!((examples.len(), summary.examples, summary.valid), (1, 2, 1), "{cut}");
        }
    }
}
