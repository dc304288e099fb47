//! The line of a record: `role` first, then `content`, then the rest.

use serde_json::to_writer;

use super::draft::{Call, Content, Draft, Message, Part};
use crate::json::{Kind, Value};

pub(super) fn record(draft: &Draft, out: &mut Vec<u8>) {
    match &draft.outputs {
        None => conversation(draft, out),
        Some([preferred, other]) => {
            out.extend_from_slice(b"{\"input\": ");
            conversation(draft, out);
            out.extend_from_slice(b", \"preferred_output\": ");
            messages(preferred, out);
            out.extend_from_slice(b", \"non_preferred_output\": ");
            messages(other, out);
            out.push(b'}');
        }
    }
}

fn conversation(draft: &Draft, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"messages\": ");
    messages(&draft.messages, out);
    if !draft.tools.is_empty() {
        out.extend_from_slice(b", \"tools\": ");
        list(&draft.tools, out, |tool, out| out.extend_from_slice(tool));
    }
    if let Some(parallel) = draft.parallel_tool_calls {
        out.extend_from_slice(format!(", \"parallel_tool_calls\": {parallel}").as_bytes());
    }
    out.push(b'}');
}

fn messages(messages: &[Message], out: &mut Vec<u8>) {
    list(messages, out, message);
}

fn message(message: &Message, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"role\": ");
    string(message.role.as_str(), out);
    out.extend_from_slice(b", \"content\": ");
    match &message.content {
        None => out.extend_from_slice(b"null"),
        Some(Content::Text(text)) => string(text, out),
        Some(Content::Parts(parts)) => list(parts, out, part),
    }
    for (key, value) in [("name", &message.name), ("refusal", &message.refusal)] {
        if let Some(value) = value {
            member(key, value, out);
        }
    }
    if !message.tool_calls.is_empty() {
        out.extend_from_slice(b", \"tool_calls\": ");
        list(&message.tool_calls, out, call);
    }
    if let Some(id) = &message.tool_call_id {
        member("tool_call_id", id, out);
    }
    if let Some(weight) = message.weight {
        out.extend_from_slice(format!(", \"weight\": {}", u8::from(weight)).as_bytes());
    }
    out.push(b'}');
}

fn part(part: &Part, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\": ");
    match part {
        Part::Text(text) => {
            out.extend_from_slice(b"\"text\"");
            member("text", text, out);
        }
        Part::Refusal(text) => {
            out.extend_from_slice(b"\"refusal\"");
            member("refusal", text, out);
        }
        Part::Image { url, detail } => {
            out.extend_from_slice(b"\"image_url\", \"image_url\": {\"url\": ");
            string(url, out);
            if let Some(detail) = detail {
                member("detail", detail, out);
            }
            out.push(b'}');
        }
    }
    out.push(b'}');
}

fn call(call: &Call, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\": ");
    string(&call.id, out);
    out.extend_from_slice(b", \"type\": \"function\", \"function\": {\"name\": ");
    string(&call.name, out);
    member("arguments", &call.arguments, out);
    out.extend_from_slice(b"}}");
}

fn member(key: &str, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b", ");
    string(key, out);
    out.extend_from_slice(b": ");
    string(text, out);
}

fn list<T>(items: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        write(item, out);
    }
    out.push(b']');
}

/// Only quotes, backslashes and control characters are escaped.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    to_writer(out, text).expect("a string is written to memory");
}

/// A value of the source on one line: strings escaped only where JSON needs it, numbers as they were written.
///
/// `change`: what a string under a key becomes, where it changes.
pub(super) fn value(value: Value, change: fn(&str, &str) -> Option<String>, out: &mut Vec<u8>) {
    match value.kind() {
        Kind::Null => out.extend_from_slice(b"null"),
        Kind::True => out.extend_from_slice(b"true"),
        Kind::False => out.extend_from_slice(b"false"),
        Kind::Number => out.extend_from_slice(value.raw().as_bytes()),
        Kind::String | Kind::Key => string(&value.text().unwrap_or_default(), out),
        Kind::Array => {
            out.push(b'[');
            for (index, item) in value.items().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                self::value(item, change, out);
            }
            out.push(b']');
        }
        Kind::Object => {
            out.push(b'{');
            for (index, member) in value.members().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                let key = member.key.text().unwrap_or_default();
                string(&key, out);
                out.extend_from_slice(b": ");
                let changed = (member.value.kind() == Kind::String)
                    .then(|| change(&key, &member.value.text().unwrap_or_default()))
                    .flatten();
                match changed {
                    Some(text) => string(&text, out),
                    None => self::value(member.value, change, out),
                }
            }
            out.push(b'}');
        }
    }
}

/// [`value`] as text, nothing changed.
pub(super) fn json(from: Value) -> String {
    let mut out = Vec::new();
    value(from, |_, _| None, &mut out);
    String::from_utf8(out).expect("JSON made of strings is UTF-8")
}
