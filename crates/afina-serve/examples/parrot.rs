//! A server without a model: its engine says the last message back, word by word. Shows all that an engine needs, and
//! lets a client be tried in a second: `cargo run --release -p afina-serve --example parrot -- 127.0.0.1:8000`

use std::{error::Error, net::TcpListener, ops::ControlFlow, time::Duration};

use afina_serve::{
    ContinuationScore, Engine, EngineError, FinishReason, GenerateRequest, Generated, ModelCard, ScoreRequest, Scored,
    ServeOptions, router, serve, stop_signal,
};

struct Parrot;

impl Engine for Parrot {
    fn models(&self) -> Vec<ModelCard> {
        let owned_by = "afina".to_string();
        vec![ModelCard { id: "parrot".to_string(), created: 0, owned_by, parent: None, sha256: None }]
    }

    fn generate(
        &mut self,
        request: &GenerateRequest,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generated, EngineError> {
        let said = request.conversation.messages.last().map(|message| message.text()).unwrap_or_default();
        let limit = request.max_tokens.unwrap_or(usize::MAX);
        let mut text = String::new();
        let mut completion_tokens = 0;
        let mut finish_reason = FinishReason::Stop;
        for word in said.split_inclusive(' ') {
            if completion_tokens == limit {
                finish_reason = FinishReason::Length;
                break;
            }
            text.push_str(word);
            completion_tokens += 1;
            if on_text(word).is_break() {
                break;
            }
        }
        Ok(Generated { text, finish_reason, prompt_tokens: said.split(' ').count(), completion_tokens })
    }

    fn score(&mut self, request: &ScoreRequest) -> Result<Scored, EngineError> {
        let scores = request.continuations.iter().map(|text| {
            let tokens: Vec<u32> = text.chars().map(u32::from).collect();
            ContinuationScore { logprob: -(tokens.len() as f64), token_logprobs: vec![-1.0; tokens.len()], tokens }
        });
        Ok(Scored { prompt_tokens: 1, scores: scores.collect() })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".to_string());
    let options = ServeOptions { api_key: None, queue_limit: 16, max_body_bytes: 1 << 20 };
    let (_until_killed, stopped) = stop_signal();
    serve(TcpListener::bind(address)?, router(Parrot, options), stopped, Duration::from_secs(30))?;
    Ok(())
}
