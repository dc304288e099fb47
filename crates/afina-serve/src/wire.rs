//! The JSON of answers, and what they have in common.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde_json::{Value, json};

use crate::engine::ModelCard;

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Lists the request's fields that were accepted and cannot change the answer; no header when there are none.
pub(crate) fn add_ignored(response: &mut Response, ignored: &[&'static str]) {
    if let (false, Ok(value)) = (ignored.is_empty(), HeaderValue::from_str(&ignored.join(", "))) {
        response.headers_mut().insert("x-afina-ignored", value);
    }
}

/// OpenAI's `usage`; nothing is cached and nothing reasons here.
pub(crate) fn usage(prompt_tokens: usize, completion_tokens: usize) -> Value {
    json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    })
}

/// What answered: this build, the model, its weights and its base's. The same fingerprint means the same answers.
pub(crate) fn fingerprint(card: &ModelCard, parent: Option<&ModelCard>) -> String {
    let empty = String::new();
    let parent = parent.and_then(|parent| parent.sha256.as_ref());
    let parts = [env!("CARGO_PKG_VERSION"), &card.id, card.sha256.as_ref().unwrap_or(&empty), parent.unwrap_or(&empty)];
    // FNV-1a, because it must not change from one build of the standard library to the next.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.join("\0").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("fp_{hash:016x}")
}

/// A fresh id: the prefix and 24 random hexadecimal digits.
pub(crate) fn fresh_id(prefix: &str) -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{prefix}{:016x}{:08x}", random(), random() >> 32)
}

/// Unix time in seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(id: &str, sha256: &str) -> ModelCard {
        ModelCard {
            id: id.to_string(),
            created: 0,
            owned_by: String::new(),
            parent: None,
            sha256: Some(sha256.to_string()),
        }
    }

    #[test]
    fn a_fingerprint_changes_with_the_weights_and_with_those_of_the_base() {
        let base = card("base", "11");
        let tuned = card("tuned", "22");
        let one = fingerprint(&tuned, Some(&base));
        assert_eq!(one, fingerprint(&tuned, Some(&base)));
        assert_ne!(one, fingerprint(&card("tuned", "23"), Some(&base)));
        assert_ne!(one, fingerprint(&tuned, Some(&card("base", "12"))));
    }

    #[test]
    fn ids_do_not_repeat() {
        let ids: std::collections::HashSet<String> = (0..1_000).map(|_| fresh_id("x-")).collect();
        assert_eq!(ids.len(), 1_000);
    }
}
