//! The formats by name, and who reads them.

use std::{fmt, str::FromStr};

use super::{
    alpaca, batch, chat,
    draft::Draft,
    gemini,
    notes::{Converted, Notes},
    pairs, preference, responses, sharegpt, text,
};
use crate::{json::Value, read::UnknownName};

/// What a record is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `messages` of `role` and `content`, with keys and names that OpenAI does not take.
    #[serde(rename = "openai")]
    OpenAi,
    /// `input`, `preferred_output`, `non_preferred_output`, by their old names too.
    #[serde(rename = "openai-dpo")]
    OpenAiDpo,
    /// A record is the list of messages itself.
    ChatArray,
    /// `conversations` of `from` and `value`.
    #[serde(rename = "sharegpt")]
    ShareGpt,
    /// `instruction`, `input`, `output`, `system`, `history`.
    Alpaca,
    /// TRL's: `chosen` and `rejected`, `prompt` and `completion`, `messages` or `text`.
    Trl,
    /// A question and its answer: `prompt` and `completion` and their like.
    PromptCompletion,
    /// One `text` that was rendered with a chat template.
    Text,
    /// A line of the Batch API or of a log: the request with its `response`.
    Batch,
    /// `input` items and `output` items of the Responses API.
    Responses,
    /// `contents` of `parts`.
    Gemini,
    /// `system` beside `messages` of content blocks.
    Anthropic,
}

impl Format {
    pub const ALL: [Format; 12] = [
        Format::OpenAi,
        Format::OpenAiDpo,
        Format::ChatArray,
        Format::ShareGpt,
        Format::Alpaca,
        Format::Trl,
        Format::PromptCompletion,
        Format::Text,
        Format::Batch,
        Format::Responses,
        Format::Gemini,
        Format::Anthropic,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Format::OpenAi => "openai",
            Format::OpenAiDpo => "openai-dpo",
            Format::ChatArray => "chat-array",
            Format::ShareGpt => "sharegpt",
            Format::Alpaca => "alpaca",
            Format::Trl => "trl",
            Format::PromptCompletion => "prompt-completion",
            Format::Text => "text",
            Format::Batch => "batch",
            Format::Responses => "responses",
            Format::Gemini => "gemini",
            Format::Anthropic => "anthropic",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = UnknownName;

    /// Other names for the same are taken: `chat` and `messages`, `dpo` and `preference`, `trl-preference`, `completions`.
    fn from_str(name: &str) -> Result<Format, UnknownName> {
        let same = match name {
            "chat" | "messages" => "openai",
            "dpo" | "preference" => "openai-dpo",
            "trl-preference" | "trl-dpo" => "trl",
            "completions" | "instruct" => "prompt-completion",
            _ => name,
        };
        Format::ALL.into_iter().find(|format| format.as_str() == same).ok_or_else(|| UnknownName {
            found: name.to_owned(),
            expected: "`openai`, `openai-dpo`, `chat-array`, `sharegpt`, `alpaca`, `trl`, `prompt-completion`, `text`, `batch`, `responses`, `gemini`, `anthropic`",
        })
    }
}

/// Reads a record that is in this format.
pub(super) fn read(record: Value, format: Format, notes: &mut Notes) -> Converted<Draft> {
    let has = |name: &str| record.get(name).is_some();
    let mut draft = Draft::default();
    let pair = has("chosen") || has("chosen_conversations");
    match format {
        Format::OpenAi | Format::Anthropic => chat::read(record, notes, &mut draft)?,
        Format::OpenAiDpo => preference::read_openai(record, notes, &mut draft)?,
        Format::ChatArray => chat::messages(record, notes, &mut draft)?,
        Format::ShareGpt | Format::Alpaca | Format::Trl if pair => preference::read(record, notes, &mut draft)?,
        Format::ShareGpt => sharegpt::read(record, notes, &mut draft)?,
        Format::Alpaca => alpaca::read(record, notes, &mut draft)?,
        Format::Trl if has("messages") => chat::read(record, notes, &mut draft)?,
        Format::Trl if has("text") => text::read(record, notes, &mut draft)?,
        Format::Trl | Format::PromptCompletion => pairs::read(record, notes, &mut draft)?,
        Format::Text => text::read(record, notes, &mut draft)?,
        Format::Batch => batch::read(record, notes, &mut draft)?,
        Format::Responses => responses::read(record, notes, &mut draft)?,
        Format::Gemini => gemini::read(record, notes, &mut draft)?,
    }
    if !draft.place_images() {
        let message = "expected a user message for the images, found none";
        return Err(notes.refuse(record, message, "add the user's message that the images belong to"));
    }
    Ok(draft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_known_by_its_name_and_written_by_it() {
        for format in Format::ALL {
            assert_eq!(format.as_str().parse(), Ok(format));
            assert_eq!(serde_json::to_value(format).unwrap(), format.as_str());
        }
        assert_eq!("messages".parse(), Ok(Format::OpenAi));
        let error = "share-gpt".parse::<Format>().unwrap_err();
        assert!(Format::ALL.iter().all(|format| error.expected.contains(&format!("`{format}`"))), "{error}");
    }
}
