//! What the model answers to the prompts of `eval.samples`, as training goes on.

use std::ops::ControlFlow;

use afina_chat::{ChatFormat, Conversation, Message, Role};
use afina_checkpoint::ModelDir;
use afina_model::{GenerateOptions, KvCache, Llama, SamplingOptions, generate};
use anyhow::{Context, Result, bail};

/// An answer ends after so many tokens.
const MAX_TOKENS: usize = 64;

/// A prompt of the recipe, ready to be answered.
pub(crate) struct Prompt {
    pub(crate) text: String,
    tokens: Vec<u32>,
}

/// Each prompt is what the user says, in the chat template that is trained with.
pub(crate) fn prompts(texts: &[String], format: &ChatFormat, context: usize) -> Result<Vec<Prompt>> {
    let prompt = |text: &String| {
        let messages = vec![Message::new(Role::User, text)];
        let tokens = format
            .prompt_tokens(&Conversation { messages, tools: None, parallel_tool_calls: None })
            .with_context(|| format!("failed to render `eval.samples` \"{text}\""))?;
        if tokens.len() + MAX_TOKENS > context {
            bail!(
                "`eval.samples`: a prompt has {} tokens, which leaves no room for an answer in {context}",
                tokens.len()
            );
        }
        Ok(Prompt { text: text.clone(), tokens })
    };
    texts.iter().map(prompt).collect()
}

/// The tokens that end an answer.
pub(crate) fn stop_tokens(base: &ModelDir, format: &ChatFormat) -> Vec<u32> {
    let mut tokens = base.eos_token_ids();
    tokens.extend(format.end_of_turn());
    tokens
}

/// The likeliest answer.
pub(crate) fn answer(model: &Llama, format: &ChatFormat, prompt: &Prompt, stop_tokens: &[u32]) -> Result<String> {
    let options = GenerateOptions {
        max_tokens: MAX_TOKENS,
        sampling: SamplingOptions { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 },
        stop_tokens: stop_tokens.to_vec(),
    };
    let generated = generate(model, &prompt.tokens, &mut KvCache::new(), &options, &mut |_| ControlFlow::Continue(()))?;
    Ok(format.answer_text(&generated.tokens))
}
