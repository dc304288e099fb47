//! What a chat template can carry, found by rendering words of our own and looking for them.

use serde::Serialize;

use crate::json;
use crate::message::{
    Content, ContentPart, Conversation, FunctionCall, FunctionDefinition, Message, Role, Tool, ToolCall,
};
use crate::template::{ChatTemplate, TemplateError};
use crate::template_values::ArgumentsAs;
use crate::tool_calls::ToolSyntax;

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
    /// Several calls in one message.
    pub parallel_calls: bool,
    /// A text beside the calls of a message.
    pub content_with_calls: bool,
    /// The ids that link a result to its call.
    pub tool_call_id: bool,
    /// How calls are written; nothing where the template's way is none of those that can be read back.
    pub tool_syntax: Option<ToolSyntax>,
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
            parallel_calls: false,
            content_with_calls: false,
            tool_call_id: false,
            tool_syntax: None,
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
/// Nine letters and digits, as Mistral's templates demand.
const CALL_ID: &str = "probe0001";

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

    probe_calls(template, &mut can);
    let call_alone = calls_message(None, 1);
    let absent = if can.tool_calls { call_alone.clone() } else { Message { content: None, ..answer() } };
    let nones = |text: &str| text.to_lowercase().matches("none").count();
    can.null_content = render(template, Conversation::new(vec![question(), absent]), false)
        .is_ok_and(|text| nones(&text) <= nones(&plain));

    let result =
        |role| Message { tool_call_id: Some(CALL_ID.into()), name: Some(OTHER.into()), ..Message::new(role, WORD) };
    let after_call = |role| vec![question(), call_alone.clone(), result(role)];
    let after_answer = |role| vec![question(), answer(), result(role)];
    let shows_result = |role| shows(template, after_call(role), WORD) || shows(template, after_answer(role), WORD);
    can.tool = shows_result(Role::Tool);
    can.function = shows_result(Role::Function);
    can.tool_call_id = render(template, Conversation::new(after_call(Role::Tool)), false)
        .is_ok_and(|text| text.matches(CALL_ID).count() > 1);

    let asked = render(template, Conversation::new(vec![question()]), false);
    let prompt = render(template, Conversation::new(vec![question()]), true);
    can.generation_prompt =
        matches!((asked, prompt), (Ok(asked), Ok(prompt)) if prompt.starts_with(&asked) && prompt.len() > asked.len());
    template.set_capabilities(can);
    Ok(())
}

/// Finds the form of arguments that a template writes as JSON or in its own way, and not as Python prints a dictionary;
/// then what may stand beside a call, and in which syntax the call is.
fn probe_calls(template: &mut ChatTemplate, can: &mut Capabilities) {
    for arguments_as in [ArgumentsAs::Object, ArgumentsAs::Text] {
        template.set_arguments_as(arguments_as);
        can.tool_calls = [Some(ANSWER), None].iter().any(|content| shows_calls(template, *content, 1));
        if can.tool_calls {
            can.parallel_calls = [Some(ANSWER), None].iter().any(|content| shows_calls(template, *content, 2));
            can.content_with_calls = shows_calls(template, Some(ANSWER), 1)
                && render_calls(template, Some(ANSWER), 1).is_ok_and(|text| text.contains(ANSWER));
            can.tool_syntax = tool_syntax(template);
            return;
        }
    }
    template.set_arguments_as(ArgumentsAs::Object);
}

/// The syntax in which the call is read back from the answer that the template writes: what follows the prompt, without
/// what follows a plain answer.
fn tool_syntax(template: &ChatTemplate) -> Option<ToolSyntax> {
    let question = || vec![Message::new(Role::User, QUESTION)];
    let prompt = render(template, with_tool(question()), true).ok()?;
    let answered = [question(), vec![Message::new(Role::Assistant, ANSWER)]].concat();
    let plain = render(template, with_tool(answered), false).ok()?;
    let end = &plain[plain.rfind(ANSWER)? + ANSWER.len()..];
    let whole = render_calls(template, None, 1).or_else(|_| render_calls(template, Some(""), 1)).ok()?;
    let answer = whole.strip_prefix(prompt.as_str())?;
    let answer = answer.strip_suffix(end).unwrap_or(answer);
    let expected = call(0);
    ToolSyntax::ALL.into_iter().find(|syntax| {
        syntax.parse(answer).is_ok_and(|reply| {
            let [found] = reply.tool_calls.as_slice() else { return false };
            let same = json::parse(&found.function.arguments) == json::parse(&expected.function.arguments);
            reply.content.is_none() && found.function.name == expected.function.name && same
        })
    })
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
    template.render_inputs(&inputs, conversation.messages.len(), prompt)
}

fn shows(template: &ChatTemplate, messages: Vec<Message>, word: &str) -> bool {
    render(template, Conversation::new(messages), false).is_ok_and(|text| text.contains(word))
}

fn shows_calls(template: &ChatTemplate, content: Option<&str>, count: usize) -> bool {
    render_calls(template, content, count).is_ok_and(|text| {
        let all = (0..count).all(|number| {
            let function = call(number).function;
            text.contains(&function.name) && text.contains(&key(number)) && text.contains(&value(number))
        });
        all && !text.contains("{'afinaprobekey")
    })
}

fn render_calls(template: &ChatTemplate, content: Option<&str>, count: usize) -> Result<String, TemplateError> {
    let messages = vec![Message::new(Role::User, QUESTION), calls_message(content, count)];
    render(template, with_tool(messages), false)
}

/// An answer with calls of its own number of names.
fn calls_message(content: Option<&str>, count: usize) -> Message {
    Message {
        content: content.map(|text| Content::Text(text.to_owned())),
        tool_calls: Some((0..count).map(call).collect()),
        ..Message::new(Role::Assistant, "")
    }
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

fn key(number: usize) -> String {
    format!("afinaprobekey{number}")
}

fn value(number: usize) -> String {
    format!("afinaprobevalue{number}")
}

fn call(number: usize) -> ToolCall {
    let arguments = format!("{{\"{}\": \"{}\"}}", key(number), value(number));
    let name = if number == 0 { OTHER.to_owned() } else { format!("afinaprobecall{number}") };
    let id = if number == 0 { CALL_ID.to_owned() } else { format!("call0000{number}") };
    ToolCall { id, kind: "function".into(), function: FunctionCall { name, arguments } }
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

    #[test]
    fn arguments_are_never_printed_as_python_would() {
        let source = "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments }}{% endfor %}{% endfor %}";
        let template = ChatTemplate::new(source.to_owned(), None, None).unwrap();
        let messages = vec![Message::new(Role::User, "u"), calls_message(Some("a"), 2)];
        let text = template.render(&Conversation::new(messages), false).unwrap();
        assert!(text.contains(r#"afinaprobecall1{"afinaprobekey1": "afinaprobevalue1"}"#), "{text}");
    }

    #[test]
    fn syntax_of_calls_is_recognised_by_reading_one_back() {
        let by = |calls: &str| {
            let source = format!(
                "{{% for m in messages %}}<{{{{ m.role }}}}>{{% if m.tool_calls %}}{calls}{{% else %}}{{{{ m.content }}}}{{% endif %}}</s>\n{{% endfor %}}{{% if add_generation_prompt %}}<assistant>{{% endif %}}"
            );
            probed(&source)
        };
        let function = "{{ m.tool_calls[0].function|tojson }}";
        let one_by_one =
            |call: &str| format!("{{% for c in m.tool_calls %}}{}{{% endfor %}}", call.replace("m.tool_calls[0]", "c"));
        let hermes = by(&one_by_one(&format!("<tool_call>{function}</tool_call>")));
        assert_eq!((hermes.tool_syntax, hermes.parallel_calls), (Some(ToolSyntax::Hermes), true));
        assert!(!hermes.content_with_calls && !hermes.tool_call_id);
        let llama =
            by(&function.replace("function|tojson", "function|tojson|replace('\"arguments\"', '\"parameters\"')"));
        assert_eq!((llama.tool_syntax, llama.parallel_calls), (Some(ToolSyntax::Llama), false));
        assert_eq!(by(&format!("[TOOL_CALLS] [{function}]")).tool_syntax, Some(ToolSyntax::Mistral));
        let mut other = by("call {{ m.tool_calls[0].function.name }} {{ m.tool_calls[0].function.arguments|tojson }}");
        assert_eq!((other.tool_syntax.take(), other.tool_calls), (None, true));
    }
}
