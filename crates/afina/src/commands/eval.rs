//! `afina eval`: loss, perplexity and exact match on a file.

use afina_chat::{Conversation, TrainOn};
use afina_eval::{exact_match, likelihood};
use afina_recipes::{ExcessLength, read_examples};
use anyhow::Result;
use burn::tensor::Device;
use serde_json::json;

use super::{OK, model, train};
use crate::args::Eval;
use crate::output::Output;

pub fn run(args: &Eval, device: &Device, output: &Output) -> Result<u8> {
    let (engine, id) = model::load(&args.model, &args.template.chat_template, device, output)?;
    let llama = engine.llama(id).expect("the model was just loaded under this id");
    let format = engine.format(id).expect("the model was just loaded under this id");
    let stop_tokens = engine.stop_tokens(id).unwrap_or_default();
    let context = llama.config.max_position_embeddings;
    let files = std::slice::from_ref(&args.data);
    let read = read_examples(files, format, TrainOn::Assistant, context, ExcessLength::Error);
    let examples = train::show_refused(read, output)?;

    let bar = output.progress(examples.tokenized.len() as u64, "loss {bar:30} {pos}/{len}");
    let likelihood = likelihood(llama, &examples.tokenized, &mut |done, _| bar.set_position(done as u64));
    bar.finish_and_clear();

    let asked: Vec<&Conversation> = examples.conversations.iter().take(args.generate).collect();
    let bar = output.progress(asked.len() as u64, "answers {bar:30} {pos}/{len}");
    let matched = exact_match(llama, format, stop_tokens, &asked, args.max_tokens, &mut |done, _| {
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();

    let mut text = format!(
        "loss            {:.4} nats per trained token\nperplexity      {:.3}\ntoken accuracy  {:.1} %\nexamples        {} ({} trained tokens)",
        likelihood.loss,
        likelihood.perplexity,
        100.0 * likelihood.token_accuracy,
        likelihood.examples,
        likelihood.tokens
    );
    if !asked.is_empty() {
        text += &format!(
            "\nexact match     {:.1} % of {} greedy answers, {:.1} tokens each",
            100.0 * matched.exact_match,
            matched.answers.len(),
            matched.tokens_per_answer
        );
    }
    let exact = (!asked.is_empty()).then_some(matched.exact_match);
    output.result(
        &text,
        &json!({
            "loss": likelihood.loss,
            "perplexity": likelihood.perplexity,
            "token_accuracy": likelihood.token_accuracy,
            "exact_match": exact,
            "examples": likelihood.examples,
            "tokens": likelihood.tokens,
            "tokens_per_answer": matched.tokens_per_answer,
            "answers": matched.answers,
        }),
    );
    Ok(OK)
}
