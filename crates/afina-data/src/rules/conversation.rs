//! The messages of a record together: who speaks when, and what is left to train on.

use afina_chat::Role;

use crate::{
    findings::Findings,
    read::{Method, Profile},
    view::{Message, Purpose, Turns},
};

/// The rules of a list of messages. An answer of a preference pair is one message: its own rules say so.
pub(crate) fn check_conversation(turns: &Turns, out: &mut Findings) {
    if turns.purpose == Purpose::Answer {
        return;
    }
    missing_assistant_message(turns, out);
    missing_user_message(turns, out);
    last_message_not_assistant(turns, out);
    first_message_assistant(turns, out);
    consecutive_assistant_messages(turns, out);
    multiple_system_messages(turns, out);
    system_not_first(turns, out);
    all_weights_zero(turns, out);
    last_assistant_weight_zero(turns, out);
}

fn is(message: &Message, role: Role) -> bool {
    message.meant == Some(role)
}

fn is_system(message: &Message) -> bool {
    is(message, Role::System) || is(message, Role::Developer)
}

fn has(turns: &Turns, role: Role) -> bool {
    turns.messages.iter().any(|message| is(message, role))
}

/// No message is the assistant's.
///
/// Supervised fine-tuning learns the assistant's messages: without one there is nothing to learn. Add the answer.
fn missing_assistant_message(turns: &Turns, out: &mut Findings) {
    if turns.purpose == Purpose::Train && turns.roles_are_known() && !has(turns, Role::Assistant) {
        out.error(
            "missing-assistant-message",
            turns.list,
            "expected an assistant message to learn, found none",
            "add the answer as the last message",
        );
    }
}

/// No message is the user's.
///
/// The format allows it, but an answer without a question is rarely meant.
fn missing_user_message(turns: &Turns, out: &mut Findings) {
    let asks = has(turns, Role::User) || has(turns, Role::Tool) || has(turns, Role::Function);
    // A conversation without an answer either has a worse fault.
    let answers = turns.purpose != Purpose::Train || has(turns, Role::Assistant);
    if turns.roles_are_known() && !asks && answers {
        out.warning(
            "missing-user-message",
            turns.list,
            "expected a user message, found none",
            "add what the assistant answers to",
        );
    }
}

/// The last message is not the assistant's.
///
/// What comes after the last answer can never be trained. Drop it, or add the answer that is missing.
fn last_message_not_assistant(turns: &Turns, out: &mut Findings) {
    let Some(last) = turns.messages.last().filter(|_| turns.purpose == Purpose::Train && turns.whole) else { return };
    if has(turns, Role::Assistant) && last.meant.is_some_and(|role| role != Role::Assistant) {
        out.error(
            "last-message-not-assistant",
            last.value,
            format!("expected the last message to be the assistant's, found {}", last.described()),
            "add the answer, or drop the messages after the last one",
        );
    }
}

/// The first message is the assistant's.
///
/// A bot that greets first is legitimate, but some chat templates cannot render it, and some trainers refuse it.
fn first_message_assistant(turns: &Turns, out: &mut Findings) {
    let first = turns.messages.iter().find(|message| !is_system(message));
    if out.options.method != Method::Rft
        && turns.roles_are_known()
        && has(turns, Role::User)
        && let Some(first) = first.filter(|first| is(first, Role::Assistant))
    {
        out.warning(
            "first-message-assistant",
            first.value,
            "expected the user to speak first, found an assistant message",
            "begin with what the user said, if it was lost",
        );
    }
}

/// Two assistant messages stand in a row.
///
/// Several services refuse it and some chat templates cannot render it; usually a user message or a tool's answer
/// between them was lost. Merge them, or put it back. An error with `--profile together`.
fn consecutive_assistant_messages(turns: &Turns, out: &mut Findings) {
    for pair in turns.messages.windows(2) {
        let follows = pair[1].index == pair[0].index + 1;
        let in_a_row = is(&pair[0], Role::Assistant) && is(&pair[1], Role::Assistant);
        if out.options.method == Method::Rft || !follows || !in_a_row || pair[0].calls_tools() {
            continue;
        }
        let severity = match out.options.profile {
            Profile::Together => crate::Severity::Error,
            _ => crate::Severity::Warning,
        };
        out.add(
            severity,
            "consecutive-assistant-messages",
            pair[1].value,
            "expected another speaker, found a second assistant message in a row",
            "merge the two, or put back what stood between them",
        );
    }
}

/// There is more than one system message.
///
/// Some chat templates render only the first, or refuse the record. Merge them.
fn multiple_system_messages(turns: &Turns, out: &mut Findings) {
    if let Some(second) = turns.messages.iter().filter(|message| is_system(message)).nth(1) {
        out.warning(
            "multiple-system-messages",
            second.value,
            "expected one system message, found another",
            "merge them into the first",
        );
    }
}

/// A system message stands after another message.
///
/// Most chat templates put it first or refuse the record. Move it to the front.
fn system_not_first(turns: &Turns, out: &mut Findings) {
    let start = turns.messages.iter().position(|message| !is_system(message)).unwrap_or(turns.messages.len());
    if let Some(late) = turns.messages[start..].iter().find(|message| is_system(message)) {
        out.warning(
            "system-not-first",
            late.value,
            "expected system messages before all others, found one after them",
            "move it to the front",
        );
    }
}

/// Every assistant message has weight 0.
///
/// Nothing of the record is trained. Give one of them weight 1, or delete the line.
fn all_weights_zero(turns: &Turns, out: &mut Findings) {
    let nothing = has(turns, Role::Assistant) && !turns.messages.iter().any(|message| message.trained);
    if turns.purpose == Purpose::Train && turns.roles_are_known() && nothing {
        out.error(
            "all-weights-zero",
            turns.list,
            "expected an assistant message to learn, found only such with weight 0",
            "give the answer weight 1, or delete the line",
        );
    }
}

/// The last assistant message has weight 0.
///
/// An earlier one is trained, the last is not; OpenAI has been seen to refuse it. End the record at the last message
/// that is trained.
fn last_assistant_weight_zero(turns: &Turns, out: &mut Findings) {
    let last = turns.messages.iter().rfind(|message| is(message, Role::Assistant));
    let trained = turns.messages.iter().any(|message| message.trained);
    if turns.purpose == Purpose::Train
        && trained
        && let Some(last) = last.filter(|last| !last.trained)
    {
        out.warning(
            "last-assistant-weight-zero",
            last.weight.unwrap_or(last.value),
            "expected the last assistant message to be trained, found weight 0",
            "end the record at the last message that is trained",
        );
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::check;

    /// One letter a message: s, u, a, 0 (an assistant with weight 0), t, x (nobody knows).
    fn record(speakers: &str) -> String {
        let message = |speaker: char| match speaker {
            's' => r#"{"role":"system","content":"Be brief."}"#,
            'u' => r#"{"role":"user","content":"Hi."}"#,
            '0' => r#"{"role":"assistant","content":"Hello.","weight":0}"#,
            'a' => r#"{"role":"assistant","content":"Hello."}"#,
            't' => r#"{"role":"tool","content":"21","tool_call_id":"c"}"#,
            _ => r#"{"role":"visitor","content":"Hello."}"#,
        };
        format!(r#"{{"messages":[{}]}}"#, speakers.chars().map(message).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn good_conversations_have_nothing_to_say() {
        check(["ua", "sua", "suaua", "uua", "su0ua", "u0uaua"].map(record).join("\n"), expect![[""]]);
    }

    #[test]
    fn the_order_of_speakers_is_judged() {
        check(
            ["su", "sa", "uau", "uas", "aua", "uaaua", "ssua", "usa", "uat"].map(record).join("\n"),
            expect![[r#"
                1:13: error[missing-assistant-message] /messages: expected an assistant message to learn, found none
                2:13: warning[missing-user-message] /messages: expected a user message, found none
                3:86: error[last-message-not-assistant] /messages/2: expected the last message to be the assistant's, found a user message
                4:86: error[last-message-not-assistant] /messages/2: expected the last message to be the assistant's, found a system message
                4:86: warning[system-not-first] /messages/2: expected system messages before all others, found one after them
                5:14: warning[first-message-assistant] /messages/0: expected the user to speak first, found an assistant message
                6:86: warning[consecutive-assistant-messages] /messages/2: expected another speaker, found a second assistant message in a row
                7:54: warning[multiple-system-messages] /messages/1: expected one system message, found another
                8:46: warning[system-not-first] /messages/1: expected system messages before all others, found one after them
                9:86: warning[tool-message-without-tools] /messages/2: expected `tools` that declare what answers here, found none
                9:86: error[last-message-not-assistant] /messages/2: expected the last message to be the assistant's, found a tool message
                9:131: error[tool-message-orphan] /messages/2/tool_call_id: expected the id of a call in the assistant message before it, found `c`
            "#]],
        );
    }

    #[test]
    fn something_is_left_to_train() {
        check(
            ["u0", "uau0", "u0u0"].map(record).join("\n"),
            expect![[r#"
            1:13: error[all-weights-zero] /messages: expected an assistant message to learn, found only such with weight 0
            2:166: warning[last-assistant-weight-zero] /messages/3/weight: expected the last assistant message to be trained, found weight 0
            3:13: error[all-weights-zero] /messages: expected an assistant message to learn, found only such with weight 0
        "#]],
        );
    }

    #[test]
    fn an_unknown_speaker_is_not_held_against_the_rest() {
        check(
            ["xa", "ux", "xx"].map(record).join("\n"),
            expect![[r#"
            1:22: error[unknown-role] /messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `visitor`
            2:54: error[unknown-role] /messages/1/role: expected role `system`, `user`, `assistant` or `tool`, found `visitor`
            3:22: error[unknown-role] /messages/0/role: expected role `system`, `user`, `assistant` or `tool`, found `visitor`
            3:60: error[unknown-role] /messages/1/role: expected role `system`, `user`, `assistant` or `tool`, found `visitor`
        "#]],
        );
    }
}
