//! Reports of adapters.

use model::adapter::{AdapterReport, BalancerReport, PumaReport, Quantiles, ServerReport, ServerState};

use super::{few, fit, name, text, unspecified};
use crate::{WireError, pb};

/// Most servers of one backend.
const SERVER_LIMIT: usize = 1024;

impl TryFrom<pb::AdapterReport> for AdapterReport {
    type Error = WireError;
    fn try_from(m: pb::AdapterReport) -> Result<Self, WireError> {
        use pb::adapter_report::Report;
        Ok(match m.report.ok_or(WireError::Missing("adapter report"))? {
            Report::Balancer(b) => AdapterReport::Balancer(b.try_into()?),
            Report::Puma(p) => AdapterReport::Puma(PumaReport {
                task: name("task", &p.task)?,
                booted_workers: p.booted_workers,
                workers: p.workers,
                max_threads: p.max_threads,
                busy_threads: p.busy_threads,
                accept_queue: p.accept_queue,
            }),
            Report::Yarn(y) => AdapterReport::Yarn(y.try_into()?),
            Report::Hdfs(h) => AdapterReport::Hdfs(h.try_into()?),
            Report::Cassandra(c) => AdapterReport::Cassandra(Box::new(c.try_into()?)),
            Report::Unreachable(u) => AdapterReport::Unreachable {
                endpoint: text("endpoint", u.endpoint)?,
                why: text("why", u.why)?,
            },
        })
    }
}

/// Makes the message of a report that was read at `boot_ns`.
impl From<(u64, AdapterReport)> for pb::AdapterReport {
    fn from((boot_ns, report): (u64, AdapterReport)) -> Self {
        use pb::adapter_report::Report;
        let report = match report {
            AdapterReport::Balancer(b) => Report::Balancer(b.into()),
            AdapterReport::Puma(p) => Report::Puma(pb::PumaReport {
                task: p.task.to_string(),
                booted_workers: p.booted_workers,
                workers: p.workers,
                max_threads: p.max_threads,
                busy_threads: p.busy_threads,
                accept_queue: p.accept_queue,
            }),
            AdapterReport::Yarn(y) => Report::Yarn(y.into()),
            AdapterReport::Hdfs(h) => Report::Hdfs(h.into()),
            AdapterReport::Cassandra(c) => Report::Cassandra((*c).into()),
            AdapterReport::Unreachable { endpoint, why } => {
                Report::Unreachable(pb::Unreachable { endpoint: fit(endpoint), why: fit(why) })
            }
        };
        pb::AdapterReport { boot_ns, report: Some(report) }
    }
}

impl TryFrom<pb::BalancerReport> for BalancerReport {
    type Error = WireError;
    fn try_from(m: pb::BalancerReport) -> Result<Self, WireError> {
        Ok(BalancerReport {
            backend: text("backend", m.backend)?,
            queued: m.queued,
            requests_total: m.requests_total,
            errors_5xx_total: m.errors_5xx_total,
            errors_connection_total: m.errors_connection_total,
            queue_delay: m.queue_delay.map(quantiles).transpose()?,
            response_time: m.response_time.map(quantiles).transpose()?,
            servers: few("servers", m.servers, SERVER_LIMIT)?
                .into_iter()
                .map(ServerReport::try_from)
                .collect::<Result<_, _>>()?,
            started_ms: m.started_ms,
        })
    }
}

impl From<BalancerReport> for pb::BalancerReport {
    fn from(b: BalancerReport) -> Self {
        pb::BalancerReport {
            backend: fit(b.backend),
            queued: b.queued,
            requests_total: b.requests_total,
            errors_5xx_total: b.errors_5xx_total,
            errors_connection_total: b.errors_connection_total,
            queue_delay: b.queue_delay.map(quantiles_to_pb),
            response_time: b.response_time.map(quantiles_to_pb),
            servers: b.servers.into_iter().map(pb::Server::from).collect(),
            started_ms: b.started_ms,
        }
    }
}

fn quantiles(m: pb::Quantiles) -> Result<Quantiles, WireError> {
    let all = [m.p50_ms, m.p95_ms, m.p99_ms, m.max_ms];
    if m.count == 0 || all.iter().any(|q| !q.is_finite() || *q < 0.0) || !all.is_sorted() {
        let why = "needs a count above 0 and finite, ascending quantiles".to_owned();
        return Err(WireError::Invalid { what: "quantiles", why });
    }
    Ok(Quantiles { count: m.count, p50_ms: m.p50_ms, p95_ms: m.p95_ms, p99_ms: m.p99_ms, max_ms: m.max_ms })
}

fn quantiles_to_pb(q: Quantiles) -> pb::Quantiles {
    pb::Quantiles { count: q.count, p50_ms: q.p50_ms, p95_ms: q.p95_ms, p99_ms: q.p99_ms, max_ms: q.max_ms }
}

impl TryFrom<pb::Server> for ServerReport {
    type Error = WireError;
    fn try_from(m: pb::Server) -> Result<Self, WireError> {
        let state = match m.state() {
            pb::ServerState::Up => ServerState::Up,
            pb::ServerState::Failing => ServerState::Failing,
            pb::ServerState::Down => ServerState::Down,
            pb::ServerState::Draining => ServerState::Draining,
            pb::ServerState::Maintenance => ServerState::Maintenance,
            pb::ServerState::Unspecified => return Err(unspecified("server state")),
        };
        Ok(ServerReport {
            server: text("server", m.server)?,
            address: text("address", m.address)?,
            state,
            active: m.active,
            queued: m.queued,
            limit: m.limit,
            check: text("check", m.check)?,
        })
    }
}

impl From<ServerReport> for pb::Server {
    fn from(s: ServerReport) -> Self {
        let state = match s.state {
            ServerState::Up => pb::ServerState::Up,
            ServerState::Failing => pb::ServerState::Failing,
            ServerState::Down => pb::ServerState::Down,
            ServerState::Draining => pb::ServerState::Draining,
            ServerState::Maintenance => pb::ServerState::Maintenance,
        };
        pb::Server {
            server: fit(s.server),
            address: fit(s.address),
            state: state.into(),
            active: s.active,
            queued: s.queued,
            limit: s.limit,
            check: fit(s.check),
        }
    }
}
