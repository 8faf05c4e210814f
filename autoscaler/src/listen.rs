//! Where agents connect: one bidirectional stream each.
//!
//! Problem: a thousand agents reconnect at once, some are slow, one may be broken or hostile. Method: the accept queue is
//! deep ([`BACKLOG`]) and accepting does nothing else; each stream has its own task that decodes and waits for the
//! control loop, so that a full loop slows agents by their credit and never by a growing queue; what waits for an agent
//! is bounded, and an agent that does not read is disconnected. HTTP/2 pings find a dead peer within ten seconds of its
//! last byte. Everything that arrives passes `wire`'s parsers; a violation closes the stream with its reason.

mod session;
mod sockets;

pub use sockets::{Bound, ListenError, bind};

use std::time::Duration;

use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::Router;
use wire::pb::session_server::SessionServer;

use crate::config::LimitSettings;
use crate::control;
use crate::metrics::Metrics;
use session::Sessions;

/// Connections that may wait to be accepted: all agents of a large fleet at once.
pub const BACKLOG: i32 = 4096;

/// A silent peer is asked after this long, and given up after as long again: ten seconds after its last byte.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// The component that serves agents.
#[derive(Debug)]
pub struct Listen {
    bound: Vec<Bound>,
    sessions: Sessions,
}

impl Listen {
    /// Serves agents on listeners that are bound already.
    #[must_use]
    pub fn new(
        bound: Vec<Bound>,
        control: control::Handle,
        limits: &LimitSettings,
        metrics: Metrics,
    ) -> Self {
        Self { bound, sessions: Sessions::new(control, limits.agent_queue, metrics) }
    }

    /// Serves until shutdown.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn run(self, shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut serving = tokio::task::JoinSet::new();
        for listener in self.bound {
            let router = router(self.sessions.clone().until(shutdown.clone()));
            let mut stop = shutdown.clone();
            let stopped = async move {
                // An error means that the sender is gone, which is a shutdown, too.
                let _ = stop.wait_for(|stop| *stop).await;
            };
            match listener {
                Bound::Tcp(listener) => {
                    serving.spawn(router.serve_with_incoming_shutdown(sockets::tcp(listener), stopped));
                }
                Bound::Unix(listener, _) => {
                    serving.spawn(router.serve_with_incoming_shutdown(sockets::unix(listener), stopped));
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
