//! `messages` and its like: a list of objects.

use crate::{
    findings::Findings,
    json::{Kind, Value},
    view::{Purpose, Turns},
};

/// The messages of a list, after its own rules. `None`: there are none to look at.
pub(crate) fn check_list<'t>(list: Value<'t>, purpose: Purpose, out: &mut Findings) -> Option<Turns<'t>> {
    match list.kind() {
        Kind::Array => {}
        Kind::String if list.text().is_some_and(|text| text.trim_start().starts_with(['[', '{'])) => {
            messages_is_string(list, out);
            return None;
        }
        _ => {
            messages_not_array(list, out);
            return None;
        }
    }
    let turns = Turns::new(list, purpose);
    if list.items().next().is_none() {
        messages_empty(list, out);
        return None;
    }
    if !turns.whole {
        list.items().filter(|item| item.kind() != Kind::Object).for_each(|item| message_not_object(item, out));
    }
    Some(turns)
}

/// `messages` is not an array.
///
/// It is a list even when it has one message.
fn messages_not_array(list: Value, out: &mut Findings) {
    let hint = if list.kind() == Kind::Object {
        "put the message in a list: `[{…}]`"
    } else {
        "write a list of messages: `[{\"role\": …, \"content\": …}]`"
    };
    out.error("messages-not-array", list, format!("expected an array of messages, found {}", list.described()), hint);
}

/// `messages` is a string with JSON in it.
///
/// It was encoded twice: `json.dumps` of a record that already had text for its messages. Decode it once.
fn messages_is_string(list: Value, out: &mut Findings) {
    let is_object = list.text().is_some_and(|text| text.trim_start().starts_with('{'));
    let (found, hint) = match is_object {
        true => ("a string with an object in it", "decode it once more, and put the message in a list: `[{…}]`"),
        false => ("a string with one in it", "decode it once more, as `--fix OUT` does"),
    };
    out.error("messages-is-string", list, format!("expected an array of messages, found {found}"), hint);
}

/// `messages` is an empty list.
///
/// There is nothing to learn from. Delete the line.
fn messages_empty(list: Value, out: &mut Findings) {
    out.error("messages-empty", list, "expected at least one message, found an empty list", "delete the line");
}

/// An element of `messages` is not an object.
///
/// A message is `{"role": …, "content": …}`, not a bare string, and the list is not nested.
fn message_not_object(item: Value, out: &mut Findings) {
    let hint = match item.kind() {
        Kind::Array => "one list too many: `messages` holds the messages themselves",
        Kind::Null => "remove it",
        _ => "write `{\"role\": …, \"content\": …}`",
    };
    out.error("message-not-object", item, format!("expected a message, found {}", item.described()), hint);
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::check;

    #[test]
    fn messages_are_a_list_of_objects() {
        let records = [
            r#"{"messages":null}"#,
            r#"{"messages":{"role":"user","content":"x"}}"#,
            r#"{"messages":"[{\"role\":\"user\"}]"}"#,
            r#"{"messages":"{\"role\":\"user\"}"}"#,
            r#"{"messages":[]}"#,
            r#"{"messages":["Hi",null,[{"role":"user","content":"x"}],{"role":"assistant","content":"x"}]}"#,
        ];
        check(
            records.join("\n"),
            expect![[r#"
                1:13: error[messages-not-array] /messages: expected an array of messages, found null
                2:13: error[messages-not-array] /messages: expected an array of messages, found an object
                3:13: error[messages-is-string] /messages: expected an array of messages, found a string with one in it
                4:13: error[messages-is-string] /messages: expected an array of messages, found a string with an object in it
                5:13: error[messages-empty] /messages: expected at least one message, found an empty list
                6:14: error[message-not-object] /messages/0: expected a message, found a string
                6:19: error[message-not-object] /messages/1: expected a message, found null
                6:24: error[message-not-object] /messages/2: expected a message, found an array
            "#]],
        );
    }
}
