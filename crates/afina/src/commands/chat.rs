//! `afina chat`: a conversation in the terminal. Ctrl-C stops the answer, Ctrl-D ends the conversation.

use std::io::BufRead;
use std::ops::ControlFlow;

use afina_chat::{Conversation, Message, Role};
use anyhow::{Context, Result};
use burn::tensor::Device;

use super::generate::sampling;
use super::{OK, model};
use crate::args::Chat;
use crate::interrupt;
use crate::output::Output;

pub fn run(args: &Chat, device: &Device, output: &Output) -> Result<u8> {
    let (mut engine, id) = model::load(&args.model, &args.template.chat_template, device, output)?;
    let stopped = interrupt::watch()?;
    output.note("Ctrl-C stops an answer; Ctrl-D ends. /new forgets the conversation.");
    let system: Vec<Message> = args.system.iter().map(|text| Message::new(Role::System, text.as_str())).collect();
    let mut messages = system.clone();
    let mut lines = std::io::stdin().lock().lines();
    loop {
        output.stream(&output.bold("> "));
        let Some(line) = lines.next() else { break };
        let line = line.context("failed to read your line")?;
        match line.trim() {
            "" => continue,
            "/new" => {
                messages = system.clone();
                continue;
            }
            said => messages.push(Message::new(Role::User, said)),
        }
        let conversation = Conversation { messages: messages.clone(), tools: None, parallel_tool_calls: None };
        let format = engine.format(id).expect("the model was just loaded under this id");
        let prompt = format.prompt_tokens(&conversation)?;
        interrupt::take(&stopped); // a Ctrl-C while you typed is no reason to stop this answer
        let (_, text) = engine
            .continue_tokens(id, &prompt, args.sampling.max_tokens, sampling(&args.sampling), &mut |piece| {
                output.stream(piece);
                if interrupt::take(&stopped) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .or_else(|error| match error {
                afina_serve::EngineError::ContextLength { .. } => {
                    output.warn("the conversation is longer than the model's context; /new starts another");
                    Ok((afina_model::Generated { tokens: Vec::new(), stop: afina_model::Stop::Length }, String::new()))
                }
                other => Err(other),
            })?;
        output.stream("\n");
        if text.is_empty() {
            messages.pop(); // nothing was said: the conversation stays as it was
        } else {
            messages.push(Message::new(Role::Assistant, text.as_str()));
        }
    }
    output.stream("\n");
    Ok(OK)
}
