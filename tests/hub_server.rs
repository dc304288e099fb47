//! A hub on this machine that speaks Hugging Face's protocol, and the storage that it sends large files from: another port, so
//! another host to whoever keeps a token.
//!
//! It answers as the real one does (`huggingface_hub`'s `file_download.py` is where its clients say what they expect), and
//! fails as it is told to. Every request is written down.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};
use sha1::Digest;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

pub struct HubServer {
    pub url: String,
    state: Arc<Mutex<State>>,
}

/// What the hub has, and how it fails.
#[derive(Default)]
pub struct State {
    pub repo: String,
    pub commit: String,
    /// Name → content. Large files lie in the storage.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Names in the list that are no files.
    pub listed_too: Vec<String>,
    /// Whether the list has sizes and hashes, as `?blobs=true` asks for.
    pub bare_list: bool,
    /// An old name that is sent on to `repo`.
    pub old_name: Option<String>,
    /// Files are for this token alone.
    pub gated: Option<String>,
    /// The list, too.
    pub private: bool,
    /// Answers to give before any other: (part of the path, status).
    pub refuse: Vec<(String, u16)>,
    /// Storage answers break off after so many bytes, one after the other; then they are whole.
    pub cuts: Vec<usize>,
    /// A file of which another byte comes than is listed.
    pub wrong: Option<String>,
    /// A file that goes on behind its end.
    pub longer: Option<String>,
    pub ignores_range: bool,
    pub seen: Vec<Seen>,
    storage: String,
}

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `hub` or `storage`.
    pub at: &'static str,
    pub method: String,
    /// With its query.
    pub path: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
}

impl HubServer {
    pub fn start(repo: &str, files: BTreeMap<String, Vec<u8>>) -> HubServer {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let (hub, storage) = (listen(), listen());
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().expect("it listens"));
        let state =
            State { repo: repo.into(), commit: COMMIT.into(), files, storage: url(&storage), ..State::default() };
        let server = HubServer { url: url(&hub), state: Arc::new(Mutex::new(state)) };
        serve(hub, "hub", server.state.clone());
        serve(storage, "storage", server.state.clone());
        server
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test holds it and panics")
    }

    /// Every request so far; they are forgotten.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state().seen)
    }
}

fn serve(listener: TcpListener, at: &'static str, state: Arc<Mutex<State>>) {
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            // A client that goes away is no fault of the server.
            let _ = answer(socket, at, &state);
        }
    });
}

fn answer(mut socket: TcpStream, at: &'static str, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(&socket).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut words = first.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let seen = Seen {
        at,
        method,
        path,
        authorization: headers.get("authorization").cloned(),
        range: headers.get("range").cloned(),
    };
    let mut state = state.lock().expect("no test holds it and panics");
    state.seen.push(seen.clone());
    let refusal = state.refuse.iter().position(|(part, _)| seen.path.contains(part.as_str()));
    let answer = match refusal {
        Some(index) => {
            let (_, status) = state.refuse.remove(index);
            Answer::new(status).header("Content-Type", "text/html").body(b"<html>no</html>")
        }
        None if at == "storage" => state.stored(&seen),
        None if seen.path.starts_with("/api/models/") => state.info(&seen),
        None => state.resolve(&seen),
    };
    drop(state);
    answer.write(&mut socket, seen.method == "HEAD")
}

impl State {
    fn info(&self, seen: &Seen) -> Answer {
        let path = seen.path.trim_start_matches("/api/models/");
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let Some((repo, revision)) = path.split_once("/revision/") else { return Answer::new(404) };
        if self.old_name.as_deref() == Some(repo) {
            let location = format!("/api/models/{}/revision/{revision}?{query}", self.repo);
            return Answer::new(307).header("Location", location);
        }
        if repo != self.repo || self.private && !self.may_read(seen) {
            return refused(401, "RepoNotFound", "Repository not found");
        }
        if ![self.commit.as_str(), "main", "v1", "refs%2Fpr%2F3"].contains(&revision) {
            return refused(404, "RevisionNotFound", "Invalid rev id");
        }
        let mut siblings: Vec<Value> = self
            .files
            .iter()
            .map(|(name, content)| {
                if self.bare_list || query != "blobs=true" {
                    return json!({"rfilename": name});
                }
                let mut file = json!({"rfilename": name, "size": content.len(), "blobId": git_blob(content)});
                if is_large(name) {
                    file["lfs"] = json!({"sha256": sha256(content), "size": content.len(), "pointerSize": 134});
                    file["blobId"] = json!(git_blob(b"version https://git-lfs.github.com/spec/v1"));
                }
                file
            })
            .collect();
        siblings.extend(
            self.listed_too.iter().map(|name| json!({"rfilename": name, "size": 3, "blobId": git_blob(b"abc")})),
        );
        let info = json!({"_id": "1", "id": self.repo, "sha": self.commit, "gated": "manual", "siblings": siblings});
        Answer::new(200).header("Content-Type", "application/json").body(info.to_string().as_bytes())
    }

    fn resolve(&self, seen: &Seen) -> Answer {
        let path = seen.path.trim_start_matches('/');
        let Some((repo, rest)) = path.split_once("/resolve/") else { return Answer::new(404) };
        if repo != self.repo && self.old_name.as_deref() != Some(repo) {
            return refused(401, "RepoNotFound", "Repository not found");
        }
        let Some((revision, name)) = rest.split_once('/') else { return Answer::new(404) };
        if self.old_name.as_deref() == Some(repo) {
            return Answer::new(307).header("Location", format!("/{}/resolve/{revision}/{name}", self.repo));
        }
        if self.gated.is_some() && !self.may_read(seen) {
            let (status, said) = match &seen.authorization {
                // A server that says back what it was sent.
                Some(sent) => (403, format!("{sent} is not in the authorized list")),
                None => (401, "Access to model is restricted. You must have access to it and be authenticated".into()),
            };
            return refused(status, "GatedRepo", &said);
        }
        let Some(content) = self.files.get(name) else {
            return refused(404, "EntryNotFound", "Entry not found");
        };
        if is_large(name) {
            return Answer::new(302)
                .header("Location", format!("{}/store/{name}?X-Amz-Signature=s1gned", self.storage))
                .header("X-Repo-Commit", &self.commit)
                .header("X-Linked-Size", content.len())
                .header("X-Linked-Etag", format!("\"{}\"", sha256(content)))
                .header("ETag", format!("\"{}\"", git_blob(content)));
        }
        self.content(seen, name, content)
            .header("X-Repo-Commit", &self.commit)
            .header("ETag", format!("\"{}\"", git_blob(content)))
    }

    fn stored(&mut self, seen: &Seen) -> Answer {
        // As S3 does where a request is signed twice.
        if seen.authorization.is_some() {
            return Answer::new(400).body(b"<Error><Code>InvalidArgument</Code></Error>");
        }
        let name = seen.path.trim_start_matches("/store/").split('?').next().unwrap_or_default();
        let Some(content) = self.files.get(name) else { return Answer::new(404) };
        let mut answer = self.content(seen, name, content);
        if !self.cuts.is_empty() {
            answer.cut = Some(self.cuts.remove(0));
        }
        answer
    }

    fn content(&self, seen: &Seen, name: &str, content: &[u8]) -> Answer {
        let mut content = content.to_vec();
        if self.wrong.as_deref() == Some(name) {
            *content.last_mut().expect("only files with content are made wrong") ^= 1;
        }
        if self.longer.as_deref() == Some(name) {
            content.extend([0; 1000]);
        }
        let from = seen.range.as_ref().and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
        match from {
            Some(from) if !self.ignores_range && from < content.len() => Answer::new(206)
                .header("Content-Range", format!("bytes {from}-{}/{}", content.len() - 1, content.len()))
                .body(&content[from..]),
            Some(_) if !self.ignores_range => Answer::new(416),
            _ => Answer::new(200).body(&content),
        }
    }

    fn may_read(&self, seen: &Seen) -> bool {
        let token = self.gated.as_ref().map(|token| format!("Bearer {token}"));
        seen.authorization == token
    }
}

fn refused(status: u16, code: &str, message: &str) -> Answer {
    Answer::new(status).header("X-Error-Code", code).header("X-Error-Message", message)
}

struct Answer {
    head: String,
    body: Vec<u8>,
    /// Break off after so many bytes of the body.
    cut: Option<usize>,
}

impl Answer {
    fn new(status: u16) -> Answer {
        Answer { head: format!("HTTP/1.1 {status} X\r\n"), body: Vec::new(), cut: None }
    }

    fn header(mut self, name: &str, value: impl std::fmt::Display) -> Answer {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    fn body(mut self, body: &[u8]) -> Answer {
        self.body = body.to_vec();
        self
    }

    fn write(mut self, socket: &mut TcpStream, head_alone: bool) -> std::io::Result<()> {
        self.head += &format!("Content-Length: {}\r\nConnection: close\r\n\r\n", self.body.len());
        socket.write_all(self.head.as_bytes())?;
        if !head_alone {
            socket.write_all(&self.body[..self.cut.unwrap_or(self.body.len()).min(self.body.len())])?;
        }
        socket.flush()
    }
}

/// Files that the hub keeps in its large storage.
fn is_large(name: &str) -> bool {
    [".safetensors", ".bin", "tokenizer.json"].iter().any(|end| name.ends_with(end))
}

pub fn sha256(content: &[u8]) -> String {
    hex(&sha2::Sha256::digest(content))
}

/// What `git hash-object` says.
pub fn git_blob(content: &[u8]) -> String {
    hex(&sha1::Sha1::new_with_prefix(format!("blob {}\0", content.len())).chain_update(content).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
