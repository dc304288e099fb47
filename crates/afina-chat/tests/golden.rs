//! Text, tokens and mask against transformers' on the conversations of `tests/fixtures/chat`.

use std::collections::HashMap;
use std::path::PathBuf;

use afina_chat::{
    ChatFormat, ChatTemplate, Conversation, EncodeError, FALLBACKS, Message, Role, TemplateError, Tokenizer, TrainOn,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    conversation: Conversation,
}

#[derive(Deserialize)]
struct Golden {
    template: String,
    tokenizer: String,
    bos_token: String,
    eos_token: String,
    conversations: Vec<Row>,
    hostile: Vec<Hostile>,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    tokens: Vec<u32>,
    prompt_tokens: Option<(usize, Vec<u32>)>,
    mask: Option<Vec<(usize, usize)>>,
    not_a_prefix: Option<usize>,
    refused: Option<String>,
}

#[derive(Deserialize)]
struct Hostile {
    name: String,
    tokens: Vec<u32>,
}

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chat")
}

fn read<T: DeserializeOwned>(path: &str) -> T {
    serde_json::from_str(&std::fs::read_to_string(fixtures().join(path)).unwrap()).unwrap()
}

fn conversations(path: &str) -> HashMap<String, Conversation> {
    read::<Vec<Named>>(path).into_iter().map(|named| (named.name, named.conversation)).collect()
}

fn load(name: &str) -> (Golden, ChatFormat) {
    let golden: Golden = read(&format!("golden/{name}.json"));
    let source = match FALLBACKS.iter().find(|fallback| fallback.name == golden.template) {
        Some(fallback) => fallback.source.to_owned(),
        None => std::fs::read_to_string(fixtures().join(format!("templates/{}.jinja", golden.template))).unwrap(),
    };
    let (bos, eos) = (golden.bos_token.clone(), golden.eos_token.clone());
    let template = ChatTemplate::new(source, Some(bos), Some(eos)).unwrap();
    let tokenizer = Tokenizer::from_file(&fixtures().join(format!("tokenizers/{}.json", golden.tokenizer))).unwrap();
    (golden, ChatFormat { template, tokenizer })
}

fn check(name: &str, at_least: usize) {
    let (golden, format) = load(name);
    let conversations = conversations("conversations.json");
    let mut compared = 0;
    for row in &golden.conversations {
        let conversation = &conversations[&row.name];
        if let Some(refused) = &row.refused {
            let error = format.template.render(conversation, false).unwrap_err();
            let TemplateError::AtMessage { source, .. } = &error else { panic!("{}: {error}", row.name) };
            assert!(matches!(&**source, TemplateError::Raised { message } if message == refused), "{}", row.name);
            continue;
        }
        check_row(&format, row, conversation);
        compared += 1;
    }
    assert!(compared >= at_least, "{compared} conversations compared");

    let hostile = self::conversations("hostile.json");
    for row in &golden.hostile {
        let tokens = format.training_tokens(&hostile[&row.name], TrainOn::Assistant).unwrap().tokens;
        assert_eq!(tokens, row.tokens, "{}", row.name);
    }
}

fn check_row(format: &ChatFormat, row: &Row, conversation: &Conversation) {
    let name = &row.name;
    assert_eq!(format.template.render(conversation, false).unwrap(), row.text, "{name}");
    let prompt = format.template.render(conversation, true).unwrap();
    assert_eq!(prompt, format!("{}{}", row.text, row.prompt), "{name}");

    let (same, tail) = row.prompt_tokens.as_ref().unwrap();
    let prompt_tokens = [&row.tokens[..*same], tail].concat();
    assert_eq!(format.prompt_tokens(conversation).unwrap(), prompt_tokens, "{name}");

    let trained = format.training_tokens(conversation, TrainOn::Assistant);
    let Some(spans) = &row.mask else {
        let error = trained.unwrap_err();
        let expected = row.not_a_prefix.unwrap();
        assert!(matches!(error, EncodeError::Prefix { message, .. } if message == expected), "{name}: {error}");
        return;
    };
    let trained = trained.unwrap();
    let mut mask = vec![false; row.tokens.len()];
    spans.iter().for_each(|&(start, end)| mask[start..end].fill(true));
    assert_eq!(trained.tokens, row.tokens, "{name}");
    assert_eq!(trained.loss_mask, mask, "{name}");

    let pieces = format.training_pieces(conversation, TrainOn::Assistant).unwrap();
    assert_eq!(pieces.iter().map(|piece| piece.text.as_str()).collect::<String>(), row.text, "{name}");
    assert_eq!(pieces.iter().map(|piece| (piece.token, piece.trained)).unzip(), (row.tokens.clone(), mask), "{name}");

    let answers = conversation.messages.iter().enumerate().filter(|(_, message)| message.role == Role::Assistant);
    for ((index, answer), &(start, end)) in answers.zip(spans) {
        let tokens = format.answer_tokens(conversation, index).unwrap();
        assert_eq!(tokens, row.tokens[start..end], "{name}");
        check_read_back(format, answer, &tokens, name);
    }

    let Some((answer, before)) = conversation.messages.split_last() else { return };
    if answer.role == Role::Assistant && answer.content.is_some() && answer.tool_calls.is_none() {
        let asked = Conversation { messages: before.to_vec(), ..conversation.clone() };
        let (prompt, reply) = format.reply_tokens(&asked, &answer.text()).unwrap();
        let (start, end) = *spans.last().unwrap();
        assert_eq!(reply, row.tokens[start..end], "{name}");
        assert_eq!(prompt, row.tokens[..start], "{name}");
        assert_eq!(format.prompt_tokens(&asked).unwrap(), prompt, "{name}");
    }
}

/// What the model would have generated gives back the calls and the text beside them.
fn check_read_back(format: &ChatFormat, answer: &Message, tokens: &[u32], name: &str) {
    let Some(calls) = &answer.tool_calls else { return };
    let read = format.parse_answer(&format.answer_text(tokens)).unwrap();
    assert_eq!(read.content.as_deref().unwrap_or_default(), answer.text(), "{name}");
    assert_eq!(read.tool_calls.len(), calls.len(), "{name}");
    for (found, expected) in read.tool_calls.iter().zip(calls) {
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap().to_string();
        assert_eq!(found.function.name, expected.function.name, "{name}");
        assert_eq!(json(&found.function.arguments), json(&expected.function.arguments), "{name}");
    }
}

#[test]
fn smollm2_gives_the_text_tokens_and_mask_of_transformers() {
    check("smollm2", 50);
}

#[test]
fn llama2_gives_the_text_tokens_and_mask_of_transformers() {
    check("llama2", 47);
}

#[test]
fn llama3_1_gives_the_text_tokens_and_mask_of_transformers() {
    check("llama3_1", 53);
}

#[test]
fn zephyr_gives_the_text_tokens_and_mask_of_transformers() {
    check("zephyr", 50);
}

#[test]
fn fallbacks_give_the_text_tokens_and_mask_of_transformers() {
    check("chatml-tools", 65);
    check("llama3-tools", 65);
}

#[test]
fn tokenizer_that_marks_the_first_word_only_gives_the_tokens_of_transformers() {
    check("zephyr_first", 50);
}

#[test]
fn capabilities_of_the_published_templates() {
    let can = |name: &str| {
        let can = load(name).1.template.capabilities();
        [can.system, can.tools, can.tool_calls, can.tool, can.null_content, can.parts, can.generation_prompt]
    };
    assert_eq!(can("smollm2"), [true, false, false, true, false, false, true]);
    assert_eq!(can("llama2"), [true, false, false, false, false, false, false]);
    assert_eq!(can("llama3_1"), [true, true, true, true, true, false, true]);
    assert_eq!(can("zephyr"), [true, false, false, false, false, false, true]);
}

#[test]
fn decoded_answers_are_what_was_written() {
    for name in ["smollm2", "llama3_1"] {
        let (golden, format) = load(name);
        for row in &golden.conversations {
            assert_eq!(format.tokenizer.decode(&row.tokens, false), row.text, "{}", row.name);
        }
    }
    let (_, format) = load("llama2");
    let asked = Conversation::new(vec![Message::new(Role::User, "hola")]);
    let (_, reply) = format.reply_tokens(&asked, "¿Qué 你 😀?").unwrap();
    assert_eq!(format.tokenizer.decode(&reply, true), "¿Qué 你 😀? ");
}
