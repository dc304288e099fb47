//! `afina generate`: one prompt, one answer.

use std::ops::ControlFlow;
use std::time::Instant;

use afina_chat::{Conversation, Message, Role};
use afina_model::{SamplingOptions, Stop};
use anyhow::Result;
use burn::tensor::Device;
use serde_json::json;

use super::{INTERRUPTED, OK, model};
use crate::args::{Generate, SamplingArgs};
use crate::interrupt;
use crate::output::Output;

pub fn run(args: &Generate, device: &Device, output: &Output) -> Result<u8> {
    let (mut engine, id) = model::load(&args.model, &args.template.chat_template, device, output)?;
    let format = engine.format(id).expect("the model was just loaded under this id");
    let prompt = if args.raw {
        format.tokenizer.encode_with_specials(&args.prompt)
    } else {
        let system = args.system.as_deref().map(|text| Message::new(Role::System, text));
        let messages = system.into_iter().chain([Message::new(Role::User, args.prompt.as_str())]).collect();
        format.prompt_tokens(&Conversation { messages, tools: None, parallel_tool_calls: None })?
    };
    let stopped = interrupt::watch()?;
    let mut interrupted = false;
    let began = Instant::now();
    let (generated, text) =
        engine.continue_tokens(id, &prompt, args.sampling.max_tokens, sampling(&args.sampling), &mut |piece| {
            output.stream(piece);
            interrupted |= interrupt::take(&stopped);
            if interrupted { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
    output.stream("\n");
    let finish_reason = if generated.stop == Stop::Length { "length" } else { "stop" };
    output.result(
        "",
        &json!({
            "text": text,
            "finish_reason": finish_reason,
            "prompt_tokens": prompt.len(),
            "completion_tokens": generated.tokens.len(),
            "tokens_per_second": generated.tokens.len() as f64 / began.elapsed().as_secs_f64(),
            "token_ids": generated.tokens,
        }),
    );
    Ok(if interrupted { INTERRUPTED } else { OK })
}

pub fn sampling(args: &SamplingArgs) -> SamplingOptions {
    SamplingOptions { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p, seed: args.seed }
}
