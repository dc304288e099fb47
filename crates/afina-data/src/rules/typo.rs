//! A key that was meant to be another one: misspelled, in capitals, in Spanish, or as another format calls it.

use crate::{
    json::{Kind, Member, Value},
    view,
};

/// Other names of a key.
const ALIASES: [(&str, &[&str]); 7] = [
    ("role", &["from", "speaker", "author", "sender", "rol", "papel"]),
    ("content", &["contents", "text", "value", "message", "msg", "body", "contenido", "mensaje", "texto", "conteudo"]),
    ("name", &["nombre", "nome"]),
    ("weight", &["peso"]),
    ("tools", &["tool", "herramientas"]),
    ("functions", &["funciones"]),
    (
        "messages",
        &[
            "message",
            "msgs",
            "chat",
            "conversation",
            "conversations",
            "dialog",
            "dialogue",
            "turns",
            "history",
            "mensaje",
            "mensajes",
            "conversacion",
            "conversación",
            "diálogo",
            "dialogo",
        ],
    ),
];

/// Words of their own that are one letter from a key.
const OTHER_WORDS: [&str; 3] = ["context", "contest", "names"];

/// The key among `wanted` (those that the object may have and lacks) that `name` was meant to be; `value` is what stands under it.
///
/// Names are compared without regard to case. A misspelling is one letter too many, too few, wrong or swapped with its
/// neighbour (two of them in a long name), behind the right first letter, over a value such as the key has.
pub(crate) fn meant_key<'w>(name: &str, value: Value, wanted: &[&'w str]) -> Option<&'w str> {
    let name = name.trim().to_lowercase();
    let is_alias = |key: &str| {
        let names = ALIASES.iter().find(|(of, _)| *of == key).map_or(&[][..], |(_, names)| names);
        names.contains(&name.as_str())
    };
    let same = wanted.iter().find(|key| **key == name);
    let alias = || wanted.iter().find(|key| is_alias(key) && may_be(key, value));
    let is_role = || value.text().is_some_and(|text| view::meant_role(&text).is_some());
    let misspelled = || {
        let meant = |key: &&&str| is_misspelled(&name, key) && may_be(key, value) && (**key != "role" || is_role());
        wanted.iter().find(meant)
    };
    same.or_else(alias).or_else(misspelled).copied()
}

fn is_misspelled(name: &str, key: &str) -> bool {
    const LONG: usize = 8;
    let edits = if key.len() < LONG { 1 } else { 2 };
    !OTHER_WORDS.contains(&name)
        && name.chars().next() == key.chars().next()
        && strsim::osa_distance(name, key) <= edits
}

/// Whether a key of this name can have the value.
fn may_be(key: &str, value: Value) -> bool {
    match (key, value.kind()) {
        (_, Kind::Null) => false,
        ("role" | "name" | "tool_call_id" | "refusal", kind) => kind == Kind::String,
        ("content", _) => true,
        ("weight", kind) => matches!(kind, Kind::Number | Kind::True | Kind::False) || value.is("0") || value.is("1"),
        ("messages" | "tools" | "functions" | "tool_calls" | "preferred_output" | "non_preferred_output", kind) => {
            kind == Kind::Array
        }
        ("parallel_tool_calls", kind) => matches!(kind, Kind::True | Kind::False),
        (_, kind) => kind == Kind::Object,
    }
}

/// The members of `object` that were meant to be `wanted`.
pub(crate) fn all_meant<'t>(object: Value<'t>, wanted: &str) -> impl Iterator<Item = Member<'t>> {
    let is_meant = move |member: &Member| {
        member.key.text().is_some_and(|name| meant_key(&name, member.value, &[wanted]).is_some())
    };
    object.members().filter(is_meant)
}

/// The only one of [`all_meant`], where `object` lacks `wanted`.
pub(crate) fn only_meant<'t>(object: Value<'t>, wanted: &str) -> Option<Member<'t>> {
    let mut found = all_meant(object, wanted);
    let (only, None) = (found.next()?, found.next()) else { return None };
    object.get(wanted).is_none().then_some(only)
}

/// The keys among `known` that `object` lacks.
pub(crate) fn missing<'w>(object: Value, known: &[&'w str]) -> Vec<&'w str> {
    known.iter().copied().filter(|key| object.get(key).is_none()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Parser;

    fn meant(member: &str) -> Option<String> {
        let mut parser = Parser::default();
        let text = format!("{{{member}}}");
        let member = parser.parse(&text, 0).root().unwrap().members().next().unwrap();
        let wanted = [
            "role",
            "content",
            "name",
            "weight",
            "tool_calls",
            "tool_call_id",
            "messages",
            "tools",
            "preferred_output",
        ];
        meant_key(&member.key.text().unwrap(), member.value, &wanted).map(str::to_owned)
    }

    #[test]
    fn a_misspelled_key_is_known_by_its_letters_and_its_value() {
        for (member, expected) in [
            (r#""rol":"user""#, "role"),
            (r#""rol":"cliente""#, "role"),
            (r#""rolle":"user""#, "role"),
            (r#""Role":"x""#, "role"),
            (r#""contenido":"a""#, "content"),
            (r#""contnet":"a""#, "content"),
            (r#""CONTENT":null"#, "content"),
            (r#""nombre":"Ana""#, "name"),
            (r#""wieght":0"#, "weight"),
            (r#""weigth":1"#, "weight"),
            (r#""tool_call":[]"#, "tool_calls"),
            (r#""toolcalls":[]"#, "tool_calls"),
            (r#""tool_callid":"a""#, "tool_call_id"),
            (r#""mesages":[]"#, "messages"),
            (r#""mensajes":[]"#, "messages"),
            (r#""prefered_output":[]"#, "preferred_output"),
        ] {
            assert_eq!(meant(member).as_deref(), Some(expected), "{member}");
        }
    }

    #[test]
    fn a_word_of_its_own_is_no_misspelling() {
        for member in [
            r#""context":"a""#,
            r#""rule":"a""#,
            r#""height":1"#,
            r#""game":"a""#,
            r#""names":"a""#,
            r#""id":"a""#,
            r#""timestamp":"a""#,
            r#""weights":[1]"#,
            r#""wieght":null"#,
            r#""rol":["user"]"#,
            r#""mesages":"a""#,
        ] {
            assert_eq!(meant(member), None, "{member}");
        }
    }
}
