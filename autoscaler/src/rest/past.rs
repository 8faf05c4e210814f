//! What was: decisions, the idle ledger, history.

use autoscaler_core::event::Time;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use model::id::NodeId;
use model::units::Millis;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::fleet::{MOST, cursor};
use super::problem::Failure;
use super::workloads::{missing, named};
use crate::api::{API_VERSION, Course, Decision, Decisions, History, Idle, IdlePage, Problem, Usage};
use crate::history::{self, Series, Tier};
use crate::store::usage::SLOT_MS;

/// Which decisions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DecisionQuery {
    /// About one workload.
    workload: Option<String>,
    /// Only what was carried out.
    acts: Option<bool>,
    /// Items of one answer, at most 1000; default 100.
    limit: Option<usize>,
    /// `next` of the answer before.
    cursor: Option<String>,
}

/// Decisions, acts and non-acts, newest first.
#[utoipa::path(get, path = "/api/v1/decisions", tag = "decisions", params(DecisionQuery),
    responses((status = 200, body = Decisions), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn decisions(
    State(app): State<App>,
    query: Result<Query<DecisionQuery>, QueryRejection>,
) -> Result<Json<Decisions>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let workload = query.workload.as_deref().map(named).transpose()?;
    let before = cursor(query.cursor.as_deref())?;
    let limit = query.limit.unwrap_or(100).clamp(1, MOST);
    let acts = query.acts.unwrap_or(false);
    let page = app.stored(move |reader| reader.decisions(workload.as_ref(), acts, before, limit)).await?;
    let frozen = app.control.health().await?.frozen.map(|frozen| frozen.why);
    let items = page.items.iter().map(|row| Decision::from(&row.decision)).collect();
    Ok(Json(Decisions { api_version: API_VERSION.to_owned(), frozen, items, next: page.next }))
}

/// How many pages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct IdleQuery {
    /// Pages, at most 1000; default 60.
    limit: Option<usize>,
}

/// The idle ledger: every idle core-second and byte-second has one cause.
#[utoipa::path(get, path = "/api/v1/idle", tag = "decisions", params(IdleQuery),
    responses((status = 200, body = Idle), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn idle(
    State(app): State<App>,
    query: Result<Query<IdleQuery>, QueryRejection>,
) -> Result<Json<Idle>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let limit = query.limit.unwrap_or(60).clamp(1, MOST);
    let items = app.stored(move |reader| reader.idle(limit)).await?;
    let items = items.into_iter().map(IdlePage::from).collect();
    Ok(Json(Idle { api_version: API_VERSION.to_owned(), items }))
}

/// Which range.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UsageQuery {
    /// How far back: `1h` (default), `24h`, `7d`, `30d` or any other time from 10 minutes to 400 days.
    range: Option<String>,
    /// About how many values over time, at most 1000; default 240.
    points: Option<u64>,
}

/// Shortest and longest range, ms: a slot of the ledger, and more than is kept by default.
const RANGES: std::ops::RangeInclusive<u64> = SLOT_MS..=400 * 86_400_000;

/// What the fleet had, used and left idle, by cause, in a range of time.
#[utoipa::path(get, path = "/api/v1/usage", tag = "decisions", params(UsageQuery),
    responses((status = 200, body = Usage), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn usage(
    State(app): State<App>,
    query: Result<Query<UsageQuery>, QueryRejection>,
) -> Result<Json<Usage>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let range = query.range.as_deref().unwrap_or("1h").parse::<Millis>();
    let range = range.map_err(|error| Failure::bad_request(format!("range: {error}")))?.0;
    if !RANGES.contains(&range) {
        return Err(Failure::bad_request("range must be from 10m to 400d"));
    }
    let points = query.points.unwrap_or(240).clamp(1, 1_000);
    let now = app.control.now();
    let from = Time(now.0.saturating_sub(range));
    Ok(Json(app.stored(move |reader| reader.usage(from, now, points)).await?.into()))
}

/// Which stretch.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CourseQuery {
    /// How far back: `1h` (default), or any other time from 10 minutes to 7 days.
    range: Option<String>,
    /// About how many steps, at most 1000; default 240. A step is at least a minute.
    points: Option<u64>,
}

/// Longest that is kept, ms.
const WEEK_MS: u64 = 7 * 86_400_000;

/// How a workload went: what came, what was foreseen for that time, what its replicas carried. A minute is stored when it is over.
#[utoipa::path(get, path = "/api/v1/workloads/{name}/course", tag = "workloads",
    params(("name" = String, Path, description = "The workload's name", example = "worker"), CourseQuery),
    responses((status = 200, body = Course), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn course(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Result<Query<CourseQuery>, QueryRejection>,
) -> Result<Json<Course>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let range = query.range.as_deref().unwrap_or("1h").parse::<Millis>();
    let range = range.map_err(|error| Failure::bad_request(format!("range: {error}")))?.0;
    if !(SLOT_MS..=WEEK_MS).contains(&range) {
        return Err(Failure::bad_request("range must be from 10m to 7d"));
    }
    let points = query.points.unwrap_or(240).clamp(1, 1_000);
    let name = named(&name)?;
    let now = app.control.now();
    let (of, from) = (name.clone(), Time(now.0.saturating_sub(range)));
    let course = app.stored(move |reader| {
        let known = reader.spec(&of)?.is_some();
        Ok(if known { Some(reader.course(&of, from, now, points)?) } else { None })
    });
    let course = course.await?.ok_or_else(|| missing(&name))?;
    Ok(Json(Course::of(name.to_string(), &course)))
}

/// Which values.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// Which node.
    node: String,
    /// Which task, by its cgroup; absent = the sum of all tasks of the node.
    cgroup: Option<u64>,
    /// `cpu` (default), `memory`, `run_delay`; with a step above 1 s also `cpu_max`, `memory_max`.
    series: Option<Series>,
    /// Distance of values, s: 1, 10, 60 (default) or 600.
    step: Option<u64>,
    /// From, ms of controller time; default an hour ago.
    from_ms: Option<u64>,
    /// Up to, ms of controller time; default now.
    to_ms: Option<u64>,
}

/// Use over time. What was measured within the last two minutes may not be there yet.
#[utoipa::path(get, path = "/api/v1/history", tag = "fleet", params(HistoryQuery),
    responses((status = 200, body = History), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn history(
    State(app): State<App>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<History>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let node = NodeId::new(query.node).map_err(|error| Failure::bad_request(format!("node: {error}")))?;
    let step = query.step.unwrap_or(60);
    let tier = Tier::ALL.into_iter().find(|tier| tier.seconds() == step);
    let tier = tier.ok_or_else(|| Failure::bad_request("step must be 1, 10, 60 or 600"))?;
    let now = app.control.now().0;
    let series = query.series.unwrap_or(Series::Cpu);
    let asked = history::Query {
        node,
        boot: None,
        cgroup: query.cgroup,
        series,
        tier,
        from: query.from_ms.unwrap_or(now.saturating_sub(3_600_000)) / 1000,
        to: query.to_ms.unwrap_or(now).div_ceil(1000),
    };
    let handle = app.history.clone();
    let answer = tokio::task::spawn_blocking(move || handle.query(&asked)).await;
    let points = answer.map_err(|error| Failure::internal(&error))??;
    let unit = match series {
        Series::Cpu | Series::CpuMax => "cores",
        Series::Memory | Series::MemoryMax => "bytes",
        Series::RunDelay => "seconds_per_second",
    };
    Ok(Json(History {
        api_version: API_VERSION.to_owned(),
        unit: unit.to_owned(),
        from_ms: points.from_ms,
        step_ms: points.step_ms,
        values: points.values,
    }))
}
