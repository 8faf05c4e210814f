//! Workloads: what is asked, and how it is.

use autoscaler_core::view::{self, ReplicaView, SizeView, WorkloadView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::word;

use super::change::Cluster;
use super::decision::{Decision, ReasonText};
use crate::store::PauseRow;

/// All workloads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workloads {
    /// `trimtab/v1`.
    pub api_version: String,
    /// By name.
    pub items: Vec<Workload>,
}

/// How a workload is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// How far Trimtab may go: `observe`, `recommend`, `auto`.
    pub mode: String,
    /// By which policy.
    pub policy: String,
    /// Replicas at least.
    pub min: u32,
    /// Replicas at most.
    pub max: u32,
    /// Replicas wanted now.
    pub wanted: u32,
    /// Replicas that take requests.
    pub up: u32,
    /// Replicas on their way up.
    pub starting: u32,
    /// Replicas on their way out.
    pub leaving: u32,
    /// Each replica.
    pub replicas: Vec<Replica>,
    /// Paused by an operator: why.
    pub paused: Option<String>,
    /// What keeps it from shrinking.
    pub frozen: Vec<ReasonText>,
    /// Its numbers.
    pub load: Load,
    /// What each replica is given.
    pub size: SizeStatus,
    /// Its newest decision.
    pub last: Option<Decision>,
    /// Its members and their change, when it is a cluster that keeps a list of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// Its name.
    pub task: String,
    /// Where it runs.
    pub node: String,
    /// Its state.
    pub state: String,
    /// Since when.
    pub since_ms: u64,
    /// Its port for requests.
    pub port: Option<u16>,
    /// What it waits for.
    pub detail: String,
}

/// What each replica is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SizeStatus {
    /// `recommend` or `apply`.
    pub mode: String,
    /// CPU quota in force, thousandths of a core.
    pub cpu_millis: Option<u32>,
    /// Memory limit in force.
    pub memory_bytes: Option<u64>,
    /// `steady`, `canary` (one replica has the new size), `spreading` (the others follow), `returning` (all go back).
    pub phase: String,
    /// CPU quota that a change is on its way to.
    pub to_cpu_millis: Option<u32>,
    /// Memory limit that a change is on its way to.
    pub to_memory_bytes: Option<u64>,
    /// The replica that has the new size first.
    pub canary: Option<String>,
    /// Why no size is changed for a while.
    pub held: Option<String>,
    /// Until when.
    pub held_until_ms: Option<u64>,
    /// What the replicas' own use asks for; null before the first sample, and for members of clusters.
    #[serde(default)]
    pub advice: Option<SizeAdvice>,
}

/// The size that the replicas' own use asks for, of each, and how sure that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SizeAdvice {
    /// Thousandths of a core: 90 % of what was seen, and a margin.
    pub cpu_millis: u32,
    /// Likewise, and never under what is in use.
    pub memory_bytes: u64,
    /// Below it a replica has too little.
    pub cpu_millis_low: u32,
    /// Above it a replica has too much; far up while little was seen.
    pub cpu_millis_high: u32,
    /// Below it a replica has too little.
    pub memory_bytes_low: u64,
    /// Above it a replica has too much.
    pub memory_bytes_high: u64,
    /// Time that it rests on, ms.
    pub history_ms: u64,
    /// Time that the specification asks for before it is recommended (`size.after`), ms.
    pub after_ms: u64,
}

impl From<view::SizeAdvice> for SizeAdvice {
    fn from(advice: view::SizeAdvice) -> Self {
        Self {
            cpu_millis: advice.size.cpu_millis,
            memory_bytes: advice.size.memory_bytes,
            cpu_millis_low: advice.low.cpu_millis,
            cpu_millis_high: advice.high.cpu_millis,
            memory_bytes_low: advice.low.memory_bytes,
            memory_bytes_high: advice.high.memory_bytes,
            history_ms: advice.history_ms,
            after_ms: advice.after_ms,
        }
    }
}

impl From<SizeView> for SizeStatus {
    fn from(view: SizeView) -> Self {
        let (held, held_until_ms) = view.held.map(|(why, until)| (why, until.0)).unzip();
        Self {
            mode: word(&view.mode),
            cpu_millis: view.given.cpu_max_millis,
            memory_bytes: view.given.memory_max_bytes,
            phase: view.phase.to_owned(),
            to_cpu_millis: view.to.and_then(|to| to.cpu_max_millis),
            to_memory_bytes: view.to.and_then(|to| to.memory_max_bytes),
            canary: view.canary.map(String::from),
            held,
            held_until_ms,
            advice: view.advice.map(SizeAdvice::from),
        }
    }
}

/// Numbers of a workload; absent ones are not known.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// Requests per second.
    pub requests_per_second: Option<f64>,
    /// Queue delay, 95th percentile, ms.
    pub queue_delay_p95_ms: Option<f64>,
    /// Requests queued now.
    pub queued: Option<u64>,
    /// For how long containers have waited without a pause, ms: none of those that wait now has waited longer (yarn).
    pub container_wait_ms: Option<f64>,
    /// Share of the space in use: of all (hdfs), or of the fullest disk (cassandra).
    pub disk: Option<f64>,
    /// 99 % of requests take at most so long at the slowest member, ms (cassandra).
    pub latency_p99_ms: Option<f64>,
    /// Busy share of what is there: of threads or of the CPU given, whichever is tighter.
    pub utilisation: Option<f64>,
    /// CPU of all replicas, cores.
    pub cpu_cores: Option<f64>,
    /// Memory of all replicas.
    pub memory_bytes: Option<u64>,
    /// Load now: requests per second (rails) or cores (service).
    pub load: Option<f64>,
    /// Load expected when a replica that is started now would be ready.
    pub forecast: Option<f64>,
    /// Load that one replica carries at the target, in the same unit.
    pub capacity: Option<f64>,
    /// Time from an order to a ready replica, ms.
    pub ready_after_ms: u64,
}

/// A workload with what is asked of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadDetail {
    /// `trimtab/v1`.
    pub api_version: String,
    /// The revision in force; also the entity tag.
    pub revision: i64,
    /// When it was applied.
    pub applied_ms: u64,
    /// The specification as a document that can be applied again.
    #[schema(value_type = Object)]
    pub document: serde_json::Value,
    /// How it is; absent in the moment before the first round.
    pub status: Option<Workload>,
}

/// What an application of a specification did, or would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// `trimtab/v1`.
    pub api_version: String,
    /// Nothing was done.
    pub dry_run: bool,
    /// There was none before.
    pub created: bool,
    /// It is as it was.
    pub unchanged: bool,
    /// The revision in force after it; absent for a dry run that would change it.
    pub revision: Option<i64>,
    /// The document in force before.
    #[schema(value_type = Option<Object>)]
    pub before: Option<serde_json::Value>,
    /// The document in force after, with defaults filled in.
    #[schema(value_type = Object)]
    pub after: serde_json::Value,
    /// Replicas wanted now.
    pub wanted_now: Option<u32>,
    /// Replicas wanted at least and at most afterwards: the bounds that `wantedNow` will be moved into.
    pub bounds: (u32, u32),
}

/// A pause in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// One workload; absent = all.
    pub workload: Option<String>,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since_ms: u64,
    /// Until when; absent = until resumed.
    pub until_ms: Option<u64>,
}

impl From<PauseRow> for Pause {
    fn from(row: PauseRow) -> Self {
        Self {
            workload: row.workload.map(String::from),
            reason: row.reason,
            since_ms: row.at_ms,
            until_ms: row.until_ms,
        }
    }
}

impl From<WorkloadView> for Workload {
    fn from(view: WorkloadView) -> Self {
        let load = view.load;
        Self {
            name: view.name.to_string(),
            kind: word(&view.kind),
            mode: word(&view.mode),
            policy: word(&view.policy),
            min: view.min,
            max: view.max,
            wanted: view.wanted,
            up: view.up,
            starting: view.starting,
            leaving: view.leaving,
            replicas: view.replicas.into_iter().map(Replica::from).collect(),
            paused: view.paused,
            frozen: view.frozen.iter().map(ReasonText::from).collect(),
            load: Load {
                requests_per_second: load.requests_per_second,
                queue_delay_p95_ms: load.queue_delay_p95_ms,
                queued: load.queued,
                container_wait_ms: load.container_wait_ms,
                disk: load.disk,
                latency_p99_ms: load.latency_p99_ms,
                utilisation: load.utilisation,
                cpu_cores: load.cpu_cores,
                memory_bytes: load.memory_bytes,
                load: load.load,
                forecast: load.forecast,
                capacity: load.capacity,
                ready_after_ms: load.ready_after_ms,
            },
            size: view.size.into(),
            last: view.last.as_ref().map(Decision::from),
            cluster: view.cluster.map(Cluster::from),
        }
    }
}

impl From<ReplicaView> for Replica {
    fn from(view: ReplicaView) -> Self {
        Self {
            task: view.task.to_string(),
            node: view.node.to_string(),
            state: view.state.to_owned(),
            since_ms: view.since.0,
            port: view.port,
            detail: view.detail,
        }
    }
}
