//! Workloads, to read.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::id::WorkloadName;
use model::spec::to_document;

use super::App;
use super::problem::Failure;
use crate::api::{API_VERSION, Explanation, Problem, Workload, WorkloadDetail, Workloads};

/// All workloads and how they are.
#[utoipa::path(get, path = "/api/v1/workloads", tag = "workloads", responses((status = 200, body = Workloads)))]
pub(super) async fn list(State(app): State<App>) -> Result<Json<Workloads>, Failure> {
    let items = app.control.workloads().await?.into_iter().map(Workload::from).collect();
    Ok(Json(Workloads { api_version: API_VERSION.to_owned(), items }))
}

pub(super) fn named(text: &str) -> Result<WorkloadName, Failure> {
    WorkloadName::new(text).map_err(|error| Failure::bad_request(format!("workload name: {error}")))
}

pub(super) fn missing(name: &WorkloadName) -> Failure {
    Failure::not_found(format!("there is no workload `{name}`; GET /api/v1/workloads lists them"))
}

/// One workload: its specification with its revision (the entity tag), and how it is.
#[utoipa::path(get, path = "/api/v1/workloads/{name}", tag = "workloads", params(("name" = String, Path, description = "The workload's name", example = "worker")),
    responses((status = 200, body = WorkloadDetail), (status = 304, description = "as it was"), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn one(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let name = named(&name)?;
    let of = name.clone();
    let row = app.stored(move |reader| reader.spec(&of)).await?.ok_or_else(|| missing(&name))?;
    let tag = entity_tag(row.revision);
    if headers.get(header::IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let status =
        app.control.workloads().await?.into_iter().find(|view| view.name == name).map(Workload::from);
    let detail = WorkloadDetail {
        api_version: API_VERSION.to_owned(),
        revision: row.revision,
        applied_ms: row.at.0,
        document: to_document(&row.workload),
        status,
    };
    Ok(([(header::ETAG, tag)], Json(detail)).into_response())
}

pub(super) fn entity_tag(revision: i64) -> String {
    format!("\"{revision}\"")
}

/// Why a workload is as it is: what was done and why, what was not done and why, what blocks, what would make it act.
#[utoipa::path(get, path = "/api/v1/workloads/{name}/explain", tag = "workloads", params(("name" = String, Path, description = "The workload's name", example = "worker")),
    responses((status = 200, body = Explanation), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn explain(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Explanation>, Failure> {
    let name = named(&name)?;
    let explanation = app.control.explain(name.clone()).await?.ok_or_else(|| missing(&name))?;
    let frozen = app.control.health().await?.frozen.map(|frozen| frozen.why);
    Ok(Json(Explanation::new(explanation, frozen)))
}
