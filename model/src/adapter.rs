//! What an agent reads from a balancer, an application server or a cluster on its own host.

use serde::{Deserialize, Serialize};

use crate::cassandra::CassandraReport;
use crate::hdfs::HdfsReport;
use crate::id::TaskName;
use crate::yarn::YarnReport;

/// What an adapter saw at one instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "adapter", rename_all = "snake_case")]
pub enum AdapterReport {
    /// A HAProxy backend.
    Balancer(BalancerReport),
    /// A Puma cluster.
    Puma(PumaReport),
    /// A YARN cluster.
    Yarn(YarnReport),
    /// An HDFS file system.
    Hdfs(HdfsReport),
    /// A Cassandra node.
    Cassandra(Box<CassandraReport>),
    /// An adapter that did not answer; a fact of its own, never a report full of zeros.
    Unreachable {
        /// Which one: a socket or an address.
        endpoint: String,
        /// What happened.
        why: String,
    },
}

/// One backend of a balancer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BalancerReport {
    /// The backend's name.
    pub backend: String,
    /// Requests waiting in the backend's queue (HAProxy `qcur`).
    pub queued: u64,
    /// Requests since the balancer started (`stot`); falls when it restarts.
    pub requests_total: u64,
    /// Responses with status 5xx since the balancer started (`hrsp_5xx`).
    pub errors_5xx_total: u64,
    /// Failed connections and responses, retries excluded (`econ` + `eresp`).
    pub errors_connection_total: u64,
    /// Queue delay of the requests that ended since the last report; empty layout when there were none.
    pub queue_delay: Option<Quantiles>,
    /// Time to response of the same requests.
    pub response_time: Option<Quantiles>,
    /// Its servers.
    pub servers: Vec<ServerReport>,
    /// Process start, ms since the Unix epoch; a change means that it was restarted.
    pub started_ms: u64,
}

/// One server of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerReport {
    /// Its name; the task's name when Trimtab added it.
    pub server: String,
    /// Address and port.
    pub address: String,
    /// Up, down, draining, in maintenance.
    pub state: ServerState,
    /// Requests being served (`scur`).
    pub active: u64,
    /// Requests queued for this server (`qcur`).
    pub queued: u64,
    /// Most requests served at once (`maxconn`), 0 = no limit.
    pub limit: u64,
    /// Last health check, as the balancer words it (`L7OK`, `L7TOUT`, …).
    pub check: String,
}

/// A server's state as its balancer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// Takes requests, checks pass.
    Up,
    /// Takes requests still, but checks have begun to fail (`UP 1/3`).
    Failing,
    /// Checks fail: no requests.
    Down,
    /// Finishes what it has, takes no new requests.
    Draining,
    /// Administratively out.
    Maintenance,
}

/// A distribution reduced to what a decision needs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Requests in it; > 0.
    pub count: u64,
    /// Median, ms.
    pub p50_ms: f64,
    /// 95th percentile, ms.
    pub p95_ms: f64,
    /// 99th percentile, ms.
    pub p99_ms: f64,
    /// Largest, ms.
    pub max_ms: f64,
}

/// One Puma cluster (control server, `GET /stats`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PumaReport {
    /// The task.
    pub task: TaskName,
    /// Workers that booted.
    pub booted_workers: u32,
    /// Workers wanted.
    pub workers: u32,
    /// Threads over all workers.
    pub max_threads: u32,
    /// Threads that are serving.
    pub busy_threads: u32,
    /// Connections waiting in the kernel's accept queue of its listener; Puma's own backlog reads 0 at any load.
    pub accept_queue: Option<u32>,
}
