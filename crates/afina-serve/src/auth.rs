//! The optional API key.

use std::{hint::black_box, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::Response,
};

use crate::{error::ApiError, router::App};

/// Lets a request through if no key is set, if it brings the key, or if it only asks for `/health`.
pub(crate) async fn require_key(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(key) = &app.options.api_key else { return Ok(next.run(request).await) };
    let given = bearer(request.headers());
    if request.uri().path() == "/health" || given.is_some_and(|given| same(given, key.as_bytes())) {
        return Ok(next.run(request).await);
    }
    Err(ApiError::wrong_key(given.is_some()))
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| rest.trim_ascii())
}

/// Compares in a time that depends on the lengths alone, so that a key cannot be guessed byte by byte.
fn same(given: &[u8], key: &[u8]) -> bool {
    let differences = given.iter().enumerate().fold(u8::from(given.len() != key.len()), |differences, (at, byte)| {
        differences | (byte ^ key.get(at % key.len().max(1)).copied().unwrap_or(0))
    });
    black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Script, Server, chat};

    #[test]
    fn only_equal_keys_are_the_same() {
        for (given, key, expected) in [
            ("abc", "abc", true),
            ("abd", "abc", false),
            ("ab", "abc", false),
            ("abcabc", "abc", false),
            ("", "abc", false),
        ] {
            assert_eq!(same(given.as_bytes(), key.as_bytes()), expected, "{given} {key}");
        }
    }

    #[test]
    fn without_the_key_everything_but_health_is_a_401() {
        let server = Server::start_with(Script::new(["x"]), |options| options.api_key = Some("s3cret".to_string()));
        for path in ["/v1/models", "/v1/models/base", "/nothing"] {
            let reply = server.get(path);
            assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Bearer")));
            assert_eq!(reply.json()["error"]["code"], "invalid_api_key");
        }
        assert_eq!(server.post("/v1/chat/completions", &chat(json!({}))).status, 401);
        assert_eq!(server.get("/health").status, 200);
    }

    #[test]
    fn the_key_opens_and_a_wrong_one_does_not() {
        let server = Server::start_with(Script::new(["x"]), |options| options.api_key = Some("s3cret".to_string()));
        assert_eq!(server.request("GET", "/v1/models", "Authorization: Bearer s3cret\r\n", "").status, 200);
        assert_eq!(server.request("GET", "/v1/models", "authorization: bearer s3cret\r\n", "").status, 200);
        let wrong = server.request("GET", "/v1/models", "Authorization: Bearer s3crex\r\n", "");
        assert_eq!((wrong.status, wrong.body.contains("s3cre")), (401, false));
        assert_eq!(server.request("GET", "/v1/models", "Authorization: Basic s3cret\r\n", "").status, 401);
    }
}
