//! What one record tells about the file: all that the rules over several records need, so that the record itself can
//! be let go.

mod dialogue;
mod refusal;

use afina_chat::Role;
use rapidhash::v3::rapidhash_v3;

use crate::{
    findings::{Findings, Place},
    json::{Kind, Value},
    rules::{
        dataset::Reference, detect::Format, images::Image, preference::Pair, tools::Declared, usual::UsualMessage,
    },
};
pub(crate) use dialogue::Dialogue;

/// Small, whatever the size of the record: numbers, and places that are good as long as the record's text is at hand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Physical line that the record begins in.
    pub(crate) line: usize,
    /// Of the whole record: see [`fingerprint`].
    pub(crate) fingerprint: u64,
    /// `None` where no keys tell it.
    pub(crate) format: Option<Format>,
    /// Its messages could be read; `Some(true)`: a system (or developer) message is among them.
    pub(crate) has_system: Option<bool>,
    pub(crate) images: Vec<Image>,
    /// What `tools` declares; `None` where nothing is.
    pub(crate) declared: Option<Declared>,
    /// Of a preference record: its pair, where both answers could be read and differ.
    pub(crate) pair: Option<Pair>,
    /// Of a reinforcement record: the fields for the grader.
    pub(crate) references: Vec<Reference>,
    /// What is asked and answered, where there is no error in it.
    pub(crate) dialogue: Option<Dialogue>,
    /// The record itself, for a finding about it.
    pub(crate) place: Option<Place>,
}

impl Facts {
    /// Of an object, before its rules are checked: they add what they see.
    pub(crate) fn new(record: Value, line: usize) -> Facts {
        Facts { line, place: Some(record.into()), ..Facts::default() }
    }

    /// Of a usual record: what the rules would add to its facts, each text hashed once.
    pub(crate) fn add_usual(&mut self, messages: &[UsualMessage], out: &Findings) {
        self.format = Some(Format::Chat);
        self.has_system = Some(messages.first().is_some_and(|first| first.role == Role::System));
        let hashes: Vec<u64> = messages.iter().map(|message| rapidhash_v3(message.text.as_bytes())).collect();
        let key = |name: &str| rapidhash_v3(name.as_bytes());
        let (role, content) = (key("role"), key("content"));
        let print = |(message, &hash): (&UsualMessage, &u64)| {
            OBJECT.wrapping_add(mix(role, key(message.role.as_str()))).wrapping_add(mix(content, hash))
        };
        let list = messages.iter().zip(&hashes).map(print).fold(ARRAY, mix);
        self.fingerprint = OBJECT.wrapping_add(mix(key("messages"), list));
        if !out.has_error() {
            self.dialogue = Some(Dialogue::of_usual(messages, &hashes, out.options));
        }
    }
}

/// A number that is the same for the same JSON value, whatever the order of its keys and the way of writing.
///
/// 64 bits: among a million different records two have the same number with a probability of 3 in 10⁸.
pub(crate) fn fingerprint(value: Value) -> u64 {
    match value.kind() {
        Kind::Null | Kind::True | Kind::False => value.kind() as u64 + 1,
        Kind::Number => rapidhash_v3(value.raw().as_bytes()) ^ NUMBER,
        Kind::String | Kind::Key => rapidhash_v3(value.canonical().as_bytes()),
        Kind::Array => value.items().fold(ARRAY, |sum, item| mix(sum, fingerprint(item))),
        Kind::Object => value
            .members()
            .map(|member| mix(fingerprint(member.key), fingerprint(member.value)))
            .fold(OBJECT, u64::wrapping_add),
    }
}

// Arbitrary: they keep `1` and `"1"`, `[]` and `{}` apart.
const NUMBER: u64 = 0x6E75_6D62_6572;
const ARRAY: u64 = 0x61_7272_6179;
const OBJECT: u64 = 0x6F62_6A65_6374;

/// Two numbers into one, their order kept (the finalizer of SplitMix64).
pub(crate) fn mix(first: u64, second: u64) -> u64 {
    let mut bits = first.rotate_left(23).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ second;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Parser;

    fn print(text: &str) -> u64 {
        fingerprint(Parser::default().parse(text, 0).root().unwrap())
    }

    #[test]
    fn the_order_of_keys_and_the_way_of_writing_do_not_count() {
        assert_eq!(print(r#"{"a":1,"b":["é",null]}"#), print(r#"{ "b" : ["\u00e9", null], "a": 1 }"#));
        assert_eq!(print(r#""a\n\t\"\\/é""#), print(r#""\u0061\u000a\u0009\u0022\u005c\/\u00e9""#));
    }

    #[test]
    fn anything_else_counts() {
        let all = [
            r#"{"a":1,"b":2}"#,
            r#"{"a":2,"b":1}"#,
            r#"["a","b"]"#,
            r#"["b","a"]"#,
            r#"["ab"]"#,
            r#"[["a"],"b"]"#,
            "[]",
            "{}",
            r#""1""#,
            "1",
        ];
        let prints: std::collections::HashSet<u64> = all.iter().map(|text| print(text)).collect();
        assert_eq!(prints.len(), all.len());
    }
}
