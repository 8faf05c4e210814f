//! Where agents connect: one bidirectional stream each.
//!
//! Problem: a thousand agents send once a second, reconnect at once, some are slow, one may be broken or hostile.
//! Method: the accept queue is deep ([`BACKLOG`]) and accepting does nothing else. All streams live on one thread, so
//! that a message wakes no other one, and a thread with nothing to do waits [`GATHER`] before it asks the kernel again:
//! then it takes many agents' messages in one turn (docs/decisions/0016). Each stream has its own task that decodes and
//! waits for the control loop, so that a full loop slows agents by their credit and never by a growing queue; what waits
//! for an agent is bounded, and an agent that does not read is disconnected. HTTP/2 pings find a dead peer within ten
//! seconds of its last byte. On `https://` listeners a stream speaks for the node that its certificate names, and for no
//! other ([`identity`], [`handshake`]). Everything that arrives passes `wire`'s parsers; a violation closes the stream with its
//! reason.

mod handshake;
mod identity;
mod session;
mod sockets;

pub use sockets::{Bound, ListenError, bind};

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::ServerConfig;
use tokio::sync::{oneshot, watch};
use tonic::transport::Server;
use tonic::transport::server::Router;
use wire::pb::identity_server::IdentityServer;
use wire::pb::session_server::SessionServer;

use crate::config::LimitSettings;
use crate::control;
use crate::metrics::Metrics;
use crate::tls::{Enrolment, Tls};
use identity::Enroller;
use session::Sessions;

/// Connections that may wait to be accepted: all agents of a large fleet at once.
pub const BACKLOG: i32 = 4096;

/// A silent peer is asked after this long, and given up after as long again: ten seconds after its last byte.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Longest that a message waits for others to be taken with. A hundredth of the distance of rounds; at 1,000 messages a
/// second it makes one turn of ten (measured: 0.46 instead of 0.74 µs per task sample for the transport alone).
pub const GATHER: Duration = Duration::from_millis(10);

/// Streams that do not end by themselves are cut this long after shutdown.
const PATIENCE: Duration = Duration::from_secs(2);

/// The component that serves agents.
#[derive(Debug)]
pub struct Listen {
    bound: Vec<Bound>,
    sessions: Sessions,
    control: control::Handle,
    metrics: Metrics,
    tls: Option<(Arc<ServerConfig>, Enrolment)>,
}

impl Listen {
    /// Serves agents on listeners that are bound already.
    #[must_use]
    pub fn new(
        bound: Vec<Bound>,
        control: control::Handle,
        limits: &LimitSettings,
        metrics: Metrics,
        tls: Option<&Tls>,
    ) -> Self {
        let sessions = Sessions::new(control.clone(), limits.agent_queue, metrics.clone());
        let tls = tls.map(|tls| (tls.config(), tls.enrolment()));
        Self { bound, sessions, control, metrics, tls }
    }

    /// Serves until shutdown, on a thread of its own.
    ///
    /// # Errors
    /// When the thread cannot be started or a listener fails.
    pub async fn run(self, shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
        let (say, ended) = oneshot::channel();
        let thread = move || {
            // Nobody waits any more: the service is over.
            let _ = say.send(self.serve_here(shutdown));
        };
        std::thread::Builder::new()
            .name("agents".to_owned())
            .spawn(thread)
            .context("cannot start the agents' thread")?;
        ended.await.context("the agents' thread is gone")?
    }

    fn serve_here(self, mut shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(|| std::thread::sleep(GATHER))
            .build()
            .context("cannot start the agents' runtime")?;
        runtime.block_on(async {
            let serving = self.serve(shutdown.clone());
            let cut = async {
                // An error means that the sender is gone, which is a shutdown, too.
                let _ = shutdown.wait_for(|stop| *stop).await;
                tokio::time::sleep(PATIENCE).await;
            };
            tokio::select! {
                served = serving => served,
                () = cut => Ok(()),
            }
        })
    }

    async fn serve(self, shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut serving = tokio::task::JoinSet::new();
        for listener in self.bound {
            let sessions = self.sessions.clone().until(shutdown.clone());
            let mut stop = shutdown.clone();
            let stopped = async move {
                // An error means that the sender is gone, which is a shutdown, too.
                let _ = stop.wait_for(|stop| *stop).await;
            };
            match listener {
                Bound::Tcp(listener) => {
                    let incoming = sockets::tcp(tokio::net::TcpListener::from_std(listener)?);
                    serving.spawn(router(sessions).serve_with_incoming_shutdown(incoming, stopped));
                }
                Bound::Tls(listener) => {
                    let (config, enrolment) =
                        self.tls.clone().context("a listener with TLS has no certificate")?;
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    let incoming = handshake::connections(listener, config, self.metrics.clone());
                    let enroller = Enroller::new(enrolment, self.control.clone(), self.metrics.clone());
                    let service = IdentityServer::new(enroller)
                        .max_decoding_message_size(wire::IDENTITY_LIMIT)
                        .max_encoding_message_size(wire::IDENTITY_LIMIT);
                    let router = router(sessions.with_certificates()).add_service(service);
                    serving.spawn(router.serve_with_incoming_shutdown(incoming, stopped));
                }
                Bound::Unix(listener, _) => {
                    let incoming = sockets::unix(tokio::net::UnixListener::from_std(listener)?);
                    serving.spawn(router(sessions).serve_with_incoming_shutdown(incoming, stopped));
                }
            }
        }
        while let Some(ended) = serving.join_next().await {
            ended??;
        }
        Ok(())
    }
}

fn router(sessions: Sessions) -> Router {
    let service = SessionServer::new(sessions)
        .max_decoding_message_size(wire::MESSAGE_LIMIT)
        .max_encoding_message_size(wire::MESSAGE_LIMIT);
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        // An agent opens one stream; a second one is a reconnect that overlaps.
        .max_concurrent_streams(4)
        .add_service(service)
}
