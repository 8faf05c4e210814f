//! Whether the service lives, is ready, acts; and its metrics.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::App;
use super::problem::Failure;
use crate::api::{API_VERSION, Pause, Status};
use crate::metrics::{Format, Scraper};

/// The control loop must answer within this time to count as ready.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether it acts: acting, paused or frozen, and why.
#[utoipa::path(get, path = "/api/v1/status", tag = "control", responses((status = 200, body = Status)))]
pub(super) async fn status(State(app): State<App>) -> Result<Json<Status>, Failure> {
    status_of(&app).await.map(Json)
}

pub(super) async fn status_of(app: &App) -> Result<Status, Failure> {
    let health = app.control.health().await?;
    let now = app.control.now();
    let pauses: Vec<Pause> =
        app.stored(move |reader| reader.pauses(now)).await?.into_iter().map(Pause::from).collect();
    let paused = pauses.iter().any(|pause| pause.workload.is_none());
    let state = match (&health.frozen, paused) {
        (Some(_), _) => "frozen",
        (None, true) => "paused",
        (None, false) => "acting",
    };
    Ok(Status {
        api_version: API_VERSION.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: state.to_owned(),
        frozen: health.frozen.map(|frozen| frozen.why),
        pauses,
        epoch: health.epoch,
        agents: health.agents,
        now_ms: health.now_ms,
    })
}

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "probes", responses((status = 200, description = "it lives")))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// It can do its work: the loop turns and the store takes what happens.
#[utoipa::path(get, path = "/readyz", tag = "probes",
    responses((status = 200, description = "ready"), (status = 503, description = "not ready, with the reasons")))]
pub(super) async fn readyz(State(app): State<App>) -> Response {
    let reasons = match tokio::time::timeout(PATIENCE, app.control.health()).await {
        Err(_) => vec![format!("the control loop did not answer within {} s", PATIENCE.as_secs())],
        Ok(Err(error)) => vec![error.to_string()],
        Ok(Ok(health)) => health
            .frozen
            .map(|frozen| format!("frozen, nothing is done: the store cannot be written: {}", frozen.why))
            .into_iter()
            .collect(),
    };
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
}

/// Metrics in OpenMetrics text.
#[utoipa::path(get, path = "/metrics", tag = "probes", responses((status = 200, content_type = "application/openmetrics-text", body = String)))]
pub(super) async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    // Who asks for the older text format only gets that one.
    let format = Format::wanted(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    let scraper = Scraper::new(app.control.clone(), app.reader.clone(), app.metrics.clone());
    match scraper.scrape(format).await {
        Ok(text) => ([(header::CONTENT_TYPE, format.media_type())], text).into_response(),
        Err(error) => Failure::internal(&error).into_response(),
    }
}
