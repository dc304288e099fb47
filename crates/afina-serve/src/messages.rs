//! The `messages` of a request, as a conversation.

use afina_chat::{Conversation, Message, Role};
use serde_json::Value;

use crate::{
    error::ApiError,
    fields::{self, Fields},
};

/// What a message may carry; other keys are refused by name.
const KEYS: [&str; 7] = ["role", "content", "name", "refusal", "tool_calls", "tool_call_id", "weight"];

/// Takes `messages`: at least one, each with a role and with the content that its role asks for.
pub(crate) fn take(fields: &mut Fields) -> Result<Conversation, ApiError> {
    let messages = match fields.value("messages") {
        None => return Err(fields::missing("messages")),
        Some(Value::Array(messages)) => messages,
        Some(other) => return Err(fields::wrong_type("messages", "an array of messages", &other)),
    };
    if messages.is_empty() {
        return Err(fields::wrong_value("messages", "'messages' is empty: at least one message is needed".to_string()));
    }
    let messages = messages.into_iter().enumerate().map(|(index, value)| message(index, value));
    Ok(Conversation { messages: messages.collect::<Result<_, _>>()?, tools: None, parallel_tool_calls: None })
}

fn message(index: usize, value: Value) -> Result<Message, ApiError> {
    let name = format!("messages[{index}]");
    let Value::Object(mut object) = value else {
        return Err(fields::wrong_type(&name, "an object", &value));
    };
    // OpenAI's own clients send an answer back with every field of the answer's type, most of them empty.
    object.retain(|key, value| match value {
        Value::Null => false,
        Value::Array(items) => !(items.is_empty() && (key == "annotations" || key == "tool_calls")),
        _ => true,
    });
    if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let message = format!("Unsupported parameter: '{name}.{key}' is not supported by this server");
        return Err(ApiError::unsupported(&format!("{name}.{key}"), message));
    }
    if !object.contains_key("role") {
        return Err(fields::missing(&format!("{name}.role")));
    }
    let message: Message = serde_json::from_value(Value::Object(object))
        .map_err(|error| fields::wrong_value(&name, format!("Invalid value for '{name}': {error}")))?;
    let has_calls = message.tool_calls.is_some() || message.refusal.is_some();
    if message.content.is_none() && !(message.role == Role::Assistant && has_calls) {
        return Err(fields::missing(&format!("{name}.content")));
    }
    Ok(message)
}
