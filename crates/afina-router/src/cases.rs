//! Labelled questions.

use afina_chat::{Conversation, Role};
use serde_json::{Map, Value};

/// A question, and the agents that should take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// In the file, from 1; lines that hold nothing are counted too.
    pub line: usize,
    pub question: String,
    /// Sorted, without repeats, at least one.
    pub route: Vec<String>,
}

/// A line that is no case.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    #[error("line {line}: not JSON")]
    Json { line: usize, source: serde_json::Error },
    #[error("line {line}: {message}")]
    Case { line: usize, message: String },
    #[error("no cases: the file holds no line")]
    Empty,
}

/// Reads JSONL in either form, mixed at will; blank lines are skipped.
///
/// - `{"q": "¿Dónde está mi pedido?", "route": "envios"}`, or `"route": ["ventas", "envios"]` where several must answer;
/// - a chat line `{"messages": [system?, user, assistant]}` whose assistant message is the name of the agent.
pub fn read_cases(text: &str) -> Result<Vec<Case>, CasesError> {
    let mut cases = Vec::new();
    for (index, json) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if json.trim().is_empty() {
            continue;
        }
        let line = index + 1;
        let value: Value = serde_json::from_str(json).map_err(|source| CasesError::Json { line, source })?;
        let case = match &value {
            Value::Object(object) if object.contains_key("messages") => chat(value),
            Value::Object(object) => short(object),
            _ => Err("a case is a JSON object".to_string()),
        };
        let (question, mut route) = case.map_err(|message| CasesError::Case { line, message })?;
        route.sort();
        route.dedup();
        cases.push(Case { line, question, route });
    }
    if cases.is_empty() { Err(CasesError::Empty) } else { Ok(cases) }
}

fn short(object: &Map<String, Value>) -> Result<(String, Vec<String>), String> {
    if let Some(key) = object.keys().find(|key| !matches!(key.as_str(), "q" | "route")) {
        return Err(format!(
            "unknown key `{key}`: a case is `{{\"q\": …, \"route\": …}}` or a chat line with `messages`"
        ));
    }
    let question = object.get("q").and_then(Value::as_str).ok_or("`q` must be a string, the question")?;
    let route = match object.get("route") {
        Some(Value::String(name)) => Some(vec![name.clone()]),
        Some(Value::Array(names)) => names.iter().map(|name| name.as_str().map(String::from)).collect(),
        _ => None,
    };
    let route = route.filter(|route| !route.is_empty());
    Ok((question.to_string(), route.ok_or("`route` must be the name of an agent, or a list of names")?))
}

fn chat(value: Value) -> Result<(String, Vec<String>), String> {
    let conversation: Conversation = serde_json::from_value(value).map_err(|error| format!("no chat line: {error}"))?;
    let (answer, before) = conversation.messages.split_last().ok_or("`messages` is empty")?;
    if answer.role != Role::Assistant {
        return Err(format!("the last message must be the assistant's, found `{}`", answer.role));
    }
    let mut questions = before.iter().filter(|message| !matches!(message.role, Role::System | Role::Developer));
    match (questions.next(), questions.next()) {
        (Some(question), None) if question.role == Role::User => {
            let route = answer.text().trim().to_string();
            if route.is_empty() {
                return Err("the assistant's message is empty: it names the agent".to_string());
            }
            Ok((question.text().into_owned(), vec![route]))
        }
        _ => Err("a case has one user message and the assistant's".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let found = match read_cases(text) {
            Ok(cases) => {
                let lines: Vec<String> = cases
                    .iter()
                    .map(|case| format!("{} {} → {}", case.line, case.question, case.route.join("+")))
                    .collect();
                lines.join("\n")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn both_forms_are_read() {
        check(
            concat!(
                "{\"q\":\"¿precio?\",\"route\":\"ventas\"}\n\n",
                "{\"q\":\"y todo\",\"route\":[\"ventas\",\"envios\",\"ventas\"]}\r\n",
                "{\"messages\":[{\"role\":\"system\",\"content\":\"Elige.\"},{\"role\":\"user\",\"content\":\"hola\"},",
                "{\"role\":\"assistant\",\"content\":\" recepcion\\n\"}]}",
            ),
            "1 ¿precio? → ventas\n3 y todo → envios+ventas\n4 hola → recepcion",
        );
    }

    #[test]
    fn what_is_no_case_is_named_with_its_line() {
        check("{\"q\":\"a\",\"route\":\"b\"}\n{", "line 2: not JSON");
        check("[]", "line 1: a case is a JSON object");
        check("{\"q\":\"a\"}", "line 1: `route` must be the name of an agent, or a list of names");
        check("{\"q\":\"a\",\"route\":[]}", "line 1: `route` must be the name of an agent, or a list of names");
        check("{\"q\":1,\"route\":\"b\"}", "line 1: `q` must be a string, the question");
        check(
            "{\"q\":\"a\",\"ruta\":\"b\"}",
            "line 1: unknown key `ruta`: a case is `{\"q\": …, \"route\": …}` or a chat line with `messages`",
        );
        check(
            "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
            "line 1: the last message must be the assistant's, found `user`",
        );
        check(
            "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\"}]}",
            "line 1: a case has one user message and the assistant's",
        );
        check("\n\n", "no cases: the file holds no line");
    }
}
