//! A scripted engine, a server on a loopback socket, and a client that sees the bytes.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    ops::ControlFlow,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use afina_chat::{Conversation, Message, Role};
use serde_json::{Value, json};

use crate::{
    ContinuationScore, Engine, EngineError, FinishReason, GenerateRequest, Generated, ModelCard, ScoreRequest, Scored,
    ServeOptions, StopHandle, router, serve, stop_signal,
};

/// A conversation of one question.
pub(crate) fn conversation(question: &str) -> Conversation {
    Conversation { messages: vec![Message::new(Role::User, question)], tools: None, parallel_tool_calls: None }
}

/// The body of a chat request to `base`, with more fields.
pub(crate) fn chat(more: Value) -> Value {
    let mut body = json!({"model": "base", "messages": [{"role": "user", "content": "hola"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Pretty JSON with ids, times and fingerprints made the same.
pub(crate) fn scrub(json: &str) -> String {
    let mut value: Value = serde_json::from_str(json).unwrap_or_else(|_| panic!("not JSON: {json}"));
    if let Some(object) = value.as_object_mut() {
        for (key, scrubbed) in
            [("id", json!("chatcmpl-SCRUBBED")), ("created", json!(0)), ("system_fingerprint", json!("fp_SCRUBBED"))]
        {
            if let Some(value) = object.get_mut(key) {
                *value = scrubbed;
            }
        }
    }
    serde_json::to_string_pretty(&value).unwrap()
}

/// An engine that says its pieces, one per token and an end token; a score is -0.5 per character and for the end token.
pub(crate) struct Script {
    pub(crate) pieces: Vec<String>,
    /// Returned behind the pieces without having gone through `on_text`.
    pub(crate) tail: String,
    pub(crate) finish_reason: FinishReason,
    pub(crate) panics_once: bool,
    pub(crate) fails: Option<EngineError>,
    pub(crate) gate: Option<EngineGate>,
    pub(crate) _watch: Option<Sender<()>>,
    pub(crate) requests: Arc<Mutex<Vec<GenerateRequest>>>,
}

impl Script {
    pub(crate) fn new<const N: usize>(pieces: [&str; N]) -> Script {
        Script {
            pieces: pieces.map(String::from).to_vec(),
            tail: String::new(),
            finish_reason: FinishReason::Stop,
            panics_once: false,
            fails: None,
            gate: None,
            _watch: None,
            requests: Arc::default(),
        }
    }

    /// Fails after `pieces` pieces `x`.
    pub(crate) fn failing_at(pieces: usize, error: EngineError) -> Script {
        Script { pieces: vec!["x".to_string(); pieces], fails: Some(error), ..Script::new([]) }
    }

    /// Waits for the gate before each piece; when the pieces are used up and the gate is not open, gives empty ones.
    pub(crate) fn gated(self) -> (Script, Gate) {
        let (permit, permits) = channel();
        let (result, results) = channel();
        let (start, started) = channel();
        (Script { gate: Some(EngineGate { permits, result, start }), ..self }, Gate { permit, results, started })
    }

    /// The receiver sees its sender go when the engine is dropped.
    pub(crate) fn watched(self) -> (Script, Receiver<()>) {
        let (watch, dropped) = channel();
        (Script { _watch: Some(watch), ..self }, dropped)
    }
}

pub(crate) struct EngineGate {
    permits: Receiver<()>,
    result: Sender<ControlFlow<()>>,
    start: Sender<()>,
}

/// Holds a gated engine by the hand.
pub(crate) struct Gate {
    permit: Sender<()>,
    results: Receiver<ControlFlow<()>>,
    started: Receiver<()>,
}

impl Gate {
    pub(crate) fn wait_started(&self) {
        self.started.recv().unwrap();
    }

    /// Lets one piece through.
    pub(crate) fn step(&self) {
        self.permit.send(()).unwrap();
        let _ = self.results.recv().unwrap();
    }

    /// Steps until the engine is told to break off.
    pub(crate) fn step_until_broken_off(&self) {
        let began = Instant::now();
        loop {
            self.permit.send(()).unwrap();
            if self.results.recv().unwrap().is_break() {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "the engine was never told to break off");
            thread::yield_now();
        }
    }

    /// From now on nothing waits.
    pub(crate) fn open(self) {}
}

impl Engine for Script {
    fn models(&self) -> Vec<ModelCard> {
        let card = |id: &str, parent: Option<&str>, sha256: &str| ModelCard {
            id: id.to_string(),
            created: 1_700_000_000,
            owned_by: "afina".to_string(),
            parent: parent.map(String::from),
            sha256: Some(sha256.to_string()),
        };
        vec![card("base", None, "11"), card("tuned", Some("base"), "22"), card("org/base", None, "33")]
    }

    fn generate(
        &mut self,
        request: &GenerateRequest,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generated, EngineError> {
        self.requests.lock().unwrap().push(request.clone());
        if std::mem::take(&mut self.panics_once) {
            panic!("scripted panic");
        }
        let mut generated = Generated {
            text: String::new(),
            finish_reason: self.finish_reason,
            prompt_tokens: 11,
            completion_tokens: 0,
        };
        if let Some(gate) = &self.gate {
            let _ = gate.start.send(());
        }
        let mut pieces = self.pieces.iter();
        loop {
            let open = self.gate.as_ref().is_none_or(|gate| gate.permits.recv().is_err());
            let piece = match pieces.next() {
                Some(piece) => piece.as_str(),
                None if open => break,
                None => "",
            };
            generated.text.push_str(piece);
            generated.completion_tokens += 1;
            let flow = on_text(piece);
            if let Some(gate) = &self.gate {
                let _ = gate.result.send(flow);
            }
            if flow.is_break() {
                return Ok(generated);
            }
        }
        if let Some(error) = &self.fails {
            return Err(error.clone());
        }
        generated.text.push_str(&self.tail);
        generated.completion_tokens += 1;
        Ok(generated)
    }

    fn score(&mut self, request: &ScoreRequest) -> Result<Scored, EngineError> {
        let scores = request.continuations.iter().map(|text| {
            let tokens: Vec<u32> = text.chars().map(u32::from).chain([0]).collect();
            ContinuationScore { logprob: -0.5 * tokens.len() as f64, token_logprobs: vec![-0.5; tokens.len()], tokens }
        });
        Ok(Scored { prompt_tokens: 11, scores: scores.collect() })
    }
}

/// A server on a free loopback port; it stops when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Option<StopHandle>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    requests: Arc<Mutex<Vec<GenerateRequest>>>,
}

impl Server {
    pub(crate) fn start(script: Script) -> Server {
        Server::start_with(script, |_| {})
    }

    pub(crate) fn start_with(script: Script, change: impl FnOnce(&mut ServeOptions)) -> Server {
        Server::launch(script, Duration::from_secs(30), change)
    }

    pub(crate) fn start_draining(script: Script, drain: Duration) -> Server {
        Server::launch(script, drain, |_| {})
    }

    fn launch(script: Script, drain: Duration, change: impl FnOnce(&mut ServeOptions)) -> Server {
        let requests = Arc::clone(&script.requests);
        let mut options = ServeOptions { api_key: None, queue_limit: 8, max_body_bytes: 1 << 20 };
        change(&mut options);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = stop_signal();
        let routes = router(script, options);
        let thread = thread::spawn(move || serve(listener, routes, stopped, drain));
        Server { address, stop: Some(stop), thread: Some(thread), requests }
    }

    pub(crate) fn stop(&mut self) -> JoinHandle<std::io::Result<()>> {
        self.stop.take().unwrap().stop();
        self.thread.take().unwrap()
    }

    /// The generations the engine was asked for.
    pub(crate) fn requests(&self) -> Vec<GenerateRequest> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.request("GET", path, "", "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(path, body).read()
    }

    pub(crate) fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> Reply {
        self.connect(method, path, headers, body).read()
    }

    /// Posts and does not wait for the answer.
    pub(crate) fn send(&self, path: &str, body: &Value) -> Client {
        self.connect("POST", path, "", &body.to_string())
    }

    fn connect(&self, method: &str, path: &str, headers: &str, body: &str) -> Client {
        let mut socket = TcpStream::connect(self.address).unwrap();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        write!(socket, "{head}{headers}Content-Length: {length}\r\n\r\n{body}").unwrap();
        Client { socket, received: Vec::new() }
    }

    /// The answer of whichever client gets one first.
    pub(crate) fn first_answer<const N: usize>(clients: [Client; N]) -> Reply {
        let (sender, answers) = channel();
        for client in clients {
            let sender = sender.clone();
            thread::spawn(move || sender.send(client.read()));
        }
        answers.recv().unwrap()
    }
}

/// A request under way; dropping it hangs up.
pub(crate) struct Client {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Client {
    /// Reads until the text has arrived; returns all that has.
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        loop {
            let received = String::from_utf8_lossy(&self.received).into_owned();
            if received.contains(text) {
                return received;
            }
            let mut buffer = [0; 4096];
            let length = self.socket.read(&mut buffer).unwrap();
            assert!(length > 0, "the server hung up after: {received}");
            self.received.extend_from_slice(&buffer[..length]);
        }
    }

    /// Reads the rest of the answer.
    pub(crate) fn read(mut self) -> Reply {
        self.socket.read_to_end(&mut self.received).unwrap();
        let end = self.received.windows(4).position(|window| window == b"\r\n\r\n").expect("headers");
        let head = String::from_utf8(self.received[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_string()))
            .collect();
        let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body = &self.received[end + 4..];
        let body = if chunked { unchunk(body) } else { body.to_vec() };
        Reply { status, headers, body: String::from_utf8(body).unwrap() }
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|window| window == b"\r\n").expect("a chunk's length");
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        if length == 0 {
            return body;
        }
        // Each event is one JSON text, so a chunk that split a character would not be UTF-8 here.
        std::str::from_utf8(&bytes[line + 2..line + 2 + length]).unwrap();
        body.extend_from_slice(&bytes[line + 2..line + 2 + length]);
        bytes = &bytes[line + 2 + length + 2..];
    }
}

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.body))
    }
}
