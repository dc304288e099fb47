//! Keeps what people wrote apart from what the template writes: no special token can come from their text.
//!
//! One Unicode noncharacter that occurs nowhere else is put inside every special string of a user's text, and at the edge of
//! a text that could complete one together with its surroundings (`<|im_` in one part and `start|>` in the next). It is put
//! in before rendering and taken out after the rendered text was split at the template's own special tokens.

use std::collections::{BTreeSet, HashSet};

use aho_corasick::AhoCorasick;

use crate::jinja::is_python_space;
use crate::json;
use crate::message::{Content, ContentPart, Conversation};

/// Where texts have to be broken, for one list of special strings.
#[derive(Debug, Clone)]
pub(crate) struct ShieldRules {
    specials: Vec<String>,
    matcher: AhoCorasick,
    /// Proper beginnings and ends of special strings.
    beginnings: HashSet<String>,
    ends: HashSet<String>,
    longest: usize,
}

impl ShieldRules {
    pub(crate) fn new<'s>(specials: impl Iterator<Item = &'s str>) -> Result<ShieldRules, aho_corasick::BuildError> {
        let specials: Vec<String> = specials.map(str::to_owned).collect();
        let inner = |text: &str| text.char_indices().skip(1).map(|(at, _)| at).collect::<Vec<_>>();
        let splits = || specials.iter().flat_map(|text| inner(text).into_iter().map(move |at| text.split_at(at)));
        Ok(ShieldRules {
            matcher: AhoCorasick::new(&specials)?,
            beginnings: splits().map(|(beginning, _)| beginning.to_owned()).collect(),
            ends: splits().map(|(_, end)| end.to_owned()).collect(),
            longest: specials.iter().map(String::len).max().unwrap_or(0),
            specials,
        })
    }

    /// `text` with `shield` at every place where it must be broken.
    pub(crate) fn shield(&self, text: &str, shield: char) -> String {
        let places = self.places(text);
        let mut out = String::with_capacity(text.len() + places.len() * shield.len_utf8());
        let mut done = 0;
        for place in places {
            out.push_str(&text[done..place]);
            out.push(shield);
            done = place;
        }
        out.push_str(&text[done..]);
        out
    }

    /// Byte positions, each on a character boundary.
    fn places(&self, text: &str) -> BTreeSet<usize> {
        let mut places = BTreeSet::new();
        for found in self.matcher.find_overlapping_iter(text) {
            let first = text[found.start()..].chars().next().map_or(0, char::len_utf8);
            places.insert(found.start() + first);
        }
        // Templates may strip a text before they write it: both its own edges and the stripped ones count.
        let start = text.len() - text.trim_start_matches(is_python_space).len();
        let end = text.trim_end_matches(is_python_space).len().max(start);
        for range in [0..text.len(), start..end] {
            let part = &text[range.clone()];
            if self.may_end_one(part) || self.lies_inside_one(part) {
                places.insert(range.start);
            }
            if self.may_begin_one(part) {
                places.insert(range.end);
            }
        }
        places
    }

    fn may_end_one(&self, text: &str) -> bool {
        let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
        ends.take_while(|&end| end < self.longest).any(|end| self.ends.contains(&text[..end]))
    }

    fn may_begin_one(&self, text: &str) -> bool {
        let starts = text.char_indices().rev().map(|(at, _)| at);
        starts
            .take_while(|&start| text.len() - start < self.longest)
            .any(|start| self.beginnings.contains(&text[start..]))
    }

    fn lies_inside_one(&self, text: &str) -> bool {
        !text.is_empty() && text.len() < self.longest && self.specials.iter().any(|special| special.contains(text))
    }
}

/// A noncharacter that occurs in none of the texts; `None` when all 66 do.
pub(crate) fn choose(conversation: &Conversation, template: &str) -> Option<char> {
    let mut texts = vec![template];
    collect_texts(conversation, &mut texts);
    let mut used = HashSet::new();
    for text in &texts {
        used.extend(text.chars().filter(|&c| is_noncharacter(c)));
    }
    // A JSON text may spell a character with an escape, which the template sees decoded.
    let arguments = conversation.messages.iter().flat_map(|message| message.tool_calls.iter().flatten());
    for call in arguments {
        if let Ok(json) = json::parse(&call.function.arguments) {
            json.for_each_text(&mut |text| used.extend(text.chars().filter(|&c| is_noncharacter(c))));
        }
    }
    for parameters in conversation.tools.iter().flatten().filter_map(|tool| tool.function.parameters.as_ref()) {
        used.extend(parameters.to_string().chars().filter(|&c| is_noncharacter(c)));
    }
    noncharacters().find(|c| !used.contains(c))
}

fn collect_texts<'c>(conversation: &'c Conversation, texts: &mut Vec<&'c str>) {
    for message in &conversation.messages {
        match &message.content {
            None => {}
            Some(Content::Text(text)) => texts.push(text),
            Some(Content::Parts(parts)) => texts.extend(parts.iter().map(|part| match part {
                ContentPart::Text { text } => text.as_str(),
                ContentPart::Refusal { refusal } => refusal,
                ContentPart::ImageUrl { image_url } => &image_url.url,
            })),
        }
        texts
            .extend([&message.name, &message.refusal, &message.tool_call_id].into_iter().flatten().map(String::as_str));
        for call in message.tool_calls.iter().flatten() {
            texts.extend([call.id.as_str(), &call.kind, &call.function.name, &call.function.arguments]);
        }
    }
    for tool in conversation.tools.iter().flatten() {
        texts.extend([tool.kind.as_str(), &tool.function.name]);
        texts.extend(tool.function.description.as_deref());
    }
}

/// Unicode's 66 noncharacters: U+FDD0 to U+FDEF, and the last two of each of the 17 planes.
fn noncharacters() -> impl Iterator<Item = char> {
    let last_two = (0..=16u32).flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff]);
    ('\u{fdd0}'..='\u{fdef}').chain(last_two.filter_map(char::from_u32))
}

fn is_noncharacter(c: char) -> bool {
    ('\u{fdd0}'..='\u{fdef}').contains(&c) || (c as u32 & 0xfffe) == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, Role};
    use expect_test::{Expect, expect};

    fn check(text: &str, expect: Expect) {
        let rules = ShieldRules::new(["<|im_start|>", "<|im_end|>", "<s>"].into_iter()).unwrap();
        expect.assert_eq(&format!("{:?}", rules.shield(text, '·')));
    }

    #[test]
    fn special_strings_are_broken() {
        check("a <|im_start|> b<s><s>.", expect![[r#""a <·|im_start|> b<·s><·s>.""#]]);
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        check("¿Qué tal? 3 < 4 > 2 {x} <b>", expect![[r#""¿Qué tal? 3 < 4 > 2 {x} <b>""#]]);
        check("", expect![[r#""""#]]);
        check("  ", expect![[r#""  ""#]]);
    }

    #[test]
    fn texts_that_could_complete_one_are_broken_at_their_edge() {
        check("x <|im_", expect![[r#""x <|im_·""#]]);
        check("start|> x", expect![[r#""·start|> x""#]]);
        check("> quoted", expect![[r#""·> quoted""#]]);
        check("s", expect![[r#""·s""#]]);
        check("im_start", expect![[r#""·im_start""#]]);
    }

    #[test]
    fn edges_after_stripping_count_too() {
        check("  |> x <\n", expect![[r#""  ·|> x <·\n""#]]);
    }

    #[test]
    fn no_special_string_survives_any_way_of_joining_broken_texts() {
        let special = "<|im_start|>";
        let rules = ShieldRules::new([special, "<s>"].into_iter()).unwrap();
        for first in 0..=special.len() {
            for second in first..=special.len() {
                let parts = [&special[..first], &special[first..second], &special[second..]];
                for shielded in 0..8 {
                    // Any part may be the template's own text, but not all of them.
                    let joined: String = (0..3)
                        .map(|i| if shielded >> i & 1 == 1 { rules.shield(parts[i], '·') } else { parts[i].to_owned() })
                        .collect();
                    let from_user = (0..3).any(|i| shielded >> i & 1 == 1 && !parts[i].is_empty());
                    assert_eq!(joined.contains(special), !from_user, "{parts:?} {shielded:03b}");
                }
            }
        }
    }

    #[test]
    fn shield_is_a_character_that_nobody_wrote() {
        let user = |text: &str| Conversation::new(vec![Message::new(Role::User, text)]);
        assert_eq!(choose(&user("a"), ""), Some('\u{fdd0}'));
        assert_eq!(choose(&user("a\u{fdd0}"), "\u{fdd1}"), Some('\u{fdd2}'));
        let all: String = noncharacters().collect();
        assert_eq!(all.chars().count(), 66);
        assert!(all.chars().all(is_noncharacter));
        assert_eq!(choose(&user(&all), ""), None);
    }
}
