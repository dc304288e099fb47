//! A conversation in OpenAI's names and JSON.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What one line of a training file, or the body of one chat request, says.
///
/// Keys that are not named here are left out when reading: whoever reads a file or a request judges them first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    pub messages: Vec<Message>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<Tool>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
}

impl Conversation {
    /// A conversation without tools.
    pub fn new(messages: Vec<Message>) -> Conversation {
        Conversation { messages, tools: None, parallel_tool_calls: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
    Function,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
            Role::Function => "function",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// 0: the model reads this message but is not trained on it; 1 or nothing: the recipe decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u8>,
}

impl Message {
    /// A message of plain text.
    pub fn new(role: Role, text: impl Into<String>) -> Message {
        Message {
            role,
            content: Some(Content::Text(text.into())),
            name: None,
            refusal: None,
            tool_calls: None,
            tool_call_id: None,
            weight: None,
        }
    }

    /// The text of the message: text parts joined without a separator, other parts skipped, nothing when it has no content.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.content {
            None => Cow::Borrowed(""),
            Some(Content::Text(text)) => Cow::Borrowed(text),
            Some(Content::Parts(parts)) => match parts.as_slice() {
                [ContentPart::Text { text }] => Cow::Borrowed(text),
                parts => Cow::Owned(parts.iter().filter_map(ContentPart::text).collect()),
            },
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected `content` to be a string or an array of parts of type `text`, `image_url` or `refusal`"
)]
pub enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentPart {
    Text { text: String },
    ImageUrl { image_url: ImageUrl },
    Refusal { refusal: String },
}

impl ContentPart {
    fn text(&self) -> Option<&str> {
        match self {
            ContentPart::Text { text } => Some(text),
            ContentPart::ImageUrl { .. } | ContentPart::Refusal { .. } => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUrl {
    pub url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    #[serde(rename = "type")]
    pub kind: String,
    pub function: FunctionDefinition,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionDefinition {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of the arguments; the order of its keys is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub function: FunctionCall,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCall {
    pub name: String,
    /// JSON as the model wrote it, in a string.
    pub arguments: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(json: &str) -> Conversation {
        let conversation: Conversation = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&conversation).unwrap(), json);
        conversation
    }

    #[test]
    fn json_of_every_kind_of_message_comes_back_unchanged() {
        let conversation = round_trip(concat!(
            r#"{"messages":[{"role":"system","content":"s"},{"role":"developer","content":"d"},"#,
            r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:,","detail":"low"}}],"name":"ana"},"#,
            r#"{"role":"assistant","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}],"weight":0},"#,
            r#"{"role":"tool","content":"4","tool_call_id":"c1"},"#,
            r#"{"role":"assistant","content":[{"type":"refusal","refusal":"no"}]},{"role":"assistant","refusal":"no","weight":1}],"#,
            r#""tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"z":1,"a":2},"strict":true}}],"parallel_tool_calls":false}"#,
        ));
        assert_eq!(conversation.messages[2].text(), "a");
        assert_eq!(conversation.messages[3].text(), "");
    }

    #[test]
    fn null_and_absent_content_are_the_same() {
        let message: Message = serde_json::from_str(r#"{"role":"assistant","content":null}"#).unwrap();
        assert_eq!(message.content, None);
        assert_eq!(serde_json::to_string(&message).unwrap(), r#"{"role":"assistant"}"#);
    }

    #[test]
    fn text_parts_are_joined_without_a_separator() {
        let json = r#"{"role":"user","content":[{"type":"text","text":"uno "},{"type":"text","text":"dos"}]}"#;
        assert_eq!(serde_json::from_str::<Message>(json).unwrap().text(), "uno dos");
    }

    #[test]
    fn unknown_role_and_unknown_part_are_refused() {
        let error = serde_json::from_str::<Message>(r#"{"role":"bot","content":""}"#).unwrap_err().to_string();
        assert!(error.contains("unknown variant `bot`"), "{error}");
        let json = r#"{"role":"user","content":[{"type":"video_url"}]}"#;
        let error = serde_json::from_str::<Message>(json).unwrap_err().to_string();
        assert!(error.contains("parts of type `text`, `image_url` or `refusal`"), "{error}");
    }
}
