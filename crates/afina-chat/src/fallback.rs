//! Which chat template a model is used with: its own, one of ours for models whose own loses tools, or a file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A chat template that comes with this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    pub name: &'static str,
    /// Jinja.
    pub source: &'static str,
}

/// Both carry system and developer turns, tools, several calls and text before them, results, absent content and refusals;
/// neither carries `name` or images.
pub const FALLBACKS: &[Fallback] = &[
    Fallback { name: "chatml-tools", source: include_str!("templates/chatml-tools.jinja") },
    Fallback { name: "llama3-tools", source: include_str!("templates/llama3-tools.jinja") },
];

/// `model`, the name of a fallback, or the path of a `.jinja` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateChoice {
    /// The template that ships with the model.
    Model,
    Fallback(&'static Fallback),
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected model | {} | the path of a .jinja file, found \"{found}\"", names())]
pub struct UnknownTemplate {
    pub found: String,
}

fn names() -> String {
    FALLBACKS.iter().map(|fallback| fallback.name).collect::<Vec<_>>().join(" | ")
}

impl FromStr for TemplateChoice {
    type Err = UnknownTemplate;

    fn from_str(text: &str) -> Result<TemplateChoice, UnknownTemplate> {
        match FALLBACKS.iter().find(|fallback| fallback.name == text) {
            _ if text == "model" => Ok(TemplateChoice::Model),
            Some(fallback) => Ok(TemplateChoice::Fallback(fallback)),
            None if text.ends_with(".jinja") => Ok(TemplateChoice::File(PathBuf::from(text))),
            None => Err(UnknownTemplate { found: text.to_owned() }),
        }
    }
}

impl fmt::Display for TemplateChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateChoice::Model => f.write_str("model"),
            TemplateChoice::Fallback(fallback) => f.write_str(fallback.name),
            TemplateChoice::File(path) => path.display().fmt(f),
        }
    }
}

/// The strings of a text that look like special tokens: `<|im_start|>`.
pub(crate) fn special_strings(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("<|").filter_map(|(start, _)| {
        let inside = &text[start + 2..];
        let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        (end > 0 && inside[end..].starts_with("|>")).then(|| &text[start..start + 2 + end + 2])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Capabilities;
    use crate::template::ChatTemplate;
    use crate::tool_calls::ToolSyntax;

    #[test]
    fn choice_is_a_name_or_a_file() {
        let choice = |text: &str| text.parse::<TemplateChoice>();
        assert_eq!(choice("model"), Ok(TemplateChoice::Model));
        assert_eq!(choice("chatml-tools"), Ok(TemplateChoice::Fallback(&FALLBACKS[0])));
        assert_eq!(choice("a/b.jinja"), Ok(TemplateChoice::File(PathBuf::from("a/b.jinja"))));
        for text in ["model", "llama3-tools", "a/b.jinja"] {
            assert_eq!(choice(text).unwrap().to_string(), text);
        }
        assert_eq!(
            choice("chatml").unwrap_err().to_string(),
            "expected model | chatml-tools | llama3-tools | the path of a .jinja file, found \"chatml\""
        );
    }

    #[test]
    fn special_strings_are_found_in_a_text() {
        let text = "<|im_start|>user <|| |> <|a b|> <|eot_id|><|x";
        assert_eq!(special_strings(text).collect::<Vec<_>>(), ["<|im_start|>", "<|eot_id|>"]);
    }

    #[test]
    fn fallbacks_carry_all_but_names_parts_and_ids() {
        for fallback in FALLBACKS {
            let template = ChatTemplate::new(fallback.source.to_owned(), None, None).unwrap();
            let expected = Capabilities {
                system: true,
                developer: true,
                tool: true,
                function: true,
                tools: true,
                tool_calls: true,
                parallel_calls: true,
                content_with_calls: true,
                tool_syntax: Some(ToolSyntax::Hermes),
                null_content: true,
                refusal: true,
                generation_prompt: true,
                ..Capabilities::none()
            };
            assert_eq!(template.capabilities(), expected, "{}", fallback.name);
        }
    }
}
