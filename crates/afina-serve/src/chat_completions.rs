//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::{
    body,
    chat_request::ChatRequest,
    error::ApiError,
    queue::{GenerateEvent, Job},
    router::App,
    stream, wire,
};

/// What is the same in the whole answer and in every chunk of a streamed one.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) system_fingerprint: String,
}

/// Answers a conversation, whole or streamed. Dropping the answer, which is what a client does that hangs up, stops the
/// generation at its next token.
pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let body = body::read(request.into_body(), app.options.max_body_bytes).await?;
    let ChatRequest { generate, stream, include_usage, ignored } = ChatRequest::parse(&body)?;
    let model = app.model(&generate.model)?;
    let answer = Answer {
        id: wire::fresh_id("chatcmpl-"),
        created: wire::now(),
        model: model.card.id.clone(),
        system_fingerprint: model.fingerprint.clone(),
    };
    let (sender, mut events) = unbounded_channel();
    app.submitter.submit(Job::Generate { request: generate, events: sender })?;
    // Nothing is sent before the engine's first word, so that what it refuses still gets its proper status.
    let first = match events.recv().await {
        None => return Err(ApiError::worker_gone()),
        Some(GenerateEvent::Failed(error)) => return Err(error.into()),
        Some(event) => event,
    };
    let mut response = match stream {
        true => stream::response(answer, include_usage, first, events),
        false => whole(&answer, first, events).await?,
    };
    wire::add_ignored(&mut response, &ignored);
    Ok(response)
}

async fn whole(
    answer: &Answer,
    first: GenerateEvent,
    mut events: UnboundedReceiver<GenerateEvent>,
) -> Result<Response, ApiError> {
    let mut text = String::new();
    let mut next = Some(first);
    while let Some(event) = next {
        match event {
            GenerateEvent::Text(piece) => text.push_str(&piece),
            GenerateEvent::Failed(error) => return Err(error.into()),
            GenerateEvent::Done { finish_reason, prompt_tokens, completion_tokens } => {
                let choice = json!({
                    "index": 0,
                    "message": {"role": "assistant", "content": text, "refusal": null, "annotations": []},
                    "logprobs": null,
                    "finish_reason": finish_reason.as_str(),
                });
                let usage = wire::usage(prompt_tokens, completion_tokens);
                return Ok(wire::json(StatusCode::OK, &answer.body("chat.completion", choice, usage)));
            }
        }
        next = events.recv().await;
    }
    Err(ApiError::worker_gone())
}

impl Answer {
    fn body(&self, object: &str, choice: Value, usage: Value) -> Value {
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": [choice],
            "usage": usage, "service_tier": "default", "system_fingerprint": self.system_fingerprint,
        })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use crate::{
        engine::{EngineError, FinishReason},
        testing::{Script, Server, chat, scrub},
    };

    #[test]
    fn a_whole_answer_has_openais_shape() {
        let server = Server::start(Script::new(["¡Ho", "la", "!"]));
        let reply = server.post("/v1/chat/completions", &chat(json!({})));
        expect![[r#"
            {
              "id": "chatcmpl-SCRUBBED",
              "object": "chat.completion",
              "created": 0,
              "model": "base",
              "choices": [
                {
                  "index": 0,
                  "message": {
                    "role": "assistant",
                    "content": "¡Hola!",
                    "refusal": null,
                    "annotations": []
                  },
                  "logprobs": null,
                  "finish_reason": "stop"
                }
              ],
              "usage": {
                "prompt_tokens": 11,
                "completion_tokens": 4,
                "total_tokens": 15,
                "prompt_tokens_details": {
                  "cached_tokens": 0,
                  "audio_tokens": 0
                },
                "completion_tokens_details": {
                  "reasoning_tokens": 0,
                  "audio_tokens": 0,
                  "accepted_prediction_tokens": 0,
                  "rejected_prediction_tokens": 0
                }
              },
              "service_tier": "default",
              "system_fingerprint": "fp_SCRUBBED"
            }"#]]
        .assert_eq(&scrub(&reply.body));
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
        assert_eq!(reply.header("x-afina-ignored"), None);
    }

    #[test]
    fn the_answer_names_the_model_that_answered() {
        let server = Server::start(Script::new(["x"]));
        let base = server.post("/v1/chat/completions", &chat(json!({}))).json();
        let tuned = server.post("/v1/chat/completions", &chat(json!({"model": "tuned"}))).json();
        assert_eq!((&base["model"], &tuned["model"]), (&json!("base"), &json!("tuned")));
        assert_ne!(base["system_fingerprint"], tuned["system_fingerprint"]);
        assert_eq!(
            server.requests().iter().map(|request| request.model.clone()).collect::<Vec<_>>(),
            ["base", "tuned"]
        );
    }

    #[test]
    fn a_stop_string_ends_the_answer_and_the_generation() {
        let server = Server::start(Script::new(["uno", " F", "IN", " dos", " tres"]));
        let reply = server.post("/v1/chat/completions", &chat(json!({"stop": ["FIN"]}))).json();
        assert_eq!(reply["choices"][0]["message"]["content"], "uno ");
        assert_eq!(reply["choices"][0]["finish_reason"], "stop");
        // Three pieces of the script were generated, and the other two never were.
        assert_eq!(reply["usage"]["completion_tokens"], 3);
    }

    #[test]
    fn an_answer_cut_by_max_tokens_says_length() {
        let server = Server::start(Script { finish_reason: FinishReason::Length, ..Script::new(["a"]) });
        let reply = server.post("/v1/chat/completions", &chat(json!({"max_tokens": 1}))).json();
        assert_eq!(reply["choices"][0]["finish_reason"], "length");
    }

    #[test]
    fn text_that_the_engine_only_returns_is_not_lost() {
        let server = Server::start(Script { tail: " y final FIN".to_string(), ..Script::new(["inicio"]) });
        let reply = server.post("/v1/chat/completions", &chat(json!({"stop": "FIN"}))).json();
        assert_eq!(reply["choices"][0]["message"]["content"], "inicio y final ");
    }

    #[test]
    fn harmless_fields_are_listed_in_a_header() {
        let server = Server::start(Script::new(["x"]));
        let reply = server.post("/v1/chat/completions", &chat(json!({"user": "ana", "store": true})));
        assert_eq!((reply.status, reply.header("x-afina-ignored")), (200, Some("user, store")));
    }

    #[test]
    fn what_the_engine_refuses_has_its_own_status() {
        for (error, status, code) in [
            (EngineError::ModelNotFound { model: "base".to_string() }, 404, json!("model_not_found")),
            (
                EngineError::ContextLength { context: 8, prompt_tokens: 9, max_tokens: None },
                400,
                json!("context_length_exceeded"),
            ),
            (EngineError::Template("no tools".to_string()), 400, json!("unsupported_value")),
            (EngineError::Internal("broken".to_string()), 500, json!(null)),
        ] {
            let server = Server::start(Script::failing_at(0, error));
            for stream in [false, true] {
                let reply = server.post("/v1/chat/completions", &chat(json!({"stream": stream})));
                assert_eq!((reply.status, &reply.json()["error"]["code"]), (status, &code));
            }
        }
    }

    #[test]
    fn a_panic_is_a_500_and_the_server_goes_on() {
        let server = Server::start(Script { panics_once: true, ..Script::new(["vivo"]) });
        let reply = server.post("/v1/chat/completions", &chat(json!({})));
        assert_eq!((reply.status, reply.header("x-should-retry")), (500, Some("false")));
        assert_eq!(reply.json()["error"]["message"], "the engine panicked: scripted panic");
        let reply = server.post("/v1/chat/completions", &chat(json!({})));
        assert_eq!(reply.json()["choices"][0]["message"]["content"], "vivo");
    }

    #[test]
    fn a_client_that_hangs_up_stops_its_generation() {
        let (script, gate) = Script::new(["a", "b", "c", "d"]).gated();
        let server = Server::start(script);
        let client = server.send("/v1/chat/completions", &chat(json!({})));
        gate.step();
        drop(client);
        gate.step_until_broken_off();
    }

    #[test]
    fn a_full_queue_is_a_429_that_says_when_to_come_back() {
        let (script, gate) = Script::new(["a"]).gated();
        let server = Server::start_with(script, |options| options.queue_limit = 1);
        let running = server.send("/v1/chat/completions", &chat(json!({})));
        gate.wait_started();
        // One runs and holds the engine, one waits; which of the next two waits is a race, and one is refused.
        let refused = Server::first_answer([(); 2].map(|()| server.send("/v1/chat/completions", &chat(json!({})))));
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
        assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
        gate.open();
        assert_eq!(running.read().status, 200);
    }
}
