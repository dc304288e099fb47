//! Fixes of a message's role, keys and weight, and of the end of a conversation.

use afina_chat::Role;

use crate::{
    Method,
    diagnostic::excerpt,
    fix::{
        edit::{Edit, insert_member, member, quote, remove_member, rename},
        mend::{Context, Mend},
    },
    json::{Kind, Value},
    rules::typo,
};

/// The role under another name; in an answer of a preference pair, the only role there is.
pub(super) fn missing_role(context: &Context) -> Option<Mend> {
    let message = context.value();
    if let Some(found) = typo::only_meant(message, "role") {
        let name = excerpt(&found.key.text()?);
        return Mend::safe(format!("renamed `{name}` to `role`"), [rename(found, "role")]);
    }
    let answer = context.options.method == Method::Dpo && context.pointer.first()? != "input";
    let edits = [insert_member(message, "role", "\"assistant\"")];
    if answer { Mend::safe("gave the answer the role `assistant`", edits) } else { None }
}

fn write_role(context: &Context, role: &str) -> Option<Mend> {
    let value = context.value();
    let found = excerpt(&value.text()?);
    Mend::safe(format!("wrote `{role}` for `{found}`"), [Edit::replace(value, quote(role))])
}

pub(super) fn unknown_role(context: &Context) -> Option<Mend> {
    let (_, message, _) = context.message()?;
    write_role(context, &message.meant?.to_string())
}

pub(super) fn developer_role(context: &Context) -> Option<Mend> {
    write_role(context, "system")
}

pub(super) fn rft_system_role(context: &Context) -> Option<Mend> {
    let (_, message, _) = context.message()?;
    let role = message.role_value?;
    Mend::safe("wrote `developer` for `system`", [Edit::replace(role, "\"developer\"")])
}

pub(super) fn name_invalid(context: &Context) -> Option<Mend> {
    let (value, message) = (context.value(), context.above(1)?);
    let raw = value.raw();
    match value.kind() {
        Kind::Number => Mend::safe(format!("put the name `{raw}` in quotes"), [Edit::replace(value, quote(raw))]),
        Kind::Null => remove(message, "name", "removed a `name` that says nothing", true),
        Kind::String if raw.len() == 2 => remove(message, "name", "removed a `name` that says nothing", true),
        Kind::String => {
            let name = value.text()?;
            let word = |char: char| if char.is_whitespace() || "<|\\/>".contains(char) { '_' } else { char };
            let written: String = name.chars().map(word).take(64).collect();
            let what = format!("wrote the name `{}` for `{}`", excerpt(&written), excerpt(&name));
            Mend::not_safe(what, [Edit::replace(value, quote(&written))])
        }
        _ => None,
    }
}

/// Takes a member out of an object.
pub(super) fn remove(object: Value, name: &str, what: impl Into<String>, safe: bool) -> Option<Mend> {
    let edits = [remove_member(object, member(object, name)?.key.span().start)?];
    if safe { Mend::safe(what, edits) } else { Mend::not_safe(what, edits) }
}

pub(super) fn weight_invalid(context: &Context) -> Option<Mend> {
    let (value, message) = (context.value(), context.above(1)?);
    let text = value.text();
    let written = match text.as_deref().map_or(value.raw(), str::trim) {
        "1" | "1.0" | "1.00" | "1e0" | "true" | "True" => "1",
        "0" | "0.0" | "0.00" | "0e0" | "-0" | "-0.0" | "false" | "False" => "0",
        "null" | "" => return remove(message, "weight", "removed a `weight` that says nothing", true),
        _ => return None,
    };
    let found = excerpt(value.raw());
    Mend::safe(format!("wrote weight {written} for `{found}`"), [Edit::replace(value, written)])
}

/// Nothing but the assistant's messages is ever trained: the weight of another changes nothing.
pub(super) fn weight_on_non_assistant(context: &Context) -> Option<Mend> {
    let message = context.above(1)?;
    let found = excerpt(message.get("weight")?.raw());
    remove(message, "weight", format!("removed `weight` ({found}) of a message that is not trained"), true)
}

/// Takes the messages from `index` on out of the record.
fn drop_tail(context: &Context, keep: impl Fn(&crate::view::Message) -> bool) -> Option<Mend> {
    let (_, _, messages) = context.message()?;
    let last = messages.iter().rfind(|message| keep(message))?;
    let end = messages.last()?;
    let count = end.index - last.index;
    let edits = [Edit::delete(last.value.span().end..end.value.span().end)];
    let what =
        if count == 1 { "removed the last message".to_owned() } else { format!("removed the last {count} messages") };
    if count == 0 { None } else { Mend::not_safe(what, edits) }
}

pub(super) fn last_message_not_assistant(context: &Context) -> Option<Mend> {
    drop_tail(context, |message| message.meant == Some(Role::Assistant))
}

pub(super) fn last_assistant_weight_zero(context: &Context) -> Option<Mend> {
    drop_tail(context, |message| message.trained)
}

pub(super) fn rft_last_not_user(context: &Context) -> Option<Mend> {
    drop_tail(context, |message| message.meant == Some(Role::User))
}

pub(super) fn all_weights_zero(_: &Context) -> Option<Mend> {
    Mend::remove_line("removed the line: none of its messages is trained")
}

pub(super) fn missing_assistant_message(_: &Context) -> Option<Mend> {
    Mend::remove_line("removed the line: no message of it is the assistant's")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::fix::tests::check_messages;

    #[test]
    fn messages_are_mended() {
        check_messages(
            &[
                r#"{"role":"Human","content":"x"},{"from":"gpt","value":"y"}"#,
                r#"{"role":"developer","content":"x"}"#,
                r#"{"role":"assistant","content":"x","weight":1.0},{"role":"user","content":"y","weight":0}"#,
                r#"{"role":"assistant","content":"x","weight":"0"},{"role":"user","content":"y","name":7}"#,
                r#"{"role":"user","content":42},null"#,
                r#"{"role":"assistant","content":{"a": "b\n"}},{"role":"user","content":{"type":"text","text":"x"}}"#,
                r#"{"role":"user","content":["x",{"text":"y"},{"type":"input_text","text":"z"}]}"#,
                r#"{"role":"user","content":"x","id":null,"seen":[]}"#,
                r#"{"rol":"asistente","contenido":"x","wieght":0},{"role":"user","contnet":"y","nombre":"Ana"}"#,
                r#"{"role":"assistant","content":"x","weight":1,"wieght":0},{"role":"user","text":"y","value":"z"}"#,
            ],
            expect![[r#"
                {"messages":[{"role":"user","content":"Hi."},{"role":"user","content":"x"},{"role":"assistant","content":"y"},{"role":"assistant","content":"Ok."}]}
                {"messages":[{"role":"user","content":"Hi."},{"role":"system","content":"x"},{"role":"assistant","content":"Ok."}]}
                {"messages":[{"role":"user","content":"Hi."},{"role":"assistant","content":"x","weight":1},{"role":"user","content":"y"},{"role":"assistant","content":"Ok."}]}
                {"messages":[{"role":"user","content":"Hi."},{"role":"assistant","content":"x","weight":0},{"role":"user","content":"y","name":"7"},{"role":"assistant","content":"Ok."}]}
                {"messages":[{"role":"user","content":"Hi."},{"role":"user","content":"42"},{"role":"assistant","content":"Ok."}]}
                {"messages":[{"role":"user","content":"Hi."},{"role":"assistant","content":"{\"a\": \"b\\n\"}"},{"role":"user","content":[{"type":"text","text":"x"}]},{"role":"assistant","content":"Ok."}]}
                {"messages":[{"role":"user","content":"Hi."},{"role":"user","content":[{"type": "text", "text": "x"},{"type":"text","text":"y"},{"type":"text","text":"z"}]},{"role":"assistant","content":"Ok."}]}
                {"messages":[{"role":"user","content":"Hi."},{"role":"user","content":"x"},{"role":"assistant","content":"Ok."}]}
                {"messages":[{"role":"user","content":"Hi."},{"role":"assistant","content":"x","weight":0},{"role":"user","content":"y","name":"Ana"},{"role":"assistant","content":"Ok."}]}
                {"messages":[{"role":"user","content":"Hi."},{"role":"assistant","content":"x","weight":1,"wieght":0},{"role":"user","text":"y","value":"z"},{"role":"assistant","content":"Ok."}]}
                ──
                1 → 1: unknown-role: wrote `user` for `Human`
                1 → 1: missing-role: renamed `from` to `role`
                1 → 1: missing-content: renamed `value` to `content`
                1 → 1: unknown-role: wrote `assistant` for `gpt`
                2 → 2: developer-role: wrote `system` for `developer`
                3 → 3: weight-invalid: wrote weight 1 for `1.0`
                3 → 3: weight-on-non-assistant: removed `weight` (0) of a message that is not trained
                4 → 4: weight-invalid: wrote weight 0 for `"0"`
                4 → 4: name-invalid: put the name `7` in quotes
                5 → 5: content-not-string: put the content `42` in quotes
                5 → 5: message-not-object: removed null from the messages
                    null
                6 → 6: content-object: wrote the object as a string with JSON in it
                6 → 6: content-object: put the content part in a list
                7 → 7: part-not-object: made a string a text part
                7 → 7: part-type-missing: gave a part the type `text`
                7 → 7: part-type-unknown: wrote a part of type `input_text` as the chat format has it
                8 → 8: unknown-message-key: removed the key `id` with `null`
                8 → 8: unknown-message-key: removed the key `seen` with `[]`
                9 → 9: missing-role: renamed `rol` to `role`
                9 → 9: missing-content: renamed `contenido` to `content`
                9 → 9: unknown-message-key: renamed `wieght` to `weight`
                9 → 9: missing-content: renamed `contnet` to `content`
                9 → 9: unknown-message-key: renamed `nombre` to `name`
                9 → 9: unknown-role: wrote `assistant` for `asistente`
                left 10 → 10: unknown-message-key
                left 10 → 10: missing-content
                left 10 → 10: unknown-message-key
            "#]],
        );
    }
}
