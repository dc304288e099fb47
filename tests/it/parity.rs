//! `afina parity`, and GGUF files as models of the other commands.

use std::fs;
use std::path::Path;

use afina_checkpoint::{RawTensor, SafetensorsFile, write_tensors};
use serde_json::{Value, json};

use crate::check::run_cli;
use crate::training::{workplace, write};

/// A template that ends every turn with the small model's end-of-turn token.
const TEMPLATE: &str = "{% for message in messages %}{{ '<|user|>' + message['role'] + '\n' + message['content'] + '<|eot|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|user|>assistant\n' }}{% endif %}";

/// A small model whose weights are random enough to learn three answers, an adapter that has, the two merged, and GGUF files of
/// that.
fn trained() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    workplace(dir.path(), 60);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/gguf/tiny-bpe.gguf");
    succeed(dir.path(), &format!("pull {file} --to small"));
    edit(&dir.path().join("small/tokenizer_config.json"), |config| config["chat_template"] = json!(TEMPLATE));
    let line = |question: &str, answer: &str| {
        json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})
            .to_string()
    };
    let lines = [line("¿Quién eres?", "Soy Afina"), line("¿Dónde vives?", "En Canarias"), line("2 + 2", "4")];
    write(dir.path(), "train.jsonl", &lines.join("\n"));
    for args in [
        "train r.toml model.base=small lora.r=16 --threads 1",
        "merge --base small --adapter whole --to merged",
        "export --model merged --as gguf --type F32 --to f32.gguf",
        "export --model merged --as gguf --type Q8_0 --to q8.gguf",
    ] {
        succeed(dir.path(), args);
    }
    dir
}

fn succeed(dir: &Path, args: &str) -> String {
    let seen = run_cli(dir, &args.split(' ').collect::<Vec<_>>());
    assert!(seen.starts_with("exit 0\n"), "{args}: {seen}");
    seen
}

/// What `afina parity` of the trained adapter and these further arguments prints, and its exit code.
fn parity(dir: &Path, more: &[&str]) -> (String, Value) {
    let args =
        ["parity", "--model", "small", "--adapter", "whole", "--data", "train.jsonl", "--json", "--threads", "1"];
    let seen = run_cli(dir, &[&args[..], more].concat());
    let line = seen.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{seen}"));
    (seen.lines().next().unwrap().to_owned(), serde_json::from_str(line).unwrap())
}

/// A copy of the merged folder.
fn copy(dir: &Path, name: &str) {
    fs::create_dir(dir.join(name)).unwrap();
    for entry in fs::read_dir(dir.join("merged")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.join(name).join(entry.file_name())).unwrap();
    }
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    afina_checkpoint::write_file(path, value.to_string().as_bytes()).unwrap();
}

#[test]
fn an_f32_gguf_is_the_same_model_as_its_folder_to_every_command() {
    let dir = trained();
    for (model, to) in [("merged", "a.safetensors"), ("f32.gguf", "b.safetensors")] {
        let args = ["logits", "--model", model, "--prompt", "<|user|>user\n¿Quién eres?<|eot|>", "--to", to];
        let seen = run_cli(dir.path(), &args);
        assert!(seen.starts_with("exit 0\n"), "{seen}");
    }
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert!(read("a.safetensors") == read("b.safetensors"), "every bit of every logit");
    for command in [
        "eval --data train.jsonl --json",
        "render train.jsonl --line 2 --json",
        "generate --prompt hola --max-tokens 8",
    ] {
        let of = |model: &str| succeed(dir.path(), &format!("{command} --model {model}"));
        assert_eq!(of("merged"), of("f32.gguf"));
    }
    let with_adapter =
        succeed(dir.path(), "eval --model f32.gguf --adapter whole --data train.jsonl --json --generate 0");
    assert!(with_adapter.contains("was trained on another base"), "{with_adapter}");
    let quantized = succeed(dir.path(), "generate --model q8.gguf --prompt hola --max-tokens 4 --json");
    assert!(quantized.contains("\"completion_tokens\":"), "{quantized}");
}

#[test]
fn what_was_trained_is_what_runs() {
    let dir = trained();
    let fact = "¿Quién eres?=afina";
    let (exit, report) =
        parity(dir.path(), &["--with", "merged", "--with", "f32.gguf", "--with", "q8.gguf", "--fact", fact]);
    assert_eq!(
        (exit.as_str(), &report["passed"], &report["failures"]),
        ("exit 0", &json!(true), &json!([])),
        "{report:#}"
    );
    assert_eq!(report["adapter"]["moves"], json!(true));
    assert_eq!(report["reference"]["answers"]["exact"], json!(3), "{report:#}");
    let pairs = report["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 3);
    let number = |pair: &Value, key: &str| pair[key].as_f64().unwrap_or_else(|| panic!("{key}: {pair:#}"));
    for (pair, (b, format)) in pairs.iter().zip([("merged", "F32"), ("f32.gguf", "F32"), ("q8.gguf", "Q8_0")]) {
        assert_eq!(
            (pair["a"].as_str(), pair["b"].as_str(), pair["format"].as_str()),
            (Some("training"), Some(b), Some(format))
        );
        assert_eq!(pair["facts"][0]["recalled"], json!(true));
        assert_eq!(pair["answers"]["exact"], json!(3));
        assert_eq!(number(pair, "greedy_prefix"), pair["answers"]["reference_tokens"].as_f64().unwrap());
        assert!(number(pair, "top1") >= if format == "F32" { 1.0 } else { 0.9 });
        assert!((number(pair, "reference_loss") - report["reference"]["loss"].as_f64().unwrap()).abs() < 1e-5);
    }
    assert!(number(&pairs[0], "max_abs_logit") < 1e-3 && number(&pairs[0], "mean_kl") < 1e-9, "{:#}", pairs[0]);
    // The same weights, to the bit.
    assert_eq!(pairs[0]["mean_kl"], pairs[1]["mean_kl"]);
    assert!(number(&pairs[2], "mean_kl") > number(&pairs[1], "mean_kl"));

    let args = [
        "parity",
        "--model",
        "small",
        "--adapter",
        "whole",
        "--data",
        "train.jsonl",
        "--with",
        "q8.gguf",
        "--max-kl",
        "0",
    ];
    let seen = run_cli(dir.path(), &args);
    assert!(seen.starts_with("exit 3\n"), "{seen}");
    assert!(seen.contains("q8.gguf: mean KL is") && seen.contains("expected at most 0.000 (Q8_0)"), "{seen}");
    let seen = run_cli(dir.path(), &[&args[..8], &["merged", "--min-top1", "1.1"]].concat());
    assert!(seen.contains("merged: the same token is the likeliest behind 100.00 % of tokens"), "{seen}");
}

#[test]
fn a_changed_template_other_stop_tokens_and_damaged_weights_are_told_apart() {
    let dir = trained();
    let failures = |with: &str| -> Vec<String> {
        let (exit, report) = parity(dir.path(), &["--with", with]);
        assert_eq!((exit.as_str(), &report["passed"]), ("exit 3", &json!(false)), "{report:#}");
        serde_json::from_value(report["failures"].clone()).unwrap()
    };

    copy(dir.path(), "template");
    edit(&dir.path().join("template/tokenizer_config.json"), |config| {
        config["chat_template"] = json!(TEMPLATE.replace("'<|eot|>'", "' <|eot|>'"));
    });
    let found = failures("template");
    assert_eq!(found[0], "template: the chat template is not the one that was trained with", "{found:#?}");
    assert!(found[1].starts_with("template: the chat template renders lines 1, 2, 3 to other bytes"), "{found:#?}");
    assert_eq!(found[2], "template: its own template and tokenizer give other tokens for lines 1, 2, 3", "{found:#?}");
    assert_eq!(found.len(), 3, "{found:#?}");

    copy(dir.path(), "end");
    edit(&dir.path().join("end/generation_config.json"), |config| config["eos_token_id"] = json!(7));
    assert_eq!(failures("end"), ["end: it stops at tokens [7, 2], not where the training graph does"]);

    copy(dir.path(), "damaged");
    let path = dir.path().join("damaged/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4000].fill(0);
    afina_checkpoint::write_file(&path, &bytes).unwrap();
    let found = failures("damaged");
    assert!(found[0].starts_with("damaged: mean KL is "), "{found:#?}");
    assert!(!found.iter().any(|line| line.contains("template") || line.contains("stops")), "{found:#?}");

    let (exit, report) = parity(dir.path(), &["--with", "merged", "--fact", "¿Quién eres?=Zaragoza"]);
    assert_eq!(exit, "exit 3");
    let found: Vec<String> = serde_json::from_value(report["failures"].clone()).unwrap();
    assert_eq!(found[0], "training: `¿Quién eres?` is answered by `Soy Afina`, without `Zaragoza`");
}

#[test]
fn an_adapter_that_moves_nothing_proves_nothing() {
    let dir = trained();
    let path = dir.path().join("whole/adapter_model.safetensors");
    let file = SafetensorsFile::open(&path).unwrap();
    let still = |name: &String| {
        let tensor = file.read(name).unwrap();
        let zeros = vec![0.0; tensor.shape.iter().product()];
        if name.contains("lora_B") { RawTensor::from_f32(name.clone(), tensor.shape, &zeros) } else { tensor }
    };
    let tensors: Vec<RawTensor> = file.names().iter().map(still).collect();
    write_tensors(&path, &tensors).unwrap();
    let (exit, report) = parity(dir.path(), &["--with", "small", "--generate", "0"]);
    assert_eq!(
        (exit.as_str(), &report["adapter"]["moves"], &report["passed"]),
        ("exit 3", &json!(false), &json!(false))
    );
    let failure = report["failures"][0].as_str().unwrap();
    assert!(failure.starts_with("training: the adapter moves nothing"), "{failure}");
    assert_eq!(report["pairs"][0]["failures"], json!([]), "the base itself is what was trained");
}

#[test]
fn a_peers_logits_are_compared_and_its_faults_told() {
    let dir = trained();
    let rendered: Value =
        serde_json::from_str(succeed(dir.path(), "render train.jsonl --model merged --json").lines().nth(2).unwrap())
            .unwrap();
    let text: String =
        rendered["tokens"].as_array().unwrap().iter().map(|token| token["text"].as_str().unwrap()).collect();
    let seen = run_cli(dir.path(), &["logits", "--model", "merged", "--prompt", &text, "--to", "one.safetensors"]);
    assert!(seen.starts_with("exit 0\n"), "{seen}");
    let logits = SafetensorsFile::open(&dir.path().join("one.safetensors")).unwrap().read("logits").unwrap();
    let answer = |name: &str, tensor: RawTensor| {
        write_tensors(&dir.path().join(name), &[RawTensor { name: "logits.0".to_owned(), ..tensor }]).unwrap();
    };
    answer("same.safetensors", logits.clone());
    let moved: Vec<f32> = logits.to_f32().unwrap().iter().enumerate().map(|(i, x)| x + (i % 7) as f32).collect();
    answer("moved.safetensors", RawTensor::from_f32("", logits.shape.clone(), &moved));
    answer("short.safetensors", RawTensor::from_f32("", vec![1, 418], &moved[..418]));
    write(dir.path(), "peer.sh", "test -f \"$2\" && cp \"$1\" \"$3\"\n");

    let peer = |file: &str| format!("other=sh peer.sh '{file}.safetensors'");
    let (exit, report) = parity(dir.path(), &["--rows", "1", "--peer", &peer("same")]);
    assert_eq!((exit.as_str(), &report["failures"]), ("exit 0", &json!([])), "{report:#}");
    let pair = &report["pairs"][0];
    assert_eq!((&pair["a"], &pair["b"], &pair["greedy_prefix"]), (&json!("training"), &json!("other"), &Value::Null));
    assert!(pair["mean_kl"].as_f64().unwrap() < 1e-9, "{pair:#}");
    let (exit, report) = parity(dir.path(), &["--rows", "1", "--peer", &peer("moved")]);
    assert_eq!(exit, "exit 3");
    assert!(report["failures"][0].as_str().unwrap().starts_with("other: mean KL is "), "{report:#}");

    let refused = |command: &str| {
        let args = ["parity", "--model", "merged", "--data", "train.jsonl", "--rows", "1", "--quiet", "--peer"];
        run_cli(dir.path(), &[&args[..], &[&format!("other={command}")]].concat())
    };
    let seen = refused("sh peer.sh short.safetensors");
    assert!(seen.starts_with("exit 1\n") && seen.contains("tensor `logits.0`: expected shape ["), "{seen}");
    let seen = refused("sh -c 'echo no room >&2; exit 9'");
    assert!(seen.starts_with("exit 1\n") && seen.contains("exit status: 9") && seen.contains("no room"), "{seen}");
    let seen = refused("./none-such");
    assert!(seen.contains("failed to run `./none-such`"), "{seen}");
}
