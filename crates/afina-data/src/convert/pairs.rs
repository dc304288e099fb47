//! A prompt and its completion, by the names that they go by; each a text or a list of messages.

use afina_chat::Role;

use super::{
    chat::{messages, settings, system},
    draft::{Draft, Message},
    notes::{Converted, Notes, present},
    parts,
};
use crate::json::{Kind, Value};

/// Names of the two, the usual ones first.
const NAMES: [(&str, &str); 10] = [
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "output"),
    ("prompt", "answer"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("query", "answer"),
    ("input", "output"),
    ("input_text", "output_text"),
];

/// Whether the record has both, as texts (or lists of messages under the usual names).
pub(super) fn is_pair(record: Value) -> bool {
    NAMES.iter().any(|&(prompt, completion)| {
        let text = |name: &str| record.get(name).is_some_and(|value| value.kind() == Kind::String);
        text(prompt) && text(completion)
    })
}

pub(super) fn read(record: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    let both = |(prompt, completion): &(&'static str, &'static str)| {
        Some((*prompt, present(record, prompt)?, *completion, present(record, completion)?))
    };
    let Some((prompt_name, prompt, completion_name, completion)) = NAMES.iter().find_map(both) else {
        let hint = match present(record, "prompt") {
            Some(_) => "a prompt alone teaches nothing: add its completion",
            None => "choose another `--from`",
        };
        return Err(notes.refuse(record, "expected a prompt and its completion, found no such keys", hint));
    };
    // TRL's unpaired preference: only what was liked is worth learning.
    let label = present(record, "label").or(present(record, "kto_tag"));
    if let Some(label) = label.filter(|label| label.kind() == Kind::False) {
        let hint = "put it beside a better one as `rejected`, or leave it out";
        return Err(notes.refuse(label, "expected a completion to learn from, found one labelled bad", hint));
    }
    let known = [prompt_name, completion_name, "system", "tools", "functions", "parallel_tool_calls"];
    notes.leave_out_all_but("", record, &[&known[..], &parts::MEDIA].concat());
    parts::images_beside(record, notes, draft)?;
    system(record, notes, draft)?;
    settings(record, notes, draft)?;
    if (prompt_name, completion_name) == NAMES[0]
        && let (Kind::String, Kind::String) = (prompt.kind(), completion.kind())
    {
        let (prompt, completion) = (prompt.text().unwrap_or_default(), completion.text().unwrap_or_default());
        let (prompt, completion) = (notes.separators.of_prompt(&prompt), notes.separators.of_completion(&completion));
        let content = parts::split_text(prompt, draft);
        draft.messages.push(Message::new(Role::User, content));
        let content = parts::split_text(completion, draft);
        draft.messages.push(Message::new(Role::Assistant, content));
        return Ok(());
    }
    turns(prompt, Role::User, notes, draft)?;
    turns(completion, Role::Assistant, notes, draft)
}

/// A list of messages, or a text that `role` says.
pub(super) fn turns(value: Value, role: Role, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    match value.kind() {
        Kind::Array => messages(value, notes, draft),
        Kind::Object => super::chat::message(value, notes, draft),
        Kind::String => {
            let content = parts::split_text(&value.text().unwrap_or_default(), draft);
            draft.messages.push(Message::new(role, content));
            Ok(())
        }
        _ => Err(notes.unexpected(value, "a text or a list of messages", "write it as text")),
    }
}
