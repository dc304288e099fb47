//! Messages and tools as the values that chat templates expect: OpenAI's JSON with absent keys left out, and the arguments
//! of a tool call as an object (Hugging Face's convention) or, where a template wants it, as their text.

use minijinja::Value;
use serde_json::Value as Json;

use crate::message::{Content, ContentPart, Message, Tool, ToolCall};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArgumentsAs {
    Object,
    Text,
}

/// `map` is applied to every text. An error is the index of a tool call whose arguments are not JSON, and why.
pub(crate) fn message_value(
    message: &Message,
    parts: bool,
    arguments_as: ArgumentsAs,
    map: &dyn Fn(&str) -> String,
) -> Result<Value, (usize, serde_json::Error)> {
    let mut pairs = vec![("role", Value::from(message.role.as_str()))];
    match &message.content {
        None => {}
        Some(Content::Parts(list)) if parts => {
            pairs.push(("content", list.iter().map(|part| part_value(part, map)).collect()));
        }
        Some(_) => pairs.push(("content", Value::from(map(&message.text())))),
    }
    let texts = [("name", &message.name), ("refusal", &message.refusal), ("tool_call_id", &message.tool_call_id)];
    for (key, text) in texts {
        pairs.extend(text.as_deref().map(|text| (key, Value::from(map(text)))));
    }
    if let Some(calls) = message.tool_calls.as_ref().filter(|calls| !calls.is_empty()) {
        let mut values = Vec::with_capacity(calls.len());
        for (index, call) in calls.iter().enumerate() {
            values.push(call_value(call, arguments_as, map).map_err(|error| (index, error))?);
        }
        pairs.push(("tool_calls", Value::from(values)));
    }
    Ok(Value::from_pairs(pairs))
}

fn part_value(part: &ContentPart, map: &dyn Fn(&str) -> String) -> Value {
    match part {
        ContentPart::Text { text } => {
            Value::from_pairs([("type", Value::from("text")), ("text", Value::from(map(text)))])
        }
        ContentPart::Refusal { refusal } => {
            Value::from_pairs([("type", Value::from("refusal")), ("refusal", Value::from(map(refusal)))])
        }
        ContentPart::ImageUrl { image_url } => {
            let url = Value::from_pairs([("url", Value::from(map(&image_url.url)))]);
            Value::from_pairs([("type", Value::from("image_url")), ("image_url", url)])
        }
    }
}

fn call_value(
    call: &ToolCall,
    arguments_as: ArgumentsAs,
    map: &dyn Fn(&str) -> String,
) -> Result<Value, serde_json::Error> {
    let arguments = match arguments_as {
        ArgumentsAs::Text => Value::from(map(&call.function.arguments)),
        ArgumentsAs::Object => json_value(&serde_json::from_str(&call.function.arguments)?, map),
    };
    let function = Value::from_pairs([("name", Value::from(map(&call.function.name))), ("arguments", arguments)]);
    Ok(Value::from_pairs([
        ("id", Value::from(map(&call.id))),
        ("type", Value::from(map(&call.kind))),
        ("function", function),
    ]))
}

pub(crate) fn tool_value(tool: &Tool, map: &dyn Fn(&str) -> String) -> Value {
    let definition = &tool.function;
    let mut function = vec![("name", Value::from(map(&definition.name)))];
    function.extend(definition.description.as_deref().map(|text| ("description", Value::from(map(text)))));
    function.extend(definition.parameters.as_ref().map(|json| ("parameters", json_value(json, map))));
    function.extend(definition.strict.map(|strict| ("strict", Value::from(strict))));
    Value::from_pairs([("type", Value::from(map(&tool.kind))), ("function", Value::from_pairs(function))])
}

fn json_value(json: &Json, map: &dyn Fn(&str) -> String) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(bool) => Value::from(*bool),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(map(text)),
        Json::Array(items) => items.iter().map(|item| json_value(item, map)).collect(),
        Json::Object(object) => Value::from_pairs(object.iter().map(|(key, value)| (map(key), json_value(value, map)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_the_order_of_keys_and_maps_keys_and_texts() {
        let json: Json = serde_json::from_str(r#"{"z":["a",1,-1,1.5,null,true],"b":{}}"#).unwrap();
        let value = json_value(&json, &|text| text.to_uppercase());
        assert_eq!(value.to_string(), "{'Z': ['A', 1, -1, 1.5, None, True], 'B': {}}");
    }

    #[test]
    fn absent_keys_are_absent() {
        let message: Message = serde_json::from_str(r#"{"role":"assistant","content":null,"weight":1}"#).unwrap();
        let value = message_value(&message, false, ArgumentsAs::Object, &str::to_owned).unwrap();
        assert_eq!(value.to_string(), "{'role': 'assistant'}");
    }

    #[test]
    fn arguments_are_an_object_or_their_text() {
        let json = r#"{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"x\": 1}"}}]}"#;
        let message: Message = serde_json::from_str(json).unwrap();
        let value = |arguments_as| message_value(&message, false, arguments_as, &str::to_owned).unwrap().to_string();
        assert!(value(ArgumentsAs::Object).contains("'arguments': {'x': 1}"));
        assert!(value(ArgumentsAs::Text).contains(r#"'arguments': '{"x": 1}'"#));
    }

    #[test]
    fn arguments_that_are_not_json_name_their_call() {
        let json = r#"{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{"}}]}"#;
        let message: Message = serde_json::from_str(json).unwrap();
        assert_eq!(message_value(&message, false, ArgumentsAs::Object, &str::to_owned).unwrap_err().0, 0);
    }
}
