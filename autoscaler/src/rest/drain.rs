//! Emptying nodes.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};

use super::App;
use super::fleet::{named, no_such_node, one};
use super::problem::Failure;
use crate::api::{API_VERSION, DrainPreview, DrainRequest, Keeps, Node, Problem};
use crate::control::Write;

/// What keeps a node: what Trimtab has there, and what a drain would take. It begins nothing.
#[utoipa::path(get, path = "/api/v1/nodes/{id}/drain", tag = "fleet", params(("id" = String, Path, description = "The node's name")),
    responses((status = 200, body = DrainPreview), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn preview(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<DrainPreview>, Failure> {
    let node = named(&id)?;
    let keeps = app.control.keeps(node.clone()).await?.ok_or_else(|| no_such_node(&id))?;
    let items = keeps.into_iter().map(Keeps::from).collect();
    Ok(Json(DrainPreview { api_version: API_VERSION.to_owned(), node: node.to_string(), items }))
}

/// Empties a node: nothing starts there any more, and what runs there is started elsewhere before it ends there. It is refused when
/// something could not leave now, unless the request says `partly`; then that stays until it can.
#[utoipa::path(post, path = "/api/v1/nodes/{id}/drain", tag = "fleet", params(("id" = String, Path, description = "The node's name")), request_body = DrainRequest,
    responses((status = 200, body = Node), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn begin(
    State(app): State<App>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Node>, Failure> {
    let node = named(&id)?;
    let request: DrainRequest = super::changes::read(&body)?;
    let reason = super::changes::in_words(&request.reason);
    tracing::info!(%node, reason, "a node is to be empty");
    app.control.write(Write::Drain { node: node.clone(), reason, partly: request.partly }).await?;
    one(&app, &node).await
}

/// Lets replicas start on a node again.
#[utoipa::path(delete, path = "/api/v1/nodes/{id}/drain", tag = "fleet", params(("id" = String, Path, description = "The node's name")),
    responses((status = 200, body = Node), (status = 404, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn end(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Node>, Failure> {
    let node = named(&id)?;
    app.control.write(Write::Uncordon { node: node.clone() }).await?;
    tracing::info!(%node, "replicas may start on the node again");
    one(&app, &node).await
}
