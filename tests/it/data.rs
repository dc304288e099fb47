//! The example data that comes with the project is what it says it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;

const AGENTS: [&str; 6] = ["envios", "facturacion", "legal", "recepcion", "soporte", "ventas"];

fn data(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data").join(path);
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
