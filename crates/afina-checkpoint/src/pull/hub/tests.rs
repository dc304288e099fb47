//! Pulls from a hub on this machine, and everything that can go wrong on the way.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::server::{COMMIT, HubServer, Seen, git_blob, sha256};
use super::*;
use crate::atomic::write_file;
use crate::pull::{Source, pull};
use crate::testing::{shard, tiny_model, tiny_tokenizer};

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
    crate::export_gguf(&model, &out, crate::GgufType::Q8_0, &mut |_, _| ()).unwrap();
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
fn a_cut_file_goes_on_where_it_stopped() {
    let place = Place::sharded();
    let sizes: Vec<_> = (1..=3).map(|n| place.content(&format!("model-0000{n}-of-00003.safetensors")).len()).collect();
    // tokenizer.json is cut once, the first shard twice.
    place.server.state().cuts = vec![100, usize::MAX, 1000, 500];
    let folder = place.pull().unwrap();
    ModelDir::open(&folder).unwrap();
    let seen = stored(&place.server.take_seen());
    let first = "model-00001-of-00003.safetensors".to_owned();
    assert_eq!(seen[..2], [("tokenizer.json".to_owned(), 0), ("tokenizer.json".to_owned(), 100)]);
    assert_eq!(seen[2..5], [(first.clone(), 0), (first.clone(), 1000), (first, 1500)]);
    assert_eq!(seen.len(), 7, "{seen:?} of {sizes:?}");
}

#[test]
fn a_file_that_is_cut_again_and_again_is_finished_by_a_second_pull() {
    let place = Place::new();
    place.server.state().cuts = [vec![usize::MAX, 3000], vec![0; 4]].concat();
    let (error, hint) = place.refusal();
    let bytes = place.content(WHOLE).len();
    let expected = format!("`{WHOLE}` came to an end after 3000 of {bytes} bytes, 5 times in a row: ");
    assert!(error.starts_with(&expected), "{error}");
    assert!(hint.contains("goes on where it stopped"), "{hint}");
    place.server.take_seen();
    place.pull().unwrap();
    assert_eq!(stored(&place.server.take_seen()), [(WHOLE.to_owned(), 3000)]);
}

#[test]
fn a_server_without_ranges_is_loaded_from_the_beginning() {
    let place = Place::new();
    place.server.state().ignores_range = true;
    place.server.state().cuts = vec![usize::MAX, 3000];
    let folder = place.pull().unwrap();
    assert_eq!(fs::read(folder.join(WHOLE)).unwrap(), place.content(WHOLE));
}

#[test]
fn a_half_file_that_is_none_of_this_one_does_not_get_in() {
    let place = Place::new();
    let (content, bytes) = (place.content(WHOLE), place.content(WHOLE).len());
    let part = place.blob(&sha256(&content)).with_extension("part");
    // Longer than the file: from the beginning.
    write_file(&part, &vec![7; bytes + 1]).unwrap();
    place.pull().unwrap();
    fs::remove_dir_all(place.dir.path().join("base")).unwrap();
    // As long, and other bytes: told, removed, and loaded by the second pull.
    fs::remove_file(place.blob(&sha256(&content))).unwrap();
    write_file(&part, &vec![7; bytes]).unwrap();
    let (error, hint) = place.refusal();
    let found = sha256(&vec![7; bytes]);
    assert_eq!(error, format!("`{WHOLE}` came wrong: expected sha256 {}, found sha256 {found}", sha256(&content)));
    assert!(hint.contains("a second `afina pull` loads it again"), "{hint}");
    assert!(!part.exists());
    place.pull().unwrap();
}

#[test]
fn wrong_bytes_are_told_by_hash_and_loaded_again_by_a_second_pull() {
    for name in [WHOLE, "README.md"] {
        let place = Place::new();
        place.server.state().wrong = Some(name.into());
        let (error, hint) = place.refusal();
        let right = if name == WHOLE { sha256(&place.content(name)) } else { git_blob(&place.content(name)) };
        let kind = if name == WHOLE { "sha256" } else { "git blob" };
        let expected = format!("`{name}` came wrong: expected {kind} {right}, found {kind} ");
        assert!(error.starts_with(&expected) && !error.ends_with(&right), "{error}");
        assert!(hint.contains("it was deleted"), "{hint}");
        assert!(!place.blob(&right).exists() && !place.blob(&right).with_extension("part").exists());
        place.server.state().wrong = None;
        place.pull().unwrap();
    }
}

#[test]
fn a_file_longer_than_listed_is_refused() {
    let place = Place::new();
    place.server.state().longer = Some(WHOLE.into());
    let bytes = place.content(WHOLE).len();
    let expected = format!("`{WHOLE}` came wrong: expected {bytes} bytes, found more than {bytes} bytes");
    assert_eq!(place.refusal().0, expected);
}

#[test]
fn a_damaged_blob_in_the_cache_is_loaded_again() {
    let place = Place::new();
    place.pull().unwrap();
    fs::remove_dir_all(place.dir.path().join("base")).unwrap();
    let blob = place.blob(&sha256(&place.content(WHOLE)));
    write_file(&blob, &place.content(WHOLE)[1..]).unwrap();
    let mut events = Vec::new();
    pull(&place.request(), &mut |event| events.push(event)).unwrap();
    let told = |event: &PullEvent| matches!(event, PullEvent::Damaged { why } if why.starts_with("`model.safetensors` in the cache"));
    assert!(events.iter().any(told), "{events:?}");
    assert_eq!(fs::read(&blob).unwrap(), place.content(WHOLE));
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let mut place = Place::new();
    place.settings.token = Token::new("hf_secret");
    place.server.state().gated = Some("hf_secret".into());
    place.pull().unwrap();
    let seen = place.server.take_seen();
    let (hub, storage): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| seen.at == "hub");
    assert!(!hub.is_empty() && hub.iter().all(|seen| seen.authorization.as_deref() == Some("Bearer hf_secret")));
    assert!(!storage.is_empty() && storage.iter().all(|seen| seen.authorization.is_none()));
    assert!(storage.iter().all(|seen| seen.path.ends_with("?X-Amz-Signature=s1gned")));
}

#[test]
fn a_gated_repo_names_the_page_and_the_variable_and_never_the_token() {
    let mut place = Place::new();
    place.server.state().gated = Some("hf_right".into());
    let (error, hint) = place.refusal();
    assert!(error.starts_with(&format!("`{REPO}` is gated: access is given on its page: Access to model")), "{error}");
    assert_eq!(
        hint,
        format!("ask for access on {}/{REPO}, then set HF_TOKEN or run `hf auth login`", place.server.url)
    );
    place.settings.token = Token::new("hf_wrong");
    let (error, hint) = place.refusal();
    assert!(error.ends_with("Bearer … is not in the authorized list"), "{error}");
    assert!(hint.contains("HF_TOKEN") && hint.contains(REPO), "{hint}");
    let told = format!("{error}{hint}{:?}{:?}", place.settings, place.pull());
    assert!(!told.contains("hf_wrong"), "{told}");
}

#[test]
fn a_repo_that_is_private_or_not_there_says_both() {
    let mut place = Place::new();
    let mut request = place.request();
    request.model = "some-org/tiny-lama".into();
    let error = pull(&request, &mut |_| ()).unwrap_err();
    assert_eq!(error.to_string(), format!("`some-org/tiny-lama` is not on {}, or it is private", place.server.url));
    assert!(error.hint().unwrap().contains("HF_TOKEN"));
    place.server.state().private = true;
    place.server.state().gated = Some("hf_right".into());
    assert!(place.refusal().0.ends_with("or it is private"));
    place.settings.token = Token::new("hf_right");
    place.pull().unwrap();
}

#[test]
fn a_renamed_repo_is_followed() {
    let place = Place::new();
    place.server.state().old_name = Some("old/name".into());
    let mut request = place.request();
    request.model = "old/name".into();
    let folder = pull(&request, &mut |_| ()).unwrap();
    assert!(folder.ends_with("base/name"));
}

#[test]
fn a_busy_hub_is_asked_again_and_one_that_stays_so_is_named() {
    let place = Place::new();
    place.server.state().refuse = [("/api/", 503), ("/api/", 429), ("/resolve/", 500), ("/store/", 502)]
        .map(|(path, status)| (path.into(), status))
        .to_vec();
    place.pull().unwrap();
    fs::remove_dir_all(place.dir.path().join("base")).unwrap();
    place.server.state().refuse = vec![("/api/".into(), 503); 5];
    let (error, hint) = place.refusal();
    assert_eq!(error, format!("`[HUB]/api/models/{REPO}/revision/main` answered 503"));
    assert!(hint.starts_with("try again later"), "{hint}");
    // A refusal of the storage does not show the signature.
    fs::remove_dir_all(&place.settings.cache).unwrap();
    place.server.state().refuse = vec![("/store/".into(), 403)];
    let (error, _) = place.refusal();
    assert!(error.ends_with("/store/tokenizer.json` answered 403"), "{error}");
}

#[test]
fn a_mirror_whose_list_has_no_hashes_is_asked_for_each_file() {
    let place = Place::sharded();
    place.server.state().bare_list = true;
    place.pull().unwrap();
    let heads: Vec<_> = place.server.take_seen().into_iter().filter(|seen| seen.method == "HEAD").collect();
    assert!(heads.iter().any(|seen| seen.path.ends_with(SECOND)));
    assert!(heads.iter().all(|seen| seen.at == "hub"), "{heads:?}");
}

#[test]
fn other_architectures_are_refused_before_their_weights() {
    let place = Place::of(|model| {
        let config = json!({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"});
        write_file(&model.join("config.json"), config.to_string().as_bytes()).unwrap();
    });
    let (error, hint) = place.refusal();
    assert_eq!(
        error,
        format!(
            "`{REPO}` is not a model that afina can use: config.json: architecture `Qwen2ForCausalLM` is not supported, \
             expected `LlamaForCausalLM`"
        )
    );
    assert!(hint.contains("SmolLM2"), "{hint}");
    let seen: Vec<_> = place.server.take_seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(seen.len(), 2, "{seen:?}");
}

#[test]
fn pickled_weights_are_refused_with_the_way_out() {
    let place = Place::of(|model| fs::remove_file(model.join(WHOLE)).unwrap());
    let (error, hint) = place.refusal();
    assert_eq!(error, format!("`{REPO}` has only pickled weights (`pytorch_model.bin`)"));
    assert!(
        hint.contains("any code") && hint.contains("save_pretrained") && hint.contains("afina pull converted"),
        "{hint}"
    );
    assert!(stored(&place.server.take_seen()).is_empty());
}

#[test]
fn repos_of_something_else_say_what_they_hold() {
    let place = Place::new();
    {
        let mut state = place.server.state();
        state.files.remove("config.json");
        state.files.insert("tiny.Q8_0.gguf".into(), vec![1]);
    }
    let (error, hint) = place.refusal();
    assert_eq!(error, format!("`{REPO}` has no `config.json`: it holds GGUF files"));
    assert!(hint.contains("afina pull FILE.gguf"), "{hint}");
}

#[test]
fn names_that_lead_out_of_the_folder_make_a_repo_refused() {
    for name in ["../config.json", "/etc/passwd", "a/../../x", "..\\x", "C:\\x"] {
        let place = Place::new();
        place.server.state().listed_too = vec![name.into()];
        assert_eq!(place.refusal().0, format!("`{REPO}` has a file `{name}`, whose name leads out of its folder"));
        assert_eq!(place.server.take_seen().len(), 1);
    }
}

#[test]
fn an_index_that_cannot_be_is_refused_before_its_shards() {
    let change = |change: fn(&mut serde_json::Map<String, serde_json::Value>)| {
        let place = Place::sharded();
        let mut index: serde_json::Value = serde_json::from_slice(&place.content(WEIGHTS_INDEX)).unwrap();
        change(index["weight_map"].as_object_mut().unwrap());
        place.server.state().files.insert(WEIGHTS_INDEX.into(), index.to_string().into_bytes());
        let (error, _) = place.refusal();
        let seen = stored(&place.server.take_seen());
        assert!(seen.iter().all(|(name, _)| !name.ends_with(".safetensors")), "{seen:?}");
        error
    };
    for trick in ["../../x.safetensors", "/x.safetensors"] {
        let place = Place::sharded();
        let index = json!({"weight_map": {"model.norm.weight": trick}}).to_string();
        place.server.state().files.insert(WEIGHTS_INDEX.into(), index.into_bytes());
        let (error, _) = place.refusal();
        assert!(error.ends_with(&format!("names the shard `{trick}`, which is not a plain file name")), "{error}");
    }
    let error = change(|map| map["model.norm.weight"] = json!("model-00004-of-00003.safetensors"));
    assert!(
        error.ends_with("names the shard `model-00004-of-00003.safetensors`, which the repo does not have"),
        "{error}"
    );
    let error = change(|map| map.retain(|name, _| name != "model.norm.weight"));
    assert!(error.ends_with("names no shard for tensor `model.norm.weight`"), "{error}");
}

#[test]
fn weights_of_another_model_are_refused_and_no_folder_is_left() {
    let place = Place::of(|model| {
        let mut config = read_json(&model.join("config.json")).unwrap();
        config["num_key_value_heads"] = json!(4);
        write_file(&model.join("config.json"), config.to_string().as_bytes()).unwrap();
    });
    let (error, _) = place.refusal();
    let place_in_cache =
        format!("`[DIR]/hf/hub/models--Some-Org--Tiny-Llama/snapshots/{COMMIT}` is not a usable model folder");
    assert!(error.starts_with(&place_in_cache) && error.contains("k_proj.weight`: expected shape"), "{error}");
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

#[test]
fn a_hub_that_is_not_there_is_named_with_the_ways_around() {
    let mut place = Place::new();
    place.settings.endpoint = "http://127.0.0.1:1/".into();
    let (error, hint) = place.refusal();
    assert!(
        error.starts_with(&format!("failed to reach `http://127.0.0.1:1/api/models/{REPO}/revision/main`: ")),
        "{error}"
    );
    assert!(hint.contains("HF_ENDPOINT") && hint.contains("HF_HUB_OFFLINE"), "{hint}");
    // The known model's repo is the hub's now, and its package is still there.
    for (model, source) in [("HuggingFaceTB/SmolLM2-135M-Instruct", None), ("smollm2", Some(Source::Hub))] {
        let mut request = place.request();
        (request.model, request.source) = (model.into(), source);
        let error = pull(&request, &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains("/api/models/HuggingFaceTB/SmolLM2-135M-Instruct/"), "{error}");
        assert!(error.hint().unwrap().contains("`afina pull smollm2-135m-instruct` brings it from pip"));
    }
}

#[test]
fn answers_that_are_none_of_a_hub_are_told() {
    let place = Place::new();
    place.server.state().commit = "../../x".into();
    let expected = format!("`[HUB]/api/models/{REPO}` gave no answer of a hub: expected a commit and a list of files");
    assert_eq!(place.refusal().0, expected);
    let mut request = place.request();
    (request.model, request.source) = ("a/b/c".into(), Some(Source::Hub));
    let error = pull(&request, &mut |_| ()).unwrap_err();
    assert!(error.is_usage() && error.to_string() == "`a/b/c` is not a repo's id", "{error}");
}

#[test]
fn settings_that_cannot_be_are_told_before_anybody_is_asked() {
    let mut place = Place::new();
    place.settings.token = Token::new("hf\tsecret");
    assert_eq!(place.refusal().0, "the access token has characters that no token has");
    for endpoint in ["hf-mirror.com", "", "ftp://hub", "not an address"] {
        place.settings.endpoint = endpoint.into();
        let (error, hint) = place.refusal();
        assert_eq!(error, format!("`{endpoint}` is not the address of a hub"));
        assert!(hint.contains("HF_ENDPOINT"), "{hint}");
    }
    assert!(place.server.take_seen().is_empty());
}

#[test]
fn two_processes_do_not_write_the_same_file() {
    let place = Place::new();
    let lock = place.blob(&sha256(&place.content(WHOLE))).with_extension("lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let held = File::create(&lock).unwrap();
    held.lock().unwrap();
    let (error, _) = place.refusal();
    assert_eq!(error, format!("another process is loading `{WHOLE}` into `[DIR]/hf/hub`"));
    drop(held);
    place.pull().unwrap();
}
