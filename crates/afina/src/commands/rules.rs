//! `afina rules` and `afina explain`: what `afina validate` checks.

use afina_data::{explain_text, rules};
use anyhow::Result;
use serde_json::json;

use super::OK;
use crate::Usage;
use crate::output::Output;

pub fn list(output: &Output) -> Result<u8> {
    let width = rules().iter().map(|rule| rule.id.len()).max().unwrap_or(0);
    let text: Vec<String> = rules()
        .iter()
        .map(|rule| format!("{:<width$}  {:<7}  {}", rule.id, rule.severity.as_str(), rule.summary))
        .collect();
    let json: Vec<_> = rules()
        .iter()
        .map(|rule| {
            json!({
                "rule": rule.id,
                "group": rule.group,
                "severity": rule.severity,
                "fix": rule.fix,
                "summary": rule.summary,
            })
        })
        .collect();
    output.result(&text.join("\n"), &json!({ "rules": json }));
    Ok(OK)
}

pub fn explain(id: &str, output: &Output) -> Result<u8> {
    let rule =
        rules().iter().find(|rule| rule.id == id).ok_or_else(|| Usage::error(format!("no rule `{id}`"), near(id)))?;
    let text = explain_text(rule);
    let (head, rest) = text.split_once('\n').unwrap_or((&text, ""));
    output.result(
        &format!("{}\n{rest}", output.bold(head)),
        &json!({ "rule": rule.id, "severity": rule.severity, "fix": rule.fix, "docs": rule.docs }),
    );
    Ok(OK)
}

/// Rules that may have been meant: those whose id has the words that were given, or else the most similar one.
fn near(id: &str) -> String {
    const SHOWN: usize = 4;
    let words: Vec<String> = id.to_lowercase().split(['-', '_', ' ']).map(str::to_owned).collect();
    let ids = || rules().iter().map(|rule| rule.id);
    let mut found: Vec<&str> = ids().filter(|known| words.iter().all(|word| known.contains(word.as_str()))).collect();
    if found.is_empty() {
        let similar = ids().map(|known| (strsim::jaro_winkler(&id.to_lowercase(), known), known));
        found.extend(similar.filter(|(score, _)| *score > 0.85).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, id)| id));
    }
    if found.is_empty() || found.len() > SHOWN {
        return "`afina rules` lists them".to_owned();
    }
    let names: Vec<String> = found.iter().map(|id| format!("`{id}`")).collect();
    format!("did you mean {}? `afina rules` lists them all", names.join(" or "))
}
