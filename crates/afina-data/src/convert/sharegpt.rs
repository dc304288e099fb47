//! ShareGPT: `conversations` of `from` and `value`, with LLaMA-Factory's `system`, `tools` and `images` beside them, and
//! the tags in which Hermes writes calls.

use afina_chat::Role;

use super::{
    calls,
    chat::{message, push_result, settings, system},
    draft::{Content, Draft, Message},
    notes::{Converted, Notes, first},
    parts,
};
use crate::json::{Kind, Value};

pub(super) fn read(record: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    const KNOWN: [&str; 6] = ["conversations", "conversation", "system", "tools", "functions", "parallel_tool_calls"];
    notes.leave_out_all_but("", record, &[&KNOWN[..], &parts::MEDIA].concat());
    parts::images_beside(record, notes, draft)?;
    system(record, notes, draft)?;
    settings(record, notes, draft)?;
    let Some(list) = first(record, &["conversations", "conversation"]) else {
        let hint = "choose another `--from`";
        return Err(notes.refuse(record, "expected a key `conversations`, found none", hint));
    };
    turns(list, notes, draft)
}

/// A list of turns, or one as JSON in a string.
pub(super) fn turns(list: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    let hint = "a turn is `{\"from\": …, \"value\": …}`";
    match list.kind() {
        Kind::Array => list.items().try_for_each(|item| turn(item, notes, draft)),
        Kind::String => notes.nested(list, "a list of turns", |list, notes| match list.kind() {
            Kind::Array => turns(list, notes, draft),
            _ => Err(notes.unexpected(list, "a list of turns", hint)),
        }),
        _ => Err(notes.unexpected(list, "a list of turns", hint)),
    }
}

fn turn(item: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    let text = first(item, &["value", "content"]).and_then(|text| text.text()).unwrap_or_default();
    let from =
        |names: &[&str]| first(item, &["from", "role"]).is_some_and(|from| names.iter().any(|name| from.is(name)));
    if text.contains("<tool_call>") && from(&["gpt", "assistant"]) {
        let (rest, tagged) = tagged(&text, "tool_call");
        let mut found = Vec::new();
        for call in tagged {
            match notes.nested_text(item, call, calls::calls) {
                Some(more) => found.extend(more?),
                // A text that speaks of the tag.
                None => return message(item, notes, draft),
            }
        }
        notes.leave_out_all_but("messages[].", item, &["from", "role", "value", "content"]);
        let content = (!rest.trim().is_empty()).then(|| Content::Text(rest.trim().to_owned()));
        draft.push_calls(Message::new(Role::Assistant, content), found);
        return Ok(());
    }
    if text.contains("<tool_response>") && from(&["tool", "observation"]) && draft.open_calls() > 0 {
        let (_, results) = tagged(&text, "tool_response");
        notes.leave_out_all_but("messages[].", item, &["from", "role", "value", "content"]);
        return results.into_iter().try_for_each(|text| push_result(item, None, None, text.to_owned(), notes, draft));
    }
    message(item, notes, draft)
}

/// The text without its `<tag>…</tag>`, and what stood in them.
fn tagged<'t>(text: &'t str, tag: &str) -> (String, Vec<&'t str>) {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let (mut rest, mut left, mut inside) = (text, String::new(), Vec::new());
    while let Some((before, after)) = rest.split_once(&open) {
        let (inner, behind) = after.split_once(&close).unwrap_or((after, ""));
        left.push_str(before);
        inside.push(inner.trim());
        rest = behind;
    }
    (left + rest, inside)
}
