//! The content of a message: a string, or parts; when it may be missing.

use afina_chat::Role;

use super::{
    format::{is_anthropic_block, list},
    messages::misnamed,
};
use crate::{
    diagnostic::{Severity, excerpt},
    findings::Findings,
    json::{Kind, Value},
    read::{Method, Profile},
    view::Message,
};

/// The rules of a message's content.
pub(crate) fn check_content(message: &Message, out: &mut Findings) {
    let Some(content) = message.content else { return missing_content(message, out) };
    match content.kind() {
        Kind::Null => null_content(message, content, out),
        Kind::Number | Kind::True | Kind::False => content_not_string(content, out),
        Kind::Object => content_object(content, out),
        Kind::Array if content.items().next().is_none() => content_array_empty(content, out),
        Kind::Array => {
            tool_content_array(message, content, out);
            content.items().for_each(|part| check_part(message, part, out));
            refusal_part_mixed(message, content, out);
            blank_content(message, content, out);
        }
        Kind::String | Kind::Key => blank_content(message, content, out),
    }
}

/// Whether a message of this role says enough without content. Nobody knows: it does.
fn may_lack_content(message: &Message) -> bool {
    match message.meant {
        Some(Role::Assistant) => {
            let audio = message.value.get("audio");
            message.calls_tools() || [message.refusal, audio].iter().flatten().any(|value| !value.is_null())
        }
        Some(_) => false,
        None => true,
    }
}

/// A message has no `content`.
///
/// Only an assistant message that calls a tool (or refuses) may lack it.
///
/// ```json
/// {"role": "user", "content": "Hi"}
/// ```
fn missing_content(message: &Message, out: &mut Findings) {
    let renamed = misnamed(message, "content").and_then(|key| key.text());
    if let Some(name) = renamed {
        let name = excerpt(&name);
        out.error(
            "missing-content",
            message.value,
            format!("expected a key `content`, found `{name}`"),
            format!("rename `{name}` to `content`"),
        );
    } else if !may_lack_content(message) {
        let lacks = match message.meant {
            Some(Role::Assistant) => "has neither `content` nor `tool_calls`",
            _ => "has no `content`",
        };
        out.error(
            "missing-content",
            message.value,
            format!("{} {lacks}", message.named()),
            "give it text, or delete the message",
        );
    }
}

/// `content` is null where it may not be.
///
/// Null is allowed in an assistant message that calls a tool, and in a function message. Give the message text, or
/// delete it.
fn null_content(message: &Message, content: Value, out: &mut Findings) {
    if !may_lack_content(message) && message.meant != Some(Role::Function) {
        out.error(
            "null-content",
            content,
            format!("expected `content` of the {} to be a string, found null", message.named()),
            "give it text, or delete the message",
        );
    }
}

/// `content` is a number or a boolean.
///
/// Labels and scores are text too: the model writes characters. Put it in quotes.
fn content_not_string(content: Value, out: &mut Findings) {
    let raw = excerpt(content.raw());
    out.error(
        "content-not-string",
        content,
        format!("expected `content` to be a string, found {} `{raw}`", content.described()),
        format!("write `\"{raw}\"`"),
    );
}

/// `content` is an object.
///
/// Structured output is text as well: write it as a string with JSON in it (`json.dumps`). A single part belongs in a
/// list.
///
/// ```json
/// {"role": "assistant", "content": "{\"name\": \"Ada\"}"}
/// ```
fn content_object(content: Value, out: &mut Findings) {
    let hint = if content.get("type").is_some() {
        "put the part in a list: `[{\"type\": …}]`"
    } else {
        "make it a string: `json.dumps(content)`"
    };
    out.error("content-object", content, "expected `content` to be a string or a list of parts, found an object", hint);
}

/// `content` is an empty list.
///
/// A list of parts has at least one. Give the message text, or delete it.
fn content_array_empty(content: Value, out: &mut Findings) {
    out.error(
        "content-array-empty",
        content,
        "expected at least one part, found an empty list",
        "give it text, or delete the message",
    );
}

/// Content without a visible character: `""`, or whitespace only.
fn blank_content(message: &Message, content: Value, out: &mut Findings) {
    if message.calls_tools() || !message.texts().all(|text| text.is_blank()) {
        return;
    }
    if content.kind() == Kind::String || content.items().count() == message.texts().count() {
        match message.texts().all(|text| text.raw().len() == 2) {
            true => empty_content(message, content, out),
            false => whitespace_content(message, content, out),
        }
    }
}

/// `content` is an empty string.
///
/// An error where it is an answer to learn: there is nothing to learn. A warning in other messages. Allowed beside
/// `tool_calls`. Delete the message.
fn empty_content(message: &Message, content: Value, out: &mut Findings) {
    let severity = if message.trained { Severity::Error } else { Severity::Warning };
    out.add(
        severity,
        "empty-content",
        content,
        format!("expected text in the {}, found an empty string", message.named()),
        "give it text, or delete the message",
    );
}

/// `content` is whitespace only.
///
/// Delete the message, or look for what was lost in the export.
fn whitespace_content(message: &Message, content: Value, out: &mut Findings) {
    out.warning(
        "whitespace-content",
        content,
        format!("expected text in the {}, found whitespace only", message.named()),
        "give it text, or delete the message",
    );
}

/// The content of a tool message is a list of parts.
///
/// The format allows it, but OpenAI has refused such files ("Input should be a valid string"). Join the texts into one
/// string. Accepted with `--profile local`.
fn tool_content_array(message: &Message, content: Value, out: &mut Findings) {
    if message.meant == Some(Role::Tool) && out.options.profile != Profile::Local {
        out.error(
            "tool-content-array",
            content,
            "expected `content` of a tool message to be a string, found a list of parts",
            "join the texts of the parts into one string",
        );
    }
}

fn check_part(message: &Message, part: Value, out: &mut Findings) {
    if part.kind() != Kind::Object {
        return part_not_object(part, out);
    }
    let Some(kind) = part.get("type") else { return part_type_missing(part, out) };
    let Some(name) = kind.text() else { return part_type_unknown(message, kind, out) };
    match name.as_ref() {
        "text" => text_part_invalid(part, "text", out),
        "refusal" if message.meant.is_none_or(|role| role == Role::Assistant) => {
            text_part_invalid(part, "refusal", out)
        }
        // Its rules are in images.rs.
        "image_url" => {}
        "input_audio" | "file" => part_type_unsupported(kind, &name, out),
        _ if is_anthropic_block(part) => {}
        _ => part_type_unknown(message, kind, out),
    }
}

/// An element of `content` is not an object.
///
/// ```json
/// {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
/// ```
fn part_not_object(part: Value, out: &mut Findings) {
    out.error(
        "part-not-object",
        part,
        format!("expected a content part, found {}", part.described()),
        "write `{\"type\": \"text\", \"text\": …}`, or make `content` one string",
    );
}

/// A content part has no `type`.
///
/// `{"type": "text", "text": …}` or `{"type": "image_url", "image_url": {"url": …}}`.
fn part_type_missing(part: Value, out: &mut Findings) {
    let hint = if part.get("text").is_some() {
        "add `\"type\": \"text\"`"
    } else {
        "add `\"type\": \"text\"` or `\"type\": \"image_url\"`"
    };
    out.error("part-type-missing", part, "expected a content part with a `type`, found none", hint);
}

/// The type of a content part is not one that this role may have.
///
/// User: `text`, `image_url`. System and tool: `text`. Assistant: `text`, `refusal`. The Responses API's `input_text`,
/// `output_text` and `input_image`, Anthropic's `image` and others have other names here.
fn part_type_unknown(message: &Message, kind: Value, out: &mut Findings) {
    let known: &[&str] = match message.meant {
        Some(Role::User) | None => &["text", "image_url"],
        Some(Role::Assistant) => &["text", "refusal"],
        Some(_) => &["text"],
    };
    let name = kind.text();
    let hint = match name.as_deref() {
        Some("input_text" | "output_text" | "summary_text") => "that is the Responses API's name: write `text`",
        Some("input_image" | "image" | "image_base64") => {
            "write `{\"type\": \"image_url\", \"image_url\": {\"url\": \"data:image/png;base64,…\"}}`"
        }
        Some("video" | "video_url" | "input_video") => {
            "training takes text and images: drop it, or use frames as images"
        }
        Some("refusal") => "only the assistant refuses: write `text`",
        _ => "write a part that the format knows",
    };
    let found = name.as_deref().map_or_else(|| kind.described().to_owned(), |name| format!("`{}`", excerpt(name)));
    out.error(
        "part-type-unknown",
        kind,
        format!("expected a part of type {} in {}, found {found}", list(known), message.described()),
        hint,
    );
}

/// A content part is audio or a file.
///
/// The chat API takes them, fine-tuning does not: "Audio and file input messages are not currently supported for
/// fine-tuning". Use the transcript or the text of the file.
fn part_type_unsupported(kind: Value, name: &str, out: &mut Findings) {
    out.error(
        "part-type-unsupported",
        kind,
        format!("expected text or an image, found a part of type `{name}`, which training does not take"),
        "put its transcript or text in a part of type `text`",
    );
}

/// A text part has no string in `text`.
///
/// ```json
/// {"type": "text", "text": "Hi"}
/// ```
fn text_part_invalid(part: Value, key: &str, out: &mut Findings) {
    match part.get(key) {
        Some(text) if text.kind() == Kind::String => {}
        Some(text) => out.error(
            "text-part-invalid",
            text,
            format!("expected `{key}` to be a string, found {}", text.described()),
            "give it text, or drop the part",
        ),
        None => {
            let hint = if part.get("content").is_some() {
                format!("rename `content` to `{key}`")
            } else {
                format!("add `\"{key}\": …`, or drop the part")
            };
            out.error(
                "text-part-invalid",
                part,
                format!("expected a part of type `{key}` with `{key}`, found none"),
                hint,
            );
        }
    }
}

/// An assistant message mixes a refusal with text, or refuses twice.
///
/// Its parts are "one or more of type text, or exactly one of type refusal". Keep one of the two.
fn refusal_part_mixed(message: &Message, content: Value, out: &mut Findings) {
    let is_refusal = |part: &Value| part.get("type").is_some_and(|kind| kind.is("refusal"));
    let assistant = message.meant == Some(Role::Assistant) && out.options.method != Method::Rft;
    if assistant && content.items().count() > 1 && content.items().any(|part| is_refusal(&part)) {
        out.warning(
            "refusal-part-mixed",
            content,
            "expected text parts, or exactly one refusal, found both or several",
            "keep the refusal alone, or the text",
        );
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::check_messages;

    #[test]
    fn content_is_there_where_it_must_be() {
        check_messages(
            &[
                r#"{"role":"system"}"#,
                r#"{"role":"user","content":null}"#,
                r#"{"role":"assistant"},{"role":"user","content":"x"}"#,
                r#"{"role":"assistant","content":null},{"role":"user","content":"x"}"#,
                r#"{"role":"assistant","content":null,"refusal":"No."},{"role":"user","content":"x"}"#,
                r#"{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"1"}"#,
            ],
            expect![[r#"
                1:52: error[missing-content] /messages/1: system message has no `content`
                1:52: warning[system-not-first] /messages/1: expected system messages before all others, found one after them
                2:77: error[null-content] /messages/1/content: expected `content` of the user message to be a string, found null
                3:52: error[missing-content] /messages/1: assistant message has neither `content` nor `tool_calls`
                4:82: error[null-content] /messages/1/content: expected `content` of the assistant message to be a string, found null
                6:148: warning[tool-call-undeclared] /messages/1/tool_calls/0/function/name: expected a function that `tools` declares, found `f`
                6:173: warning[tool-message-without-tools] /messages/2: expected `tools` that declare what answers here, found none
            "#]],
        );
    }

    #[test]
    fn content_is_text_or_parts() {
        check_messages(
            &[
                r#"{"role":"user","content":42}"#,
                r#"{"role":"user","content":{"a":1}}"#,
                r#"{"role":"user","content":[]}"#,
                r#"{"role":"user","content":["hi",{"text":"x"},{"type":"input_text","text":"x"},{"type":"file"},{"type":"text","text":null},{"type":"text","content":"x"},{"type":3}]}"#,
                r#"{"role":"user","content":[{"type":"text","text":"x"},{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]}"#,
                r#"{"role":"tool","tool_call_id":"c","content":[{"type":"text","text":"x"}]}"#,
                r#"{"role":"assistant","content":[{"type":"text","text":"x"},{"type":"refusal","refusal":"y"}]},{"role":"user","content":"x"}"#,
            ],
            expect![[r#"
                1:77: error[content-not-string] /messages/1/content: expected `content` to be a string, found a number `42`
                2:77: error[content-object] /messages/1/content: expected `content` to be a string or a list of parts, found an object
                3:77: error[content-array-empty] /messages/1/content: expected at least one part, found an empty list
                4:78: error[part-not-object] /messages/1/content/0: expected a content part, found a string
                4:83: error[part-type-missing] /messages/1/content/1: expected a content part with a `type`, found none
                4:104: error[part-type-unknown] /messages/1/content/2/type: expected a part of type `text`, `image_url` in a user message, found `input_text`
                4:137: error[part-type-unsupported] /messages/1/content/3/type: expected text or an image, found a part of type `file`, which training does not take
                4:167: error[text-part-invalid] /messages/1/content/4/text: expected `text` to be a string, found null
                4:173: error[text-part-invalid] /messages/1/content/5: expected a part of type `text` with `text`, found none
                4:211: error[part-type-unknown] /messages/1/content/6/type: expected a part of type `text`, `image_url` in a user message, found a number
                6:52: warning[tool-message-without-tools] /messages/1: expected `tools` that declare what answers here, found none
                6:82: error[tool-message-orphan] /messages/1/tool_call_id: expected the id of a call in the assistant message before it, found `c`
                6:96: error[tool-content-array] /messages/1/content: expected `content` of a tool message to be a string, found a list of parts
                7:82: warning[refusal-part-mixed] /messages/1/content: expected text parts, or exactly one refusal, found both or several
            "#]],
        );
    }

    #[test]
    fn blank_content_is_worse_where_it_is_learned() {
        check_messages(
            &[
                r#"{"role":"system","content":""}"#,
                r#"{"role":"assistant","content":""},{"role":"user","content":"x"}"#,
                r#"{"role":"assistant","content":"","weight":0},{"role":"user","content":"x"}"#,
                r#"{"role":"assistant","content":" \n"},{"role":"user","content":"\u00a0"}"#,
                r#"{"role":"user","content":[{"type":"text","text":""},{"type":"text","text":""}]}"#,
            ],
            expect![[r#"
                1:52: warning[system-not-first] /messages/1: expected system messages before all others, found one after them
                1:79: warning[empty-content] /messages/1/content: expected text in the system message, found an empty string
                2:82: error[empty-content] /messages/1/content: expected text in the assistant message, found an empty string
                3:82: warning[empty-content] /messages/1/content: expected text in the assistant message, found an empty string
                4:82: warning[whitespace-content] /messages/1/content: expected text in the assistant message, found whitespace only
                4:114: warning[whitespace-content] /messages/2/content: expected text in the user message, found whitespace only
                5:77: warning[empty-content] /messages/1/content: expected text in the user message, found an empty string
            "#]],
        );
    }
}
