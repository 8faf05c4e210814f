//! What is not as it should be, and how to mend it.

use axum::Json;
use axum::extract::State;

use super::App;
use super::probes::status_of;
use super::problem::Failure;
use crate::api::{Doctor, Node, Service};

/// The checks of the service and its agents: what is not as it should be, and how to mend it. `trimtab doctor` shows them
/// below those of its own host.
#[utoipa::path(get, path = "/api/v1/doctor", tag = "fleet", responses((status = 200, body = Doctor)))]
pub(super) async fn doctor(State(app): State<App>) -> Result<Json<Doctor>, Failure> {
    let status = status_of(&app).await?;
    let nodes: Vec<Node> = app.control.nodes().await?.into_iter().map(Node::from).collect();
    let service = Service {
        certificate_expiry_s: app.metrics.certificate_expiry_s(),
        history_failed: app.metrics.history_failed.get(),
        history_dropped: app.metrics.history_dropped.get(),
    };
    Ok(Json(Doctor::of(&status, &service, &nodes)))
}
