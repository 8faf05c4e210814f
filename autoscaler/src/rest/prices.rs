//! The price table: read, applied, withdrawn.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::spec::{parse_prices_as, prices_document};

use super::App;
use super::changes::{ApplyQuery, expected, faulty, written};
use super::problem::Failure;
use super::workloads::entity_tag;
use crate::api::{API_VERSION, Prices, PricesApplied, Problem};
use crate::control::WriteError;

/// The price table in force, with its revision as the entity tag when there is one.
#[utoipa::path(get, path = "/api/v1/prices", tag = "prices",
    responses((status = 200, body = Prices), (status = 304, description = "as it was")))]
pub(super) async fn prices(State(app): State<App>, headers: HeaderMap) -> Result<Response, Failure> {
    let row = app.stored(|reader| reader.prices()).await?;
    let tag = row.as_ref().map(|row| entity_tag(row.revision));
    let answer = Prices { api_version: API_VERSION.to_owned(), table: row.map(Into::into) };
    let Some(tag) = tag else { return Ok(Json(answer).into_response()) };
    if headers.get(header::IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    Ok(([(header::ETAG, tag)], Json(answer)).into_response())
}

/// Brings a price table into force instead of the one before: one document in YAML, TOML or JSON, by its content type.
/// `If-Match` with the entity tag refuses when somebody else changed it in between; `If-None-Match: *` refuses when there is one.
#[utoipa::path(put, path = "/api/v1/prices", tag = "prices", params(ApplyQuery),
    request_body(description = "The document; also as application/toml", content(
        (Object = "application/yaml"), (Object = "application/json", example = json!({ "apiVersion": "trimtab/v1", "kind": "PriceTable", "metadata": { "name": "default" },
            "spec": { "currency": "EUR", "perCoreHour": 0.0316, "perGibHour": 0.0042 } })))),
    responses((status = 200, body = PricesApplied), (status = 201, body = PricesApplied), (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 412, body = Problem, content_type = "application/problem+json"), (status = 415, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn apply_prices(
    State(app): State<App>,
    query: Result<Query<ApplyQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let (format, text) = written(&headers, &body)?;
    let table = parse_prices_as(format, "document", text).map_err(|faults| faulty(&faults))?;
    let expect = expected(&headers)?;
    let before = app.stored(|reader| reader.prices()).await?;
    let mut applied = PricesApplied {
        api_version: API_VERSION.to_owned(),
        dry_run: query.dry_run,
        created: before.is_none(),
        unchanged: before.as_ref().is_some_and(|row| row.table == table),
        revision: None,
        before: before.as_ref().map(|row| prices_document(&row.table)),
        after: prices_document(&table),
    };
    if query.dry_run {
        let found = before.as_ref().map_or(0, |row| row.revision);
        if !expect.fits(found) {
            return Err(WriteError::OtherPrices { found }.into());
        }
        applied.revision = before.filter(|_| applied.unchanged).map(|row| row.revision);
        return Ok(Json(applied).into_response());
    }
    let written = app.control.set_prices(Some(table), expect).await?;
    applied.created = written.created;
    applied.unchanged = written.unchanged;
    applied.revision = Some(written.revision);
    let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [(header::ETAG, entity_tag(written.revision))], Json(applied)).into_response())
}

/// Withdraws the price table: nothing is said of money any more.
#[utoipa::path(delete, path = "/api/v1/prices", tag = "prices",
    responses((status = 204, description = "withdrawn"), (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"), (status = 412, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn remove_prices(State(app): State<App>, headers: HeaderMap) -> Result<StatusCode, Failure> {
    app.control.set_prices(None, expected(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
