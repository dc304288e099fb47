//! A conversation that passed every rule. There is no other way to get one.

use afina_chat::{
    Content, ContentPart, Conversation, FunctionCall, FunctionDefinition, ImageUrl, Message, Role, Tool, ToolCall,
};

use crate::{
    json::{Kind, Value},
    view::{self, Purpose, Turns},
};

/// A record without errors, ready to be encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    line: usize,
    conversation: Conversation,
}

impl Example {
    /// Line of the file that the record stands in, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    pub fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    pub fn into_conversation(self) -> Conversation {
        self.conversation
    }

    /// From a record that no rule called wrong. The error is a value of a type that it cannot have.
    ///
    /// The deprecated `functions`, `function_call` and role `function` become tools, calls and role `tool`.
    pub(crate) fn new<'t>(line: usize, record: Value<'t>, turns: &Turns<'t>) -> Result<Example, Value<'t>> {
        let mut messages = Vec::with_capacity(turns.messages.len());
        let mut last_call = String::new();
        for message in &turns.messages {
            messages.push(read_message(message, &mut last_call)?);
        }
        let parallel_tool_calls = present(record.get("parallel_tool_calls")).map(boolean).transpose()?;
        Ok(Example {
            line,
            conversation: Conversation { messages, tools: tools(record, turns.purpose)?, parallel_tool_calls },
        })
    }
}

fn read_message<'t>(message: &view::Message<'t>, last_call: &mut String) -> Result<Message, Value<'t>> {
    let role = message.role.ok_or(message.value)?;
    let is_assistant = role == Role::Assistant;
    let content = present(message.content).map(content).transpose()?;
    let mut tool_calls = None;
    if is_assistant {
        let new = present(message.tool_calls)
            .into_iter()
            .flat_map(|calls| calls.items())
            .map(|call| tool_call(call, message));
        let old = present(message.function_call).map(|call| {
            Ok(ToolCall { id: call_id(message), kind: "function".to_owned(), function: function_call(call)? })
        });
        let calls = new.chain(old).collect::<Result<Vec<_>, _>>()?;
        if let Some(last) = calls.last() {
            last_call.clone_from(&last.id);
            tool_calls = Some(calls);
        }
    }
    let tool_call_id = match role {
        Role::Tool => present(message.tool_call_id).map(string).transpose()?,
        Role::Function => Some(last_call.clone()),
        _ => None,
    };
    Ok(Message {
        role: if role == Role::Function { Role::Tool } else { role },
        content,
        name: present(message.name).map(string).transpose()?,
        refusal: present(message.refusal).filter(|_| is_assistant).map(string).transpose()?,
        tool_calls,
        tool_call_id,
        weight: message.weight.filter(|_| is_assistant).and_then(|weight| weight.raw().parse().ok()),
    })
}

fn content(value: Value) -> Result<Content, Value> {
    if value.kind() == Kind::String {
        return string(value).map(Content::Text);
    }
    let part = |part: Value<'_>| -> Option<ContentPart> {
        let kind = part.get("type")?.text()?;
        let text = |name| string(part.get(name)?).ok();
        Some(match kind.as_ref() {
            "text" => ContentPart::Text { text: text("text")? },
            "refusal" => ContentPart::Refusal { refusal: text("refusal")? },
            "image_url" => {
                let image = part.get("image_url")?;
                let detail = present(image.get("detail")).map(string).transpose().ok()?;
                ContentPart::ImageUrl { image_url: ImageUrl { url: string(image.get("url")?).ok()?, detail } }
            }
            _ => return None,
        })
    };
    let parts = value.items().map(|item| part(item).ok_or(item)).collect::<Result<Vec<_>, _>>()?;
    if parts.is_empty() { Err(value) } else { Ok(Content::Parts(parts)) }
}

fn tools(record: Value, purpose: Purpose) -> Result<Option<Vec<Tool>>, Value> {
    // In a reinforcement file `functions` is a field like any other, for the grader.
    let old = if purpose == Purpose::Train { record.get("functions") } else { None };
    let (new, old) = (present(record.get("tools")), present(old));
    if let Some(old) = old.filter(|old| old.kind() != Kind::Array) {
        return Err(old);
    }
    let new_functions = new.into_iter().flat_map(|tools| tools.items()).map(|tool| tool.get("function").ok_or(tool));
    let old_functions = old.into_iter().flat_map(|functions| functions.items()).map(Ok);
    let tools = new_functions
        .chain(old_functions)
        .map(|function| Ok(Tool { kind: "function".to_owned(), function: definition(function?)? }))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((new.is_some() || old.is_some()).then_some(tools))
}

fn definition(function: Value) -> Result<FunctionDefinition, Value> {
    Ok(FunctionDefinition {
        name: string(function.get("name").ok_or(function)?)?,
        description: present(function.get("description")).map(string).transpose()?,
        parameters: present(function.get("parameters"))
            .map(|parameters| serde_json::from_str(parameters.raw()).map_err(|_| parameters))
            .transpose()?,
        strict: present(function.get("strict")).map(boolean).transpose()?,
    })
}

fn tool_call<'t>(call: Value<'t>, message: &view::Message) -> Result<ToolCall, Value<'t>> {
    let id = match present(call.get("id")) {
        Some(id) => string(id)?,
        None => call_id(message),
    };
    Ok(ToolCall { id, kind: "function".to_owned(), function: function_call(call.get("function").ok_or(call)?)? })
}

/// An id for a call that has none.
fn call_id(message: &view::Message) -> String {
    format!("call_{}", message.index)
}

fn function_call(function: Value) -> Result<FunctionCall, Value> {
    let text = |name| string(function.get(name).ok_or(function)?);
    Ok(FunctionCall { name: text("name")?, arguments: text("arguments")? })
}

fn present(value: Option<Value>) -> Option<Value> {
    value.filter(|value| !value.is_null())
}

fn string(value: Value) -> Result<String, Value> {
    value.text().map(|text| text.into_owned()).ok_or(value)
}

fn boolean(value: Value) -> Result<bool, Value> {
    match value.kind() {
        Kind::True => Ok(true),
        Kind::False => Ok(false),
        _ => Err(value),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::{Method, Profile, ReadOptions, testing::read_all};

    #[track_caller]
    fn check(record: &str, expect: expect_test::Expect) {
        let (_, examples, _) = read_all(record.as_bytes(), &ReadOptions::new(Method::Sft, Profile::Local));
        let shown: String = examples
            .iter()
            .map(|example| format!("{}: {}\n", example.line(), serde_json::to_string(example.conversation()).unwrap()))
            .collect();
        expect.assert_eq(&shown);
    }

    #[test]
    fn a_record_becomes_the_conversation_it_says() {
        check(
            concat!(
                r#"{"messages":[{"content":"s\u00e9","role":"system"},{"role":"user","content":[{"type":"text","text":"a\nb"},{"type":"image_url","image_url":{"url":"https://x/y.png"}}],"name":"ana"},"#,
                r#"{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}],"weight":0},"#,
                r#"{"role":"tool","tool_call_id":"c","content":"1"},{"role":"assistant","content":"ok","weight":1}],"#,
                r#""tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"z":1,"a":[]},"strict":true}}],"parallel_tool_calls":false}"#
            ),
            expect![[r#"
                1: {"messages":[{"role":"system","content":"sé"},{"role":"user","content":[{"type":"text","text":"a\nb"},{"type":"image_url","image_url":{"url":"https://x/y.png"}}],"name":"ana"},{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}],"weight":0},{"role":"tool","content":"1","tool_call_id":"c"},{"role":"assistant","content":"ok","weight":1}],"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"z":1,"a":[]},"strict":true}}],"parallel_tool_calls":false}
            "#]],
        );
    }

    #[test]
    fn deprecated_functions_become_tools() {
        check(
            concat!(
                r#"{"messages":[{"role":"user","content":"x"},{"role":"assistant","function_call":{"name":"f","arguments":"{}"}},"#,
                r#"{"role":"function","name":"f","content":"1"},{"role":"assistant","content":"ok"}],"functions":[{"name":"f","parameters":{}}]}"#
            ),
            expect![[r#"
                1: {"messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","content":"1","name":"f","tool_call_id":"call_1"},{"role":"assistant","content":"ok"}],"tools":[{"type":"function","function":{"name":"f","parameters":{}}}]}
            "#]],
        );
    }

    #[test]
    fn a_record_with_an_error_becomes_no_example() {
        check(r#"{"messages":[{"role":"bot","content":"x"}]}"#, expect![[""]]);
    }
}
