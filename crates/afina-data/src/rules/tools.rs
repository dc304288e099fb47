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
pub(crate) use declarations::Tools;

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
