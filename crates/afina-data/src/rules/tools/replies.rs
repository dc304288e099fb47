//! The order of calls and answers: each answer behind its call, each call answered.

use afina_chat::Role;

use super::{declarations::Tools, not_a_string};
use crate::{
    diagnostic::excerpt,
    findings::Findings,
    json::{Kind, Value},
    view::{Message, Purpose, Turns},
};

/// An assistant message with calls, and the tool messages directly behind it.
struct Round<'r, 't> {
    calls: &'r Message<'t>,
    replies: Vec<&'r Message<'t>>,
}

pub(super) fn check_replies(turns: &Turns, tools: &Tools, out: &mut Findings) {
    let answers = |message: &&Message| matches!(message.meant, Some(Role::Tool | Role::Function));
    if let Some(message) = turns.messages.iter().find(answers)
        && tools.is_empty()
        && !tools.unreadable
    {
        tool_message_without_tools(message, out);
    }
    for message in &turns.messages {
        tool_message_missing_id(message, out);
    }
    let begins_wrong = turns.purpose == Purpose::Answer
        && turns.messages.first().and_then(|first| first.meant) != Some(Role::Assistant);
    // Without the roles nobody knows who answers whom.
    if turns.roles_are_known() && !begins_wrong {
        check_order(&turns.messages, out);
    }
}

fn check_order(messages: &[Message], out: &mut Findings) {
    let mut round: Option<Round> = None;
    for (index, message) in messages.iter().enumerate() {
        if message.meant == Some(Role::Tool) {
            match &mut round {
                Some(round) => round.replies.push(message),
                None => tool_message_orphan(message, None, out),
            }
            continue;
        }
        if let Some(round) = round.take() {
            check_round(&round, &messages[index..], out);
        }
        let calls = message.tool_calls.filter(|calls| !calls.is_null());
        if message.meant == Some(Role::Assistant) && calls.is_some() {
            round = Some(Round { calls: message, replies: Vec::new() });
        }
    }
    // The calls of the last message are what the example is about: they need no answer.
    if let Some(round) = round.filter(|round| !round.replies.is_empty()) {
        check_round(&round, &[], out);
    }
}

/// A round that is over, and the messages after it.
fn check_round(round: &Round, after: &[Message], out: &mut Findings) {
    let Some(list) = round.calls.tool_calls else { return };
    // A list of another type, or a call without an id: its own rule complains.
    if list.items().next().is_none() || list.items().any(|call| not_a_string(call, "id").is_some()) {
        return;
    }
    let ids: Vec<Value> = list.items().filter_map(|call| call.get("id")).collect();
    let is_answered = |id: &Value, by: &[&Message]| {
        by.iter().any(|reply| reply.tool_call_id.is_some_and(|named| id.text().is_some_and(|id| named.is(&id))))
    };
    let mut astray = 0;
    for reply in &round.replies {
        match reply.tool_call_id.and_then(|id| id.text()) {
            None => astray += 1,
            Some(name) if ids.iter().any(|id| id.is(&name)) => {}
            Some(_) => {
                astray += 1;
                let open = ids.iter().find(|id| !is_answered(id, &round.replies));
                tool_message_orphan(reply, open.copied(), out);
            }
        }
    }
    // Answers that come too late are told where they stand.
    let late: Vec<&Message> = after
        .iter()
        .take_while(|message| message.tool_calls.is_none_or(|calls| calls.is_null()))
        .filter(|message| message.meant == Some(Role::Tool))
        .collect();
    let open: Vec<&Value> =
        ids.iter().filter(|id| !is_answered(id, &round.replies) && !is_answered(id, &late)).collect();
    // As many answers went astray: one slip, told once.
    if open.len() > astray {
        tool_calls_unanswered(round.calls, &open, out);
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

/// A tool message answers no call of the assistant message before it.
///
/// Its `tool_call_id` is the `id` of one of those calls, and only other tool messages stand in between. The chat API
/// refuses anything else ("messages with role 'tool' must be a response to a preceding message with 'tool_calls'").
///
/// ```json
/// {"role": "assistant", "tool_calls": [{"id": "call_1", …}]}, {"role": "tool", "tool_call_id": "call_1", "content": "21"}
/// ```
fn tool_message_orphan(message: &Message, open: Option<Value>, out: &mut Findings) {
    let Some(id) = message.tool_call_id.filter(|id| id.kind() == Kind::String) else { return };
    let name = id.text().unwrap_or_default();
    let hint = match open.and_then(|open| open.text()) {
        Some(open) => format!("write `{}`, which has no answer yet", excerpt(&open)),
        None => "put it directly behind the assistant message that calls, and name the `id` of the call".to_owned(),
    };
    out.error(
        "tool-message-orphan",
        id,
        format!("expected the id of a call in the assistant message before it, found `{}`", excerpt(&name)),
        hint,
    );
}

/// A call has no answer, and the conversation goes on.
///
/// Each call is followed by a tool message with its id, before anybody else speaks. The chat API refuses anything else
/// ("must be followed by tool messages responding to each 'tool_call_id'"). Calls in the last message need none: there
/// the example ends.
fn tool_calls_unanswered(message: &Message, open: &[&Value], out: &mut Findings) {
    const SHOWN: usize = 4;
    let mut names: Vec<_> =
        open.iter().take(SHOWN).map(|id| format!("`{}`", excerpt(&id.text().unwrap_or_default()))).collect();
    if open.len() > SHOWN {
        names.push(format!("{} more", open.len() - SHOWN));
    }
    out.error(
        "tool-calls-unanswered",
        message.tool_calls.unwrap_or(message.value),
        format!("expected a tool message for each call, found none for {}", names.join(", ")),
        "add the tool message behind the calls, or end the example with them",
    );
}

/// A tool answers in a record that declares no tools.
///
/// At work the declarations stand in the prompt whenever a tool is called, so they should in training. Said once a
/// record. Declare the tools.
fn tool_message_without_tools(message: &Message, out: &mut Findings) {
    out.warning(
        "tool-message-without-tools",
        message.value,
        "expected `tools` that declare what answers here, found none",
        "declare the tools that the conversation uses",
    );
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::testing::check as check_file;

    const USER: &str = r#"{"role":"user","content":"a"}"#;
    const SAYS: &str = r#"{"role":"assistant","content":"b"}"#;

    fn calls(ids: &[&str]) -> String {
        let call =
            |id: &&str| format!(r#"{{"id":"{id}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}"#);
        let calls: Vec<_> = ids.iter().map(call).collect();
        format!(r#"{{"role":"assistant","tool_calls":[{}]}}"#, calls.join(","))
    }

    fn reply(id: &str) -> String {
        format!(r#"{{"role":"tool","tool_call_id":"{id}","content":"1"}}"#)
    }

    #[track_caller]
    fn check(records: &[Vec<String>], expect: Expect) {
        let tools = r#"[{"type":"function","function":{"name":"f"}}]"#;
        let record =
            |messages: &Vec<String>| format!(r#"{{"messages":[{}],"tools":{tools}}}"#, messages.join(",")) + "\n";
        check_file(records.iter().map(record).collect::<String>(), expect);
    }

    fn turns(turns: &[&str]) -> Vec<String> {
        turns.iter().map(|turn| (*turn).to_owned()).collect()
    }

    #[test]
    fn answers_follow_their_calls_in_any_order() {
        check(
            &[
                turns(&[USER, &calls(&["a"]), &reply("a"), SAYS]),
                turns(&[USER, &calls(&["a", "b"]), &reply("b"), &reply("a"), SAYS]),
                turns(&[USER, &calls(&["a"]), &reply("a"), &calls(&["a"]), &reply("a"), SAYS, USER, SAYS]),
                turns(&[USER, &calls(&["a", "b"])]),
                turns(&[USER, &calls(&["a"]), &reply("a"), &calls(&["b"])]),
            ],
            expect![[""]],
        );
    }

    #[test]
    fn an_answer_belongs_to_a_call_before_it() {
        check(
            &[
                turns(&[USER, &reply("a"), SAYS]),
                turns(&[USER, &calls(&["a"]), &reply("x"), SAYS]),
                turns(&[USER, &calls(&["a"]), USER, &reply("a"), SAYS]),
                turns(&[USER, &calls(&["a"]), &reply("a"), SAYS, USER, &calls(&["b"]), &reply("a"), SAYS]),
                turns(&[USER, SAYS, &reply("a"), SAYS]),
            ],
            expect![[r#"
                1:74: error[tool-message-orphan] /messages/1/tool_call_id: expected the id of a call in the assistant message before it, found `a`
                2:180: error[tool-message-orphan] /messages/2/tool_call_id: expected the id of a call in the assistant message before it, found `x`
                3:210: error[tool-message-orphan] /messages/3/tool_call_id: expected the id of a call in the assistant message before it, found `a`
                4:400: error[tool-message-orphan] /messages/6/tool_call_id: expected the id of a call in the assistant message before it, found `a`
                5:109: error[tool-message-orphan] /messages/2/tool_call_id: expected the id of a call in the assistant message before it, found `a`
            "#]],
        );
    }

    #[test]
    fn a_call_is_answered_before_the_conversation_goes_on() {
        check(
            &[
                turns(&[USER, &calls(&["a"]), USER, SAYS]),
                turns(&[USER, &calls(&["a", "b", "c"]), &reply("b"), SAYS]),
                turns(&[USER, &calls(&["a", "b"]), &reply("x"), SAYS]),
                turns(&[USER, &calls(&["1", "2", "3", "4", "5", "6"]), USER, SAYS]),
            ],
            expect![[r#"
                1:77: error[tool-calls-unanswered] /messages/1/tool_calls: expected a tool message for each call, found none for `a`
                2:77: error[tool-calls-unanswered] /messages/1/tool_calls: expected a tool message for each call, found none for `a`, `c`
                3:77: error[tool-calls-unanswered] /messages/1/tool_calls: expected a tool message for each call, found none for `a`, `b`
                3:250: error[tool-message-orphan] /messages/2/tool_call_id: expected the id of a call in the assistant message before it, found `x`
                4:77: error[tool-calls-unanswered] /messages/1/tool_calls: expected a tool message for each call, found none for `1`, `2`, `3`, `4`, 2 more
            "#]],
        );
    }

    #[test]
    fn a_slip_is_told_once() {
        let nameless = r#"{"role":"tool","content":"1"}"#;
        let without_id = calls(&["a"]).replace(r#""id":"a","#, "");
        let unknown = r#"{"role":"observer","content":"1"}"#;
        check(
            &[
                turns(&[USER, &calls(&["a"]), nameless, SAYS]),
                turns(&[USER, &without_id, &reply("a"), SAYS]),
                turns(&[USER, &calls(&["a"]), unknown, SAYS]),
                turns(&[USER, r#"{"role":"assistant","content":"x","tool_calls":[]}"#, &reply("a"), SAYS]),
            ],
            expect![[r#"
                1:150: error[tool-message-missing-id] /messages/2: expected a `tool_call_id`, found none
                2:78: error[tool-call-missing-id] /messages/1/tool_calls/0: expected an `id`, found none
                3:158: error[unknown-role] /messages/2/role: expected role `system`, `user`, `assistant` or `tool`, found `observer`
                4:91: error[tool-calls-empty] /messages/1/tool_calls: expected at least one call, found an empty list
            "#]],
        );
    }

    #[test]
    fn tools_that_answer_are_declared() {
        let messages = [USER, &calls(&["a"]), &reply("a"), SAYS].join(",");
        let bare = format!(r#"{{"messages":[{messages}]}}"#);
        let empty = format!(r#"{{"messages":[{messages}],"tools":[]}}"#).replace("\"a\"", "\"b\"");
        check_file(
            [bare, empty].join("\n"),
            expect![[r#"
            1:125: warning[tool-call-undeclared] /messages/1/tool_calls/0/function/name: expected a function that `tools` declares, found `f`
            1:150: warning[tool-message-without-tools] /messages/2: expected `tools` that declare what answers here, found none
            2:125: warning[tool-call-undeclared] /messages/1/tool_calls/0/function/name: expected a function that `tools` declares, found `f`
            2:150: warning[tool-message-without-tools] /messages/2: expected `tools` that declare what answers here, found none
        "#]],
        );
    }
}
