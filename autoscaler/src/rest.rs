//! The REST interface: reading for everybody, a few changes for operators, live events; and the dashboards.
//!
//! It asks the control loop and the store, and decides nothing. It listens on loopback or a unix socket and has no
//! log-in yet, so it refuses what a page of another address would send, and lets a page change something only with
//! this service's session ([`guard`]).

mod changes;
mod doctor;
mod drain;
mod fleet;
mod guard;
mod headroom;
mod join;
mod live;
mod members;
mod neighbours;
mod openapi;
mod packed;
mod past;
mod prices;
mod probes;
mod problem;
mod repeat;
mod revisions;
mod session;
mod web;
mod what_if;
mod workloads;

pub use openapi::document;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::sync::{Semaphore, watch};

use crate::config::LimitSettings;
use crate::control;
use crate::history;
use crate::listen::Bound;
use crate::metrics::Metrics;
use crate::session::Token;
use crate::store::{Reader, StoreError};
use crate::tls::Enrolment;
use problem::Failure;

/// What every handler may use.
#[derive(Debug, Clone)]
struct App {
    control: control::Handle,
    history: history::Handle,
    reader: Reader,
    metrics: Metrics,
    streams: Arc<Semaphore>,
    /// One play at a time: it takes a whole core for as long as it lasts.
    plays: Arc<Semaphore>,
    shutdown: watch::Receiver<bool>,
    joining: Option<Joining>,
    session: Token,
}

impl App {
    /// Asks the store on a thread that may wait for the disk.
    async fn stored<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Failure> {
        let reader = self.reader.clone();
        let answer = tokio::task::spawn_blocking(move || question(&reader)).await;
        Ok(answer.map_err(|error| Failure::internal(&error))??)
    }
}

/// The component that serves the REST interface.
#[derive(Debug)]
pub struct Rest {
    bound: Vec<Bound>,
    control: control::Handle,
    history: history::Handle,
    reader: Reader,
    metrics: Metrics,
    limits: LimitSettings,
    joining: Option<Joining>,
    session: Token,
}

/// Whom join tokens lead to: the first listener with TLS.
#[derive(Debug, Clone)]
pub struct Joining {
    /// Who signs; how agents write this service.
    pub enrolment: Enrolment,
    /// The listener's port.
    pub port: u16,
}

impl Rest {
    /// Serves on listeners that are bound already.
    #[must_use]
    pub fn new(
        bound: Vec<Bound>,
        control: control::Handle,
        history: history::Handle,
        reader: Reader,
        metrics: Metrics,
        limits: LimitSettings,
        session: Token,
    ) -> Self {
        Self { bound, control, history, reader, metrics, limits, joining: None, session }
    }

    /// Nodes may join.
    #[must_use]
    pub fn with_joining(mut self, joining: Option<Joining>) -> Self {
        self.joining = joining;
        self
    }

    /// Serves until shutdown.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn run(self, shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
        let app = App {
            control: self.control,
            history: self.history,
            reader: self.reader,
            metrics: self.metrics,
            streams: Arc::new(Semaphore::new(self.limits.streams)),
            plays: Arc::new(Semaphore::new(1)),
            shutdown: shutdown.clone(),
            joining: self.joining,
            session: self.session,
        };
        let router = router(app, self.limits.api_body);
        let mut serving = tokio::task::JoinSet::new();
        for listener in self.bound {
            let mut stop = shutdown.clone();
            let stopped = async move {
                // An error means that the sender is gone, which is a shutdown, too.
                let _ = stop.wait_for(|stop| *stop).await;
            };
            let router = router.clone();
            match listener {
                Bound::Tcp(listener) => {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    serving.spawn(async move {
                        axum::serve(listener, router).with_graceful_shutdown(stopped).await
                    });
                }
                Bound::Tls(_) => anyhow::bail!("the REST interface has no TLS: the configuration refuses it"),
                Bound::Unix(listener, _) => {
                    let listener = tokio::net::UnixListener::from_std(listener)?;
                    serving.spawn(async move {
                        axum::serve(listener, router).with_graceful_shutdown(stopped).await
                    });
                }
            }
        }
        while let Some(ended) = serving.join_next().await {
            ended??;
        }
        Ok(())
    }
}

fn router(app: App, body: usize) -> Router {
    let v1 = Router::new()
        .route("/status", get(probes::status))
        .route("/session", get(session::session))
        .route("/nodes", get(fleet::nodes))
        .route("/nodes/{id}", get(fleet::node))
        .route("/nodes/{id}/delays", get(fleet::delays))
        .route("/nodes/{id}/join-token", post(join::token))
        .route("/nodes/{id}/drain", get(drain::preview).post(drain::begin).delete(drain::end))
        .route("/doctor", get(doctor::doctor))
        .route("/headroom", get(headroom::headroom))
        .route("/tasks", get(fleet::tasks))
        .route("/containers", get(fleet::containers))
        .route("/members", get(fleet::members))
        .route("/workloads", get(workloads::list))
        .route("/workloads/{name}", get(workloads::one).put(changes::apply).delete(changes::remove))
        .route("/workloads/{name}/explain", get(workloads::explain))
        .route("/workloads/{name}/course", get(past::course))
        .route("/workloads/{name}/neighbours", get(neighbours::neighbours))
        .route("/workloads/{name}/revisions", get(revisions::list))
        .route("/workloads/{name}/rollback", post(revisions::rollback))
        .route("/workloads/{name}/approve", post(members::approve))
        .route("/workloads/{name}/reject", post(members::reject))
        .route("/workloads/{name}/cancel", post(members::cancel))
        .route("/decisions", get(past::decisions))
        .route("/idle", get(past::idle))
        .route("/history", get(past::history))
        .route("/usage", get(past::usage))
        .route("/prices", get(prices::prices).put(prices::apply_prices).delete(prices::remove_prices))
        .route("/what-if", post(what_if::ask))
        .route("/pause", post(changes::pause))
        .route("/resume", post(changes::resume))
        .route("/stream", get(live::stream))
        .route("/openapi.json", get(openapi::serve))
        .route("/schema.json", get(openapi::schema));
    Router::new()
        .nest("/api/v1", v1)
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/metrics", get(probes::metrics))
        .merge(web::routes())
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(axum::middleware::from_fn(packed::pack))
        .layer(axum::middleware::from_fn_with_state(app.clone(), guard::guard))
        .layer(DefaultBodyLimit::max(body))
        .with_state(app)
}
