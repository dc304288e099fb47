//! Tools and calls: that they have the shape which the chat format gives them, and that calls, declarations and
//! answers belong together.

mod arguments;
mod cache;
mod calls;
mod declarations;
mod functions;
mod parameters;
mod replies;
mod schema;

pub(crate) use calls::value_type_invalid;
pub(crate) use declarations::{Declared, Function, Tools};

use crate::{
    findings::Findings,
    json::{Kind, Value},
    read::Method,
    view::Turns,
};

/// Declarations beside the messages: of a chat record, or of a preference record's `input`.
pub(crate) fn check_declarations(record: Value, out: &mut Findings) -> Tools {
    let mut tools = Tools::default();
    if let Some(list) = record.get("tools") {
        declarations::check_tools(list, &mut tools, out);
    }
    // In a reinforcement file any other key is for the grader.
    if out.options.method != Method::Rft
        && let Some(member) = record.members().filter(|member| member.key.is("functions")).last()
    {
        functions::check_functions(member, &mut tools, out);
    }
    if let Some(parallel) = record.get("parallel_tool_calls") {
        calls::parallel_tool_calls_type(parallel, out);
        tools.one_at_a_time = parallel.kind() == Kind::False;
    }
    tools
}

/// The calls of messages, and what answers them.
pub(crate) fn check_calls(turns: &Turns, tools: &Tools, out: &mut Findings) {
    for message in &turns.messages {
        if let Some(list) = message.tool_calls {
            calls::check_tool_calls(message, list, tools, turns.purpose, out);
        }
        if let Some(call) = message.function_call.filter(|call| !call.is_null()) {
            functions::check_function_call(message, call, tools, turns.purpose, out);
        }
        functions::function_message_missing_name(message, out);
    }
    replies::check_replies(turns, tools, out);
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
    use crate::{
        Method, Profile, ReadOptions,
        testing::{Random, mutate, read_all},
    };

    /// Schemas and arguments with all that a validator has code for.
    const RECORDS: [&str; 3] = [
        r##"{"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":[1,2.5,{\"b\":null}],\"s\":\"2024-01-01\",\"n\":1e300}"}}]},{"role":"tool","tool_call_id":"c","content":"1"},{"role":"assistant","content":"b"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"$defs":{"A":{"type":["object","null"],"properties":{"b":{"$ref":"#"}},"additionalProperties":false}},"type":"object","properties":{"a":{"type":"array","prefixItems":[{"multipleOf":0.5}],"items":{"anyOf":[{"$ref":"#/$defs/A"},{"type":"number","minimum":0,"maximum":9}]},"uniqueItems":true,"minItems":1},"s":{"type":"string","pattern":"^(?!x)\\d{4}-\\d+","format":"date","minLength":1},"n":{"oneOf":[{"const":1},{"not":{"type":"string"}}]}},"required":["a"],"dependentRequired":{"a":["s"]},"propertyNames":{"maxLength":9},"if":{"required":["z"]},"then":false}}}],"parallel_tool_calls":false}"##,
        r#"{"messages":[{"role":"assistant","function_call":{"name":"g","arguments":"{\"x\":\"\\ud83d\\ude00\"}"}},{"role":"function","name":"g","content":"1"}],"functions":[{"name":"g","parameters":{"$schema":"http://json-schema.org/draft-04/schema#","id":"x","type":"object","properties":{"x":{"type":"string","enum":["y"]},"d":{"type":"array","items":[{"type":"integer","exclusiveMinimum":true,"minimum":3}]}},"patternProperties":{"^p":{}},"dependencies":{"x":["d"]}}}]}"#,
        r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"h","arguments":"[]"}},{"id":"a","type":"function","function":{"name":"h","arguments":"{'x': 1}"}}]},{"role":"tool","tool_call_id":"b","content":"1"},{"role":"user","content":"x"}],"tools":[{"name":"h","input_schema":{"type":"object"}},{"type":"function","function":{"name":"h","parameters":{"type":"dict","required":true}}}]}"#,
    ];

    #[test]
    fn no_declaration_or_call_makes_it_panic() {
        let mut random = Random(7);
        for round in 0..6_000 {
            let record = mutate(RECORDS[round % RECORDS.len()].as_bytes(), &mut random);
            let method = [Method::Sft, Method::Rft][round % 2];
            read_all(&record, &ReadOptions::new(method, Profile::Local));
        }
    }
}
