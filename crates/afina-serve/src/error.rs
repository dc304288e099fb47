//! Every failure in OpenAI's error shape: `{"error": {"message", "type", "param", "code"}}`.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{engine::EngineError, queue::Full, wire};

/// What a client is told when it does not get what it asked for.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
    retry_after: Option<u64>,
}

impl ApiError {
    /// A 400 about the request's body; `param` names the field.
    pub(crate) fn invalid(param: impl Into<Option<String>>, code: Option<&'static str>, message: String) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", message).with(param.into(), code)
    }

    /// A request field that this server would have to leave unhonoured.
    pub(crate) fn unsupported(param: &str, message: String) -> ApiError {
        ApiError::invalid(param.to_string(), Some("unsupported_parameter"), message)
    }

    pub(crate) fn model_not_found(model: &str) -> ApiError {
        let message = format!("The model '{model}' does not exist; GET /v1/models lists those that do");
        ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
            .with(Some("model".to_string()), Some("model_not_found"))
    }

    pub(crate) fn unknown_url(method: &str, path: &str) -> ApiError {
        let message = format!("Unknown request URL: {method} {path}");
        ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message).with(None, Some("unknown_url"))
    }

    pub(crate) fn wrong_method(method: &str, path: &str) -> ApiError {
        let message = format!("{path} does not take {method}; the `allow` header lists the methods that it takes");
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message)
            .with(None, Some("method_not_allowed"))
    }

    pub(crate) fn too_large(limit: usize) -> ApiError {
        let message = format!("The body of the request is larger than {limit} bytes, the most this server takes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message)
            .with(None, Some("request_too_large"))
    }

    pub(crate) fn wrong_key(given: bool) -> ApiError {
        let message = match given {
            true => "Incorrect API key provided",
            false => "This server wants an API key in the header `Authorization: Bearer KEY`",
        };
        ApiError::new(StatusCode::UNAUTHORIZED, "authentication_error", message.to_string())
            .with(None, Some("invalid_api_key"))
    }

    /// The worker is gone: nothing can be answered until the program is started again.
    pub(crate) fn worker_gone() -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", "The model's worker has ended".to_string())
    }

    fn new(status: StatusCode, kind: &'static str, message: String) -> ApiError {
        ApiError { status, kind, message, param: None, code: None, retry_after: None }
    }

    fn with(mut self, param: Option<String>, code: Option<&'static str>) -> ApiError {
        self.param = param;
        self.code = code;
        self
    }

    pub(crate) fn body(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }
}

impl From<Full> for ApiError {
    fn from(full: Full) -> ApiError {
        let seconds = full.retry_after.as_secs();
        let message = format!("The server is busy: {} requests are waiting; try again in {seconds} s", full.waiting);
        ApiError {
            retry_after: Some(seconds),
            ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
                .with(None, Some("rate_limit_exceeded"))
        }
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> ApiError {
        let messages = || "messages".to_string();
        match error {
            EngineError::ModelNotFound { model } => ApiError::model_not_found(&model),
            EngineError::ContextLength { context, prompt_tokens, max_tokens } => {
                let asked = match max_tokens {
                    Some(max_tokens) => format!("{prompt_tokens} in the messages and {max_tokens} in the completion"),
                    None => format!("{prompt_tokens} in the messages"),
                };
                let message = format!(
                    "This model's maximum context length is {context} tokens, and the request has {asked}. \
                     Please reduce the length of the messages or of the completion"
                );
                ApiError::invalid(messages(), Some("context_length_exceeded"), message)
            }
            EngineError::Template(message) => ApiError::invalid(messages(), Some("unsupported_value"), message),
            EngineError::Internal(message) => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = wire::json(self.status, &self.body());
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            // The same request would fail the same way: OpenAI's clients retry a 500 unless told not to.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }
}
