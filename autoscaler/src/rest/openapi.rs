//! The OpenAPI 3.1 description of the interface; `autoscaler/openapi.json` is its committed copy.

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{self, RefOr};
use utoipa::{Modify, OpenApi};

use super::{
    changes, doctor, drain, fleet, headroom, join, live, members, neighbours, past, prices, probes,
    revisions, session, what_if, workloads,
};

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
        session::session,
        fleet::nodes,
        fleet::node,
        fleet::delays,
        join::token,
        drain::begin,
        drain::preview,
        drain::end,
        headroom::headroom,
        doctor::doctor,
        fleet::tasks,
        fleet::containers,
        fleet::members,
        workloads::list,
        workloads::one,
        workloads::explain,
        neighbours::neighbours,
        revisions::list,
        revisions::rollback,
        changes::apply,
        changes::remove,
        changes::pause,
        changes::resume,
        members::approve,
        members::reject,
        members::cancel,
        past::decisions,
        past::idle,
        past::history,
        past::usage,
        past::course,
        prices::prices,
        prices::apply_prices,
        prices::remove_prices,
        what_if::ask,
        live::stream,
        probes::livez,
        probes::readyz,
        probes::metrics,
    ),
    modifiers(&Anywhere),
    components(schemas(
        crate::api::EndedTasks,
        crate::api::Decision,
        crate::api::Workload,
        crate::history::Series
    ))
)]
struct Api;

/// What may be answered at any path, before its own part is asked; and how a page shows its session.
struct Anywhere;

impl Modify for Anywhere {
    fn modify(&self, api: &mut openapi::OpenApi) {
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        api.components.get_or_insert_default().add_security_scheme("session", bearer);
        // Who is no browser needs none.
        api.security = Some(vec![
            SecurityRequirement::default(),
            SecurityRequirement::new::<_, _, String>("session", []),
        ]);
        for (path, item) in &mut api.paths.paths {
            let asks = path.starts_with("/api/");
            for operation in
                [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
            {
                let parted = operation.parameters.is_some();
                let mut may = |status: &str, what: &str| {
                    operation.responses.responses.entry(status.to_owned()).or_insert_with(|| problem(what));
                };
                may("401", "a page without a session, or a wrong one");
                may("403", "a page or a name of elsewhere");
                if parted {
                    may("400", "a part of the address cannot be read");
                }
                if asks {
                    may("500", "a fault of the service");
                    may("503", "the service is stopping");
                }
                if operation.request_body.is_some() {
                    operation
                        .responses
                        .responses
                        .entry("413".to_owned())
                        .or_insert_with(|| problem("the body is too large"));
                }
            }
        }
    }
}

fn problem(what: &str) -> RefOr<openapi::Response> {
    let content =
        openapi::ContentBuilder::new().schema(Some(openapi::Ref::from_schema_name("Problem"))).build();
    openapi::ResponseBuilder::new()
        .description(what)
        .content("application/problem+json", content)
        .build()
        .into()
}

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

/// Of specifications, for editors.
pub(super) async fn schema() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/schema+json")], model::spec::SCHEMA)
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
