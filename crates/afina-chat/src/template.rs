//! The chat template that ships with the model, rendered as transformers' `apply_chat_template` renders it.

use std::error::Error as _;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Environment, Value};

use crate::jinja::{self, Raised, TEMPLATE};
use crate::json::JsonError;
use crate::message::{Conversation, Role};
use crate::probe::{self, Capabilities};
use crate::template_values::{ArgumentsAs, message_value, tool_value};

/// Messages and tool calls are counted from 0.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("the chat template is not valid Jinja")]
    Syntax { source: minijinja::Error },
    #[error("the chat template does not render a plain exchange between user and assistant")]
    Plain { source: Option<Box<TemplateError>> },
    #[error("the chat template refuses this conversation: `{message}`")]
    Raised { message: String },
    #[error("the chat template fails on this conversation")]
    Render { source: minijinja::Error },
    #[error("message {message}: the chat template cannot render it")]
    AtMessage { message: usize, source: Box<TemplateError> },
    #[error("a conversation without messages cannot be rendered")]
    Empty,
    #[error("message {message}: the chat template does not render {feature}")]
    Unsupported { feature: &'static str, message: usize },
    #[error("the chat template does not render `tools`")]
    UnsupportedTools,
    #[error("the chat template drops the {what} of tool `{tool}`")]
    DroppedTool { what: &'static str, tool: String },
    #[error("message {message}: the chat template drops the text of this `{role}` message")]
    Dropped { message: usize, role: Role },
    #[error("message {message}: the chat template drops the {what} of tool call {call}")]
    DroppedCall { message: usize, call: usize, what: &'static str },
    #[error(
        "message {message}: the chat template drops `tool_call_id`, and the results are not in the order of their calls"
    )]
    ResultsOutOfOrder { message: usize },
    #[error("message {message}: the text of this answer reads as a tool call")]
    ReadsAsCall { message: usize },
    #[error("message {message}: `arguments` of tool call {call} are not JSON")]
    Arguments { message: usize, call: usize, source: JsonError },
}

impl TemplateError {
    /// The message that it is about, from 0.
    pub fn message(&self) -> Option<usize> {
        use TemplateError::*;
        match self {
            AtMessage { message, .. } | Unsupported { message, .. } | Dropped { message, .. } => Some(*message),
            DroppedCall { message, .. } | ResultsOutOfOrder { message } => Some(*message),
            ReadsAsCall { message } | Arguments { message, .. } => Some(*message),
            Syntax { .. } | Plain { .. } | Raised { .. } | Render { .. } | Empty => None,
            UnsupportedTools | DroppedTool { .. } => None,
        }
    }
}

/// A model's Jinja template, compiled once, and what it can carry.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    bos_token: Option<String>,
    eos_token: Option<String>,
    capabilities: Capabilities,
    arguments_as: ArgumentsAs,
}

impl ChatTemplate {
    /// Compiles `source` and probes what it renders. A template that fails on a user's line and its answer is refused.
    pub fn new(
        source: String,
        bos_token: Option<String>,
        eos_token: Option<String>,
    ) -> Result<ChatTemplate, TemplateError> {
        let environment =
            jinja::environment(&source, seconds_since_1970).map_err(|source| TemplateError::Syntax { source })?;
        let mut template = ChatTemplate {
            source,
            environment,
            bos_token,
            eos_token,
            capabilities: Capabilities::none(),
            arguments_as: ArgumentsAs::Object,
        };
        probe::probe(&mut template)?;
        Ok(template)
    }

    /// The same template with `strftime_now` fixed at a time, in seconds since 1970 (UTC).
    pub fn with_clock(mut self, seconds: i64) -> ChatTemplate {
        jinja::set_clock(&mut self.environment, move || seconds);
        self
    }

    /// The Jinja text as it came with the model.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// The text of a conversation, special tokens written out.
    ///
    /// Whatever [`check`](ChatTemplate::check) refuses is refused here.
    pub fn render(&self, conversation: &Conversation, add_generation_prompt: bool) -> Result<String, TemplateError> {
        self.check(conversation)?;
        let inputs = self.inputs(conversation, &str::to_owned)?;
        self.render_inputs(&inputs, inputs.messages.len(), add_generation_prompt)
    }

    /// The values that the template sees, with `map` applied to every text that a user can choose.
    pub(crate) fn inputs(
        &self,
        conversation: &Conversation,
        map: &dyn Fn(&str) -> String,
    ) -> Result<Inputs, TemplateError> {
        let mut messages = Vec::with_capacity(conversation.messages.len());
        for (index, message) in conversation.messages.iter().enumerate() {
            let value = message_value(message, self.capabilities.parts, self.arguments_as, map)
                .map_err(|(call, source)| TemplateError::Arguments { message: index, call, source })?;
            messages.push(value);
        }
        let tools = match conversation.tools.as_deref() {
            None | Some([]) => Value::from(()),
            Some(tools) => tools.iter().map(|tool| tool_value(tool, map)).collect(),
        };
        Ok(Inputs { messages, tools, parallel_tool_calls: conversation.parallel_tool_calls })
    }

    /// The text of the first `count` messages.
    pub(crate) fn render_inputs(
        &self,
        inputs: &Inputs,
        count: usize,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let mut context = vec![
            ("messages", Value::from(inputs.messages[..count].to_vec())),
            ("tools", inputs.tools.clone()),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
        ];
        context.extend(inputs.parallel_tool_calls.map(|parallel| ("parallel_tool_calls", Value::from(parallel))));
        context.extend(self.bos_token.as_deref().map(|token| ("bos_token", Value::from(token))));
        context.extend(self.eos_token.as_deref().map(|token| ("eos_token", Value::from(token))));
        self.environment
            .get_template(TEMPLATE)
            .and_then(|template| template.render(Value::from_pairs(context)))
            .map_err(render_error)
    }

    pub(crate) fn set_capabilities(&mut self, capabilities: Capabilities) {
        self.capabilities = capabilities;
    }

    pub(crate) fn set_arguments_as(&mut self, arguments_as: ArgumentsAs) {
        self.arguments_as = arguments_as;
    }
}

/// What a template is rendered with: one value a message, the tools or none, and the wish for one call at a time.
pub(crate) struct Inputs {
    messages: Vec<Value>,
    tools: Value,
    parallel_tool_calls: Option<bool>,
}

fn render_error(source: minijinja::Error) -> TemplateError {
    let mut cause = source.source();
    while let Some(error) = cause {
        if let Some(Raised(message)) = error.downcast_ref() {
            return TemplateError::Raised { message: message.clone() };
        }
        cause = error.source();
    }
    TemplateError::Render { source }
}

fn seconds_since_1970() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Content, ContentPart, Message};
    use expect_test::{Expect, expect};

    const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    const NO_SYSTEM: &str = "{% for m in messages %}{% if m.role == 'user' %}U:{{ m.content }};{% elif m.role == 'assistant' %}A:{{ m.content }};{% endif %}{% endfor %}";

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::new(source.to_owned(), Some("<s>".into()), Some("</s>".into())).unwrap()
    }

    fn check(source: &str, messages: Vec<Message>, expect: Expect) {
        let text = match template(source).render(&Conversation::new(messages), true) {
            Ok(text) => text,
            Err(error) => format!("error: {error}"),
        };
        expect.assert_eq(&text);
    }

    fn user(text: &str) -> Message {
        Message::new(Role::User, text)
    }

    #[test]
    fn conversation_is_rendered_with_the_prompt_for_the_answer() {
        check(CHATML, vec![user("hola")], expect!["<|im_start|>user\nhola<|im_end|>\n<|im_start|>assistant\n"]);
    }

    #[test]
    fn text_parts_reach_a_template_that_knows_only_strings() {
        let mut message = user("");
        let part = |text: &str| ContentPart::Text { text: text.into() };
        message.content = Some(Content::Parts(vec![part("a "), part("b")]));
        check(NO_SYSTEM, vec![message], expect!["U:a b;"]);
    }

    #[test]
    fn exception_of_the_template_is_told() {
        let source = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{{ m.content }}{% endfor %}";
        let template = template(source);
        assert!(!template.capabilities().system);
        let conversation = Conversation::new(vec![Message::new(Role::System, "s")]);
        let inputs = template.inputs(&conversation, &str::to_owned).unwrap();
        let error = template.render_inputs(&inputs, 1, false).unwrap_err();
        expect!["the chat template refuses this conversation: `System role not supported`"]
            .assert_eq(&error.to_string());
    }

    #[test]
    fn template_that_fails_on_plain_rows_is_refused() {
        let new = |source: &str| ChatTemplate::new(source.to_owned(), None, None).unwrap_err();
        assert!(matches!(new("{% for m in messages %}"), TemplateError::Syntax { .. }));
        assert!(matches!(new("{{ messages[0].content.missing() }}"), TemplateError::Plain { source: Some(_) }));
        assert!(matches!(new("{{ messages[0].content }}"), TemplateError::Plain { source: None }));
    }

    #[test]
    fn clock_can_be_fixed() {
        let source = "{{ strftime_now('%Y') }}{% for m in messages %}{{ m.content }}{% endfor %}";
        let template = template(source).with_clock(0);
        assert_eq!(template.render(&Conversation::new(vec![user("!")]), false).unwrap(), "1970!");
    }
}
