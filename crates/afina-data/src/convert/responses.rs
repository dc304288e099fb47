//! The Responses API: `input` and `output` items, `instructions`.

use afina_chat::Role;

use super::{
    calls, chat,
    draft::{Draft, Message},
    notes::{Converted, Notes, present},
    parts, write,
};
use crate::{
    diagnostic::excerpt,
    json::{Kind, Value},
};

pub(super) fn read(record: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    let known = ["input", "output", "instructions", "tools", "parallel_tool_calls"];
    notes.leave_out_all_but("", record, &known);
    prompt(record, notes, draft)?;
    match present(record, "output") {
        Some(output) => items(output, notes, draft),
        None => Ok(()),
    }
}

/// `instructions`, `input` and `tools`.
pub(super) fn prompt(record: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    if let Some(text) = present(record, "instructions").and_then(|text| text.text()) {
        draft.messages.push(Message::text(Role::System, text));
    }
    chat::settings(record, notes, draft)?;
    match present(record, "input") {
        Some(input) => items_of(input, Role::User, notes, draft),
        None => Err(notes.refuse(record, "expected an `input`, found none", "choose another `--from`")),
    }
}

/// What the model said.
pub(super) fn items(value: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    items_of(value, Role::Assistant, notes, draft)
}

/// A list of items, or one text that `role` says.
fn items_of(value: Value, role: Role, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    match value.kind() {
        Kind::Array => value.items().try_for_each(|item| self::item(item, notes, draft)),
        Kind::String => {
            draft.messages.push(Message::text(role, value.text().unwrap_or_default()));
            Ok(())
        }
        _ => Err(notes.unexpected(value, "a text or a list of items", "an item is `{\"role\": …, \"content\": …}`")),
    }
}

fn item(value: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    let kind = present(value, "type").and_then(|kind| kind.text());
    match kind.as_deref() {
        None | Some("message") => {
            // The item's own number and state say nothing about the conversation.
            chat::message_but(value, &["id", "status", "phase"], notes, draft)
        }
        Some("function_call") => {
            let found = calls::calls(value, notes)?;
            draft.push_calls(Message::new(Role::Assistant, None), found);
            Ok(())
        }
        Some("function_call_output") => {
            notes.leave_out_all_but("input[].", value, &["type", "id", "status", "call_id", "output"]);
            let id = present(value, "call_id").and_then(|id| id.text()).map(Into::into);
            let text = match present(value, "output") {
                None => String::new(),
                Some(output) if output.kind() == Kind::Object => write::json(output),
                Some(output) => parts::text(output, notes, draft)?,
            };
            chat::push_result(value, id, None, text, notes, draft)
        }
        Some("reasoning") => {
            notes.leave_out("input[].", "reasoning", value);
            Ok(())
        }
        Some(other) => {
            let message = format!("expected a message or a call of a function, found `{}`", excerpt(other));
            Err(notes.refuse(value, message, "leave the record out: only functions can be called in training data"))
        }
    }
}
