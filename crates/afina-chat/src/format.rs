//! The chat format of a model folder: its template and its tokenizer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Deserialize;

use crate::encode::EncodeError;
use crate::fallback::{FALLBACKS, Fallback, TemplateChoice, special_strings};
use crate::message::{Conversation, Message, Role};
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
    #[error("`{}` has no chat template: {places}", model.display())]
    NoTemplate { model: PathBuf, places: &'static str },
    #[error("`chat_template` in `{}` has no template named `default`, only {}", path.display(), names.join(", "))]
    NoDefault { path: PathBuf, names: Vec<String> },
    #[error("the chat template in `{}` cannot be used", path.display())]
    Template { path: PathBuf, source: TemplateError },
    #[error("the chat template `{template}` writes `{token}`, which is no special token of `{}`", tokenizer.display())]
    MissingToken { template: String, token: String, tokenizer: PathBuf },
}

/// How conversations of one model become tokens, the same in training and serving.
#[derive(Debug, Clone)]
pub struct ChatFormat {
    pub template: ChatTemplate,
    pub tokenizer: Tokenizer,
}

impl ChatFormat {
    /// The format of a Hugging Face folder with the template that ships with it.
    pub fn load(model_dir: &Path) -> Result<ChatFormat, FormatError> {
        ChatFormat::load_with_template(model_dir, &TemplateChoice::Model)
    }

    /// Reads `tokenizer.json` and `tokenizer_config.json` of a Hugging Face folder. The model's template is
    /// `chat_template.jinja` where that file exists, else `chat_template` in the configuration: a text, or a list with one
    /// named `default`. Another template must get by with the special tokens that the tokenizer has.
    pub fn load_with_template(model_dir: &Path, choice: &TemplateChoice) -> Result<ChatFormat, FormatError> {
        let config_path = model_dir.join("tokenizer_config.json");
        let mut config = TokenizerConfig::parse(&config_path, &read(&config_path)?)?;
        let field = config.chat_template.take();
        let template = chosen_template(choice, || model_template(model_dir, config_path, field))?;
        let tokenizer_path = model_dir.join("tokenizer.json");
        let tokenizer = Tokenizer::from_file(&tokenizer_path);
        ChatFormat::new(config, template, tokenizer, tokenizer_path, choice)
    }

    /// The format of a model that keeps the contents of those two files elsewhere; errors name it `model`.
    pub fn from_json(
        model: &Path,
        tokenizer: &[u8],
        config: &str,
        choice: &TemplateChoice,
    ) -> Result<ChatFormat, FormatError> {
        let mut config = TokenizerConfig::parse(model, config)?;
        let field = config.chat_template.take();
        let template = chosen_template(choice, || {
            default_template(model.to_owned(), field)?.ok_or_else(|| FormatError::NoTemplate {
                model: model.to_owned(),
                places: "it brings none with its tokenizer",
            })
        })?;
        ChatFormat::new(config, template, Tokenizer::from_bytes(tokenizer), model.to_owned(), choice)
    }

    /// `template` is its text behind the file it was found in.
    fn new(
        config: TokenizerConfig,
        (template_path, source): (PathBuf, String),
        tokenizer: Result<Tokenizer, TokenizerError>,
        tokenizer_path: PathBuf,
        choice: &TemplateChoice,
    ) -> Result<ChatFormat, FormatError> {
        let tokenizer_error = |source| FormatError::Tokenizer { path: tokenizer_path.clone(), source };
        let mut tokenizer = tokenizer.map_err(tokenizer_error)?;
        let bos_token = config.bos_token.map(TokenField::into_content);
        let eos_token = config.eos_token.map(TokenField::into_content);
        for token in [&bos_token, &eos_token].into_iter().flatten() {
            tokenizer = tokenizer.with_special(token).map_err(tokenizer_error)?;
        }
        let template = ChatTemplate::new(source, bos_token, eos_token)
            .map_err(|source| FormatError::Template { path: template_path, source })?;
        let format = ChatFormat { template, tokenizer };
        match (choice, missing_token(&format.template, &format.tokenizer)) {
            (TemplateChoice::Model, _) | (_, None) => Ok(format),
            (_, Some(token)) => {
                Err(FormatError::MissingToken { template: choice.to_string(), token, tokenizer: tokenizer_path })
            }
        }
    }

    /// The token that ends an answer: the last of its turn, where that is a special token.
    pub fn end_of_turn(&self) -> Option<u32> {
        let mut asked = plain_exchange();
        asked.messages.pop();
        let (_, reply) = self.reply_tokens(&asked, "a").ok()?;
        reply.last().copied().filter(|&id| self.tokenizer.is_special(id))
    }

    /// What to do about a conversation that this format cannot encode.
    pub fn hint(&self, conversation: &Conversation, error: &EncodeError) -> String {
        let lost = matches!(error, EncodeError::Template { .. } | EncodeError::TemplatePrefix { .. });
        match self.fallback_for(conversation).filter(|_| lost) {
            Some(name) => format!(
                "choose a fallback template: data.chat_template = \"{name}\" (outside of recipes --chat-template {name})"
            ),
            None => "change the example, or choose a template that carries it: data.chat_template = \"FILE.jinja\""
                .to_owned(),
        }
    }

    /// The name of the first fallback that carries a conversation with the special tokens of this tokenizer.
    pub fn fallback_for(&self, conversation: &Conversation) -> Option<&'static str> {
        static COMPILED: OnceLock<Vec<(&'static str, ChatTemplate)>> = OnceLock::new();
        let compile = |fallback: &Fallback| {
            Some((fallback.name, ChatTemplate::new(fallback.source.to_owned(), None, None).ok()?))
        };
        COMPILED
            .get_or_init(|| FALLBACKS.iter().filter_map(compile).collect())
            .iter()
            .filter(|(_, template)| template.source() != self.template.source())
            .find(|(_, template)| {
                template.check(conversation).is_ok() && missing_token(template, &self.tokenizer).is_none()
            })
            .map(|(name, _)| *name)
    }
}

/// The first string like `<|im_start|>` that a plain exchange is rendered with and that is no special token.
fn missing_token(template: &ChatTemplate, tokenizer: &Tokenizer) -> Option<String> {
    let rendered = template.render(&plain_exchange(), true).ok()?;
    let is_special = |text: &str| tokenizer.token_id(text).is_some_and(|id| tokenizer.is_special(id));
    special_strings(&rendered).find(|text| !is_special(text)).map(str::to_owned)
}

fn plain_exchange() -> Conversation {
    Conversation::new(vec![Message::new(Role::User, "a"), Message::new(Role::Assistant, "a")])
}

/// A template's text behind the file it was found in; `own` finds the model's.
fn chosen_template(
    choice: &TemplateChoice,
    own: impl FnOnce() -> Result<(PathBuf, String), FormatError>,
) -> Result<(PathBuf, String), FormatError> {
    match choice {
        TemplateChoice::Model => own(),
        TemplateChoice::Fallback(fallback) => Ok((PathBuf::from(fallback.name), fallback.source.to_owned())),
        TemplateChoice::File(path) => Ok((path.clone(), read(path)?)),
    }
}

/// The model's own template, with the file it was found in.
fn model_template(
    folder: &Path,
    config_path: PathBuf,
    field: Option<TemplateField>,
) -> Result<(PathBuf, String), FormatError> {
    let file_path = folder.join("chat_template.jinja");
    if file_path.exists() {
        return Ok((file_path.clone(), read(&file_path)?));
    }
    default_template(config_path, field)?.ok_or_else(|| FormatError::NoTemplate {
        model: folder.to_owned(),
        places: "neither `chat_template` in `tokenizer_config.json` nor `chat_template.jinja`",
    })
}

/// The template in a tokenizer's configuration.
fn default_template(
    config_path: PathBuf,
    field: Option<TemplateField>,
) -> Result<Option<(PathBuf, String)>, FormatError> {
    match field {
        None => Ok(None),
        Some(TemplateField::One(source)) => Ok(Some((config_path, source))),
        Some(TemplateField::Named(list)) => {
            let names = list.iter().map(|named| format!("`{}`", named.name)).collect();
            match list.into_iter().find(|named| named.name == "default") {
                Some(named) => Ok(Some((config_path, named.template))),
                None => Err(FormatError::NoDefault { path: config_path, names }),
            }
        }
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

impl TokenizerConfig {
    fn parse(path: &Path, text: &str) -> Result<TokenizerConfig, FormatError> {
        serde_json::from_str(text).map_err(|source| FormatError::Json { path: path.to_owned(), source })
    }
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
    use expect_test::{Expect, expect};

    const ECHO: &str = "{% for m in messages %}{{ m.content }}{% endfor %}";

    const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

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

        let tokenizer = include_bytes!("../../../tests/fixtures/chat/tokenizers/smollm2.json");
        let from_json = |config: &serde_json::Value| {
            ChatFormat::from_json(Path::new("m.gguf"), tokenizer, &config.to_string(), &TemplateChoice::Model)
        };
        assert_eq!(render(from_json(&list).unwrap()), "hihodefault");
        let error = from_json(&serde_json::json!({})).unwrap_err().to_string();
        assert_eq!(error, "`m.gguf` has no chat template: it brings none with its tokenizer");
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
    fn fallback_needs_its_special_tokens_and_ends_turns_with_one() {
        let folder = tempfile::tempdir().unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chat");
        std::fs::copy(fixtures.join("tokenizers/smollm2.json"), folder.path().join("tokenizer.json")).unwrap();
        std::fs::copy(fixtures.join("templates/smollm2.jinja"), folder.path().join("chat_template.jinja")).unwrap();
        std::io::Write::write_all(
            &mut std::fs::File::create(folder.path().join("tokenizer_config.json")).unwrap(),
            br#"{"eos_token": "<|im_end|>"}"#,
        )
        .unwrap();
        let load = |choice: &str| ChatFormat::load_with_template(folder.path(), &choice.parse().unwrap());
        let format = load("chatml-tools").unwrap();
        assert_eq!(format.end_of_turn(), format.tokenizer.token_id("<|im_end|>"));
        assert_eq!(load("model").unwrap().end_of_turn(), format.end_of_turn());
        let error = load("llama3-tools").unwrap_err().to_string();
        expect!["the chat template `llama3-tools` writes `<|begin_of_text|>`, which is no special token of `MODEL/tokenizer.json`"]
            .assert_eq(&error.replace(&folder.path().display().to_string(), "MODEL"));
        let error = load("missing.jinja").unwrap_err().to_string();
        assert_eq!(error, "failed to read `missing.jinja`");
    }

    #[test]
    fn hint_names_the_fallback_that_carries_the_conversation() {
        let (format, _) = load(&serde_json::json!({"chat_template": CHATML}).to_string(), None);
        let format = format.unwrap();
        let hint = |message: Message| {
            let conversation = Conversation::new(vec![Message::new(Role::User, "u"), message]);
            let error = format.training_tokens(&conversation, crate::TrainOn::Assistant).unwrap_err();
            format!("{}: {}", std::error::Error::source(&error).unwrap(), format.hint(&conversation, &error))
        };
        let refusal = Message { refusal: Some("no".into()), content: None, ..Message::new(Role::Assistant, "") };
        expect![[r#"message 1: the chat template does not render `refusal`: choose a fallback template: data.chat_template = "chatml-tools" (outside of recipes --chat-template chatml-tools)"#]].assert_eq(&hint(refusal.clone()));
        expect![[r#"message 1: the chat template does not render `refusal`: change the example, or choose a template that carries it: data.chat_template = "FILE.jinja""#]].assert_eq(&hint(Message { name: Some("ana".into()), ..refusal }));
    }

    #[test]
    fn folder_without_a_template_is_refused() {
        assert!(matches!(load("{}", None).0, Err(FormatError::NoTemplate { .. })));
        let missing = ChatFormat::load(Path::new("missing")).unwrap_err();
        assert_eq!(missing.to_string(), "failed to read `missing/tokenizer_config.json`");
    }
}
