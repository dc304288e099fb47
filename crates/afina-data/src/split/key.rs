//! What a record is told by, and where that puts it.

use std::borrow::Cow;

use rapidhash::v3::rapidhash_v3;

use crate::{
    json::{Kind, Value},
    similar::{Signature, Signer, words::words},
};

/// A number for the prompt of a record: the words of everything before its last answer, without regard to case, white
/// space and punctuation.
///
/// A chat record's messages before the last of the assistant; a preference record's `input`; `prompt` or `instruction`
/// and `input` where there are no messages. For any other record, the whole of it but for `id`s.
pub fn prompt_key(record: Value) -> u64 {
    let mut key = Key::default();
    match turns(record) {
        Some(turns) => {
            let answer = turns.iter().rposition(|turn| speaker(*turn).is_some_and(|who| is_assistant(&who)));
            turns[..answer.unwrap_or(turns.len())].iter().for_each(|turn| key.turn(*turn));
        }
        None => key.fields(record),
    }
    key.finish()
}

/// A number for how a conversation begins: up to the first message of the user. Keeps together the records that a
/// conversation of several turns was cut into; where all records open alike, they are all one group.
pub fn opening_key(record: Value) -> u64 {
    let mut key = Key::default();
    match turns(record) {
        Some(turns) => {
            let first = turns.iter().position(|turn| speaker(*turn).is_some_and(|who| is_user(&who)));
            turns[..first.map_or(turns.len(), |at| at + 1)].iter().for_each(|turn| key.turn(*turn));
        }
        None => key.fields(record),
    }
    key.finish()
}

/// The text of the last answer, where it is one text.
pub(super) fn last_answer<'t>(record: Value<'t>) -> Option<Cow<'t, str>> {
    match turns(record) {
        Some(turns) => {
            let answer = turns.iter().rfind(|turn| speaker(**turn).is_some_and(|who| is_assistant(&who)))?;
            answer.get("content").or_else(|| answer.get("value"))?.text()
        }
        None => ["completion", "output", "response"].iter().find_map(|name| record.get(name)?.text()),
    }
}

/// What near duplicates are found by, as of the rule: system messages and tools must be equal, and what is asked and
/// answered is compared.
pub(super) fn signature(record: Value) -> Option<Box<Signature>> {
    let mut signer = Signer::default();
    let hash = |value: Value| rapidhash_v3(value.raw().as_bytes());
    [record.get("tools"), record.get("functions")].into_iter().flatten().for_each(|tools| signer.add_salt(hash(tools)));
    let Some(turns) = turns(record) else {
        let said = |names: &[&'static str]| names.iter().find_map(|name| record.get(name)).map(texts);
        said(&["prompt", "instruction", "question"]).into_iter().flatten().for_each(|text| signer.add_prompt(0, &text));
        said(&["input"]).into_iter().flatten().for_each(|text| signer.add_prompt(0, &text));
        said(&["completion", "output", "response"]).into_iter().flatten().for_each(|text| signer.add_answer(&text));
        return signer.finish();
    };
    let answer = turns.iter().rposition(|turn| speaker(*turn).is_some_and(|who| is_assistant(&who)));
    for (index, turn) in turns.iter().enumerate() {
        let who = speaker(*turn).unwrap_or_default();
        if who == "system" || who == "developer" {
            turn.get("content").into_iter().for_each(|content| signer.add_salt(hash(content)));
            continue;
        }
        for text in ["content", "value", "tool_calls"].iter().filter_map(|name| turn.get(name)).flat_map(texts) {
            match Some(index) == answer {
                true => signer.add_answer(&text),
                false => signer.add_prompt(rapidhash_v3(who.as_bytes()), &text),
            }
        }
    }
    signer.finish()
}

/// The strings in a value, names and ids left out.
fn texts(value: Value) -> Vec<Cow<str>> {
    match value.kind() {
        Kind::String => vec![value.canonical()],
        Kind::Array => value.items().flat_map(texts).collect(),
        Kind::Object => {
            value.members().filter(|member| !member.key.is("id")).flat_map(|member| texts(member.value)).collect()
        }
        _ => Vec::new(),
    }
}

/// Where a key stands between 0 and 1 under this seed.
pub(super) fn place(key: u64, seed: u64) -> f64 {
    // The upper 53 bits are what a float holds.
    (mix(key ^ mix(seed)) >> 11) as f64 / (1u64 << 53) as f64
}

fn turns(record: Value) -> Option<Vec<Value>> {
    let of_input = || record.get("input").and_then(|input| input.get("messages"));
    let found = record.get("messages").or_else(|| record.get("conversations")).or_else(of_input);
    found.filter(|list| list.kind() == Kind::Array).map(|list| list.items().collect())
}

fn speaker<'t>(turn: Value<'t>) -> Option<Cow<'t, str>> {
    turn.get("role").or_else(|| turn.get("from"))?.text()
}

fn is_assistant(name: &str) -> bool {
    matches!(name, "assistant" | "gpt" | "model")
}

fn is_user(name: &str) -> bool {
    matches!(name, "user" | "human")
}

/// FNV-1a of 64 bits: its numbers are the same on every machine and in every version, as a split has to be.
struct Key(u64);

impl Default for Key {
    fn default() -> Key {
        Key(0xCBF2_9CE4_8422_2325)
    }
}

impl Key {
    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    /// The words of a text; of one without words, the text.
    fn text(&mut self, text: &str) {
        let mut any = false;
        words(text, |word| {
            any = true;
            self.bytes(&word.to_le_bytes());
        });
        if !any {
            self.bytes(text.trim().as_bytes());
        }
        self.bytes(&[0x1F]);
    }

    /// Who speaks, and every text, image and number of what is said; `name`s and `id`s are not said.
    fn turn(&mut self, turn: Value) {
        self.text(&speaker(turn).unwrap_or_default());
        for name in ["content", "value", "tool_calls", "function_call"] {
            if let Some(said) = turn.get(name) {
                self.value(said);
            }
        }
        self.bytes(&[0x1E]);
    }

    fn value(&mut self, value: Value) {
        match value.kind() {
            Kind::String => self.text(&value.canonical()),
            Kind::Array => value.items().for_each(|item| self.value(item)),
            // A part of text is its text, as if it stood there alone.
            Kind::Object if value.get("type").is_some_and(|kind| kind.is("text")) => {
                value.get("text").into_iter().for_each(|text| self.value(text));
            }
            Kind::Object => {
                let sum = value.members().filter(|member| !member.key.is("id")).fold(0u64, |sum, member| {
                    let mut pair = Key::default();
                    pair.text(&member.key.text().unwrap_or_default());
                    pair.value(member.value);
                    sum.wrapping_add(pair.finish())
                });
                self.bytes(&sum.to_le_bytes());
            }
            _ => self.bytes(value.raw().as_bytes()),
        }
    }

    /// The prompt of a record without messages.
    fn fields(&mut self, record: Value) {
        let asked = ["system", "instruction", "input", "prompt", "question"];
        let mut asked = asked.iter().filter_map(|name| record.get(name)).filter(|value| !value.is_null()).peekable();
        match asked.peek() {
            Some(_) => asked.for_each(|value| self.value(value)),
            None => self.value(record),
        }
    }

    fn finish(self) -> u64 {
        mix(self.0)
    }
}

/// SplitMix64's last step: every bit of the result depends on every bit.
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Parser;

    fn keys(record: &str) -> (u64, u64) {
        let mut parser = Parser::default();
        let record = parser.parse(record, 0).root().unwrap();
        (prompt_key(record), opening_key(record))
    }

    #[test]
    fn a_prompt_is_what_comes_before_the_last_answer() {
        let short = keys(r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"}]}"#);
        let other = keys(
            r#"{"tools":[],"messages":[{"content":[{"text":"hi ","type":"text"}],"role":"user"},{"role":"assistant","content":"Hey"}]}"#,
        );
        let same = keys(r#"{"messages":[{"content":" hI","role":"user"},{"role":"assistant","content":"Hey"}]}"#);
        let longer = keys(
            r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"},{"role":"user","content":"So"},{"role":"assistant","content":"Ah"}]}"#,
        );
        assert_eq!(short, same);
        assert_eq!(short, other);
        assert_ne!(short.0, longer.0);
        assert_eq!(short.1, longer.1);
        assert_ne!(keys(r#"{"prompt":"a","completion":"b"}"#), keys(r#"{"prompt":"c","completion":"b"}"#));
        assert_eq!(keys(r#"{"prompt":"a","completion":"b"}"#), keys(r#"{"completion":"c","prompt":"A"}"#));
        assert_eq!(keys(r#"{"x":1,"y":2}"#), keys(r#"{"y":2,"x":1}"#));
    }

    #[test]
    fn pairs_are_told_by_their_input() {
        let pair = |answer: &str| {
            format!(
                r#"{{"input":{{"messages":[{{"role":"user","content":"Hi"}}]}},"preferred_output":[{{"role":"assistant","content":"{answer}"}}],"non_preferred_output":[]}}"#
            )
        };
        assert_eq!(keys(&pair("a")), keys(&pair("b")));
    }

    #[test]
    fn keys_and_places_are_those_of_every_version() {
        assert_eq!(keys(r#"{"prompt":"Año"}"#).0, keys(r#"{"prompt":"AÑO"}"#).0);
        expect_test::expect!["a767184037e94df1 0.9504380907279257"].assert_eq(&format!(
            "{:016x} {}",
            keys(r#"{"prompt":"Año"}"#).0,
            place(1, 42)
        ));
    }
}
