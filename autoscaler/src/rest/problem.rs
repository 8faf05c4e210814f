//! Faults as RFC 9457 wants them.

use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use crate::api::Problem;
use crate::control::{Unreachable, WriteError};
use crate::history::HistoryError;
use crate::store::StoreError;

/// What the name of each kind of fault begins with.
const PREFIX: &str = "urn:trimtab:problem:";

/// How a fault is written.
const PROBLEM: &str = "application/problem+json";
/// Longest words of the framework that are passed on, bytes.
const SAID: usize = 4096;

/// A fault on its way to the client.
#[derive(Debug)]
pub(super) struct Failure(Box<Problem>);

impl Failure {
    pub(super) fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind: if kind.is_empty() { "about:blank".to_owned() } else { format!("{PREFIX}{kind}") },
            title: status.canonical_reason().unwrap_or("fault").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            faults: Vec::new(),
        }))
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// A fault of ours: the log has it all, the client learns that there is one.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("a fault of the service: {error}"))
    }

    /// The kind of fault, without what all kinds begin with.
    #[cfg(test)]
    pub(super) fn kind(&self) -> &str {
        self.0.kind.trim_start_matches(PREFIX)
    }

    pub(super) fn with_faults(mut self, faults: Vec<serde_json::Value>) -> Self {
        self.0.faults = faults;
        self
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self.0).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM)], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        Self::internal(&error)
    }
}

impl From<Unreachable> for Failure {
    fn from(error: Unreachable) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", error.to_string())
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        let detail = error.to_string();
        match error {
            WriteError::NotFound(_) | WriteError::NoNode(_) => Self::not_found(detail),
            WriteError::WouldStay { .. } => Self::new(StatusCode::CONFLICT, "would-stay", detail),
            WriteError::OtherKind { .. } => Self::new(StatusCode::CONFLICT, "other-kind", detail),
            WriteError::NothingToApprove { .. } => {
                Self::new(StatusCode::CONFLICT, "nothing-to-approve", detail)
            }
            WriteError::NothingToCancel(_) => Self::new(StatusCode::CONFLICT, "nothing-to-cancel", detail),
            WriteError::NoPrices => Self::not_found(detail),
            WriteError::OtherPrices { .. } => Self::new(StatusCode::PRECONDITION_FAILED, "conflict", detail),
            WriteError::Conflict { .. } => Self::new(StatusCode::PRECONDITION_FAILED, "conflict", detail),
            WriteError::Frozen(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "frozen", detail),
            WriteError::Store(error) => Self::internal(&error),
        }
    }
}

/// What the framework refuses before a handler is asked (a body that is too large, a path that is no text) says so as
/// a problem, too.
pub(super) async fn explained(response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let status = response.status();
    if !status.is_client_error() || kind.is_some_and(|kind| kind == PROBLEM) {
        return response;
    }
    let detail = match status {
        StatusCode::PAYLOAD_TOO_LARGE => {
            "the body is larger than this interface reads (limits.api_body of the autoscaler)".to_owned()
        }
        _ => {
            let body = axum::body::to_bytes(response.into_body(), SAID).await.unwrap_or_default();
            let said = String::from_utf8_lossy(&body).trim().to_owned();
            if said.is_empty() { "the request cannot be read".to_owned() } else { said }
        }
    };
    let kind = if status == StatusCode::BAD_REQUEST { "bad-request" } else { "" };
    Failure::new(status, kind, detail).into_response()
}

pub(super) async fn no_such_path(uri: Uri) -> Failure {
    Failure::not_found(format!("there is nothing at {}; /api/v1/openapi.json lists everything", uri.path()))
}

pub(super) async fn no_such_method(uri: Uri) -> Failure {
    let detail = format!("{} does not take this method; see /api/v1/openapi.json", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "", detail)
}
