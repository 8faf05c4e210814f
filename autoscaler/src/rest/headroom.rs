//! What has room, and whether a loss is survived.

use axum::Json;
use axum::extract::State;

use super::App;
use super::problem::Failure;
use crate::api::Headroom;

/// Whether what Trimtab runs survives the loss of any one node or rack, and what more has room. A question of room alone: whether Trimtab may
/// start something is said by `/status` and the workloads' modes.
#[utoipa::path(get, path = "/api/v1/headroom", tag = "fleet", responses((status = 200, body = Headroom)))]
pub(super) async fn headroom(State(app): State<App>) -> Result<Json<Headroom>, Failure> {
    let question = app.control.losses().await?;
    let answer = tokio::task::spawn_blocking(move || question.answer()).await;
    Ok(Json(answer.map_err(|error| Failure::internal(&error))?.into()))
}
