//! What examples are made of: turns, roles, tools, images, languages.

use std::collections::BTreeMap;

use afina_chat::{Content, ContentPart, Conversation, Role};
use serde::Serialize;

/// The counts so far. Its size does not grow with the file.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    examples: usize,
    turns: BTreeMap<usize, usize>,
    roles: BTreeMap<&'static str, (usize, usize)>,
    tools: Names,
    calls: Names,
    with_tools: usize,
    with_calls: usize,
    images: usize,
    with_images: usize,
    languages: BTreeMap<&'static str, usize>,
    undetermined: usize,
}

/// Names and how often they came. Names that are first seen when there are 1,000 already are counted as one.
#[derive(Clone, Debug, Default)]
struct Names {
    counts: BTreeMap<String, usize>,
    others: usize,
}

/// A name and how often it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    pub name: String,
    pub count: usize,
}

/// The counts of a whole file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShapeReport {
    pub examples: usize,
    /// Messages of all roles.
    pub messages: usize,
    /// Assistant messages an example: the fewest, the middle one, the most.
    pub turns: [usize; 3],
    /// Messages of each role, the most frequent first.
    pub roles: Vec<Named>,
    /// Examples with a system (or developer) message.
    pub with_system: usize,
    /// Examples that declare tools, and those that call one.
    pub with_tools: usize,
    pub with_calls: usize,
    /// Tools by the number of examples that declare them, and by the number of calls; the most frequent first, 100 at
    /// most.
    pub tools_declared: Vec<Named>,
    pub tools_called: Vec<Named>,
    pub images: usize,
    pub with_images: usize,
    /// Languages of examples, the most frequent first; empty where nobody looked.
    pub languages: Vec<Named>,
    /// Examples whose language could not be told.
    pub undetermined: usize,
}

impl Shape {
    /// Adds an example. `language` is the one that it is mostly in, where that can be told.
    pub fn add(&mut self, conversation: &Conversation, language: Option<&'static str>) {
        self.examples += 1;
        match language {
            Some(language) => *self.languages.entry(language).or_default() += 1,
            None => self.undetermined += 1,
        }
        let (mut turns, mut images, mut calls) = (0, 0, 0);
        let mut seen: Vec<Role> = Vec::new();
        for message in &conversation.messages {
            let role = self.roles.entry(message.role.as_str()).or_default();
            role.0 += 1;
            if !seen.contains(&message.role) {
                seen.push(message.role);
                role.1 += 1;
            }
            turns += usize::from(message.role == Role::Assistant);
            if let Some(Content::Parts(parts)) = &message.content {
                images += parts.iter().filter(|part| matches!(part, ContentPart::ImageUrl { .. })).count();
            }
            for call in message.tool_calls.iter().flatten() {
                self.calls.add(&call.function.name);
                calls += 1;
            }
        }
        *self.turns.entry(turns).or_default() += 1;
        self.images += images;
        self.with_images += usize::from(images > 0);
        self.with_calls += usize::from(calls > 0);
        let tools = conversation.tools.as_deref().unwrap_or_default();
        self.with_tools += usize::from(!tools.is_empty());
        tools.iter().for_each(|tool| self.tools.add(&tool.function.name));
    }

    pub(super) fn report(&self) -> ShapeReport {
        let in_examples = |role: &str| self.roles.get(role).map_or(0, |counts| counts.1);
        let languages = if self.languages.is_empty() { Vec::new() } else { ranked(self.languages.iter()) };
        ShapeReport {
            examples: self.examples,
            messages: self.roles.values().map(|counts| counts.0).sum(),
            turns: [self.turns_at(0), self.turns_at(self.examples / 2), self.turns_at(self.examples.saturating_sub(1))],
            roles: ranked(self.roles.iter().map(|(name, counts)| (name, &counts.0))),
            with_system: in_examples("system").max(in_examples("developer")),
            with_tools: self.with_tools,
            with_calls: self.with_calls,
            tools_declared: self.tools.ranked(),
            tools_called: self.calls.ranked(),
            images: self.images,
            with_images: self.with_images,
            languages,
            undetermined: self.undetermined,
        }
    }

    /// Of the example at this place, were they sorted by turns.
    fn turns_at(&self, place: usize) -> usize {
        let mut before = 0;
        let found = self.turns.iter().find(|(_, count)| {
            before += **count;
            before > place
        });
        found.map_or(0, |(&turns, _)| turns)
    }
}

impl Names {
    fn add(&mut self, name: &str) {
        const NAMES: usize = 1000;
        if let Some(count) = self.counts.get_mut(name) {
            *count += 1;
        } else if self.counts.len() < NAMES {
            self.counts.insert(name.to_owned(), 1);
        } else {
            self.others += 1;
        }
    }

    fn ranked(&self) -> Vec<Named> {
        const SHOWN: usize = 100;
        let mut list = ranked(self.counts.iter());
        let others = self.others + list.drain(SHOWN.min(list.len())..).map(|named| named.count).sum::<usize>();
        if others > 0 {
            list.push(Named { name: "(others)".to_owned(), count: others });
        }
        list
    }
}

/// The most frequent first; of equals by name.
fn ranked<'n>(counts: impl Iterator<Item = (impl AsRef<str>, &'n usize)>) -> Vec<Named> {
    let mut list: Vec<Named> = counts.map(|(name, &count)| Named { name: name.as_ref().to_owned(), count }).collect();
    list.sort_by_key(|one| std::cmp::Reverse(one.count));
    list
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(records: &[(Value, Option<&'static str>)]) -> ShapeReport {
        let mut shape = Shape::default();
        for (record, language) in records {
            shape.add(&serde_json::from_value(record.clone()).unwrap(), *language);
        }
        shape.report()
    }

    #[test]
    fn messages_tools_and_images_are_counted() {
        let call = |name| json!({"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}});
        let image = json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}});
        let user = json!({"role": "user", "content": "hi"});
        let answer = json!({"role": "assistant", "content": "ok"});
        let tools =
            json!([{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}]);
        let report = report(&[
            (json!({"messages": [{"role": "system", "content": "s"}, user, answer, user, answer]}), Some("en")),
            (json!({"messages": [{"role": "user", "content": [image, image]}, answer]}), Some("en")),
            (
                json!({"messages": [user, {"role": "assistant", "tool_calls": [call("f"), call("f")]},
                    {"role": "tool", "tool_call_id": "c", "content": "1"}, answer, user, answer], "tools": tools}),
                Some("es"),
            ),
            (json!({"messages": [user, answer]}), None),
        ]);
        let shown =
            |list: &[Named]| list.iter().map(|named| format!("{} {}", named.name, named.count)).collect::<Vec<_>>();
        assert_eq!((report.examples, report.messages, report.turns), (4, 15, [1, 2, 3]));
        assert_eq!(shown(&report.roles), ["assistant 7", "user 6", "system 1", "tool 1"]);
        assert_eq!((report.with_system, report.with_tools, report.with_calls), (1, 1, 1));
        assert_eq!(shown(&report.tools_declared), ["f 1", "g 1"]);
        assert_eq!(shown(&report.tools_called), ["f 2"]);
        assert_eq!((report.images, report.with_images), (2, 1));
        assert_eq!((shown(&report.languages), report.undetermined), (vec!["en 2".into(), "es 1".into()], 1));
    }

    #[test]
    fn a_file_with_a_new_tool_in_each_line_stays_small() {
        let mut names = Names::default();
        (0..5000).for_each(|index| names.add(&format!("tool_{index}")));
        let ranked = names.ranked();
        assert_eq!((names.counts.len(), ranked.len(), ranked[100].count), (1000, 101, 4900));
    }

    #[test]
    fn of_nothing_there_is_nothing_to_report() {
        assert_eq!((report(&[]).examples, report(&[]).turns), (0, [0; 3]));
    }
}
