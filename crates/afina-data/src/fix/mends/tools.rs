//! Fixes of tools, calls and what answers them.

use afina_chat::Role;

use super::messages::remove;
use crate::{
    diagnostic::excerpt,
    fix::{
        edit::{Edit, in_list, insert_member, member, quote, says_nothing},
        mend::{Context, Mend},
        syntax::decoded,
    },
    json::{Kind, Member, Value},
    view::Message,
};

/// A string with JSON of this kind in it becomes that JSON.
fn decode(value: Value, opening: char) -> Option<Mend> {
    let text = decoded(&value.text().filter(|_| value.kind() == Kind::String)?)?;
    text.starts_with(opening).then_some(())?;
    Mend::safe("decoded the JSON in a string", [Edit::replace(value, text)])
}

/// The name of the member that the finding is about.
fn name<'c>(context: &'c Context) -> Option<&'c str> {
    context.pointer.last().map(String::as_str)
}

pub(super) fn tools_not_array(context: &Context) -> Option<Mend> {
    let value = context.value();
    match value.kind() {
        Kind::Object if value.get("function").is_some() => Mend::safe("put the tool in a list", [in_list(value)]),
        _ => decode(value, '['),
    }
}

/// `type` of a tool or a call that is plain without it.
pub(super) fn type_function(context: &Context) -> Option<Mend> {
    let value = context.value();
    let object = if value.kind() == Kind::Object { value } else { context.above(1)? };
    object.get("function").filter(|function| function.kind() == Kind::Object)?;
    match member(object, "type") {
        None => Mend::safe("added `\"type\": \"function\"`", [insert_member(object, "type", "\"function\"")]),
        Some(kind) if says_nothing(kind.value) || kind.value.text()?.trim().eq_ignore_ascii_case("function") => {
            Mend::safe("wrote the type `function`", [Edit::replace(kind.value, "\"function\"")])
        }
        Some(_) => None,
    }
}

/// The members in the form of an object.
fn object<'t>(members: impl Iterator<Item = (String, Value<'t>)>) -> String {
    let members: Vec<String> = members.map(|(name, value)| format!("{}: {}", quote(&name), value.raw())).collect();
    format!("{{{}}}", members.join(", "))
}

pub(super) fn tool_flat_format(context: &Context) -> Option<Mend> {
    let tool = context.value();
    tool.get("type").is_none_or(|kind| kind.is("function") || kind.is("custom")).then_some(())?;
    let names = |member: Member| member.key.text().unwrap_or_default().into_owned();
    let schema = |name: String| if name == "input_schema" { "parameters".to_owned() } else { name };
    let members = tool.members().map(|member| (names(member), member.value)).filter(|(name, _)| name != "type");
    let function = object(members.map(|(name, value)| (schema(name), value)));
    let written = format!("{{\"type\": \"function\", \"function\": {function}}}");
    Mend::safe("put name and parameters of a tool under `function`", [Edit::replace(tool, written)])
}

pub(super) fn tool_parameters_invalid(context: &Context) -> Option<Mend> {
    if context.value().kind() != Kind::Object && says_nothing(context.value()) {
        return remove_nothing(context);
    }
    decode(context.value(), '{')
}

pub(super) fn parallel_tool_calls_type(context: &Context) -> Option<Mend> {
    let value = context.value();
    let text = value.text();
    let written = match text.as_deref().unwrap_or(value.raw()).trim().to_lowercase().as_str() {
        "true" | "1" => "true",
        "false" | "0" => "false",
        "null" | "" => return remove_nothing(context),
        _ => return None,
    };
    Mend::safe(format!("wrote {written} for `{}`", excerpt(value.raw())), [Edit::replace(value, written)])
}

/// Takes out a member that says nothing.
pub(super) fn remove_nothing(context: &Context) -> Option<Mend> {
    let name = name(context).filter(|_| says_nothing(context.value()))?;
    remove(context.above(1)?, name, format!("removed `{name}`, which says nothing"), true)
}

pub(super) fn tool_calls_not_array(context: &Context) -> Option<Mend> {
    let value = context.value();
    match value.kind() {
        Kind::Null => remove_nothing(context),
        Kind::Object if value.get("function").is_some() => Mend::safe("put the call in a list", [in_list(value)]),
        _ => decode(value, '['),
    }
}

pub(super) fn tool_calls_on_non_assistant(context: &Context) -> Option<Mend> {
    if says_nothing(context.value()) {
        return remove_nothing(context);
    }
    let what = format!("removed `tool_calls` with `{}`", excerpt(context.value().raw()));
    remove(context.above(1)?, "tool_calls", what, false)
}

/// The calls of a message, and the tool messages that follow it.
fn traffic<'t, 'm>(messages: &'m [Message<'t>], index: usize) -> Option<(Vec<Value<'t>>, Vec<&'m Message<'t>>)> {
    let at = messages.iter().position(|message| message.index == index)?;
    let calls = messages[at].tool_calls?.items().collect();
    let answers = messages[at + 1..].iter().take_while(|message| message.meant == Some(Role::Tool)).collect();
    Some((calls, answers))
}

fn string<'t>(object: Value<'t>, name: &str) -> Option<Value<'t>> {
    object.get(name).filter(|value| value.kind() == Kind::String && !value.is_blank())
}

/// Writes an id where there is none, or one that is no text.
fn write_id(object: Value, name: &str, id: &str, what: String) -> Option<Mend> {
    match member(object, name) {
        Some(found) if !says_nothing(found.value) => None,
        Some(found) => Mend::safe(what, [Edit::replace(found.value, id)]),
        None => Mend::safe(what, [insert_member(object, name, id)]),
    }
}

/// The id that the call's answer has, if each call has one; else a new one.
pub(super) fn tool_call_missing_id(context: &Context) -> Option<Mend> {
    let call = context.value();
    let (index, _, messages) = context.message()?;
    let (calls, answers) = traffic(&messages, index)?;
    let place = calls.iter().position(|other| other.span() == call.span())?;
    let answered = answers.get(place).filter(|_| calls.len() == answers.len());
    let taken = |id: &str| {
        let ids = messages.iter().flat_map(|message| message.tool_calls).flat_map(|calls| calls.items());
        ids.filter_map(|call| string(call, "id")).any(|other| other.is(id))
    };
    if let Some(id) = answered.and_then(|answer| string(answer.value, "tool_call_id")) {
        let text = id.text()?;
        if !taken(&text) {
            return write_id(call, "id", id.raw(), format!("gave a call the id of its answer, `{}`", excerpt(&text)));
        }
    }
    let id = (0..).map(|count| format!("call_{index}_{}", place + count)).find(|id| !taken(id))?;
    write_id(call, "id", &quote(&id), format!("gave a call the id `{id}`"))
}

/// The id of the call that it answers, where calls and answers go together one by one.
pub(super) fn tool_message_missing_id(context: &Context) -> Option<Mend> {
    let (index, message, messages) = context.message()?;
    let caller = messages.iter().rfind(|other| other.index < index && other.meant == Some(Role::Assistant))?;
    let (calls, answers) = traffic(&messages, caller.index)?;
    let place = answers.iter().position(|answer| answer.index == index)?;
    if calls.len() != answers.len() {
        return None;
    }
    let id = string(*calls.get(place)?, "id")?;
    let text = id.text()?;
    let taken = answers.iter().any(|answer| string(answer.value, "tool_call_id").is_some_and(|other| other.is(&text)));
    if taken {
        return None;
    }
    write_id(message.value, "tool_call_id", id.raw(), format!("named the call that is answered, `{}`", excerpt(&text)))
}

/// A call with its name beside its id, as the Responses API has it.
pub(super) fn tool_call_function_missing(context: &Context) -> Option<Mend> {
    let call = context.value();
    if call.get("function").is_some() || string(call, "name").is_none() || call.get("arguments").is_none() {
        return None;
    }
    let known = |name: &str| matches!(name, "name" | "arguments" | "id" | "call_id" | "type");
    if !call.members().all(|member| member.key.text().is_some_and(|name| known(&name))) {
        return None;
    }
    // The id that answers name is `call_id`; the other is the item's own.
    let id = call.get("call_id").or_else(|| call.get("id"));
    let id = id.map_or(String::new(), |id| format!("\"id\": {}, ", id.raw()));
    let members = ["name", "arguments"].into_iter().filter_map(|name| Some((name.to_owned(), call.get(name)?)));
    let written = format!("{{{id}\"type\": \"function\", \"function\": {}}}", object(members));
    Mend::safe("put name and arguments of a call under `function`", [Edit::replace(call, written)])
}

pub(super) fn tool_arguments_not_string(context: &Context) -> Option<Mend> {
    arguments(context.value())
}

fn arguments(value: Value) -> Option<Mend> {
    matches!(value.kind(), Kind::Object | Kind::Array).then_some(())?;
    Mend::safe("wrote the arguments of a call as a string", [Edit::replace(value, quote(value.raw()))])
}

pub(super) fn function_call_invalid(context: &Context) -> Option<Mend> {
    arguments(context.value().get("arguments")?)
}
