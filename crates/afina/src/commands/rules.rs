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
    let rule = rules()
        .iter()
        .find(|rule| rule.id == id)
        .ok_or_else(|| Usage::error(format!("no rule `{id}`"), "`afina rules` lists them"))?;
    output.result(
        &explain_text(rule),
        &json!({ "rule": rule.id, "severity": rule.severity, "fix": rule.fix, "docs": rule.docs }),
    );
    Ok(OK)
}
