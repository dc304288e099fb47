//! Alpaca: `instruction`, `input`, `output`, with LLaMA-Factory's `system` and `history`.

use afina_chat::Role;

use super::{
    chat::{settings, system},
    draft::{Draft, Message},
    notes::{Converted, Notes, first, is_nothing, present},
    parts,
};
use crate::json::Value;

pub(super) fn read(record: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    const KNOWN: [&str; 7] = ["instruction", "input", "output", "response", "system", "history", "tools"];
    notes.leave_out_all_but("", record, &[&KNOWN[..], &parts::MEDIA].concat());
    prompt(record, notes, draft)?;
    let Some(output) = first(record, &["output", "response"]) else {
        let hint = "give the instruction its answer";
        return Err(notes.refuse(record, "expected a key `output`, found none", hint));
    };
    let answer = parts::text(output, notes, draft)?;
    draft.messages.push(Message::text(Role::Assistant, answer));
    Ok(())
}

/// Everything before the answer.
///
/// Instruction and input are one message, the input behind a line break, as LLaMA-Factory puts them together
/// (`src/llamafactory/data/converter.py`).
pub(super) fn prompt(record: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    parts::images_beside(record, notes, draft)?;
    system(record, notes, draft)?;
    settings(record, notes, draft)?;
    if let Some(history) = present(record, "history") {
        history.items().try_for_each(|round| past(round, notes, draft))?;
    }
    let mut texts = Vec::new();
    for name in ["instruction", "input"] {
        if let Some(text) = present(record, name).filter(|&text| !is_nothing(text)) {
            let Some(text) = text.text() else {
                return Err(notes.unexpected(text, "a text", "write it as text: `json.dumps(value)`"));
            };
            texts.push(text.into_owned());
        }
    }
    if texts.is_empty() {
        let hint = "give the answer its instruction, or leave the record out";
        return Err(notes.refuse(record, "expected an instruction or an input, found neither", hint));
    }
    let found = parts::split_text(&texts.join("\n"), draft);
    draft.messages.push(Message::new(Role::User, found));
    Ok(())
}

/// A round of the history: question and answer.
fn past(round: Value, notes: &Notes, draft: &mut Draft) -> Converted<()> {
    let texts: Vec<_> = round.items().map_while(|item| item.text()).collect();
    let [question, answer] = texts.as_slice() else {
        let hint = "a round of `history` is `[question, answer]`";
        return Err(notes.refuse(round, "expected a question and its answer, found something else", hint));
    };
    draft.messages.push(Message::text(Role::User, question.as_ref()));
    draft.messages.push(Message::text(Role::Assistant, answer.as_ref()));
    Ok(())
}
