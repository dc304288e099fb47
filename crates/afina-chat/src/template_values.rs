//! Messages and tools as the values that chat templates expect: OpenAI's JSON with absent keys left out, and the arguments
//! of a tool call as an object (Hugging Face's convention) or, where a template wants it, as their text.

use std::fmt;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Object, ObjectRepr};

use crate::json::{self, Json, JsonError};
use crate::message::{Content, ContentPart, Message, Tool, ToolCall};
use crate::to_json::float;

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
) -> Result<Value, (usize, JsonError)> {
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

fn call_value(call: &ToolCall, arguments_as: ArgumentsAs, map: &dyn Fn(&str) -> String) -> Result<Value, JsonError> {
    let arguments = match arguments_as {
        ArgumentsAs::Text => Value::from(map(&call.function.arguments)),
        ArgumentsAs::Object => arguments_value(&json::parse(&call.function.arguments)?, map),
    };
    let function = Value::from_pairs([("name", Value::from(map(&call.function.name))), ("arguments", arguments)]);
    Ok(Value::from_pairs([
        ("id", Value::from(map(&call.id))),
        ("type", Value::from(map(&call.kind))),
        ("function", function),
    ]))
}

/// Name, description, parameters, strict: always in this order, so that a tool is the same text in training and serving.
pub(crate) fn tool_value(tool: &Tool, map: &dyn Fn(&str) -> String) -> Value {
    let definition = &tool.function;
    let mut function = vec![("name", Value::from(map(&definition.name)))];
    function.extend(definition.description.as_deref().map(|text| ("description", Value::from(map(text)))));
    function.extend(definition.parameters.as_ref().map(|json| ("parameters", schema_value(json, map))));
    function.extend(definition.strict.map(|strict| ("strict", Value::from(strict))));
    Value::from_pairs([("type", Value::from(map(&tool.kind))), ("function", Value::from_pairs(function))])
}

fn schema_value(json: &serde_json::Value, map: &dyn Fn(&str) -> String) -> Value {
    use serde_json::Value as Schema;
    match json {
        Schema::Null => Value::from(()),
        Schema::Bool(bool) => Value::from(*bool),
        Schema::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Schema::String(text) => Value::from(map(text)),
        Schema::Array(items) => items.iter().map(|item| schema_value(item, map)).collect(),
        Schema::Object(object) => {
            Value::from_pairs(object.iter().map(|(key, value)| (map(key), schema_value(value, map))))
        }
    }
}

fn arguments_value(json: &Json, map: &dyn Fn(&str) -> String) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(bool) => Value::from(*bool),
        Json::Number(spelling) => number_value(spelling),
        Json::String(text) => Value::from(map(text)),
        Json::Array(items) => items.iter().map(|item| arguments_value(item, map)).collect(),
        Json::Object(members) => {
            Value::from_pairs(members.iter().map(|(key, value)| (map(key), arguments_value(value, map))))
        }
    }
}

/// A number that a template can reckon with, where it would be written as it was spelled; its spelling otherwise.
fn number_value(spelling: &str) -> Value {
    let integer = spelling.parse::<i64>().ok().filter(|number| number.to_string() == spelling).map(Value::from);
    let number = || spelling.parse::<f64>().ok().filter(|number| float(*number) == spelling).map(Value::from);
    integer.or_else(number).unwrap_or_else(|| Value::from_object(SpelledNumber(spelling.to_owned())))
}

/// `1.10`, `1e400`, `-0`: numbers that Python, and so a template, would spell in another way.
pub(crate) struct SpelledNumber(pub(crate) String);

impl Object for SpelledNumber {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

impl fmt::Debug for SpelledNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_the_order_of_keys_and_maps_keys_and_texts() {
        let text = r#"{"z":["a",1,-1,1.5,null,true],"b":{}}"#;
        let expected = "{'Z': ['A', 1, -1, 1.5, None, True], 'B': {}}";
        let upper = |text: &str| text.to_uppercase();
        assert_eq!(schema_value(&serde_json::from_str(text).unwrap(), &upper).to_string(), expected);
        assert_eq!(arguments_value(&json::parse(text).unwrap(), &upper).to_string(), expected);
    }

    #[test]
    fn numbers_of_arguments_are_written_as_they_were_spelled() {
        for spelling in ["1.0", "1", "-0", "1.10", "1e400", "1E5", "0.00001", "123456789012345678901234567890", "1e-07"]
        {
            let value = arguments_value(&json::parse(&format!("{{\"x\": [{spelling}]}}")).unwrap(), &str::to_owned);
            let mut environment = minijinja::Environment::new();
            environment.add_filter("tojson", crate::to_json::to_json);
            let written = environment.render_str("{{ x|tojson }}", minijinja::context! { x => value }).unwrap();
            assert_eq!(written, format!("{{\"x\": [{spelling}]}}"));
        }
        assert_eq!(number_value("1e400").to_string(), "1e400");
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
