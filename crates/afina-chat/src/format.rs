//! The chat format of a model folder: its template and its tokenizer.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::template::{ChatTemplate, TemplateError};
use crate::tokenizer::{Tokenizer, TokenizerError};

#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("failed to read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is not the JSON of a tokenizer's configuration", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("failed to load the tokenizer `{}`", path.display())]
    Tokenizer { path: PathBuf, source: TokenizerError },
    #[error("`{}` has no chat template: neither `chat_template` in `tokenizer_config.json` nor `chat_template.jinja`", folder.display())]
    NoTemplate { folder: PathBuf },
    #[error("`chat_template` in `{}` has no template named `default`, only {}", path.display(), names.join(", "))]
    NoDefault { path: PathBuf, names: Vec<String> },
    #[error("the chat template in `{}` cannot be used", path.display())]
    Template { path: PathBuf, source: TemplateError },
}

/// How conversations of one model become tokens, the same in training and serving.
#[derive(Debug, Clone)]
pub struct ChatFormat {
    pub template: ChatTemplate,
    pub tokenizer: Tokenizer,
}

impl ChatFormat {
    /// Reads `tokenizer.json` and `tokenizer_config.json` of a Hugging Face folder. The template is `chat_template.jinja` where
    /// that file exists, else `chat_template` in the configuration: a text, or a list with one named `default`.
    pub fn load(model_dir: &Path) -> Result<ChatFormat, FormatError> {
        let config_path = model_dir.join("tokenizer_config.json");
        let config: TokenizerConfig = serde_json::from_str(&read(&config_path)?)
            .map_err(|source| FormatError::Json { path: config_path.clone(), source })?;

        let file_path = model_dir.join("chat_template.jinja");
        let (template_path, source) = if file_path.exists() {
            (file_path.clone(), read(&file_path)?)
        } else {
            match config.chat_template {
                None => {
                    return Err(FormatError::NoTemplate { folder: model_dir.to_owned() });
                }
                Some(TemplateField::One(source)) => (config_path, source),
                Some(TemplateField::Named(list)) => {
                    let names = list.iter().map(|named| format!("`{}`", named.name)).collect();
                    match list.into_iter().find(|named| named.name == "default") {
                        Some(named) => (config_path, named.template),
                        None => {
                            return Err(FormatError::NoDefault { path: config_path, names });
                        }
                    }
                }
            }
        };

        let tokenizer_path = model_dir.join("tokenizer.json");
        let tokenizer_error = |source| FormatError::Tokenizer { path: tokenizer_path.clone(), source };
        let mut tokenizer = Tokenizer::from_file(&tokenizer_path).map_err(tokenizer_error)?;
        let bos_token = config.bos_token.map(TokenField::into_content);
        let eos_token = config.eos_token.map(TokenField::into_content);
        for token in [&bos_token, &eos_token].into_iter().flatten() {
            tokenizer = tokenizer.with_special(token).map_err(tokenizer_error)?;
        }
        let template = ChatTemplate::new(source, bos_token, eos_token)
            .map_err(|source| FormatError::Template { path: template_path, source })?;
        Ok(ChatFormat { template, tokenizer })
    }
}

#[derive(Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    chat_template: Option<TemplateField>,
    #[serde(default)]
    bos_token: Option<TokenField>,
    #[serde(default)]
    eos_token: Option<TokenField>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected `chat_template` to be a string or a list of `name` and `template`")]
enum TemplateField {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a token to be a string or an object with `content`")]
enum TokenField {
    Content(String),
    Added { content: String },
}

impl TokenField {
    fn into_content(self) -> String {
        match self {
            TokenField::Content(content) | TokenField::Added { content } => content,
        }
    }
}

fn read(path: &Path) -> Result<String, FormatError> {
    std::fs::read_to_string(path).map_err(|source| FormatError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Conversation, Message, Role};
    use expect_test::{Expect, expect};

    const ECHO: &str = "{% for m in messages %}{{ m.content }}{% endfor %}";

    /// A model folder with a tokenizer, `config` and, where given, a template file; what loads from it, and its path.
    fn load(config: &str, template_file: Option<&str>) -> (Result<ChatFormat, FormatError>, String) {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chat/tokenizers/smollm2.json");
        std::fs::copy(tokenizer, folder.path().join("tokenizer.json")).unwrap();
        let write = |name: &str, text: &str| {
            use std::io::Write as _;
            let mut file = std::fs::File::create(folder.path().join(name)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        write("tokenizer_config.json", config);
        if let Some(template) = template_file {
            write("chat_template.jinja", template);
        }
        (ChatFormat::load(folder.path()), folder.path().display().to_string())
    }

    fn check_error(config: &str, expect: Expect) {
        let (loaded, folder) = load(config, None);
        let error = loaded.unwrap_err();
        let mut shown = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            shown = format!("{shown}: {error}");
            cause = error.source();
        }
        expect.assert_eq(&shown.replace(&folder, "MODEL"));
    }

    #[test]
    fn template_is_a_text_a_default_of_a_list_or_a_file() {
        let render = |format: ChatFormat| {
            let messages = vec![Message::new(Role::User, "hi"), Message::new(Role::Assistant, "ho")];
            format.template.render(&Conversation::new(messages), false).unwrap()
        };
        let text = serde_json::json!({"chat_template": ECHO, "eos_token": {"content": "<|im_end|>", "lstrip": false}});
        assert_eq!(render(load(&text.to_string(), None).0.unwrap()), "hiho");
        assert_eq!(
            render(load(&text.to_string(), Some(&format!("{ECHO}{{{{ eos_token }}}}"))).0.unwrap()),
            "hiho<|im_end|>"
        );
        let named = |name: &str| serde_json::json!({"name": name, "template": format!("{ECHO}{name}")});
        let list = serde_json::json!({"chat_template": [named("tool_use"), named("default")], "eos_token": null});
        assert_eq!(render(load(&list.to_string(), None).0.unwrap()), "hihodefault");
    }

    #[test]
    fn what_is_wrong_with_a_folder_is_said() {
        check_error(
            "{",
            expect![
                "`MODEL/tokenizer_config.json` is not the JSON of a tokenizer's configuration: EOF while parsing an object at line 1 column 1"
            ],
        );
        check_error(
            r#"{"chat_template": [{"name": "rag", "template": "x"}]}"#,
            expect!["`chat_template` in `MODEL/tokenizer_config.json` has no template named `default`, only `rag`"],
        );
        check_error(
            r#"{"chat_template": "{{"}"#,
            expect![[
                r#"the chat template in `MODEL/tokenizer_config.json` cannot be used: the chat template is not valid Jinja: syntax error: unexpected end of input, expected expression (in chat_template:1)"#
            ]],
        );
        let other_eos = serde_json::json!({"chat_template": ECHO, "eos_token": "<eot>"});
        check_error(
            &other_eos.to_string(),
            expect!["failed to load the tokenizer `MODEL/tokenizer.json`: token `<eot>` is not in the vocabulary"],
        );
    }

    #[test]
    fn folder_without_a_template_is_refused() {
        assert!(matches!(load("{}", None).0, Err(FormatError::NoTemplate { .. })));
        let missing = ChatFormat::load(Path::new("missing")).unwrap_err();
        assert_eq!(missing.to_string(), "failed to read `missing/tokenizer_config.json`");
    }
}
