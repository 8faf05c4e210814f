//! Faults as RFC 9457 wants them.

use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use crate::api::Problem;
use crate::control::{Unreachable, WriteError};
use crate::history::HistoryError;
use crate::store::StoreError;

/// A fault on its way to the client.
#[derive(Debug)]
pub(super) struct Failure(Box<Problem>);

impl Failure {
    pub(super) fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind: if kind.is_empty() {
                "about:blank".to_owned()
            } else {
                format!("urn:trimtab:problem:{kind}")
            },
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

    pub(super) fn with_faults(mut self, faults: Vec<serde_json::Value>) -> Self {
        self.0.faults = faults;
        self
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self.0).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
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
            WriteError::Conflict { .. } => Self::new(StatusCode::PRECONDITION_FAILED, "conflict", detail),
            WriteError::Frozen(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "frozen", detail),
            WriteError::Store(error) => Self::internal(&error),
        }
    }
}

pub(super) async fn no_such_path(uri: Uri) -> Failure {
    Failure::not_found(format!("there is nothing at {}; /api/v1/openapi.json lists everything", uri.path()))
}

pub(super) async fn no_such_method(uri: Uri) -> Failure {
    let detail = format!("{} does not take this method; see /api/v1/openapi.json", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "", detail)
}
