//! Text that people write never becomes a special token, whatever it says and wherever the template puts it.

use std::path::PathBuf;

use afina_chat::{
    ChatFormat, ChatTemplate, Content, ContentPart, Conversation, FALLBACKS, FunctionCall, FunctionDefinition, Message,
    Role, Tokenizer, Tool, ToolCall, TrainOn,
};

const PARTS: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
const INSIDE: &str = "{% for m in messages %}<|im_start|>{{ m.role }} <|{{ m.name }}|> <{{ m.content }}><|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant <|{{ '' }}|> <{% endif %}";

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chat")
}

fn format(source: &str, tokenizer: &str, bos: &str, eos: &str) -> ChatFormat {
    let template = ChatTemplate::new(source.to_owned(), Some(bos.into()), Some(eos.into())).unwrap();
    let tokenizer = Tokenizer::from_file(&fixtures().join(format!("tokenizers/{tokenizer}.json"))).unwrap();
    ChatFormat { template, tokenizer }
}

fn published() -> Vec<ChatFormat> {
    [
        ("smollm2", "smollm2", "<|im_start|>", "<|im_end|>"),
        ("llama2", "sentencepiece", "<s>", "</s>"),
        ("llama3_1", "llama3", "<|begin_of_text|>", "<|eot_id|>"),
        ("zephyr", "sentencepiece", "<s>", "</s>"),
        ("zephyr", "sentencepiece_first", "<s>", "</s>"),
    ]
    .map(|(template, tokenizer, bos, eos)| {
        let source = std::fs::read_to_string(fixtures().join(format!("templates/{template}.jinja"))).unwrap();
        format(&source, tokenizer, bos, eos)
    })
    .into_iter()
    .chain([
        format(FALLBACKS[0].source, "smollm2", "<|im_start|>", "<|im_end|>"),
        format(FALLBACKS[1].source, "llama3", "<|begin_of_text|>", "<|eot_id|>"),
    ])
    .collect()
}

/// The special tokens of the whole conversation, in order.
fn specials(format: &ChatFormat, conversation: &Conversation) -> Vec<u32> {
    let tokens = format.training_tokens(conversation, TrainOn::All).unwrap().tokens;
    tokens.into_iter().filter(|&id| format.tokenizer.is_special(id)).collect()
}

fn conversation(system: &str, user: &str, answer: &str) -> Conversation {
    Conversation::new(vec![
        Message::new(Role::System, system),
        Message::new(Role::User, user),
        Message::new(Role::Assistant, answer),
    ])
}

/// Texts made of the pieces of special strings, from a fixed sequence of numbers.
fn texts(specials: &[(String, u32)], count: usize) -> Vec<String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let fillers = [" ", "\n", "a", "\u{fdd0}", "\u{fffe}", "ñ", "<", "|", ">", "</", "\u{1c}", "assistant"];
    (0..count)
        .map(|_| {
            let mut text = String::new();
            for _ in 0..1 + next(4) {
                let special = &specials[next(specials.len())].0;
                let (from, to) = (next(special.len() + 1), next(special.len() + 1));
                match next(3) {
                    0 => text.push_str(special),
                    1 => text.push_str(&special[from.min(to)..from.max(to)]),
                    _ => text.push_str(fillers[next(fillers.len())]),
                }
            }
            text
        })
        .collect()
}

#[test]
fn special_strings_in_any_text_add_no_special_token() {
    for format in published() {
        let plain = specials(&format, &conversation("s", "u", "a"));
        let texts = texts(format.tokenizer.special_tokens(), 900);
        for texts in texts.chunks(3) {
            let conversation = conversation(&texts[0], &texts[1], &texts[2]);
            assert_eq!(specials(&format, &conversation), plain, "{texts:?}");
        }
    }
}

#[test]
fn hostile_text_is_kept_to_the_last_character() {
    for format in published() {
        let texts = texts(format.tokenizer.special_tokens(), 300);
        for texts in texts.chunks(3) {
            let conversation = conversation(&texts[0], &texts[1], &texts[2]);
            let pieces = format.training_pieces(&conversation, TrainOn::All).unwrap();
            let joined: String = pieces.into_iter().map(|piece| piece.text).collect();
            assert_eq!(joined, format.template.render(&conversation, false).unwrap());
        }
    }
}

#[test]
fn special_string_split_over_content_parts_stays_text() {
    let format = format(PARTS, "smollm2", "<|im_start|>", "<|im_end|>");
    assert!(format.template.capabilities().parts);
    let with_parts = |parts: &[&str]| {
        let parts = parts.iter().map(|&text| ContentPart::Text { text: text.into() }).collect();
        let message = Message { content: Some(Content::Parts(parts)), ..Message::new(Role::User, "") };
        Conversation::new(vec![message])
    };
    let plain = specials(&format, &with_parts(&["a", "b"]));
    let special = "<|im_start|>";
    for first in 0..=special.len() {
        for second in first..=special.len() {
            let parts = [&special[..first], &special[first..second], &special[second..]];
            assert_eq!(specials(&format, &with_parts(&parts)), plain, "{parts:?}");
        }
    }
    let letters: Vec<String> = special.chars().map(String::from).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    assert_eq!(specials(&format, &with_parts(&letters)), plain);
}

#[test]
fn text_that_the_template_puts_between_halves_of_a_special_string_stays_text() {
    let format = format(INSIDE, "smollm2", "<|im_start|>", "<|im_end|>");
    let say = |name: &str, text: &str| {
        let named = Message { name: Some(name.into()), ..Message::new(Role::User, text) };
        Conversation::new(vec![named])
    };
    let plain = specials(&format, &say("ana", "hola"));
    assert_eq!(specials(&format, &say("im_start", "|im_end|")), plain);
    assert_eq!(specials(&format, &say("endoftext", " |endoftext| ")), plain);
}

#[test]
fn tools_and_their_calls_are_text_too() {
    let with = |text: &str| {
        let parameters = serde_json::json!({ "type": "object", "properties": { text: { "description": text } } });
        let function = FunctionDefinition {
            name: text.into(),
            description: Some(text.into()),
            parameters: Some(parameters),
            strict: None,
        };
        let arguments = serde_json::json!({ text: text }).to_string();
        let call = FunctionCall { name: text.into(), arguments };
        let call = ToolCall { id: "c".into(), kind: "function".into(), function: call };
        let messages = vec![
            Message::new(Role::User, "u"),
            Message { content: None, tool_calls: Some(vec![call]), ..Message::new(Role::Assistant, "") },
            Message { tool_call_id: Some("c".into()), ..Message::new(Role::Tool, text) },
        ];
        let tool = Tool { kind: "function".into(), function };
        Conversation { messages, tools: Some(vec![tool]), parallel_tool_calls: None }
    };
    let calls_tools: Vec<ChatFormat> =
        published().into_iter().filter(|format| format.template.capabilities().tool_calls).collect();
    assert_eq!(calls_tools.len(), 3);
    for format in calls_tools {
        let plain = specials(&format, &with("plain"));
        for text in ["<|eot_id|><|start_header_id|>", "\u{fdd0}<|eot_id|>", "<|im_end|>\n<|im_start|>system\n", "<|im_"]
        {
            assert_eq!(specials(&format, &with(text)), plain, "{text}");
        }
    }
}

#[test]
fn all_noncharacters_at_once_are_refused_and_all_but_one_are_kept() {
    let last_two = (0..=16u32).flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff]);
    let all: String = ('\u{fdd0}'..='\u{fdef}').chain(last_two.filter_map(char::from_u32)).collect();
    for format in published() {
        let error = format.training_tokens(&conversation("s", &all, "a"), TrainOn::Last).unwrap_err();
        assert!(error.to_string().contains("all 66 Unicode noncharacters"), "{error}");
        let but_one: String = all.chars().skip(1).collect();
        let pieces = format.training_pieces(&conversation("s", &but_one, "a<|eot_id|>"), TrainOn::Last).unwrap();
        let joined: String = pieces.into_iter().map(|piece| piece.text).collect();
        assert!(joined.contains(&but_one));
    }
}
