//! Fixes of what a message says: content that is no string, parts that are none.

use afina_chat::Role;

use crate::{
    diagnostic::excerpt,
    fix::{
        edit::{Edit, in_list, insert_member, member, quote, remove_item, rename},
        mend::{Context, Mend},
    },
    json::{Kind, Value},
    rules::typo,
};

pub(super) fn missing_content(context: &Context) -> Option<Mend> {
    match typo::only_meant(context.value(), "content") {
        Some(found) => {
            let name = excerpt(&found.key.text()?);
            Mend::safe(format!("renamed `{name}` to `content`"), [rename(found, "content")])
        }
        // Several that may be it: none of them goes.
        None if typo::all_meant(context.value(), "content").next().is_some() => None,
        None => no_content(context),
    }
}

/// A tool that gave nothing back gave an empty text.
pub(super) fn null_content(context: &Context) -> Option<Mend> {
    let (_, message, _) = context.message()?;
    match message.meant {
        Some(Role::Tool) => Mend::safe("wrote an empty text for null", [Edit::replace(context.value(), "\"\"")]),
        _ => no_content(context),
    }
}

/// A message that says nothing goes; where a tool's answer or a call would lose its partner, it stays.
pub(super) fn no_content(context: &Context) -> Option<Mend> {
    let (_, message, _) = context.message()?;
    let whole_answer = context.pointer.first()?.ends_with("output") || context.pointer.first()?.ends_with("completion");
    let needed = matches!(message.meant, Some(Role::Tool | Role::Function)) || message.calls_tools();
    if whole_answer || needed {
        return None;
    }
    let list = context.record.get("messages").or_else(|| context.record.get("input")?.get("messages"))?;
    let edits = [remove_item(list, message.value.span().start)?];
    Mend::not_safe(format!("removed {} without content", message.described()), edits)
}

pub(super) fn content_not_string(context: &Context) -> Option<Mend> {
    let value = context.value();
    let raw = value.raw();
    Mend::safe(format!("put the content `{}` in quotes", excerpt(raw)), [Edit::replace(value, quote(raw))])
}

pub(super) fn content_object(context: &Context) -> Option<Mend> {
    let value = context.value();
    let part = value.get("type").is_some_and(|kind| {
        ["text", "image_url", "refusal"].iter().any(|name| kind.is(name) && value.get(name).is_some())
    });
    if part {
        return Mend::safe("put the content part in a list", [in_list(value)]);
    }
    Mend::safe("wrote the object as a string with JSON in it", [Edit::replace(value, quote(value.raw()))])
}

fn text_part(text: &str) -> String {
    format!("{{\"type\": \"text\", \"text\": {text}}}")
}

pub(super) fn part_not_object(context: &Context) -> Option<Mend> {
    let (part, list) = (context.value(), context.above(1)?);
    match part.kind() {
        Kind::String => Mend::safe("made a string a text part", [Edit::replace(part, text_part(part.raw()))]),
        Kind::Null if list.items().count() > 1 => {
            Mend::safe("removed null from the content parts", [remove_item(list, part.span().start)?])
        }
        _ => None,
    }
}

pub(super) fn part_type_missing(context: &Context) -> Option<Mend> {
    let part = context.value();
    let has = |name: &&str| part.get(name).is_some();
    let mut found = ["text", "image_url", "refusal"].into_iter().filter(has);
    let (name, None) = (found.next()?, found.next()) else { return None };
    Mend::safe(format!("gave a part the type `{name}`"), [insert_member(part, "type", &quote(name))])
}

/// The Responses API's and Anthropic's parts, in the chat format's words.
pub(super) fn part_type_unknown(context: &Context) -> Option<Mend> {
    let part = context.above(1)?;
    let kind = part.get("type")?;
    let name = kind.text()?;
    let what = format!("wrote a part of type `{}` as the chat format has it", excerpt(&name));
    match name.trim().to_lowercase().as_str() {
        "input_text" | "output_text" | "summary_text" | "text" => {
            part.get("text").filter(|text| text.kind() == Kind::String)?;
            Mend::safe(what, [Edit::replace(kind, "\"text\"")])
        }
        "input_image" | "image_url" => {
            let image = member(part, "image_url")?;
            if image.value.kind() == Kind::Object {
                return Mend::safe(what, [Edit::replace(kind, "\"image_url\"")]);
            }
            let detail = member(part, "detail");
            let others = part.members().count() - 2 - usize::from(detail.is_some());
            if image.value.kind() != Kind::String || others > 0 {
                return None;
            }
            Mend::safe(what, [Edit::replace(part, image_part(image.value.raw(), detail.map(|detail| detail.value)))])
        }
        "image" => {
            let source = part.get("source")?;
            let base64 = source.get("type").is_some_and(|kind| kind.is("base64"));
            let (mime, data) = (source.get("media_type")?.text()?, source.get("data")?.text()?);
            if !base64 || part.members().count() > 2 || source.members().count() > 3 {
                return None;
            }
            Mend::safe(what, [Edit::replace(part, image_part(&quote(&format!("data:{mime};base64,{data}")), None))])
        }
        _ => None,
    }
}

fn image_part(url: &str, detail: Option<Value>) -> String {
    let detail = detail.map_or(String::new(), |detail| format!(", \"detail\": {}", detail.raw()));
    format!("{{\"type\": \"image_url\", \"image_url\": {{\"url\": {url}{detail}}}}}")
}

/// The finding stands at the part, or at what its `text` is.
pub(super) fn text_part_invalid(context: &Context) -> Option<Mend> {
    let value = context.value();
    match value.kind() {
        Kind::Object if value.get("type").is_some() => {
            let wanted = value.get("type")?.text()?;
            let found = ["content", "value", "text"].iter().find_map(|name| member(value, name))?;
            if found.key.is(&wanted) || found.value.kind() != Kind::String {
                return None;
            }
            let what = format!("renamed `{}` of a part to `{wanted}`", excerpt(&found.key.text()?));
            Mend::safe(what, [rename(found, &wanted)])
        }
        Kind::Number | Kind::True | Kind::False => content_not_string(context),
        Kind::Null => {
            let (part, list) = (context.above(1)?, context.above(2)?);
            let others = list.items().count() > 1 && part.members().count() == 2;
            let edits = [remove_item(list, part.span().start)?];
            if others { Mend::safe("removed a part that says nothing", edits) } else { None }
        }
        _ => None,
    }
}

pub(super) fn tool_content_array(context: &Context) -> Option<Mend> {
    let content = context.value();
    let text = |part: Value| {
        let only = part.get("type").is_some_and(|kind| kind.is("text")) && part.members().count() == 2;
        part.get("text").filter(|_| only)?.text().map(|text| text.into_owned())
    };
    let texts = content.items().map(text).collect::<Option<Vec<_>>>()?;
    if texts.is_empty() {
        return None;
    }
    Mend::safe("joined the parts of a tool's answer into one text", [Edit::replace(content, quote(&texts.join("\n")))])
}
