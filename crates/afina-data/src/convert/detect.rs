//! Telling a record's format: what the rules know, and the kin of it that they have no name for.

use super::{Format, pairs};
use crate::{
    json::{Kind, Value},
    rules::{detect, format},
};

pub(super) fn detect(record: Value) -> Option<Format> {
    let has = |name: &str| record.get(name).is_some();
    if record.items().any(|item| item.get("role").is_some() || item.get("from").is_some()) {
        return Some(Format::ChatArray);
    }
    if has("chosen_conversations") || (has("chosen") && has("rejected")) {
        return Some(Format::Trl);
    }
    if is_logged(record) {
        return Some(Format::Batch);
    }
    match detect::detect(record) {
        Some(detect::Format::Chat) if is_anthropic(record) => Some(Format::Anthropic),
        Some(detect::Format::Chat) => Some(Format::OpenAi),
        Some(detect::Format::Responses) if pairs::is_pair(record) => Some(Format::PromptCompletion),
        Some(detect::Format::Responses) => Some(Format::Responses),
        Some(detect::Format::Preference) => Some(Format::OpenAiDpo),
        Some(detect::Format::PromptCompletion) => Some(Format::PromptCompletion),
        Some(detect::Format::ShareGpt) => Some(Format::ShareGpt),
        Some(detect::Format::Alpaca) => Some(Format::Alpaca),
        Some(detect::Format::Text) => Some(Format::Text),
        Some(detect::Format::Trl) => Some(Format::Trl),
        Some(detect::Format::Batch) => Some(Format::Batch),
        Some(detect::Format::Gemini) => Some(Format::Gemini),
        _ if has("conversations") || has("conversation") => Some(Format::ShareGpt),
        _ if pairs::is_pair(record) => Some(Format::PromptCompletion),
        _ if record.get("text").is_some_and(|text| text.kind() == Kind::String) => Some(Format::Text),
        _ => None,
    }
}

/// A request with its answer.
fn is_logged(record: Value) -> bool {
    let object = |name: &str| record.get(name).is_some_and(|value| value.kind() == Kind::Object);
    let named = record.get("custom_id").is_some();
    (named && (object("body") || object("params") || object("result")))
        || (object("request") && record.get("response").is_some())
}

/// A top-level `system`, blocks or tools that only Anthropic has, or content parts without a type (its Bedrock form).
fn is_anthropic(record: Value) -> bool {
    let system = record.get("system").is_some_and(|system| !system.is_null());
    let tools = record.get("tools").is_some_and(|tools| tools.items().any(|tool| tool.get("input_schema").is_some()));
    let mut parts = record
        .get("messages")
        .into_iter()
        .flat_map(|list| list.items())
        .filter_map(|message| message.get("content"))
        .flat_map(|content| content.items());
    system
        || tools
        || parts.any(|part| {
            let source = part.get("source").is_some();
            format::is_anthropic_block(part) || source || (part.get("type").is_none() && part.get("text").is_some())
        })
}
