//! The body of `POST /v1/chat/completions`, checked field by field.

use serde_json::Value;

use crate::{
    engine::GenerateRequest,
    error::ApiError,
    fields::{self, Fields},
    messages,
};

/// A chat request that can be honoured.
#[derive(Debug)]
pub(crate) struct ChatRequest {
    pub(crate) generate: GenerateRequest,
    pub(crate) stream: bool,
    /// Whether the stream ends with a chunk that holds the usage.
    pub(crate) include_usage: bool,
    /// Fields that were accepted and cannot change the answer.
    pub(crate) ignored: Vec<&'static str>,
}

impl ChatRequest {
    /// Parses a body; the defaults are OpenAI's.
    pub(crate) fn parse(body: &[u8]) -> Result<ChatRequest, ApiError> {
        let mut fields = Fields::parse(body)?;
        let model = fields.string("model")?.ok_or_else(|| fields::missing("model"))?;
        let conversation = messages::take(&mut fields)?;
        let max_tokens = max_tokens(&mut fields)?;
        let temperature = fields.number("temperature", 0.0, 2.0)?.unwrap_or(1.0) as f32;
        let top_p = fields.number("top_p", 0.0, 1.0)?.unwrap_or(1.0) as f32;
        // Not OpenAI's, but what other local servers call it.
        let top_k = fields.integer("top_k", 0)?.unwrap_or(0) as usize;
        let seed = fields.integer("seed", i64::MIN)?.map(|seed| seed as u64);
        let stop = stop(&mut fields)?;
        let stream = fields.boolean("stream")?;
        let mut ignored_options = Vec::new();
        let include_usage = include_usage(&mut fields, stream, &mut ignored_options)?;

        fields.only("n", |n| *n == 1)?;
        fields.only("logprobs", |flag| *flag == false)?;
        fields.only("top_logprobs", |n| *n == 0)?;
        fields.only("presence_penalty", |penalty| penalty.as_f64() == Some(0.0))?;
        fields.only("frequency_penalty", |penalty| penalty.as_f64() == Some(0.0))?;
        fields.only("logit_bias", |bias| bias.as_object().is_some_and(|bias| bias.is_empty()))?;
        fields.only("response_format", |format| format["type"] == "text")?;
        fields.only("modalities", |modalities| *modalities == serde_json::json!(["text"]))?;
        fields.only("verbosity", |verbosity| *verbosity == "medium")?;
        fields.only("tools", is_empty_array)?;
        fields.only("tool_choice", |choice| *choice == "none" || *choice == "auto")?;
        fields.only("functions", is_empty_array)?;
        fields.only("function_call", |choice| *choice == "none" || *choice == "auto")?;

        let mut ignored = fields.finish()?;
        ignored.extend(ignored_options);
        let generate = GenerateRequest { model, conversation, max_tokens, temperature, top_p, top_k, seed, stop };
        Ok(ChatRequest { generate, stream, include_usage, ignored })
    }
}

/// `max_completion_tokens`, or its old name `max_tokens`.
fn max_tokens(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let new = fields.integer("max_completion_tokens", 1)?;
    let old = fields.integer("max_tokens", 1)?;
    match (new, old) {
        (Some(new), Some(old)) if new != old => Err(fields::wrong_value(
            "max_tokens",
            format!("'max_tokens' ({old}) and 'max_completion_tokens' ({new}) differ: give one of them"),
        )),
        _ => Ok(new.or(old).map(|tokens| usize::try_from(tokens).unwrap_or(usize::MAX))),
    }
}

/// One string or up to four, none empty.
fn stop(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let strings = match fields.value("stop") {
        None => Vec::new(),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => items
            .into_iter()
            .enumerate()
            .map(|(index, item)| match item {
                Value::String(text) => Ok(text),
                other => Err(fields::wrong_type(&format!("stop[{index}]"), "a string", &other)),
            })
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(fields::wrong_type("stop", "a string or an array of strings", &other)),
    };
    if strings.len() > 4 {
        let message = format!("'stop' takes at most 4 strings, found {}", strings.len());
        return Err(fields::wrong_value("stop", message));
    }
    if strings.iter().any(String::is_empty) {
        return Err(fields::wrong_value("stop", "'stop' must not hold an empty string".to_string()));
    }
    Ok(strings)
}

fn include_usage(fields: &mut Fields, stream: bool, ignored: &mut Vec<&'static str>) -> Result<bool, ApiError> {
    let options = match fields.value("stream_options") {
        None => return Ok(false),
        Some(Value::Object(options)) => options,
        Some(other) => return Err(fields::wrong_type("stream_options", "an object", &other)),
    };
    if !stream {
        let message = "'stream_options' is only allowed when 'stream' is true".to_string();
        return Err(fields::wrong_value("stream_options", message));
    }
    let mut include = false;
    for (key, value) in &options {
        match (key.as_str(), value) {
            (_, Value::Null) => {}
            ("include_usage", Value::Bool(flag)) => include = *flag,
            ("include_usage", other) => {
                return Err(fields::wrong_type("stream_options.include_usage", "true or false", other));
            }
            ("include_obfuscation", _) => ignored.push("stream_options.include_obfuscation"),
            (key, _) => {
                let name = format!("stream_options.{key}");
                let message = format!("Unsupported parameter: '{name}' is not supported by this server");
                return Err(ApiError::unsupported(&name, message));
            }
        }
    }
    Ok(include)
}

fn is_empty_array(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.is_empty())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    /// Parses a request for `m` that says `hola`, with more fields.
    fn parse(more: Value) -> Result<ChatRequest, ApiError> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hola"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ChatRequest::parse(&serde_json::to_vec(&body).unwrap())
    }

    fn refused(more: Value, expected: Expect) {
        let error = parse(more).unwrap_err().body();
        let error = &error["error"];
        expected.assert_eq(&format!("{} {} {}", error["code"], error["param"], error["message"].as_str().unwrap()));
    }

    #[test]
    fn defaults_are_openais() {
        let request = parse(json!({})).unwrap();
        let generate = &request.generate;
        assert_eq!((generate.temperature, generate.top_p, generate.top_k), (1.0, 1.0, 0));
        assert_eq!((generate.max_tokens, generate.seed, request.stream), (None, None, false));
        assert!(generate.stop.is_empty() && request.ignored.is_empty());
    }

    #[test]
    fn what_is_asked_reaches_the_engine() {
        let request = parse(json!({
            "max_completion_tokens": 7, "temperature": 0.5, "top_p": 0.25, "top_k": 40, "seed": 3, "stop": "FIN",
            "stream": true, "stream_options": {"include_usage": true, "include_obfuscation": false}, "user": "ana",
            "n": 1, "logprobs": false, "response_format": {"type": "text"}, "tools": [], "presence_penalty": 0,
        }))
        .unwrap();
        let generate = &request.generate;
        assert_eq!((generate.temperature, generate.top_p, generate.top_k), (0.5, 0.25, 40));
        assert_eq!((generate.max_tokens, generate.seed), (Some(7), Some(3)));
        assert_eq!(generate.stop, ["FIN"]);
        assert!(request.stream && request.include_usage);
        assert_eq!(request.ignored, ["user", "stream_options.include_obfuscation"]);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        refused(
            json!({"tools": [{"type": "function"}]}),
            expect![[
                r#""unsupported_parameter" "tools" Unsupported parameter: 'tools' is not supported by this server with the value [{"type":"function"}]"#
            ]],
        );
        refused(
            json!({"logprobs": true}),
            expect![[
                r#""unsupported_parameter" "logprobs" Unsupported parameter: 'logprobs' is not supported by this server with the value true"#
            ]],
        );
        refused(
            json!({"prediction": {}}),
            expect![[
                r#""unsupported_parameter" "prediction" Unsupported parameter: 'prediction' is not supported by this server"#
            ]],
        );
        refused(
            json!({"stream": true, "stream_options": {"foo": 1}}),
            expect![[
                r#""unsupported_parameter" "stream_options.foo" Unsupported parameter: 'stream_options.foo' is not supported by this server"#
            ]],
        );
    }

    #[test]
    fn contradictions_are_refused() {
        refused(
            json!({"max_tokens": 5, "max_completion_tokens": 6}),
            expect![[
                r#""invalid_value" "max_tokens" 'max_tokens' (5) and 'max_completion_tokens' (6) differ: give one of them"#
            ]],
        );
        refused(
            json!({"stream_options": {"include_usage": true}}),
            expect![[r#""invalid_value" "stream_options" 'stream_options' is only allowed when 'stream' is true"#]],
        );
        refused(
            json!({"stop": ["a", "b", "c", "d", "e"]}),
            expect![[r#""invalid_value" "stop" 'stop' takes at most 4 strings, found 5"#]],
        );
        refused(json!({"stop": ""}), expect![[r#""invalid_value" "stop" 'stop' must not hold an empty string"#]]);
    }

    #[test]
    fn messages_are_checked_one_by_one() {
        refused(
            json!({"messages": []}),
            expect![[r#""invalid_value" "messages" 'messages' is empty: at least one message is needed"#]],
        );
        refused(
            json!({"messages": [{"role": "user", "content": "a"}, {"content": "b"}]}),
            expect![[
                r#""missing_required_parameter" "messages[1].role" Missing required parameter: 'messages[1].role'"#
            ]],
        );
        refused(
            json!({"messages": [{"role": "user"}]}),
            expect![[
                r#""missing_required_parameter" "messages[0].content" Missing required parameter: 'messages[0].content'"#
            ]],
        );
        refused(
            json!({"messages": [{"role": "user", "content": "a", "audio": {"id": "x"}}]}),
            expect![[
                r#""unsupported_parameter" "messages[0].audio" Unsupported parameter: 'messages[0].audio' is not supported by this server"#
            ]],
        );
        let error = parse(json!({"messages": [{"role": "king", "content": "a"}]})).unwrap_err().body();
        assert_eq!(error["error"]["param"], "messages[0]");
    }

    #[test]
    fn an_answer_can_be_sent_back_as_the_client_got_it() {
        let answer = json!({"role": "assistant", "content": "hola", "refusal": null, "annotations": [], "audio": null,
            "function_call": null, "tool_calls": null});
        let request = parse(json!({"messages": [answer, {"role": "user", "content": "y?"}]})).unwrap();
        assert_eq!(request.generate.conversation.messages.len(), 2);
    }
}
