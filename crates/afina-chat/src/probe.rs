//! What a chat template can carry, found by rendering words of our own and looking for them.

use serde::Serialize;

use crate::message::{
    Content, ContentPart, Conversation, FunctionCall, FunctionDefinition, Message, Role, Tool, ToolCall,
};
use crate::template::{ChatTemplate, TemplateError};
use crate::template_values::ArgumentsAs;

/// What reaches the text when this template renders it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    pub system: bool,
    pub developer: bool,
    /// The results of tools: messages of the roles `tool` and `function`.
    pub tool: bool,
    pub function: bool,
    pub tools: bool,
    pub tool_calls: bool,
    /// A message without `content` renders, and not as the word "None".
    pub null_content: bool,
    /// The template reads a list of content parts itself; otherwise text parts are joined before it sees them.
    pub parts: bool,
    pub name: bool,
    pub refusal: bool,
    /// There is a text that opens the assistant's turn.
    pub generation_prompt: bool,
}

impl Capabilities {
    pub(crate) fn none() -> Capabilities {
        Capabilities {
            system: false,
            developer: false,
            tool: false,
            function: false,
            tools: false,
            tool_calls: false,
            null_content: false,
            parts: false,
            name: false,
            refusal: false,
            generation_prompt: false,
        }
    }
}

const QUESTION: &str = "afinaprobequestion";
const ANSWER: &str = "afinaprobeanswer";
const WORD: &str = "afinaprobeword";
const OTHER: &str = "afinaprobeother";

/// Fills in the template's capabilities; an error when a question and its answer do not both reach the text.
pub(crate) fn probe(template: &mut ChatTemplate) -> Result<(), TemplateError> {
    let question = || Message::new(Role::User, QUESTION);
    let answer = || Message::new(Role::Assistant, ANSWER);
    let plain = render(template, Conversation::new(vec![question(), answer()]), false)
        .map_err(|error| TemplateError::Plain { source: Some(Box::new(error)) })?;
    if !plain.contains(QUESTION) || !plain.contains(ANSWER) {
        return Err(TemplateError::Plain { source: None });
    }

    let mut can = Capabilities::none();
    let first = |role| vec![Message::new(role, WORD), question()];
    can.system = shows(template, first(Role::System), WORD);
    can.developer = shows(template, first(Role::Developer), WORD);
    can.name = shows(template, vec![Message { name: Some(WORD.into()), ..question() }], WORD);
    let refusal = Message { content: None, refusal: Some(WORD.into()), ..answer() };
    can.refusal = shows(template, vec![question(), refusal], WORD);
    can.tools = render(template, with_tool(vec![question()]), false).is_ok_and(|text| text.contains(WORD));
    probe_parts(template, &mut can);

    let call = Message { tool_calls: Some(vec![call()]), ..answer() };
    let call_alone = Message { content: None, ..call.clone() };
    for arguments_as in [ArgumentsAs::Object, ArgumentsAs::Text] {
        template.set_arguments_as(arguments_as);
        let tool_calls = shows_call(template, &call) || shows_call(template, &call_alone);
        if tool_calls {
            can.tool_calls = true;
            break;
        }
    }
    if !can.tool_calls {
        template.set_arguments_as(ArgumentsAs::Object);
    }
    let empty = Message { content: None, ..answer() };
    let absent = if can.tool_calls { call_alone.clone() } else { empty };
    let nones = |text: &str| text.to_lowercase().matches("none").count();
    can.null_content = render(template, Conversation::new(vec![question(), absent]), false)
        .is_ok_and(|text| nones(&text) <= nones(&plain));

    let result =
        |role| Message { tool_call_id: Some("call00001".into()), name: Some(OTHER.into()), ..Message::new(role, WORD) };
    let after_call = |role| vec![question(), call_alone.clone(), result(role)];
    let after_answer = |role| vec![question(), answer(), result(role)];
    let shows_result = |role| shows(template, after_call(role), WORD) || shows(template, after_answer(role), WORD);
    can.tool = shows_result(Role::Tool);
    can.function = shows_result(Role::Function);

    let asked = render(template, Conversation::new(vec![question()]), false);
    let prompt = render(template, Conversation::new(vec![question()]), true);
    can.generation_prompt =
        matches!((asked, prompt), (Ok(asked), Ok(prompt)) if prompt.starts_with(&asked) && prompt.len() > asked.len());
    template.set_capabilities(can);
    Ok(())
}

/// A template knows parts when it writes the texts of two of them, and not the list itself as Python would print it.
fn probe_parts(template: &mut ChatTemplate, can: &mut Capabilities) {
    let part = |text: &str| ContentPart::Text { text: text.into() };
    let parts = Content::Parts(vec![part(WORD), part(OTHER)]);
    let message = Message { content: Some(parts), ..Message::new(Role::User, "") };
    template.set_capabilities(Capabilities { parts: true, ..Capabilities::none() });
    can.parts = render(template, Conversation::new(vec![message]), false).is_ok_and(|text| {
        let prints_list = text.contains("'type'") || text.contains("\"type\"");
        text.contains(WORD) && text.contains(OTHER) && !prints_list
    });
    template.set_capabilities(Capabilities::none());
}

fn render(template: &ChatTemplate, conversation: Conversation, prompt: bool) -> Result<String, TemplateError> {
    let inputs = template.inputs(&conversation, &str::to_owned)?;
    template.render_inputs(&inputs.messages, &inputs.tools, prompt)
}

fn shows(template: &ChatTemplate, messages: Vec<Message>, word: &str) -> bool {
    render(template, Conversation::new(messages), false).is_ok_and(|text| text.contains(word))
}

fn shows_call(template: &ChatTemplate, call: &Message) -> bool {
    let messages = vec![Message::new(Role::User, QUESTION), call.clone()];
    render(template, with_tool(messages), false)
        .is_ok_and(|text| text.contains(OTHER) && text.contains("afinaprobekey") && text.contains("afinaprobevalue"))
}

fn with_tool(messages: Vec<Message>) -> Conversation {
    let parameters = serde_json::json!({"type": "object", "properties": {"key": {"type": "string"}}});
    let function = FunctionDefinition {
        name: WORD.into(),
        description: Some("finds".into()),
        parameters: Some(parameters),
        strict: None,
    };
    let tool = Tool { kind: "function".into(), function };
    Conversation { messages, tools: Some(vec![tool]), parallel_tool_calls: None }
}

fn call() -> ToolCall {
    let arguments = r#"{"afinaprobekey": "afinaprobevalue"}"#.to_owned();
    let function = FunctionCall { name: OTHER.into(), arguments };
    ToolCall { id: "call00001".into(), kind: "function".into(), function }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(source: &str) -> Capabilities {
        ChatTemplate::new(source.to_owned(), None, None).unwrap().capabilities()
    }

    #[test]
    fn template_of_strings_carries_roles_and_nothing_else() {
        let can = probed(
            "{% for m in messages %}{{ m.role ~ ':' + m.content + ';' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
        );
        let expected = Capabilities {
            system: true,
            developer: true,
            tool: true,
            function: true,
            generation_prompt: true,
            ..Capabilities::none()
        };
        assert_eq!(can, expected);
    }

    #[test]
    fn parts_count_only_when_the_template_reads_them() {
        let can = probed(
            "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}",
        );
        assert!(can.parts && !can.generation_prompt);
        assert!(!probed("{% for m in messages %}{{ m.content }}{% endfor %}").parts);
    }

    #[test]
    fn absent_content_printed_as_none_does_not_count() {
        assert!(!probed("{% for m in messages %}{{ m.get('content') }};{% endfor %}").null_content);
        assert!(probed("{% for m in messages %}{{ m.content }};{% endfor %}").null_content);
    }

    #[test]
    fn tool_calls_work_with_arguments_as_object_or_as_text() {
        let by = |arguments: &str| {
            let source = format!(
                "{{% for m in messages %}}{{{{ m.content }}}}{{% for c in m.tool_calls or [] %}}{{{{ c.function.name + {arguments} }}}}{{% endfor %}}{{% endfor %}}{{% for t in tools or [] %}}{{{{ t|tojson }}}}{{% endfor %}}"
            );
            probed(&source)
        };
        assert!(by("(c.function.arguments|tojson)").tool_calls);
        assert!(by("c.function.arguments").tool_calls);
        assert!(by("''").tools && !by("''").tool_calls);
    }
}
