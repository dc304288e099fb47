//! Whether two paths lead to one file: nobody writes what he reads.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use crate::atomic::file_behind;

/// Whether two paths lead to one file, or will once it is written.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one_is), Ok(other_is)) if is_one_file(&one_is, &other_is) => true,
        _ => place(one).is_some_and(|one| Some(one) == place(other)),
    }
}

/// Two names of a file, by links of either sort.
#[cfg(unix)]
fn is_one_file(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_one_file(_: &Metadata, _: &Metadata) -> bool {
    false
}

/// The full path of a file that need not be there yet.
fn place(path: &Path) -> Option<PathBuf> {
    let target = file_behind(path).ok()?;
    if let Ok(whole) = target.canonicalize() {
        return Some(whole);
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(folder.canonicalize().ok()?.join(target.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic::write_file;

    #[test]
    fn a_file_is_known_by_all_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write_file(&at("data/a.jsonl"), b"{}\n").unwrap();
        write_file(&at("data/b.jsonl"), b"{}\n").unwrap();
        assert!(is_same_file(&at("data/a.jsonl"), &at("data/../data/./a.jsonl")));
        assert!(!is_same_file(&at("data/a.jsonl"), &at("data/b.jsonl")));
        assert!(is_same_file(&at("new.jsonl"), &at("data/../new.jsonl")));
        assert!(!is_same_file(&at("new.jsonl"), &at("data/new.jsonl")));
        #[cfg(unix)]
        {
            std::fs::hard_link(at("data/a.jsonl"), at("hard.jsonl")).unwrap();
            std::os::unix::fs::symlink("data/a.jsonl", at("soft.jsonl")).unwrap();
            std::os::unix::fs::symlink("new.jsonl", at("dangling.jsonl")).unwrap();
            assert!(is_same_file(&at("data/a.jsonl"), &at("hard.jsonl")));
            assert!(is_same_file(&at("hard.jsonl"), &at("soft.jsonl")));
            assert!(is_same_file(&at("dangling.jsonl"), &at("new.jsonl")));
        }
    }
}
