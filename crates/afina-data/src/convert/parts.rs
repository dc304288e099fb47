//! What a message says: a string, or parts in the words of OpenAI, the Responses API, Anthropic and Hugging Face.

use std::collections::VecDeque;

use super::{
    calls,
    draft::{Content, Draft, FoundCall, Part},
    notes::{Converted, Notes, first, present},
};
use crate::{
    diagnostic::excerpt,
    json::{Kind, Value},
};

const SCOPE: &str = "messages[].content[].";
const PLACEHOLDER: &str = "<image>";

/// The parts of a message; Anthropic's have calls and their results among them.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) parts: Vec<Part>,
    pub(super) calls: Vec<FoundCall>,
    pub(super) results: Vec<ToolResult>,
}

/// The answer of a tool.
pub(super) struct ToolResult {
    pub(super) id: Option<String>,
    pub(super) text: String,
}

pub(super) fn read(content: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<Parts> {
    let mut found = Parts::default();
    match content.kind() {
        Kind::Null => {}
        Kind::String => add_text(&content.text().unwrap_or_default(), &mut draft.images, &mut found.parts),
        Kind::Array => {
            content.items().try_for_each(|item| part(item, notes, draft, &mut found))?;
        }
        Kind::Object if present(content, "type").is_some() || present(content, "text").is_some() => {
            part(content, notes, draft, &mut found)?;
        }
        _ => {
            let hint = "write what it says as text: `json.dumps(content)`";
            return Err(notes.unexpected(content, "a text or a list of parts", hint));
        }
    }
    Ok(found)
}

/// The text of a message that has nothing but text; of several parts, a line each.
pub(super) fn text(content: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<String> {
    let found = read(content, notes, draft)?;
    let mut lines = Vec::new();
    for part in found.parts {
        match part {
            Part::Text(text) | Part::Refusal(text) => lines.push(text),
            Part::Image { .. } => {
                let hint = "put the image into a message of the user";
                return Err(notes.refuse(content, "expected only text here, found an image", hint));
            }
        }
    }
    Ok(lines.join("\n"))
}

/// A text as content, with the waiting images where it says `<image>`.
pub(super) fn split_text(text: &str, draft: &mut Draft) -> Option<Content> {
    let mut parts = Vec::new();
    add_text(text, &mut draft.images, &mut parts);
    Content::of(parts)
}

/// A text, with the waiting images where it says `<image>`.
fn add_text(text: &str, images: &mut VecDeque<String>, parts: &mut Vec<Part>) {
    let mut rest = text;
    while !images.is_empty()
        && let Some((before, after)) = rest.split_once(PLACEHOLDER)
    {
        if !before.trim().is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        parts.extend(images.pop_front().map(|url| Part::Image { url, detail: None }));
        rest = after;
    }
    if rest.len() == text.len() {
        parts.push(Part::Text(text.to_owned()));
    } else if !rest.trim().is_empty() {
        // The line end behind a placeholder belongs to it.
        parts.push(Part::Text(rest.strip_prefix('\n').unwrap_or(rest).to_owned()));
    }
}

fn part(value: Value, notes: &mut Notes, draft: &mut Draft, found: &mut Parts) -> Converted<()> {
    if let Some(text) = value.text() {
        add_text(&text, &mut draft.images, &mut found.parts);
        return Ok(());
    }
    let kind = present(value, "type").and_then(|kind| kind.text());
    match kind.as_deref() {
        None | Some("text" | "input_text" | "output_text") => {
            let Some(text) = present(value, "text").and_then(|text| text.text()) else {
                return Err(notes.refuse(value, "expected a part with a `text`, found none", "give the part a text"));
            };
            notes.leave_out_all_but(SCOPE, value, &["type", "text"]);
            add_text(&text, &mut draft.images, &mut found.parts);
        }
        Some("refusal") => {
            let text = present(value, "refusal").and_then(|text| text.text()).unwrap_or_default();
            found.parts.push(Part::Refusal(text.into_owned()));
        }
        Some("image_url" | "input_image" | "image") => {
            let image = image(value, notes, draft)?;
            found.parts.push(image);
        }
        Some("tool_use") => {
            found.calls.extend(calls::calls(value, notes)?);
        }
        Some("tool_result") => {
            let content = present(value, "content");
            let text = content.map(|content| text(content, notes, draft)).transpose()?;
            let id = present(value, "tool_use_id").and_then(|id| id.text()).map(Into::into);
            found.results.push(ToolResult { id, text: text.unwrap_or_default() });
            let failed = present(value, "is_error").filter(|failed| failed.kind() == Kind::True);
            failed.into_iter().for_each(|failed| notes.leave_out(SCOPE, "is_error", failed));
            notes.leave_out_all_but(SCOPE, value, &["type", "content", "tool_use_id", "is_error"]);
        }
        Some("thinking" | "redacted_thinking" | "reasoning" | "reasoning_text" | "summary_text") => {
            notes.leave_out(SCOPE, &kind.unwrap_or_default(), value);
        }
        Some(other) => {
            let message = format!("expected text, an image or a call, found a part of type `{}`", excerpt(other));
            return Err(notes.refuse(value, message, "leave the record out: fine-tuning takes text and images"));
        }
    }
    Ok(())
}

fn image(value: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<Part> {
    notes.leave_out_all_but(SCOPE, value, &["type", "image_url", "image", "url", "source", "detail", "base64"]);
    let named = first(value, &["image_url", "image", "url", "source", "base64"]);
    let Some(named) = named else {
        let hint = "give the part a URL or a data URI";
        return match draft.images.pop_front() {
            Some(url) => Ok(Part::Image { url, detail: None }),
            None => Err(notes.refuse(value, "expected an image, found a part without one", hint)),
        };
    };
    let detail = first(value, &["detail"]).or_else(|| present(named, "detail"));
    let detail = detail.and_then(|detail| detail.text()).map(Into::into);
    Ok(Part::Image { url: url(named, notes)?, detail })
}

/// The URL or data URI of an image: a string, `{"url"}`, or Anthropic's source.
pub(super) fn url(value: Value, notes: &Notes) -> Converted<String> {
    let hint = "write the image into the file: `data:image/png;base64,…`";
    let text = match value.kind() {
        Kind::Object => match (present(value, "data"), first(value, &["media_type", "mimeType", "mime_type"])) {
            (Some(data), mime) => {
                let mime = mime.and_then(|mime| mime.text()).unwrap_or_else(|| "image/png".into());
                return Ok(format!("data:{mime};base64,{}", data.text().unwrap_or_default()));
            }
            _ => first(value, &["url", "fileUri", "file_uri", "path"]).and_then(|url| url.text()),
        },
        _ => value.text(),
    };
    let Some(text) = text else { return Err(notes.unexpected(value, "the URL of an image", hint)) };
    let scheme = text.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("http" | "https" | "data")) {
        let message = format!("expected the URL or data URI of an image, found `{}`", excerpt(&text));
        return Err(notes.refuse(value, message, hint));
    }
    Ok(text.into_owned())
}

/// The images that stand beside the messages, in the order of their placeholders.
pub(super) fn images_beside(record: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    for name in ["images", "image"] {
        match present(record, name) {
            Some(list) if list.kind() == Kind::Array => {
                for image in list.items() {
                    draft.images.push_back(url(image, notes)?);
                }
            }
            Some(image) if !super::notes::is_nothing(image) => draft.images.push_back(url(image, notes)?),
            _ => {}
        }
    }
    for name in ["videos", "video", "audios", "audio"] {
        if let Some(value) = present(record, name).filter(|&value| !super::notes::is_nothing(value)) {
            let message = format!("expected text and images, found `{name}`");
            return Err(notes.refuse(value, message, "leave the record out: fine-tuning takes text and images"));
        }
    }
    Ok(())
}

/// The names that [`images_beside`] looks at.
pub(super) const MEDIA: [&str; 6] = ["images", "image", "videos", "video", "audios", "audio"];

impl Parts {
    pub(super) fn content(self) -> Option<Content> {
        Content::of(self.parts)
    }
}
