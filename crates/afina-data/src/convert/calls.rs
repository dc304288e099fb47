//! Calls of tools, in the ways that people write them.

use super::{
    draft::FoundCall,
    notes::{Converted, Notes, first, present},
    write,
};
use crate::json::{Kind, Value};

/// One call, a list of them, or either as JSON in a string.
pub(super) fn calls(value: Value, notes: &mut Notes) -> Converted<Vec<FoundCall>> {
    match value.kind() {
        Kind::Null => Ok(Vec::new()),
        Kind::Array => value.items().map(|item| call(item, notes)).collect(),
        Kind::Object => Ok(vec![call(value, notes)?]),
        Kind::String => notes.nested(value, "a call of a tool", |value, notes| match value.kind() {
            Kind::String => Err(notes.unexpected(value, "an object", CALL_HINT)),
            _ => calls(value, notes),
        }),
        _ => Err(notes.unexpected(value, "a list of calls", CALL_HINT)),
    }
}

const CALL_HINT: &str = "a call is `{\"name\": …, \"arguments\": {…}}`";

/// `{"id", "function": {"name", "arguments"}}`, or name and arguments (`parameters`, `args`, `input`) without a shell.
fn call(value: Value, notes: &mut Notes) -> Converted<FoundCall> {
    if value.kind() == Kind::String {
        return notes.nested(value, "a call of a tool", call);
    }
    if let Some(kind) = present(value, "type")
        && !["function", "function_call", "tool_use", "tool_call"].iter().any(|name| kind.is(name))
    {
        let found = crate::diagnostic::excerpt(&kind.text().unwrap_or_default());
        let message = format!("expected a call of a function, found one of type `{found}`");
        return Err(notes.refuse(kind, message, "leave the record out: only functions can be called"));
    }
    let shell = present(value, "function").filter(|function| function.kind() == Kind::Object);
    let function = shell.unwrap_or(value);
    let Some(name) = first(function, &["name"]).and_then(|name| name.text()) else {
        return Err(notes.refuse(value, "expected a call with a `name`, found none", CALL_HINT));
    };
    const ARGUMENTS: [&str; 4] = ["arguments", "parameters", "args", "input"];
    let arguments = first(function, &ARGUMENTS);
    let id = first(value, &["call_id", "id", "tool_call_id"]).and_then(|id| id.text());
    let mut known = ARGUMENTS.to_vec();
    known.push("name");
    if shell.is_some() {
        notes.leave_out_all_but("messages[].tool_calls[].function.", function, &known);
        known = vec!["function"];
    }
    known.extend(["id", "call_id", "tool_call_id", "type", "index", "status", "caller"]);
    notes.leave_out_all_but("messages[].tool_calls[].", value, &known);
    Ok(FoundCall {
        id: id.filter(|id| !id.is_empty()).map(Into::into),
        name: name.into_owned(),
        arguments: arguments_of(arguments),
    })
}

/// As JSON in a string.
fn arguments_of(value: Option<Value>) -> String {
    match value {
        None => "{}".to_owned(),
        Some(value) => match value.text() {
            Some(text) if text.trim().is_empty() => "{}".to_owned(),
            Some(text) => text.into_owned(),
            None => write::json(value),
        },
    }
}
