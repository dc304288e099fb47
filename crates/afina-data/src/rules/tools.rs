//! Tools and calls: that they have the shape which the chat format gives them.

use afina_chat::Role;

use super::format::unless_local;
use crate::{
    diagnostic::excerpt,
    findings::Findings,
    json::{Kind, Value},
    view::{Message, Turns},
};

/// Declarations beside the messages: of a chat record, or of a preference record's `input`.
pub(crate) fn check_declarations(record: Value, out: &mut Findings) {
    if let Some(tools) = record.get("tools").filter(|tools| !tools.is_null()) {
        tools_not_array(tools, out);
        for tool in tools.items() {
            if !tool_flat_format(tool, out) {
                tool_type_invalid(tool, out);
                if let Some(function) = tool.get("function").filter(|function| function.kind() == Kind::Object) {
                    check_function(function, out);
                }
            }
        }
    }
    if let Some(functions) = record.members().filter(|member| member.key.is("functions")).last() {
        functions_deprecated(functions.key, out);
        functions.value.items().for_each(|function| check_function(function, out));
    }
    if let Some(parallel) = record.get("parallel_tool_calls") {
        parallel_tool_calls_type(parallel, out);
    }
}

fn check_function(function: Value, out: &mut Findings) {
    tool_name_missing(function, out);
    function_name_invalid(function, out);
    tool_parameters_invalid(function, out);
}

/// The calls of a message, and what answers them.
pub(crate) fn check_calls(turns: &Turns, out: &mut Findings) {
    for message in &turns.messages {
        if let Some(calls) = message.tool_calls {
            tool_calls_on_non_assistant(message, calls, out);
            tool_calls_not_array(calls, out);
            tool_calls_empty(calls, out);
            calls.items().for_each(|call| check_call(call, out));
        }
        if let Some(call) = message.function_call.filter(|call| !call.is_null()) {
            function_call_invalid(call, out);
        }
        tool_message_missing_id(message, out);
        function_message_missing_name(message, out);
    }
}

fn check_call(call: Value, out: &mut Findings) {
    if !tool_call_function_missing(call, out) {
        tool_call_type_invalid(call, out);
        if let Some(function) = call.get("function") {
            function_name_invalid(function, out);
            tool_arguments_not_string(function, out);
        }
    }
    tool_call_missing_id(call, out);
}

/// `tools` is not an array.
fn tools_not_array(tools: Value, out: &mut Findings) {
    if tools.kind() != Kind::Array {
        let hint = if tools.kind() == Kind::String {
            "decode it once: `json.loads(record[\"tools\"])`"
        } else {
            "write a list of tools"
        };
        out.error(
            "tools-not-array",
            tools,
            format!("expected `tools` to be an array, found {}", tools.described()),
            hint,
        );
    }
}

/// The `type` of a tool is missing or not `function`.
///
/// Hosted tools such as `retrieval` cannot be trained.
fn tool_type_invalid(tool: Value, out: &mut Findings) {
    let kind = tool.get("type");
    let nested = tool.get("function").is_some_and(|function| function.kind() == Kind::Object);
    if kind.is_some_and(|kind| kind.is("function")) && nested {
        return;
    }
    let found = match kind {
        None if tool.kind() != Kind::Object => tool.described().to_owned(),
        None => "none".to_owned(),
        Some(kind) if kind.is("function") => "no object `function`".to_owned(),
        Some(kind) => format!("`{}`", excerpt(kind.raw().trim_matches('"'))),
    };
    out.error(
        "tool-type-invalid",
        kind.unwrap_or(tool),
        format!("expected `\"type\": \"function\"` and its `function`, found {found}"),
        "write `{\"type\": \"function\", \"function\": {\"name\": …, \"parameters\": …}}`",
    );
}

/// A tool is declared without the object `function`.
///
/// The Responses API writes `{"type": "function", "name": …}`, Anthropic `{"name": …, "input_schema": …}`. Nest name,
/// description and parameters under `function`.
fn tool_flat_format(tool: Value, out: &mut Findings) -> bool {
    let flat = tool.get("name").is_some() && tool.get("function").is_none();
    if flat {
        let found = if tool.get("input_schema").is_some() {
            "Anthropic's form with `input_schema`"
        } else {
            "its `name` beside `type`"
        };
        out.error(
            "tool-flat-format",
            tool,
            format!("expected name and parameters inside `function`, found {found}"),
            "write `{\"type\": \"function\", \"function\": {\"name\": …, \"parameters\": …}}`",
        );
    }
    flat
}

/// A function is declared without a name.
fn tool_name_missing(function: Value, out: &mut Findings) {
    if let Some(found) = not_a_string(function, "name") {
        out.error(
            "tool-name-missing",
            function,
            format!("expected a `name`, found {found}"),
            "give the function a name",
        );
    }
}

/// The name of a function has other characters than `a-z A-Z 0-9 _ -`, or not 1 to 64 of them.
fn function_name_invalid(function: Value, out: &mut Findings) {
    let Some(value) = function.get("name") else { return };
    let Some(name) = value.text() else { return };
    let good = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
    if !(1..=64).contains(&name.len()) || !name.chars().all(good) {
        out.error(
            "function-name-invalid",
            value,
            format!("expected 1 to 64 of `a-z A-Z 0-9 _ -`, found `{}`", excerpt(&name)),
            "rename the function, in its calls too",
        );
    }
}

/// `parameters` of a function is not an object.
///
/// It is a JSON Schema such as `{"type": "object", "properties": {…}}`. Leave it out where there are none.
fn tool_parameters_invalid(function: Value, out: &mut Findings) {
    let Some(parameters) = function.get("parameters").filter(|parameters| parameters.kind() != Kind::Object) else {
        return;
    };
    let hint = if parameters.kind() == Kind::String {
        "decode it once: `json.loads(parameters)`"
    } else {
        "write `{\"type\": \"object\", \"properties\": {…}}`, or leave it out"
    };
    out.error(
        "tool-parameters-invalid",
        parameters,
        format!("expected a JSON Schema, found {}", parameters.described()),
        hint,
    );
}

/// `functions` is deprecated.
///
/// Use `tools`, and `tool_calls` in place of `function_call`.
fn functions_deprecated(place: Value, out: &mut Findings) {
    out.warning(
        "functions-deprecated",
        place,
        "expected `tools`, found `functions`, which is deprecated",
        "write each as `{\"type\": \"function\", \"function\": …}` in `tools`, and calls as `tool_calls`",
    );
}

/// `parallel_tool_calls` is not a boolean.
fn parallel_tool_calls_type(parallel: Value, out: &mut Findings) {
    if !matches!(parallel.kind(), Kind::True | Kind::False) {
        out.error(
            "parallel-tool-calls-type",
            parallel,
            format!("expected true or false, found {}", parallel.described()),
            "write true or false, without quotes",
        );
    }
}

/// `tool_calls` is not an array.
///
/// Null is a warning: it says the same as leaving it out.
fn tool_calls_not_array(calls: Value, out: &mut Findings) {
    match calls.kind() {
        Kind::Array => {}
        Kind::Null => out.warning(
            "tool-calls-not-array",
            calls,
            "expected `tool_calls` to be an array, found null",
            "leave it out where there are none",
        ),
        _ => out.error(
            "tool-calls-not-array",
            calls,
            format!("expected `tool_calls` to be an array, found {}", calls.described()),
            "put the call in a list",
        ),
    }
}

/// `tool_calls` is an empty list.
///
/// The chat API refuses it ("[] is too short"). Leave it out.
fn tool_calls_empty(calls: Value, out: &mut Findings) {
    if calls.kind() == Kind::Array && calls.items().next().is_none() {
        out.error(
            "tool-calls-empty",
            calls,
            "expected at least one call, found an empty list",
            "leave `tool_calls` out where there are none",
        );
    }
}

/// A message that is not the assistant's has `tool_calls`.
///
/// Only the assistant calls tools. With `--profile local` it is a warning: the calls are ignored.
fn tool_calls_on_non_assistant(message: &Message, calls: Value, out: &mut Findings) {
    if let Some(role) = message.meant.filter(|role| *role != Role::Assistant && !calls.is_null()) {
        let severity = unless_local(out);
        out.add(
            severity,
            "tool-calls-on-non-assistant",
            calls,
            format!("expected no `tool_calls` in a {role} message, found some"),
            "move them to the assistant message that calls",
        );
    }
}

/// A call has no `id`.
///
/// The tool's answer names it in `tool_call_id`. With `--profile local` it is a warning: one is made up.
fn tool_call_missing_id(call: Value, out: &mut Findings) {
    if let Some(found) = not_a_string(call, "id").filter(|_| call.kind() == Kind::Object) {
        let severity = unless_local(out);
        out.add(
            severity,
            "tool-call-missing-id",
            call,
            format!("expected an `id`, found {found}"),
            "give it one, as `call_1`, and name it in the answer's `tool_call_id`",
        );
    }
}

/// The `type` of a call is missing or not `function`.
fn tool_call_type_invalid(call: Value, out: &mut Findings) {
    if !call.get("type").is_some_and(|kind| kind.is("function")) {
        let place = call.get("type").unwrap_or(call);
        out.error(
            "tool-call-type-invalid",
            place,
            "expected `\"type\": \"function\"`, found none",
            "add `\"type\": \"function\"`",
        );
    }
}

/// A call has no `function` with `name` and `arguments`.
///
/// ```json
/// {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}}
/// ```
fn tool_call_function_missing(call: Value, out: &mut Findings) -> bool {
    let function = call.get("function").filter(|function| function.kind() == Kind::Object);
    let name = function.and_then(|function| function.get("name")).filter(|name| name.kind() == Kind::String);
    let missing = match function {
        _ if call.kind() != Kind::Object => Some("`id`, `type` and `function`"),
        None => Some("`function`"),
        Some(_) if name.is_none() => Some("`name`"),
        Some(function) if function.get("arguments").is_none() => Some("`arguments`"),
        Some(_) => None,
    };
    if let Some(missing) = missing {
        let hint = "write `\"function\": {\"name\": …, \"arguments\": \"{…}\"}`";
        out.error(
            "tool-call-function-missing",
            function.unwrap_or(call),
            format!("expected a call with {missing}, found none"),
            hint,
        );
    }
    missing.is_some()
}

/// `arguments` of a call is not a string.
///
/// It is JSON in a string, as the model writes it: `json.dumps(arguments)`.
fn tool_arguments_not_string(function: Value, out: &mut Findings) {
    if let Some(arguments) = function.get("arguments").filter(|arguments| arguments.kind() != Kind::String) {
        out.error(
            "tool-arguments-not-string",
            arguments,
            format!("expected a string with JSON in it, found {}", arguments.described()),
            "make it a string: `json.dumps(arguments)`",
        );
    }
}

/// A tool message has no `tool_call_id`.
///
/// It says which call is answered.
fn tool_message_missing_id(message: &Message, out: &mut Findings) {
    if message.role == Some(Role::Tool)
        && let Some(found) = not_a_string(message.value, "tool_call_id")
    {
        out.error(
            "tool-message-missing-id",
            message.value,
            format!("expected a `tool_call_id`, found {found}"),
            "name the `id` of the call that it answers",
        );
    }
}

/// A function message has no `name`.
///
/// It says which function answered.
fn function_message_missing_name(message: &Message, out: &mut Findings) {
    if message.role == Some(Role::Function) && message.value.get("name").is_none() {
        out.error(
            "function-message-missing-name",
            message.value,
            "expected a `name`, found none",
            "name the function that answered",
        );
    }
}

/// `function_call` has no `name` and `arguments` as strings.
fn function_call_invalid(call: Value, out: &mut Findings) {
    let missing = ["name", "arguments"].iter().find_map(|key| Some((key, not_a_string(call, key)?)));
    if let Some((key, found)) = missing {
        out.error(
            "function-call-invalid",
            call,
            format!("expected `{key}` to be a string, found {found}"),
            "write `{\"name\": …, \"arguments\": \"{…}\"}`",
        );
    }
}

/// A value has another type than the format gives it.
///
/// `description` of a function and `refusal` are strings, `strict` is a boolean, `functions` is a list of objects.
pub(crate) fn value_type_invalid(value: Value, out: &mut Findings) {
    out.error(
        "value-type-invalid",
        value,
        format!("expected another type here, found {}", value.described()),
        "`description` and `refusal` are strings, `strict` is true or false, `functions` is a list of objects",
    );
}

/// What stands where a string should; `None` where one does.
fn not_a_string(object: Value, key: &str) -> Option<&'static str> {
    match object.get(key) {
        None => Some("none"),
        Some(value) if value.kind() != Kind::String => Some(value.described()),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_messages};

    #[test]
    fn declarations_have_their_shape() {
        let with = |tools: &str| {
            format!(
                r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","content":"ok"}}],"tools":{tools}}}"#
            )
        };
        let records = [
            with("\"[]\""),
            with(r#"[{"type":"function","function":{"name":"f","parameters":{}}}]"#),
            with(
                r#"[{"type":"retrieval"},{"type":"function","name":"f"},{"type":"function","function":{"name":"a.b","parameters":[]}},{"type":"function","function":{}}]"#,
            ),
            with(r#"[{"type":"function","function":{"name":"f","description":7}}]"#),
            with(r#"[],"parallel_tool_calls":"yes","functions":[{"name":"f"}]"#),
        ];
        check(
            records.join("\n"),
            expect![[r#"
            1:89: error[tools-not-array] /tools: expected `tools` to be an array, found a string
            3:98: error[tool-type-invalid] /tools/0/type: expected `"type": "function"` and its `function`, found `retrieval`
            3:111: error[tool-flat-format] /tools/1: expected name and parameters inside `function`, found its `name` beside `type`
            3:180: error[function-name-invalid] /tools/2/function/name: expected 1 to 64 of `a-z A-Z 0-9 _ -`, found `a.b`
            3:199: error[tool-parameters-invalid] /tools/2/function/parameters: expected a JSON Schema, found an array
            3:234: error[tool-name-missing] /tools/3/function: expected a `name`, found none
            4:146: error[value-type-invalid] /tools/0/function/description: expected another type here, found a number
            5:114: error[parallel-tool-calls-type] /parallel_tool_calls: expected true or false, found a string
            5:120: warning[functions-deprecated] /functions: expected `tools`, found `functions`, which is deprecated
        "#]],
        );
    }

    #[test]
    fn calls_have_their_shape() {
        check_messages(
            &[
                r#"{"role":"user","content":"x","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
                r#"{"role":"assistant","content":"x","tool_calls":null},{"role":"user","content":"x"}"#,
                r#"{"role":"assistant","tool_calls":[]},{"role":"user","content":"x"}"#,
                r#"{"role":"assistant","tool_calls":[{"type":"function","function":{"name":"f","arguments":{}}},{"id":"c","function":{"name":"f","arguments":"{}"}},{"id":"c","type":"function"},5]},{"role":"user","content":"x"}"#,
                r#"{"role":"tool","content":"x"}"#,
                r#"{"role":"function","content":"x"}"#,
                r#"{"role":"assistant","function_call":{"name":"f","arguments":{}}},{"role":"user","content":"x"}"#,
            ],
            expect![[r#"
                1:94: error[tool-calls-on-non-assistant] /messages/1/tool_calls: expected no `tool_calls` in a user message, found some
                2:99: warning[tool-calls-not-array] /messages/1/tool_calls: expected `tool_calls` to be an array, found null
                3:85: error[tool-calls-empty] /messages/1/tool_calls: expected at least one call, found an empty list
                4:86: error[tool-call-missing-id] /messages/1/tool_calls/0: expected an `id`, found none
                4:140: error[tool-arguments-not-string] /messages/1/tool_calls/0/function/arguments: expected a string with JSON in it, found an object
                4:145: error[tool-call-type-invalid] /messages/1/tool_calls/1: expected `"type": "function"`, found none
                4:197: error[tool-call-function-missing] /messages/1/tool_calls/2: expected a call with `function`, found none
                4:226: error[tool-call-function-missing] /messages/1/tool_calls/3: expected a call with `id`, `type` and `function`, found none
                5:52: error[tool-message-missing-id] /messages/1: expected a `tool_call_id`, found none
                6:52: error[function-message-missing-name] /messages/1: expected a `name`, found none
                6:60: warning[function-role-deprecated] /messages/1/role: expected role `tool`, found `function`, which is deprecated
                7:88: error[function-call-invalid] /messages/1/function_call: expected `arguments` to be a string, found an object
            "#]],
        );
    }
}
