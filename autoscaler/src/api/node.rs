//! Nodes and tasks.

use std::collections::BTreeMap;

use autoscaler_core::event::Time;
use autoscaler_core::fleet::{NetworkView, NodeView, TaskView};
use autoscaler_core::view::{DrainView, GivenView};
use model::gap::Gap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::waits::Waits;
use super::word;
use crate::store::{EndedTaskRow, Part};

/// All nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// `trimtab/v1`.
    pub api_version: String,
    /// By name.
    pub items: Vec<Node>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its agent's stream is up.
    pub connected: bool,
    /// How well it is measured: `A`, `B` or `C`.
    pub tier: String,
    /// Its agent may act.
    pub acts: bool,
    /// Logical CPUs.
    pub cpus: u32,
    /// CPU in use by all tasks, cores; null when that of none is known.
    pub cpu_cores: Option<f64>,
    /// Usable memory.
    pub memory_total_bytes: u64,
    /// Memory charged to all tasks; null when that of none is known.
    pub memory_bytes: Option<u64>,
    /// Tasks now.
    pub tasks: u32,
    /// Age of the newest sample, ms.
    pub age_ms: Option<u64>,
    /// Kernel release.
    pub kernel: String,
    /// The kernel's boot, 32 hex digits.
    pub boot: String,
    /// Launchers that its owner allows.
    pub launchers: Vec<String>,
    /// BPF features that run.
    pub features: Vec<String>,
    /// What cannot be measured, and why.
    pub unavailable: Vec<Unavailable>,
    /// Samples taken since it connected.
    pub samples: u64,
    /// Samples refused since it connected.
    pub refused_samples: u64,
    /// How far its CPU ledgers differ, share; absent when only one is known.
    pub accounting_error_ratio: Option<f64>,
    /// How far its wall clock is ahead of the autoscaler's, ms, by its newest batch: some ms are that one's way here.
    /// Null until one came.
    #[serde(default)]
    pub clock_skew_ms: Option<i64>,
    /// Rounds that wait on its agent's disk, as it told with its last comparison of ledgers; null when it did not.
    #[serde(default)]
    pub spooled_rounds: Option<u64>,
    /// What they take there.
    #[serde(default)]
    pub spooled_bytes: Option<u64>,
    /// Holes in its data that its agent told of since the autoscaler's start.
    #[serde(default)]
    pub gaps: u64,
    /// The newest of them.
    #[serde(default)]
    pub last_gap: Option<LastGap>,
    /// The rack that it stands in, when its owner says so.
    #[serde(default)]
    pub rack: Option<String>,
    /// Version of its agent; null when that does not say it.
    #[serde(default)]
    pub agent_version: Option<String>,
    /// How long its tasks wait; null until there is enough of it.
    #[serde(default)]
    pub waits: Option<Waits>,
    /// Why waits for a CPU are not known, if so.
    #[serde(default)]
    pub run_delay_unknown: Option<String>,
    /// Why stalls are not known, if so.
    #[serde(default)]
    pub stalls_unknown: Option<String>,
    /// What goes over its network cards; null until its agent has told it twice.
    #[serde(default)]
    pub network: Option<Network>,
    /// Why that is not known, if so.
    #[serde(default)]
    pub network_unknown: Option<String>,
    /// What Trimtab's own were given there; null when it is not told.
    #[serde(default)]
    pub reserved: Option<Reserved>,
    /// Set while an operator wants it empty.
    #[serde(default)]
    pub drain: Option<Drain>,
}

/// What goes over all network cards of a node: what stays on the node, as between its containers, is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Received between its agent's last two rounds.
    pub received_bytes_per_second: f64,
    /// Sent, likewise.
    pub sent_bytes_per_second: f64,
    /// Received since the cards came up.
    pub received_bytes: u64,
    /// Sent, likewise.
    pub sent_bytes: u64,
}

impl From<NetworkView> for Network {
    fn from(view: NetworkView) -> Self {
        Self {
            received_bytes_per_second: view.received_per_second,
            sent_bytes_per_second: view.sent_per_second,
            received_bytes: view.received_bytes,
            sent_bytes: view.sent_bytes,
        }
    }
}

/// What Trimtab's replicas and members of clusters were given on a node; those on their way out are in it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reserved {
    /// How many there are.
    pub replicas: u32,
    /// CPU, without those whose size does not say it; null when that is known of none.
    pub cpu_cores: Option<f64>,
    /// Memory, likewise.
    pub memory_bytes: Option<u64>,
    /// How many of them have a size that does not say both.
    pub without_size: u32,
}

impl From<GivenView> for Reserved {
    fn from(view: GivenView) -> Self {
        // Where nothing is, nothing was given.
        let none = (view.replicas == 0).then_some(0);
        Self {
            replicas: view.replicas,
            cpu_cores: view.cpu_millis.or(none).map(|millis| millis as f64 / 1e3),
            memory_bytes: view.memory_bytes.or(none),
            without_size: view.without_size,
        }
    }
}

/// A node that an operator wants empty: nothing starts there, and what runs there moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drain {
    /// Why, in the operator's words.
    pub why: String,
    /// Replicas that may still run there.
    pub left: u32,
}

/// A wish for an empty node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Why, for those who ask later.
    #[serde(default)]
    pub reason: String,
    /// Begin also when something could not leave now: it stays until it can.
    #[serde(default)]
    pub partly: bool,
}

/// A hole in a node's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastGap {
    /// `stale`, `lost`, `restarted`, `partial`, `clock_stepped` or `merged`.
    pub kind: String,
    /// The agent's words.
    pub cause: String,
    /// How long it is, ms.
    pub length_ms: u64,
    /// When it was told, Unix ms.
    pub told_ms: u64,
}

impl From<(Gap, Time)> for LastGap {
    fn from((gap, told): (Gap, Time)) -> Self {
        let length_ms = gap.to_ns.saturating_sub(gap.from_ns) / 1_000_000;
        Self { kind: word(&gap.kind), cause: gap.cause, length_ms, told_ms: told.0 }
    }
}

/// A metric that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unavailable {
    /// What.
    pub what: String,
    /// Why, and what would give it.
    pub why: String,
}

impl From<NodeView> for Node {
    fn from(view: NodeView) -> Self {
        let (run_delay_unknown, stalls_unknown) =
            (super::waits::run_delay_unknown(&view), super::waits::stalls_unknown(&view));
        let network_unknown = super::waits::network_unknown(&view);
        let inventory = view.inventory;
        let receipt = view.standing.receipt;
        let spool = receipt.and_then(|receipt| receipt.spool);
        Self {
            name: view.node.to_string(),
            connected: view.connected,
            tier: inventory.tier.to_string(),
            acts: inventory.acts,
            cpus: inventory.cpus,
            cpu_cores: view.cpu_cores,
            memory_total_bytes: inventory.memory_bytes,
            memory_bytes: view.memory_bytes,
            tasks: view.tasks,
            age_ms: view.age_ms,
            kernel: inventory.kernel,
            boot: view.boot.to_string(),
            launchers: inventory.launchers,
            features: inventory.features,
            unavailable: inventory
                .unavailable
                .into_iter()
                .map(|missing| Unavailable { what: missing.what, why: missing.why })
                .collect(),
            samples: view.samples,
            refused_samples: view.refused,
            accounting_error_ratio: receipt.and_then(|receipt| receipt.error_ratio()),
            clock_skew_ms: view.standing.clock_skew_ms,
            spooled_rounds: spool.map(|spool| spool.rounds),
            spooled_bytes: spool.map(|spool| spool.bytes),
            gaps: view.standing.gaps,
            last_gap: view.standing.last_gap.map(LastGap::from),
            rack: inventory.rack.map(String::from),
            agent_version: inventory.version,
            waits: view.waits.map(Waits::from),
            run_delay_unknown,
            stalls_unknown,
            network: view.network.map(Network::from),
            network_unknown,
            reserved: None,
            drain: None,
        }
    }
}

impl Node {
    /// The same, with what Trimtab has there and what an operator wants of it.
    #[must_use]
    pub fn with(mut self, given: Option<&GivenView>, drain: Option<&DrainView>) -> Self {
        self.reserved = Some(given.copied().unwrap_or_default().into());
        self.drain = drain.map(|drain| Drain { why: drain.why.clone(), left: drain.left });
        self
    }
}

/// A token that lets one node join, once.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinToken {
    /// `trimtab/v1`.
    pub api_version: String,
    /// The node's name.
    pub node: String,
    /// The token: a secret.
    pub token: String,
    /// Until when it is good.
    pub expires_ms: u64,
    /// Where the node's agent connects.
    pub autoscaler: String,
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinToken").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Live tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tasks {
    /// `trimtab/v1`.
    pub api_version: String,
    /// By node, then age.
    pub items: Vec<Task>,
    /// Give it as `cursor` for the next part.
    pub next: Option<String>,
}

/// A live task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// On which node.
    pub node: String,
    /// Its cgroup's number.
    pub cgroup: u64,
    /// What a rule named it.
    pub kind: String,
    /// A readable name.
    pub name: String,
    /// The workload that it belongs to.
    pub workload: Option<String>,
    /// Its name when Trimtab started it.
    pub task: Option<String>,
    /// CPU in use, cores; absent until there are two samples.
    pub cpu_cores: Option<f64>,
    /// Memory charged.
    pub memory_bytes: Option<u64>,
    /// Mean run-queue delay, seconds.
    pub run_delay_mean_seconds: Option<f64>,
    /// Age of the newest sample, ms.
    pub age_ms: Option<u64>,
    /// All totals since its start, by metric name.
    pub totals: BTreeMap<String, u64>,
}

impl From<TaskView> for Task {
    fn from(view: TaskView) -> Self {
        let class = view.info.class;
        Self {
            node: view.node.to_string(),
            cgroup: view.info.cgroup.0,
            kind: class.kind,
            name: class.name,
            workload: class.workload.map(String::from),
            task: class.task.map(String::from),
            cpu_cores: view.usage.and_then(|usage| usage.cpu_cores),
            memory_bytes: view.totals.get("memory_current_bytes").copied(),
            run_delay_mean_seconds: view.usage.and_then(|usage| usage.run_delay_mean_seconds),
            age_ms: view.age_ms,
            totals: view.totals.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }
}

/// Tasks that ended, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndedTasks {
    /// `trimtab/v1`.
    pub api_version: String,
    /// Newest first.
    pub items: Vec<EndedTask>,
    /// Give it as `cursor` for the next part.
    pub next: Option<String>,
}

/// A task that ended, with its final totals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndedTask {
    /// On which node.
    pub node: String,
    /// In which boot of it.
    pub boot: String,
    /// Its cgroup's number.
    pub cgroup: u64,
    /// What a rule named it.
    pub kind: Option<String>,
    /// A readable name.
    pub name: Option<String>,
    /// The workload that it belonged to.
    pub workload: Option<String>,
    /// Its name when Trimtab started it.
    pub task: Option<String>,
    /// When its end was stored.
    pub ended_ms: u64,
    /// CPU total by the kernel's ledger, µs.
    pub cpu_total_us: Option<u64>,
    /// All totals, by metric name.
    #[schema(value_type = Object)]
    pub totals: serde_json::Value,
    /// Exit status, when it exited.
    pub status: Option<i32>,
    /// Signal, when it was killed.
    pub signal: Option<i32>,
    /// True when a command asked for its end.
    pub asked: Option<bool>,
}

impl From<Part<EndedTaskRow>> for EndedTasks {
    fn from(page: Part<EndedTaskRow>) -> Self {
        let items = page.items.into_iter().map(|row| EndedTask {
            node: row.node,
            boot: row.boot,
            cgroup: row.cgroup,
            kind: row.kind,
            name: row.name,
            workload: row.workload,
            task: row.task,
            ended_ms: row.ended_ms,
            cpu_total_us: row.cpu_total_us,
            totals: row.totals,
            status: row.status,
            signal: row.signal,
            asked: row.asked,
        });
        Self { api_version: super::API_VERSION.to_owned(), items: items.collect(), next: page.next }
    }
}
