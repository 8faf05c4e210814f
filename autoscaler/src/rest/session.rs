//! Whether the caller may write.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::guard::Caller;
use crate::api::{API_VERSION, Session};

/// Whether the caller may change something. A page in a browser may with the session's secret (`Authorization: Bearer`), which
/// `trimtab dashboard` gives; without it, it may read. A wrong one is refused.
#[utoipa::path(get, path = "/api/v1/session", tag = "control", responses((status = 200, body = Session)))]
pub(super) async fn session(Extension(caller): Extension<Caller>) -> Response {
    let session = Session { api_version: API_VERSION.to_owned(), writes: caller.writes() };
    ([(header::CACHE_CONTROL, "no-store")], Json(session)).into_response()
}
