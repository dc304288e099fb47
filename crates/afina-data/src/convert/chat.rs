//! Lists of messages: OpenAI's own with what it does not take, and those of others that look alike.

use afina_chat::Role;

use super::{
    calls::calls,
    draft::{Content, Draft, Message},
    notes::{Converted, Notes, first, is_nothing, present},
    parts, tools, write,
};
use crate::{
    diagnostic::excerpt,
    json::{Kind, Value},
};

/// `messages`, `system`, `tools`, `functions`, `parallel_tool_calls`, `images`.
pub(super) fn read(record: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    const KNOWN: [&str; 5] = ["messages", "system", "tools", "functions", "parallel_tool_calls"];
    notes.leave_out_all_but("", record, &[&KNOWN[..], &parts::MEDIA].concat());
    parts::images_beside(record, notes, draft)?;
    let Some(list) = present(record, "messages") else {
        return Err(notes.refuse(record, "expected a key `messages`, found none", "choose another `--from`"));
    };
    system(record, notes, draft)?;
    settings(record, notes, draft)?;
    messages(list, notes, draft)
}

/// A system prompt beside the messages becomes the first of them.
pub(super) fn system(record: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    if let Some(system) = present(record, "system").filter(|&system| !is_nothing(system)) {
        let content = parts::read(system, notes, draft)?.content();
        draft.messages.push(Message::new(Role::System, content));
    }
    Ok(())
}

/// `tools`, `functions` and `parallel_tool_calls`.
pub(super) fn settings(record: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    for name in ["tools", "functions"] {
        if let Some(list) = present(record, name) {
            draft.tools.extend(tools::tools(list, notes)?);
        }
    }
    draft.parallel_tool_calls = match record.get("parallel_tool_calls").map(|value| value.kind()) {
        Some(Kind::True) => Some(true),
        Some(Kind::False) => Some(false),
        _ => None,
    };
    // It is about tools: without any it says nothing.
    if draft.tools.is_empty() {
        draft.parallel_tool_calls = None;
    }
    Ok(())
}

/// A list of messages, or one as JSON in a string.
pub(super) fn messages(list: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    match list.kind() {
        Kind::Array => list.items().try_for_each(|item| message(item, notes, draft)),
        Kind::String => notes.nested(list, "a list of messages", |list, notes| match list.kind() {
            Kind::Array => messages(list, notes, draft),
            _ => Err(notes.unexpected(list, "a list of messages", HINT)),
        }),
        _ => Err(notes.unexpected(list, "a list of messages", HINT)),
    }
}

const HINT: &str = "a message is `{\"role\": …, \"content\": …}`";

/// Who speaks; `None` for ShareGPT's `function_call`.
fn sender(name: &str) -> Option<Option<Role>> {
    Some(Some(match name.trim().to_ascii_lowercase().as_str() {
        "system" | "developer" | "sys" => Role::System,
        "user" | "human" | "prompter" | "customer" | "question" => Role::User,
        "assistant" | "gpt" | "bot" | "ai" | "model" | "chatgpt" | "chatbot" | "bing" | "bard" | "agent" | "answer"
        | "llm" => Role::Assistant,
        "tool" | "function" | "observation" | "tool_response" | "tool_result" | "function_response" | "ipython"
        | "environment" => Role::Tool,
        "function_call" | "function-call" | "tool_call" | "tool_calls" => return Some(None),
        _ => return None,
    }))
}

/// Reads one message and adds what it stands for.
pub(super) fn message(value: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    message_but(value, &[], notes, draft)
}

/// The answer of Anthropic's API: a message among what is said about it.
pub(super) fn answer(value: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    message_but(value, &["id", "model", "stop_reason", "stop_sequence", "usage"], notes, draft)
}

/// Reads one message; the keys in `aside` say nothing about the conversation.
pub(super) fn message_but(value: Value, aside: &[&str], notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    if value.kind() != Kind::Object {
        return Err(notes.unexpected(value, "a message", HINT));
    }
    let Some(who) = first(value, &["role", "from", "author"]) else {
        return Err(notes.refuse(value, "expected a message with a `role`, found none", HINT));
    };
    let name = who.text().unwrap_or_default();
    let Some(role) = sender(&name) else {
        let message = format!("expected a known role, found `{}`", excerpt(&name));
        return Err(notes.refuse(who, message, "rename it: `system`, `user`, `assistant` or `tool`"));
    };
    let content = first(value, &["content", "value", "text"]);
    const KNOWN: [&str; 16] = [
        "role",
        "from",
        "author",
        "content",
        "value",
        "text",
        "name",
        "refusal",
        "tool_calls",
        "function_call",
        "tool_call_id",
        "weight",
        "train",
        "training",
        "type",
        "loss",
    ];
    notes.leave_out_all_but("messages[].", value, &[&KNOWN[..], aside].concat());
    match role {
        None => {
            let found = content.map_or_else(|| Ok(Vec::new()), |content| calls(content, notes))?;
            let mut message = Message::new(Role::Assistant, None);
            message.weight = weight(value, notes)?;
            draft.push_calls(message, found);
        }
        Some(Role::Assistant) => assistant(value, content, notes, draft)?,
        Some(Role::Tool) => tool(value, content, notes, draft)?,
        Some(role) => {
            let Some(content) = content else {
                return Err(notes.refuse(value, format!("expected a {role} message with content, found none"), HINT));
            };
            let found = parts::read(content, notes, draft)?;
            let answered = !found.results.is_empty();
            for result in found.results {
                push_result(value, result.id, None, result.text, notes, draft)?;
            }
            let content = Content::of(found.parts);
            if content.is_some() || !answered {
                let mut message = Message::new(role, content.or_else(|| Some(Content::Text(String::new()))));
                message.name = named(value);
                draft.messages.push(message);
            }
            for name in ["weight", "train", "training", "loss"] {
                if let Some(weight) = present(value, name).filter(|weight| !["0", "false"].contains(&weight.raw())) {
                    notes.leave_out("messages[].", name, weight);
                }
            }
        }
    }
    Ok(())
}

fn assistant(value: Value, content: Option<Value>, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    let found = content.map(|content| parts::read(content, notes, draft)).transpose()?.unwrap_or_default();
    let (mut made, mut parts) = (found.calls, found.parts);
    for name in ["tool_calls", "function_call"] {
        if let Some(list) = present(value, name) {
            made.extend(calls(list, notes)?);
        }
    }
    // Beside calls an empty text says nothing.
    if !made.is_empty() {
        parts.retain(|part| !matches!(part, super::draft::Part::Text(text) if text.is_empty()));
    }
    let mut message = Message::new(Role::Assistant, Content::of(parts));
    message.name = named(value);
    message.refusal = present(value, "refusal").and_then(|text| text.text()).map(Into::into);
    message.weight = weight(value, notes)?;
    draft.push_calls(message, made);
    Ok(())
}

fn tool(value: Value, content: Option<Value>, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    let Some(content) = content else {
        return Err(notes.refuse(value, "expected a tool message with content, found none", HINT));
    };
    let id = first(value, &["tool_call_id"]).and_then(|id| id.text()).map(Into::into);
    let name = named(value);
    // The answers of several calls, one after the other.
    if let (None, Some(text)) = (&id, content.text())
        && draft.open_calls() > 1
        && text.trim_start().starts_with('[')
    {
        let open = draft.open_calls();
        let list = notes.nested_text(content, &text, |list, _| {
            let items: Vec<String> =
                list.items().map(|item| item.text().map_or_else(|| write::json(item), Into::into)).collect();
            Ok((items.len() == open).then_some(items))
        });
        if let Some(Ok(Some(items))) = list {
            return items.into_iter().try_for_each(|text| push_result(value, None, None, text, notes, draft));
        }
    }
    let is_parts = content.kind() == Kind::String || content.items().any(|item| present(item, "type").is_some());
    let text = if is_parts { parts::text(content, notes, draft)? } else { write::json(content) };
    push_result(value, id, name.as_deref(), text, notes, draft)
}

pub(super) fn push_result(
    value: Value,
    id: Option<String>,
    name: Option<&str>,
    text: String,
    notes: &Notes,
    draft: &mut Draft,
) -> Converted<()> {
    if draft.push_result(id, name, text) {
        return Ok(());
    }
    let message = "expected the call that this answers before it, found none without an answer";
    Err(notes.refuse(value, message, "add the assistant's call, or leave the answer out"))
}

fn named(value: Value) -> Option<String> {
    present(value, "name").and_then(|name| name.text()).filter(|name| !name.is_empty()).map(Into::into)
}

/// Whether the message is trained, where it says so: OpenAI's `weight`, axolotl's `train` and `training`.
fn weight(value: Value, notes: &Notes) -> Converted<Option<bool>> {
    let Some(weight) = first(value, &["weight", "train", "training", "loss"]) else { return Ok(None) };
    match weight.raw() {
        "1" | "1.0" | "true" => Ok(Some(true)),
        "0" | "0.0" | "false" => Ok(Some(false)),
        _ => {
            let message = format!("expected weight 0 or 1, found {}", excerpt(weight.raw()));
            Err(notes.refuse(weight, message, "round it: a message is trained or not"))
        }
    }
}
