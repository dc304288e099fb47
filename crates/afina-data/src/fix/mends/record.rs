//! Fixes of a record and of its list of messages.

use crate::{
    diagnostic::excerpt,
    fix::{
        edit::{Edit, in_list, remove_item, remove_member, rename, says_nothing},
        mend::{Context, Mend},
        syntax::decoded,
    },
    json::{Kind, Value},
    rules::{format, messages, typo},
};

/// Whether this is a list of messages.
pub(super) fn is_message_list(value: Value) -> bool {
    value.kind() == Kind::Array && value.items().next().is_some_and(is_message)
}

pub(super) fn is_message(value: Value) -> bool {
    value.get("role").is_some()
}

pub(super) fn record_not_object(context: &Context) -> Option<Mend> {
    let Some(list) = Some(context.record).filter(|record| is_message_list(*record)) else {
        // Records in a list are not nothing.
        let records = context.record.items().any(|item| item.kind() == Kind::Object);
        return if records { None } else { Mend::remove_line("removed the line: it is no record") };
    };
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
    if context.record.members().next().is_none() {
        return Mend::remove_line("removed the line: it is an empty object");
    }
    let only = typo::only_meant(context.record, "messages")?;
    is_message_list(only.value).then_some(())?;
    let name = excerpt(&only.key.text()?);
    Mend::safe(format!("renamed `{name}` to `messages`"), [rename(only, "messages")])
}

/// A key that the format does not know. One that is misspelled gets its name, if that is free. What says nothing can
/// go; anything else is information.
pub(super) fn unknown_key(context: &Context) -> Option<Mend> {
    let object = context.above(1)?;
    let member = object.members().find(|member| member.key.span().start == context.at)?;
    let name = member.key.text()?;
    let known = match context.message() {
        Some((_, message, _)) => messages::known_keys(&message),
        None => format::known_keys(context.options.method),
    };
    if let Some(meant) = typo::meant_key(&name, member.value, &typo::missing(object, known)) {
        // Two keys for one: nobody knows which.
        let only = typo::only_meant(object, meant)?;
        return Mend::safe(format!("renamed `{}` to `{meant}`", excerpt(&name)), [rename(only, meant)]);
    }
    let edits = [remove_member(object, context.at)?];
    let (name, value) = (excerpt(&name), excerpt(member.value.raw()));
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
