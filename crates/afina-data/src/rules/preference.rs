//! Preference records: that there is a prompt, and two answers to it.

use crate::{
    findings::Findings,
    json::{Kind, Value},
};

/// The messages of a preference record's prompt.
pub(crate) fn check_input<'t>(record: Value<'t>, out: &mut Findings) -> Option<Value<'t>> {
    let Some(input) = record.get("input") else {
        dpo_missing_input(record, out);
        return None;
    };
    let messages = input.get("messages");
    if messages.is_none() {
        dpo_input_invalid(input, out);
    }
    messages
}

/// One of the two answers: a list with its message.
pub(crate) fn check_output<'t>(record: Value<'t>, name: &str, old_name: &str, out: &mut Findings) -> Option<Value<'t>> {
    let output = match record.get(name) {
        Some(output) => output,
        None => {
            let Some(member) = record.members().find(|member| member.key.is(old_name)) else {
                dpo_missing_output(record, name, out);
                return None;
            };
            dpo_completion_key_names(member.key, name, old_name, out);
            member.value
        }
    };
    if output.kind() != Kind::Array {
        dpo_output_not_array(output, name, out);
        return None;
    }
    if output.items().next().is_none() {
        dpo_output_empty(output, name, out);
        return None;
    }
    Some(output)
}

/// A preference record has no `input`.
///
/// ```json
/// {"input": {"messages": […]}, "preferred_output": [{…}], "non_preferred_output": [{…}]}
/// ```
fn dpo_missing_input(record: Value, out: &mut Findings) {
    let hint = if record.get("prompt").is_some() {
        "write `prompt` as `\"input\": {\"messages\": […]}`"
    } else {
        "add `\"input\": {\"messages\": […]}`"
    };
    out.error("dpo-missing-input", record, "expected a key `input`, found none", hint);
}

/// `input` is not an object with `messages`.
///
/// It is `{"messages": […], "tools": […]}`, not the list of messages itself and not a text.
fn dpo_input_invalid(input: Value, out: &mut Findings) {
    let found = if input.kind() == Kind::Object { "an object without it" } else { input.described() };
    out.error(
        "dpo-input-invalid",
        input,
        format!("expected `input` to be an object with `messages`, found {found}"),
        "write `\"input\": {\"messages\": […]}`",
    );
}

/// One of the two answers is missing.
fn dpo_missing_output(record: Value, name: &str, out: &mut Findings) {
    out.error(
        "dpo-missing-output",
        record,
        format!("expected a key `{name}`, found none"),
        format!("add `\"{name}\": [{{\"role\": \"assistant\", \"content\": …}}]`"),
    );
}

/// The answers have the names of the format of early 2025.
///
/// `preferred_completion` is `preferred_output` now, `non_preferred_completion` is `non_preferred_output`. Rename them.
fn dpo_completion_key_names(key: Value, name: &str, old_name: &str, out: &mut Findings) {
    out.warning(
        "dpo-completion-key-names",
        key,
        format!("expected `{name}`, found `{old_name}`, its old name"),
        format!("rename it to `{name}`"),
    );
}

/// An answer is not a list.
///
/// Put the message in one, even when it is alone.
fn dpo_output_not_array(output: Value, name: &str, out: &mut Findings) {
    out.error(
        "dpo-output-not-array",
        output,
        format!("expected `{name}` to be a list of messages, found {}", output.described()),
        "put the message in a list: `[{\"role\": \"assistant\", \"content\": …}]`",
    );
}

/// An answer is an empty list.
///
/// A pair has an answer on both sides.
fn dpo_output_empty(output: Value, name: &str, out: &mut Findings) {
    out.error(
        "dpo-output-empty",
        output,
        format!("expected one assistant message in `{name}`, found none"),
        "add the answer, or delete the line",
    );
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::{Method, Profile, ReadOptions, testing::check_with};

    #[test]
    fn a_pair_has_a_prompt_and_two_answers() {
        let input = r#""input":{"messages":[{"role":"user","content":"Hi."}],"tools":[],"parallel_tool_calls":true}"#;
        let yes = r#""preferred_output":[{"role":"assistant","content":"Hello."}]"#;
        let no = r#""non_preferred_output":[{"role":"assistant","content":"What?"}]"#;
        let records = [
            format!("{{{input},{yes},{no}}}"),
            format!("{{{yes},{no}}}"),
            format!(r#"{{"input":[{{"role":"user","content":"a"}}],{yes},{no}}}"#),
            format!("{{{input},{yes}}}"),
            format!(r#"{{{input},{yes},"non_preferred_output":"no"}}"#),
            format!(r#"{{{input},{yes},"non_preferred_output":[]}}"#),
            format!(r#"{{{input},{yes},"non_preferred_completion":[{{"role":"assistant","content":null}}]}}"#),
            format!(r#"{{"input":{{"messages":[]}},{yes},{no},"id":1}}"#),
        ];
        check_with(
            &ReadOptions::new(Method::Dpo, Profile::OpenAi),
            records.join("\n"),
            expect![[r#"
                2:1: error[dpo-missing-input]: expected a key `input`, found none
                3:10: error[dpo-input-invalid] /input: expected `input` to be an object with `messages`, found an array
                4:1: error[dpo-missing-output]: expected a key `non_preferred_output`, found none
                5:179: error[dpo-output-not-array] /non_preferred_output: expected `non_preferred_output` to be a list of messages, found a string
                6:179: error[dpo-output-empty] /non_preferred_output: expected one assistant message in `non_preferred_output`, found none
                7:156: warning[dpo-completion-key-names] /non_preferred_completion: expected `non_preferred_output`, found `non_preferred_completion`, its old name
                7:214: error[null-content] /non_preferred_completion/0/content: expected `content` of the assistant message to be a string, found null
                8:22: error[messages-empty] /input/messages: expected at least one message, found an empty list
                8:151: error[unknown-top-level-key] /id: expected only `input`, `preferred_output`, `non_preferred_output`, found `id`
            "#]],
        );
    }
}
