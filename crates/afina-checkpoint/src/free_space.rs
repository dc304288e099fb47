//! Whether a disk has room for what is to be written: looked at before hours of work, where it can be told.

use std::io;
use std::path::Path;

/// Fails with `StorageFull` where the disk of `path`, or of the nearest folder above it, has fewer free bytes.
///
/// A disk that compresses, a quota and who else writes are not seen: running out later is an error all the same.
pub(crate) fn require(path: &Path, bytes: u64) -> io::Result<()> {
    match free_bytes(path) {
        Some(free) if free < bytes => {
            let message = format!("{} are needed, {} are free", in_units(bytes), in_units(free));
            Err(io::Error::new(io::ErrorKind::StorageFull, message))
        }
        _ => Ok(()),
    }
}

/// What this user may still write; `None` where the system does not say.
#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let ancestors = path.ancestors().map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    // One that does not answer says that it has no blocks at all.
    let disk = ancestors.map(rustix::fs::statvfs).find_map(Result::ok).filter(|disk| disk.f_blocks > 0)?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

fn in_units(bytes: u64) -> String {
    match bytes {
        1_000_000_000.. => format!("{:.2} GB", bytes as f64 / 1e9),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_yet_has_the_room_of_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        require(&path, 1).unwrap();
        let free = free_bytes(&path).unwrap();
        assert!(free > 0);
        let error = require(&path, u64::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().starts_with("18446744073.71 GB are needed, "), "{error}");
        require(Path::new("not there yet"), 1).unwrap();
    }
}
