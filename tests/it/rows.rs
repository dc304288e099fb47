//! What a run tells about the lines of its data: which are too long, and which it never learned.

use crate::check::run_cli;
use crate::training::{workplace, write};

#[test]
fn rows_shows_the_lines_that_were_never_learned() {
    let dir = tempfile::tempdir().unwrap();
    workplace(dir.path(), 25);
    // One line answers the same question as another, and otherwise: one of them cannot be learned.
    let line = |answer: &str| {
        format!(
            "{{\"messages\":[{{\"role\":\"user\",\"content\":\"pregunta 1\"}},{{\"role\":\"assistant\",\"content\":\"{answer}\"}}]}}\n"
        )
    };
    let odd = line("0 9 8 7 6 5 4 3 2 1 no es lo que dicen las demás, que siempre dicen lo mismo y nada más");
    write(dir.path(), "train.jsonl", &[line("sí sí sí"), odd, line("sí sí sí"), line("sí sí sí")].concat());
    let seen = run_cli(dir.path(), &["train", "r.toml"]);
    assert!(seen.starts_with("exit 0\n"), "{seen}");

    let seen = run_cli(dir.path(), &["rows", "whole", "--worst", "2"]);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..3], ["exit 0", "--- stdout", "   last   first  seen  line"], "{seen}");
    let answer = "train.jsonl:2  0 9 8 7 6 5 4 3 2 1 no es lo que dicen las demás, que siempr…";
    assert!(lines[3].ends_with(answer), "{seen}");
    assert_eq!(
        lines[5],
        "2 of the 4 examples seen, the highest loss first: nats per trained token, when last and first seen"
    );

    let seen = run_cli(dir.path(), &["rows", "whole", "--json"]);
    let json = seen.lines().find(|line| line.starts_with('{')).expect("one line of JSON");
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    let rows = value["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &value["examples"]), (4, &4.into()));
    assert_eq!(rows.iter().map(|row| row["seen"].as_u64().unwrap()).sum::<u64>(), 50, "25 steps of 2 examples");
    let last: Vec<f64> = rows.iter().map(|row| row["last_loss"].as_f64().unwrap()).collect();
    assert!(last.is_sorted_by(|a, b| a >= b) && last[0] > last[1], "{last:?}");

    write(dir.path(), "train.jsonl", &line("otra"));
    let seen = run_cli(dir.path(), &["rows", "whole"]);
    assert!(
        seen.starts_with("exit 0\n") && seen.contains("warning: `train.jsonl` has changed since the run"),
        "{seen}"
    );
    let seen = run_cli(dir.path(), &["rows", "nothing"]);
    assert!(seen.starts_with("exit 1\n") && seen.contains("`checkpoints/nothing/ledger.jsonl`"), "{seen}");
}

#[test]
fn what_is_cut_is_told_before_training() {
    let dir = tempfile::tempdir().unwrap();
    workplace(dir.path(), 1);
    let seen = run_cli(dir.path(), &["train", "r.toml", "data.seq_len=8", "data.excess_length=split"]);
    assert!(seen.starts_with("exit 0\n"), "{seen}");
    assert!(seen.contains("too long       18 of more than 8 tokens, 0 left out; lost: "), "{seen}");
    assert!(seen.contains("  train.jsonl:1: ") && seen.contains("trained lost\n"), "{seen}");
    assert!(seen.contains("  and 8 more; all in ./whole/excess.jsonl\n"), "{seen}");
    assert_eq!(std::fs::read_to_string(dir.path().join("whole/excess.jsonl")).unwrap().lines().count(), 18);
    let seen = run_cli(dir.path(), &["train", "r.toml", "run=./refused", "data.seq_len=8"]);
    assert!(seen.starts_with("exit 3\n") && seen.contains("error[example-too-long]"), "{seen}");
}
