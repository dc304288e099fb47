//! A request of the Batch API or of a log, with its answer.

use super::{
    chat,
    draft::Draft,
    notes::{Converted, Notes, first, is_nothing, present},
    responses,
};
use crate::json::{Kind, Value};

pub(super) fn read(record: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    // A line's own: who asked what under which number.
    const LINE: [&str; 12] = [
        "id",
        "custom_id",
        "method",
        "url",
        "body",
        "params",
        "request",
        "response",
        "result",
        "error",
        "status",
        "created_at",
    ];
    notes.leave_out_all_but("", record, &LINE);
    if let Some(error) = present(record, "error").filter(|&error| !is_nothing(error)) {
        return Err(notes.refuse(error, "expected an answer, found an error", "leave the record out, or ask again"));
    }
    let Some(body) = first(record, &["body", "params", "request"]).filter(|body| body.kind() == Kind::Object) else {
        let hint = "join it with the file of requests by `custom_id`: `body` beside `response`";
        return Err(notes.refuse(record, "expected the request in `body`, found an answer alone", hint));
    };
    // The request of a log may stand in a shell of its own.
    let body = present(body, "body").unwrap_or(body);
    let answer = first(record, &["response", "result"]);
    let answer = answer.map(|answer| first(answer, &["body", "message"]).unwrap_or(answer));
    // How it was to be answered has no place in training.
    notes.leave_out_all_but("body.", body, &CONVERSATION);
    if present(body, "messages").is_some() {
        chat::system(body, notes, draft)?;
        chat::settings(body, notes, draft)?;
        if let Some(list) = present(body, "messages") {
            chat::messages(list, notes, draft)?;
        }
    } else if present(body, "input").is_some() {
        responses::prompt(body, notes, draft)?;
    } else {
        let hint = "convert requests for chat completions or responses";
        return Err(notes.refuse(body, "expected `messages` or `input` in the request, found neither", hint));
    }
    match answer {
        Some(answer) => take_answer(answer, notes, draft),
        None => Ok(()),
    }
}

const CONVERSATION: [&str; 7] =
    ["messages", "system", "tools", "functions", "parallel_tool_calls", "input", "instructions"];

/// `choices[0].message`, `output` items, or Anthropic's `content`.
fn take_answer(answer: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    if let Some(choices) = present(answer, "choices") {
        for other in choices.items().skip(1) {
            notes.leave_out("response.", "choices[]", other);
        }
        if let Some(message) = choices.items().next().and_then(|choice| present(choice, "message")) {
            return chat::message(message, notes, draft);
        }
    } else if let Some(output) = present(answer, "output") {
        return responses::items(output, notes, draft);
    } else if present(answer, "role").is_some() && present(answer, "content").is_some() {
        return chat::answer(answer, notes, draft);
    }
    let hint = "leave the record out, or ask again";
    Err(notes.refuse(answer, "expected an answer in the response, found none", hint))
}
