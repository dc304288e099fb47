//! The model in burn as the server's engine: one base, any number of adapters on it, chosen by name.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use afina_chat::{ChatFormat, Conversation, TemplateChoice, TextStream};
use afina_checkpoint::{open_weights, read_adapter, sha256_file};
use afina_model::{
    GenerateError, GenerateOptions, KvCache, Llama, Precision, SamplingOptions, Stop, apply_adapter, generate,
    load_llama, score_continuations,
};
use afina_recipes::chat_format;
use afina_serve::{
    ContinuationScore, Engine, EngineError, FinishReason, GenerateRequest, Generated, ModelCard, ScoreRequest, Scored,
};
use anyhow::{Context, Result};
use burn::tensor::Device;

/// A base model, and the models that requests may name, each with its chat format.
pub struct LlamaEngine {
    /// The base's folder or file.
    path: PathBuf,
    /// What the base stops at.
    stop_tokens: Vec<u32>,
    models: Vec<Served>,
}

struct Served {
    card: ModelCard,
    llama: Llama,
    /// Each model has the template that it was trained with.
    format: ChatFormat,
    stop_tokens: Vec<u32>,
    /// What the last request left: a conversation that goes on is not read again.
    cache: KvCache,
}

impl LlamaEngine {
    /// Loads a model folder or a GGUF file under the name `id`, to be used with `format`.
    pub fn load(
        path: &Path,
        id: &str,
        format: ChatFormat,
        device: &Device,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<LlamaEngine> {
        let weights = open_weights(path).with_context(|| format!("failed to open the model `{}`", path.display()))?;
        let llama = load_llama(weights.as_ref(), device, Precision::F32, progress)
            .with_context(|| format!("failed to load `{}`", path.display()))?;
        let card = ModelCard {
            id: id.to_owned(),
            created: modified(path),
            owned_by: "local".to_owned(),
            parent: None,
            sha256: weights.sha256().ok(),
        };
        let mut engine =
            LlamaEngine { path: path.to_owned(), stop_tokens: weights.eos_token_ids(), models: Vec::new() };
        engine.add(card, llama, format);
        Ok(engine)
    }

    fn add(&mut self, card: ModelCard, llama: Llama, format: ChatFormat) {
        let mut stop_tokens = self.stop_tokens.clone();
        stop_tokens.extend(format.end_of_turn().filter(|token| !self.stop_tokens.contains(token)));
        self.models.push(Served { card, llama, format, stop_tokens, cache: KvCache::new() });
    }

    /// Adds an adapter under a name of its own, with the chat template it was trained with. Returns a warning when it was
    /// trained on another base.
    pub fn add_adapter(&mut self, id: &str, dir: &Path) -> Result<Option<String>> {
        let (config, tensors) =
            read_adapter(dir).with_context(|| format!("failed to read the adapter `{}`", dir.display()))?;
        if self.models.iter().any(|served| served.card.id == id) {
            return Err(crate::Usage::error(
                format!("the name `{id}` is taken"),
                "give each adapter a name of its own, not the base's",
            ));
        }
        let format = chat_format(&self.path, Some(dir), &TemplateChoice::Model)?;
        let base = &self.models[0];
        let llama = apply_adapter(&base.llama, &config, &tensors)
            .with_context(|| format!("the adapter `{}` does not fit the model `{}`", dir.display(), base.card.id))?;
        let warning = match (config.afina.as_ref().map(|with| &with.base_sha256), &base.card.sha256) {
            (Some(trained_on), Some(loaded)) if trained_on != loaded => Some(format!(
                "adapter `{id}` was trained on another base (sha256 {}…, loaded {}…): its answers may be worse",
                trained_on.get(..12).unwrap_or(trained_on),
                loaded.get(..12).unwrap_or(loaded)
            )),
            _ => None,
        };
        let card = ModelCard {
            id: id.to_owned(),
            created: modified(dir),
            owned_by: "local".to_owned(),
            parent: Some(base.card.id.clone()),
            sha256: sha256_file(&dir.join("adapter_model.safetensors")).ok(),
        };
        self.add(card, llama, format);
        Ok(warning)
    }

    fn served(&self, id: &str) -> Option<&Served> {
        self.models.iter().find(|served| served.card.id == id)
    }

    pub fn format(&self, id: &str) -> Option<&ChatFormat> {
        self.served(id).map(|served| &served.format)
    }

    pub fn llama(&self, id: &str) -> Option<&Llama> {
        self.served(id).map(|served| &served.llama)
    }

    /// The tokens that end an answer.
    pub fn stop_tokens(&self, id: &str) -> Option<&[u32]> {
        self.served(id).map(|served| served.stop_tokens.as_slice())
    }

    /// Continues raw tokens of a model; the text is given out as it comes.
    pub fn continue_tokens(
        &mut self,
        id: &str,
        prompt: &[u32],
        max_tokens: usize,
        sampling: SamplingOptions,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(afina_model::Generated, String), EngineError> {
        let Served { llama, format, stop_tokens, cache, .. } = find(&mut self.models, id)?;
        let options = GenerateOptions { max_tokens, sampling, stop_tokens: stop_tokens.clone() };
        let mut stream = TextStream::new();
        let mut text = String::new();
        let generated = generate(llama, prompt, cache, &options, &mut |token| {
            let piece = stream.push(&format.tokenizer, token);
            text.push_str(&piece);
            on_text(&piece)
        })
        .map_err(refused)?;
        let rest = stream.finish(&format.tokenizer);
        if !rest.is_empty() {
            text.push_str(&rest);
            let _ = on_text(&rest); // the answer is over either way
        }
        Ok((generated, text))
    }
}

impl Engine for LlamaEngine {
    fn models(&self) -> Vec<ModelCard> {
        self.models.iter().map(|served| served.card.clone()).collect()
    }

    fn generate(
        &mut self,
        request: &GenerateRequest,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generated, EngineError> {
        let prompt = prompt(&find(&mut self.models, &request.model)?.format, &request.conversation)?;
        let sampling = SamplingOptions {
            temperature: request.temperature,
            top_k: request.top_k,
            top_p: request.top_p,
            seed: request.seed.unwrap_or(0),
        };
        let max_tokens = request.max_tokens.unwrap_or(usize::MAX);
        let (generated, text) = self.continue_tokens(&request.model, &prompt, max_tokens, sampling, on_text)?;
        let ended = usize::from(generated.stop == Stop::EndOfTurn);
        Ok(Generated {
            text,
            finish_reason: if generated.stop == Stop::Length { FinishReason::Length } else { FinishReason::Stop },
            prompt_tokens: prompt.len(),
            completion_tokens: generated.tokens.len() + ended,
        })
    }

    fn score(&mut self, request: &ScoreRequest) -> Result<Scored, EngineError> {
        let Served { llama, format, cache, .. } = find(&mut self.models, &request.model)?;
        let mut prompt = prompt(format, &request.conversation)?;
        let mut continuations = Vec::with_capacity(request.continuations.len());
        for reply in &request.continuations {
            let (given, tokens) = format
                .reply_tokens(&request.conversation, reply)
                .map_err(|error| EngineError::Template(chain(&error)))?;
            prompt = given;
            continuations.push(tokens);
        }
        let logprobs = score_continuations(llama, &prompt, &continuations, cache).map_err(refused)?;
        let scores = logprobs
            .into_iter()
            .zip(continuations)
            .map(|(token_logprobs, tokens)| ContinuationScore {
                logprob: token_logprobs.iter().map(|&logprob| f64::from(logprob)).sum(),
                token_logprobs,
                tokens,
            })
            .collect();
        Ok(Scored { prompt_tokens: prompt.len(), scores })
    }
}

fn prompt(format: &ChatFormat, conversation: &Conversation) -> Result<Vec<u32>, EngineError> {
    format.prompt_tokens(conversation).map_err(|error| EngineError::Template(chain(&error)))
}

fn find<'m>(models: &'m mut [Served], id: &str) -> Result<&'m mut Served, EngineError> {
    models
        .iter_mut()
        .find(|served| served.card.id == id)
        .ok_or_else(|| EngineError::ModelNotFound { model: id.to_owned() })
}

fn refused(error: GenerateError) -> EngineError {
    match error {
        GenerateError::PromptTooLong { prompt, context } => {
            EngineError::ContextLength { context, prompt_tokens: prompt, max_tokens: None }
        }
        GenerateError::EmptyPrompt | GenerateError::TokenOutOfRange { .. } => EngineError::Internal(error.to_string()),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// When a folder or file last changed, in seconds since 1970.
fn modified(path: &Path) -> i64 {
    std::fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_secs() as i64)
}
