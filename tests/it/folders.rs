//! What `merge`, `export` and `quantize` write for other programs, and what is left of it where they cannot.

use std::fs;
use std::path::Path;
use std::process::Command;

use afina_checkpoint::{
    AdapterConfig, LoraTensors, ModelDir, RawTensor, TrainedWith, module_path, write_adapter, write_file,
};
use expect_test::expect;

use crate::check::{check_cli, run_cli};
use crate::tiny_model::model_dir;

/// A model folder `m` with a card of its own, and an adapter `a` on its first down_proj.
fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (model, adapter) = (dir.path().join("m"), dir.path().join("a"));
    model_dir(&model);
    write_file(&model.join("README.md"), b"---\nlicense: apache-2.0\nlanguage: es\n---\n# The base\n").unwrap();
    let trained = TrainedWith {
        base_sha256: ModelDir::open(&model).unwrap().weights_sha256().unwrap(),
        template_sha256: String::new(),
        version: "0.1.0".into(),
    };
    let config = AdapterConfig::lora(2, 4.0, vec!["down_proj".into()], "m".into(), trained);
    let half = |name: &str, shape: Vec<usize>| {
        let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| (i as f32).sin()).collect();
        RawTensor::from_f32(name, shape, &values)
    };
    let lora =
        LoraTensors { module: module_path(0, "down_proj"), a: half("a", vec![2, 48]), b: half("b", vec![32, 2]) };
    write_adapter(&adapter, &config, &[lora]).unwrap();
    dir
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn weights_go_into_files_of_the_size_that_is_asked_for() {
    let dir = workplace();
    let merge = ["merge", "--base", "m", "--adapter", "a", "--to"];
    let seen = run_cli(dir.path(), &[&merge[..], &["merged", "--shard-size", "100kB"]].concat());
    assert!(seen.starts_with("exit 0\n"), "{seen}");
    let seen = run_cli(dir.path(), &[&merge[..], &["whole"]].concat());
    assert!(seen.starts_with("exit 0\n"), "{seen}");
    expect![[r#"
        BASE_README.md
        README.md
        config.json
        manifest.json
        merge_receipt.json
        model-00001-of-00002.safetensors
        model-00002-of-00002.safetensors
        model.safetensors.index.json
        tokenizer.json
        tokenizer_config.json"#]]
    .assert_eq(&names(&dir.path().join("merged")).join("\n"));
    let (sharded, whole) =
        (ModelDir::open(&dir.path().join("merged")).unwrap(), ModelDir::open(&dir.path().join("whole")).unwrap());
    assert_eq!(whole.weight_files().collect::<Vec<_>>(), ["model.safetensors"]);
    for name in whole.tensor_names() {
        assert_eq!(sharded.tensor(name).unwrap(), whole.tensor(name).unwrap());
    }
    let export = ["export", "--as", "hf", "--model", "merged", "--to"];
    let seen = run_cli(dir.path(), &[&export[..], &["one"]].concat());
    assert!(seen.starts_with("exit 0\n"), "{seen}");
    let read = |name: &str| fs::read(dir.path().join(name).join("model.safetensors")).unwrap();
    assert!(read("one") == read("whole"), "put together again");
    check_cli(
        dir.path(),
        &[&export[..], &["x", "--shard-size", "5"]].concat(),
        expect![[r#"
            exit 2
            --- stderr
            error: invalid value '5' for '--shard-size <SIZE>': expected a size as `5GB` or `500MB`, found `5`

            For more information, try '--help'.
        "#]],
    );
}

#[test]
fn card_tells_what_a_folder_was_made_of() {
    let dir = workplace();
    let seen = run_cli(dir.path(), &["merge", "--base", "m", "--adapter", "a", "--to", "merged"]);
    assert!(seen.starts_with("exit 0\n"), "{seen}");
    let card = |folder: &str| fs::read_to_string(dir.path().join(folder).join("README.md")).unwrap();
    let merged = card("merged");
    let base = ModelDir::open(&dir.path().join("m")).unwrap().weights_sha256().unwrap();
    for part in ["license: apache-2.0\nlanguage:\n- es\nlibrary_name: transformers\n", "# merged\n", &base] {
        assert!(merged.contains(part), "{part}: {merged}");
    }
    assert!(!merged.contains("base_model:"), "a base that is on no hub has no name there: {merged}");
    assert!(fs::read_to_string(dir.path().join("merged/BASE_README.md")).unwrap().ends_with("# The base\n"));
    let seen = run_cli(dir.path(), &["export", "--as", "peft", "--model", "m", "--adapter", "a", "--to", "peft"]);
    assert!(seen.starts_with("exit 0\n"), "{seen}");
    let adapter = card("peft");
    assert!(adapter.contains("library_name: peft\n") && adapter.contains(&base), "{adapter}");
}

#[test]
fn ollama_gets_a_template_that_says_what_the_model_was_trained_with() {
    let dir = workplace();
    let export = ["export", "--as", "ollama", "--model", "m", "--adapter", "a", "--to", "soporte"];
    check_cli(
        dir.path(),
        &export,
        expect![[r#"
            exit 0
            --- stdout
            soporte
              Q8_0: 0.1 MB, 9.06 bits a weight
              other formats: F16 in place of Q8_0 in 2 tensors, rows of 48 are no whole blocks of 32
        "#]],
    );
    assert_eq!(names(&dir.path().join("soporte")), ["Modelfile", "soporte.gguf"]);
    expect![[r#"
        # ollama create soporte -f Modelfile
        FROM ./soporte.gguf

        TEMPLATE """{{- range $i, $message := .Messages }}
        {{- $last := eq (len (slice $.Messages $i)) 1 }}
        {{- if eq .Role "system" }}{{ "<|im_start|>system\n" }}{{ .Content }}{{ "<|im_end|>\n" }}
        {{- else if eq .Role "user" }}{{ if eq $i 0 }}{{ "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\n" }}{{ else }}{{ "<|im_start|>user\n" }}{{ end }}{{ .Content }}{{ "<|im_end|>\n" }}
        {{- else if eq .Role "assistant" }}{{ if eq $i 0 }}{{ "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>assistant\n" }}{{ else }}{{ "<|im_start|>assistant\n" }}{{ end }}{{ .Content }}{{ if not $last }}{{ "<|im_end|>\n" }}{{ end }}
        {{- end }}
        {{- if and $last (ne .Role "assistant") }}{{ "<|im_start|>assistant\n" }}{{ end }}
        {{- end }}"""

        PARAMETER stop "<|im_end|>"
        # the model takes up to 4096 tokens; each takes memory
        PARAMETER num_ctx 4096

        LICENSE """apache-2.0"""
    "#]].assert_eq(&fs::read_to_string(dir.path().join("soporte/Modelfile")).unwrap());
    assert_eq!(names(dir.path()), ["a", "m", "soporte"], "what was merged aside is gone");

    let config = dir.path().join("m/tokenizer_config.json");
    let dated = fs::read_to_string(&config)
        .unwrap()
        .replace(r#""chat_template":""#, r#""chat_template":"{{ strftime_now('%d %b %Y') }}"#);
    write_file(&config, dated.as_bytes()).unwrap();
    check_cli(
        dir.path(),
        &["export", "--as", "ollama", "--model", "m", "--to", "dated"],
        expect![[r#"
            exit 0
            --- stdout
            dated
              Q8_0: 0.1 MB, 9.06 bits a weight
              other formats: F16 in place of Q8_0 in 2 tensors, rows of 48 are no whole blocks of 32
            --- stderr
            warning: no TEMPLATE: the chat template writes the date, and Ollama has no date in that form; Ollama will take the one inside the GGUF if it knows it: compare its answers
        "#]],
    );
    let modelfile = fs::read_to_string(dir.path().join("dated/Modelfile")).unwrap();
    assert!(!modelfile.contains("TEMPLATE \"") && modelfile.contains("\n# no TEMPLATE: "), "{modelfile}");
}

/// The writes that are tried on a full disk, with their targets.
const WRITES: [(&[&str], &str); 4] = [
    (&["merge", "--base", "m", "--adapter", "a", "--to", "merged"], "merged"),
    (&["export", "--as", "hf", "--model", "m", "--shard-size", "1MB", "--to", "copy"], "copy"),
    (&["quantize", "--model", "m", "--type", "F32", "--to", "m.gguf"], "m.gguf"),
    (&["export", "--as", "gguf", "--model", "m", "--adapter", "a", "--type", "F16", "--to", "a.gguf"], "a.gguf"),
];

/// Room for everything but the weights: a file may have no more than 80 kB.
fn run_in_little_room(dir: &Path, before: &str, args: &[&str]) -> (Option<i32>, String) {
    let script = format!("ulimit -f 160; {before} exec \"$0\" \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_afina")])
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
#[cfg(target_os = "linux")]
fn a_disk_that_is_full_in_the_middle_leaves_the_old_file_or_none() {
    for (args, target) in WRITES {
        let dir = workplace();
        let is_file = target.ends_with(".gguf");
        if is_file {
            write_file(&dir.path().join(target), b"the old one").unwrap();
        }
        let before = names(dir.path());
        let (code, said) = run_in_little_room(dir.path(), "trap '' XFSZ;", args);
        assert_eq!(code, Some(1), "{target}: {said}");
        for part in ["error: failed to ", "cause: File too large", "hint: make room on the disk"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(names(dir.path()), before, "{target}");
        if is_file {
            assert_eq!(fs::read(dir.path().join(target)).unwrap(), b"the old one");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_that_is_killed_in_the_middle_leaves_nothing_half_and_the_next_write_cleans_up() {
    for (args, target) in WRITES {
        let dir = workplace();
        let before = names(dir.path());
        // The system ends a program that writes beyond the limit, in the middle of its write.
        let (code, said) = run_in_little_room(dir.path(), "", args);
        assert_eq!(code, None, "{target}: {said}");
        let left = names(dir.path());
        let aside: Vec<&String> = left.iter().filter(|name| !before.contains(name)).collect();
        let partial = |name: &String| name.starts_with(&format!(".{target}.")) && name.ends_with(".partial");
        assert!(!aside.is_empty() && aside.iter().all(|name| partial(name)), "{target}: {left:?}");
        let seen = run_cli(dir.path(), args);
        assert!(seen.starts_with("exit 0\n"), "{seen}");
        let mut expected = before.clone();
        expected.push(target.to_owned());
        expected.sort();
        assert_eq!(names(dir.path()), expected);
    }
}
