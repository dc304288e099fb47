//! The copies that commands on data files write: where they go, and where they do not.

use std::fs;
use std::path::Path;

use expect_test::expect;

use crate::check::{check_cli, run_cli};

const RECORD: &str =
    r#"{"messages": [{"role": "user", "content": "hola"}, {"role": "assistant", "content": "Hola, ¿qué necesita?"}]}"#;

fn write(dir: &Path, name: &str, text: &str) {
    afina_checkpoint::write_file(&dir.join(name), text.as_bytes()).unwrap();
}

fn records(count: usize) -> String {
    (0..count).map(|index| RECORD.replace("hola", &format!("hola {index}")) + "\n").collect()
}

#[test]
#[cfg(unix)]
fn what_is_no_file_is_not_written_over() {
    use std::os::unix::fs::FileTypeExt;
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.jsonl", &records(12));
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::os::unix::fs::symlink("pipe", dir.path().join("link")).unwrap();
    for args in [
        &["validate", "a.jsonl", "--fix", "pipe"][..],
        &["validate", "a.jsonl", "--redact", "link"],
        &["convert", "a.jsonl", "--to", "pipe"],
        &["split", "a.jsonl", "--train-to", "link", "--validation-to", "b.jsonl"],
        &["validate", "a.jsonl", "--fix", "."],
    ] {
        let seen = run_cli(dir.path(), args);
        assert!(seen.starts_with("exit 2\n") && seen.contains("expected a file, found a"), "{args:?}: {seen}");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }
    write(dir.path(), "data/real.jsonl", "old");
    std::os::unix::fs::symlink("data/real.jsonl", dir.path().join("to.jsonl")).unwrap();
    run_cli(dir.path(), &["validate", "a.jsonl", "--fix", "to.jsonl"]);
    assert!(fs::symlink_metadata(dir.path().join("to.jsonl")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(dir.path().join("data/real.jsonl")).unwrap(), records(12));
}

#[test]
fn an_input_is_never_an_output() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.jsonl", &records(12));
    write(dir.path(), "v.jsonl", &records(3));
    fs::hard_link(dir.path().join("a.jsonl"), dir.path().join("same.jsonl")).unwrap();
    for args in [
        &["validate", "a.jsonl", "--fix", "./a.jsonl"][..],
        &["validate", "a.jsonl", "--fix", "v.jsonl", "--validation", "v.jsonl"],
        &["validate", "a.jsonl", "--redact", "same.jsonl"],
        &["convert", "a.jsonl", "--to", "same.jsonl"],
        &["split", "a.jsonl", "--train-to", "a.jsonl"],
        &["split", "a.jsonl", "--validation-to", "same.jsonl"],
    ] {
        let seen = run_cli(dir.path(), args);
        assert!(seen.starts_with("exit 2\n") && seen.contains("is read by this command"), "{args:?}: {seen}");
        assert_eq!(fs::read_to_string(dir.path().join("a.jsonl")).unwrap(), records(12));
    }
    check_cli(
        dir.path(),
        &["split", "a.jsonl", "--train-to", "b.jsonl", "--validation-to", "./b.jsonl"],
        expect![[r#"
            exit 2
            --- stderr
            error: `--train-to` and `--validation-to` are both `b.jsonl`
            hint: name two files
        "#]],
    );
    check_cli(
        dir.path(),
        &["convert", "a.jsonl", "--to", "missing/b.jsonl"],
        expect![[r#"
        exit 2
        --- stderr
        error: `missing/b.jsonl`: there is no folder `missing`
        hint: make it first: `mkdir -p 'missing'`, or correct the path
    "#]],
    );
}

#[test]
fn a_dash_is_standard_output() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.jsonl", &(records(10) + &RECORD[..RECORD.len() - 1] + "\n"));
    let expected = records(10) + RECORD + "\n";
    let seen = run_cli(dir.path(), &["validate", "a.jsonl", "--fix", "-"]);
    assert!(seen.contains(&format!("--- stdout\n{expected}--- stderr\n11 → 11: truncated-line")), "{seen}");
    write(dir.path(), "b.jsonl", &expected);
    let seen = run_cli(dir.path(), &["validate", "b.jsonl", "--redact", "-"]);
    assert!(seen.contains(&format!("--- stdout\n{expected}--- stderr\n")), "{seen}");
    let seen = run_cli(dir.path(), &["convert", "b.jsonl", "--to", "-"]);
    assert!(seen.contains(&format!("--- stdout\n{expected}--- stderr\n")), "{seen}");
    let seen = run_cli(dir.path(), &["validate", "b.jsonl", "--fix", "-", "--json"]);
    assert!(seen.starts_with("exit 2\n"), "{seen}");
    assert!(!dir.path().join("-").exists());
}

#[test]
fn a_fix_tells_what_went_and_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let text = [
        RECORD,
        r#"{"messages":[{"rol":"user","content":"hola"},{"role":"assistant","contenido":"Buenas tardes, ¿qué necesita?"}]}"#,
        r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","respuesta":"Buenas noches"}]}"#,
        r#"{"messages":[{"role":"user","content":"a"},{"role":"assi"#,
        "",
    ];
    write(dir.path(), "a.jsonl", &text.join("\n"));
    check_cli(
        dir.path(),
        &["validate", "a.jsonl", "--fix", "b.jsonl"],
        expect![[r#"
        exit 3
        --- stdout
        2 → 2: missing-role: renamed `rol` to `role`
        2 → 2: missing-content: renamed `contenido` to `content`
        left: a.jsonl:3:44: error[missing-content] /messages/1: assistant message has neither `content` nor `tool_calls`
          hint: give it text, or delete the message
        left: a.jsonl:3:64: error[unknown-message-key] /messages/1/respuesta: expected only `role`, `content`, `name`, `refusal`, `audio`, `tool_calls`, `function_call`, `weight` in an assistant message, found `respuesta`
          hint: drop it
        left: a.jsonl:4:57: error[truncated-line] /messages/1/role: the record ends inside a string
          hint: the file was cut here: write the record again, or delete the line
        left: b.jsonl:1:1: error[too-few-examples]: expected at least 10 examples, found 4
          hint: add examples: OpenAI recommends to start with 50
        2 changes: 1 record mended, 0 removed, 4 written; 4 errors left; written to `b.jsonl`
    "#]],
    );
    check_cli(
        dir.path(),
        &["validate", "a.jsonl", "--fix", "b.jsonl", "--unsafe-fixes"],
        expect![[r#"
        exit 3
        --- stdout
        2 → 2: missing-role: renamed `rol` to `role`
        2 → 2: missing-content: renamed `contenido` to `content`
        3 → -: missing-content: removed an assistant message without content (unsafe)
            {"role":"assistant","respuesta":"Buenas noches"}
        3 → -: missing-assistant-message: removed the line: no message of it is the assistant's (unsafe)
            {"messages":[{"role":"user","content":"a"}]}
        4 → -: truncated-line: removed `{"messages":[{"role":"user","content":"a…`, a record that was cut (unsafe)
        left: b.jsonl:1:1: error[too-few-examples]: expected at least 10 examples, found 2
          hint: add examples: OpenAI recommends to start with 50
        5 changes: 1 record mended, 2 removed, 2 written; 1 error left; written to `b.jsonl`
    "#]],
    );
}

#[test]
fn a_split_meets_its_share_and_says_nothing_of_free_texts() {
    let dir = tempfile::tempdir().unwrap();
    let line = |index: usize| {
        let answer = format!("La factura del pedido {index} ya está en su correo.");
        RECORD.replace("hola", &format!("factura {index}")).replace("Hola, ¿qué necesita?", &answer) + "\n"
    };
    write(dir.path(), "a.jsonl", &(0..26).map(line).collect::<String>());
    check_cli(
        dir.path(),
        &["split", "a.jsonl", "--validation", "0.2", "--seed", "7"],
        expect![[r#"
        exit 0
        --- stdout
        26 records, 26 groups: 21 to `a.train.jsonl`, 5 to `a.valid.jsonl`
    "#]],
    );
}

#[test]
fn what_is_converted_is_told() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "old.jsonl", "{\"prompt\":\"Q: x\\n\\n###\\n\\n\",\"completion\":\" y END\"}\n");
    check_cli(
        dir.path(),
        &["convert", "old.jsonl", "--to", "new.jsonl"],
        expect![[r#"
        exit 0
        --- stdout
        prompt-completion: 1 of 1 records written to `new.jsonl`
        --- stderr
        warning: took away "\n\n###\n\n" behind every prompt: chat models need no separator
        warning: took away " " before every completion: chat models need no separator
        warning: took away " END" behind every completion: chat models need no separator
    "#]],
    );
    write(dir.path(), "empty.jsonl", "");
    check_cli(
        dir.path(),
        &["convert", "empty.jsonl", "--to", "none.jsonl"],
        expect![[r#"
        exit 3
        --- stderr
        empty.jsonl:1:1: error[file-empty]: expected one JSON object a line, found no bytes
          hint: check the export that wrote it
    "#]],
    );
    assert!(!dir.path().join("none.jsonl").exists());
}

#[test]
fn records_of_two_files_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.jsonl", &records(10));
    write(dir.path(), "b.jsonl", &records(11)[records(9).len()..]);
    let seen = run_cli(dir.path(), &["validate", "a.jsonl", "b.jsonl", "--profile", "local"]);
    assert!(seen.contains("found the one of line 10 of `a.jsonl` again"), "{seen}");
}
