//! Fixes of a record and of its list of messages.

use crate::{
    diagnostic::excerpt,
    fix::{
        edit::{Edit, in_list, member, remove_item, remove_member, rename, says_nothing},
        mend::{Context, Mend},
        syntax::decoded,
    },
    json::{Kind, Value},
};

/// Whether this is a list of messages.
pub(super) fn is_message_list(value: Value) -> bool {
    value.kind() == Kind::Array && value.items().next().is_some_and(is_message)
}

pub(super) fn is_message(value: Value) -> bool {
    value.get("role").is_some()
}

pub(super) fn record_not_object(context: &Context) -> Option<Mend> {
    let list = Some(context.record).filter(|record| is_message_list(*record))?;
    Mend::safe("put the messages in a record", [Edit::replace(list, format!("{{\"messages\": {}}}", list.raw()))])
}

/// The finding stands at the name that comes again. Which of the two readers take is the last.
pub(super) fn duplicate_key(context: &Context) -> Option<Mend> {
    let object = context.above(1)?;
    let again = object.members().find(|member| member.key.span().start == context.at)?;
    let name = again.key.text()?;
    let before = object.members().take_while(|member| member.key.span().start < context.at);
    let before = before.filter(|member| member.key.is(&name)).last()?;
    let edits = [remove_member(object, before.key.span().start)?];
    let (name, value) = (excerpt(&name), excerpt(before.value.raw()));
    if before.value.raw() == again.value.raw() || says_nothing(before.value) {
        return Mend::safe(format!("removed `{name}`, which comes again"), edits);
    }
    Mend::not_safe(format!("removed `{name}` with `{value}`, which no reader sees: it comes again"), edits)
}

pub(super) fn missing_messages(context: &Context) -> Option<Mend> {
    const NAMES: [&str; 10] =
        ["messages", "message", "msgs", "chat", "conversation", "dialog", "dialogue", "turns", "history", "mesages"];
    let like = |name: &str| NAMES.contains(&name.trim().to_lowercase().as_str());
    let mut found = context.record.members().filter(|member| member.key.text().is_some_and(|name| like(&name)));
    let (only, None) = (found.next()?, found.next()) else { return None };
    is_message_list(only.value).then_some(())?;
    let name = excerpt(&only.key.text()?);
    Mend::safe(format!("renamed `{name}` to `messages`"), [rename(only, "messages")])
}

/// A key that the format does not know. What says nothing can go; anything else is information.
pub(super) fn unknown_key(context: &Context) -> Option<Mend> {
    let object = context.above(1)?;
    let member = object.members().find(|member| member.key.span().start == context.at)?;
    let edits = [remove_member(object, context.at)?];
    let (name, value) = (excerpt(&member.key.text()?), excerpt(member.value.raw()));
    let what = format!("removed the key `{name}` with `{value}`");
    if says_nothing(member.value) { Mend::safe(what, edits) } else { Mend::not_safe(what, edits) }
}

pub(super) fn messages_not_array(context: &Context) -> Option<Mend> {
    let message = Some(context.value()).filter(|value| is_message(*value))?;
    Mend::safe("put the message in a list", [in_list(message)])
}

/// JSON in a string becomes the value it says.
pub(super) fn decode_string(context: &Context) -> Option<Mend> {
    let value = context.value();
    let text = decoded(&value.text().filter(|_| value.kind() == Kind::String)?)?;
    text.starts_with(['[', '{']).then_some(())?;
    Mend::safe("decoded the JSON in a string", [Edit::replace(value, text)])
}

pub(super) fn messages_empty(_: &Context) -> Option<Mend> {
    Mend::remove_line("removed the line: it has no messages")
}

pub(super) fn message_not_object(context: &Context) -> Option<Mend> {
    let (item, list) = (context.value(), context.above(1)?);
    match item.kind() {
        Kind::Null if list.items().count() > 1 => {
            Mend::safe("removed null from the messages", [remove_item(list, item.span().start)?])
        }
        Kind::Array if is_message_list(item) => {
            let inner = &item.raw()[1..item.raw().len() - 1];
            Mend::safe("took the messages out of a list in the list", [Edit::replace(item, inner)])
        }
        _ => None,
    }
}

/// Another name of a key that is missing.
pub(super) fn misnamed<'t>(object: Value<'t>, names: &[&str]) -> Option<crate::json::Member<'t>> {
    let like = |name: &str| names.contains(&name.trim().to_lowercase().as_str());
    let found = object.members().find(|found| found.key.text().is_some_and(|name| like(&name)))?;
    member(object, &found.key.text()?)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::fix::tests::check;

    #[test]
    fn records_are_mended() {
        check(
            [
                r#"{"messages":"[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]"}"#,
                r#"{"Messages":[{"role":"user","content":"a"},{"role":"assistant","content":"c"}]}"#,
                r#"{"messages":[[{"role":"user","content":"a"},{"role":"assistant","content":"d"}]]}"#,
                r#"{"messages":[{"role":"user","content":"a","content":"a"},{"role":"assistant","content":"e"}]}"#,
            ]
            .join("\n"),
            expect![[r#"
            {"messages":[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"c"}]}
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"d"}]}
            {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"e"}]}──
            1 → 1: messages-is-string: decoded the JSON in a string
            2 → 2: missing-messages: renamed `Messages` to `messages`
            3 → 3: message-not-object: took the messages out of a list in the list
            4 → 4: duplicate-key: removed `content`, which comes again
        "#]],
        );
    }
}
