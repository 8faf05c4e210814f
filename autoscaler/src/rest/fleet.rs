//! Nodes and tasks.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use model::id::NodeId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::problem::Failure;
use crate::api::{API_VERSION, Containers, Delays, EndedTasks, Members, Node, Nodes, Problem, Task, Tasks};

/// Most items of one answer.
pub(super) const MOST: usize = 1000;

/// All nodes.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "fleet", responses((status = 200, body = Nodes)))]
pub(super) async fn nodes(State(app): State<App>) -> Result<Json<Nodes>, Failure> {
    let (given, drains) = app.control.claims().await?;
    let nodes = app.control.nodes().await?.into_iter();
    let items = nodes
        .map(|view| {
            let (given, drain) = (given.get(&view.node), drains.get(&view.node));
            Node::from(view).with(given, drain)
        })
        .collect();
    Ok(Json(Nodes { api_version: API_VERSION.to_owned(), items }))
}

/// One node.
#[utoipa::path(get, path = "/api/v1/nodes/{id}", tag = "fleet", params(("id" = String, Path, description = "The node's name")),
    responses((status = 200, body = Node), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn node(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Node>, Failure> {
    one(&app, &named(&id)?).await
}

pub(super) fn named(id: &str) -> Result<NodeId, Failure> {
    // A name that cannot be one has no node.
    id.parse().map_err(|_| no_such_node(id))
}

pub(super) fn no_such_node(id: &str) -> Failure {
    Failure::not_found(format!("there is no node `{id}`"))
}

pub(super) async fn one(app: &App, name: &NodeId) -> Result<Json<Node>, Failure> {
    let (given, drains) = app.control.claims().await?;
    let view = app.control.node(name.clone()).await?.ok_or_else(|| no_such_node(name.as_str()))?;
    Ok(Json(Node::from(view).with(given.get(name), drains.get(name))))
}

/// Run-queue delays of all tasks of a node over about the last minute, by length.
#[utoipa::path(get, path = "/api/v1/nodes/{id}/delays", tag = "fleet", params(("id" = String, Path, description = "The node's name")),
    responses((status = 200, body = Delays), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn delays(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Delays>, Failure> {
    let (view, histogram) = app.control.delays(named(&id)?).await?.ok_or_else(|| no_such_node(&id))?;
    Ok(Json(Delays::of(&view, &histogram)))
}

/// Which tasks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TaskQuery {
    /// Of one node.
    node: Option<String>,
    /// Of one workload.
    workload: Option<String>,
    /// `live` (default) or `ended`.
    state: Option<String>,
    /// Items of one answer, at most 1000; default 100 for ended tasks, all for live ones.
    limit: Option<usize>,
    /// `next` of the answer before.
    cursor: Option<String>,
}

/// Tasks: live ones with their use, or ended ones with their final totals.
#[utoipa::path(get, path = "/api/v1/tasks", tag = "fleet", params(TaskQuery),
    responses((status = 200, body = Tasks, description = "live tasks; with `state=ended` an `EndedTasks`"), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn tasks(
    State(app): State<App>,
    query: Result<Query<TaskQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let cursor = cursor(query.cursor.as_deref())?;
    match query.state.as_deref().unwrap_or("live") {
        "ended" => {
            let limit = query.limit.unwrap_or(100).clamp(1, MOST);
            let page = app
                .stored(move |reader| {
                    reader.ended_tasks(query.node.as_deref(), query.workload.as_deref(), cursor, limit)
                })
                .await?;
            Ok(Json(EndedTasks::from(page)).into_response())
        }
        "live" => {
            let node = node_id(query.node)?;
            let skip = usize::try_from(cursor.unwrap_or(0)).unwrap_or(0);
            let limit = query.limit.map_or(usize::MAX, |limit| limit.clamp(1, MOST));
            let all = app.control.tasks(node).await?;
            let wanted = all.into_iter().filter(|task| {
                let of = task.info.class.workload.as_ref();
                query.workload.as_deref().is_none_or(|name| of.is_some_and(|of| of.as_str() == name))
            });
            let mut rest = wanted.skip(skip).map(Task::from);
            let items: Vec<Task> = rest.by_ref().take(limit).collect();
            let next = rest.next().map(|_| (skip + items.len()).to_string());
            Ok(Json(Tasks { api_version: API_VERSION.to_owned(), items, next }).into_response())
        }
        other => Err(Failure::bad_request(format!("state `{other}` is not known: use `live` or `ended`"))),
    }
}

/// Which containers.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ContainerQuery {
    /// Of one node.
    node: Option<String>,
    /// Of one workload.
    workload: Option<String>,
}

/// Containers that run, each with what all its cgroups use.
#[utoipa::path(get, path = "/api/v1/containers", tag = "fleet", params(ContainerQuery),
    responses((status = 200, body = Containers), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn containers(
    State(app): State<App>,
    query: Result<Query<ContainerQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Containers>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let node = node_id(query.node)?;
    let mut containers = Containers::of(app.control.tasks(node).await?);
    containers.items.retain(|c| query.workload.is_none() || c.workload == query.workload);
    Ok(Json(containers))
}

/// Members of clusters that agents report: NodeManagers, DataNodes, Cassandra nodes.
#[utoipa::path(get, path = "/api/v1/members", tag = "fleet", responses((status = 200, body = Members)))]
pub(super) async fn members(State(app): State<App>) -> Result<Json<Members>, Failure> {
    Ok(Json(app.control.members().await?))
}

fn node_id(name: Option<String>) -> Result<Option<NodeId>, Failure> {
    name.map(NodeId::new).transpose().map_err(|e| Failure::bad_request(format!("node: {e}")))
}

pub(super) fn cursor(text: Option<&str>) -> Result<Option<i64>, Failure> {
    text.map(|text| {
        text.parse().map_err(|_| Failure::bad_request("the cursor is not one of ours: leave it out"))
    })
    .transpose()
}
