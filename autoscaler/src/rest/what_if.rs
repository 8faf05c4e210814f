//! What if something else were asked? It changes nothing, so a page needs no session for it.

use autoscaler_core::room::Room;
use autoscaler_core::what_if::Question;
use autoscaler_core::what_if::fleet::NodeType;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use model::units::{Millis, Share};
use model::workload::WorkloadKind;

use super::App;
use super::changes::read;
use super::problem::Failure;
use super::workloads::named;
use crate::api::{
    API_VERSION, NodesNeeded, Problem, WhatIf, WhatIfDifference, WhatIfOutcome, WhatIfRequest, WhatIfSeries,
    WhatIfWorkload,
};
use crate::history::GatherError;
use crate::what_if::{self, Answer, Asking, RANGES, Refused};

/// Its path, which the guard knows.
pub(super) const PATH: &str = "/api/v1/what-if";
/// Workloads that may be named in one question.
const MOST: usize = 1_000;
/// Recorded load that is played when nothing is said, ms: a day has a night in it.
const RANGE_MS: u64 = 86_400_000;

/// Plays recorded load through the decisions, with the settings as they are and as asked: replicas, time above target, differing decisions, nodes,
/// and what they cost at a given price. What cannot be replayed is answered with a reason. Nothing is changed.
#[utoipa::path(post, path = "/api/v1/what-if", operation_id = "what_if", tag = "decisions",
    request_body(content = WhatIfRequest, example = json!({ "workloads": ["worker"], "range": "24h", "target": { "cpu": 0.75 }, "load": 1.2, "lose": 1,
        "nodeType": { "cpus": 8, "memoryBytes": 34359738368u64, "price": 0.4 } })),
    responses((status = 200, body = WhatIf), (status = 400, body = Problem, content_type = "application/problem+json", description = "a value is out of range"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "a workload is not there"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "it would be too much work")))]
pub(super) async fn ask(State(app): State<App>, body: Bytes) -> Result<Json<WhatIf>, Failure> {
    let request: WhatIfRequest = read(&body)?;
    let asking = asking(&request)?;
    let known = app.control.what_if().await?;
    let _one = app.plays.acquire().await.map_err(|error| Failure::internal(&error))?;
    let (reader, history) = (app.reader.clone(), app.history.clone());
    let answer =
        tokio::task::spawn_blocking(move || what_if::answer(&asking, &known, &reader, &history)).await;
    let answer = answer.map_err(|error| Failure::internal(&error))??;
    Ok(Json(WhatIf {
        api_version: API_VERSION.to_owned(),
        from_ms: answer.from.0,
        to_ms: answer.to.0,
        step_ms: answer.step_ms,
        limited: answer.limited,
        workloads: answer.workloads.into_iter().map(WhatIfWorkload::from).collect(),
        nodes_as_is: NodesNeeded::from(answer.as_is),
        nodes_asked: NodesNeeded::from(answer.asked),
    }))
}

fn asking(request: &WhatIfRequest) -> Result<Asking, Failure> {
    let out = |field: &str, range: &str| Failure::bad_request(format!("{field} must be {range}"));
    if request.workloads.len() > MOST {
        return Err(out("workloads", "at most 1000 names"));
    }
    let workloads = request.workloads.iter().map(|name| named(name)).collect::<Result<Vec<_>, _>>()?;
    let range = request.range.as_deref().map(str::parse::<Millis>).transpose();
    let range_ms = range
        .map_err(|error| Failure::bad_request(format!("range: {error}")))?
        .map_or(RANGE_MS, |range| range.0);
    if !RANGES.contains(&range_ms) {
        return Err(out("range", "from 10m to 31d"));
    }
    let within = |value: Option<f64>, field: &str, range: std::ops::RangeInclusive<f64>| match value {
        Some(value) if !range.contains(&value) => {
            Err(out(field, &format!("from {} to {}", range.start(), range.end())))
        }
        value => Ok(value),
    };
    let target = request.target.unwrap_or_default();
    if target.cpu.is_some_and(|cpu| !(cpu > 0.0 && cpu <= 1.0)) {
        return Err(out("target.cpu", "above 0 and at most 1: it is a share"));
    }
    if target.queue_delay_p95_ms.is_some_and(|ms| !(1..=3_600_000).contains(&ms)) {
        return Err(out("target.queueDelayP95Ms", "from 1 to 3600000"));
    }
    let bounds = request.replicas.unwrap_or_default();
    if [bounds.min, bounds.max].into_iter().flatten().any(|bound| !(1..=1_000).contains(&bound)) {
        return Err(out("replicas.min and replicas.max", "from 1 to 1000"));
    }
    if bounds.min.zip(bounds.max).is_some_and(|(min, max)| min > max) {
        return Err(out("replicas.min", "at most replicas.max"));
    }
    if request.lose > 10_000 {
        return Err(out("lose", "at most 10000"));
    }
    let node_type = request.node_type.map(|of| {
        if !(of.cpus > 0.0 && of.cpus <= 4_096.0) {
            return Err(out("nodeType.cpus", "above 0 and at most 4096"));
        }
        if !(1..=1 << 50).contains(&of.memory_bytes) {
            return Err(out("nodeType.memoryBytes", "from 1 to 2^50"));
        }
        let price = within(of.price, "nodeType.price", 0.0..=1e6)?;
        let cpu_millis = (of.cpus * 1e3).round() as u64;
        Ok(NodeType { has: Room { cpu_millis, memory_bytes: of.memory_bytes }, price })
    });
    Ok(Asking {
        workloads,
        range_ms,
        question: Question {
            cpu: target.cpu.map(Share),
            queue_delay: target.queue_delay_p95_ms.map(Millis),
            min: bounds.min,
            max: bounds.max,
            risk: within(request.risk, "risk", 0.0..=1.0)?,
            load: within(request.load, "load", 0.1..=10.0)?.unwrap_or(1.0),
            headroom: within(request.headroom, "headroom", 0.0..=5.0)?,
        },
        lose: request.lose,
        node_type: node_type.transpose()?,
    })
}

impl From<Answer> for WhatIfWorkload {
    fn from(answer: Answer) -> Self {
        let spec = &answer.subject.workload.spec;
        let mut shown = Self {
            name: answer.subject.workload.name.to_string(),
            kind: spec.kind.word().to_owned(),
            unit: if spec.kind == WorkloadKind::Rails { "requests_per_second" } else { "cores" }.to_owned(),
            covered_ms: answer.covered_ms,
            why: None,
            enough_in_ms: answer.enough_in_ms,
            as_is: None,
            asked: None,
            series: None,
            differences: Vec::new(),
            differed: 0,
            assumes: Vec::new(),
        };
        match answer.played {
            Err(why) => shown.why = Some(why.to_string()),
            Ok(played) => {
                shown.as_is = Some(WhatIfOutcome::from(&played.as_is));
                shown.asked = Some(WhatIfOutcome::from(&played.asked));
                shown.differences = played.differences.iter().map(WhatIfDifference::from).collect();
                shown.differed = played.differed;
                shown.series = Some(WhatIfSeries::from(played.series));
                shown.assumes = played.assumes;
            }
        }
        shown
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            Refused::NoWorkload(_) => Self::not_found(detail),
            Refused::TooMuch { .. } | Refused::Restless(_) | Refused::Gather(GatherError::TooMuch { .. }) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "too-much", detail)
            }
            Refused::Gather(GatherError::History(error)) => error.into(),
            Refused::Store(error) => error.into(),
        }
    }
}
