//! Declarations of tools: OpenAI's, flat ones (Responses, ShareGPT), Anthropic's and Gemini's.

use super::{
    notes::{Converted, Notes, first, present},
    write,
};
use crate::json::{Kind, Value};

const HINT: &str = "a tool is `{\"type\": \"function\", \"function\": {\"name\", \"description\", \"parameters\"}}`";

/// Each as JSON in OpenAI's shape; `value` is a list, one tool, or either as JSON in a string.
pub(super) fn tools(value: Value, notes: &mut Notes) -> Converted<Vec<Vec<u8>>> {
    let mut list = Vec::new();
    add(value, &mut list, notes)?;
    Ok(list)
}

fn add(value: Value, list: &mut Vec<Vec<u8>>, notes: &mut Notes) -> Converted<()> {
    match value.kind() {
        Kind::Null => Ok(()),
        Kind::String if value.is_blank() => Ok(()),
        Kind::String => notes.nested(value, "a list of tools", |value, notes| match value.kind() {
            Kind::String => Err(notes.unexpected(value, "a list of tools", HINT)),
            _ => add(value, list, notes),
        }),
        Kind::Array => value.items().try_for_each(|item| add(item, list, notes)),
        Kind::Object => {
            let declarations = first(value, &["functionDeclarations", "function_declarations"]);
            match declarations {
                Some(declarations) => {
                    let known = ["functionDeclarations", "function_declarations"];
                    notes.leave_out_all_but("tools[].", value, &known);
                    declarations.items().try_for_each(|item| add(item, list, notes))
                }
                None => tool(value, list, notes),
            }
        }
        _ => Err(notes.unexpected(value, "a list of tools", HINT)),
    }
}

fn tool(value: Value, list: &mut Vec<Vec<u8>>, notes: &mut Notes) -> Converted<()> {
    let shell = present(value, "function").filter(|function| function.kind() == Kind::Object);
    let function = shell.unwrap_or(value);
    if shell.is_some() {
        notes.leave_out_all_but("tools[].", value, &["type", "function"]);
    }
    let kind = present(value, "type").and_then(|kind| kind.text());
    if kind.is_some_and(|kind| !["function", "custom"].contains(&kind.as_ref())) {
        // A tool that runs at the service, as `web_search`.
        notes.leave_out("", "tools[]", value);
        return Ok(());
    }
    let Some(name) = present(function, "name") else {
        return Err(notes.refuse(value, "expected a tool with a `name`, found none", HINT));
    };
    const SCHEMAS: [&str; 5] =
        ["parameters", "input_schema", "inputSchema", "parametersJsonSchema", "parameters_json_schema"];
    let known = [&SCHEMAS[..], &["type", "name", "description", "strict"]].concat();
    notes.leave_out_all_but("tools[].", function, &known);
    let mut out = b"{\"type\": \"function\", \"function\": {\"name\": ".to_vec();
    write::value(name, keep, &mut out);
    if let Some(description) = present(function, "description") {
        out.extend_from_slice(b", \"description\": ");
        write::value(description, keep, &mut out);
    }
    if let Some(schema) = first(function, &SCHEMAS) {
        out.extend_from_slice(b", \"parameters\": ");
        match schema.kind() {
            Kind::String if schema.is_blank() => out.extend_from_slice(b"{}"),
            Kind::String => notes.nested(schema, "a JSON Schema", |schema, _| {
                write::value(schema, lower_type, &mut out);
                Ok(())
            })?,
            _ => write::value(schema, lower_type, &mut out),
        }
    }
    if let Some(strict) = present(function, "strict") {
        out.extend_from_slice(b", \"strict\": ");
        write::value(strict, keep, &mut out);
    }
    out.extend_from_slice(b"}}");
    list.push(out);
    Ok(())
}

fn keep(_: &str, _: &str) -> Option<String> {
    None
}

/// Gemini writes `"type": "OBJECT"`, JSON Schema `"object"`.
fn lower_type(key: &str, text: &str) -> Option<String> {
    const TYPES: [&str; 7] = ["OBJECT", "ARRAY", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "NULL"];
    (key == "type" && TYPES.contains(&text)).then(|| text.to_lowercase())
}
