//! A scripted client, routes around it, and a small HTTP server.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    rc::Rc,
    sync::mpsc::{Receiver, channel},
    thread,
};

use afina_chat::Conversation;

use crate::{
    client::{ChatClient, ChatReply, ClientError, Clients, ScoreReply, Usage},
    routes::Routes,
};

/// Agents `recepcion` (the default), `ventas`, `envios` and `legal` over a model `m`, and what is given.
pub(crate) fn routes(more: &str) -> Routes {
    let text = format!(
        "version = 1\ndefault = \"recepcion\"\n{more}\n[models.m]\nurl = \"http://localhost/v1\"\nmodel = \"id-of-m\"\n\
         [agents.recepcion]\nmodel = \"m\"\n[agents.envios]\nmodel = \"m\"\n[agents.legal]\nmodel = \"m\"\n\
         [agents.ventas]\nmodel = \"m\"\nsystem = \"Vendes.\"\nmax_tokens = 50\n"
    );
    Routes::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// The client for every call of model `m`.
pub(crate) fn clients(scripted: Scripted) -> Clients {
    let client: Box<dyn ChatClient> = Box::new(scripted);
    Clients::from([("m".to_string(), client)])
}

/// Gives what it was told to, in order; 100 prompt tokens each, 7 for an answer, 9 for scores.
#[derive(Default)]
pub(crate) struct Scripted {
    answers: RefCell<VecDeque<String>>,
    scores: RefCell<VecDeque<Vec<f64>>>,
    seen: Rc<RefCell<Vec<String>>>,
}

impl Scripted {
    pub(crate) fn new() -> Scripted {
        Scripted::default()
    }

    pub(crate) fn answers<const N: usize>(self, answers: [&str; N]) -> Scripted {
        self.answers.borrow_mut().extend(answers.map(String::from));
        self
    }

    pub(crate) fn scores<const N: usize>(self, scores: [f64; N]) -> Scripted {
        self.scores.borrow_mut().push_back(scores.to_vec());
        self
    }

    /// What it was asked, a line a call.
    pub(crate) fn seen(&self) -> Rc<RefCell<Vec<String>>> {
        Rc::clone(&self.seen)
    }

    fn note(&self, kind: &str, model: &str, conversation: &Conversation, more: &str) {
        let messages: Vec<String> =
            conversation.messages.iter().map(|message| format!("{}:{}", message.role, message.text())).collect();
        self.seen.borrow_mut().push(format!("{kind} {model} {} {more}", messages.join(" ")));
    }
}

fn usage(completion_tokens: usize) -> Usage {
    Usage { prompt_tokens: 100, completion_tokens, total_tokens: 100 + completion_tokens }
}

fn used_up() -> ClientError {
    ClientError::Status { url: "scripted".to_string(), status: 500, message: "the script is used up".to_string() }
}

impl ChatClient for Scripted {
    fn chat(
        &self,
        model: &str,
        conversation: &Conversation,
        max_tokens: Option<usize>,
        _temperature: f32,
    ) -> Result<ChatReply, ClientError> {
        let max = max_tokens.map_or("max none".to_string(), |max| format!("max {max}"));
        self.note("chat", model, conversation, &max);
        let text = self.answers.borrow_mut().pop_front().ok_or_else(used_up)?;
        Ok(ChatReply { text, finish_reason: "stop".to_string(), usage: usage(7) })
    }

    fn score(
        &self,
        model: &str,
        conversation: &Conversation,
        continuations: &[String],
    ) -> Result<ScoreReply, ClientError> {
        self.note("score", model, conversation, &format!("[{}]", continuations.join("|")));
        let logprobs = self.scores.borrow_mut().pop_front().ok_or_else(used_up)?;
        Ok(ScoreReply { logprobs, usage: usage(9) })
    }
}

/// Answers one request after the other, each on a connection of its own, with `STATUS BODY`; returns the base url and
/// the requests as they came.
pub(crate) fn http_server(answers: &[&str]) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
    thread::spawn(move || {
        for answer in answers {
            let (mut socket, _) = listener.accept().unwrap();
            sender.send(read_request(&mut socket)).unwrap();
            let (status, body) = answer.split_once(' ').unwrap();
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nRetry-After: 0\r\n", body.len());
            write!(socket, "{head}Connection: close\r\n\r\n{body}").unwrap();
        }
    });
    (url, requests)
}

fn read_request(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let length = socket.read(&mut buffer).unwrap();
        request.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let wanted = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map(|n| n.parse().unwrap());
        if wanted.is_some_and(|wanted: usize| body.len() >= wanted) || body.ends_with("0\r\n\r\n") || length == 0 {
            return text;
        }
    }
}
