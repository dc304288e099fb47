//! Image parts: where one may stand, and that its URL is there.

use afina_chat::Role;

use crate::{
    diagnostic::excerpt,
    findings::Findings,
    json::{Kind, Value},
    view::Message,
};

/// Whether a message of this role may have an image.
pub(super) fn check_role(message: &Message, part: Value, out: &mut Findings) {
    match message.meant {
        Some(Role::Assistant) => image_in_assistant(part, out),
        Some(Role::System | Role::Developer) => image_in_system(part, out),
        Some(Role::Tool | Role::Function) => image_in_tool(part, out),
        Some(Role::User) | None => {}
    }
}

/// The part's `image_url`: an object, or (which is a finding) the URL itself.
pub(super) fn check_form<'t>(part: Value<'t>, out: &mut Findings) -> Option<Value<'t>> {
    let Some(image) = part.get("image_url") else {
        image_url_missing(part, out);
        return None;
    };
    match image.kind() {
        Kind::Object => {}
        Kind::String => image_url_string(image, out),
        _ => {
            image_url_missing(image, out);
            return None;
        }
    }
    Some(image).filter(|image| image.kind() == Kind::Object || !image.is_blank())
}

/// The `url` of an object, where there is one.
pub(super) fn check_object<'t>(image: Value<'t>, out: &mut Findings) -> Option<Value<'t>> {
    image_detail_invalid(image, out);
    let url = image.get("url").filter(|url| url.kind() == Kind::String && !url.is_blank());
    if url.is_none() {
        image_url_empty(image, out);
    }
    url
}

/// A part of type `image_url` has no `image_url`.
///
/// ```json
/// {"type": "image_url", "image_url": {"url": "https://…/cheese.jpg"}}
/// ```
fn image_url_missing(place: Value, out: &mut Findings) {
    out.error(
        "image-url-missing",
        place,
        "expected `image_url` with a `url` in it, found none",
        "write `\"image_url\": {\"url\": …}`",
    );
}

/// `image_url` is a string.
///
/// That is how the Responses API writes it. Here it is an object: `{"url": …}`.
fn image_url_string(image: Value, out: &mut Findings) {
    out.error(
        "image-url-string",
        image,
        "expected `image_url` to be an object, found a string",
        "write `\"image_url\": {\"url\": …}`",
    );
}

/// The `url` of an image is missing or empty.
fn image_url_empty(image: Value, out: &mut Findings) {
    let found = match image.get("url") {
        None => "none",
        Some(url) if url.kind() != Kind::String => url.described(),
        Some(_) => "an empty string",
    };
    out.error(
        "image-url-empty",
        image,
        format!("expected a `url`, found {found}"),
        "give the address of the image, or its data as `data:image/png;base64,…`",
    );
}

/// `detail` of an image is not `auto`, `low` or `high`.
fn image_detail_invalid(image: Value, out: &mut Findings) {
    if let Some(detail) =
        image.get("detail").filter(|detail| !["auto", "low", "high"].iter().any(|known| detail.is(known)))
    {
        out.error(
            "image-detail-invalid",
            detail,
            format!("expected detail `auto`, `low` or `high`, found `{}`", excerpt(detail.raw())),
            "write one of them, or drop it",
        );
    }
}

/// An assistant message has an image.
///
/// Models answer in text. Images belong in user messages.
fn image_in_assistant(part: Value, out: &mut Findings) {
    out.error(
        "image-in-assistant",
        part,
        "expected text in an assistant message, found an image",
        "move it to a user message, or drop it",
    );
}

/// A system message has an image.
///
/// Its parts are text only. Move the image to a user message.
fn image_in_system(part: Value, out: &mut Findings) {
    out.error(
        "image-in-system",
        part,
        "expected text in a system message, found an image",
        "move it to a user message",
    );
}

/// A tool message has an image.
///
/// Its parts are text only. Move the image to a user message, or describe it.
fn image_in_tool(part: Value, out: &mut Findings) {
    out.error(
        "image-in-tool",
        part,
        "expected text in a tool message, found an image",
        "move it to a user message, or describe it in text",
    );
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::check_messages;

    #[test]
    fn image_parts_have_a_url_and_stand_in_user_messages() {
        let part =
            |role: &str, image: &str| format!(r#"{{"role":"{role}","content":[{{"type":"image_url"{image}}}]}}"#);
        let good = r#","image_url":{"url":"https://example.com/a.png","detail":"low"}"#;
        let messages = [
            part("user", good),
            part("user", ""),
            part("user", r#","image_url":"https://example.com/a.png""#),
            part("user", r#","image_url":"a.png""#),
            part("user", r#","image_url":["https://example.com/a.png"]"#),
            part("user", r#","image_url":{"url":""}"#),
            part("user", r#","image_url":{"url":" \n"}"#),
            part("user", r#","image_url":{"url":null}"#),
            part("user", r#","image_url":{"url":"https://example.com/a.png","detail":"full"}"#),
            part("system", good),
            part("assistant", good) + r#",{"role":"user","content":"x"}"#,
        ];
        check_messages(
            &messages.iter().map(String::as_str).collect::<Vec<_>>(),
            expect![[r#"
                2:78: error[image-url-missing] /messages/1/content/0: expected `image_url` with a `url` in it, found none
                3:110: error[image-url-string] /messages/1/content/0/image_url: expected `image_url` to be an object, found a string
                4:110: error[image-url-string] /messages/1/content/0/image_url: expected `image_url` to be an object, found a string
                4:110: error[image-url-scheme] /messages/1/content/0/image_url: expected an http(s) URL or a data URI, found a relative path, `a.png`
                5:110: error[image-url-missing] /messages/1/content/0/image_url: expected `image_url` with a `url` in it, found none
                6:110: error[image-url-empty] /messages/1/content/0/image_url: expected a `url`, found an empty string
                7:110: error[image-url-empty] /messages/1/content/0/image_url: expected a `url`, found an empty string
                8:110: error[image-url-empty] /messages/1/content/0/image_url: expected a `url`, found null
                9:154: error[image-detail-invalid] /messages/1/content/0/image_url/detail: expected detail `auto`, `low` or `high`, found `"full"`
                10:52: warning[system-not-first] /messages/1: expected system messages before all others, found one after them
                10:80: error[image-in-system] /messages/1/content/0: expected text in a system message, found an image
                11:83: error[image-in-assistant] /messages/1/content/0: expected text in an assistant message, found an image
            "#]],
        );
    }
}
