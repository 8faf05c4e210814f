//! What operators change: specifications, pauses.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::id::WorkloadName;
use model::spec::{Format, SpecFault, parse_as, to_document};
use model::units::Millis;
use model::workload::Workload;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::problem::Failure;
use super::repeat;
use super::workloads::{entity_tag, named};
use crate::api::{API_VERSION, Applied, PauseRequest, Problem, ResumeRequest, Status};
use crate::control::{Expect, Write, WriteError};

/// How to apply.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct ApplyQuery {
    /// Check and compare only.
    #[serde(default)]
    pub(super) dry_run: bool,
}

/// Applies a specification: one document in YAML, TOML or JSON, by its content type. `If-Match` with the entity tag
/// refuses when somebody else changed it in between; `If-None-Match: *` refuses when there is one.
#[utoipa::path(put, path = "/api/v1/workloads/{name}", tag = "workloads", params(("name" = String, Path, description = "The workload's name", example = "worker"), ApplyQuery),
    request_body(description = "The document; also as application/toml", content(
        (Object = "application/yaml"), (Object = "application/json", example = json!({ "apiVersion": "trimtab/v1", "kind": "Workload", "metadata": { "name": "worker" },
            "spec": { "type": "service", "replicas": { "min": 1, "max": 10 }, "target": { "cpu": "65%" }, "service": { "launcher": "worker" } } })))),
    responses((status = 200, body = Applied), (status = 201, body = Applied), (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"), (status = 412, body = Problem, content_type = "application/problem+json"),
        (status = 415, body = Problem, content_type = "application/problem+json"), (status = 422, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn apply(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Result<Query<ApplyQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let name = named(&name)?;
    let workload = document(&name, &headers, &body)?;
    put_in_force(&app, workload, expected(&headers)?, query.dry_run).await
}

/// Brings a specification into force, or says what that would change.
pub(super) async fn put_in_force(
    app: &App,
    workload: Workload,
    expect: Expect,
    dry_run: bool,
) -> Result<Response, Failure> {
    let of = workload.name.clone();
    let before = app.stored(move |reader| reader.spec(&of)).await?;
    let bounds = (workload.spec.replicas.min, workload.spec.replicas.max);
    let views = app.control.workloads().await?;
    let view = views.iter().find(|view| view.name == workload.name);
    let (is, asked) = (view.map(|view| view.kind), workload.spec.kind);
    if let Some(kind) = is.filter(|is| *is != asked && (is.is_cluster() || asked.is_cluster())) {
        // A comparison says so before anybody agrees to it.
        return Err(WriteError::OtherKind { name: workload.name, kind: kind.word() }.into());
    }
    let wanted_now = view.map(|view| view.wanted);
    let mut applied = Applied {
        api_version: API_VERSION.to_owned(),
        dry_run,
        created: before.is_none(),
        unchanged: before.as_ref().is_some_and(|row| row.workload == workload),
        revision: None,
        after: to_document(&workload),
        before: before.as_ref().map(|row| to_document(&row.workload)),
        wanted_now,
        bounds,
    };
    if dry_run {
        if !expect.fits(before.as_ref().map_or(0, |row| row.revision)) {
            return Err(Failure::new(
                StatusCode::PRECONDITION_FAILED,
                "conflict",
                "another revision is in force",
            ));
        }
        applied.revision = before.filter(|_| applied.unchanged).map(|row| row.revision);
        return Ok(Json(applied).into_response());
    }
    let written = app.control.write(Write::Apply { workload: Box::new(workload), expect }).await?;
    applied.created = written.created;
    applied.unchanged = written.unchanged;
    applied.revision = written.spec.as_ref().map(|row| row.revision);
    let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let tag = entity_tag(applied.revision.unwrap_or(0));
    Ok((status, [(header::ETAG, tag)], Json(applied)).into_response())
}

/// How a document was written, and its text.
pub(super) fn written<'a>(headers: &HeaderMap, body: &'a Bytes) -> Result<(Format, &'a str), Failure> {
    let content = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = match content.split(';').next().unwrap_or_default().trim() {
        "application/json" => Format::Json,
        "application/toml" => Format::Toml,
        "" | "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => Format::Yaml,
        other => {
            let detail =
                format!("`{other}` is not read: send application/yaml, application/json or application/toml");
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", detail));
        }
    };
    let text = std::str::from_utf8(body).map_err(|_| invalid("the document is not UTF-8".to_owned()))?;
    Ok((format, text))
}

fn invalid(detail: String) -> Failure {
    Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-spec", detail)
}

/// All faults of a document.
pub(super) fn faulty(faults: &[SpecFault]) -> Failure {
    let line =
        |fault: &SpecFault| format!("{}:{} {}: {}", fault.line, fault.column, fault.field, fault.message);
    let lines: Vec<String> = faults.iter().map(line).collect();
    let values = faults.iter().filter_map(|fault| serde_json::to_value(fault).ok()).collect();
    invalid(lines.join("; ")).with_faults(values)
}

fn document(name: &WorkloadName, headers: &HeaderMap, body: &Bytes) -> Result<Workload, Failure> {
    let (format, text) = written(headers, body)?;
    let documents = parse_as(format, "document", text).map_err(|faults| faulty(&faults))?;
    match <[Workload; 1]>::try_from(documents) {
        Ok([workload]) if workload.name == *name => Ok(workload),
        Ok([workload]) => {
            Err(invalid(format!("the document names `{}`, the path names `{name}`", workload.name)))
        }
        Err(many) => Err(invalid(format!("send one document, not {}", many.len()))),
    }
}

pub(super) fn expected(headers: &HeaderMap) -> Result<Expect, Failure> {
    let text =
        |name| headers.get(name).map(|value: &axum::http::HeaderValue| value.to_str().unwrap_or("?").trim());
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(Expect::Any),
        (None, Some("*")) => Ok(Expect::Nothing),
        (Some("*"), None) => Ok(Expect::Some),
        (Some(tag), None) => {
            let revision = tag.trim_matches('"').parse();
            revision
                .map(Expect::Revision)
                .map_err(|_| Failure::bad_request("If-Match: give the ETag that was read"))
        }
        _ => Err(Failure::bad_request("give either If-Match with an entity tag or If-None-Match: *")),
    }
}

/// Withdraws a specification: its tasks keep running, and are left alone.
#[utoipa::path(delete, path = "/api/v1/workloads/{name}", tag = "workloads", params(("name" = String, Path, description = "The workload's name", example = "worker")),
    responses((status = 204, description = "withdrawn"), (status = 404, body = Problem, content_type = "application/problem+json"), (status = 412, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Failure> {
    let (name, expect) = (named(&name)?, expected(&headers)?);
    app.control.write(Write::Remove { name, expect }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stops all acting, or that on one workload, until resumed or for a time. Measuring and deciding go on. A repetition
/// with the same `Idempotency-Key` gets the first answer.
#[utoipa::path(post, path = "/api/v1/pause", tag = "control", request_body = PauseRequest,
    responses((status = 200, body = Status), (status = 422, body = Problem, content_type = "application/problem+json", description = "the key was used for another request"), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 404, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn pause(
    State(app): State<App>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    repeat::once(&app, "/api/v1/pause", &headers, &body, async {
        let request: PauseRequest = read(&body)?;
        let workload = request.workload.as_deref().map(named).transpose()?;
        let for_ms = request.for_.as_deref().map(str::parse::<Millis>).transpose();
        let for_ms = for_ms.map_err(|error| Failure::bad_request(format!("for: {error}")))?.map(|ms| ms.0);
        let reason = in_words(&request.reason);
        app.control.write(Write::Pause { workload, reason, for_ms }).await?;
        super::probes::status_of(&app).await
    })
    .await
}

/// Acts again.
#[utoipa::path(post, path = "/api/v1/resume", tag = "control", request_body = ResumeRequest,
    responses((status = 200, body = Status), (status = 422, body = Problem, content_type = "application/problem+json", description = "the key was used for another request"), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 404, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn resume(
    State(app): State<App>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    repeat::once(&app, "/api/v1/resume", &headers, &body, async {
        let request: ResumeRequest = read(&body)?;
        let workload = request.workload.as_deref().map(named).transpose()?;
        app.control.write(Write::Resume { workload }).await?;
        super::probes::status_of(&app).await
    })
    .await
}

/// An operator's words, as they are kept and shown: of bounded length, and nothing that moves a cursor.
pub(super) fn in_words(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_control()).take(500).collect()
}

pub(super) fn read<T: Default + for<'a> Deserialize<'a>>(body: &Bytes) -> Result<T, Failure> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(format!("the body is not as expected: {error}")))
}
