//! `POST /v1/score`: how likely each of the given continuations is as the whole next turn.
//!
//! Takes `{"model", "messages", "continuations": ["soporte", …]}`. `logprob` is the sum over the continuation's tokens and
//! its end-of-turn token, in nats, unnormalized, so that the probabilities of all texts sum to 1.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{
    body,
    engine::ScoreRequest,
    error::ApiError,
    fields::{self, Fields},
    messages,
    queue::Job,
    router::App,
    wire,
};

/// So that one request cannot keep the engine for hours.
const MAX_CONTINUATIONS: usize = 1024;

pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let body = body::read(request.into_body(), app.options.max_body_bytes).await?;
    let (request, ignored) = parse(&body)?;
    let model = app.model(&request.model)?;
    let continuations = request.continuations.clone();
    let (reply, answer) = oneshot::channel();
    app.submitter.submit(Job::Score { request, reply })?;
    let scored = answer.await.map_err(|_| ApiError::worker_gone())??;

    let completion_tokens: usize = scored.scores.iter().map(|score| score.tokens.len()).sum();
    let data: Vec<Value> = continuations
        .iter()
        .zip(&scored.scores)
        .enumerate()
        .map(|(index, (text, score))| {
            json!({
                "index": index, "text": text, "logprob": score.logprob, "token_logprobs": score.token_logprobs,
                "tokens": score.tokens,
            })
        })
        .collect();
    let mut response = wire::json(
        StatusCode::OK,
        &json!({
            "object": "score", "model": model.card.id, "data": data, "system_fingerprint": model.fingerprint,
            "usage": {
                "prompt_tokens": scored.prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": scored.prompt_tokens + completion_tokens,
            },
        }),
    );
    wire::add_ignored(&mut response, &ignored);
    Ok(response)
}

fn parse(body: &[u8]) -> Result<(ScoreRequest, Vec<&'static str>), ApiError> {
    let mut fields = Fields::parse(body)?;
    let model = fields.string("model")?.ok_or_else(|| fields::missing("model"))?;
    let conversation = messages::take(&mut fields)?;
    let continuations = match fields.value("continuations") {
        None => return Err(fields::missing("continuations")),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(fields::wrong_type("continuations", "an array of strings", &other)),
    };
    if continuations.is_empty() || continuations.len() > MAX_CONTINUATIONS {
        let message = format!("'continuations' takes 1 to {MAX_CONTINUATIONS} strings, found {}", continuations.len());
        return Err(fields::wrong_value("continuations", message));
    }
    let continuations = continuations
        .into_iter()
        .enumerate()
        .map(|(index, item)| match item {
            Value::String(text) => Ok(text),
            other => Err(fields::wrong_type(&format!("continuations[{index}]"), "a string", &other)),
        })
        .collect::<Result<_, _>>()?;
    let ignored = fields.finish()?;
    Ok((ScoreRequest { model, conversation, continuations }, ignored))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value, json};

    use crate::testing::{Script, Server, scrub};

    fn score(continuations: Value) -> Value {
        json!({"model": "tuned", "messages": [{"role": "user", "content": "hola"}], "continuations": continuations})
    }

    #[test]
    fn each_continuation_gets_its_sum_and_its_tokens() {
        let server = Server::start(Script::new([]));
        let reply = server.post("/v1/score", &score(json!(["legal", "ñ"])));
        expect![[r#"
            {
              "object": "score",
              "model": "tuned",
              "data": [
                {
                  "index": 0,
                  "text": "legal",
                  "logprob": -3.0,
                  "token_logprobs": [
                    -0.5,
                    -0.5,
                    -0.5,
                    -0.5,
                    -0.5,
                    -0.5
                  ],
                  "tokens": [
                    108,
                    101,
                    103,
                    97,
                    108,
                    0
                  ]
                },
                {
                  "index": 1,
                  "text": "ñ",
                  "logprob": -1.0,
                  "token_logprobs": [
                    -0.5,
                    -0.5
                  ],
                  "tokens": [
                    241,
                    0
                  ]
                }
              ],
              "system_fingerprint": "fp_SCRUBBED",
              "usage": {
                "prompt_tokens": 11,
                "completion_tokens": 8,
                "total_tokens": 19
              }
            }"#]]
        .assert_eq(&scrub(&reply.body));
    }

    #[test]
    fn bad_continuations_are_refused() {
        let server = Server::start(Script::new([]));
        for (continuations, code, param) in [
            (json!([]), "invalid_value", "continuations"),
            (json!("legal"), "invalid_type", "continuations"),
            (json!(["a", 1]), "invalid_type", "continuations[1]"),
            (json!(null), "missing_required_parameter", "continuations"),
        ] {
            let reply = server.post("/v1/score", &score(continuations));
            let error = &reply.json()["error"];
            assert_eq!((reply.status, &error["code"], &error["param"]), (400, &json!(code), &json!(param)));
        }
    }
}
