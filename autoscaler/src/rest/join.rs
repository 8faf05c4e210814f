//! Join tokens.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::id::NodeId;
use ring::rand::{SecureRandom, SystemRandom};

use super::App;
use super::problem::Failure;
use crate::api::{API_VERSION, JoinToken, Problem};
use crate::tls::sha256;
use wire::token::SECRET;

#[derive(Debug, thiserror::Error)]
#[error("the system gives no randomness")]
struct NoRandomness;

/// Makes a token with which the agent of this node gets its first certificate: good once, for 15 minutes, for this name. It
/// replaces an unused one for the same name. It is not repeated for an `Idempotency-Key`: an answer with a secret is not kept.
#[utoipa::path(post, path = "/api/v1/nodes/{id}/join-token", tag = "fleet", params(("id" = String, Path, description = "The node's name")),
    responses((status = 200, body = JoinToken), (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn token(State(app): State<App>, Path(id): Path<String>) -> Result<Response, Failure> {
    let node: NodeId = id.parse().map_err(|error: model::id::NameError| {
        let detail = format!("`{id}` cannot be a node's name: {error}");
        Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-name", detail)
    })?;
    let joining = app.joining.as_ref().ok_or_else(|| {
        let detail = "no listener has TLS, so there is nothing to join: add https://ADDRESS to `listen` of the autoscaler";
        Failure::new(StatusCode::CONFLICT, "no-tls", detail)
    })?;
    let authority = joining.enrolment.authority.as_ref().ok_or_else(|| {
        let detail = "certificates of nodes come from the owner (tls.agents_ca), not from this service: put the node's key, certificate and authority into identity.pem of its agent's state directory";
        Failure::new(StatusCode::CONFLICT, "no-authority", detail)
    })?;
    let mut secret = [0; SECRET];
    SystemRandom::new().fill(&mut secret).map_err(|_| Failure::internal(&NoRandomness))?;
    let made = app.control.make_token(sha256(&secret), node.clone()).await;
    let made =
        made.map_err(|error| Failure::new(StatusCode::SERVICE_UNAVAILABLE, "frozen", error.to_string()))?;
    tracing::info!(%node, "a join token was made");
    let (name, port) = (&joining.enrolment.name, joining.port);
    let authority = authority.fingerprint();
    let token = JoinToken {
        api_version: API_VERSION.to_owned(),
        node: node.to_string(),
        token: wire::token::JoinToken { authority, secret }.to_string(),
        expires_ms: made.expires.0,
        autoscaler: if name.contains(':') {
            format!("https://[{name}]:{port}")
        } else {
            format!("https://{name}:{port}")
        },
    };
    // No cache may keep it.
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(token)).into_response())
}
