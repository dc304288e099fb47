//! A file or folder is complete or absent: written aside, flushed to disk, then renamed.
//!
//! Everyone who writes a file of this project goes through here. What is aside lies beside its target under a name
//! `.<target>.<process id>-<n>.partial`; it is removed when the value is dropped without `commit`, and what a killed
//! process left is removed the next time somebody writes the same target.
//!
//! A file takes the place of a file only: a link is followed to what it points at, and a folder, a device or a pipe is
//! refused, for a rename would put a file where it was.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Replaces the file at `path` with `bytes`, or leaves it as it was. Missing parent folders are made.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// A file being written aside; `commit` puts it in place, dropping it removes it.
#[derive(Debug)]
pub struct AtomicFile {
    file: BufWriter<File>,
    aside: Aside,
}

impl AtomicFile {
    /// Starts a file that will be at `path`, or where `path` points if it is a link. Missing parent folders are made.
    ///
    /// Fails with `InvalidInput` where there is something else than a file.
    pub fn create(path: &Path) -> io::Result<AtomicFile> {
        let aside = Aside::new(&file_behind(path)?)?;
        let file = File::options().write(true).create_new(true).open(&aside.temporary)?;
        Ok(AtomicFile { file: BufWriter::with_capacity(1 << 20, file), aside })
    }

    /// Flushes the file to disk and renames it to its path, replacing what was there.
    pub fn commit(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        refuse_others(&self.aside.target)?;
        self.aside.rename()
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Where a file that is written to `path` goes: the end of the links that begin there.
pub fn file_behind(path: &Path) -> io::Result<PathBuf> {
    const MAX_LINKS: usize = 40; // Linux's own limit
    refuse_others(path)?;
    let mut target = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&target) {
            Ok(link) => target = parent(&target).join(link),
            // Not a link, or nothing yet.
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a file, found links without an end"))
}

/// Fails with `InvalidInput` where a path leads to something that is no file.
fn refuse_others(path: &Path) -> io::Result<()> {
    let found = match fs::metadata(path) {
        Ok(found) if found.is_file() => return Ok(()),
        Ok(found) if found.is_dir() => "a folder",
        Ok(_) => "a device, a pipe or a socket",
        // Whatever else is wrong with the path, opening the file will say.
        Err(_) => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("expected a file, found {found}")))
}

/// A folder being built aside; `commit` puts it in place, dropping it removes it.
#[derive(Debug)]
pub struct AtomicDir {
    aside: Aside,
}

impl AtomicDir {
    /// Starts a folder that will be at `path`. Missing parent folders are made.
    pub fn create(path: &Path) -> io::Result<AtomicDir> {
        let aside = Aside::new(path)?;
        fs::create_dir(&aside.temporary)?;
        Ok(AtomicDir { aside })
    }

    /// As [`AtomicDir::create`], but fails at once with `AlreadyExists` where `commit` would fail in the end.
    pub fn create_new(path: &Path) -> io::Result<AtomicDir> {
        let free = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if free { AtomicDir::create(path) } else { Err(taken()) }
    }

    /// Where to write the folder's files until `commit`.
    pub fn path(&self) -> &Path {
        &self.aside.temporary
    }

    /// Renames the folder to its path. Fails with `AlreadyExists` if something other than an empty folder is there.
    pub fn commit(mut self) -> io::Result<()> {
        if fs::read_dir(&self.aside.target).is_ok_and(|mut entries| entries.next().is_none()) {
            fs::remove_dir(&self.aside.target)?;
        }
        if fs::symlink_metadata(&self.aside.target).is_ok() {
            return Err(taken());
        }
        self.aside.rename()
    }

    /// Renames the folder to its path; a folder that was there is removed afterwards.
    pub fn commit_replacing(mut self) -> io::Result<()> {
        if fs::symlink_metadata(&self.aside.target).is_err() {
            return self.aside.rename();
        }
        let old = Aside::new(&self.aside.target)?; // removed when dropped
        fs::rename(&self.aside.target, &old.temporary)?;
        self.aside.rename()
    }
}

/// A temporary name beside a target.
#[derive(Debug)]
struct Aside {
    target: PathBuf,
    temporary: PathBuf,
    committed: bool,
}

impl Aside {
    fn new(target: &Path) -> io::Result<Aside> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let name = target
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a path that ends in a name is needed"))?;
        let parent = parent(target);
        fs::create_dir_all(parent)?;
        remove_abandoned(parent, name);
        let mut temporary = OsString::from(".");
        temporary.push(name);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        temporary.push(format!(".{}-{count}.partial", std::process::id()));
        Ok(Aside { target: target.into(), temporary: parent.join(temporary), committed: false })
    }

    fn rename(&mut self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.target)?;
        self.committed = true;
        // The rename itself must reach the disk; not every file system lets a folder be opened and synced.
        if let Ok(folder) = File::open(parent(&self.target)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.committed {
            remove(&self.temporary);
        }
    }
}

fn taken() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "something is there already")
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn remove(path: &Path) {
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

/// Removes what processes that no longer run left aside for `name`. Only where the system lists processes in `/proc`.
fn remove_abandoned(parent: &Path, name: &std::ffi::OsStr) {
    if !Path::new("/proc/self").exists() {
        return;
    }
    let prefix = format!(".{}.", name.to_string_lossy());
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let file_name = entry.file_name();
        let process = file_name
            .to_str()
            .and_then(|text| text.strip_prefix(&prefix)?.strip_suffix(".partial")?.split_once('-'))
            .and_then(|(process, _)| process.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists()) {
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn file_appears_whole_and_replaces_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/folder/a.txt");
        write_file(&path, b"one").unwrap();
        write_file(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(path.parent().unwrap()), ["a.txt"]);
    }

    #[test]
    fn dropped_file_leaves_the_old_one_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write_file(&path, b"one").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert_eq!(names(dir.path()).len(), 2);
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(names(dir.path()), ["a.txt"]);
    }

    #[test]
    #[cfg(unix)]
    fn a_link_is_followed_and_stays_a_link() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("data")).unwrap();
        write_file(&at("data/real.txt"), b"one").unwrap();
        symlink("data/real.txt", at("first")).unwrap();
        symlink(at("first"), at("second")).unwrap();
        symlink("data/new.txt", at("dangling")).unwrap();
        write_file(&at("second"), b"two").unwrap();
        write_file(&at("dangling"), b"new").unwrap();
        assert_eq!(fs::read(at("data/real.txt")).unwrap(), b"two");
        assert_eq!(fs::read(at("data/new.txt")).unwrap(), b"new");
        for link in ["first", "second", "dangling"] {
            assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link}");
        }
        symlink(at("round"), at("again")).unwrap();
        symlink(at("again"), at("round")).unwrap();
        assert_eq!(write_file(&at("round"), b"x").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    #[cfg(unix)]
    fn what_is_no_file_is_refused_and_stays_what_it_is() {
        use std::os::unix::{fs::FileTypeExt, net::UnixListener};
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let _listening = UnixListener::bind(&socket).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        for path in [&socket, &link] {
            let error = write_file(path, b"x").unwrap_err();
            assert_eq!(error.to_string(), "expected a file, found a device, a pipe or a socket");
            assert!(fs::metadata(path).unwrap().file_type().is_socket());
        }
        let error = write_file(dir.path(), b"x").unwrap_err();
        assert_eq!(error.to_string(), "expected a file, found a folder");
        // Nor is it replaced where it came after the file was begun.
        let late = dir.path().join("late");
        let file = AtomicFile::create(&late).unwrap();
        fs::create_dir(&late).unwrap();
        assert!(file.commit().is_err() && late.is_dir());
        assert_eq!(names(dir.path()), ["late", "link", "socket"]);
    }

    #[test]
    fn dropped_folder_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = AtomicDir::create(&dir.path().join("model")).unwrap();
        write_file(&folder.path().join("config.json"), b"{}").unwrap();
        drop(folder);
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn folder_is_not_put_over_another_unless_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        for (text, replace) in [("one", false), ("two", false), ("three", true)] {
            assert_eq!(AtomicDir::create_new(&path).is_err(), text != "one");
            let folder = AtomicDir::create(&path).unwrap();
            write_file(&folder.path().join("a"), text.as_bytes()).unwrap();
            let result = if replace { folder.commit_replacing() } else { folder.commit() };
            match text {
                "two" => assert_eq!(result.unwrap_err().kind(), io::ErrorKind::AlreadyExists),
                _ => result.unwrap(),
            }
            assert_eq!(names(dir.path()), ["model"]);
        }
        assert_eq!(fs::read(path.join("a")).unwrap(), b"three");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_a_killed_process_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let abandoned = dir.path().join(".model.4294967294-0.partial");
        write_file(&abandoned.join("half"), b"x").unwrap();
        AtomicDir::create(&dir.path().join("model")).unwrap().commit().unwrap();
        assert_eq!(names(dir.path()), ["model"]);
    }
}
