//! The deprecated way: `functions`, `function_call`, and messages with role `function`.

use afina_chat::Role;

use super::{
    arguments, calls,
    declarations::{self, Tools},
    not_a_string,
};
use crate::{
    findings::Findings,
    json::{Kind, Member, Value},
    read::Method,
    view::{Message, Purpose},
};

/// The value of `functions`.
pub(super) fn check_functions(member: Member, tools: &mut Tools, out: &mut Findings) {
    let list = member.value;
    if list.is_null() {
        return;
    }
    functions_deprecated(member.key, "`functions`", out);
    if list.items().next().is_some() && !tools.functions.is_empty() {
        tools_and_functions(member.key, out);
    }
    tools.unreadable |= list.kind() != Kind::Array;
    declarations::too_many_tools(list, out);
    let functions: Vec<_> = list.items().filter(|function| function.kind() == Kind::Object).collect();
    for function in &functions {
        declarations::check_function(*function, out);
    }
    declarations::duplicate_tool_name(&functions, out);
    tools.old_functions = functions.into_iter().map(|function| declarations::read(function, list)).collect();
}

/// The value of `function_call` in a message.
pub(super) fn check_function_call(message: &Message, call: Value, tools: &Tools, purpose: Purpose, out: &mut Findings) {
    // Where `functions` is there, it was said once for the record.
    if tools.old_functions.is_empty() && out.options.method != Method::Rft {
        functions_deprecated(call, "`function_call`", out);
    }
    declarations::function_name_invalid(call, out);
    if !function_call_invalid(call, out) && calls::is_exemplary(message, tools, purpose) {
        calls::tool_call_undeclared(call, tools, out);
        arguments::check_arguments(call, tools, out);
    }
}

/// `functions` or `function_call` is used, which are deprecated.
///
/// Use `tools` in place of `functions`, and `tool_calls` in place of `function_call`.
fn functions_deprecated(place: Value, name: &str, out: &mut Findings) {
    let (wanted, hint) = match name {
        "`functions`" => ("`tools`", "write each as `{\"type\": \"function\", \"function\": …}` in `tools`"),
        _ => ("`tool_calls`", "write `\"tool_calls\": [{\"id\": …, \"type\": \"function\", \"function\": …}]`"),
    };
    out.warning("functions-deprecated", place, format!("expected {wanted}, found {name}, which is deprecated"), hint);
}

/// A record has both `tools` and `functions`.
///
/// They are the new and the old name of one thing; which of them counts is not said anywhere. Move the functions into
/// `tools`.
fn tools_and_functions(place: Value, out: &mut Findings) {
    out.warning(
        "tools-and-functions",
        place,
        "expected either `tools` or `functions`, found both",
        "move the functions into `tools`",
    );
}

/// A function message has no `name`.
///
/// It says which function answered.
pub(super) fn function_message_missing_name(message: &Message, out: &mut Findings) {
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
fn function_call_invalid(call: Value, out: &mut Findings) -> bool {
    let missing = ["name", "arguments"].iter().find_map(|key| Some((key, not_a_string(call, key)?)));
    if let Some((key, found)) = missing {
        out.error(
            "function-call-invalid",
            call,
            format!("expected `{key}` to be a string, found {found}"),
            "write `{\"name\": …, \"arguments\": \"{…}\"}`",
        );
    }
    missing.is_some()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::{
        Method, Profile, ReadOptions,
        testing::{check, check_with},
    };

    fn record(head: &str, message: &str) -> String {
        format!(
            r#"{{{head}"messages":[{{"role":"user","content":"a"}},{message},{{"role":"assistant","content":"b"}}]}}"#
        ) + "\n"
    }

    #[test]
    fn the_old_way_is_named_once_in_a_record() {
        let call = r#"{"role":"assistant","function_call":{"name":"f","arguments":"{}"}},{"role":"function","name":"f","content":"1"}"#;
        let file = [
            record(r#""functions":[{"name":"f"}],"#, call),
            record("", call),
            record(r#""functions":null,"#, r#"{"role":"user","content":"x"}"#),
            record(r#""functions":[],"tools":[],"#, r#"{"role":"user","content":"x"}"#),
            record(
                r#""functions":[{"name":"f"},{"name":"f"},{"name":"a b"}],"tools":[{"type":"function","function":{"name":"g"}}],"#,
                r#"{"role":"user","content":"x"}"#,
            ),
        ];
        check(
            file.concat(),
            expect![[r#"
            1:2: warning[functions-deprecated] /functions: expected `tools`, found `functions`, which is deprecated
            1:146: warning[function-role-deprecated] /messages/2/role: expected role `tool`, found `function`, which is deprecated
            2:80: warning[functions-deprecated] /messages/1/function_call: expected `tool_calls`, found `function_call`, which is deprecated
            2:88: warning[tool-call-undeclared] /messages/1/function_call/name: expected a function that `tools` declares, found `f`
            2:111: warning[tool-message-without-tools] /messages/2: expected `tools` that declare what answers here, found none
            2:119: warning[function-role-deprecated] /messages/2/role: expected role `tool`, found `function`, which is deprecated
            4:2: warning[functions-deprecated] /functions: expected `tools`, found `functions`, which is deprecated
            5:2: warning[functions-deprecated] /functions: expected `tools`, found `functions`, which is deprecated
            5:2: warning[tools-and-functions] /functions: expected either `tools` or `functions`, found both
            5:36: warning[duplicate-tool-name] /functions/1/name: expected a name of its own, found `f` declared twice
            5:49: error[function-name-invalid] /functions/2/name: expected 1 to 64 of `a-z A-Z 0-9 _ -`, found `a b`
        "#]],
        );
    }

    #[test]
    fn old_calls_have_their_shape() {
        let file = [
            record("", r#"{"role":"assistant","function_call":{"name":"f","arguments":{}}}"#),
            record("", r#"{"role":"assistant","function_call":"f"}"#),
            record("", r#"{"role":"function","content":"x"}"#),
            record(
                r#""functions":[{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"number"}}}}],"#,
                r#"{"role":"assistant","function_call":{"name":"f","arguments":"{\"a\":\"1\"}"}}"#,
            ),
        ];
        check(
            file.concat(),
            expect![[r#"
            1:80: warning[functions-deprecated] /messages/1/function_call: expected `tool_calls`, found `function_call`, which is deprecated
            1:80: error[function-call-invalid] /messages/1/function_call: expected `arguments` to be a string, found an object
            2:80: warning[functions-deprecated] /messages/1/function_call: expected `tool_calls`, found `function_call`, which is deprecated
            2:80: error[function-call-invalid] /messages/1/function_call: expected `name` to be a string, found none
            3:44: error[function-message-missing-name] /messages/1: expected a `name`, found none
            3:44: warning[tool-message-without-tools] /messages/1: expected `tools` that declare what answers here, found none
            3:52: warning[function-role-deprecated] /messages/1/role: expected role `tool`, found `function`, which is deprecated
            4:2: warning[functions-deprecated] /functions: expected `tools`, found `functions`, which is deprecated
            4:207: warning[tool-arguments-schema-mismatch] /messages/1/function_call/arguments: expected `a` to be a number, found the string `1`
        "#]],
        );
    }

    #[test]
    fn a_reinforcement_file_may_call_a_field_functions() {
        check_with(
            &ReadOptions::new(Method::Rft, Profile::OpenAi),
            r#"{"messages":[{"role":"user","content":"a"}],"functions":"x^2"}"#,
            expect![[""]],
        );
    }
}
