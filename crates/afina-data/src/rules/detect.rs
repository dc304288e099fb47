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
