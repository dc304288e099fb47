//! SARIF 2.1.0 (OASIS, errata 01): one run, its results as they come, then the rules that they name.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use serde_json::{Value, json};

use crate::{
    diagnostic::{Diagnostic, Severity},
    rules::rules,
};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

#[derive(Default)]
pub(super) struct Sarif {
    /// Index of each rule, in the order in which they came.
    indices: HashMap<&'static str, usize>,
    rules: Vec<(&'static str, Severity)>,
}

impl Sarif {
    pub(super) fn show(&mut self, diagnostic: &Diagnostic, out: &mut dyn Write) -> io::Result<()> {
        self.begin_or(b",\n", out)?;
        let rule = diagnostic.rule;
        let index = *self.indices.entry(rule).or_insert(self.rules.len());
        if index == self.rules.len() {
            self.rules.push((rule, diagnostic.severity));
        }
        Ok(serde_json::to_writer(out, &result(diagnostic, index))?)
    }

    pub(super) fn finish(self, out: &mut dyn Write) -> io::Result<()> {
        self.begin_or(b"\n", out)?;
        let driver = json!({
            "name": "afina",
            "semanticVersion": env!("CARGO_PKG_VERSION"),
            "rules": self.rules.iter().map(|&(id, severity)| rule(id, severity)).collect::<Vec<_>>(),
        });
        out.write_all(b"], \"columnKind\": \"unicodeCodePoints\", \"tool\": {\"driver\": ")?;
        serde_json::to_writer(&mut *out, &driver)?;
        out.write_all(b"}}]}\n")
    }

    fn begin_or(&self, separator: &[u8], out: &mut dyn Write) -> io::Result<()> {
        if !self.rules.is_empty() {
            return out.write_all(separator);
        }
        writeln!(out, "{{\"$schema\": \"{SCHEMA}\", \"version\": \"2.1.0\", \"runs\": [{{\"results\": [")
    }
}

fn result(diagnostic: &Diagnostic, index: usize) -> Value {
    let Diagnostic { rule, severity, file, line, column, pointer, message, hint, .. } = diagnostic;
    let text = if hint.is_empty() { message.clone() } else { format!("{message}\nhint: {hint}") };
    let mut location = json!({
        "physicalLocation": {
            "artifactLocation": { "uri": uri(file) },
            "region": { "startLine": line, "startColumn": column },
        },
    });
    if !pointer.is_empty() {
        location["logicalLocations"] = json!([{ "fullyQualifiedName": pointer, "kind": "member" }]);
    }
    json!({
        "ruleId": rule,
        "ruleIndex": index,
        "level": level(*severity),
        "message": { "text": text },
        "locations": [location],
    })
}

fn rule(id: &str, severity: Severity) -> Value {
    let Some(rule) = rules().iter().find(|rule| rule.id == id) else {
        return json!({ "id": id, "defaultConfiguration": { "level": level(severity) } });
    };
    let more = rule.docs.split_once("\n\n").map_or(rule.summary.as_str(), |(_, more)| more);
    json!({
        "id": id,
        "shortDescription": { "text": rule.summary },
        "fullDescription": { "text": rule.docs },
        "help": { "text": more, "markdown": more },
        "defaultConfiguration": { "level": level(rule.severity) },
        "properties": { "tags": [rule.group] },
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

/// A path as a URI reference (RFC 3986): a relative one stays relative.
fn uri(path: &str) -> String {
    let path = path.replace('\\', "/");
    let mut uri = if path.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(byte as char),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::{
        Summary,
        report::{
            ReportFormat,
            tests::{odd, report, written},
        },
    };

    #[test]
    fn results_come_first_and_the_rules_they_name_last() {
        let log: Value = serde_json::from_str(&report(ReportFormat::Sarif, 1)).unwrap();
        let run = &log["runs"][0];
        let results = run["results"].as_array().unwrap();
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        assert!(results.len() > rules.len());
        for result in results {
            assert_eq!(rules[result["ruleIndex"].as_u64().unwrap() as usize]["id"], result["ruleId"]);
        }
        let role = results.iter().find(|result| result["ruleId"] == "unknown-role").unwrap();
        expect![[r#"
            {
              "ruleId": "unknown-role",
              "ruleIndex": 1,
              "level": "error",
              "message": {
                "text": "expected role `system`, `user`, `assistant` or `tool`, found `bot`\nhint: write `assistant`"
              },
              "locations": [
                {
                  "physicalLocation": {
                    "artifactLocation": {
                      "uri": "x.jsonl"
                    },
                    "region": {
                      "startLine": 1,
                      "startColumn": 22
                    }
                  },
                  "logicalLocations": [
                    {
                      "fullyQualifiedName": "/messages/0/role",
                      "kind": "member"
                    }
                  ]
                }
              ]
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(role).unwrap());
        expect![[r#"
            {
              "id": "missing-user-message",
              "shortDescription": {
                "text": "No message is the user's."
              },
              "fullDescription": {
                "text": "No message is the user's.\n\nThe format allows it, but an answer without a question is rarely meant."
              },
              "help": {
                "text": "The format allows it, but an answer without a question is rarely meant.",
                "markdown": "The format allows it, but an answer without a question is rarely meant."
              },
              "defaultConfiguration": {
                "level": "warning"
              },
              "properties": {
                "tags": [
                  "messages"
                ]
              }
            }"#]].assert_eq(&serde_json::to_string_pretty(&rules[0]).unwrap());
    }

    #[test]
    fn a_log_without_results_is_whole() {
        let log = written(ReportFormat::Sarif, 1, &[], &Summary::default());
        expect![[r#"
            {"$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json", "version": "2.1.0", "runs": [{"results": [
            ], "columnKind": "unicodeCodePoints", "tool": {"driver": {"name":"afina","semanticVersion":"0.1.0","rules":[]}}}]}
        "#]].assert_eq(&log);
        assert!(serde_json::from_str::<Value>(&log).is_ok());
    }

    #[test]
    fn a_path_becomes_a_uri() {
        let log: Value = serde_json::from_str(&written(ReportFormat::Sarif, 1, &[odd()], &Summary::default())).unwrap();
        let location = &log["runs"][0]["results"][0]["locations"][0];
        assert_eq!(location["physicalLocation"]["artifactLocation"]["uri"], "dir%20a/%C3%A9%2C1%3A%25.jsonl");
        assert_eq!(location["logicalLocations"][0]["fullyQualifiedName"], "/a~1b");
        assert_eq!(uri("/a b"), "file:///a%20b");
    }
}
