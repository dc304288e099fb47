//! What a conversation is, and how it becomes tokens: the messages, the chat template that ships with the model, its
//! tokenizer, and the one encoder that training, evaluation and serving share. No tensors here.

mod message;

mod jinja;
mod probe;
mod strftime;
mod template;
mod template_values;
mod to_json;

mod specials;
mod stream;
mod tokenizer;

mod encode;
mod format;
mod shield;

pub use encode::{EncodeError, Piece, TrainOn, TrainingTokens};
pub use format::{ChatFormat, FormatError};
pub use message::{
    Content, ContentPart, Conversation, FunctionCall, FunctionDefinition, ImageUrl, Message, Role, Tool, ToolCall,
};
pub use probe::Capabilities;
pub use stream::TextStream;
pub use template::{ChatTemplate, TemplateError};
pub use tokenizer::{Tokenizer, TokenizerError};
