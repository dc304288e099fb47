//! A call that a template renders is the call that is read back from the tokens, whatever its arguments say.

use std::fmt::Write as _;
use std::path::PathBuf;

use afina_chat::{
    ChatFormat, ChatTemplate, Content, Conversation, FALLBACKS, FunctionCall, FunctionDefinition, Message, Role,
    Tokenizer, Tool, ToolCall, ToolSyntax, TrainOn,
};

/// As Mistral's own templates write calls: a list behind a mark, with nine letters for an id.
const MISTRAL: &str = "{{ bos_token }}{% for t in tools or [] %}[TOOL]{{ t|tojson }}{% endfor %}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]{% elif m.tool_calls %}[TOOL_CALLS] [{% for c in m.tool_calls %}{% set out = c.function|tojson %}{{ out[:-1] }}, \"id\": \"{{ c.id }}\"}{% if not loop.last %}, {% endif %}{% endfor %}]{{ eos_token }}{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}";

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chat")
}

fn format(source: &str, tokenizer: &str, bos: &str, eos: &str) -> ChatFormat {
    let template = ChatTemplate::new(source.to_owned(), Some(bos.into()), Some(eos.into())).unwrap();
    let tokenizer = Tokenizer::from_file(&fixtures().join(format!("tokenizers/{tokenizer}.json"))).unwrap();
    ChatFormat { template, tokenizer }
}

/// Templates that call tools, with the calls that one message may hold.
fn formats() -> Vec<(ChatFormat, usize)> {
    let llama3_1 = std::fs::read_to_string(fixtures().join("templates/llama3_1.jinja")).unwrap();
    vec![
        (format(FALLBACKS[0].source, "smollm2", "<|im_start|>", "<|im_end|>"), 3),
        (format(FALLBACKS[1].source, "llama3", "<|begin_of_text|>", "<|eot_id|>"), 3),
        (format(&llama3_1, "llama3", "<|begin_of_text|>", "<|eot_id|>"), 1),
        (format(MISTRAL, "smollm2", "", "<|im_end|>"), 3),
    ]
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn pick<'t>(&mut self, list: &[&'t str]) -> &'t str {
        list[self.below(list.len())]
    }
}

const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "-0.0",
    "1",
    "1.0",
    "1.10",
    "1e400",
    "-1E-400",
    "1e5",
    "2.5e-3",
    "123456789012345678901234567890",
    "0.1",
    "-17",
    "1e-07",
    "9007199254740993",
];
const TEXTS: &[&str] = &[
    "",
    "ñ",
    "¿Dónde?",
    "</tool_call>",
    "\n<tool_call>\n",
    "\"",
    "\\",
    "<|im_end|>",
    "<|eot_id|>",
    "[TOOL_CALLS]",
    "]",
    "; ",
    "<|python_tag|>",
    "👩‍👩‍👧‍👦",
    "\u{fdd0}",
    "\t\r\u{8}\u{c}\u{1}\u{7f}",
    "{{ x }}",
    "{\"name\": 1}",
    "'",
    "/",
    "\u{2028}",
    "null",
    " ",
    "[ARGS]",
    "<|",
    "|>",
];

/// The text of a string, as short as Python writes it, and with everything escaped that may be.
fn string(text: &str, escaped: bool) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || escaped => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write!(out, "\\u{unit:04x}").unwrap());
            }
            c => out.push(c),
        }
    }
    out + "\""
}

/// A value twice: as Python's `json.dumps` writes it, and as differently as JSON allows.
fn value(random: &mut Random, depth: usize) -> [String; 2] {
    match random.below(if depth > 3 { 4 } else { 6 }) {
        0 => [0, 0].map(|_| "null".to_owned()),
        1 => {
            let number = random.pick(NUMBERS);
            [number.to_owned(), number.to_owned()]
        }
        2 | 3 => {
            let text: String = (0..random.below(4)).map(|_| random.pick(TEXTS)).collect();
            [string(&text, false), string(&text, true)]
        }
        4 => {
            let items: Vec<[String; 2]> = (0..random.below(3)).map(|_| value(random, depth + 1)).collect();
            let join = |way: usize, between: &str| {
                items.iter().map(|item| item[way].as_str()).collect::<Vec<_>>().join(between)
            };
            [format!("[{}]", join(0, ", ")), format!("[ {}\n]", join(1, ","))]
        }
        _ => object(random, depth + 1),
    }
}

fn object(random: &mut Random, depth: usize) -> [String; 2] {
    let members: Vec<(String, [String; 2])> = (0..random.below(4))
        .map(|index| (format!("{}{}", random.pick(TEXTS), 9 - index), value(random, depth)))
        .collect();
    let join = |way: usize, colon: &str, between: &str| {
        let member = |(key, value): &(String, [String; 2])| format!("{}{colon}{}", string(key, way == 1), value[way]);
        members.iter().map(member).collect::<Vec<_>>().join(between)
    };
    [format!("{{{}}}", join(0, ": ", ", ")), format!("{{\r\n{}\t}}", join(1, " :", " ,"))]
}

fn asked() -> Conversation {
    let parameters = serde_json::json!({"type": "object", "properties": {"x": {"type": "number"}}});
    let function = FunctionDefinition {
        name: "f".into(),
        description: Some("Suma.".into()),
        parameters: Some(parameters),
        strict: None,
    };
    let tools = Some(vec![Tool { kind: "function".into(), function }]);
    Conversation { tools, ..Conversation::new(vec![Message::new(Role::User, "¿Cuánto?")]) }
}

#[test]
fn rendered_calls_are_read_back_as_they_were() {
    let mut random = Random(7);
    for (format, most) in formats() {
        for _ in 0..150 {
            let mut conversation = asked();
            let count = 1 + random.below(most);
            let (written, given): (Vec<_>, Vec<_>) = (0..count)
                .map(|number| {
                    let [short, long] = object(&mut random, 0);
                    let function = FunctionCall { name: format!("f-{number}_X"), arguments: long };
                    let id = format!("id000000{number}");
                    (short, ToolCall { id, kind: "function".into(), function })
                })
                .unzip();
            conversation.messages.push(Message {
                content: None,
                tool_calls: Some(given.clone()),
                ..Message::new(Role::Assistant, "")
            });
            let tokens = format.answer_tokens(&conversation, 1).unwrap();
            let reply = format.parse_answer(&format.answer_text(&tokens)).unwrap();
            assert_eq!(reply.content, None);
            let read: Vec<(&str, &str)> = reply
                .tool_calls
                .iter()
                .map(|call| (call.function.name.as_str(), call.function.arguments.as_str()))
                .collect();
            let expected: Vec<(&str, &str)> = given
                .iter()
                .zip(&written)
                .map(|(call, written)| (call.function.name.as_str(), written.as_str()))
                .collect();
            assert_eq!(read, expected);

            // Read back and rendered again, the answer is the same to the token: a conversation goes on where it was.
            conversation.messages[1].tool_calls = Some(reply.tool_calls);
            if format.template.capabilities().tool_call_id {
                continue;
            }
            assert_eq!(format.answer_tokens(&conversation, 1).unwrap(), tokens);
        }
    }
}

#[test]
fn syntax_of_every_template_is_found() {
    let found: Vec<_> =
        formats().iter().map(|(format, _)| format.template.capabilities().tool_syntax.unwrap()).collect();
    assert_eq!(found, [ToolSyntax::Hermes, ToolSyntax::Hermes, ToolSyntax::Llama, ToolSyntax::Mistral]);
}

#[test]
fn calls_are_trained_and_results_are_not_and_weight_zero_wins() {
    let call = |number: usize| {
        let function = FunctionCall { name: "f".into(), arguments: format!("{{\"x\":{number}}}") };
        ToolCall { id: format!("c{number}"), kind: "function".into(), function }
    };
    let result = |number: usize| Message { tool_call_id: Some(format!("c{number}")), ..Message::new(Role::Tool, "4") };
    let mut conversation = asked();
    conversation.messages.extend([
        Message {
            content: Some(Content::Text("Voy.".into())),
            tool_calls: Some(vec![call(1), call(2)]),
            ..Message::new(Role::Assistant, "")
        },
        result(1),
        result(2),
        Message::new(Role::Assistant, "Ocho."),
    ]);
    let trained = |conversation: &Conversation| -> Vec<String> {
        let pieces = formats()[0].0.training_pieces(conversation, TrainOn::Assistant).unwrap();
        pieces
            .chunk_by(|a, b| a.trained == b.trained)
            .filter(|run| run[0].trained)
            .map(|run| run.iter().map(|piece| piece.text.as_str()).collect())
            .collect()
    };
    let calls = "Voy.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 2}}\n</tool_call><|im_end|>";
    assert_eq!(trained(&conversation), [calls, "Ocho.<|im_end|>"]);
    conversation.messages[1].weight = Some(0);
    assert_eq!(trained(&conversation), ["Ocho.<|im_end|>"]);
}
