//! The fields of a request body, taken out one by one: what nobody took is refused by name.

use serde_json::{Map, Value};

use crate::error::ApiError;

/// Fields that cannot change the answer of a model that runs here: accepted everywhere, and listed.
const IGNORED: [&str; 9] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "parallel_tool_calls",
];

/// A JSON object whose fields are being taken.
#[derive(Debug)]
pub(crate) struct Fields {
    fields: Map<String, Value>,
    taken: Vec<&'static str>,
}

impl Fields {
    /// Parses a body. A `null` counts as absent, as with OpenAI.
    pub(crate) fn parse(body: &[u8]) -> Result<Fields, ApiError> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            ApiError::invalid(
                None,
                Some("invalid_json"),
                format!("Could not parse the JSON body of the request: {error}"),
            )
        })?;
        match value {
            Value::Object(mut fields) => {
                fields.retain(|_, value| !value.is_null());
                Ok(Fields { fields, taken: Vec::new() })
            }
            other => Err(ApiError::invalid(
                None,
                Some("invalid_type"),
                format!("The body of the request must be a JSON object, found {}", type_name(&other)),
            )),
        }
    }

    /// Takes a field as it is.
    pub(crate) fn value(&mut self, name: &'static str) -> Option<Value> {
        self.taken.push(name);
        self.fields.shift_remove(name)
    }

    pub(crate) fn string(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(name, "a string", &other)),
        }
    }

    pub(crate) fn boolean(&mut self, name: &'static str) -> Result<bool, ApiError> {
        match self.value(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(wrong_type(name, "true or false", &other)),
        }
    }

    /// Takes a number from `low` to `high`.
    pub(crate) fn number(&mut self, name: &'static str, low: f64, high: f64) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| wrong_type(name, "a number", &value))?;
        if (low..=high).contains(&number) {
            return Ok(Some(number));
        }
        Err(wrong_value(name, format!("'{name}' must lie between {low} and {high}, found {value}")))
    }

    /// Takes a whole number from `low` up.
    pub(crate) fn integer(&mut self, name: &'static str, low: i64) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_i64() {
            Some(number) if number >= low => Ok(Some(number)),
            Some(_) => Err(wrong_value(name, format!("'{name}' must be at least {low}, found {value}"))),
            None => Err(wrong_type(name, "a whole number of at most 64 bits", &value)),
        }
    }

    /// Takes a field that is not honoured where it says what would happen anyway; any other value is refused.
    pub(crate) fn only(&mut self, name: &'static str, harmless: fn(&Value) -> bool) -> Result<(), ApiError> {
        match self.value(name) {
            Some(value) if !harmless(&value) => Err(ApiError::unsupported(
                name,
                format!(
                    "Unsupported parameter: '{name}' is not supported by this server with the value {}",
                    shorten(&value)
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Refuses what nobody took; returns the names that were accepted and ignored.
    pub(crate) fn finish(mut self) -> Result<Vec<&'static str>, ApiError> {
        let ignored = IGNORED.into_iter().filter(|name| self.fields.shift_remove(*name).is_some()).collect();
        let Some(name) = self.fields.keys().next() else { return Ok(ignored) };
        let near = self
            .taken
            .iter()
            .map(|known| (strsim::damerau_levenshtein(name, known), known))
            .filter(|&(distance, _)| distance <= 2)
            .min();
        let hint = near.map(|(_, known)| format!("; did you mean '{known}'?")).unwrap_or_default();
        Err(ApiError::unsupported(
            name,
            format!("Unsupported parameter: '{name}' is not supported by this server{hint}"),
        ))
    }
}

/// A field that must be there is not.
pub(crate) fn missing(name: &str) -> ApiError {
    ApiError::invalid(
        name.to_string(),
        Some("missing_required_parameter"),
        format!("Missing required parameter: '{name}'"),
    )
}

pub(crate) fn wrong_type(name: &str, expected: &str, found: &Value) -> ApiError {
    ApiError::invalid(
        name.to_string(),
        Some("invalid_type"),
        format!("Invalid type for '{name}': expected {expected}, found {}", type_name(found)),
    )
}

pub(crate) fn wrong_value(name: &str, message: String) -> ApiError {
    ApiError::invalid(name.to_string(), Some("invalid_value"), message)
}

pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(body: &str, expected: Expect) {
        let take = || -> Result<Vec<&'static str>, ApiError> {
            let mut fields = Fields::parse(body.as_bytes())?;
            fields.number("temperature", 0.0, 2.0)?;
            fields.integer("max_tokens", 1)?;
            fields.only("n", |n| *n == 1)?;
            fields.finish()
        };
        expected.assert_eq(&match take() {
            Ok(ignored) => format!("ignored {ignored:?}"),
            Err(error) => error.body()["error"].to_string(),
        });
    }

    #[test]
    fn broken_json_is_reported_with_its_position() {
        check(
            "{\"temperature\": 1,\n \"max_tokens\" 5}",
            expect![[
                r#"{"message":"Could not parse the JSON body of the request: expected `:` at line 2 column 15","type":"invalid_request_error","param":null,"code":"invalid_json"}"#
            ]],
        );
    }

    #[test]
    fn the_body_must_be_an_object() {
        check(
            "[1]",
            expect![[
                r#"{"message":"The body of the request must be a JSON object, found an array","type":"invalid_request_error","param":null,"code":"invalid_type"}"#
            ]],
        );
    }

    #[test]
    fn a_field_that_nobody_took_is_refused_by_name() {
        check(
            r#"{"temprature": 1}"#,
            expect![[
                r#"{"message":"Unsupported parameter: 'temprature' is not supported by this server; did you mean 'temperature'?","type":"invalid_request_error","param":"temprature","code":"unsupported_parameter"}"#
            ]],
        );
    }

    #[test]
    fn values_out_of_range_and_of_the_wrong_type_are_named() {
        check(
            r#"{"temperature": 2.5}"#,
            expect![[
                r#"{"message":"'temperature' must lie between 0 and 2, found 2.5","type":"invalid_request_error","param":"temperature","code":"invalid_value"}"#
            ]],
        );
        check(
            r#"{"max_tokens": "ten"}"#,
            expect![[
                r#"{"message":"Invalid type for 'max_tokens': expected a whole number of at most 64 bits, found a string","type":"invalid_request_error","param":"max_tokens","code":"invalid_type"}"#
            ]],
        );
        check(
            r#"{"n": 3}"#,
            expect![[
                r#"{"message":"Unsupported parameter: 'n' is not supported by this server with the value 3","type":"invalid_request_error","param":"n","code":"unsupported_parameter"}"#
            ]],
        );
    }

    #[test]
    fn harmless_fields_are_listed_and_null_is_absent() {
        check(
            r#"{"n": 1, "user": "ana", "store": false, "logprobs": null}"#,
            expect![[r#"ignored ["user", "store"]"#]],
        );
    }
}
