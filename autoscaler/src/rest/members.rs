//! What operators say about changes of clusters: yes, and no.

use std::ops::RangeInclusive;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use model::decision::DecisionId;
use model::units::Millis;

use super::App;
use super::changes::{in_words, read};
use super::problem::Failure;
use super::workloads::{missing, named};
use crate::api::{ApproveRequest, CancelRequest, Problem, RejectRequest, Workload};
use crate::control::Write;

/// Lets a recommended change of a cluster begin: the one that the decision names, or whichever is recommended now. It is carried out once,
/// and only if it is still what would be decided within the next two minutes.
#[utoipa::path(post, path = "/api/v1/workloads/{name}/approve", tag = "workloads", params(("name" = String, Path, description = "The workload's name", example = "worker")), request_body = ApproveRequest,
    responses((status = 200, body = Workload), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn approve(
    State(app): State<App>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Workload>, Failure> {
    let workload = named(&name)?;
    let request: ApproveRequest = read(&body)?;
    let decision = meant(request.decision.as_deref())?;
    app.control.write(Write::Approve { workload: workload.clone(), decision }).await?;
    tracing::info!(%workload, "a recommended change is approved");
    shown(&app, &workload).await
}

fn meant(decision: Option<&str>) -> Result<Option<DecisionId>, Failure> {
    let decision = decision.map(str::parse::<u64>).transpose();
    let unreadable = |_| Failure::bad_request("decision: give the id that was read");
    Ok(decision.map_err(unreadable)?.map(DecisionId))
}

/// Says that a recommended change of a cluster is not wanted: it is not offered again for a day, or as long as is said, unless it becomes
/// another change or the specification does.
#[utoipa::path(post, path = "/api/v1/workloads/{name}/reject", tag = "workloads", params(("name" = String, Path, description = "The workload's name", example = "worker")), request_body = RejectRequest,
    responses((status = 200, body = Workload), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 404, body = Problem, content_type = "application/problem+json"), (status = 409, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn reject(
    State(app): State<App>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Workload>, Failure> {
    let workload = named(&name)?;
    let request: RejectRequest = read(&body)?;
    let (decision, reason) = (meant(request.decision.as_deref())?, in_words(&request.reason));
    let for_ms = put_off(request.for_.as_deref())?;
    app.control.write(Write::Reject { workload: workload.clone(), decision, reason, for_ms }).await?;
    tracing::info!(%workload, "a recommended change is rejected");
    shown(&app, &workload).await
}

/// How long a change may be put off, ms: within a minute nobody could do anything else, and after a month nobody knows why.
const PUT_OFF_MS: RangeInclusive<u64> = 60_000..=30 * 86_400_000;

fn put_off(length: Option<&str>) -> Result<Option<u64>, Failure> {
    let Some(length) = length else { return Ok(None) };
    let Millis(ms) = length.parse().map_err(|error| Failure::bad_request(format!("for: {error}")))?;
    if PUT_OFF_MS.contains(&ms) {
        return Ok(Some(ms));
    }
    Err(Failure::bad_request("for: from 1m to 30d (720h)"))
}

/// Takes the change of a cluster that is on its way back, as far as it can be: a drain and a decommission of a DataNode end, a node that has
/// begun to leave a ring goes on.
#[utoipa::path(post, path = "/api/v1/workloads/{name}/cancel", tag = "workloads", params(("name" = String, Path, description = "The workload's name", example = "worker")), request_body = CancelRequest,
    responses((status = 200, body = Workload), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn cancel(
    State(app): State<App>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Workload>, Failure> {
    let workload = named(&name)?;
    let request: CancelRequest = read(&body)?;
    let reason = in_words(&request.reason);
    app.control.write(Write::Cancel { workload: workload.clone(), reason }).await?;
    tracing::info!(%workload, "a change is cancelled");
    shown(&app, &workload).await
}

async fn shown(app: &App, workload: &model::id::WorkloadName) -> Result<Json<Workload>, Failure> {
    let view = app.control.workloads().await?.into_iter().find(|view| view.name == *workload);
    view.map(|view| Json(Workload::from(view))).ok_or_else(|| missing(workload))
}
