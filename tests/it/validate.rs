//! What `afina validate` reads, refuses and says beside the faults themselves.

use std::path::Path;

use expect_test::expect;

use crate::check::{check_cli, run_cli, run_with_stdin};

const LINE: &str = r#"{"messages":[{"role":"user","content":"hola"},{"role":"assistant","content":"buenas"}]}"#;

fn dir_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        use std::io::Write;
        std::fs::File::create(dir.path().join(name)).unwrap().write_all(text.as_bytes()).unwrap();
    }
    dir
}

#[test]
fn standard_input_has_no_name_to_judge_by() {
    let dir = dir_with(&[]);
    for name in ["-", "/dev/stdin"] {
        let seen = run_with_stdin(dir.path(), &["validate", name, "--profile", "local"], LINE.as_bytes());
        assert!(seen.starts_with("exit 0\n") && !seen.contains("file-extension"), "{seen}");
    }
    let broken = LINE.replace("hola", "");
    let seen = run_with_stdin(dir.path(), &["validate", "-", "--profile", "local"], broken.as_bytes());
    assert!(seen.contains("\n<stdin>:1:39: warning[empty-content]"), "{seen}");
    let file = dir_with(&[("x.gz", LINE)]);
    let seen = run_cli(file.path(), &["validate", "x.gz"]);
    assert!(seen.contains("x.gz:1:1: error[file-extension]"), "{seen}");
}

#[test]
fn a_csv_is_one_error_with_a_way_out() {
    let dir = dir_with(&[("qa.csv", "pregunta,respuesta\n\"¿Hola?\",\"Hola, ¿qué tal?\"\n")]);
    check_cli(
        dir.path(),
        &["validate", "qa.csv"],
        expect![[r#"
        exit 3
        --- stdout
        qa.csv:1:1: error[wrong-file-type]: expected JSON Lines, found what looks like CSV
          hint: write JSONL with Python: `python3 -c 'import csv,json; [print(json.dumps({"messages":[{"role":"user","content":r["pregunta"]},{"role":"assistant","content":r["respuesta"]}]})) for r in csv.DictReader(open("IN",encoding="utf-8-sig",newline=""))]' > OUT.jsonl`
        0 examples: 0 valid, 0 invalid; 1 error
    "#]],
    );
}

#[test]
fn a_missing_file_does_not_keep_the_others_from_being_checked() {
    let good = format!("{LINE}\n");
    let dir = dir_with(&[("a.jsonl", &good), ("c.jsonl", &good)]);
    check_cli(
        dir.path(),
        &["validate", "a.jsonl", "b.jsonl", "c.jsonl", "--profile", "local", "--no-statistics"],
        expect![[r#"
            exit 1
            --- stdout
            a.jsonl:1:1: info[few-examples]: expected 50 examples to start with, found 1
              hint: add examples if the answers do not get better
            a.jsonl:1:1: info[missing-system-message]: 1 of 1 examples have no system message, the first is here
              hint: train with the system prompt that you will use
            c.jsonl:1:1: warning[duplicate-example]: expected a new example, found the one of line 1 of `a.jsonl` again
                | {"messages":[{"role":"user","content":"hola"},{"role":"assistant","content":"buenas"}]}
                | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              hint: delete one of them

            c.jsonl:1:1: info[few-examples]: expected 50 examples to start with, found 1
              hint: add examples if the answers do not get better
            c.jsonl:1:1: info[missing-system-message]: 1 of 1 examples have no system message, the first is here
              hint: train with the system prompt that you will use
            2 examples: 2 valid, 0 invalid; 1 warning
            --- stderr
            error: failed to open `b.jsonl`
              cause: No such file or directory (os error 2)
        "#]],
    );
}

#[test]
fn flags_that_cannot_be_together_are_usage_errors() {
    let dir = dir_with(&[("a.jsonl", LINE)]);
    let wrong: [&[&str]; 8] = [
        &["--seq-len", "512"],
        &["--prices", "p.toml"],
        &["--model", ".", "--tokenizer", "o200k_base"],
        &["--target", "gpt-4o", "--tokenizer", "cl100k_base"],
        &["--fix", "b.jsonl", "--format", "sarif"],
        &["--redact", "b.jsonl", "--format", "github"],
        &["--validation", "-"],
        &["-", "--redact", "b.jsonl"],
    ];
    for flags in wrong {
        let seen = run_cli(dir.path(), &[&["validate", "a.jsonl"], flags].concat());
        assert!(seen.starts_with("exit 2\n"), "{flags:?}: {seen}");
    }
    assert!(!dir.path().join("b.jsonl").exists());
}

#[test]
fn prices_and_graders_that_are_none_are_named_with_their_line() {
    let dir = dir_with(&[
        ("a.jsonl", LINE),
        ("p.toml", "currency = \"USD\"\n[models]\nmine = 3\n"),
        ("g.json", "{\"type\":\n \"string_check\",,}"),
    ]);
    check_cli(
        dir.path(),
        &["validate", "a.jsonl", "--tokenizer", "o200k_base", "--prices", "p.toml"],
        expect![[r#"
        exit 2
        --- stderr
        error: `p.toml` cannot be read: line 3: invalid type: integer `3`, expected a table with `training_per_million`
        hint: a table is `currency = "USD"` and, for each model, `[models."NAME"]` with `training_per_million = 3.0`
    "#]],
    );
    check_cli(
        dir.path(),
        &["validate", "a.jsonl", "--method", "rft", "--grader", "g.json"],
        expect![[r#"
        exit 2
        --- stderr
        error: `g.json` is no grader: key must be a string at line 2 column 17
        hint: give the grader of the job, as OpenAI's JSON
    "#]],
    );
}

#[test]
fn a_bill_is_of_the_models_that_count_so() {
    let dir = dir_with(&[("a.jsonl", LINE)]);
    let cost = |flags: &[&str]| {
        let seen = run_cli(dir.path(), &[&["validate", "a.jsonl", "--profile", "local"], flags].concat());
        let end = seen.lines().filter(|line| line.starts_with("billed") || line.starts_with("cost"));
        end.map(|line| format!("{line}\n")).collect::<String>()
    };
    expect![[r#"
        billed       400 tokens: 25 epochs, at most 16,385 tokens an example
        cost         in USD: gpt-3.5-turbo-0125 0.00
    "#]]
    .assert_eq(&cost(&["--tokenizer", "cl100k_base"]));
    expect![[r#"
        billed       375 tokens: 25 epochs, at most 65,536 tokens an example
        cost         in USD: gpt-4o-mini-2024-07-18 0.00
    "#]]
    .assert_eq(&cost(&["--tokenizer", "o200k_base", "--target", "gpt-4o-mini"]));
    assert_eq!(cost(&["--tokenizer", "o200k_base", "--target", "llama-3"]), "");
}

#[test]
fn what_a_local_model_cannot_take_is_not_valid() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chat");
    let call = r#"{"id":"c","type":"function","function":{"name":"hora","arguments":"{}"}}"#;
    let line = format!(
        r#"{{"messages":[{{"role":"user","content":"¿Qué hora es?"}},{{"role":"assistant","tool_calls":[{call}]}}],"tools":[{{"type":"function","function":{{"name":"hora"}}}}]}}"#
    );
    let lines = format!("{LINE}\n{line}\n{line}\n");
    let dir = dir_with(&[("x.jsonl", &lines), ("tokenizer_config.json", "{\"eos_token\": \"<|im_end|>\"}")]);
    for (from, to) in
        [("tokenizers/smollm2.json", "tokenizer.json"), ("templates/smollm2.jinja", "chat_template.jinja")]
    {
        std::fs::copy(fixtures.join(from), dir.path().join(to)).unwrap();
    }
    check_cli(
        dir.path(),
        &[
            "validate",
            "x.jsonl",
            "--profile",
            "local",
            "--model",
            ".",
            "--seq-len",
            "20",
            "--ignore",
            "few-examples,duplicate-example,missing-system-message",
        ],
        expect![[r#"
            exit 3
            --- stdout
            x.jsonl:1:1: error[example-too-long]: expected at most 20 tokens, found 63: `afina train` refuses the file
              hint: shorten or split it, take it out, or raise `data.seq_len`, up to what the model takes
            x.jsonl:2:1: error[cannot-render] /tools: the chat template cannot render the conversation: the chat template does not render `tools`
              hint: choose a template that carries it: --chat-template chatml-tools
            x.jsonl:3:1: error[cannot-render] /tools: the chat template cannot render the conversation: the chat template does not render `tools`
              hint: choose a template that carries it: --chat-template chatml-tools
            3 examples: 0 valid, 3 invalid; 3 errors

            counted      3 examples with 6 messages; answers in each: 1
            roles        assistant 3, user 3
            system       0 of 3 examples have a system message
            tools        2 examples declare tools: hora 2
            tool calls   2 examples call tools: hora 2
            languages    es 2, unclear 1
            not found    near copies, answers that contradict an earlier one, texts with secrets, texts with personal data
            tokens       63 in all, 5 of them trained (7.9 %)
            an example   63 tokens in the middle (p50); p5 63, p95 63, p99 63, longest 63 (line 1)
              63 – 63 │████████████████████████████████████████ 1
            too long     1 example is longer than 20 tokens: `afina train` refuses the file
                         in line 1
        "#]],
    );
}

#[test]
fn a_rule_s_name_may_be_half_of_it() {
    let dir = dir_with(&[]);
    let seen = run_cli(dir.path(), &["explain", "near-duplicate"]);
    assert!(seen.starts_with("exit 2\n") && seen.contains("did you mean `near-duplicate-example`?"), "{seen}");
}

#[test]
fn colours_are_there_where_they_are_asked_for() {
    let dir = dir_with(&[("a.jsonl", "{}")]);
    let seen = run_cli(dir.path(), &["validate", "a.jsonl", "--color", "always"]);
    assert!(seen.contains("\u{1b}[1;31merror[missing-messages]\u{1b}[0m"), "{seen}");
    let seen = run_cli(dir.path(), &["validate", "a.jsonl"]);
    assert!(!seen.contains('\u{1b}'), "{seen}");
}
