//! Rows with tools, end to end, on a tiny random Llama whose own chat template cannot carry them.

use std::path::{Path, PathBuf};

use afina_chat::{FALLBACKS, TemplateChoice};
use afina_checkpoint::{AdapterError, CHAT_TEMPLATE, sha256_hex, write_file};

use crate::testing::{log, model_dir, recipe, train};
use crate::{DataRefused, chat_format};

const FALLBACK: &str = "data.chat_template=chatml-tools";

fn on_tools() -> [String; 5] {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tools.jsonl").display().to_string();
    [
        format!("data.train={data}"),
        format!("data.validation={data}"),
        "data.seq_len=2048".to_owned(),
        "train.max_steps=6".to_owned(),
        "train.gradient_accumulation_steps=4".to_owned(),
    ]
}

fn tools_recipe(dir: &Path, run: &str, more: &[&str]) -> crate::Recipe {
    let overrides = on_tools();
    let all: Vec<&str> = overrides.iter().map(String::as_str).chain(more.iter().copied()).collect();
    recipe(dir, run, &all)
}

#[test]
fn rows_that_the_template_does_not_carry_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    let error = train(&tools_recipe(dir.path(), "r", &[]), false, None).unwrap_err();
    let refused = error.downcast_ref::<DataRefused>().unwrap_or_else(|| panic!("{error:#}"));
    assert_eq!((refused.diagnostics.len(), refused.summary.valid), (20, 0));
    let first = &refused.diagnostics[0];
    assert_eq!((first.rule, first.line), ("cannot-render", 1));
    assert_eq!(
        (first.message.as_str(), first.hint.as_str()),
        (
            "the chat template cannot render the conversation: the chat template does not render `tools`",
            "choose a fallback template: data.chat_template = \"chatml-tools\" (outside of recipes --chat-template chatml-tools)",
        )
    );
    assert!(!dir.path().join("r").exists(), "nothing is left");
}

#[test]
fn absent_content_is_refused_at_its_message() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    let recipe = recipe(dir.path(), "r", &[]);
    let line = r#"{"messages":[{"role":"user","content":"u"},{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"4"},{"role":"assistant","content":"4"}]}"#;
    write_file(&dir.path().join("train.jsonl"), format!("{line}\n").as_bytes()).unwrap();
    let error = train(&recipe, false, None).unwrap_err();
    let first = &error.downcast_ref::<DataRefused>().unwrap_or_else(|| panic!("{error:#}")).diagnostics[0];
    assert_eq!(first.pointer, "/messages/1");
    assert!(first.message.ends_with("message 1: the chat template does not render `tool_calls`"), "{}", first.message);
    assert!(
        first.hint.starts_with("choose a fallback template: data.chat_template = \"chatml-tools\""),
        "{}",
        first.hint
    );
}

#[test]
fn an_adapter_brings_the_template_it_was_trained_with() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    model_dir(&base);
    let recipe = tools_recipe(dir.path(), "r", &[FALLBACK]);
    train(&recipe, false, None).unwrap();
    let run = PathBuf::from(&recipe.run);

    let losses: Vec<f64> = log(&recipe).iter().map(|metrics| metrics["loss"].as_f64().unwrap()).collect();
    assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(run.join(name)).unwrap()).unwrap()
    };
    let sha256 = sha256_hex(FALLBACKS[0].source.as_bytes());
    assert_eq!(json("manifest.json")["chat_template"], "chatml-tools");
    assert_eq!(json("manifest.json")["sha256"]["the chat template"], sha256);
    assert_eq!(json("adapter_config.json")["afina"]["template_sha256"], sha256);

    let source = |folder: &Path| {
        let format = chat_format(&base, Some(folder), &TemplateChoice::Model)?;
        anyhow::Ok(format.template.source().to_owned())
    };
    for folder in [run.clone(), run.join("step-000006")] {
        assert_eq!(source(&folder).unwrap(), FALLBACKS[0].source);
    }
    std::fs::remove_file(run.join(CHAT_TEMPLATE)).unwrap();
    let error = source(&run).unwrap_err();
    assert!(
        error.chain().any(|cause| matches!(cause.downcast_ref(), Some(AdapterError::Template { .. }))),
        "{error:#}"
    );
    write_file(&run.join(CHAT_TEMPLATE), b"{% for m in messages %}{{ m.content }}{% endfor %}").unwrap();
    assert!(source(&run).is_err());
}

#[test]
fn an_adapter_trained_with_the_models_template_has_none_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    let recipe = recipe(dir.path(), "r", &["train.max_steps=1"]);
    train(&recipe, false, None).unwrap();
    assert!(!Path::new(&recipe.run).join(CHAT_TEMPLATE).exists());
    let format = chat_format(&dir.path().join("base"), Some(Path::new(&recipe.run)), &TemplateChoice::Model).unwrap();
    assert!(format.template.source().contains("SmolLM"));
}
