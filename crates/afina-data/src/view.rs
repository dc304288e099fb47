//! A record's messages as the rules look at them: keys found once, roles understood, nothing assumed.

use afina_chat::Role;

use crate::{
    json::{Kind, Value},
    read::Method,
};

/// A list of messages and what it is for.
pub(crate) struct Turns<'t> {
    pub(crate) list: Value<'t>,
    /// Elements that are objects, with their index in the list.
    pub(crate) messages: Vec<Message<'t>>,
    pub(crate) purpose: Purpose,
    /// Every element is an object.
    pub(crate) whole: bool,
}

/// What a list of messages is for: which of its messages are trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Supervised fine-tuning: assistant messages are trained, unless their weight is 0.
    Train,
    /// A prompt of preference or reinforcement fine-tuning: nothing is trained.
    Prompt,
    /// An answer of preference fine-tuning: trained.
    Answer,
}

/// One message.
pub(crate) struct Message<'t> {
    pub(crate) index: usize,
    pub(crate) value: Value<'t>,
    pub(crate) role_value: Option<Value<'t>>,
    pub(crate) content: Option<Value<'t>>,
    pub(crate) name: Option<Value<'t>>,
    pub(crate) refusal: Option<Value<'t>>,
    pub(crate) weight: Option<Value<'t>>,
    pub(crate) tool_calls: Option<Value<'t>>,
    pub(crate) tool_call_id: Option<Value<'t>>,
    pub(crate) function_call: Option<Value<'t>>,
    /// The role, where it is one of OpenAI's.
    pub(crate) role: Option<Role>,
    /// The role that was meant: `role`, or what a name such as `human` or `Bot` stands for.
    pub(crate) meant: Option<Role>,
    /// Its tokens are learned.
    pub(crate) trained: bool,
}

impl<'t> Turns<'t> {
    pub(crate) fn new(list: Value<'t>, purpose: Purpose) -> Turns<'t> {
        let mut messages = Vec::new();
        let mut whole = true;
        for (index, value) in list.items().enumerate() {
            match value.kind() {
                Kind::Object => messages.push(Message::new(index, value, purpose)),
                _ => whole = false,
            }
        }
        Turns { list, messages, purpose, whole }
    }

    /// Whether a system (or developer) message is among them.
    pub(crate) fn has_system(&self) -> bool {
        self.messages.iter().any(|message| matches!(message.meant, Some(Role::System | Role::Developer)))
    }

    /// Whether it is known of every message who speaks.
    pub(crate) fn roles_are_known(&self) -> bool {
        self.whole && self.messages.iter().all(|message| message.meant.is_some())
    }
}

impl<'t> Message<'t> {
    pub(crate) fn new(index: usize, value: Value<'t>, purpose: Purpose) -> Message<'t> {
        let mut message = Message {
            index,
            value,
            role_value: None,
            content: None,
            name: None,
            refusal: None,
            weight: None,
            tool_calls: None,
            tool_call_id: None,
            function_call: None,
            role: None,
            meant: None,
            trained: false,
        };
        for member in value.members() {
            let Some(name) = member.key.text() else { continue };
            let field = match name.as_ref() {
                "role" => &mut message.role_value,
                "content" => &mut message.content,
                "name" => &mut message.name,
                "refusal" => &mut message.refusal,
                "weight" => &mut message.weight,
                "tool_calls" => &mut message.tool_calls,
                "tool_call_id" => &mut message.tool_call_id,
                "function_call" => &mut message.function_call,
                _ => continue,
            };
            *field = Some(member.value);
        }
        let role_text = message.role_value.and_then(|role| role.text());
        message.role = role_text.as_deref().and_then(role);
        message.meant = message.role.or_else(|| role_text.as_deref().and_then(meant_role));
        message.trained = message.meant == Some(Role::Assistant)
            && match purpose {
                Purpose::Train => message.weight.is_none_or(|weight| weight.raw() != "0"),
                Purpose::Prompt => false,
                Purpose::Answer => true,
            };
        message
    }

    /// The role for a text: `assistant message`, or `message` where nobody knows.
    pub(crate) fn named(&self) -> String {
        self.meant.map_or_else(|| "message".to_owned(), |role| format!("{role} message"))
    }

    /// [`Message::named`] with its article.
    pub(crate) fn described(&self) -> String {
        let article = if self.meant == Some(Role::Assistant) { "an" } else { "a" };
        format!("{article} {}", self.named())
    }

    /// Calls tools, in the new way or the old; a list of the wrong type counts, for its own rule complains.
    pub(crate) fn calls_tools(&self) -> bool {
        [self.tool_calls, self.function_call].iter().flatten().any(|value| !value.is_null())
    }

    /// The message's texts: content as a string, or the text and refusal of its parts.
    pub(crate) fn texts(&self) -> impl Iterator<Item = Value<'t>> + use<'t> {
        let content = self.content;
        let whole = content.filter(|content| content.kind() == Kind::String);
        let parts = content.into_iter().flat_map(|content| content.items()).filter_map(|part| {
            let kind = part.get("type")?;
            let text = ["text", "refusal"].into_iter().find(|name| kind.is(name))?;
            part.get(text).filter(|text| text.kind() == Kind::String)
        });
        whole.into_iter().chain(parts)
    }
}

/// OpenAI's roles, by their exact names.
fn role(name: &str) -> Option<Role> {
    Some(match name {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        "function" => Role::Function,
        _ => return None,
    })
}

/// What other formats call them, and Spanish.
pub(crate) fn meant_role(name: &str) -> Option<Role> {
    Some(match name.trim().to_lowercase().as_str() {
        "human" | "prompter" | "usr" | "question" | "usuario" => Role::User,
        "gpt" | "bot" | "ai" | "model" | "chatgpt" | "assistent" | "asistant" | "assitant" | "agent" | "chatbot"
        | "llm" | "asistente" => Role::Assistant,
        "sys" | "instruction" | "sistema" => Role::System,
        "tools" | "observation" | "tool_response" | "tool_result" | "ipython" | "function_response" | "herramienta" => {
            Role::Tool
        }
        other => return role(other),
    })
}

/// Whether assistant messages of this method's records are trained.
pub(crate) fn purpose(method: Method) -> Purpose {
    match method {
        Method::Sft => Purpose::Train,
        Method::Dpo | Method::Rft => Purpose::Prompt,
    }
}
