//! What a conversation is, and how it becomes tokens: the messages, the chat template that ships with the model or one of
//! ours, its tokenizer, the one encoder that training, evaluation and serving share, and the way back from a model's text to
//! its tool calls. No tensors here.

mod json;
mod message;

mod check;
mod fallback;
mod jinja;
mod probe;
mod strftime;
mod template;
mod template_values;
mod to_json;
mod tool_calls;

mod specials;
mod stream;
mod tokenizer;

mod encode;
mod format;
mod ollama;
mod shield;

pub use encode::{EncodeError, Piece, TrainOn, TrainingTokens};
pub use fallback::{FALLBACKS, Fallback, TemplateChoice, UnknownTemplate};
pub use format::{ChatFormat, FormatError};
pub use json::JsonError;
pub use message::{
    Content, ContentPart, Conversation, FunctionCall, FunctionDefinition, ImageUrl, Message, Role, Tool, ToolCall,
};
pub use ollama::{OllamaTemplateError, ollama_template};
pub use probe::Capabilities;
pub use stream::TextStream;
pub use template::{ChatTemplate, TemplateError};
pub use tokenizer::{Tokenizer, TokenizerError};
pub use tool_calls::{Reply, ToolCallError, ToolSyntax};
