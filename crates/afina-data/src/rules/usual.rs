//! The shape that most records have, told at a glance: only their texts are left to look at.

use afina_chat::Role;

use super::prose::{self, Suspects};
use crate::{
    facts::Facts,
    findings::Findings,
    json::{Kind, Node, Value},
    read::Method,
    view::{Message, Purpose},
};

/// A message with a known role and a text that is not blank.
#[derive(Clone, Copy)]
pub(crate) struct UsualMessage<'t> {
    pub(crate) role: Role,
    /// Its content, between the quotes as written: no escapes but of quotes, backslashes, tabs and line breaks.
    pub(crate) text: &'t str,
    /// There is a backslash in it.
    escaped: bool,
    value: Value<'t>,
}

/// The messages of a record whose shape breaks no rule: nothing but `messages`, each with `role` and `content` alone, a
/// system message in front or none, the user before the assistant, no answer on an answer, and an answer at the end.
/// `None`: the rules themselves must look.
pub(super) fn look<'t>(record: Value<'t>, out: &Findings) -> Option<Vec<UsualMessage<'t>>> {
    let is_long = out.options.training_context.is_some_and(|context| record.raw().len() > context as usize);
    if out.options.method != Method::Sft || is_long {
        return None;
    }
    let [object, key, list, messages @ ..] = record.nodes() else { return None };
    let only_member = list.after == object.after && is_text(record, key, "messages");
    // An object, and two names with their strings.
    let (messages, rest) = messages.as_chunks::<5>();
    if !only_member || list.kind != Kind::Array || !rest.is_empty() {
        return None;
    }
    let mut usual = Vec::with_capacity(messages.len());
    let (mut asked, mut last) = (false, None);
    for (count, [object, first, first_value, second, second_value]) in messages.iter().enumerate() {
        let (role, content, further) = if is_text(record, first, "role") && is_text(record, second, "content") {
            (first_value, second_value, 4)
        } else if is_text(record, first, "content") && is_text(record, second, "role") {
            (second_value, first_value, 2)
        } else {
            return None;
        };
        let is_string = |node: &Node| node.kind == Kind::String && !node.rare;
        let message = record.behind(3 + 5 * count as u32);
        if object.kind != Kind::Object || !is_string(role) || !is_string(content) || message.behind(further).is_blank()
        {
            return None;
        }
        let role = match inner(record, role) {
            "system" if count == 0 => Role::System,
            "user" => Role::User,
            "assistant" if asked && last != Some(Role::Assistant) => Role::Assistant,
            _ => return None,
        };
        (asked, last) = (asked || role == Role::User, Some(role));
        usual.push(UsualMessage { role, text: inner(record, content), escaped: content.escaped, value: message });
    }
    (last == Some(Role::Assistant)).then_some(usual)
}

/// The rules of a usual record. False: it is none, and the rules themselves must look.
pub(super) fn check_usual(record: Value, facts: &mut Facts, out: &mut Findings) -> bool {
    let Some(messages) = look(record, out) else { return false };
    let marks = has_marks(record, messages.len());
    for (index, message) in messages.iter().enumerate() {
        if !prose::is_harmless(message.text, Suspects { marks, escapes: message.escaped }) {
            prose::check_prose(&Message::new(index, message.value, Purpose::Train), out);
        }
    }
    facts.add_usual(&messages, out);
    true
}

/// Whether a text may have a mark in it that begins a control token or a placeholder. One sweep over the record is much
/// faster than one over each text.
fn has_marks(record: Value, messages: usize) -> bool {
    let (mut open, mut marked) = (0, false);
    // Without a branch in it, and with counts that fit a byte, the loop becomes vector instructions.
    for chunk in record.raw().as_bytes().chunks(128) {
        let (found, marks) = chunk.iter().fold((0u8, 0u8), |(found, marks), &byte| {
            let found = found + u8::from(byte == b'{') + u8::from(byte == b'[');
            (found, marks | u8::from(byte == b'<') | u8::from(byte == b'%'))
        });
        open += usize::from(found);
        marked |= marks > 0;
    }
    // The record, its list, and a message each.
    marked || open != 2 + messages
}

fn inner<'t>(record: Value<'t>, node: &Node) -> &'t str {
    &record.tree_text()[node.start as usize + 1..node.end as usize - 1]
}

/// Whether a name reads so, without escapes.
fn is_text(record: Value, node: &Node, name: &str) -> bool {
    node.kind == Kind::Key && inner(record, node) == name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        json::Parser,
        read::{Profile, ReadOptions},
        rules::check_fully,
        testing::{Random, mutate},
    };

    /// What is found in a record, and its facts. `None`: it is not usual, or no record.
    fn both_ways(text: &str, options: &ReadOptions) -> Option<[String; 2]> {
        let mut parser = Parser::default();
        let parsed = parser.parse(text, 0);
        let record = parsed.root().filter(|root| root.kind() == Kind::Object)?;
        let shown = |check: &mut dyn FnMut(&mut Facts, &mut Findings) -> bool| {
            let (mut facts, mut out) = (Facts::new(record, 1), Findings::new(options));
            check(&mut facts, &mut out).then(|| format!("{facts:?} {:?}", out.resolve(parsed.tree, "x.jsonl")))
        };
        let usual = shown(&mut |facts, out| check_usual(record, facts, out))?;
        let full = shown(&mut |facts, out| {
            check_fully(record, facts, out);
            true
        })?;
        Some([usual, full])
    }

    #[test]
    fn the_short_way_finds_what_the_rules_find() {
        const SEEDS: [&str; 4] = [
            r#"{"messages":[{"role":"user","content":"Hi there."},{"role":"assistant","content":"null"}]}"#,
            r#"{"messages":[{"role":"system","content":"Sé \"breve\"."},{"content":"¿Qué\n\thay? 50 % a\\nb","role":"user"},{"role":"user","content":"{{x}}"},{"role":"assistant","content":"<|im_end|> ok"}]}"#,
            r#"{ "messages" : [ {"role": "user", "content": "User: [INST] a"}, {"role": "assistant", "content": " b\n"}, {"role": "user", "content": "NaN"}, {"role": "assistant", "content": "Lo siento, no puedo ayudar con eso."} ] }"#,
            r#"{"messages":[{"role":"user","content":"C:\\temp\\new <YOUR NAME> None"},{"role":"assistant","content":"Ẽ\u00e9  "}]}"#,
        ];
        let mut random = Random(7);
        let mut compared = 0;
        for round in 0..20_000 {
            let seed = SEEDS[round % SEEDS.len()];
            let profile = [Profile::OpenAi, Profile::Azure, Profile::Together, Profile::Local][round / 4 % 4];
            let bytes = if round < 16 { seed.as_bytes().to_vec() } else { mutate(seed.as_bytes(), &mut random) };
            let text = String::from_utf8_lossy(&bytes);
            if let Some([usual, full]) = both_ways(&text, &ReadOptions::new(Method::Sft, profile)) {
                assert_eq!(usual, full, "{text}");
                compared += 1;
            }
        }
        assert!(compared > 1000, "{compared}");
    }

    #[test]
    fn what_is_usual_is_told_by_its_shape() {
        let is_usual = |messages: &str, more: &str| {
            both_ways(&format!(r#"{{"messages":[{messages}]{more}}}"#), &ReadOptions::new(Method::Sft, Profile::OpenAi))
                .is_some()
        };
        let say = |role: &str| format!(r#"{{"role":"{role}","content":"Well."}}"#);
        let list = |roles: &str| roles.split(' ').map(say).collect::<Vec<_>>().join(",");
        for roles in ["user assistant", "system user assistant", "user user assistant user assistant"] {
            assert!(is_usual(&list(roles), ""), "{roles}");
        }
        for roles in
            ["user", "assistant", "system assistant", "user assistant assistant", "user system assistant", "bot"]
        {
            assert!(!is_usual(&list(roles), ""), "{roles}");
        }
        assert!(!is_usual(&list("user assistant"), r#","tools":[]"#));
        assert!(!is_usual("", ""));
    }
}
