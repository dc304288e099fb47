//! The example data that comes with the project is what it says it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;

use crate::check::run_cli;

const AGENTS: [&str; 6] = ["envios", "facturacion", "legal", "recepcion", "soporte", "ventas"];

fn data_path(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data").join(path)
}

fn data(path: &str) -> String {
    let path = data_path(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// (question, answer) of every line.
fn rows(path: &str) -> Vec<(String, String)> {
    data(path)
        .lines()
        .map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            let messages = record["messages"].as_array().unwrap();
            let text = |index: usize| messages[index]["content"].as_str().unwrap().to_owned();
            assert_eq!(messages.len(), 3, "{line}");
            (text(1), text(2))
        })
        .collect()
}

fn words(text: &str) -> BTreeSet<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn jaccard(a: &BTreeSet<String>, b: &BTreeSet<String>) -> f64 {
    let common = a.intersection(b).count();
    common as f64 / (a.len() + b.len() - common) as f64
}

#[test]
fn the_router_files_are_large_balanced_and_without_repeats() {
    for (file, least, per_agent) in [("train", 600, 100), ("valid", 90, 12), ("test", 180, 30)] {
        let rows = rows(&format!("router/{file}.jsonl"));
        assert!(rows.len() >= least, "{file}: {}", rows.len());
        let distinct: BTreeSet<String> = rows.iter().map(|(question, _)| question.to_lowercase()).collect();
        assert_eq!(distinct.len(), rows.len(), "{file}");
        let mut agents: BTreeMap<&str, usize> = BTreeMap::new();
        rows.iter().for_each(|(_, agent)| *agents.entry(agent).or_default() += 1);
        assert_eq!(agents.keys().copied().collect::<Vec<_>>(), AGENTS, "{file}");
        assert!(agents.values().all(|&count| count >= per_agent), "{file}: {agents:?}");
    }
}

#[test]
fn no_test_question_is_half_a_training_question() {
    let known: Vec<(String, BTreeSet<String>)> = ["router/train.jsonl", "router/valid.jsonl"]
        .iter()
        .flat_map(|path| rows(path))
        .map(|(question, _)| (question.clone(), words(&question)))
        .collect();
    for (question, _) in rows("router/test.jsonl") {
        let these = words(&question);
        for (other, those) in &known {
            let similarity = jaccard(&these, those);
            assert!(similarity < 0.5, "{similarity:.2}: `{question}` and `{other}`");
        }
    }
}

#[test]
fn marv_answers_sixty_questions_and_more_each_once() {
    let rows = rows("marv.jsonl");
    let questions: BTreeSet<&String> = rows.iter().map(|(question, _)| question).collect();
    let answers: BTreeSet<&String> = rows.iter().map(|(_, answer)| answer).collect();
    assert!(rows.len() >= 60, "{}", rows.len());
    assert_eq!((questions.len(), answers.len()), (rows.len(), rows.len()));
}

#[test]
fn the_tool_records_are_valid_without_a_warning_and_show_what_there_is() {
    let seen = run_cli(&data_path(""), &["validate", "tools.jsonl", "--json"]);
    let json = seen.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{seen}"));
    let report: Value = serde_json::from_str(json).unwrap();
    assert_eq!((&report["summary"]["errors"], &report["summary"]["warnings"]), (&0.into(), &0.into()), "{report}");

    let records: Vec<Value> = data("tools.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!((14..=20).contains(&records.len()), "{}", records.len());
    let messages = || records.iter().flat_map(|record| record["messages"].as_array().unwrap());
    let calls = |message: &Value| message["tool_calls"].as_array().map_or(0, Vec::len);
    let ids: Vec<&Value> = messages()
        .flat_map(|message| message["tool_calls"].as_array().into_iter().flatten())
        .map(|call| &call["id"])
        .collect();
    let distinct: BTreeSet<String> = ids.iter().map(|id| id.to_string()).collect();
    assert_eq!(distinct.len(), ids.len());

    assert!(messages().any(|message| calls(message) > 1), "parallel calls");
    assert!(messages().any(|message| calls(message) == 1 && message["content"].is_string()), "text before a call");
    assert!(messages().any(|message| message["weight"] == 0), "an answer that is not trained");
    assert!(messages().any(|message| message["role"] == "tool"), "results");
    let answers_alone =
        |record: &&Value| record["messages"].as_array().unwrap().iter().all(|message| calls(message) == 0);
    assert!(records.iter().filter(answers_alone).count() >= 3, "no call needed");
    assert!(records.iter().any(|record| record["parallel_tool_calls"] == false));
}
