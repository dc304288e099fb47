//! `GET /v1/models` and `GET /v1/models/{id}`.

use std::sync::Arc;

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
    response::Response,
};
use serde_json::{Value, json};

use crate::{engine::ModelCard, error::ApiError, router::App, wire};

/// Lists the models, the default one first.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Response {
    let data: Vec<Value> = app.models.iter().map(|model| object(&model.card)).collect();
    wire::json(StatusCode::OK, &json!({"object": "list", "data": data, "has_more": false}))
}

/// One model.
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    // An id that is not UTF-8 once decoded is no model's.
    let Path(id) = id.map_err(|_| ApiError::model_not_found("\u{fffd}"))?;
    Ok(wire::json(StatusCode::OK, &object(&app.model(&id)?.card)))
}

fn object(card: &ModelCard) -> Value {
    json!({
        "id": card.id, "object": "model", "created": card.created, "owned_by": card.owned_by, "shutdown_date": null,
        "parent": card.parent, "sha256": card.sha256,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{Script, Server};

    #[test]
    fn models_are_listed_with_their_base_and_hash() {
        let server = Server::start(Script::new([]));
        let list = server.get("/v1/models").json();
        assert_eq!((&list["object"], &list["has_more"]), (&json!("list"), &json!(false)));
        let ids: Vec<&str> =
            list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["base", "tuned", "org/base"]);
        assert_eq!((&list["data"][1]["parent"], &list["data"][1]["sha256"]), (&json!("base"), &json!("22")));
    }

    #[test]
    fn a_model_is_found_by_its_id_even_with_a_slash_in_it() {
        let server = Server::start(Script::new([]));
        assert_eq!(server.get("/v1/models/tuned").json()["id"], "tuned");
        assert_eq!(server.get("/v1/models/org%2Fbase").json()["id"], "org/base");
        assert_eq!(server.get("/v1/models/org/base").json()["id"], "org/base");
    }

    #[test]
    fn an_unknown_model_is_a_404() {
        let server = Server::start(Script::new([]));
        for id in ["gpt-9", "%FF", "tuned/"] {
            let reply = server.get(&format!("/v1/models/{id}"));
            assert_eq!((reply.status, &reply.json()["error"]["code"]), (404, &json!("model_not_found")));
        }
    }
}
