//! What the rules check, as a page and for a terminal.

use crate::{
    Safety,
    rules::{Group, Rule, rules},
};

/// Columns of a page on a terminal.
const COLUMNS: usize = 80;

/// The page of all rules, in Markdown: a table a group, then each rule in full.
pub fn rules_markdown() -> String {
    let mut groups: Vec<Group> = Vec::new();
    for rule in rules() {
        if !groups.contains(&rule.group) {
            groups.push(rule.group);
        }
    }
    let mut page = "# Rules\n\nWhat `afina validate` checks. An error keeps a record from being trained on; a warning is worth a look; an info is for\nyour information. `afina explain RULE` prints one of these.\n\nThis page is made from the comments above the rules' functions: `UPDATE_EXPECT=1 cargo test -p afina-data rules_page`.\n".to_owned();
    for &group in &groups {
        page += &format!("\n## {}\n\n| rule | severity | |\n|---|---|---|\n", title(group));
        for Rule { id, severity, summary, .. } in of(group) {
            page += &format!("| [`{id}`](#{id}) | {} | {} |\n", severity.as_str(), summary.replace('|', "\\|"));
        }
    }
    for &group in &groups {
        for Rule { id, severity, docs, .. } in of(group) {
            page += &format!("\n### {id}\n\n{} · {}\n\n{}\n", severity.as_str(), title(group), docs.trim_end());
        }
    }
    page
}

fn of(group: Group) -> impl Iterator<Item = &'static Rule> {
    rules().iter().filter(move |rule| rule.group == group)
}

fn title(group: Group) -> String {
    let name = format!("{group:?}");
    match name.as_str() {
        "Bytes" => "Bytes, lines and JSON".to_owned(),
        "Format" => "Formats".to_owned(),
        _ => name,
    }
}

/// One rule's page for a terminal: 80 columns wide, examples indented.
pub fn explain_text(rule: &Rule) -> String {
    let mut text = format!("{}: {}\ngroup: {}\n", rule.id, rule.severity.as_str(), title(rule.group));
    if let Some(method) = ["dpo", "rft"].into_iter().find(|method| rule.id.starts_with(&format!("{method}-"))) {
        text += &format!("method: {method}\n");
    }
    match rule.fix {
        Some(Safety::Safe) => text += "fix: --fix\n",
        Some(Safety::Unsafe) => text += "fix: --fix with --unsafe-fixes\n",
        None => {}
    }
    let (mut paragraph, mut in_example) = (String::new(), false);
    for line in rule.docs.lines().chain([""]) {
        let is_fence = line.trim_start().starts_with("```");
        let is_item = !in_example && (line.starts_with("- ") || line.starts_with("* ") || line.starts_with('|'));
        if (is_fence || is_item || line.is_empty()) && !paragraph.is_empty() {
            text += &wrapped(&paragraph);
            paragraph.clear();
        }
        match line {
            _ if is_fence => {
                in_example = !in_example;
                text += if in_example { "\n" } else { "" };
            }
            _ if in_example => text += &format!("    {line}\n"),
            "" => {}
            _ => {
                if !paragraph.is_empty() {
                    paragraph.push(' ');
                }
                paragraph += line.trim();
            }
        }
    }
    text
}

/// A paragraph behind a blank line; an item of a list stands directly below the one before it.
fn wrapped(paragraph: &str) -> String {
    let item = paragraph.starts_with("- ") || paragraph.starts_with("* ");
    let (mut text, mut column) = (if item { String::new() } else { "\n".to_owned() }, 0);
    for word in paragraph.split(' ') {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > COLUMNS {
            text += if item { "\n  " } else { "\n" };
            column = if item { 2 } else { 0 };
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text += word;
        column += width;
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use expect_test::{expect, expect_file};

    use super::*;

    #[test]
    fn the_rules_page_is_the_committed_one() {
        expect_file!["../../RULES.md"].assert_eq(&rules_markdown());
    }

    #[test]
    fn every_rule_is_on_the_rules_page_and_can_be_explained() {
        let page = rules_markdown();
        for rule in rules() {
            assert!(page.contains(&format!("\n### {}\n", rule.id)), "{}", rule.id);
            let text = explain_text(rule);
            assert!(!text.contains("```") && !text.contains("\n\n\n") && text.ends_with('\n'), "{text}");
            let long = text.lines().find(|line| !line.starts_with("    ") && line.chars().count() > COLUMNS + 20);
            assert_eq!(long, None, "{}", rule.id);
        }
    }

    #[test]
    fn an_explanation_is_wrapped_and_its_example_indented() {
        let docs = "A list has an end.\n\nThe comma before the bracket announces a value that does not come, and readers\nof JSON stop there:\n\n```json\n[1,\n 2,]\n```\n\nRemove it:\n\n- by hand, where there are few of them and you know each of the places they are at\n- with a program\n";
        let mut rule = rules().iter().find(|rule| rule.id == "trailing-comma").unwrap().clone();
        (rule.id, rule.docs) = ("dpo-comma", docs.into());
        expect![[r#"
            dpo-comma: error
            group: Bytes, lines and JSON
            method: dpo
            fix: --fix

            A list has an end.

            The comma before the bracket announces a value that does not come, and readers
            of JSON stop there:

                [1,
                 2,]

            Remove it:
            - by hand, where there are few of them and you know each of the places they are
              at
            - with a program
        "#]]
        .assert_eq(&explain_text(&rule));
    }
}
