//! Which format a record is in: OpenAI's, or one of those that people bring from elsewhere.

use super::{
    detect::{Format, reference},
    typo,
};
use crate::{
    diagnostic::{Severity, excerpt},
    findings::{Findings, Place},
    json::Value,
    read::{Method, Profile},
};

/// The format rules of a record that is in `format`. True: its messages can be looked at under this method.
pub(crate) fn check_format(record: Value, format: Option<Format>, out: &mut Findings) -> bool {
    let method = out.options.method;
    match (format, method) {
        (Some(Format::Chat), Method::Sft) if reference(record).is_some() => method_file_mismatch(record, out),
        (Some(Format::Chat), Method::Sft | Method::Rft) => {
            let anthropic = anthropic_format(record, out);
            unknown_top_level_key(record, known_keys(method), anthropic, out);
            return true;
        }
        (Some(Format::Preference), Method::Dpo) => {
            unknown_top_level_key(record, known_keys(method), false, out);
            return true;
        }
        (Some(Format::Chat | Format::Preference), _) => method_file_mismatch(record, out),
        (Some(Format::PromptCompletion), _) => prompt_completion_format(record, out),
        (Some(Format::ShareGpt), _) => sharegpt_format(record, out),
        (Some(Format::Alpaca), _) => alpaca_format(record, out),
        (Some(Format::Text), _) => text_only_format(record, out),
        (Some(Format::Trl), _) => trl_preference_format(record, out),
        (Some(Format::Batch), _) => batch_request_format(record, out),
        (Some(Format::Responses), _) => responses_format(record, out),
        (Some(Format::Gemini), _) => gemini_format(record, out),
        // Which keys a preference record lacks is for its own rules to say.
        (None, Method::Dpo) => return true,
        (None, Method::Sft | Method::Rft) => missing_messages(record, out),
    }
    false
}

/// The keys that a record may have.
pub(crate) fn known_keys(method: Method) -> &'static [&'static str] {
    match method {
        Method::Sft | Method::Rft => &["messages", "tools", "parallel_tool_calls", "functions"],
        Method::Dpo => {
            &["input", "preferred_output", "non_preferred_output", "preferred_completion", "non_preferred_completion"]
        }
    }
}

/// A record has no `messages`, and is in no other known format.
///
/// Each line of a chat file is an object with a list of messages:
///
/// ```json
/// {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
/// ```
///
/// Names are case-sensitive: `Messages` is another key.
fn missing_messages(record: Value, out: &mut Findings) {
    let similar = record.members().find(|member| {
        member.key.text().is_some_and(|name| typo::meant_key(&name, member.value, &["messages"]).is_some())
    });
    match similar {
        Some(member) => {
            let name = member.key.text().unwrap_or_default();
            let hint = format!("rename `{}` to `messages`: names are exact, capitals too", excerpt(&name));
            out.error(
                "missing-messages",
                record,
                format!("expected a key `messages`, found `{}`", excerpt(&name)),
                hint,
            );
        }
        None => {
            let found = match record.members().next().and_then(|member| member.key.text()) {
                None => "an empty object".to_owned(),
                Some(first) => format!("none; the first key is `{}`", excerpt(&first)),
            };
            out.error(
                "missing-messages",
                record,
                format!("expected a key `messages`, found {found}"),
                "a record is `{\"messages\": [{\"role\": …, \"content\": …}, …]}`",
            );
        }
    }
}

/// A record is a prompt and its completion.
///
/// That is the format of the old completion models (`babbage-002`, `davinci-002`). Chat models need messages: the
/// prompt is the user's, the completion the assistant's.
fn prompt_completion_format(record: Value, out: &mut Findings) {
    format_error(
        "prompt-completion-format",
        Format::PromptCompletion,
        record,
        "run `afina convert FILE --to OUT`: `prompt` becomes a user message, `completion` an assistant message",
        out,
    );
}

/// A record is in the ShareGPT format.
///
/// `conversations` becomes `messages`, `from` becomes `role` (`human` → `user`, `gpt` → `assistant`), `value` becomes
/// `content`.
fn sharegpt_format(record: Value, out: &mut Findings) {
    format_error(
        "sharegpt-format",
        Format::ShareGpt,
        record,
        "run `afina convert FILE --to OUT`: it renames the keys and the roles",
        out,
    );
}

/// A record is in the Alpaca format.
///
/// `instruction` and `input` together are the user's message, `output` is the assistant's.
fn alpaca_format(record: Value, out: &mut Findings) {
    format_error(
        "alpaca-format",
        Format::Alpaca,
        record,
        "run `afina convert FILE --to OUT`: `instruction` and `input` become a user message, `output` an assistant message",
        out,
    );
}

/// A record is one text.
///
/// `{"text": …}` is for pretraining. Chat models need messages; a text that was rendered with a chat template has to
/// be taken apart again, or exported before it was rendered.
fn text_only_format(record: Value, out: &mut Findings) {
    format_error(
        "text-only-format",
        Format::Text,
        record,
        "run `afina convert FILE --to OUT` if a chat template rendered it; other text has no turns to learn",
        out,
    );
}

/// A record is in TRL's preference format.
///
/// `prompt` becomes `input.messages`, `chosen` becomes `preferred_output` and `rejected` becomes
/// `non_preferred_output`, each a list of one assistant message; the method is `dpo`.
fn trl_preference_format(record: Value, out: &mut Findings) {
    format_error(
        "trl-preference-format",
        Format::Trl,
        record,
        "run `afina convert FILE --to OUT`, and use `--method dpo` on what it writes",
        out,
    );
}

/// A record is a request of the Batch API, or its answer.
///
/// Take `body.messages`, and add the answer as an assistant message.
fn batch_request_format(record: Value, out: &mut Findings) {
    format_error(
        "batch-request-format",
        Format::Batch,
        record,
        "run `afina convert FILE --to OUT`: it takes `body.messages`, and the answer where the line has one",
        out,
    );
}

/// A record is in the format of the Responses API.
///
/// `input` becomes `messages`, and parts of type `input_text` and `output_text` become parts of type `text` (or a
/// plain string), `input_image` becomes `image_url`.
fn responses_format(record: Value, out: &mut Findings) {
    format_error(
        "responses-format",
        Format::Responses,
        record,
        "run `afina convert FILE --to OUT`: it makes messages of the items, and their parts `text`",
        out,
    );
}

/// A record is in Gemini's format.
///
/// `contents` becomes `messages`, role `model` becomes `assistant`, and the `parts` become `content`.
fn gemini_format(record: Value, out: &mut Findings) {
    format_error(
        "gemini-format",
        Format::Gemini,
        record,
        "run `afina convert FILE --to OUT`: it makes messages of `contents`, and `model` the assistant",
        out,
    );
}

fn format_error(rule: &'static str, format: Format, record: Value, hint: &str, out: &mut Findings) {
    let wanted = match out.options.method {
        Method::Sft | Method::Rft => "`messages`",
        Method::Dpo => "`input`, `preferred_output` and `non_preferred_output`",
    };
    out.error(rule, record, format!("expected {wanted}, found {}", format.name()), hint);
}

/// A record is in Anthropic's format.
///
/// A top-level `system` beside the messages, or content blocks of type `tool_use` and `tool_result`. Make the system
/// prompt the first message; make `tool_use` a `tool_calls` entry, and `tool_result` a message with role `tool`.
fn anthropic_format(record: Value, out: &mut Findings) -> bool {
    let system = record.members().find(|member| member.key.is("system"));
    if let Some(member) = system {
        out.error(
            "anthropic-format",
            member.key,
            "expected the system prompt as a message, found a key `system` beside `messages`",
            "make it the first message, as `afina convert FILE --to OUT` does",
        );
    }
    let blocks = record.get("messages").into_iter().flat_map(|list| list.items());
    let blocks = blocks.filter_map(|message| message.get("content")).flat_map(|content| content.items());
    for block in blocks {
        if is_anthropic_block(block) {
            let kind = block.get("type").and_then(|kind| kind.text()).unwrap_or_default();
            out.error(
                "anthropic-format",
                block,
                format!("expected a part of type `text` or `image_url`, found Anthropic's `{kind}`"),
                "write tool_use as `tool_calls` and tool_result as a tool message, as `afina convert FILE --to OUT` does",
            );
        }
    }
    system.is_some()
}

/// A content block that only Anthropic's format has.
pub(crate) fn is_anthropic_block(part: Value) -> bool {
    part.get("type").is_some_and(|kind| kind.is("tool_use") || kind.is("tool_result"))
}

/// Records of different formats stand in one file.
///
/// A file has one format. Usually two exports were joined. Split the file, or convert one part of it. Said once, at
/// the first record that differs from the first one whose format is known.
pub(crate) fn mixed_formats(record: Place, format: Format, first: (Format, usize), out: &mut Findings) {
    let message = format!("expected {}, as in line {}, found {}", first.0.name(), first.1, format.name());
    out.error("mixed-formats", record, message, "split the file, or convert the records that differ");
}

/// The file is for another method.
///
/// Supervised and reinforcement fine-tuning take `messages`; preference fine-tuning takes `input`, `preferred_output`
/// and `non_preferred_output`. Choose the method that fits the file, or the right file.
///
/// A chat record that ends with the user and has a key such as `answer` beside `messages` is one for reinforcement.
fn method_file_mismatch(record: Value, out: &mut Findings) {
    let reference = reference(record);
    let (found, hint) = match (out.options.method, reference) {
        (Method::Dpo, _) => (
            "a chat record (`messages`)".to_owned(),
            "use `--method sft`, or write `input`, `preferred_output` and `non_preferred_output`",
        ),
        (Method::Sft, Some(name)) => (
            format!("a reinforcement record: a prompt, and `{}` for a grader", excerpt(&name)),
            "use `--method rft`, or add the assistant's message",
        ),
        _ => ("a preference record".to_owned(), "use `--method dpo`, or write `messages`"),
    };
    let expected = match out.options.method {
        Method::Dpo => "a preference record for method dpo",
        Method::Sft => "a chat record for method sft",
        Method::Rft => "a chat record for method rft",
    };
    out.error("method-file-mismatch", record, format!("expected {expected}, found {found}"), hint);
}

/// A record has a key that the format does not know.
///
/// OpenAI refuses the file (`Example 1 contains an extra "weight"`). Supervised: `messages`, `tools`,
/// `parallel_tool_calls`, `functions`. Preference: `input`, `preferred_output`, `non_preferred_output`. In
/// reinforcement files other keys are for the grader. With `--profile local` it is a warning: the key is ignored.
///
/// Rename it where it is a misspelling of a key that is missing. Else drop it; ids and other notes belong outside the
/// file.
fn unknown_top_level_key(record: Value, known: &[&str], anthropic: bool, out: &mut Findings) {
    if out.options.method == Method::Rft {
        return;
    }
    // The old names of a preference record are known, but not to be recommended.
    let shown: Vec<&str> = known.iter().copied().filter(|name| !name.ends_with("_completion")).collect();
    let missing = typo::missing(record, &shown);
    for member in record.members() {
        let Some(name) = member.key.text() else { continue };
        if known.contains(&name.as_ref()) || (anthropic && name == "system") {
            continue;
        }
        let meant = typo::meant_key(&name, member.value, &missing);
        let rename = meant.map(|meant| format!("rename `{}` to `{meant}`", excerpt(&name)));
        let hint = match name.as_ref() {
            _ if let Some(rename) = &rename => rename,
            "weight" => "a weight belongs to an assistant message: 0 or 1",
            "model" | "temperature" | "top_p" | "max_tokens" | "stream" => {
                "drop it: a logged request has settings that training does not take"
            }
            _ => "drop it, or keep it in a file beside this one",
        };
        let severity = unless_local(out);
        out.add(
            severity,
            "unknown-top-level-key",
            member.key,
            format!("expected only {}, found `{}`", list(&shown), excerpt(&name)),
            hint,
        );
    }
}

/// Locally a key that nobody reads does no harm.
pub(crate) fn unless_local(out: &Findings) -> Severity {
    if out.options.profile == Profile::Local { Severity::Warning } else { Severity::Error }
}

/// `` `a`, `b`, `c` ``
pub(crate) fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::{
        Method, Profile, ReadOptions,
        testing::{check, check_with},
    };

    #[test]
    fn formats_of_others_are_named() {
        for (record, expect) in [
            (
                r#"{"Messages":[]}"#,
                expect![[r#"
                1:1: error[missing-messages]: expected a key `messages`, found `Messages`
            "#]],
            ),
            (
                r#"{}"#,
                expect![[r#"
                1:1: error[missing-messages]: expected a key `messages`, found an empty object
            "#]],
            ),
            (
                r#"{"prompt":"a","completion":"b"}"#,
                expect![[r#"
                1:1: error[prompt-completion-format]: expected `messages`, found the prompt/completion format
            "#]],
            ),
            (
                r#"{"conversations":[{"from":"human","value":"Hi"},{"from":"gpt","value":"Hello"}]}"#,
                expect![[r#"
                1:1: error[sharegpt-format]: expected `messages`, found the ShareGPT format (`conversations`)
            "#]],
            ),
            (
                r#"{"instruction":"Add","input":"2+2","output":"4"}"#,
                expect![[r#"
                1:1: error[alpaca-format]: expected `messages`, found the Alpaca format (`instruction`, `output`)
            "#]],
            ),
            (
                r#"{"text":"<s>hello</s>"}"#,
                expect![[r#"
                1:1: error[text-only-format]: expected `messages`, found the text-only format (`text`)
            "#]],
            ),
            (
                r#"{"prompt":"Hi","chosen":"Hello!","rejected":"what"}"#,
                expect![[r#"
                1:1: error[trl-preference-format]: expected `messages`, found TRL's preference format (`chosen`, `rejected`)
            "#]],
            ),
            (
                r#"{"custom_id":"r1","method":"POST","url":"/v1/chat/completions","body":{"messages":[]}}"#,
                expect![[r#"
                    1:1: error[batch-request-format]: expected `messages`, found the Batch API's format (`custom_id`, `body`)
                "#]],
            ),
            (
                r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"a"}]}]}"#,
                expect![[r#"
                1:1: error[responses-format]: expected `messages`, found the Responses API's format (`input`)
            "#]],
            ),
            (
                r#"{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}"#,
                expect![[r#"
                1:1: error[gemini-format]: expected `messages`, found Gemini's format (`contents`)
            "#]],
            ),
            (
                r#"{"input":{"messages":[]},"preferred_output":[]}"#,
                expect![[r#"
                1:1: error[method-file-mismatch]: expected a chat record for method sft, found a preference record
            "#]],
            ),
        ] {
            check(record, expect);
        }
    }

    #[test]
    fn anthropic_s_system_key_and_blocks_are_named() {
        check(
            r#"{"system":"Be kind.","messages":[{"role":"user","content":[{"type":"tool_result","content":"a"}]},{"role":"assistant","content":"b"}]}"#,
            expect![[r#"
                1:2: error[anthropic-format] /system: expected the system prompt as a message, found a key `system` beside `messages`
                1:60: error[anthropic-format] /messages/0/content/0: expected a part of type `text` or `image_url`, found Anthropic's `tool_result`
            "#]],
        );
    }

    #[test]
    fn a_second_format_in_the_file_is_said_once() {
        let chat = |text: &str| {
            format!(r#"{{"messages":[{{"role":"user","content":"{text}"}},{{"role":"assistant","content":"ok"}}]}}"#)
        };
        let file = [
            chat("a"),
            r#"{"prompt":"a","completion":"b"}"#.into(),
            chat("b"),
            r#"{"prompt":"c","completion":"d"}"#.into(),
        ];
        check(
            file.join("\n"),
            expect![[r#"
            2:1: error[mixed-formats]: expected OpenAI's chat format (`messages`), as in line 1, found the prompt/completion format
            4:1: error[prompt-completion-format]: expected `messages`, found the prompt/completion format
        "#]],
        );
    }

    #[test]
    fn the_method_and_the_file_belong_together() {
        let chat = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"ok"}]}"#;
        check_with(
            &ReadOptions::new(Method::Dpo, Profile::OpenAi),
            chat,
            expect![[r#"
            1:1: error[method-file-mismatch]: expected a preference record for method dpo, found a chat record (`messages`)
        "#]],
        );
        check_with(
            &ReadOptions::new(Method::Rft, Profile::OpenAi),
            r#"{"messages":[{"role":"user","content":"a"}],"answer":4}"#,
            expect![[""]],
        );
    }

    #[test]
    fn other_keys_are_errors_but_locally_warnings() {
        let record =
            r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"ok"}],"id":1,"weight":2}"#;
        check(
            record,
            expect![[r#"
            1:81: error[unknown-top-level-key] /id: expected only `messages`, `tools`, `parallel_tool_calls`, `functions`, found `id`
            1:88: error[unknown-top-level-key] /weight: expected only `messages`, `tools`, `parallel_tool_calls`, `functions`, found `weight`
        "#]],
        );
        check_with(
            &ReadOptions::new(Method::Sft, Profile::Local),
            record,
            expect![[r#"
            1:81: warning[unknown-top-level-key] /id: expected only `messages`, `tools`, `parallel_tool_calls`, `functions`, found `id`
            1:88: warning[unknown-top-level-key] /weight: expected only `messages`, `tools`, `parallel_tool_calls`, `functions`, found `weight`
        "#]],
        );
    }
}
