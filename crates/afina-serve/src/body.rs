//! A request's body, read whole and capped.

use axum::body::Body;
use tokio_stream::StreamExt;

use crate::error::ApiError;

/// How much of a body that is too large is read and thrown away. A client that is still sending when the connection
/// closes may never see the answer, and without the answer it does not know what was wrong.
const DRAIN: usize = 64 << 20;

/// Reads the body; more than `limit` bytes are a 413.
pub(crate) async fn read(body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut length = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk
            .map_err(|error| ApiError::invalid(None, None, format!("The body of the request broke off: {error}")))?;
        length += chunk.len();
        if length <= limit {
            bytes.extend_from_slice(&chunk);
        } else if length > limit + DRAIN {
            break;
        } else {
            bytes = Vec::new();
        }
    }
    if length > limit { Err(ApiError::too_large(limit)) } else { Ok(bytes) }
}
