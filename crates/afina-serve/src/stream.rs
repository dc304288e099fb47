//! A streamed answer: server-sent events, the same text as the whole one.

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::Response,
};
use serde_json::{Value, json};
use std::convert::Infallible;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};

use crate::{chat_completions::Answer, error::ApiError, queue::GenerateEvent, wire};

/// Streams the events as chunks: the role, the text as it grows, the finish reason, the usage if asked for, `[DONE]`.
///
/// A failure in the middle is an event with an `error`, after which the stream ends without `[DONE]`.
pub(crate) fn response(
    answer: Answer,
    include_usage: bool,
    first: GenerateEvent,
    events: UnboundedReceiver<GenerateEvent>,
) -> Response {
    let chunks = Chunks { answer, include_usage };
    let start = chunks.delta(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null);
    let events = tokio_stream::once(first).chain(UnboundedReceiverStream::new(events));
    let body = tokio_stream::once(start).chain(events.map(move |event| chunks.event(event)));
    let body = body.map(|text| Ok::<Bytes, Infallible>(Bytes::from(text)));
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

struct Chunks {
    answer: Answer,
    include_usage: bool,
}

impl Chunks {
    fn event(&self, event: GenerateEvent) -> String {
        match event {
            GenerateEvent::Text(text) => self.delta(json!({"content": text}), Value::Null),
            GenerateEvent::Failed(error) => sse(&ApiError::from(error).body()),
            GenerateEvent::Done { finish_reason, prompt_tokens, completion_tokens } => {
                let mut end = self.delta(json!({}), json!(finish_reason.as_str()));
                if self.include_usage {
                    end += &sse(&self.chunk(json!([]), wire::usage(prompt_tokens, completion_tokens)));
                }
                end + "data: [DONE]\n\n"
            }
        }
    }

    fn delta(&self, delta: Value, finish_reason: Value) -> String {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
        sse(&self.chunk(json!([choice]), Value::Null))
    }

    /// `usage` is in every chunk, null but in the last, if it was asked for, and in none otherwise.
    fn chunk(&self, choices: Value, usage: Value) -> Value {
        let Answer { id, created, model, system_fingerprint } = &self.answer;
        let mut chunk = json!({
            "id": id, "object": "chat.completion.chunk", "created": created, "model": model, "service_tier": "default",
            "system_fingerprint": system_fingerprint, "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = usage;
        }
        chunk
    }
}

/// One event; JSON holds no raw line break, so it is always one line.
fn sse(data: &Value) -> String {
    format!("data: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value, json};

    use crate::{
        engine::EngineError,
        testing::{Script, Server, chat, scrub},
    };

    /// The events of a streamed answer, `[DONE]` included.
    fn events(body: &str) -> Vec<Value> {
        let data = body.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap());
        data.map(|data| serde_json::from_str(data).unwrap_or(json!(data))).collect()
    }

    fn text(events: &[Value]) -> String {
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
    }

    #[test]
    fn a_streamed_answer_has_openais_chunks() {
        let server = Server::start(Script::new(["¡Ho", "la"]));
        let body = chat(json!({"stream": true, "stream_options": {"include_usage": true}, "user": "ana"}));
        let reply = server.post("/v1/chat/completions", &body);
        assert_eq!((reply.status, reply.header("x-afina-ignored")), (200, Some("user")));
        assert_eq!(reply.header("content-type"), Some("text/event-stream; charset=utf-8"));
        let lines: Vec<String> = events(&reply.body).iter().map(|event| scrub(&event.to_string())).collect();
        let lines: Vec<String> = lines.iter().map(|line| line.replace("\n", "").replace("  ", "")).collect();
        expect![[r#"
            {"id": "chatcmpl-SCRUBBED","object": "chat.completion.chunk","created": 0,"model": "base","service_tier": "default","system_fingerprint": "fp_SCRUBBED","choices": [{"index": 0,"delta": {"role": "assistant","content": "","refusal": null},"logprobs": null,"finish_reason": null}],"usage": null}
            {"id": "chatcmpl-SCRUBBED","object": "chat.completion.chunk","created": 0,"model": "base","service_tier": "default","system_fingerprint": "fp_SCRUBBED","choices": [{"index": 0,"delta": {"content": "¡Ho"},"logprobs": null,"finish_reason": null}],"usage": null}
            {"id": "chatcmpl-SCRUBBED","object": "chat.completion.chunk","created": 0,"model": "base","service_tier": "default","system_fingerprint": "fp_SCRUBBED","choices": [{"index": 0,"delta": {"content": "la"},"logprobs": null,"finish_reason": null}],"usage": null}
            {"id": "chatcmpl-SCRUBBED","object": "chat.completion.chunk","created": 0,"model": "base","service_tier": "default","system_fingerprint": "fp_SCRUBBED","choices": [{"index": 0,"delta": {},"logprobs": null,"finish_reason": "stop"}],"usage": null}
            {"id": "chatcmpl-SCRUBBED","object": "chat.completion.chunk","created": 0,"model": "base","service_tier": "default","system_fingerprint": "fp_SCRUBBED","choices": [],"usage": {"prompt_tokens": 11,"completion_tokens": 3,"total_tokens": 14,"prompt_tokens_details": {"cached_tokens": 0,"audio_tokens": 0},"completion_tokens_details": {"reasoning_tokens": 0,"audio_tokens": 0,"accepted_prediction_tokens": 0,"rejected_prediction_tokens": 0}}}
            "[DONE]""#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn without_include_usage_no_chunk_has_usage() {
        let server = Server::start(Script::new(["x"]));
        let reply = server.post("/v1/chat/completions", &chat(json!({"stream": true})));
        assert!(events(&reply.body).iter().all(|event| event.get("usage").is_none()));
    }

    #[test]
    fn streamed_is_whole() {
        let pieces = ["¡Ho", "la", ", ñ", "", "andú", " 🦤 F", "I", "Nal F", "IN", "N!"];
        for stop in [json!(null), json!("FIN"), json!(["ú 🦤 ", "zz"]), json!(["Nal FINN!x", "¡"])] {
            let server = Server::start(Script::new(pieces));
            let whole = server.post("/v1/chat/completions", &chat(json!({"stop": stop}))).json();
            let body = chat(json!({"stop": stop, "stream": true, "stream_options": {"include_usage": true}}));
            let events = events(&server.post("/v1/chat/completions", &body).body);
            assert_eq!(whole["choices"][0]["message"]["content"], text(&events), "{stop}");
            let [.., finish, usage, done] = &events[..] else { panic!("too few events") };
            assert_eq!(whole["choices"][0]["finish_reason"], finish["choices"][0]["finish_reason"]);
            assert_eq!(whole["usage"], usage["usage"]);
            assert_eq!(done, "[DONE]");
        }
    }

    #[test]
    fn a_failure_in_the_middle_is_an_error_event_and_no_done() {
        let server = Server::start(Script::failing_at(1, EngineError::Internal("out of memory".to_string())));
        let reply = server.post("/v1/chat/completions", &chat(json!({"stream": true})));
        let events = events(&reply.body);
        assert_eq!(reply.status, 200);
        assert_eq!(events.last().unwrap()["error"]["message"], "out of memory");
        assert_eq!(text(&events), "x");
    }

    #[test]
    fn text_is_sent_as_it_grows() {
        let (script, gate) = Script::new(["uno", "dos"]).gated();
        let server = Server::start(script);
        let mut client = server.send("/v1/chat/completions", &chat(json!({"stream": true})));
        gate.step();
        assert!(!client.read_until("uno").contains("dos"));
        gate.open();
        assert!(client.read().body.contains("dos"));
    }

    #[test]
    fn a_client_that_hangs_up_while_streaming_stops_its_generation() {
        let (script, gate) = Script::new(["a", "b", "c", "d"]).gated();
        let server = Server::start(script);
        let mut client = server.send("/v1/chat/completions", &chat(json!({"stream": true})));
        gate.step();
        client.read_until("\"a\"");
        drop(client);
        gate.step_until_broken_off();
    }
}
