//! The model's text → content and tool calls, by the syntax of the template in use.
//!
//! Strict: what opens a call and is not one is an error with its place, and the text stays with the caller, whole. Calls are
//! read as JSON and not looked for by their end, so that an argument may hold anything, the closing mark included.

use serde::Serialize;

use crate::json::{self, Json, JsonError, Member};
use crate::message::{FunctionCall, ToolCall};

/// How a template writes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolSyntax {
    /// `<tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>`, any number of them behind the text: Hermes, Qwen 2.5.
    Hermes,
    /// `[TOOL_CALLS]` and a list of `{"name": …, "arguments": {…}, "id": …}`, or `[TOOL_CALLS]name[ARGS]{…}` for each.
    Mistral,
    /// `{"name": …, "parameters": {…}}` and nothing else, with `;` between two, or the same behind `<|python_tag|>`: Llama 3.
    Llama,
}

/// What a model said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// The text beside the calls; nothing when it is only white space.
    pub content: Option<String>,
    /// `arguments` as the model spelled them. Where the syntax has no ids, they are counted: `call00000`, `call00001`, ….
    pub tool_calls: Vec<ToolCall>,
}

impl Reply {
    /// Whether two answers mean the same: white space around the text, ids, and the spelling of arguments do not count.
    pub fn means(&self, other: &Reply) -> bool {
        let text = |reply: &Reply| reply.content.as_deref().unwrap_or_default().trim().to_owned();
        let same_call = |(a, b): (&ToolCall, &ToolCall)| {
            let arguments = |call: &ToolCall| json::parse(&call.function.arguments);
            let same = match (arguments(a), arguments(b)) {
                (Ok(a), Ok(b)) => a.means(&b),
                _ => a.function.arguments == b.function.arguments,
            };
            same && a.function.name == b.function.name
        };
        text(self) == text(other)
            && self.tool_calls.len() == other.tool_calls.len()
            && self.tool_calls.iter().zip(&other.tool_calls).all(same_call)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tool call {call}: expected {expected}, found {found} at byte {at} of the answer")]
pub struct ToolCallError {
    /// From 0.
    pub call: usize,
    pub at: usize,
    pub expected: &'static str,
    pub found: String,
}

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
const PYTHON_TAG: &str = "<|python_tag|>";
const TOOL_CALLS: &str = "[TOOL_CALLS]";
const CALL_ID: &str = "[CALL_ID]";
const ARGS: &str = "[ARGS]";

/// Special tokens that are part of a call: they stay when tokens become a reply's text.
pub(crate) const MARKS: [&str; 6] = [OPEN, CLOSE, PYTHON_TAG, TOOL_CALLS, CALL_ID, ARGS];

impl ToolSyntax {
    pub(crate) const ALL: [ToolSyntax; 3] = [ToolSyntax::Hermes, ToolSyntax::Mistral, ToolSyntax::Llama];

    /// Takes an answer apart. An answer without a call is all content.
    pub fn parse(self, text: &str) -> Result<Reply, ToolCallError> {
        let mut reader = Reader { text, at: 0, calls: Vec::new() };
        let content = match self {
            ToolSyntax::Hermes => reader.hermes(),
            ToolSyntax::Mistral => reader.mistral(),
            ToolSyntax::Llama => reader.llama(),
        }?;
        let content = (reader.calls.is_empty() || !content.trim().is_empty()).then(|| content.to_owned());
        Ok(Reply { content, tool_calls: reader.calls })
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    calls: Vec<ToolCall>,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, mark: &str) -> bool {
        let taken = self.rest().starts_with(mark);
        self.at += if taken { mark.len() } else { 0 };
        taken
    }

    fn error(&self, expected: &'static str) -> ToolCallError {
        let start: String = self.rest().chars().take(20).collect();
        let found = if start.is_empty() { "the end".to_owned() } else { format!("`{}`", start.escape_debug()) };
        ToolCallError { call: self.calls.len(), at: self.at, expected, found }
    }

    fn hermes(&mut self) -> Result<&'t str, ToolCallError> {
        let open = self.text.find(OPEN);
        if let Some(close) = self.text[..open.unwrap_or(self.text.len())].find(CLOSE) {
            self.at = close;
            return Err(self.error("`<tool_call>` before `</tool_call>`"));
        }
        let Some(open) = open else { return Ok(self.text) };
        self.at = open;
        while self.at < self.text.len() {
            if !self.take(OPEN) {
                return Err(self.error("another `<tool_call>` or the end of the answer"));
            }
            self.call(&["arguments"])?;
            self.space();
            if !self.take(CLOSE) {
                let call = self.calls.len() - 1;
                return Err(ToolCallError { call, ..self.error("`</tool_call>`") });
            }
            self.space();
        }
        let content = &self.text[..open];
        Ok(content.strip_suffix('\n').unwrap_or(content))
    }

    fn mistral(&mut self) -> Result<&'t str, ToolCallError> {
        let Some(open) = self.text.find(TOOL_CALLS) else { return Ok(self.text) };
        self.at = open + TOOL_CALLS.len();
        self.space();
        if self.take("[") {
            self.mistral_list()?;
        } else {
            self.mistral_named()?;
            while self.at < self.text.len() {
                if !self.take(TOOL_CALLS) {
                    return Err(self.error("another `[TOOL_CALLS]` or the end of the answer"));
                }
                self.mistral_named()?;
            }
        }
        Ok(&self.text[..open])
    }

    fn mistral_list(&mut self) -> Result<(), ToolCallError> {
        loop {
            self.call(&["arguments"])?;
            self.space();
            if self.take("]") {
                break;
            }
            if !self.take(",") {
                return Err(self.error("`,` or `]`"));
            }
        }
        self.space();
        if self.at < self.text.len() { Err(self.error("the end of the answer")) } else { Ok(()) }
    }

    /// `name[ARGS]{…}` or `name[CALL_ID]id[ARGS]{…}`.
    fn mistral_named(&mut self) -> Result<(), ToolCallError> {
        let Some(end) = self.rest().find(ARGS) else {
            return Err(self.error("a list of calls, or a name and `[ARGS]`"));
        };
        let (name, id) = match self.rest()[..end].split_once(CALL_ID) {
            Some((name, id)) => (name.trim(), Some(id.trim().to_owned())),
            None => (self.rest()[..end].trim(), None),
        };
        if name.is_empty() {
            return Err(self.error("the name of a function"));
        }
        self.at += end + ARGS.len();
        self.space();
        let start = self.at;
        let (_, end) = json::parse_object(self.text, start).map_err(|error| self.json_error(error))?;
        self.push(name.to_owned(), self.text[start..end].to_owned(), id);
        self.at = end;
        self.space();
        Ok(())
    }

    fn llama(&mut self) -> Result<&'t str, ToolCallError> {
        let mut content = "";
        if !opens_llama_call(self.text) {
            let Some(tag) = self.text.find(PYTHON_TAG) else { return Ok(self.text) };
            content = &self.text[..tag];
            self.at = tag + PYTHON_TAG.len();
        }
        loop {
            self.call(&["parameters", "arguments"])?;
            self.space();
            if self.at == self.text.len() {
                return Ok(content);
            }
            if !self.take(";") {
                return Err(self.error("`;` and another call, or the end of the answer"));
            }
        }
    }

    /// `{"name": …, "arguments": {…}}`, in any order, with an `id` or a `type` where there is one.
    fn call(&mut self, arguments_keys: &[&str]) -> Result<(), ToolCallError> {
        self.space();
        let (members, end) = json::parse_object(self.text, self.at).map_err(|error| self.json_error(error))?;
        let (mut name, mut arguments, mut id) = (None, None, None);
        let known = match arguments_keys {
            ["arguments"] => "the keys `name` and `arguments`",
            _ => "the keys `name` and `parameters`",
        };
        for Member { key, value, range } in members {
            let place = range.start;
            let slot_is_free = match (key.as_str(), value) {
                ("name", Json::String(text)) if !text.is_empty() => name.replace(text).is_none(),
                ("id", Json::String(text)) => id.replace(text).is_none(),
                ("type", Json::String(text)) if text == "function" => true,
                (key, Json::Object(_)) if arguments_keys.contains(&key) => {
                    arguments.replace(self.text[range].to_owned()).is_none()
                }
                ("name", _) => return Err(self.error_at(place, "the name of a function, in double quotes")),
                (key, _) if arguments_keys.contains(&key) => {
                    return Err(self.error_at(place, "the arguments as an object"));
                }
                (key, _) => {
                    let found = format!("`{}`", key.escape_debug());
                    return Err(ToolCallError { found, ..self.error_at(place, known) });
                }
            };
            if !slot_is_free {
                return Err(self.error_at(place, "every key once"));
            }
        }
        let (Some(name), Some(arguments)) = (name, arguments) else { return Err(self.error(known)) };
        self.push(name, arguments, id);
        self.at = end;
        Ok(())
    }

    fn push(&mut self, name: String, arguments: String, id: Option<String>) {
        let id = id.unwrap_or_else(|| format!("call{:05}", self.calls.len()));
        let function = FunctionCall { name, arguments };
        self.calls.push(ToolCall { id, kind: "function".to_owned(), function });
    }

    fn error_at(&mut self, at: usize, expected: &'static str) -> ToolCallError {
        self.at = at;
        self.error(expected)
    }

    fn json_error(&self, error: JsonError) -> ToolCallError {
        ToolCallError { call: self.calls.len(), at: error.at, expected: error.expected, found: error.found }
    }
}

/// Whether an answer that is JSON means a call: other answers in JSON are answers. One that is broken off counts when it
/// names both keys.
fn opens_llama_call(text: &str) -> bool {
    if !text.trim_start().starts_with('{') {
        return false;
    }
    match json::parse_object(text, 0) {
        Ok((members, _)) => ["name", "parameters"].iter().all(|key| members.iter().any(|member| member.key == *key)),
        Err(_) => text.contains("\"name\"") && text.contains("\"parameters\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(syntax: ToolSyntax, text: &str, expect: Expect) {
        let shown = match syntax.parse(text) {
            Err(error) => format!("error: {error}"),
            Ok(Reply { content, tool_calls }) => {
                let calls = tool_calls
                    .iter()
                    .map(|call| format!("\n{} {} {}", call.id, call.function.name, call.function.arguments));
                format!("{content:?}{}", calls.collect::<String>())
            }
        };
        expect.assert_eq(&shown);
    }

    #[test]
    fn hermes_calls_stand_behind_the_text() {
        check(ToolSyntax::Hermes, "Just text, {\"name\": 1}.", expect![[r#"Some("Just text, {\"name\": 1}.")"#]]);
        check(
            ToolSyntax::Hermes,
            "Voy.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"b\":1.0, \"a\": \"</tool_call>\"}}\n</tool_call>\n<tool_call>{\"arguments\":{},\"name\":\"g\"}</tool_call>\n",
            expect![[r#"
                Some("Voy.")
                call00000 f {"b":1.0, "a": "</tool_call>"}
                call00001 g {}"#]],
        );
    }

    #[test]
    fn broken_hermes_calls_are_told_with_their_place() {
        for (text, expect) in [
            (
                "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}",
                expect!["error: tool call 0: expected `,` or `}`, found the end at byte 47 of the answer"],
            ),
            (
                "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n",
                expect!["error: tool call 0: expected `</tool_call>`, found the end at byte 43 of the answer"],
            ),
            (
                "<tool_call>\n{\"name\": \"f\"}\n</tool_call>",
                expect![[
                    r#"error: tool call 0: expected the keys `name` and `arguments`, found `{\"name\": \"f\"}\n</tool` at byte 12 of the answer"#
                ]],
            ),
            (
                "<tool_call>\n{\"name\": \"f\", \"arguments\": \"{}\"}\n</tool_call>",
                expect![[
                    r#"error: tool call 0: expected the arguments as an object, found `\"{}\"}\n</tool_call>` at byte 39 of the answer"#
                ]],
            ),
            (
                "<tool_call>\n{\"name\": \"f\", \"parameters\": {}}\n</tool_call>",
                expect![
                    "error: tool call 0: expected the keys `name` and `arguments`, found `parameters` at byte 40 of the answer"
                ],
            ),
            (
                "<tool_call>\n{\"name\": \"\", \"arguments\": {}}\n</tool_call>",
                expect![[
                    r#"error: tool call 0: expected the name of a function, in double quotes, found `\"\", \"arguments\": {}}` at byte 21 of the answer"#
                ]],
            ),
            (
                "<tool_call>\n{\"name\": \"f\", \"arguments\": {}, \"name\": \"g\"}\n</tool_call>",
                expect![[
                    r#"error: tool call 0: expected every key once, found `\"g\"}\n</tool_call>` at byte 51 of the answer"#
                ]],
            ),
            (
                "<tool_call>\nf(1)\n</tool_call>",
                expect!["error: tool call 0: expected `{`, found `f` at byte 12 of the answer"],
            ),
            (
                "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call> y listo",
                expect![
                    "error: tool call 1: expected another `<tool_call>` or the end of the answer, found `y listo` at byte 56 of the answer"
                ],
            ),
            (
                "{\"name\": \"f\", \"arguments\": {}}\n</tool_call>",
                expect![
                    "error: tool call 0: expected `<tool_call>` before `</tool_call>`, found `</tool_call>` at byte 31 of the answer"
                ],
            ),
        ] {
            check(ToolSyntax::Hermes, text, expect);
        }
    }

    #[test]
    fn answers_mean_the_same_in_another_spelling() {
        let read = |text: &str| ToolSyntax::Hermes.parse(text).unwrap();
        let call =
            |arguments: &str| read(&format!("<tool_call>{{\"name\": \"f\", \"arguments\": {arguments}}}</tool_call>"));
        let one = call(r#"{"a": 1.0, "b": ["ñ", {}], "c": 1e400}"#);
        assert!(one.means(&call(r#"{"c":1e400,"b":["\u00f1",{}],"a":1}"#)));
        assert!(!one.means(&call(r#"{"a": 1.0, "b": ["n", {}], "c": 1e400}"#)));
        assert!(!one.means(&call(r#"{"a": 1.0, "b": ["ñ", {}]}"#)));
        assert!(!one.means(&call(r#"{"a": 1.0, "b": ["ñ", {}], "c": 1e401}"#)));
        assert!(read(" sí\n").means(&read("sí")) && !read("sí").means(&read("no")) && !read("").means(&one));
    }

    #[test]
    fn llama_calls_are_the_whole_answer() {
        check(
            ToolSyntax::Llama,
            "{\"name\": \"f\", \"parameters\": {\"x\": \"; \"}}",
            expect![[r#"
            None
            call00000 f {"x": "; "}"#]],
        );
        check(
            ToolSyntax::Llama,
            "Veamos.<|python_tag|>{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {}}",
            expect![[r#"
                Some("Veamos.")
                call00000 f {}
                call00001 g {}"#]],
        );
        check(
            ToolSyntax::Llama,
            "{\"name\": \"Ana\", \"age\": 3}",
            expect![[r#"Some("{\"name\": \"Ana\", \"age\": 3}")"#]],
        );
        check(ToolSyntax::Llama, "{not json", expect![[r#"Some("{not json")"#]]);
        check(
            ToolSyntax::Llama,
            "{\"name\": \"f\", \"parameters\": {\"x\":",
            expect!["error: tool call 0: expected a value, found the end at byte 33 of the answer"],
        );
        check(
            ToolSyntax::Llama,
            "{\"name\": \"f\", \"parameters\": {}} done",
            expect![
                "error: tool call 1: expected `;` and another call, or the end of the answer, found `done` at byte 32 of the answer"
            ],
        );
        check(
            ToolSyntax::Llama,
            "<|python_tag|>search.call(q=\"x\")",
            expect!["error: tool call 0: expected `{`, found `s` at byte 14 of the answer"],
        );
    }

    #[test]
    fn mistral_calls_are_a_list_or_named_one_by_one() {
        check(
            ToolSyntax::Mistral,
            " [TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"x\": \"]\"}, \"id\": \"abcdefghi\"}, {\"name\": \"g\", \"arguments\": {}}]",
            expect![[r#"
                None
                abcdefghi f {"x": "]"}
                call00001 g {}"#]],
        );
        check(
            ToolSyntax::Mistral,
            "Voy.[TOOL_CALLS]f[CALL_ID]abc[ARGS]{\"x\": 1}[TOOL_CALLS]g[ARGS]{}",
            expect![[r#"
            Some("Voy.")
            abc f {"x": 1}
            call00001 g {}"#]],
        );
        check(ToolSyntax::Mistral, "nothing to call", expect![[r#"Some("nothing to call")"#]]);
        check(
            ToolSyntax::Mistral,
            "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}",
            expect!["error: tool call 1: expected `,` or `]`, found the end at byte 44 of the answer"],
        );
        check(
            ToolSyntax::Mistral,
            "[TOOL_CALLS] []",
            expect!["error: tool call 0: expected `{`, found `]` at byte 14 of the answer"],
        );
        check(
            ToolSyntax::Mistral,
            "[TOOL_CALLS]f{}",
            expect![
                "error: tool call 0: expected a list of calls, or a name and `[ARGS]`, found `f{}` at byte 12 of the answer"
            ],
        );
    }
}
