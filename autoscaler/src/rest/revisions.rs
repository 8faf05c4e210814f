//! What was asked of a workload before, and the way back.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::App;
use super::changes::{ApplyQuery, expected, put_in_force};
use super::problem::Failure;
use super::workloads::{missing, named};
use crate::api::{API_VERSION, Applied, Problem, Revision, Revisions, RollbackRequest};

/// What was asked of a workload, newest first: each application and withdrawal of its specification, the newest 50. One that was withdrawn is
/// remembered as long as decisions are.
#[utoipa::path(get, path = "/api/v1/workloads/{name}/revisions", operation_id = "revisions", tag = "workloads", params(("name" = String, Path, description = "The workload's name", example = "worker")),
    responses((status = 200, body = Revisions), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Revisions>, Failure> {
    let name = named(&name)?;
    let of = name.clone();
    let rows = app.stored(move |reader| reader.revisions(&of)).await?;
    if rows.is_empty() {
        return Err(missing(&name));
    }
    let items = rows.into_iter().map(Revision::from).collect();
    Ok(Json(Revisions { api_version: API_VERSION.to_owned(), items }))
}

/// Brings an earlier specification into force again, as a new revision; also when it was withdrawn meanwhile. `If-Match` with the entity tag
/// refuses when somebody else changed it in between.
#[utoipa::path(post, path = "/api/v1/workloads/{name}/rollback", tag = "workloads", params(("name" = String, Path, description = "The workload's name", example = "worker"), ApplyQuery),
    request_body = RollbackRequest,
    responses((status = 200, body = Applied), (status = 201, body = Applied, description = "it had been withdrawn"), (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"), (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn rollback(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Result<Query<ApplyQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let name = named(&name)?;
    let expect = expected(&headers)?;
    let request: RollbackRequest = serde_json::from_slice(&body).map_err(|error| {
        Failure::bad_request(format!("the body is not as expected ({{\"to\": N}}): {error}"))
    })?;
    let of = name.clone();
    let rows = app.stored(move |reader| reader.revisions(&of)).await?;
    if rows.is_empty() {
        return Err(missing(&name));
    }
    let to = request.to;
    let known: Vec<String> = rows.iter().map(|row| row.revision.to_string()).collect();
    let Some(row) = rows.into_iter().find(|row| row.revision == to) else {
        let detail =
            format!("workload `{name}` has no revision {to} (any more); it has {}", known.join(", "));
        return Err(Failure::not_found(detail));
    };
    let workload = row.workload.ok_or_else(|| {
        let detail = format!("revision {to} withdrew workload `{name}`: to do that again, DELETE it");
        Failure::new(StatusCode::CONFLICT, "withdrawn", detail)
    })?;
    put_in_force(&app, workload, expect, query.dry_run).await
}
