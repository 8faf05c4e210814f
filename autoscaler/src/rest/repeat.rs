//! A repeated request with the same `Idempotency-Key` is answered as the first was, and has no second effect.

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::decision::InputsHash;
use serde::Serialize;

use super::App;
use super::problem::Failure;
use crate::store::StoredReply;

/// Longest key, bytes.
const LONGEST: usize = 128;

pub(super) async fn once<T: Serialize>(
    app: &App,
    path: &'static str,
    headers: &HeaderMap,
    body: &Bytes,
    act: impl Future<Output = Result<T, Failure>>,
) -> Result<Response, Failure> {
    let key = match headers.get("idempotency-key") {
        None => None,
        Some(key) => match key.to_str() {
            Ok(key) if !key.is_empty() && key.len() <= LONGEST => Some(format!("{path} {key}")),
            _ => {
                return Err(Failure::bad_request(format!(
                    "Idempotency-Key: 1 to {LONGEST} printable characters"
                )));
            }
        },
    };
    let fingerprint = InputsHash::of(body).to_string();
    if let Some(key) = key.clone()
        && let Some(first) = app.stored(move |reader| reader.reply(&key)).await?
    {
        if first.fingerprint != fingerprint {
            let detail = "this Idempotency-Key was used for another request: take a new one";
            return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", detail));
        }
        let status = StatusCode::from_u16(first.status).unwrap_or(StatusCode::OK);
        return Ok((status, [(header::CONTENT_TYPE, "application/json")], first.body).into_response());
    }
    let answer = serde_json::to_string(&act.await?).map_err(|error| Failure::internal(&error))?;
    if let Some(key) = key {
        let reply = StoredReply { fingerprint, status: StatusCode::OK.as_u16(), body: answer.clone() };
        app.control.remember_reply(key, reply).await?;
    }
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}
