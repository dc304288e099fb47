//! What goes wrong on the way: lines that break, servers that are busy, bytes that are others.

use super::*;

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
