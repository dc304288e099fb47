//! Commands as a user types them.

use std::path::Path;

use expect_test::expect;

use crate::check::{check_cli, run_cli};

fn dir_with(name: &str, text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), name, text);
    dir
}

fn write(dir: &Path, name: &str, text: &str) {
    use std::io::Write;
    std::fs::File::create(dir.join(name)).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_mistyped_command_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    check_cli(
        dir.path(),
        &["valdate", "x.jsonl"],
        expect![[r#"
        exit 2
        --- stderr
        error: unrecognized subcommand 'valdate'

          tip: some similar subcommands exist: 'eval', 'validate'

        Usage: afina [OPTIONS] <COMMAND>

        For more information, try '--help'.
    "#]],
    );
}

#[test]
fn validate_tells_every_fault_with_its_place_and_exits_with_3() {
    let dir = dir_with(
        "soporte.jsonl",
        concat!(
            "{\"messages\":[{\"role\":\"user\",\"content\":\"hola\"},{\"role\":\"assistant\",\"content\":\"buenas\"}]}\n",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"hola\"},{\"role\":\"asistant\",\"content\":\"buenas\"}]}\n",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"adiós\"},{\"role\":\"assistant\",\"content\":\"chao\"},]}\n",
        ),
    );
    check_cli(
        dir.path(),
        &["validate", "soporte.jsonl", "--profile", "local"],
        expect![[r#"
            exit 3
            --- stdout
            soporte.jsonl:2:55: error[unknown-role] /messages/1/role: expected role `system`, `user`, `assistant` or `tool`, found `asistant`
                | {"messages":[{"role":"user","content":"hola"},{"role":"asistant","content":"buenas"}]}
                |                                                       ^^^^^^^^^^
              hint: write `assistant`

            soporte.jsonl:3:85: error[trailing-comma] /messages: expected another value after `,`, found `]`
                | {"messages":[{"role":"user","content":"adiós"},{"role":"assistant","content":"chao"},]}
                |                                                                                     ^
              hint: remove the comma: JSON has none before a closing bracket

            soporte.jsonl:1:1: info[few-examples]: expected 50 examples to start with, found 3
              hint: add examples if the answers do not get better
            soporte.jsonl:1:1: info[missing-system-message]: 3 of 3 examples have no system message, the first is here
              hint: train with the system prompt that you will use
            3 examples: 1 valid, 2 invalid; 2 errors
            what can be mended: afina validate soporte.jsonl --fix OUT

            counted      1 example with 2 messages; answers in each: 1
            roles        assistant 1, user 1
            system       0 of 1 examples have a system message
            not found    exact copies, near copies, answers that contradict an earlier one, texts with secrets, texts with personal data
            tokens       not counted: give --model DIR or --tokenizer NAME
        "#]],
    );
}

#[test]
fn validate_as_json_is_one_object_with_diagnostics_and_a_summary() {
    let dir = dir_with("x.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"hola\"}]}\n");
    let seen = run_cli(dir.path(), &["validate", "x.jsonl", "--profile", "local", "--json"]);
    let json = seen.lines().find(|line| line.starts_with('{')).expect("one line of JSON");
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    let rules: Vec<&str> =
        value["diagnostics"].as_array().unwrap().iter().map(|found| found["rule"].as_str().unwrap()).collect();
    assert!(rules.contains(&"missing-assistant-message"), "{rules:?}");
    assert_eq!((value["summary"]["examples"].as_u64(), value["summary"]["valid"].as_u64()), (Some(1), Some(0)));
}

#[test]
fn a_missing_file_is_named_with_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    check_cli(
        dir.path(),
        &["validate", "nothing.jsonl"],
        expect![[r#"
        exit 1
        --- stderr
        error: failed to open `nothing.jsonl`
          cause: No such file or directory (os error 2)
    "#]],
    );
}

#[test]
fn an_unknown_rule_points_to_the_list() {
    let dir = tempfile::tempdir().unwrap();
    check_cli(
        dir.path(),
        &["explain", "missing-rol"],
        expect![[r#"
            exit 2
            --- stderr
            error: no rule `missing-rol`
            hint: did you mean `missing-role`? `afina rules` lists them all
        "#]],
    );
}

#[test]
fn explain_says_what_a_rule_checks() {
    let dir = tempfile::tempdir().unwrap();
    let seen = run_cli(dir.path(), &["explain", "missing-role"]);
    assert!(seen.starts_with("exit 0\n") && seen.contains("missing-role: error"), "{seen}");
}

#[test]
fn pull_of_an_unknown_name_lists_the_known_ones() {
    let dir = tempfile::tempdir().unwrap();
    check_cli(
        dir.path(),
        &["pull", "smollm2-135m-instrukt"],
        expect![[r#"
            exit 2
            --- stderr
            error: `smollm2-135m-instrukt` is neither a known model nor a file, a folder or a hub's repo
            hint: did you mean `smollm2-135m-instruct`? Known: `smollm2-135m-instruct` (135M, apache-2.0); a hub's repo is `organization/name`
        "#]],
    );
}

#[test]
fn a_recipe_with_an_unknown_key_is_refused_with_the_nearest_one() {
    let dir = tempfile::tempdir().unwrap();
    check_cli(
        dir.path(),
        &["train", "smollm2/135M_lora", "train.learnin_rate=1e-4"],
        expect![[r#"
        exit 2
        --- stderr
        error: the recipe `smollm2/135M_lora` cannot be used
          cause: unknown key `train.learnin_rate`
        hint: did you mean `train.learning_rate`?
    "#]],
    );
}

#[test]
fn a_recipe_can_be_copied_once_and_resolved_without_training() {
    let dir = tempfile::tempdir().unwrap();
    check_cli(
        dir.path(),
        &["cp", "smollm2/135M_lora", "my.toml"],
        expect![[r#"
        exit 0
        --- stdout
        wrote my.toml; train it with: afina train my.toml
    "#]],
    );
    check_cli(
        dir.path(),
        &["cp", "smollm2/135M_lora", "my.toml"],
        expect![[r#"
        exit 1
        --- stderr
        error: `my.toml` exists and was left as it is
    "#]],
    );
    let seen = run_cli(dir.path(), &["train", "my.toml", "--dry-run", "--train.learning_rate", "1e-4"]);
    assert!(seen.starts_with("exit 0\n") && seen.contains("learning_rate = 0.0001"), "{seen}");
}

#[test]
fn training_without_its_base_model_says_which_folder_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    check_cli(
        dir.path(),
        &["train", "smollm2/135M_lora"],
        expect![[r#"
        exit 1
        --- stderr
        error: failed to open the base model `checkpoints/base/smollm2-135m-instruct-q4_1`
          cause: `checkpoints/base/smollm2-135m-instruct-q4_1` is not a model folder: it has no `config.json`
    "#]],
    );
}

#[test]
fn info_describes_a_model_folder() {
    let dir = tempfile::tempdir().unwrap();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/tiny_llama/llama3");
    let seen = run_cli(dir.path(), &["info", model]);
    assert!(seen.starts_with("exit 0\n"), "{seen}");
    assert!(seen.contains("2 layers, hidden 32, 4 heads (2 key/value) of 16, ffn 48, vocabulary 160"), "{seen}");
}

#[test]
fn a_routes_file_is_linted_with_lines_and_hints() {
    let dir = dir_with("routes.toml", "version = 1\ndefault = \"nadie\"\n[agents.ana]\nmodel = \"m\"\n");
    let seen = run_cli(dir.path(), &["router", "lint", "routes.toml"]);
    assert!(seen.starts_with("exit 3\n") && seen.contains("routes.toml:2:"), "{seen}");
}

#[test]
fn a_device_this_build_has_not_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    check_cli(
        dir.path(),
        &["generate", "--model", "x", "--prompt", "hola", "--device", "tpu"],
        expect![[r#"
            exit 2
            --- stderr
            error: unknown device `tpu`
            hint: expected cpu, cuda[:N] or wgpu[:N]
        "#]],
    );
}

#[test]
fn rows_with_tools_are_rendered_by_a_template_that_carries_them() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chat");
    let dir = dir_with("tokenizer_config.json", "{\"eos_token\": \"<|im_end|>\"}");
    for (from, to) in
        [("tokenizers/smollm2.json", "tokenizer.json"), ("templates/smollm2.jinja", "chat_template.jinja")]
    {
        std::fs::copy(fixtures.join(from), dir.path().join(to)).unwrap();
    }
    let call = r#"{"id":"c","type":"function","function":{"name":"hora","arguments":"{\"zona\":\"Lima\"}"}}"#;
    let line = format!(
        r#"{{"messages":[{{"role":"user","content":"¿Qué hora es?"}},{{"role":"assistant","tool_calls":[{call}]}}],"tools":[{{"type":"function","function":{{"name":"hora"}}}}]}}"#
    );
    write(dir.path(), "x.jsonl", &format!("{line}\n"));
    check_cli(
        dir.path(),
        &["render", "x.jsonl", "--model", "."],
        expect![[r#"
        exit 3
        --- stderr
        x.jsonl:1:1: error[cannot-render] /tools: the chat template cannot render the conversation: the chat template does not render `tools`
          hint: choose a fallback template: data.chat_template = "chatml-tools" (outside of recipes --chat-template chatml-tools)
        1 example: 0 valid, 1 invalid; 1 error
        error: `x.jsonl` has errors
        hint: mend the lines above; `afina explain RULE` says more of a rule
    "#]],
    );
    check_cli(
        dir.path(),
        &["render", "x.jsonl", "--model", ".", "--chat-template", "chatml-tools"],
        expect![[r#"
        exit 0
        --- stdout
        <|im_start|>system
        You can call functions. Their signatures stand between <tools> and </tools>, one JSON object a line:
        <tools>
        {"type": "function", "function": {"name": "hora"}}
        </tools>
        For each call, answer with a JSON object of the name and the arguments between <tool_call> and </tool_call>:
        <tool_call>
        {"name": <function-name>, "arguments": <object-of-arguments>}
        </tool_call><|im_end|>
        <|im_start|>user
        ¿Qué hora es?<|im_end|>
        <|im_start|>assistant
        «<tool_call>
        {"name": "hora", "arguments": {"zona": "Lima"}}
        </tool_call><|im_end|>»
        307 tokens, 48 trained («» is trained)
    "#]],
    );
    check_cli(
        dir.path(),
        &["render", "x.jsonl", "--model", ".", "--chat-template", "llama3-tools"],
        expect![[r#"
        exit 2
        --- stderr
        error: failed to load the chat format of `.`
          cause: the chat template `llama3-tools` writes `<|begin_of_text|>`, which is no special token of `./tokenizer.json`
        hint: choose a template that fits the tokenizer: data.chat_template in a recipe, --chat-template elsewhere
    "#]],
    );
    check_cli(
        dir.path(),
        &["render", "x.jsonl", "--model", ".", "--chat-template", "chatml"],
        expect![[r#"
        exit 2
        --- stderr
        error: invalid value 'chatml' for '--chat-template <TEMPLATE>': expected model | chatml-tools | llama3-tools | the path of a .jinja file, found "chatml"

        For more information, try '--help'.
    "#]],
    );
}
