//! The routes, and what the requests share.

use std::{sync::Arc, thread};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    middleware,
    response::Response,
    routing::{get, post},
};
use serde_json::json;

use crate::{
    auth, chat_completions,
    engine::{Engine, ModelCard},
    error::ApiError,
    models,
    queue::{self, Submitter},
    score, wire, worker,
};

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Wanted as `Authorization: Bearer KEY` with every request but `/health`.
    pub api_key: Option<String>,
    /// Requests that may wait besides the one being answered, at least 1; the next one gets a 429.
    pub queue_limit: usize,
    /// Larger bodies get a 413.
    pub max_body_bytes: usize,
}

/// Makes the API over an engine, which moves to a thread of its own.
///
/// The thread ends when the returned router, its clones and its requests are gone.
///
/// # Panics
/// If the system refuses to start a thread.
pub fn router(engine: impl Engine, options: ServeOptions) -> Router {
    let cards = engine.models();
    let parent = |card: &ModelCard| cards.iter().find(|other| Some(&other.id) == card.parent.as_ref());
    let models = cards
        .iter()
        .map(|card| Model { card: card.clone(), fingerprint: wire::fingerprint(card, parent(card)) })
        .collect();
    let (submitter, jobs) = queue::queue(options.queue_limit);
    thread::Builder::new()
        .name("afina-engine".to_string())
        .spawn(move || worker::work(engine, &jobs))
        .expect("a thread can be started");
    let app = Arc::new(App { options, models, submitter });
    Router::new()
        .route("/v1/chat/completions", post(chat_completions::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::retrieve))
        .route("/v1/score", post(score::create))
        .route("/health", get(health))
        .fallback(unknown_url)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), auth::require_key))
        .with_state(app)
}

/// What every request can see.
pub(crate) struct App {
    pub(crate) options: ServeOptions,
    pub(crate) models: Vec<Model>,
    pub(crate) submitter: Submitter,
}

/// A model that can be asked for.
pub(crate) struct Model {
    pub(crate) card: ModelCard,
    pub(crate) fingerprint: String,
}

impl App {
    /// The model with exactly this id: an unknown one is never answered by another.
    pub(crate) fn model(&self, id: &str) -> Result<&Model, ApiError> {
        self.models.iter().find(|model| model.card.id == id).ok_or_else(|| ApiError::model_not_found(id))
    }
}

/// Says that the server is up and which models it has.
async fn health(State(app): State<Arc<App>>) -> Response {
    let models: Vec<&str> = app.models.iter().map(|model| model.card.id.as_str()).collect();
    wire::json(StatusCode::OK, &json!({"status": "ok", "models": models}))
}

async fn unknown_url(request: Request) -> ApiError {
    ApiError::unknown_url(request.method().as_str(), request.uri().path())
}

async fn wrong_method(request: Request) -> ApiError {
    ApiError::wrong_method(request.method().as_str(), request.uri().path())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{Script, Server, chat};

    #[test]
    fn health_names_the_models() {
        let server = Server::start(Script::new([]));
        assert_eq!(server.get("/health").json(), json!({"status": "ok", "models": ["base", "tuned", "org/base"]}));
    }

    #[test]
    fn every_failure_has_openais_shape() {
        let server = Server::start_with(Script::new(["x"]), |options| options.max_body_bytes = 2_000);
        let large = format!(r#"{{"model": "{}"}}"#, "x".repeat(1_000_000));
        for (method, path, body, status, code) in [
            ("POST", "/v1/responses", "{}", 404, "unknown_url"),
            ("GET", "/", "", 404, "unknown_url"),
            ("GET", "/v1/chat/completions", "", 405, "method_not_allowed"),
            ("DELETE", "/v1/models", "", 405, "method_not_allowed"),
            ("POST", "/v1/chat/completions", large.as_str(), 413, "request_too_large"),
            ("POST", "/v1/chat/completions", "{\"model\": \"base\",\n}", 400, "invalid_json"),
            ("POST", "/v1/score", "", 400, "invalid_json"),
            ("POST", "/v1/chat/completions", "{\"model\": \"\u{7f}\"", 400, "invalid_json"),
            ("POST", "/v1/chat/completions", "{}", 400, "missing_required_parameter"),
        ] {
            let reply = server.request(method, path, "", body);
            let error = &reply.json()["error"];
            assert_eq!((reply.status, &error["code"]), (status, &json!(code)), "{method} {path}");
            assert!(error["message"].is_string() && error["type"].is_string() && error.get("param").is_some());
            assert_eq!(reply.header("content-type"), Some("application/json"));
        }
        assert_eq!(server.request("GET", "/v1/chat/completions", "", "").header("allow"), Some("POST"));
    }

    #[test]
    fn an_unknown_model_is_never_answered_by_another() {
        let server = Server::start(Script::new(["x"]));
        for (path, more) in [("/v1/chat/completions", json!({})), ("/v1/score", json!({"continuations": ["a"]}))] {
            for model in ["gpt-9", "", "Base", "base "] {
                let mut body = chat(more.clone());
                body["model"] = json!(model);
                let reply = server.post(path, &body);
                assert_eq!((reply.status, &reply.json()["error"]["code"]), (404, &json!("model_not_found")));
            }
        }
        assert!(server.requests().is_empty());
    }
}
