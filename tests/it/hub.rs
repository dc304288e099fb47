//! `afina pull` from a hub on this machine, as a user sees it.

use std::collections::BTreeMap;
use std::path::Path;

use afina_checkpoint::{RawTensor, SafetensorsFile, write_file, write_tensors};
use expect_test::expect;

use crate::check::{run_cli, run_with_variables};
use crate::hub_server::HubServer;
use crate::tiny_model::model_dir;

const REPO: &str = "some-org/Tiny-Chat";

/// A hub with a model in two shards.
fn hub(dir: &Path) -> HubServer {
    let model = dir.join("model");
    model_dir(&model);
    let whole = SafetensorsFile::open(&model.join("model.safetensors")).unwrap();
    let tensors: Vec<RawTensor> = whole.names().iter().map(|name| whole.read(name).unwrap()).collect();
    std::fs::remove_file(model.join("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for (index, part) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
        let shard = format!("model-0000{}-of-00002.safetensors", index + 1);
        map.extend(part.iter().map(|tensor| (tensor.name.clone(), shard.clone().into())));
        write_tensors(&model.join(shard), part).unwrap();
    }
    let index = serde_json::json!({ "weight_map": map }).to_string();
    write_file(&model.join("model.safetensors.index.json"), index.as_bytes()).unwrap();
    let files: BTreeMap<_, _> = std::fs::read_dir(&model)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    HubServer::start(REPO, files)
}

fn pull(dir: &Path, server: &HubServer, variables: &[(&str, &str)]) -> String {
    let home = dir.join("hf");
    let mut all = vec![("HF_ENDPOINT", server.url.as_str()), ("HF_HOME", home.to_str().unwrap())];
    all.extend(variables);
    let seen = run_with_variables(dir, &["pull", REPO], &all).replace(&server.url, "[HUB]");
    match afina_checkpoint::ModelDir::open(&dir.join("checkpoints/base/tiny-chat")) {
        Ok(model) => seen.replace(&model.weights_sha256().unwrap()[..12], "[SHA]"),
        Err(_) => seen,
    }
}

#[test]
fn a_sharded_repo_is_pulled_and_answers_a_prompt() {
    let dir = tempfile::tempdir().unwrap();
    let server = hub(dir.path());
    // A line that breaks in the middle is nothing that a user sees.
    server.state().cuts = vec![1000];
    expect![[r#"
        exit 0
        --- stdout
        checkpoints/base/tiny-chat
          48288 parameters, weights sha256 [SHA]…
          next: afina info checkpoints/base/tiny-chat
        --- stderr
        from [HUB]/some-org/Tiny-Chat
        commit 0123456: 6 files, 209.15 kB
    "#]]
    .assert_eq(&pull(dir.path(), &server, &[]));
    let seen = run_cli(dir.path(), &["info", "checkpoints/base/tiny-chat"]);
    assert!(seen.starts_with("exit 0") && seen.contains(r#""source":"hub""#), "{seen}");
    let seen = run_cli(
        dir.path(),
        &["generate", "--model", "checkpoints/base/tiny-chat", "--prompt", "hola", "--max-tokens", "3"],
    );
    assert!(seen.starts_with("exit 0"), "{seen}");

    server.take_seen();
    let seen = pull(dir.path(), &server, &[("HF_HUB_OFFLINE", "1")]);
    assert!(seen.contains("already there, and every file matches its manifest"), "{seen}");
    assert!(server.take_seen().is_empty());
}

#[test]
fn a_gated_repo_says_how_to_get_in_and_keeps_the_token_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    let server = hub(dir.path());
    server.state().gated = Some("hf_right".into());
    expect![[r#"
        exit 1
        --- stderr
        from [HUB]/some-org/Tiny-Chat
        error: `some-org/Tiny-Chat` is gated: access is given on its page: Access to model is restricted. You must have access to it and be authenticated
        hint: ask for access on [HUB]/some-org/Tiny-Chat, then set HF_TOKEN or run `hf auth login`
    "#]]
    .assert_eq(&pull(dir.path(), &server, &[]));
    let seen = pull(dir.path(), &server, &[("HF_TOKEN", "hf_wrong")]);
    assert!(seen.starts_with("exit 1") && seen.contains("HF_TOKEN") && !seen.contains("hf_wrong"), "{seen}");
    // As a login leaves it.
    write_file(&dir.path().join("hf/token"), b"hf_right\n").unwrap();
    let seen = pull(dir.path(), &server, &[]);
    assert!(seen.starts_with("exit 0"), "{seen}");
}
