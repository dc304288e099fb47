//! The calls of an assistant message: their form, their ids, and that somebody declared what they call.

use afina_chat::Role;

use super::{arguments, declarations, declarations::Tools, not_a_string};
use crate::{
    diagnostic::excerpt,
    findings::Findings,
    json::{Kind, Value},
    rules::format::unless_local,
    view::{Message, Purpose},
};

pub(super) fn check_tool_calls(message: &Message, list: Value, tools: &Tools, purpose: Purpose, out: &mut Findings) {
    tool_calls_on_non_assistant(message, list, out);
    tool_calls_not_array(list, out);
    tool_calls_empty(list, out);
    let exemplary = is_exemplary(message, tools, purpose);
    for call in list.items() {
        check_call(call, out);
        if let Some(function) = call.get("function").filter(|_| exemplary) {
            tool_call_undeclared(function, tools, out);
            arguments::check_arguments(function, tools, out);
        }
    }
    tool_call_id_duplicate(list, out);
    if exemplary && tools.one_at_a_time {
        parallel_tool_calls_violated(list, out);
    }
}

/// Whether its calls are to be made like this: not those of an answer to be avoided, and not those that are kept out
/// of training by their weight, as failed attempts are.
pub(super) fn is_exemplary(message: &Message, tools: &Tools, purpose: Purpose) -> bool {
    message.meant == Some(Role::Assistant) && !tools.rejected && (message.trained || purpose != Purpose::Train)
}

fn check_call(call: Value, out: &mut Findings) {
    if !tool_call_function_missing(call, out) {
        tool_call_type_invalid(call, out);
        if let Some(function) = call.get("function") {
            declarations::function_name_invalid(function, out);
            tool_arguments_not_string(function, out);
        }
    }
    tool_call_missing_id(call, out);
}

/// `parallel_tool_calls` is not a boolean.
///
/// Null is a warning: it says the same as leaving it out.
pub(super) fn parallel_tool_calls_type(parallel: Value, out: &mut Findings) {
    let hint = "write true or false, without quotes";
    match parallel.kind() {
        Kind::True | Kind::False => {}
        Kind::Null => out.warning("parallel-tool-calls-type", parallel, "expected true or false, found null", hint),
        _ => out.error(
            "parallel-tool-calls-type",
            parallel,
            format!("expected true or false, found {}", parallel.described()),
            hint,
        ),
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
    let kind = call.get("type");
    if !kind.is_some_and(|kind| kind.is("function")) {
        let found = match kind.map(|kind| (kind, kind.text())) {
            None => "none".to_owned(),
            Some((_, Some(text))) => format!("`{}`", excerpt(&text)),
            Some((kind, None)) => kind.described().to_owned(),
        };
        out.error(
            "tool-call-type-invalid",
            kind.unwrap_or(call),
            format!("expected `\"type\": \"function\"`, found {found}"),
            "write `\"type\": \"function\"`",
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

/// A function is called that the record does not declare.
///
/// At work the model may only call what the request declares, so it should see the same in training. Almost always the
/// name is a slip, or the declaration was lost. Where declarations are left out on purpose, to save tokens, ignore it.
/// Not checked in the answer of a preference pair that is to be avoided, nor in a message of weight 0.
pub(super) fn tool_call_undeclared(function: Value, tools: &Tools, out: &mut Findings) {
    if tools.unreadable {
        return;
    }
    let Some(value) = function.get("name") else { return };
    let Some(name) = value.text().filter(|name| declarations::is_name(name)) else { return };
    if tools.all().any(|declared| *declared.name == *name) {
        return;
    }
    let lower = name.to_lowercase().replace('-', "_");
    let similar = tools.all().find(|declared| declared.name.to_lowercase().replace('-', "_") == lower);
    let hint = match similar {
        Some(similar) => format!("write `{}`", excerpt(&similar.name)),
        None => "declare it in `tools`, or mend the name".to_owned(),
    };
    out.warning(
        "tool-call-undeclared",
        value,
        format!("expected a function that `tools` declares, found `{}`", excerpt(&name)),
        hint,
    );
}

/// Two calls of one message have the same id.
///
/// The answers name the call by its id: nobody can tell which of them is meant. Ids may come again in other messages
/// and other records.
fn tool_call_id_duplicate(calls: Value, out: &mut Findings) {
    if calls.items().nth(1).is_none() {
        return;
    }
    let ids: Vec<_> = calls.items().filter_map(|call| call.get("id")).collect();
    for (index, id) in ids.iter().enumerate() {
        if let Some(text) = id.text()
            && ids[..index].iter().any(|earlier| earlier.is(&text))
        {
            out.error(
                "tool-call-id-duplicate",
                *id,
                format!("expected an id of its own, found `{}` a second time in this message", excerpt(&text)),
                "give each call an id of its own, and name it in the answer's `tool_call_id`",
            );
        }
    }
}

/// A message has several calls, and `parallel_tool_calls` is false.
///
/// Either the setting is wrong, or the calls belong in messages one after the other, each followed by its answer.
fn parallel_tool_calls_violated(calls: Value, out: &mut Findings) {
    let count = calls.items().count();
    if count > 1 {
        out.warning(
            "parallel-tool-calls-violated",
            calls,
            format!("expected one call, as `parallel_tool_calls` is false, found {count}"),
            "make one call in a message, or set `parallel_tool_calls` to true",
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

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::{
        Method, Profile, ReadOptions,
        testing::{check, check_with},
    };

    /// A record that declares `f` and `g_1`, with these calls and what comes before `messages`.
    fn record(head: &str, calls: &str) -> String {
        format!(
            r#"{{{head}"tools":[{{"type":"function","function":{{"name":"f"}}}},{{"type":"function","function":{{"name":"g_1"}}}}],"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","tool_calls":{calls}}}]}}"#
        ) + "\n"
    }

    fn call(id: &str, name: &str) -> String {
        format!(r#"{{"id":"{id}","type":"function","function":{{"name":"{name}","arguments":"{{}}"}}}}"#)
    }

    #[test]
    fn calls_have_their_shape() {
        let file = [
            record("", "[]"),
            record("", "{}"),
            record(
                "",
                r#"[{"type":"function","function":{"name":"f","arguments":{}}},{"id":"c","function":{"name":"f","arguments":"{}"}},{"id":"d","type":"function"},5]"#,
            ),
            record("", r#"[{"id":"c","type":"tool","function":{"name":"f","arguments":"{}"}}]"#),
            record("", r#"[{"id":7,"type":null,"function":{"name":"a.b","arguments":"{}"}}]"#),
            record("", r#"[{"id":"c","type":"function","name":"f","arguments":"{}"}]"#),
            record("", r#"[{"id":"c","type":"function","function":{"name":"f"}}]"#),
        ];
        check(
            file.concat(),
            expect![[r#"
            1:177: error[tool-calls-empty] /messages/1/tool_calls: expected at least one call, found an empty list
            2:177: error[tool-calls-not-array] /messages/1/tool_calls: expected `tool_calls` to be an array, found an object
            3:178: error[tool-call-missing-id] /messages/1/tool_calls/0: expected an `id`, found none
            3:232: error[tool-arguments-not-string] /messages/1/tool_calls/0/function/arguments: expected a string with JSON in it, found an object
            3:237: error[tool-call-type-invalid] /messages/1/tool_calls/1: expected `"type": "function"`, found none
            3:289: error[tool-call-function-missing] /messages/1/tool_calls/2: expected a call with `function`, found none
            3:318: error[tool-call-function-missing] /messages/1/tool_calls/3: expected a call with `id`, `type` and `function`, found none
            4:195: error[tool-call-type-invalid] /messages/1/tool_calls/0/type: expected `"type": "function"`, found `tool`
            5:178: error[tool-call-missing-id] /messages/1/tool_calls/0: expected an `id`, found a number
            5:193: error[tool-call-type-invalid] /messages/1/tool_calls/0/type: expected `"type": "function"`, found null
            5:217: error[function-name-invalid] /messages/1/tool_calls/0/function/name: expected 1 to 64 of `a-z A-Z 0-9 _ -`, found `a.b`
            6:178: error[tool-call-function-missing] /messages/1/tool_calls/0: expected a call with `function`, found none
            7:217: error[tool-call-function-missing] /messages/1/tool_calls/0/function: expected a call with `arguments`, found none
        "#]],
        );
    }

    #[test]
    fn only_the_assistant_calls() {
        let file = format!(
            r#"{{"messages":[{{"role":"user","content":"a","tool_calls":[{0}]}},{{"role":"assistant","content":"b","tool_calls":null}}]}}"#,
            call("c", "f")
        );
        check(
            &file,
            expect![[r#"
            1:56: error[tool-calls-on-non-assistant] /messages/0/tool_calls: expected no `tool_calls` in a user message, found some
            1:176: warning[tool-calls-not-array] /messages/1/tool_calls: expected `tool_calls` to be an array, found null
        "#]],
        );
        check_with(
            &ReadOptions::new(Method::Sft, Profile::Local),
            &file,
            expect![[r#"
            1:56: warning[tool-calls-on-non-assistant] /messages/0/tool_calls: expected no `tool_calls` in a user message, found some
            1:176: warning[tool-calls-not-array] /messages/1/tool_calls: expected `tool_calls` to be an array, found null
        "#]],
        );
    }

    #[test]
    fn what_is_called_is_declared() {
        let file = [
            record("", &format!("[{}]", call("c", "f"))),
            record("", &format!("[{},{}]", call("c", "G-1"), call("d", "h"))),
            record("", &format!("[{}]", call("c", "functions.f"))),
            record("", &format!("[{}]", call("c", "h"))).replace("}]}]}", r#"}],"weight":0}]}"#),
            record("", &format!("[{}]", call("c", "h"))).replace(r#""tools":["#, r#""tools":7,"x":["#),
            format!(
                r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","tool_calls":[{}]}}]}}"#,
                call("c", "f")
            ),
        ];
        check(
            file.concat(),
            expect![[r#"
            2:225: warning[tool-call-undeclared] /messages/1/tool_calls/0/function/name: expected a function that `tools` declares, found `G-1`
            2:297: warning[tool-call-undeclared] /messages/1/tool_calls/1/function/name: expected a function that `tools` declares, found `h`
            3:225: error[function-name-invalid] /messages/1/tool_calls/0/function/name: expected 1 to 64 of `a-z A-Z 0-9 _ -`, found `functions.f`
            4:113: error[all-weights-zero] /messages: expected an assistant message to learn, found only such with weight 0
            5:10: error[tools-not-array] /tools: expected `tools` to be an array, found a number
            5:12: error[unknown-top-level-key] /x: expected only `messages`, `tools`, `parallel_tool_calls`, `functions`, found `x`
            6:125: warning[tool-call-undeclared] /messages/1/tool_calls/0/function/name: expected a function that `tools` declares, found `f`
        "#]],
        );
    }

    #[test]
    fn ids_differ_inside_a_message() {
        let two = |first: &str, second: &str| format!("[{},{}]", call(first, "f"), call(second, "g_1"));
        check(
            [record("", &two("a", "b")), record("", &two("a", "a"))].concat(),
            expect![[r#"
            2:254: error[tool-call-id-duplicate] /messages/1/tool_calls/1/id: expected an id of its own, found `a` a second time in this message
        "#]],
        );
    }

    #[test]
    fn calls_are_single_where_parallel_ones_are_switched_off() {
        let two = format!("[{},{}]", call("a", "f"), call("b", "g_1"));
        let one = format!("[{}]", call("a", "f"));
        let file = [
            record(r#""parallel_tool_calls":false,"#, &two),
            record(r#""parallel_tool_calls":false,"#, &one),
            record(r#""parallel_tool_calls":true,"#, &two).replace(r#""a""#, r#""x""#),
            record(r#""parallel_tool_calls":"no","#, &one),
            record(r#""parallel_tool_calls":null,"#, &one),
        ];
        check(
            file.concat(),
            expect![[r#"
            1:205: warning[parallel-tool-calls-violated] /messages/1/tool_calls: expected one call, as `parallel_tool_calls` is false, found 2
            4:24: error[parallel-tool-calls-type] /parallel_tool_calls: expected true or false, found a string
            5:24: warning[parallel-tool-calls-type] /parallel_tool_calls: expected true or false, found null
        "#]],
        );
    }
}
