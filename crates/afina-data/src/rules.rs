//! The rules of a data file. Each is one function, and the comment above it is its page for users: what it checks,
//! why, an example, how to mend it. A rule that is not in the table does not exist.

pub(crate) mod bytes;
mod content;
mod conversation;
pub(crate) mod dataset;
pub(crate) mod detect;
pub(crate) mod format;
pub(crate) mod images;
mod job;
pub(crate) mod lines;
mod list;
mod messages;
mod preference;
mod prose;
mod reinforcement;
pub(crate) mod syntax;
pub(crate) mod text;
pub(crate) mod tools;

pub use job::check_job;

pub use dataset::lengths::check_counted_length;

use std::sync::LazyLock;

use serde::Serialize;

use crate::{
    Severity::{self, Error, Info, Warning},
    facts::{Dialogue, Facts},
    findings::Findings,
    json::Value,
    read::Method,
    view::{Purpose, Turns},
};
use images::Image;
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
    /// One sentence.
    pub summary: String,
    /// Markdown; its first paragraph is the summary.
    pub docs: String,
}

type Table = (Group, &'static str, &'static [(&'static str, Severity)]);

const TABLES: &[Table] = &[
    (
        Group::Bytes,
        include_str!("rules/bytes.rs"),
        &[
            ("file-empty", Error),
            ("file-extension", Error),
            ("file-too-large", Error),
            ("wrong-file-type", Error),
            ("file-utf16", Error),
            ("file-not-utf8", Error),
            ("file-bom", Warning),
            ("bom-mid-file", Error),
            ("bare-cr-line-endings", Error),
            ("blank-line", Warning),
            ("trailing-blank-lines", Warning),
            ("line-too-long", Error),
        ],
    ),
    (
        Group::Bytes,
        include_str!("rules/syntax.rs"),
        &[
            ("trailing-comma", Error),
            ("python-dict-repr", Error),
            ("json-comments", Error),
            ("unescaped-control-char", Error),
            ("unescaped-quote", Error),
            ("invalid-escape", Error),
            ("truncated-line", Error),
            ("invalid-json", Error),
            ("nan-infinity", Error),
            ("duplicate-key", Warning),
            ("lone-surrogate", Error),
            ("deep-nesting", Error),
        ],
    ),
    (
        Group::Bytes,
        include_str!("rules/lines.rs"),
        &[
            ("json-array-file", Error),
            ("pretty-printed-json", Error),
            ("multiple-objects-on-line", Error),
            ("comma-between-lines", Error),
            ("record-not-object", Error),
        ],
    ),
    (
        Group::Bytes,
        include_str!("rules/text.rs"),
        &[
            ("nul-char", Warning),
            ("replacement-char", Warning),
            ("mojibake", Warning),
            ("suspicious-control-chars", Warning),
        ],
    ),
    (
        Group::Format,
        include_str!("rules/format.rs"),
        &[
            ("missing-messages", Error),
            ("prompt-completion-format", Error),
            ("sharegpt-format", Error),
            ("alpaca-format", Error),
            ("text-only-format", Error),
            ("trl-preference-format", Error),
            ("batch-request-format", Error),
            ("responses-format", Error),
            ("gemini-format", Error),
            ("anthropic-format", Error),
            ("mixed-formats", Error),
            ("method-file-mismatch", Error),
            ("unknown-top-level-key", Error),
        ],
    ),
    (
        Group::Format,
        include_str!("rules/list.rs"),
        &[
            ("messages-not-array", Error),
            ("messages-is-string", Error),
            ("messages-empty", Error),
            ("message-not-object", Error),
        ],
    ),
    (
        Group::Messages,
        include_str!("rules/messages.rs"),
        &[
            ("missing-role", Error),
            ("role-not-string", Error),
            ("unknown-role", Error),
            ("developer-role", Warning),
            ("function-role-deprecated", Warning),
            ("unknown-message-key", Error),
            ("name-invalid", Warning),
            ("weight-invalid", Error),
            ("weight-on-non-assistant", Error),
        ],
    ),
    (
        Group::Messages,
        include_str!("rules/content.rs"),
        &[
            ("missing-content", Error),
            ("null-content", Error),
            ("content-not-string", Error),
            ("content-object", Error),
            ("content-array-empty", Error),
            ("empty-content", Error),
            ("whitespace-content", Warning),
            ("part-not-object", Error),
            ("part-type-missing", Error),
            ("part-type-unknown", Error),
            ("part-type-unsupported", Error),
            ("text-part-invalid", Error),
            ("tool-content-array", Error),
            ("refusal-part-mixed", Warning),
        ],
    ),
    (
        Group::Messages,
        include_str!("rules/prose.rs"),
        &[
            ("special-token-in-content", Error),
            ("null-string-content", Warning),
            ("double-escaped-newlines", Warning),
            ("unrendered-template", Warning),
            ("role-prefix-in-content", Warning),
            ("assistant-edge-whitespace", Warning),
        ],
    ),
    (
        Group::Messages,
        include_str!("rules/conversation.rs"),
        &[
            ("missing-assistant-message", Error),
            ("missing-user-message", Warning),
            ("last-message-not-assistant", Error),
            ("first-message-assistant", Warning),
            ("consecutive-assistant-messages", Warning),
            ("multiple-system-messages", Warning),
            ("system-not-first", Warning),
            ("all-weights-zero", Error),
            ("last-assistant-weight-zero", Warning),
        ],
    ),
    (
        Group::Tools,
        include_str!("rules/tools/declarations.rs"),
        &[
            ("tools-not-array", Error),
            ("tool-type-invalid", Error),
            ("tool-flat-format", Error),
            ("tool-name-missing", Error),
            ("function-name-invalid", Error),
            ("duplicate-tool-name", Warning),
            ("too-many-tools", Error),
        ],
    ),
    (
        Group::Tools,
        include_str!("rules/tools/parameters.rs"),
        &[("tool-parameters-invalid", Error), ("tool-required-undefined", Warning)],
    ),
    (
        Group::Tools,
        include_str!("rules/tools/calls.rs"),
        &[
            ("tool-calls-not-array", Error),
            ("tool-calls-empty", Error),
            ("tool-calls-on-non-assistant", Error),
            ("tool-call-missing-id", Error),
            ("tool-call-type-invalid", Error),
            ("tool-call-function-missing", Error),
            ("tool-arguments-not-string", Error),
            ("tool-call-undeclared", Warning),
            ("tool-call-id-duplicate", Error),
            ("parallel-tool-calls-type", Error),
            ("parallel-tool-calls-violated", Warning),
            ("value-type-invalid", Error),
        ],
    ),
    (
        Group::Tools,
        include_str!("rules/tools/arguments.rs"),
        &[
            ("tool-arguments-invalid-json", Warning),
            ("tool-arguments-not-object", Warning),
            ("tool-arguments-schema-mismatch", Warning),
        ],
    ),
    (
        Group::Tools,
        include_str!("rules/tools/replies.rs"),
        &[
            ("tool-message-missing-id", Error),
            ("tool-message-orphan", Error),
            ("tool-calls-unanswered", Error),
            ("tool-message-without-tools", Warning),
        ],
    ),
    (
        Group::Tools,
        include_str!("rules/tools/functions.rs"),
        &[
            ("functions-deprecated", Warning),
            ("tools-and-functions", Warning),
            ("function-message-missing-name", Error),
            ("function-call-invalid", Error),
        ],
    ),
    (
        Group::Images,
        include_str!("rules/images/parts.rs"),
        &[
            ("image-url-missing", Error),
            ("image-url-string", Error),
            ("image-url-empty", Error),
            ("image-detail-invalid", Error),
            ("image-in-assistant", Error),
            ("image-in-system", Error),
            ("image-in-tool", Error),
        ],
    ),
    (
        Group::Images,
        include_str!("rules/images/urls.rs"),
        &[("image-url-scheme", Error), ("image-url-private", Error), ("image-url-expiring", Warning)],
    ),
    (
        Group::Images,
        include_str!("rules/images/data_uris.rs"),
        &[
            ("image-data-uri-malformed", Error),
            ("image-base64-invalid", Error),
            ("image-base64-whitespace", Warning),
            ("image-mime-mismatch", Warning),
            ("image-mime-nonstandard", Warning),
        ],
    ),
    (
        Group::Images,
        include_str!("rules/images/pixels.rs"),
        &[
            ("image-format-unsupported", Error),
            ("image-mode-unsupported", Error),
            ("image-mode-palette", Error),
            ("image-truncated", Error),
            ("image-empty", Error),
            ("image-animated", Warning),
            ("image-too-large", Error),
            ("image-pixels-excessive", Warning),
            ("image-exif-orientation", Warning),
        ],
    ),
    (Group::Images, include_str!("rules/images/counts.rs"), &[("too-many-images", Error), ("image-in-dpo", Warning)]),
    (
        Group::Preference,
        include_str!("rules/preference.rs"),
        &[
            ("dpo-missing-input", Error),
            ("dpo-input-invalid", Error),
            ("dpo-missing-output", Error),
            ("dpo-completion-key-names", Warning),
            ("dpo-output-not-array", Error),
            ("dpo-output-empty", Error),
            ("dpo-output-multiple", Error),
            ("dpo-output-role", Error),
            ("dpo-identical-outputs", Warning),
            ("dpo-prompt-ends-with-assistant", Warning),
        ],
    ),
    (
        Group::Reinforcement,
        include_str!("rules/reinforcement.rs"),
        &[
            ("rft-last-not-user", Error),
            ("rft-system-role", Warning),
            ("rft-template-field-missing", Error),
            ("rft-no-reference", Warning),
        ],
    ),
    (Group::Dataset, include_str!("rules/dataset/size.rs"), &[("too-few-examples", Error), ("few-examples", Info)]),
    (
        Group::Dataset,
        include_str!("rules/dataset/lengths.rs"),
        &[("example-too-long", Warning), ("truncation-drops-target", Error)],
    ),
    (Group::Dataset, include_str!("rules/dataset/duplicates.rs"), &[("duplicate-example", Warning)]),
    (Group::Dataset, include_str!("rules/dataset/repeats.rs"), &[("near-duplicate-example", Warning)]),
    (
        Group::Dataset,
        include_str!("rules/dataset/answers.rs"),
        &[
            ("conflicting-answers", Warning),
            ("constant-output", Warning),
            ("refusal-heavy", Warning),
            ("low-trained-share", Warning),
        ],
    ),
    (Group::Dataset, include_str!("rules/dataset/overlap.rs"), &[("train-validation-overlap", Warning)]),
    (
        Group::Dataset,
        include_str!("rules/dataset/systems.rs"),
        &[("missing-system-message", Info), ("system-prompt-inconsistent", Warning)],
    ),
    (
        Group::Job,
        include_str!("rules/job.rs"),
        &[
            ("hyperparameter-range", Error),
            ("suffix-length", Error),
            ("seed-range", Error),
            ("file-purpose", Error),
            ("method-object", Error),
            ("hyperparameters-deprecated", Warning),
        ],
    ),
];

/// Every rule there is, in the order of the groups.
pub fn rules() -> &'static [Rule] {
    static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
        let rules = TABLES.iter().flat_map(|&(group, source, ids)| {
            ids.iter().map(move |&(id, severity)| {
                let docs = docs(source, id);
                let summary = docs.split("\n\n").next().unwrap_or_default().replace('\n', " ");
                Rule { id, group, severity, summary, docs }
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
    let format = detect::detect(record);
    facts.format = format;
    if !format::check_format(record, format, out) {
        return None;
    }
    if out.options.method == Method::Dpo {
        check_preference(record, facts, out);
        images::check_example(&mut facts.images, out);
        return None;
    }
    let images = &mut facts.images;
    let tools = tools::check_declarations(record, out);
    let purpose = crate::view::purpose(out.options.method);
    let turns = check_messages(record.get("messages")?, purpose, &tools, images, out);
    images::check_example(images, out);
    let turns = turns?;
    if out.options.method == Method::Rft {
        reinforcement::check_record(record, &turns, out);
    }
    facts.has_system = Some(turns.has_system());
    dataset::lengths::check_length(record, record.get("tools"), &[&turns], out);
    if !out.has_error() {
        facts.dialogue = Some(Dialogue::of_chat(record, &turns, out.options));
    }
    Some(turns)
}

fn check_preference(record: Value, facts: &mut Facts, out: &mut Findings) {
    let images = &mut facts.images;
    let mut tools = record.get("input").map(|input| tools::check_declarations(input, out)).unwrap_or_default();
    let prompt = preference::check_input(record, out)
        .and_then(|messages| check_messages(messages, Purpose::Prompt, &tools, images, out));
    if let Some(prompt) = &prompt {
        preference::check_prompt(prompt, out);
    }
    let mut check_answer = |name, old_name| {
        let output = preference::check_output(record, name, old_name, out)?;
        tools.rejected = name == "non_preferred_output";
        let answer = check_messages(output, Purpose::Answer, &tools, images, out)?;
        preference::check_answer(&answer, name, out);
        Some(answer)
    };
    let preferred = check_answer("preferred_output", "preferred_completion");
    let other = check_answer("non_preferred_output", "non_preferred_completion");
    if let (Some(prompt), Some(preferred), Some(other)) = (&prompt, &preferred, &other) {
        preference::check_pair(prompt, preferred, other, out);
        let input = record.get("input").unwrap_or(record);
        let longer = if preferred.list.raw().len() > other.list.raw().len() { preferred } else { other };
        dataset::lengths::check_length(record, input.get("tools"), &[prompt, longer], out);
        if !out.has_error() {
            facts.dialogue = Some(Dialogue::of_pair(input, prompt, [preferred, other], out.options));
        }
    }
}

fn check_messages<'t>(
    list: Value<'t>,
    purpose: Purpose,
    tools: &Tools,
    images: &mut Vec<Image>,
    out: &mut Findings,
) -> Option<Turns<'t>> {
    let turns = list::check_list(list, purpose, out)?;
    for message in &turns.messages {
        messages::check_message(message, &turns, out);
        content::check_content(message, out);
        images::check_images(message, images, out);
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
