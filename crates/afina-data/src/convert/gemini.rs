//! Gemini: `contents` of `parts`, `systemInstruction`, declarations of functions; in camel case or snake case.

use afina_chat::Role;

use super::{
    draft::{Content, Draft, FoundCall, Message, Part},
    notes::{Converted, Notes, first, present},
    parts, tools, write,
};
use crate::{
    diagnostic::excerpt,
    json::{Kind, Value},
};

const PARTS: &str = "contents[].parts[].";

pub(super) fn read(record: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    notes.leave_out_all_but("", record, &["contents", "systemInstruction", "system_instruction", "tools"]);
    let Some(contents) = present(record, "contents") else {
        return Err(notes.refuse(record, "expected a key `contents`, found none", "choose another `--from`"));
    };
    if let Some(system) = first(record, &["systemInstruction", "system_instruction"]) {
        let text = match system.text() {
            Some(text) => text.into_owned(),
            None => system_text(system, notes)?,
        };
        draft.messages.push(Message::text(Role::System, text));
    }
    if let Some(list) = present(record, "tools") {
        draft.tools = tools::tools(list, notes)?;
    }
    match contents.kind() {
        Kind::Array => contents.items().try_for_each(|content| turn(content, notes, draft)),
        Kind::String => {
            draft.messages.push(Message::text(Role::User, contents.text().unwrap_or_default()));
            Ok(())
        }
        _ => Err(notes.unexpected(contents, "a list of turns", HINT)),
    }
}

const HINT: &str = "a turn is `{\"role\": \"user\", \"parts\": [{\"text\": …}]}`";

fn system_text(system: Value, notes: &mut Notes) -> Converted<String> {
    let mut text = String::new();
    for part in system.get("parts").into_iter().flat_map(|parts| parts.items()) {
        let Some(piece) = present(part, "text").and_then(|piece| piece.text()) else {
            return Err(notes.refuse(part, "expected text in the system instruction, found something else", HINT));
        };
        text.push_str(&piece);
    }
    Ok(text)
}

fn turn(value: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    notes.leave_out_all_but("contents[].", value, &["role", "parts"]);
    let role = present(value, "role").and_then(|role| role.text());
    let role = match role.as_deref() {
        None | Some("user" | "function" | "tool") => Role::User,
        Some("model" | "assistant") => Role::Assistant,
        Some("system") => Role::System,
        Some(other) => {
            let message = format!("expected role `user` or `model`, found `{}`", excerpt(other));
            return Err(notes.refuse(value, message, HINT));
        }
    };
    let (mut parts, mut calls, mut answered) = (Vec::new(), Vec::new(), false);
    for part in value.get("parts").into_iter().flat_map(|parts| parts.items()) {
        if let Some(answer) = first(part, &["functionResponse", "function_response"]) {
            response(answer, notes, draft)?;
            answered = true;
        } else if let Some(call) = first(part, &["functionCall", "function_call"]) {
            calls.push(function_call(call, notes)?);
        } else {
            said(part, &mut parts, notes)?;
        }
        let signed = ["thoughtSignature", "thought_signature", "videoMetadata", "video_metadata"];
        signed.iter().filter_map(|name| Some((name, part.get(name)?))).for_each(|(name, value)| {
            notes.leave_out(PARTS, name, value);
        });
    }
    let content = Content::of(parts);
    match role {
        Role::Assistant => draft.push_calls(Message::new(role, content), calls),
        _ if content.is_some() => draft.messages.push(Message::new(role, content)),
        _ if answered => {}
        _ => return Err(notes.refuse(value, "expected a turn with parts, found none", HINT)),
    }
    Ok(())
}

/// Text or an image. Texts side by side are one text, as Gemini streams it.
fn said(part: Value, found: &mut Vec<Part>, notes: &mut Notes) -> Converted<()> {
    if let Some(text) = present(part, "text").and_then(|text| text.text()) {
        if present(part, "thought").is_some_and(|thought| thought.kind() == Kind::True) {
            notes.leave_out(PARTS, "thought", part);
            return Ok(());
        }
        match found.last_mut() {
            Some(Part::Text(before)) => before.push_str(&text),
            _ => found.push(Part::Text(text.into_owned())),
        }
        return Ok(());
    }
    let names = ["inlineData", "inline_data", "fileData", "file_data"];
    let Some(data) = first(part, &names) else {
        let hint = "leave the record out: fine-tuning takes text, images and calls of functions";
        return Err(notes.refuse(part, "expected a text, an image or a call, found another part", hint));
    };
    let mime = first(data, &["mimeType", "mime_type"]).and_then(|mime| mime.text()).unwrap_or_default();
    if !mime.is_empty() && !mime.starts_with("image/") {
        let hint = "leave the record out: fine-tuning takes text and images";
        return Err(notes.refuse(data, format!("expected an image, found `{}`", excerpt(&mime)), hint));
    }
    found.push(Part::Image { url: parts::url(data, notes)?, detail: None });
    Ok(())
}

fn function_call(call: Value, notes: &mut Notes) -> Converted<FoundCall> {
    notes.leave_out_all_but(PARTS, call, &["id", "name", "args"]);
    let Some(name) = present(call, "name").and_then(|name| name.text()) else {
        return Err(notes.refuse(call, "expected a call with a `name`, found none", "give the call its name"));
    };
    let id = present(call, "id").and_then(|id| id.text()).filter(|id| !id.is_empty());
    let arguments = present(call, "args").map_or_else(|| "{}".to_owned(), write::json);
    Ok(FoundCall { id: id.map(Into::into), name: name.into_owned(), arguments })
}

fn response(answer: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    notes.leave_out_all_but(PARTS, answer, &["id", "name", "response"]);
    let id = present(answer, "id").and_then(|id| id.text()).filter(|id| !id.is_empty()).map(Into::into);
    let name = present(answer, "name").and_then(|name| name.text());
    let response = present(answer, "response");
    let text = response.map_or_else(String::new, |response| match response.text() {
        Some(text) => text.into_owned(),
        None => write::json(response),
    });
    super::chat::push_result(answer, id, name.as_deref(), text, notes, draft)
}
