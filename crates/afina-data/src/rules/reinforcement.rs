//! Reinforcement records: a prompt, and what the grader needs to score the answer.

use afina_chat::Role;

use crate::{
    diagnostic::excerpt,
    findings::Findings,
    grader::ItemField,
    json::{Kind, Value},
    view::{Message, Turns},
};

/// The rules of a record whose messages could be read.
pub(crate) fn check_record(record: Value, turns: &Turns, out: &mut Findings) {
    if let Some(last) = turns.messages.last().filter(|_| turns.roles_are_known()) {
        rft_last_not_user(last, out);
    }
    for message in &turns.messages {
        rft_system_role(message, out);
    }
    match &out.options.grader {
        Some(grader) => grader.fields().iter().for_each(|field| rft_template_field_missing(record, field, out)),
        None => rft_no_reference(record, out),
    }
}

/// The names and values of a record that are for the grader.
pub(crate) fn references(record: Value) -> impl Iterator<Item = (Value, Value)> {
    record
        .members()
        .map(|member| (member.key, member.value))
        .filter(|(key, _)| !["messages", "tools", "parallel_tool_calls"].iter().any(|name| key.is(name)))
}

/// The last message is not the user's.
///
/// The model answers it, and the grader scores the answer. Azure asks for a user message at the end; an assistant
/// message there would be the answer itself. Take it out, and keep it as a field that the grader compares with.
///
/// ```json
/// {"messages": [{"role": "user", "content": "2+2?"}], "answer": "4"}
/// ```
fn rft_last_not_user(last: &Message, out: &mut Findings) {
    if last.meant != Some(Role::User) {
        let hint = match last.meant {
            Some(Role::Assistant) => "move the answer to a field of its own, as `\"answer\": …`, for the grader",
            _ => "end with what the user says",
        };
        out.error(
            "rft-last-not-user",
            last.value,
            format!("expected a user message at the end, found {}", last.described()),
            hint,
        );
    }
}

/// A message has role `system`.
///
/// The format for reinforcement fine-tuning has `developer` in its place: the models it is for take their instructions
/// so. Rename the role.
fn rft_system_role(message: &Message, out: &mut Findings) {
    if message.role == Some(Role::System)
        && let Some(role) = message.role_value
    {
        out.warning(
            "rft-system-role",
            role,
            "expected role `developer`, found `system`",
            "write `\"role\": \"developer\"`",
        );
    }
}

/// The grader reads a field that a record lacks.
///
/// A grader's template names fields of the line as `{{item.answer}}`, also inside each other: `{{item.answer.unit}}`.
/// A line without the field cannot be scored, and the job fails. Checked where the grader is given (`--grader FILE`).
/// Add the field to the record, or mend the name in the grader. A field that is null or an empty text is a warning: the
/// grader has nothing to compare with.
fn rft_template_field_missing(record: Value, field: &ItemField, out: &mut Findings) {
    let mut value = record;
    for name in &field.path {
        let next = value.get(name).or_else(|| value.items().nth(name.parse().ok()?));
        let Some(next) = next else {
            let path = field.path.join(".");
            let found = match value.kind() {
                Kind::Object => "none".to_owned(),
                _ => value.described().to_owned(),
            };
            out.error(
                "rft-template-field-missing",
                value,
                format!(
                    "expected a field `{}`, as the grader reads `item.{}`, found {found}",
                    excerpt(name),
                    excerpt(&path)
                ),
                "add the field, or mend its name in the grader",
            );
            return;
        };
        value = next;
    }
    let empty = match value.kind() {
        Kind::Null => "null",
        Kind::String if value.text().is_some_and(|text| text.trim().is_empty()) => "an empty text",
        _ => return,
    };
    out.warning(
        "rft-template-field-missing",
        value,
        format!("expected a value that the grader reads as `item.{}`, found {empty}", excerpt(&field.path.join("."))),
        "fill it in: the grader compares with nothing here",
    );
}

/// A record has nothing for the grader to compare with.
///
/// Besides `messages` and `tools` a line has fields of its own, which the grader reads as `{{item.name}}`: the right
/// answer, a list of what it must mention. Graders that are models may need none; give yours (`--grader FILE`), and
/// what it reads is checked in place of this.
fn rft_no_reference(record: Value, out: &mut Findings) {
    if references(record).next().is_none() {
        out.warning(
            "rft-no-reference",
            record,
            "expected a field for the grader beside `messages`, found none",
            "add what the answer is compared with, as `\"answer\": …`",
        );
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::{Grader, Method, Profile, ReadOptions, testing::check_with};

    #[track_caller]
    fn check(grader: Option<&str>, records: &[&str], expect: Expect) {
        let mut options = ReadOptions::new(Method::Rft, Profile::OpenAi);
        options.grader = grader.map(|text| Grader::from_json(text).unwrap());
        check_with(&options, records.join("\n"), expect);
    }

    #[test]
    fn a_prompt_ends_with_the_user() {
        check(
            None,
            &[
                r#"{"messages":[{"role":"user","content":"2+2?"}],"answer":4}"#,
                r#"{"messages":[{"role":"developer","content":"Sum."},{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}],"answer":4}"#,
                r#"{"messages":[{"role":"user","content":"2+2?"},{"role":"assistant","content":"4"}],"answer":4}"#,
                r#"{"messages":[{"role":"user","content":"2+2?"},{"role":"bot","content":"4"}],"answer":4}"#,
                r#"{"messages":[{"role":"user","content":"2+2?"},{"role":"boss","content":"4"}],"answer":4}"#,
            ],
            expect![[r#"
                3:47: error[rft-last-not-user] /messages/1: expected a user message at the end, found an assistant message
                4:47: error[rft-last-not-user] /messages/1: expected a user message at the end, found an assistant message
                4:55: error[unknown-role] /messages/1/role: expected role `system`, `user`, `assistant` or `tool`, found `bot`
                5:55: error[unknown-role] /messages/1/role: expected role `system`, `user`, `assistant` or `tool`, found `boss`
            "#]],
        );
    }

    #[test]
    fn instructions_are_the_developer_s() {
        check(
            None,
            &[r#"{"messages":[{"role":"system","content":"Sum."},{"role":"user","content":"2+2?"}],"answer":4}"#],
            expect![[r#"
                1:22: warning[rft-system-role] /messages/0/role: expected role `developer`, found `system`
            "#]],
        );
    }

    #[test]
    fn there_is_something_to_compare_with() {
        check(
            None,
            &[
                r#"{"messages":[{"role":"user","content":"a"}]}"#,
                r#"{"messages":[{"role":"user","content":"b"}],"tools":[],"parallel_tool_calls":true}"#,
                r#"{"messages":[{"role":"user","content":"c"}],"rubric":null}"#,
            ],
            expect![[r#"
                1:1: warning[rft-no-reference]: expected a field for the grader beside `messages`, found none
                2:1: warning[rft-no-reference]: expected a field for the grader beside `messages`, found none
            "#]],
        );
        // A model that grades without any field.
        let grader = r#"{"type":"score_model","input":[{"role":"user","content":"{{sample.output_text}}"}]}"#;
        check(Some(grader), &[r#"{"messages":[{"role":"user","content":"a"}]}"#], expect![[""]]);
    }

    #[test]
    fn the_grader_finds_what_it_reads() {
        let grader = r#"{"type":"multi","graders":{"a":{"type":"string_check","reference":"{{item.answer.value}}"},"b":{"type":"string_check","reference":"{{ item.tags[1] }}"}}}"#;
        let record =
            |fields: &str| format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]{fields}}}"#, fields.len());
        let records = [
            record(r#","answer":{"value":null},"tags":["a"," "]"#),
            record(r#","answer":{"Value":1},"tags":["a"]"#),
            record(r#","answer":"{\"value\":1}","tags":{"1":0}"#),
            record(""),
        ];
        check(
            Some(grader),
            &records.each_ref().map(String::as_str),
            expect![[r#"
                1:64: warning[rft-template-field-missing] /answer/value: expected a value that the grader reads as `item.answer.value`, found null
                1:82: warning[rft-template-field-missing] /tags/1: expected a value that the grader reads as `item.tags.1`, found an empty text
                2:55: error[rft-template-field-missing] /answer: expected a field `value`, as the grader reads `item.answer.value`, found none
                2:74: error[rft-template-field-missing] /tags: expected a field `1`, as the grader reads `item.tags.1`, found an array
                3:55: error[rft-template-field-missing] /answer: expected a field `value`, as the grader reads `item.answer.value`, found a string
                3:55: warning[rft-reference-inconsistent] /answer: expected an object, as in line 1, found a string
                3:78: warning[rft-reference-inconsistent] /tags: expected an array, as in line 1, found an object
                4:1: error[rft-template-field-missing]: expected a field `answer`, as the grader reads `item.answer.value`, found none
                4:1: error[rft-template-field-missing]: expected a field `tags`, as the grader reads `item.tags.1`, found none
            "#]],
        );
    }
}
