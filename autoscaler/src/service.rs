//! The service as a whole: opens the store, binds, starts its components, and stops them in order.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::{self, ControllerClock};
use crate::config::{Address, Settings};
use crate::control::Control;
use crate::history::History;
use crate::listen::{Bound, Listen, bind};
use crate::metrics::{Metrics, Scraper};
use crate::remote_write::{self, RemoteWrite};
use crate::rest::{Joining, Rest};
use crate::session::Token;
use crate::store::Store;
use crate::tls::Tls;

/// The addresses in force, in the state directory: what tools read when ports are chosen by the kernel.
pub const ENDPOINTS: &str = "endpoints.json";

/// Where the service listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// For agents.
    pub agents: Vec<String>,
    /// The REST interface.
    pub api: Vec<String>,
    /// The service's process.
    pub pid: u32,
}

/// Runs until `shutdown` turns true; then what is open is made durable. `remote_write` says where samples are sent, and may change.
///
/// # Errors
/// When the store cannot be opened, an address cannot be listened on, or a component fails for good.
pub async fn run(
    settings: Settings,
    remote_write: remote_write::Current,
    shutdown: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let store = Store::open(&settings.state).context("cannot open the store")?;
    let clock = ControllerClock::start(clock::wall_ms(), store.last_at(), clock::boot_ns());
    let metrics = Metrics::new();
    let reader = store.reader();
    let (history, history_handle) = History::open(&settings.state, settings.history, clock, metrics.clone())?;
    let (control, handle) =
        Control::new(settings.clone(), clock, store, history_handle.clone(), metrics.clone())?;

    let tls = settings.tls.clone().map(|tls| Tls::open(&settings.state, tls, metrics.clone())).transpose();
    let tls = tls.context("cannot start TLS for agents")?;
    let session = Token::open(&settings.state).context("cannot open the session of the dashboards")?;
    let agents = all(&settings.listen)?;
    let api = all(&settings.api)?;
    let endpoints = announce(&settings.state, &agents, &api)?;

    // Listeners stop first, then the loop that they feed, then history.
    let (stop_inner, inner) = watch::channel(false);
    let mut outer = JoinSet::new();
    let mut core = JoinSet::new();
    let joining =
        tls.as_ref().zip(tls_port(&agents)).map(|(tls, port)| Joining { enrolment: tls.enrolment(), port });
    let listen = Listen::new(agents, handle.clone(), &settings.limits, metrics.clone(), tls.as_ref());
    outer.spawn(listen.run(shutdown.clone()));
    if let Some(tls) = tls {
        outer.spawn(tls.run(shutdown.clone()));
    }
    let scraper = Scraper::new(handle.clone(), reader.clone(), metrics.clone());
    let sending = RemoteWrite::new(remote_write, scraper, metrics.remote_write.clone());
    outer.spawn(sending.run(shutdown.clone()));
    outer.spawn(
        Rest::new(api, handle.clone(), history_handle, reader, metrics, settings.limits, session)
            .with_joining(joining)
            .run(shutdown.clone()),
    );
    core.spawn(control.run(inner.clone()));
    core.spawn(history.run(inner));
    // Without a service manager there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let watchdog = tokio::spawn(watchdog(handle));

    let ended = first_end(&mut outer, &mut core, shutdown).await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    watchdog.abort();
    let patience = std::time::Duration::from_secs(3);
    // Connections that do not end by themselves are cut.
    let _ = tokio::time::timeout(patience, async { while outer.join_next().await.is_some() {} }).await;
    outer.abort_all();
    stop_inner.send_replace(true);
    let mut result = ended;
    while let Some(component) = core.join_next().await {
        result = result.and(component.map_err(anyhow::Error::from).flatten());
    }
    remove(&settings.state, &endpoints);
    result
}

/// Waits for shutdown, or for a component that ends before it: a fault.
async fn first_end(
    outer: &mut JoinSet<anyhow::Result<()>>,
    core: &mut JoinSet<anyhow::Result<()>>,
    mut shutdown: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    tokio::select! {
        _ = shutdown.wait_for(|stop| *stop) => Ok(()),
        Some(component) = outer.join_next() => component?.context("a listener ended"),
        Some(component) = core.join_next() => component?.context("a component ended"),
    }
}

/// Tells the service manager that the control loop turns, as often as it wants to hear it.
async fn watchdog(control: crate::control::Handle) {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let mut tick = tokio::time::interval(period / 3);
    loop {
        tick.tick().await;
        if control.health().await.is_ok() {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}

fn all(addresses: &[Address]) -> anyhow::Result<Vec<Bound>> {
    Ok(addresses.iter().map(bind).collect::<Result<_, _>>()?)
}

/// The port of the first listener with TLS.
fn tls_port(bound: &[Bound]) -> Option<u16> {
    bound.iter().find_map(|one| match one.address() {
        Ok(Address::Tls(address)) => Some(address.port()),
        _ => None,
    })
}

/// Says where it listens: on standard error, and in a file for tools.
fn announce(state: &Path, agents: &[Bound], api: &[Bound]) -> anyhow::Result<Endpoints> {
    let shown = |bound: &[Bound]| -> anyhow::Result<Vec<String>> {
        bound.iter().map(|one| Ok(one.address()?.to_string())).collect()
    };
    let endpoints = Endpoints { agents: shown(agents)?, api: shown(api)?, pid: std::process::id() };
    for address in &endpoints.agents {
        eprintln!("agents: {address}");
    }
    for address in &endpoints.api {
        eprintln!("api: {}{address}", if address.starts_with("unix:") { "" } else { "http://" });
    }
    let path = state.join(ENDPOINTS);
    let fresh = state.join(format!("{ENDPOINTS}.new"));
    std::fs::write(&fresh, serde_json::to_vec_pretty(&endpoints)?)
        .and_then(|()| std::fs::rename(&fresh, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(endpoints)
}

fn remove(state: &Path, endpoints: &Endpoints) {
    // What cannot be removed is replaced at the next start.
    let _ = std::fs::remove_file(state.join(ENDPOINTS));
    for address in endpoints.agents.iter().chain(&endpoints.api) {
        if let Some(path) = address.strip_prefix("unix:") {
            let _ = std::fs::remove_file(path);
        }
    }
}
