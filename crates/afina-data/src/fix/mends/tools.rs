//! Fixes of tools, calls and what answers them.

use std::borrow::Cow;

use afina_chat::Role;

use super::messages::remove;
use crate::{
    diagnostic::excerpt,
    fix::{
        edit::{Edit, in_list, insert_member, member, quote, remove_item, says_nothing},
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
        Kind::Null => remove_nothing(context),
        _ => decode(value, '['),
    }
}

/// The same declaration, letter by letter, comes again. The finding stands at its name.
pub(super) fn duplicate_tool_name(context: &Context) -> Option<Mend> {
    let (tool, list) = (context.above(2)?, context.above(3)?);
    let again = list.items().take_while(|item| item.span() != tool.span()).any(|item| item.raw() == tool.raw());
    let edits = [remove_item(list, tool.span().start)?];
    if again { Mend::safe("removed a tool that is declared twice in the same words", edits) } else { None }
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
    if name(context)? != "parameters" {
        // What is wrong inside of a schema is for its writer, but for a keyword that is null: it says nothing.
        let above = context.pointer.iter().rev().nth(1)?;
        let keyword = !matches!(above.as_str(), "properties" | "patternProperties" | "$defs" | "definitions");
        return if keyword && context.value().is_null() { remove_nothing(context) } else { None };
    }
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

/// The id of the call that a message answers.
fn answered<'t>(message: &Message<'t>) -> Option<Cow<'t, str>> {
    string(message.value, "tool_call_id").and_then(|id| id.text())
}

/// The id of the only call that has no answer, in the only answer that has no call.
pub(super) fn tool_message_orphan(context: &Context) -> Option<Mend> {
    let (index, message, messages) = context.message()?;
    let caller = messages.iter().rfind(|other| other.index < index && other.meant == Some(Role::Assistant))?;
    let (calls, answers) = traffic(&messages, caller.index)?;
    let ids: Vec<_> = calls.iter().filter_map(|call| string(*call, "id")?.text()).collect();
    let orphans: Vec<_> =
        answers.iter().filter(|answer| answered(answer).is_none_or(|id| !ids.contains(&id))).collect();
    let named: Vec<_> = answers.iter().filter_map(|answer| answered(answer)).collect();
    let mut free = ids.iter().filter(|id| !named.contains(id));
    let (id, None) = (free.next()?, free.next()) else { return None };
    if ids.len() != calls.len() || orphans.len() != 1 || orphans[0].index != index {
        return None;
    }
    let value = string(message.value, "tool_call_id")?;
    let what = format!("named the call that is answered, `{}`, for `{}`", excerpt(id), excerpt(&value.text()?));
    Mend::safe(what, [Edit::replace(value, quote(id))])
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

/// Python's notation, and JSON that was encoded twice. The model learns to write the arguments: this changes them.
pub(super) fn arguments_text(context: &Context) -> Option<Mend> {
    let value = context.value();
    let text = value.text().filter(|_| value.kind() == Kind::String)?;
    let mut json = decoded(&text)?;
    if json.starts_with('"') {
        json = decoded(&serde_json::from_str::<String>(&json).ok()?)?;
    }
    json.starts_with('{').then_some(())?;
    let what = format!("wrote the arguments `{}` as JSON", excerpt(&text));
    if json == *text { None } else { Mend::not_safe(what, [Edit::replace(value, quote(&json))]) }
}

fn arguments(value: Value) -> Option<Mend> {
    matches!(value.kind(), Kind::Object | Kind::Array).then_some(())?;
    Mend::safe("wrote the arguments of a call as a string", [Edit::replace(value, quote(value.raw()))])
}

pub(super) fn function_call_invalid(context: &Context) -> Option<Mend> {
    arguments(context.value().get("arguments")?)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::fix::tests::{check, check_unsafe};

    #[test]
    fn tools_are_mended() {
        let tools = r#""tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"x":{"type":"integer"}}}}}]"#;
        let file = [
            format!(r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","tool_calls":[{{"function":{{"name":"f","arguments":{{"x": 1}}}}}}]}},{{"role":"tool","content":null}},{{"role":"assistant","content":"b","tool_calls":[]}}],{tools}}}"#),
            r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"tools":[{"type":"function","name":"f","parameters":{}},{"name":"g","input_schema":{}}],"parallel_tool_calls":"true"}"#.to_owned(),
        ];
        check(
            file.join("\n"),
            expect![[r#"
        {"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"call_1_0","type":"function","function":{"name":"f","arguments":"{\"x\": 1}"}}]},{"tool_call_id":"call_1_0","role":"tool","content":""},{"role":"assistant","content":"b"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"x":{"type":"integer"}}}}}]}
        {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"tools":[{"type": "function", "function": {"name": "f", "parameters": {}}},{"type": "function", "function": {"name": "g", "parameters": {}}}],"parallel_tool_calls":true}──
        1 → 1: tool-call-type-invalid: added `"type": "function"`
        1 → 1: tool-arguments-not-string: wrote the arguments of a call as a string
        1 → 1: null-content: wrote an empty text for null
        1 → 1: tool-calls-empty: removed `tool_calls`, which says nothing
        1 → 1: tool-call-missing-id: gave a call the id `call_1_0`
        1 → 1: tool-message-missing-id: named the call that is answered, `call_1_0`
        2 → 2: tool-flat-format: put name and parameters of a tool under `function` (2 times)
        2 → 2: parallel-tool-calls-type: wrote true for `"true"`
    "#]],
        );
    }

    #[test]
    fn a_keyword_of_a_schema_that_is_null_goes() {
        let record = |properties: &str| {
            format!(
                r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","content":"b"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{{"type":"object","properties":{properties}}}}}}}]}}"#
            )
        };
        let file = [
            record(r#"{"x":{"type":"number","minimum":NaN}}"#),
            record(r#"{"x":{"type":"number","enum":null}}"#),
            record(r#"{"minimum":null}"#),
            record(r#"{"x":{"type":"number","minimum":"1"}}"#),
        ];
        check(
            file.join("\n"),
            expect![[r#"
                {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"x":{"type":"number"}}}}}]}
                {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"x":{"type":"number"}}}}}]}
                {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"minimum":null}}}}]}
                {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"x":{"type":"number","minimum":"1"}}}}}]}──
                1 → 1: nan-infinity: wrote null for `NaN`
                1 → 1: tool-parameters-invalid: removed `minimum`, which says nothing
                2 → 2: tool-parameters-invalid: removed `enum`, which says nothing
                left 3 → 3: tool-parameters-invalid
                left 4 → 4: tool-parameters-invalid
            "#]],
        );
    }

    #[test]
    fn ids_of_calls_and_answers_are_brought_together() {
        let call =
            |id: &str| format!(r#"{{"id":"{id}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}"#);
        let answer = |id: &str| format!(r#"{{"role":"tool","tool_call_id":"{id}","content":"1"}}"#);
        let record = |calls: &[String], answers: &[String]| {
            let (calls, answers) = (calls.join(","), answers.join(","));
            format!(
                r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","tool_calls":[{calls}]}},{answers},{{"role":"assistant","content":"b"}}],"tools":[{{"type":"function","function":{{"name":"f"}}}},{{"type":"function","function":{{"name":"f"}}}}]}}"#
            )
        };
        let no_id = r#"{"type":"function","function":{"name":"f","arguments":"{}"}}"#.to_owned();
        check(
            [
                record(&[call("a")], &[answer("b")]),
                record(&[call("a"), call("b")], &[answer("b"), answer("c")]),
                record(&[call("a"), call("b")], &[answer("c"), answer("d")]),
                record(&[no_id.clone(), call("b")], &[answer("a"), answer("b")]),
                record(&[no_id], &[answer("a"), answer("b")]),
            ]
            .join("\n"),
            expect![[r#"
                {"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"1"},{"role":"assistant","content":"b"}],"tools":[{"type":"function","function":{"name":"f"}}]}
                {"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"b","content":"1"},{"role":"tool","tool_call_id":"a","content":"1"},{"role":"assistant","content":"b"}],"tools":[{"type":"function","function":{"name":"f"}}]}
                {"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"1"},{"role":"tool","tool_call_id":"d","content":"1"},{"role":"assistant","content":"b"}],"tools":[{"type":"function","function":{"name":"f"}}]}
                {"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"1"},{"role":"tool","tool_call_id":"b","content":"1"},{"role":"assistant","content":"b"}],"tools":[{"type":"function","function":{"name":"f"}}]}
                {"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"call_1_0","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"1"},{"role":"tool","tool_call_id":"b","content":"1"},{"role":"assistant","content":"b"}],"tools":[{"type":"function","function":{"name":"f"}}]}──
                1 → 1: tool-message-orphan: named the call that is answered, `a`, for `b`
                1 → 1: duplicate-tool-name: removed a tool that is declared twice in the same words
                    {"type":"function","function":{"name":"f"}}
                2 → 2: tool-message-orphan: named the call that is answered, `a`, for `c`
                2 → 2: duplicate-tool-name: removed a tool that is declared twice in the same words
                    {"type":"function","function":{"name":"f"}}
                3 → 3: duplicate-tool-name: removed a tool that is declared twice in the same words
                    {"type":"function","function":{"name":"f"}}
                left 3 → 3: tool-message-orphan
                left 3 → 3: tool-message-orphan
                4 → 4: tool-call-missing-id: gave a call the id of its answer, `a`
                4 → 4: duplicate-tool-name: removed a tool that is declared twice in the same words
                    {"type":"function","function":{"name":"f"}}
                5 → 5: tool-call-missing-id: gave a call the id `call_1_0`
                5 → 5: duplicate-tool-name: removed a tool that is declared twice in the same words
                    {"type":"function","function":{"name":"f"}}
                left 5 → 5: tool-message-orphan
                left 5 → 5: tool-message-orphan
            "#]],
        );
    }

    #[test]
    fn arguments_are_rewritten_where_asked_for() {
        let record = |arguments: &str| {
            let arguments = serde_json::json!(arguments);
            format!(
                r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","tool_calls":[{{"id":"a","type":"function","function":{{"name":"f","arguments":{arguments}}}}}]}}],"tools":[{{"type":"function","function":{{"name":"f"}}}}]}}"#
            )
        };
        let file = [record("{'a': True}"), record(r#""{\"b\": 1}""#), record("[1]")].join("\n");
        check(
            &file,
            expect![[r#"
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{'a': True}"}}]}],"tools":[{"type":"function","function":{"name":"f"}}]}
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"\"{\\\"b\\\": 1}\""}}]}],"tools":[{"type":"function","function":{"name":"f"}}]}
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"[1]"}}]}],"tools":[{"type":"function","function":{"name":"f"}}]}──
        "#]],
        );
        check_unsafe(
            &file,
            expect![[r#"
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"a\": true}"}}]}],"tools":[{"type":"function","function":{"name":"f"}}]}
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"b\": 1}"}}]}],"tools":[{"type":"function","function":{"name":"f"}}]}
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"[1]"}}]}],"tools":[{"type":"function","function":{"name":"f"}}]}──
            1 → 1: tool-arguments-invalid-json: wrote the arguments `{'a': True}` as JSON (unsafe)
            2 → 2: tool-arguments-not-object: wrote the arguments `"{\"b\": 1}"` as JSON (unsafe)
        "#]],
        );
    }
}
