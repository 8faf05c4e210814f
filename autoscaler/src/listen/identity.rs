//! Gives certificates: the first one for a join token, the next one for the one before.

use std::time::Duration;

use model::id::NodeId;
use tonic::{Request, Response, Status};
use wire::pb;
use wire::token::SECRET;

use crate::clock;
use crate::control::{self, TokenRefused};
use crate::metrics::{Metrics, Reason};
use crate::tls::authority::RequestError;
use crate::tls::peer::Peer;
use crate::tls::{Enrolment, sha256};

/// Longest wait for the control loop, which makes it durable that a token was used.
const PATIENCE: Duration = Duration::from_secs(10);

/// A refusal waits this long before it is told: a peer that asks again and again takes as little of the agents' thread as one
/// that connects again and again.
const SLOWLY: Duration = Duration::from_millis(500);

/// Serves the `Identity` service.
#[derive(Debug, Clone)]
pub(super) struct Enroller {
    enrolment: Enrolment,
    control: control::Handle,
    metrics: Metrics,
}

/// Why somebody gets no certificate: a bounded code, a status, and words for the other end.
struct Refused {
    code: &'static str,
    status: Status,
}

fn refused(code: &'static str, status: fn(String) -> Status, why: impl Into<String>) -> Refused {
    Refused { code, status: status(why.into()) }
}

impl From<TokenRefused> for Refused {
    fn from(why: TokenRefused) -> Self {
        let text = why.to_string();
        match why {
            TokenRefused::Unknown => refused("token_unknown", Status::permission_denied, text),
            TokenRefused::Used => refused("token_used", Status::permission_denied, text),
            TokenRefused::Expired => refused("token_expired", Status::permission_denied, text),
            TokenRefused::OtherNode { .. } => {
                refused("token_of_another_node", Status::permission_denied, text)
            }
            TokenRefused::NotDurable(_) => refused("not_durable", Status::unavailable, text),
        }
    }
}

impl Enroller {
    pub(super) fn new(enrolment: Enrolment, control: control::Handle, metrics: Metrics) -> Self {
        Self { enrolment, control, metrics }
    }

    async fn joined(&self, request: pb::JoinRequest) -> Result<(NodeId, pb::Certificate), Refused> {
        wire::check_version(request.version.as_ref())
            .map_err(|error| refused("version", Status::failed_precondition, error.to_string()))?;
        let node: NodeId = request
            .node
            .parse()
            .map_err(|error| refused("invalid", Status::invalid_argument, format!("node name: {error}")))?;
        if request.secret.len() != SECRET {
            let why = format!("the token's secret has {} bytes, not {SECRET}", request.secret.len());
            return Err(refused("invalid", Status::invalid_argument, why));
        }
        // Signed before the token is spent: a request that does not hold costs no token.
        let certificate = self.sign(&node, &request.request)?;
        let spent = self.control.spend_token(sha256(&request.secret), node.clone());
        match tokio::time::timeout(PATIENCE, spent).await {
            Ok(spent) => spent?,
            Err(_) => {
                let why =
                    "the service is busy: try again in a minute, with a new token if this one counts as used";
                return Err(refused("busy", Status::unavailable, why));
            }
        }
        Ok((node, certificate))
    }

    fn renewed(&self, peer: Option<&Peer>, request: &[u8]) -> Result<(NodeId, pb::Certificate), Refused> {
        let node = node_of(peer).map_err(|status| Refused { code: "no_certificate", status })?;
        let certificate = self.sign(&node, request)?;
        Ok((node, certificate))
    }

    fn sign(&self, node: &NodeId, request: &[u8]) -> Result<pb::Certificate, Refused> {
        let Some(authority) = &self.enrolment.authority else {
            let why = "this service gives no certificates: its owner does (tls.agents_ca); put the next one where the agent keeps its own";
            return Err(refused("no_authority", Status::failed_precondition, why));
        };
        let signed = authority.for_node(node, request, clock::wall_ms(), self.enrolment.lifetime_ms);
        let certificate = signed.map_err(|error| {
            let why = error.to_string();
            match error {
                RequestError::Signing(_) => refused("signing", Status::internal, why),
                RequestError::Invalid(_) | RequestError::Key => {
                    refused("invalid", Status::invalid_argument, why)
                }
            }
        })?;
        Ok(pb::Certificate { certificate: certificate.to_vec(), authority: authority.certificate().to_vec() })
    }

    fn answer(
        &self,
        how: &'static str,
        outcome: Result<(NodeId, pb::Certificate), Refused>,
    ) -> Result<Response<pb::Certificate>, Status> {
        match outcome {
            Ok((node, certificate)) => {
                tracing::info!(%node, how, "a certificate was given");
                self.metrics.certificates.get_or_create(&Reason { reason: how }).inc();
                Ok(Response::new(certificate))
            }
            Err(Refused { code, status }) => {
                tracing::warn!(how, reason = code, why = status.message(), "a certificate was refused");
                self.metrics.certificates_refused.get_or_create(&Reason { reason: code }).inc();
                Err(status)
            }
        }
    }
}

/// The node at the other end, or what to tell it.
pub(super) fn node_of(peer: Option<&Peer>) -> Result<NodeId, Status> {
    match peer {
        Some(Peer::Node(node)) => Ok(node.clone()),
        Some(Peer::Nameless(error)) => Err(Status::unauthenticated(error.to_string())),
        Some(Peer::Stranger) | None => Err(Status::unauthenticated(
            "no client certificate was shown: this node must join first (trimtab node join-token NAME, then trimtab-agent join)",
        )),
    }
}

#[tonic::async_trait]
impl pb::identity_server::Identity for Enroller {
    async fn join(&self, request: Request<pb::JoinRequest>) -> Result<Response<pb::Certificate>, Status> {
        let outcome = self.joined(request.into_inner()).await;
        let answer = self.answer("join", outcome);
        if answer.is_err() {
            tokio::time::sleep(SLOWLY).await;
        }
        answer
    }

    async fn renew(&self, request: Request<pb::RenewRequest>) -> Result<Response<pb::Certificate>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let outcome = self.renewed(peer.as_ref(), &request.into_inner().request);
        self.answer("renew", outcome)
    }
}
