//! A record on its way into OpenAI's format.

use std::collections::VecDeque;

use afina_chat::Role;

#[derive(Default)]
pub(super) struct Draft {
    pub(super) messages: Vec<Message>,
    /// Each as JSON.
    pub(super) tools: Vec<Vec<u8>>,
    pub(super) parallel_tool_calls: Option<bool>,
    /// Preferred and not preferred; the messages are their prompt then.
    pub(super) outputs: Option<[Vec<Message>; 2]>,
    /// Images that stand beside the messages and wait for their place in a text.
    pub(super) images: VecDeque<String>,
    /// Calls without an answer yet: id and name.
    open: Vec<(String, String)>,
    ids_made: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) role: Role,
    pub(super) content: Option<Content>,
    pub(super) name: Option<String>,
    pub(super) refusal: Option<String>,
    pub(super) tool_calls: Vec<Call>,
    pub(super) tool_call_id: Option<String>,
    /// Trained or not, where the source says so.
    pub(super) weight: Option<bool>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    Refusal(String),
    Image { url: String, detail: Option<String> },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    /// A JSON object, as text.
    pub(super) arguments: String,
}

/// A call as the source has it.
pub(super) struct FoundCall {
    pub(super) id: Option<String>,
    pub(super) name: String,
    pub(super) arguments: String,
}

impl Message {
    pub(super) fn new(role: Role, content: Option<Content>) -> Message {
        Message { role, content, name: None, refusal: None, tool_calls: Vec::new(), tool_call_id: None, weight: None }
    }

    pub(super) fn text(role: Role, text: impl Into<String>) -> Message {
        Message::new(role, Some(Content::Text(text.into())))
    }
}

impl Content {
    /// One text is a string, nothing is nothing.
    pub(super) fn of(mut parts: Vec<Part>) -> Option<Content> {
        match parts.as_mut_slice() {
            [] => None,
            [Part::Text(text)] => Some(Content::Text(std::mem::take(text))),
            _ => Some(Content::Parts(parts)),
        }
    }
}

impl Draft {
    /// Adds a message that calls these tools. Calls right behind a text of the assistant become part of its message.
    pub(super) fn push_calls(&mut self, mut message: Message, calls: Vec<FoundCall>) {
        self.open.clear();
        for FoundCall { id, name, arguments } in calls {
            let id = id.unwrap_or_else(|| self.new_id(&message));
            self.open.push((id.clone(), name.clone()));
            message.tool_calls.push(Call { id, name, arguments });
        }
        match self.messages.last_mut() {
            Some(last)
                if last.role == Role::Assistant
                    && message.content.is_none()
                    && !message.tool_calls.is_empty()
                    && (last.weight == message.weight || message.weight.is_none()) =>
            {
                last.tool_calls.append(&mut message.tool_calls);
                self.open = last.tool_calls.iter().map(|call| (call.id.clone(), call.name.clone())).collect();
            }
            _ => self.messages.push(message),
        }
    }

    fn new_id(&mut self, message: &Message) -> String {
        loop {
            self.ids_made += 1;
            let id = format!("call_{}", self.ids_made);
            let mut calls = self.messages.iter().chain([message]).flat_map(|message| &message.tool_calls);
            if !calls.any(|call| call.id == id) {
                return id;
            }
        }
    }

    /// How many calls wait for their answer.
    pub(super) fn open_calls(&self) -> usize {
        self.open.len()
    }

    /// Adds the answer of a tool. Where it has no id it belongs to the first open call, of that name if there is a
    /// name. False: there is none.
    pub(super) fn push_result(&mut self, id: Option<String>, name: Option<&str>, text: String) -> bool {
        let found = match &id {
            Some(id) => self.open.iter().position(|(open, _)| open == id),
            None => self.open.iter().position(|(_, open)| name.is_none_or(|name| open == name)),
        };
        let of_call = found.map(|at| self.open.remove(at).0);
        let Some(id) = id.or(of_call) else { return false };
        let mut message = Message::text(Role::Tool, text);
        message.tool_call_id = Some(id);
        self.messages.push(message);
        true
    }

    /// Puts the images that no text has a place for before the first user message's text.
    pub(super) fn place_images(&mut self) -> bool {
        if self.images.is_empty() {
            return true;
        }
        let Some(user) = self.messages.iter_mut().find(|message| message.role == Role::User) else { return false };
        let mut parts: Vec<Part> = self.images.drain(..).map(|url| Part::Image { url, detail: None }).collect();
        match user.content.take() {
            Some(Content::Text(text)) => parts.push(Part::Text(text)),
            Some(Content::Parts(more)) => parts.extend(more),
            None => {}
        }
        user.content = Some(Content::Parts(parts));
        true
    }
}
