//! Pulls from a hub on this machine: what comes, where it lies, what is not loaded twice.

mod line;
mod refusals;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::server::{COMMIT, HubServer, Seen, git_blob, sha256};
use super::*;
use crate::atomic::write_file;
use crate::pull::{Source, pull};
use crate::testing::{shard, store_as_gptq, tiny_model, tiny_tokenizer};

const REPO: &str = "Some-Org/Tiny-Llama";
const WHOLE: &str = "model.safetensors";
const SECOND: &str = "model-00002-of-00003.safetensors";

/// A hub with one model, and a folder to bring it to.
struct Place {
    dir: tempfile::TempDir,
    server: HubServer,
    settings: HubSettings,
}

impl Place {
    fn new() -> Place {
        Place::of(|_| ())
    }

    /// A model of three shards.
    fn sharded() -> Place {
        Place::of(|model| shard(model, 3))
    }

    fn of(change: impl FnOnce(&Path)) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        tiny_model(&model, false);
        tiny_tokenizer(&model, 320);
        for (name, text) in [
            ("README.md", "---\nlicense: apache-2.0\n---\n# Tiny\n"),
            ("LICENSE", "Apache License\n"),
            ("chat_template.jinja", "{{ messages }}"),
            ("generation_config.json", r#"{"eos_token_id": 2}"#),
            (".gitattributes", "*.safetensors filter=lfs\n"),
            ("pytorch_model.bin", "PK\u{3}\u{4}"),
            ("onnx/model.onnx", "onnx"),
        ] {
            write_file(&model.join(name), text.as_bytes()).unwrap();
        }
        change(&model);
        let server = HubServer::start(REPO, files_of(&model));
        let settings = HubSettings {
            endpoint: server.url.clone(),
            cache: dir.path().join("hf/hub"),
            token: None,
            offline: false,
            retry_wait: Duration::ZERO,
        };
        Place { dir, server, settings }
    }

    fn request(&self) -> PullRequest {
        PullRequest {
            model: REPO.into(),
            revision: None,
            source: None,
            base_dir: self.dir.path().join("base"),
            to: None,
            pythons: Vec::new(),
            hub: self.settings.clone(),
        }
    }

    fn pull(&self) -> Result<PathBuf, PullError> {
        pull(&self.request(), &mut |_| ())
    }

    /// The error of a pull, with its causes, and its hint. No folder is begun.
    fn refusal(&self) -> (String, String) {
        let error = self.pull().unwrap_err();
        assert!(self.base().is_empty(), "{:?}", self.base());
        let hint = error.hint().unwrap_or_default();
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        (text.replace(&self.server.url, "[HUB]").replace(&*self.dir.path().to_string_lossy(), "[DIR]"), hint)
    }

    /// What is in the folder of base models, hidden things included.
    fn base(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("base")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    fn blob(&self, hash: &str) -> PathBuf {
        self.settings.cache.join("models--Some-Org--Tiny-Llama/blobs").join(hash)
    }

    fn content(&self, name: &str) -> Vec<u8> {
        self.server.state().files[name].clone()
    }
}

fn files_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            files.extend(files_of(&entry.path()).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    files
}

/// Names of files in the answers of the storage, and where each began.
fn stored(seen: &[Seen]) -> Vec<(String, u64)> {
    let from = |seen: &Seen| seen.range.as_ref().map_or(0, |range| range[6..range.len() - 1].parse().unwrap());
    let name = |seen: &Seen| seen.path["/store/".len()..].split('?').next().unwrap().to_owned();
    seen.iter().filter(|seen| seen.at == "storage").map(|seen| (name(seen), from(seen))).collect()
}

#[test]
fn a_repo_becomes_a_folder_that_opens_with_only_what_is_needed() {
    let place = Place::new();
    let mut events = Vec::new();
    let folder = pull(&place.request(), &mut |event| events.push(event)).unwrap();
    assert_eq!(folder, place.dir.path().join("base/tiny-llama"));
    assert_eq!(place.base(), ["tiny-llama"]);
    let model = ModelDir::open(&folder).unwrap();
    let manifest = model.origin().unwrap().unwrap();
    manifest.verify(&folder).unwrap();
    assert_eq!(manifest.license.as_deref(), Some("apache-2.0"));
    let (endpoint, repo) = (place.server.url.clone(), REPO.to_owned());
    assert_eq!(manifest.origin, Origin::Hub { endpoint, repo, revision: "main".into(), commit: COMMIT.into() });
    let names: Vec<_> = manifest.files.keys().map(String::as_str).collect();
    let expected = [
        "LICENSE",
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names, expected);
    for name in names {
        assert_eq!(fs::read(folder.join(name)).unwrap(), place.content(name), "{name}");
    }

    let total: u64 = expected.iter().map(|name| place.content(name).len() as u64).sum();
    assert_eq!(events[0], PullEvent::Trying { source: format!("{}/{REPO}", place.server.url) });
    assert_eq!(events[1], PullEvent::Found { commit: COMMIT.into(), files: 8, bytes: total });
    let done: Vec<u64> = events[2..]
        .iter()
        .map(|event| match event {
            PullEvent::Downloading { done, total: of, .. } if *of == total => *done,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(done.is_sorted() && done.last() == Some(&total), "{done:?}");
}

#[test]
fn the_cache_is_laid_out_as_other_tools_read_it() {
    let place = Place::new();
    place.pull().unwrap();
    let repo = place.settings.cache.join("models--Some-Org--Tiny-Llama");
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    for (name, hash) in
        [(WHOLE, sha256(&place.content(WHOLE))), ("config.json", git_blob(&place.content("config.json")))]
    {
        let file = repo.join("snapshots").join(COMMIT).join(name);
        assert_eq!(fs::read(&file).unwrap(), place.content(name));
        #[cfg(unix)]
        assert_eq!(fs::read_link(&file).unwrap(), Path::new("../../blobs").join(&hash));
        assert!(repo.join("blobs").join(hash).is_file());
    }
    // hf-hub itself finds it.
    let cache = hf_hub::Cache::new(place.settings.cache.clone()).model(REPO.into());
    assert_eq!(fs::read(cache.get(WHOLE).unwrap()).unwrap(), place.content(WHOLE));
}

#[test]
fn quantized_weights_come_through_their_index_too() {
    let place = Place::of(|model| {
        store_as_gptq(model);
        shard(model, 3);
    });
    let model = ModelDir::open(&place.pull().unwrap()).unwrap();
    assert_eq!(model.quantization().unwrap().to_string(), "gptq, 4 bits, one group");
    assert_eq!(model.tensor("model.layers.1.mlp.up_proj.weight").unwrap().shape, [96, 64]);
    assert_eq!(crate::inspect(&model.path).unwrap().dtypes["GPTQ 4-bit"].tensors, 14);
}

#[test]
fn shards_come_through_their_index_and_every_part_of_the_program_opens_them() {
    let place = Place::sharded();
    let folder = place.pull().unwrap();
    let model = ModelDir::open(&folder).unwrap();
    assert_eq!(model.weight_files().count(), 3);
    for name in model.tensor_names() {
        model.tensor(name).unwrap();
    }
    let inspection = crate::inspect(&folder).unwrap();
    assert!(matches!(inspection.origin, Some(Origin::Hub { .. })));
    let out = place.dir.path().join("out.gguf");
    crate::export_gguf(&model, &out, afina_quant::mix::Mix::Q8_0, false, &mut |_, _| ()).unwrap();
    // And a folder that came from a hub is a source like any other.
    let mut request = place.request();
    request.model = folder.display().to_string();
    request.to = Some(place.dir.path().join("copy"));
    ModelDir::open(&pull(&request, &mut |_| ()).unwrap()).unwrap();
}

#[test]
fn what_is_complete_is_not_loaded_again() {
    let place = Place::new();
    let folder = place.pull().unwrap();
    place.server.take_seen();
    let mut events = Vec::new();
    pull(&place.request(), &mut |event| events.push(event)).unwrap();
    assert_eq!(events.last(), Some(&PullEvent::AlreadyComplete));
    assert_eq!(place.server.take_seen().len(), 1); // which commit `main` is

    // A damaged folder is mended from the cache.
    write_file(&folder.join("config.json"), b"{}").unwrap();
    pull(&place.request(), &mut |event| events.push(event)).unwrap();
    assert!(events.iter().any(|event| matches!(event, PullEvent::Damaged { why } if why.contains("config.json"))));
    assert_eq!(place.server.take_seen().len(), 1);
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), place.content("config.json"));
    assert_eq!(place.base(), ["tiny-llama"]);

    // Another folder, too; and of a whole commit id nothing needs to be asked.
    let mut request = place.request();
    request.to = Some(place.dir.path().join("elsewhere"));
    request.revision = Some(COMMIT.into());
    pull(&request, &mut |_| ()).unwrap();
    assert_eq!(place.server.take_seen().len(), 1);
    pull(&request, &mut |_| ()).unwrap();
    assert!(place.server.take_seen().is_empty());
}

#[test]
fn a_revision_is_a_branch_a_tag_or_a_commit() {
    let place = Place::new();
    for (revision, expected) in [("v1", true), ("refs/pr/3", true), (COMMIT, true), ("v9", false), ("../main", false)] {
        let mut request = place.request();
        request.to = Some(place.dir.path().join("to").join(revision.replace('/', "-")));
        request.revision = Some(revision.into());
        let result = pull(&request, &mut |_| ());
        assert_eq!(result.is_ok(), expected, "{revision}: {result:?}");
    }
    assert!(place.server.take_seen().iter().all(|seen| !seen.path.contains("..")));
    let mut request = place.request();
    request.revision = Some("v9".into());
    let error = pull(&request, &mut |_| ()).unwrap_err();
    assert_eq!(error.to_string(), format!("`{REPO}` has no revision `v9`"));
}

#[test]
fn a_hub_that_moved_on_does_not_replace_a_folder() {
    let place = Place::new();
    place.pull().unwrap();
    place.server.state().commit = "f".repeat(40);
    let error = place.pull().unwrap_err();
    let expected = format!("is taken: it holds commit `0123456` of `{REPO}`, and `main` is `fffffff`");
    assert!(error.to_string().ends_with(&expected), "{error}");
    assert!(error.hint().unwrap().contains("--to"));
}

#[test]
fn offline_everything_comes_from_the_cache() {
    let mut place = Place::sharded();
    place.pull().unwrap();
    fs::remove_dir_all(place.dir.path().join("base")).unwrap();
    place.settings.offline = true;
    place.settings.endpoint = "http://127.0.0.1:1".into();
    place.server.take_seen();
    let folder = place.pull().unwrap();
    ModelDir::open(&folder).unwrap();
    let mut events = Vec::new();
    pull(&place.request(), &mut |event| events.push(event)).unwrap();
    assert_eq!(events, [PullEvent::AlreadyComplete]);
    assert!(place.server.take_seen().is_empty());

    // A damaged folder is mended from there, and told once.
    write_file(&folder.join("config.json"), b"{}").unwrap();
    events.clear();
    pull(&place.request(), &mut |event| events.push(event)).unwrap();
    assert!(matches!(&events[..], [PullEvent::Damaged { .. }]), "{events:?}");

    // What is lost or wrong there is said.
    fs::remove_dir_all(place.dir.path().join("base")).unwrap();
    let second = place.blob(&sha256(&place.content(SECOND)));
    let whole = fs::read(&second).unwrap();
    write_file(&second, &[&whole[..whole.len() - 1], b"x"].concat()).unwrap();
    let (error, _) = place.refusal();
    assert!(error.starts_with(&format!("`{SECOND}` came wrong: expected sha256")), "{error}");
    let (error, hint) = place.refusal();
    assert_eq!(error, format!("offline, and `{SECOND}` of `{REPO}` is not in the cache `[DIR]/hf/hub`"));
    assert!(hint.starts_with("HF_HUB_OFFLINE is set"), "{hint}");
    fs::remove_dir_all(&place.settings.cache).unwrap();
    assert_eq!(place.refusal().0, format!("offline, and `main` of `{REPO}` is not in the cache `[DIR]/hf/hub`"));
}
