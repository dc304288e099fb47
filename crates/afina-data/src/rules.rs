//! The rules of a data file. Each is one function, and the comment above it is its page for users: what it checks,
//! why, an example, how to mend it. A rule that is not in the table does not exist.

pub(crate) mod bytes;
mod content;
mod conversation;
mod csv;
pub(crate) mod dataset;
pub(crate) mod detect;
pub(crate) mod format;
pub(crate) mod images;
mod job;
pub(crate) mod lines;
mod list;
pub(crate) mod messages;
pub(crate) mod preference;
mod prose;
mod reinforcement;
pub(crate) mod syntax;
mod table;
pub(crate) mod text;
pub(crate) mod tools;
mod training;
pub(crate) mod typo;
pub(crate) mod usual;

pub use job::check_job;
pub use training::Untrainable;

pub use dataset::lengths::check_counted_length;

use std::sync::LazyLock;

use serde::Serialize;

use crate::{
    Safety, Severity,
    facts::{Dialogue, Facts, fingerprint},
    findings::Findings,
    json::Value,
    read::Method,
    scan::{Wanted, scan_record},
    view::{Purpose, Turns},
};
use table::TABLES;
use tools::Tools;

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Bytes, lines and JSON.
    Bytes,
    /// Which format this is.
    Format,
    Messages,
    Tools,
    Images,
    Preference,
    Reinforcement,
    Dataset,
    /// What only the model tells that is trained.
    Training,
    /// A fine-tuning job request, not a data file.
    Job,
}

/// One rule.
#[derive(Clone, Debug, Serialize)]
pub struct Rule {
    pub id: &'static str,
    pub group: Group,
    /// Where the profile or the place does not change it.
    pub severity: Severity,
    /// Whether [`crate::fix`] can mend it, and what that takes; some findings of a rule may be left all the same.
    pub fix: Option<Safety>,
    /// One sentence.
    pub summary: String,
    /// Markdown; its first paragraph is the summary.
    pub docs: String,
}

/// Every rule there is, in the order of the groups.
pub fn rules() -> &'static [Rule] {
    static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
        let rules = TABLES.iter().flat_map(|&(group, source, ids)| {
            ids.iter().map(move |&(id, severity)| {
                let docs = docs(source, id);
                let summary = docs.split("\n\n").next().unwrap_or_default().replace('\n', " ");
                Rule { id, group, severity, fix: crate::fix::safety(id), summary, docs }
            })
        });
        rules.collect()
    });
    &RULES
}

/// The doc comment above a rule's function.
fn docs(source: &str, id: &str) -> String {
    let function = format!("fn {}(", id.replace('-', "_"));
    // Up to the line of the function itself.
    let before = source.find(&function).and_then(|at| source[..at].rfind('\n')).map_or("", |at| &source[..at]);
    let mut lines: Vec<&str> = before
        .lines()
        .rev()
        .map_while(|line| line.strip_prefix("///"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    lines.reverse();
    lines.join("\n")
}

/// The rules of a record and of everything in it, from its format on. Returns its messages, where there are some to
/// train on.
pub(crate) fn check_record<'t>(record: Value<'t>, facts: &mut Facts, out: &mut Findings) -> Option<Turns<'t>> {
    let wanted = Wanted { secrets: out.options.wants("secret-detected"), pii: out.options.wants("pii-detected") };
    scan_record(record, wanted, out);
    if usual::check_usual(record, facts, out) {
        return out
            .options
            .examples
            .then(|| record.get("messages").map(|list| Turns::new(list, Purpose::Train)))
            .flatten();
    }
    check_fully(record, facts, out)
}

fn check_fully<'t>(record: Value<'t>, facts: &mut Facts, out: &mut Findings) -> Option<Turns<'t>> {
    record.objects().for_each(|object| syntax::duplicate_key(object, out));
    facts.fingerprint = fingerprint(record);
    let format = detect::detect(record);
    facts.format = format;
    if !format::check_format(record, format, out) {
        return None;
    }
    if out.options.method == Method::Dpo {
        check_preference(record, facts, out);
        images::check_example(&facts.images, out);
        return None;
    }
    let tools = tools::check_declarations(record, out);
    facts.declared = tools.declared();
    let purpose = crate::view::purpose(out.options.method);
    let turns = check_messages(record.get("messages")?, purpose, &tools, facts, out);
    images::check_example(&facts.images, out);
    let turns = turns?;
    if out.options.method == Method::Rft {
        reinforcement::check_record(record, &turns, out);
        facts.references = dataset::references(record);
    }
    facts.has_system = Some(turns.has_system());
    dataset::lengths::check_length(record, record.get("tools"), &[&turns], out);
    if !out.has_error() {
        facts.dialogue = Some(Dialogue::of_chat(record, &turns, out.options));
    }
    Some(turns)
}

fn check_preference(record: Value, facts: &mut Facts, out: &mut Findings) {
    let mut tools = record.get("input").map(|input| tools::check_declarations(input, out)).unwrap_or_default();
    facts.declared = tools.declared();
    let prompt = preference::check_input(record, out)
        .and_then(|messages| check_messages(messages, Purpose::Prompt, &tools, facts, out));
    if let Some(prompt) = &prompt {
        preference::check_prompt(prompt, out);
    }
    let mut check_answer = |name, old_name| {
        let output = preference::check_output(record, name, old_name, out)?;
        tools.rejected = name == "non_preferred_output";
        let answer = check_messages(output, Purpose::Answer, &tools, facts, out)?;
        preference::check_answer(&answer, name, out);
        Some(answer)
    };
    let preferred = check_answer("preferred_output", "preferred_completion");
    let other = check_answer("non_preferred_output", "non_preferred_completion");
    if let (Some(prompt), Some(preferred), Some(other)) = (&prompt, &preferred, &other) {
        facts.pair = preference::check_pair(prompt, preferred, other, out);
        let input = record.get("input").unwrap_or(record);
        let longer = if preferred.list.raw().len() > other.list.raw().len() { preferred } else { other };
        dataset::lengths::check_length(record, input.get("tools"), &[prompt, longer], out);
        facts.shape = Some(preference::shape(prompt, preferred, other));
        if !out.has_error() {
            facts.dialogue = Some(Dialogue::of_pair(input, prompt, [preferred, other], out.options));
        }
    }
}

fn check_messages<'t>(
    list: Value<'t>,
    purpose: Purpose,
    tools: &Tools,
    facts: &mut Facts,
    out: &mut Findings,
) -> Option<Turns<'t>> {
    let turns = list::check_list(list, purpose, out)?;
    for message in &turns.messages {
        messages::check_message(message, &turns, out);
        content::check_content(message, out);
        images::check_images(message, &mut facts.images, out);
        prose::check_prose(message, out);
    }
    tools::check_calls(&turns, tools, out);
    conversation::check_conversation(&turns, out);
    Some(turns)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids of the findings that a source file can add.
    fn ids_in(source: &str) -> Vec<&str> {
        let source = source.split("#[cfg(test)]").next().unwrap();
        let calls = ["out.error(", "out.warning(", "out.add(", "format_error("];
        let after =
            calls.iter().flat_map(|call| source.match_indices(call).map(|(at, call)| &source[at + call.len()..]));
        after
            .filter_map(|rest| rest.split('"').nth(1))
            .filter(|id| id.chars().all(|char| char.is_ascii_lowercase() || char == '-' || char.is_ascii_digit()))
            .collect()
    }

    #[test]
    fn every_rule_has_a_page() {
        for rule in rules() {
            assert!(rule.summary.ends_with('.') && rule.summary.len() < 120, "{}: {:?}", rule.id, rule.summary);
        }
        let missing_role = rules().iter().find(|rule| rule.id == "missing-role").unwrap();
        assert_eq!(missing_role.summary, "A message has no `role`.");
        assert!(missing_role.docs.contains("```json\n{\"role\": \"user\""), "{}", missing_role.docs);
    }

    #[test]
    fn the_table_names_the_rules_that_exist_and_no_others() {
        for &(_, source, ids) in TABLES {
            let found: std::collections::BTreeSet<_> = ids_in(source).into_iter().collect();
            let named: std::collections::BTreeSet<_> = ids.iter().map(|(id, _)| *id).collect();
            assert_eq!(found, named);
        }
    }

    #[test]
    fn ids_are_unique() {
        let ids: std::collections::HashSet<_> = rules().iter().map(|rule| rule.id).collect();
        assert_eq!(ids.len(), rules().len());
    }
}
