//! The OpenAPI 3.1 description of the interface; `autoscaler/openapi.json` is its committed copy.

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::OpenApi;

use super::{changes, drain, fleet, join, live, members, past, probes, workloads};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Trimtab",
        description = "Nodes, workloads, decisions and their reasons. Faults are application/problem+json (RFC 9457).",
        version = "v1",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        probes::status,
        fleet::nodes,
        fleet::node,
        join::token,
        drain::begin,
        drain::end,
        fleet::tasks,
        fleet::containers,
        fleet::members,
        workloads::list,
        workloads::one,
        workloads::explain,
        changes::apply,
        changes::remove,
        changes::pause,
        changes::resume,
        members::approve,
        members::cancel,
        past::decisions,
        past::idle,
        past::history,
        past::usage,
        live::stream,
        probes::livez,
        probes::readyz,
        probes::metrics,
    ),
    components(schemas(
        crate::api::EndedTasks,
        crate::api::Decision,
        crate::api::Workload,
        crate::history::Series
    ))
)]
struct Api;

/// The description as JSON text.
#[must_use]
pub fn document() -> String {
    let mut text = Api::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

pub(super) async fn serve() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document())
}

#[cfg(test)]
mod tests {
    use super::document;

    /// `UPDATE_OPENAPI=1 cargo test -p autoscaler openapi` writes the file anew.
    #[test]
    fn the_committed_copy_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == document(), "openapi.json is out of date: run the test with UPDATE_OPENAPI=1");
        assert!(committed.contains("\"openapi\": \"3.1"));
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document: serde_json::Value = serde_json::from_str(&document()).unwrap();
        let text = document.to_string();
        for part in text.split("\"#/").skip(1) {
            let path = format!("/{}", part.split('"').next().unwrap());
            assert!(document.pointer(&path).is_some(), "{path} is not there");
        }
    }
}
