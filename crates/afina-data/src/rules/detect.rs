//! Telling by its keys which format a record is in.

use crate::json::{Kind, Value};

/// A format of records, told by its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Chat,
    Preference,
    PromptCompletion,
    ShareGpt,
    Alpaca,
    Text,
    Trl,
    Batch,
    Responses,
    Gemini,
}

impl Format {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Chat => "OpenAI's chat format (`messages`)",
            Format::Preference => "OpenAI's preference format (`input`, `preferred_output`)",
            Format::PromptCompletion => "the prompt/completion format",
            Format::ShareGpt => "the ShareGPT format (`conversations`)",
            Format::Alpaca => "the Alpaca format (`instruction`, `output`)",
            Format::Text => "the text-only format (`text`)",
            Format::Trl => "TRL's preference format (`chosen`, `rejected`)",
            Format::Batch => "the Batch API's format (`custom_id`, `body`)",
            Format::Responses => "the Responses API's format (`input`)",
            Format::Gemini => "Gemini's format (`contents`)",
        }
    }
}

/// The format of a record; `None` where no keys tell it.
pub(crate) fn detect(record: Value) -> Option<Format> {
    let kind = |name: &str| record.get(name).map(|value| value.kind());
    let has = |name: &str| record.get(name).is_some();
    let items =
        |name: &str, key: &str| record.get(name).is_some_and(|list| list.items().any(|item| item.get(key).is_some()));
    Some(if has("messages") {
        Format::Chat
    } else if has("custom_id") && (has("body") || has("url") || has("response")) {
        Format::Batch
    } else if has("preferred_output")
        || has("non_preferred_output")
        || has("preferred_completion")
        || has("non_preferred_completion")
    {
        Format::Preference
    } else if has("chosen") && has("rejected") {
        Format::Trl
    } else if items("conversations", "from") || items("conversation", "from") {
        Format::ShareGpt
    } else if has("instruction") && (has("output") || has("response")) {
        Format::Alpaca
    } else if kind("contents") == Some(Kind::Array) {
        Format::Gemini
    } else if has("prompt") && (has("completion") || has("response")) {
        Format::PromptCompletion
    } else if kind("input") == Some(Kind::Array) || (has("input") && (has("instructions") || has("output"))) {
        Format::Responses
    } else if kind("text") == Some(Kind::String) && record.members().count() <= 2 {
        Format::Text
    } else if kind("input") == Some(Kind::Object) {
        Format::Preference
    } else {
        return None;
    })
}

/// What a grader would compare with, in a record that asks and does not answer: the name of a key such as `answer`.
pub(crate) fn reference(record: Value) -> Option<String> {
    const WORDS: [&str; 16] = [
        "answer",
        "respuesta",
        "reference",
        "referencia",
        "expected",
        "esperad",
        "solution",
        "solución",
        "solucion",
        "truth",
        "target",
        "label",
        "etiqueta",
        "rubric",
        "rúbrica",
        "gold",
    ];
    let is_reference = |name: &str| WORDS.iter().any(|word| name.to_lowercase().contains(word));
    let mut names = record.members().filter_map(|member| member.key.text());
    let name = names.find(|name| is_reference(name))?.into_owned();
    let is = |message: Value, name: &str| message.get("role").is_some_and(|role| role.is(name));
    let messages = record.get("messages")?;
    let asks = messages.items().last().is_some_and(|last| is(last, "user"));
    (asks && !messages.items().any(|message| is(message, "assistant"))).then_some(name)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::check;

    #[test]
    fn a_prompt_with_a_reference_is_for_reinforcement() {
        let ask = r#"{"role":"user","content":"¿6×8?"}"#;
        check(
            [
                format!(r#"{{"messages":[{ask}],"respuesta":"48"}}"#),
                format!(r#"{{"messages":[{ask}],"expected_answer":{{"value":48}}}}"#),
                format!(r#"{{"messages":[{ask}],"id":"a1"}}"#),
                format!(r#"{{"messages":[{ask},{{"role":"assistant","content":"48"}}],"answer":"48"}}"#),
            ]
            .join("\n"),
            expect![[r#"
                1:1: error[method-file-mismatch]: expected a chat record for method sft, found a reinforcement record: a prompt, and `respuesta` for a grader
                2:1: error[method-file-mismatch]: expected a chat record for method sft, found a reinforcement record: a prompt, and `expected_answer` for a grader
                3:13: error[missing-assistant-message] /messages: expected an assistant message to learn, found none
                3:49: error[unknown-top-level-key] /id: expected only `messages`, `tools`, `parallel_tool_calls`, `functions`, found `id`
                4:85: error[unknown-top-level-key] /answer: expected only `messages`, `tools`, `parallel_tool_calls`, `functions`, found `answer`
            "#]],
        );
    }
}
