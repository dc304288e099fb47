//! Who may read what, and which repos are refused before their weights are loaded.

use super::*;

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
fn quantization_that_is_not_read_is_refused_before_the_weights() {
    let place = Place::of(|model| {
        let path = model.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config["quantization_config"] = json!({"quant_method": "hqq"});
        write_file(&path, config.to_string().as_bytes()).unwrap();
    });
    let (error, hint) = place.refusal();
    assert_eq!(
        error,
        format!(
            "`{REPO}` is quantized in a way that afina does not read: weights quantized with `hqq` are not read, expected \
             bitsandbytes nf4, gptq or awq"
        )
    );
    assert!(hint.contains("unquantized"), "{hint}");
    assert_eq!(place.server.take_seen().len(), 2);
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
