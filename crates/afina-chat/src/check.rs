//! What a template would lose of a conversation, told by name before anything is encoded.

use serde_json::json;

use crate::message::{Content, ContentPart, Conversation, FunctionDefinition, Message, Role, Tool, ToolCall};
use crate::template::{ChatTemplate, TemplateError};

impl ChatTemplate {
    /// Refuses, by name, what this template would drop or cannot render: roles, tools, tool calls and their results, absent
    /// content, images, refusals, names, and any text that does not reach the rendering.
    pub fn check(&self, conversation: &Conversation) -> Result<(), TemplateError> {
        if conversation.messages.is_empty() {
            return Err(TemplateError::Empty);
        }
        let tools = conversation.tools.as_deref().unwrap_or_default();
        if !tools.is_empty() && !self.capabilities().tools {
            return Err(TemplateError::UnsupportedTools);
        }
        for (index, message) in conversation.messages.iter().enumerate() {
            if let Some(feature) = self.unsupported(message) {
                return Err(TemplateError::Unsupported { feature, message: index });
            }
        }
        if !self.capabilities().tool_call_id {
            check_order_of_results(&conversation.messages)?;
        }
        if !tools.is_empty() {
            self.check_answers_are_no_calls(&conversation.messages)?;
        }
        self.check_nothing_dropped(conversation)
    }

    fn unsupported(&self, message: &Message) -> Option<&'static str> {
        let can = self.capabilities();
        match message.role {
            Role::System if !can.system => return Some("the role `system`"),
            Role::Developer if !can.developer => return Some("the role `developer`"),
            Role::Tool if !can.tool => return Some("the role `tool`"),
            Role::Function if !can.function => return Some("the role `function`"),
            _ => {}
        }
        let calls = message.tool_calls.as_ref().map_or(0, Vec::len);
        if calls > 0 && !can.tool_calls {
            return Some("`tool_calls`");
        }
        if calls > 1 && !can.parallel_calls {
            return Some("several `tool_calls` in one message");
        }
        if calls > 0 && !can.content_with_calls && !message.text().trim().is_empty() {
            return Some("`content` beside `tool_calls`");
        }
        if message.refusal.is_some() && !can.refusal {
            return Some("`refusal`");
        }
        // The name of a tool's or function's result repeats the call it answers.
        if message.name.is_some() && !can.name && !matches!(message.role, Role::Tool | Role::Function) {
            return Some("`name`");
        }
        match &message.content {
            None if !can.null_content && message.refusal.is_none() => Some("a message without `content`"),
            None | Some(Content::Text(_)) => None,
            Some(Content::Parts(parts)) => parts.iter().find_map(|part| match part {
                ContentPart::Text { .. } => None,
                ContentPart::ImageUrl { .. } => Some("images (content parts of type `image_url`)"),
                ContentPart::Refusal { .. } => Some("content parts of type `refusal`"),
            }),
        }
    }

    /// Where tools are offered, an answer is searched for calls: a text that holds the marks of one would not come back as
    /// the text it is.
    fn check_answers_are_no_calls(&self, messages: &[Message]) -> Result<(), TemplateError> {
        let Some(syntax) = self.capabilities().tool_syntax else { return Ok(()) };
        let reads_as_call = |message: &Message| {
            message.role == Role::Assistant
                && !syntax.parse(&message.text()).is_ok_and(|reply| reply.tool_calls.is_empty())
        };
        match messages.iter().position(reads_as_call) {
            Some(message) => Err(TemplateError::ReadsAsCall { message }),
            None => Ok(()),
        }
    }

    /// Renders the same conversation with words of our own for its texts, calls and tools, and looks for each word.
    fn check_nothing_dropped(&self, conversation: &Conversation) -> Result<(), TemplateError> {
        let messages = conversation.messages.iter().enumerate().map(|(index, message)| in_words(index, message));
        let tools = conversation.tools.as_deref();
        let probe = Conversation {
            messages: messages.collect(),
            tools: tools
                .map(|tools| tools.iter().enumerate().map(|(index, tool)| tool_in_words(index, tool)).collect()),
            parallel_tool_calls: conversation.parallel_tool_calls,
        };
        let text = self.render_probe(&probe)?;

        for (index, tool) in tools.unwrap_or_default().iter().enumerate() {
            let dropped = |what| TemplateError::DroppedTool { what, tool: tool.function.name.clone() };
            for (word, what) in tool_words(index).iter().zip(["name", "description", "parameters"]) {
                let is_there = match what {
                    "name" => true,
                    "description" => has_description(&tool.function),
                    _ => has_parameters(&tool.function),
                };
                if is_there && !text.contains(word) {
                    return Err(dropped(what));
                }
            }
        }
        for (message, asked) in conversation.messages.iter().enumerate() {
            if !asked.text().trim().is_empty() && !text.contains(&word(message, "text")) {
                return Err(TemplateError::Dropped { message, role: asked.role });
            }
            if asked.refusal.is_some() && !text.contains(&word(message, "refusal")) {
                return Err(TemplateError::Unsupported { feature: "`refusal` beside `content`", message });
            }
            for call in 0..asked.tool_calls.as_ref().map_or(0, Vec::len) {
                for (word, what) in call_words(message, call).iter().zip(["name", "arguments", "arguments"]) {
                    if !text.contains(word) {
                        return Err(TemplateError::DroppedCall { message, call, what });
                    }
                }
            }
        }
        Ok(())
    }

    /// A failure names the first message that the template cannot go past.
    fn render_probe(&self, probe: &Conversation) -> Result<String, TemplateError> {
        let inputs = self.inputs(probe, &str::to_owned)?;
        let all = probe.messages.len();
        self.render_inputs(&inputs, all, false).map_err(|error| {
            let first = (1..all).find(|&count| self.render_inputs(&inputs, count, false).is_err()).unwrap_or(all);
            TemplateError::AtMessage { message: first - 1, source: Box::new(error) }
        })
    }
}

/// A template without ids links the results of several calls to them by their order alone.
fn check_order_of_results(messages: &[Message]) -> Result<(), TemplateError> {
    let mut calls: &[ToolCall] = &[];
    let mut next = 0;
    for (index, message) in messages.iter().enumerate() {
        match (message.role, &message.tool_call_id) {
            (Role::Tool, Some(id)) => {
                if let Some(place) = calls.iter().position(|call| call.id == *id) {
                    if place < next {
                        return Err(TemplateError::ResultsOutOfOrder { message: index });
                    }
                    next = place + 1;
                }
            }
            _ => (calls, next) = (message.tool_calls.as_deref().unwrap_or_default(), 0),
        }
    }
    Ok(())
}

fn word(message: usize, what: &str) -> String {
    format!("afina{message}{what}probe")
}

/// Stand-ins for a call's name, and for a key and a value of its arguments.
fn call_words(message: usize, call: usize) -> [String; 3] {
    ["name", "key", "value"].map(|what| format!("afina{message}call{call}{what}"))
}

/// Stand-ins for a tool's name, its description, and a key of its parameters.
fn tool_words(tool: usize) -> [String; 3] {
    ["name", "description", "key"].map(|what| format!("afinatool{tool}{what}"))
}

fn in_words(index: usize, message: &Message) -> Message {
    let mut probe = message.clone();
    probe.weight = None;
    if !message.text().trim().is_empty() {
        probe.content = Some(Content::Text(word(index, "text")));
    }
    if message.refusal.is_some() {
        probe.refusal = Some(word(index, "refusal"));
    }
    for (number, call) in probe.tool_calls.iter_mut().flatten().enumerate() {
        let [name, key, value] = call_words(index, number);
        call.function.name = name;
        call.function.arguments = json!({ key: value }).to_string();
    }
    probe
}

fn tool_in_words(index: usize, tool: &Tool) -> Tool {
    let mut probe = tool.clone();
    let [name, description, key] = tool_words(index);
    if has_description(&tool.function) {
        probe.function.description = Some(description);
    }
    if has_parameters(&tool.function) {
        let property = json!({"type": "string", "description": "finds"});
        probe.function.parameters = Some(json!({"type": "object", "properties": {key: property}, "required": []}));
    }
    probe.function.name = name;
    probe
}

fn has_description(function: &FunctionDefinition) -> bool {
    function.description.as_ref().is_some_and(|text| !text.trim().is_empty())
}

fn has_parameters(function: &FunctionDefinition) -> bool {
    let properties = function.parameters.as_ref().and_then(|schema| schema.get("properties")?.as_object());
    properties.is_some_and(|properties| !properties.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{FunctionCall, ImageUrl};
    use expect_test::{Expect, expect};

    const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    const NO_SYSTEM: &str = "{% for m in messages %}{% if m.role == 'user' %}U:{{ m.content }};{% elif m.role == 'assistant' %}A:{{ m.content }};{% endif %}{% endfor %}";

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::new(source.to_owned(), Some("<s>".into()), Some("</s>".into())).unwrap()
    }

    fn check_conversation(source: &str, conversation: &Conversation, expect: Expect) {
        let text = match template(source).render(conversation, true) {
            Ok(text) => text,
            Err(TemplateError::AtMessage { message, source }) => format!("error at message {message}: {source}"),
            Err(error) => format!("error: {error}"),
        };
        expect.assert_eq(&text);
    }

    fn check(source: &str, messages: Vec<Message>, expect: Expect) {
        check_conversation(source, &Conversation::new(messages), expect);
    }

    fn user(text: &str) -> Message {
        Message::new(Role::User, text)
    }

    #[test]
    fn what_the_template_drops_is_refused_by_name() {
        check(
            NO_SYSTEM,
            vec![Message::new(Role::System, "s"), user("u")],
            expect!["error: message 0: the chat template does not render the role `system`"],
        );
        check(
            NO_SYSTEM,
            vec![user("u"), Message::new(Role::Tool, "4")],
            expect!["error: message 1: the chat template does not render the role `tool`"],
        );
        let named = Message { name: Some("ana".into()), ..user("u") };
        check(CHATML, vec![named], expect!["error: message 0: the chat template does not render `name`"]);
        let refusal = Message { content: None, refusal: Some("no".into()), ..Message::new(Role::Assistant, "") };
        check(
            CHATML,
            vec![user("u"), refusal],
            expect!["error: message 1: the chat template does not render `refusal`"],
        );
        let image = ContentPart::ImageUrl { image_url: ImageUrl { url: "data:,".into(), detail: None } };
        let image = Message { content: Some(Content::Parts(vec![image])), ..user("") };
        check(
            CHATML,
            vec![image],
            expect!["error: message 0: the chat template does not render images (content parts of type `image_url`)"],
        );
        check(CHATML, vec![], expect!["error: a conversation without messages cannot be rendered"]);
    }

    #[test]
    fn tool_calls_and_absent_content_are_refused_where_they_would_be_lost() {
        let function = FunctionCall { name: "f".into(), arguments: "{}".into() };
        let call = ToolCall { id: "c".into(), kind: "function".into(), function };
        let with_call = Message { tool_calls: Some(vec![call]), ..Message::new(Role::Assistant, "x") };
        check(
            CHATML,
            vec![user("u"), with_call],
            expect!["error: message 1: the chat template does not render `tool_calls`"],
        );
        let without = Message { content: None, ..Message::new(Role::Assistant, "") };
        check(
            CHATML,
            vec![user("u"), without],
            expect!["error: message 1: the chat template does not render a message without `content`"],
        );
    }

    #[test]
    fn message_dropped_only_in_this_place_is_refused() {
        let first_system = "{% for m in messages %}{% if m.role != 'system' or loop.first %}{{ m.role }}:{{ m.content }};{% endif %}{% endfor %}";
        let system = Message::new(Role::System, "s");
        check(first_system, vec![system.clone(), user("u")], expect!["system:s;user:u;"]);
        check(
            first_system,
            vec![user("u"), system, user("v")],
            expect!["error: message 1: the chat template drops the text of this `system` message"],
        );
    }

    /// Names of tools; calls, where `FIRST` stands, else content.
    const TOOLS: &str = "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}{% for m in messages %}{{ m.role }}:{% if m.tool_calls %}{{ FIRST }}{% else %}{{ m.content }}{% endif %};{% endfor %}";

    fn call(id: &str) -> ToolCall {
        let function = FunctionCall { name: "f".into(), arguments: r#"{"x": 1}"#.into() };
        ToolCall { id: id.into(), kind: "function".into(), function }
    }

    fn calls(content: Option<&str>, ids: &[&str]) -> Message {
        Message {
            content: content.map(|text| Content::Text(text.into())),
            tool_calls: Some(ids.iter().map(|id| call(id)).collect()),
            ..Message::new(Role::Assistant, "")
        }
    }

    fn result(id: &str) -> Message {
        Message { tool_call_id: Some(id.into()), ..Message::new(Role::Tool, "4") }
    }

    fn one_call_alone() -> String {
        TOOLS.replace("FIRST", "m.tool_calls[0].function|tojson")
    }

    #[test]
    fn what_stands_beside_a_call_is_refused_where_it_would_be_lost() {
        let source = one_call_alone();
        check(
            &source,
            vec![user("u"), calls(None, &["a"])],
            expect![[r#"user:u;assistant:{"name": "f", "arguments": {"x": 1}};"#]],
        );
        check(
            &source,
            vec![user("u"), calls(Some("Voy."), &["a"])],
            expect!["error: message 1: the chat template does not render `content` beside `tool_calls`"],
        );
        check(
            &source,
            vec![user("u"), calls(None, &["a", "b"])],
            expect!["error: message 1: the chat template does not render several `tool_calls` in one message"],
        );
    }

    #[test]
    fn tools_lose_nothing_of_their_declaration() {
        let tool = |parameters| {
            let description = Some("Busca.".to_owned());
            let function = FunctionDefinition { name: "f".into(), description, parameters, strict: None };
            Tool { kind: "function".into(), function }
        };
        let conversation = |tool| Conversation { tools: Some(vec![tool]), ..Conversation::new(vec![user("u")]) };
        let with_parameters = conversation(tool(Some(json!({"type": "object", "properties": {"x": {}}}))));
        check_conversation(
            &one_call_alone(),
            &with_parameters,
            expect!["error: the chat template drops the description of tool `f`"],
        );
        let named = one_call_alone().replace("t.function.name }}", "t.function.name }}{{ t.function.description }}");
        check_conversation(
            &named,
            &with_parameters,
            expect!["error: the chat template drops the parameters of tool `f`"],
        );
        check_conversation(
            &named,
            &conversation(tool(Some(json!({"type": "object", "properties": {}})))),
            expect!["[fBusca.]user:u;"],
        );
    }

    #[test]
    fn results_of_several_calls_come_in_their_order() {
        let all = TOOLS.replace("{{ FIRST }}", "{% for c in m.tool_calls %}{{ c.function|tojson }}{% endfor %}");
        let two = vec![user("u"), calls(None, &["a", "b"])];
        check(
            &all,
            [two.clone(), vec![result("a"), result("b")]].concat(),
            expect![[
                r#"user:u;assistant:{"name": "f", "arguments": {"x": 1}}{"name": "f", "arguments": {"x": 1}};tool:4;tool:4;"#
            ]],
        );
        let crossed = [two, vec![result("b"), result("a")]].concat();
        check(
            &all,
            crossed.clone(),
            expect![
                "error: message 3: the chat template drops `tool_call_id`, and the results are not in the order of their calls"
            ],
        );
        let ids = all
            .replace("{{ c.function|tojson }}", "{{ c.function|tojson }}{{ c.id }}")
            .replace("{{ m.role }}", "{{ m.role }}{{ m.tool_call_id }}");
        check(
            &ids,
            crossed,
            expect![[
                r#"user:u;assistant:{"name": "f", "arguments": {"x": 1}}a{"name": "f", "arguments": {"x": 1}}b;toolb:4;toola:4;"#
            ]],
        );
    }

    #[test]
    fn message_that_the_template_stops_at_is_named() {
        let source = NO_SYSTEM
            .replace("{% if m", "{% if m.content == '' %}{{ raise_exception('nothing said') }}{% endif %}{% if m");
        check(
            &source,
            vec![user("u"), user("")],
            expect!["error at message 1: the chat template refuses this conversation: `nothing said`"],
        );
    }

    #[test]
    fn answer_that_would_be_read_as_a_call_is_refused_where_tools_are_offered() {
        let source = "{% for t in tools or [] %}{{ t|tojson }}{% endfor %}{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls or [] %}\n<tool_call>\n{{ c.function|tojson }}\n</tool_call>{% endfor %};{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
        let messages = vec![user("u"), Message::new(Role::Assistant, "Write <tool_call> for a call.")];
        check(source, messages.clone(), expect!["user:u;assistant:Write <tool_call> for a call.;assistant:"]);
        let function = FunctionDefinition { name: "f".into(), description: None, parameters: None, strict: None };
        let tools = Some(vec![Tool { kind: "function".into(), function }]);
        check_conversation(
            source,
            &Conversation { tools, ..Conversation::new(messages) },
            expect!["error: message 1: the text of this answer reads as a tool call"],
        );
    }
}
