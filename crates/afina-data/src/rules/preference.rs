//! Preference records: that there is a prompt, and two answers to it that differ.

use std::hash::Hasher;

use afina_chat::Role;
use rapidhash::fast::RapidHasher;

use crate::{
    diagnostic::excerpt,
    facts::fingerprint,
    findings::{Findings, Place},
    json::{Kind, Parser, Value},
    read::Profile,
    stats::PairShape,
    view::{Message, Turns},
};

/// What is kept of a pair, to compare it with the other pairs of the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    /// Numbers that are the same for the same prompt, the same preferred answer and the same other one.
    pub(crate) prompt: u64,
    pub(crate) preferred: u64,
    pub(crate) other: u64,
    /// Whether the preferred answer is the longer one; `None` where an answer has no text.
    pub(crate) preferred_is_longer: Option<bool>,
    pub(crate) place: Place,
}

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

/// The last of the prompt's messages.
pub(crate) fn check_prompt(prompt: &Turns, out: &mut Findings) {
    if let Some(last) = prompt.messages.last().filter(|last| last.meant == Some(Role::Assistant)) {
        dpo_prompt_ends_with_assistant(last, out);
    }
}

/// The messages of one of the two answers.
pub(crate) fn check_answer(answer: &Turns, name: &str, out: &mut Findings) {
    dpo_output_multiple(answer, name, out);
    dpo_output_role(answer, name, out);
}

/// The two answers beside each other.
pub(crate) fn check_pair(prompt: &Turns, preferred: &Turns, other: &Turns, out: &mut Findings) -> Option<Pair> {
    let pair = Pair {
        prompt: fingerprint(prompt.list),
        preferred: answer_fingerprint(preferred)?,
        other: answer_fingerprint(other)?,
        preferred_is_longer: text_bytes(preferred).zip(text_bytes(other)).map(|(preferred, other)| preferred > other),
        place: preferred.list.into(),
    };
    if pair.preferred == pair.other {
        dpo_identical_outputs(other.list, out);
        return None;
    }
    Some(pair)
}

/// A number that is the same for the same answer: its texts without the spaces around them, and its calls whatever
/// the order of their arguments. `None`: it says nothing.
fn answer_fingerprint(answer: &Turns) -> Option<u64> {
    let mut hasher = RapidHasher::default();
    let mut says = false;
    let mut write = |text: &str| {
        says |= !text.is_empty();
        hasher.write(text.as_bytes());
        hasher.write_u8(0xFF);
    };
    for message in &answer.messages {
        write(message.role.map_or("", Role::as_str));
        let texts = message.texts().chain(message.refusal.filter(|refusal| refusal.kind() == Kind::String));
        texts.for_each(|text| write(text.text().unwrap_or_default().trim()));
        let calls = message.tool_calls.into_iter().flat_map(|calls| calls.items());
        for function in calls.filter_map(|call| call.get("function")).chain(message.function_call) {
            let text = |key| function.get(key).and_then(|value: Value| value.text()).unwrap_or_default();
            write(&text("name"));
            let arguments = text("arguments");
            match Parser::default().parse(&arguments, 0).root() {
                Some(json) => write(&fingerprint(json).to_string()),
                None => write(&arguments),
            }
        }
    }
    says.then(|| hasher.finish())
}

/// Bytes of text in an answer, as written; `None` where there is none.
fn text_bytes(answer: &Turns) -> Option<usize> {
    answer.messages.iter().flat_map(Message::texts).map(|text| text.span().len()).reduce(|sum, next| sum + next)
}

/// How long the parts of a pair are.
pub(crate) fn shape(prompt: &Turns, preferred: &Turns, other: &Turns) -> PairShape {
    let characters = |turns: &Turns| -> u32 {
        let texts = turns.messages.iter().flat_map(Message::texts);
        let count = texts.map(|text| text.text().map_or(0, |text| text.chars().count())).sum::<usize>();
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    PairShape {
        prompt_messages: u32::try_from(prompt.messages.len()).unwrap_or(u32::MAX),
        prompt_characters: characters(prompt),
        preferred_characters: characters(preferred),
        other_characters: characters(other),
    }
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

/// An answer has more than one message.
///
/// OpenAI takes exactly one assistant message on each side. Azure also takes a sequence of assistant and tool messages
/// (`--profile azure`). Move what comes before the last one into the prompt, or delete it.
fn dpo_output_multiple(answer: &Turns, name: &str, out: &mut Findings) {
    let count = answer.list.items().count();
    if count > 1 && out.options.profile != Profile::Azure {
        out.error(
            "dpo-output-multiple",
            answer.list,
            format!("expected one assistant message in `{name}`, found {count} messages"),
            "keep the one message that is preferred or not; what comes before it belongs in `input`",
        );
    }
}

/// A message of an answer is not the assistant's.
///
/// Both sides are what the model may say. In a sequence that Azure takes, tools may answer the assistant.
fn dpo_output_role(answer: &Turns, name: &str, out: &mut Findings) {
    let mut called = false;
    for message in &answer.messages {
        called |= message.meant == Some(Role::Assistant);
        // An unknown role has a rule of its own; so has a list that is too long.
        let Some(role) = message.role.filter(|role| *role != Role::Assistant) else { continue };
        if !(role == Role::Tool && called) {
            out.error(
                "dpo-output-role",
                message.role_value.unwrap_or(message.value),
                format!("expected role `assistant` in `{name}`, found `{}`", excerpt(role.as_str())),
                "write the answer as `{\"role\": \"assistant\", \"content\": …}`",
            );
        }
    }
}

/// The two answers are the same.
///
/// Spaces around a text do not count. Such a pair teaches nothing: its gradient is zero. Delete the line, or give it
/// another answer.
fn dpo_identical_outputs(other: Value, out: &mut Findings) {
    out.warning(
        "dpo-identical-outputs",
        other,
        "expected two different answers, found the preferred one again",
        "delete the line, or give it another answer",
    );
}

/// The prompt ends with an assistant message.
///
/// The two answers are what the assistant says next: a prompt ends with what it answers, the user's message or a
/// tool's. Often the preferred answer was left in the prompt.
fn dpo_prompt_ends_with_assistant(last: &Message, out: &mut Findings) {
    out.warning(
        "dpo-prompt-ends-with-assistant",
        last.value,
        "expected a user message at the end of the prompt, found an assistant message",
        "take it out of `input`: the two answers stand beside it",
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

    const INPUT: &str = r#""input":{"messages":[{"role":"user","content":"Hi."}]}"#;

    /// A record for each pair of answers.
    #[track_caller]
    fn check_answers(profile: Profile, answers: &[(&str, &str)], expect: expect_test::Expect) {
        let record = |(yes, no): &(&str, &str)| {
            format!(r#"{{{INPUT},"preferred_output":[{yes}],"non_preferred_output":[{no}]}}"#)
        };
        let records: Vec<_> = answers.iter().map(record).collect();
        check_with(&ReadOptions::new(Method::Dpo, profile), records.join("\n"), expect);
    }

    const A: &str = r#"{"role":"assistant","content":"a"}"#;
    const B: &str = r#"{"role":"assistant","content":"b"}"#;
    const CALL: &str = r#"{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"x\":1,\"y\":2}"}}]},{"role":"tool","tool_call_id":"c","content":"1"},{"role":"assistant","content":"c"}"#;

    #[test]
    fn an_answer_is_one_message_of_the_assistant() {
        let user = r#"{"role":"user","content":"a"}"#;
        let tool = r#"{"role":"tool","tool_call_id":"c","content":"a"}"#;
        let two = [A, B].join(",");
        let answers = [(A, B), (two.as_str(), B), (A, user), (tool, B), (r#"{"role":"bot","content":"x"}"#, B)];
        check_answers(
            Profile::OpenAi,
            &answers,
            expect![[r#"
            2:76: error[dpo-output-multiple] /preferred_output: expected one assistant message in `preferred_output`, found 2 messages
            3:145: error[dpo-output-role] /non_preferred_output/0/role: expected role `assistant` in `non_preferred_output`, found `user`
            4:77: warning[tool-message-without-tools] /preferred_output/0: expected `tools` that declare what answers here, found none
            4:85: error[dpo-output-role] /preferred_output/0/role: expected role `assistant` in `preferred_output`, found `tool`
            5:85: error[unknown-role] /preferred_output/0/role: expected role `system`, `user`, `assistant` or `tool`, found `bot`
        "#]],
        );
    }

    #[test]
    fn azure_takes_a_sequence_with_tools() {
        check_answers(
            Profile::Azure,
            &[(CALL, B)],
            expect![[r#"
            1:1: warning[file-bom]: expected a byte order mark (EF BB BF), found none
            1:158: warning[tool-call-undeclared] /preferred_output/0/tool_calls/0/function/name: expected a function that `tools` declares, found `f`
            1:198: warning[tool-message-without-tools] /preferred_output/1: expected `tools` that declare what answers here, found none
        "#]],
        );
        check_answers(
            Profile::OpenAi,
            &[(CALL, B)],
            expect![[r#"
            1:76: error[dpo-output-multiple] /preferred_output: expected one assistant message in `preferred_output`, found 3 messages
            1:158: warning[tool-call-undeclared] /preferred_output/0/tool_calls/0/function/name: expected a function that `tools` declares, found `f`
            1:198: warning[tool-message-without-tools] /preferred_output/1: expected `tools` that declare what answers here, found none
        "#]],
        );
    }

    #[test]
    fn the_two_answers_differ() {
        let call = |arguments: &str| {
            format!(
                r#"{{"role":"assistant","tool_calls":[{{"id":"c","type":"function","function":{{"name":"f","arguments":"{arguments}"}}}}]}}"#
            )
        };
        let (one, same, another) =
            (call(r#"{\"x\":1,\"y\":2}"#), call(r#"{\"y\": 2, \"x\": 1}"#), call(r#"{\"x\":2,\"y\":1}"#));
        check_answers(
            Profile::OpenAi,
            &[
                (A, A),
                (
                    r#"{"role":"assistant","content":"x "}"#,
                    r#"{"content":[{"type":"text","text":"\u0078"}],"role":"assistant"}"#,
                ),
                (r#"{"role":"assistant","content":"x y"}"#, r#"{"role":"assistant","content":"x  y"}"#),
                (r#"{"role":"assistant","content":"x"}"#, r#"{"role":"assistant","content":"X"}"#),
                (&one, &same),
                (&one, &another),
                (&one, A),
                (r#"{"role":"assistant","refusal":"x"}"#, r#"{"role":"assistant","refusal":"y"}"#),
            ],
            expect![[r#"
                1:136: warning[dpo-identical-outputs] /non_preferred_output: expected two different answers, found the preferred one again
                2:109: warning[assistant-edge-whitespace] /preferred_output/0/content: expected text without whitespace around it, found text that ends with it
                2:137: warning[dpo-identical-outputs] /non_preferred_output: expected two different answers, found the preferred one again
                5:158: warning[tool-call-undeclared] /preferred_output/0/tool_calls/0/function/name: expected a function that `tools` declares, found `f`
                5:222: warning[dpo-identical-outputs] /non_preferred_output: expected two different answers, found the preferred one again
                6:158: warning[tool-call-undeclared] /preferred_output/0/tool_calls/0/function/name: expected a function that `tools` declares, found `f`
                7:158: warning[tool-call-undeclared] /preferred_output/0/tool_calls/0/function/name: expected a function that `tools` declares, found `f`
            "#]],
        );
    }

    #[test]
    fn a_prompt_ends_with_what_is_answered() {
        let record = |messages: &str| {
            format!(
                r#"{{"input":{{"messages":[{{"role":"user","content":"Hi."}}{messages}]}},"preferred_output":[{A}],"non_preferred_output":[{B}]}}"#
            )
        };
        let records = [
            record(""),
            record(r#",{"role":"assistant","content":"x"}"#),
            record(r#",{"role":"assistant","content":"x"},{"role":"user","content":"y"}"#),
        ];
        check_with(
            &ReadOptions::new(Method::Dpo, Profile::OpenAi),
            records.join("\n"),
            expect![[r#"
            2:55: warning[dpo-prompt-ends-with-assistant] /input/messages/1: expected a user message at the end of the prompt, found an assistant message
        "#]],
        );
    }

    #[test]
    fn an_answer_to_be_avoided_may_call_wrongly() {
        let tools =
            r#""tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{}}}}]"#;
        let call = |name: &str, arguments: &str| {
            format!(
                r#"[{{"role":"assistant","tool_calls":[{{"id":"c","type":"function","function":{{"name":"{name}","arguments":"{arguments}"}}}}]}}]"#
            )
        };
        let record = |yes: &str, no: &str| {
            format!(
                r#"{{"input":{{"messages":[{{"role":"user","content":"Hi."}}],{tools}}},"preferred_output":{yes},"non_preferred_output":{no}}}"#
            )
        };
        let (right, wrong) = (call("f", "{}"), [call("g", "{}"), call("f", "x"), call("f", r#"{\"a\":1}"#)]);
        let records = wrong.iter().flat_map(|wrong| [record(&right, wrong), record(wrong, &right)]);
        check_with(
            &ReadOptions::new(Method::Dpo, Profile::OpenAi),
            records.collect::<Vec<_>>().join("\n"),
            expect![[r#"
                2:177: warning[dpo-contradictory-pair] /preferred_output: expected what line 1 prefers for this prompt, found the opposite
                2:259: warning[tool-call-undeclared] /preferred_output/0/tool_calls/0/function/name: expected a function that `tools` declares, found `g`
                4:177: warning[dpo-contradictory-pair] /preferred_output: expected what line 3 prefers for this prompt, found the opposite
                4:276: warning[tool-arguments-invalid-json] /preferred_output/0/tool_calls/0/function/arguments: expected arguments as JSON, found `x`
                6:177: warning[dpo-contradictory-pair] /preferred_output: expected what line 5 prefers for this prompt, found the opposite
                6:283: warning[tool-arguments-schema-mismatch] /preferred_output/0/tool_calls/0/function/arguments: found `a`, which the function does not declare
            "#]],
        );
    }
}
