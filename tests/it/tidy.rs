//! The house is as its map says: crates, edges, file sizes, words that stay out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Committed and not yet committed files, without what git ignores.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(output.status.success(), "the tests run in a git checkout");
    String::from_utf8(output.stdout)
        .unwrap()
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(|name| root().join(name))
        .filter(|path| path.is_file())
        .collect()
}

/// Crate → the afina crates its `[dependencies]` name, both without the `afina-` prefix.
fn edges_of_manifests() -> BTreeMap<String, BTreeSet<String>> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.push(root().join("recipes"));
    folders
        .into_iter()
        .map(|folder| {
            let manifest: toml::Table = read(&folder.join("Cargo.toml")).parse().unwrap();
            let short = |name: &str| name.strip_prefix("afina-").unwrap_or(name).to_owned();
            let name = short(manifest["package"]["name"].as_str().unwrap());
            let edges = manifest["dependencies"]
                .as_table()
                .unwrap()
                .keys()
                .filter(|dependency| dependency.starts_with("afina-"))
                .map(|dependency| short(dependency))
                .collect();
            (name, edges)
        })
        .collect()
}

/// The table under "Edges" in crates/README.md: crate → allowed crates, and whether it may name burn.
fn edges_of_the_map() -> BTreeMap<String, (BTreeSet<String>, bool)> {
    let map = read(&root().join("crates/README.md"));
    let part = map.split("## Edges").nth(1).expect("crates/README.md has a part named Edges");
    let table = part.split("\n## ").next().expect("a text has a first part");
    let mut edges = BTreeMap::new();
    for line in table.lines().filter(|line| line.starts_with("| afina")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        for name in cells[0].split(',') {
            let tensors = name.contains('✻');
            let name = name.replace('✻', "").trim().to_owned();
            let name = name.strip_prefix("afina-").unwrap_or(&name).to_owned();
            let allowed = cells[1].split(',').map(|cell| cell.trim().to_owned()).filter(|cell| cell != "–").collect();
            edges.insert(name, (allowed, tensors));
        }
    }
    edges
}

#[test]
fn crates_use_only_what_the_map_allows() {
    let map = edges_of_the_map();
    let manifests = edges_of_manifests();
    assert_eq!(
        map.keys().collect::<Vec<_>>(),
        manifests.keys().collect::<Vec<_>>(),
        "the map lists every crate and no other"
    );
    for (name, used) in manifests {
        let (allowed, _) = &map[&name];
        if allowed.contains("all") {
            continue;
        }
        let extra: Vec<&String> = used.difference(allowed).collect();
        assert!(extra.is_empty(), "afina-{name} uses {extra:?}, which crates/README.md does not allow");
    }
}

#[test]
fn only_tensor_crates_name_burn() {
    let map = edges_of_the_map();
    for file in files().iter().filter(|path| path.ends_with("Cargo.toml")) {
        let manifest: toml::Table = read(file).parse().unwrap();
        let Some(name) = manifest.get("package").and_then(|package| package["name"].as_str()) else { continue };
        let names_burn = ["dependencies", "dev-dependencies"]
            .iter()
            .filter_map(|table| manifest.get(*table)?.as_table())
            .any(|table| table.keys().any(|dependency| dependency.starts_with("burn")));
        let short = name.strip_prefix("afina-").unwrap_or(name);
        let allowed = map.get(short).is_some_and(|(_, tensors)| *tensors);
        assert!(allowed || !names_burn, "{name} names burn");
    }
}

#[test]
fn no_file_is_larger_than_a_megabyte_and_no_source_longer_than_five_hundred_lines() {
    for path in files() {
        let size = std::fs::metadata(&path).unwrap().len();
        assert!(size <= 1_000_000 || path.ends_with("Cargo.lock"), "{}: {size} bytes", path.display());
        if path.extension().is_some_and(|extension| extension == "rs") {
            let lines = read(&path).lines().count();
            assert!(lines <= 500, "{}: {lines} lines", path.display());
        }
    }
}

#[test]
fn every_lib_is_a_table_of_contents() {
    for path in files().iter().filter(|path| path.ends_with("src/lib.rs")) {
        let text = read(path);
        assert!(text.starts_with("//!"), "{} opens with what the crate is", path.display());
        assert!(!text.contains("impl ") && !text.contains("fn "), "{} holds logic", path.display());
    }
}

#[test]
fn links_in_the_readmes_lead_somewhere() {
    for path in files().iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = read(path);
        for (_, rest) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let target = rest.split(')').next().unwrap().split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            assert!(path.parent().unwrap().join(target).exists(), "{}: `{target}` is not there", path.display());
        }
    }
}

#[test]
fn a_device_is_an_argument_and_never_the_default_one() {
    let forbidden = concat!("Device::", "default()");
    for path in files().iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        assert!(!read(path).contains(forbidden), "{} asks for the default device", path.display());
    }
}
