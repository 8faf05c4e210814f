//! What the nodes' tasks use now, from samples at full rate.
//!
//! Problem: 150,000 tasks at 1 Hz must cost the receiver under a microsecond each, and yet give exact totals, ages and
//! rates. Method: a sample is a set of totals, so ingest only checks that none of them fell and copies it into a slot of
//! its node's table (no allocation, no map lookup, no arithmetic on rates); rates are derived from two stored samples
//! when somebody asks, which is once a round. Bounds: [`SLOT_LIMIT`] slots per node, one [`NodeTable`] per connected
//! node, [`ENDED_LIMIT`] ended tasks waiting to be taken. A restart of an agent drops its table, since slots belong to
//! one stream; totals are not lost by that, because each sample holds them all.

mod clusters;
mod digest;
mod network;
mod row;
mod standing;
mod table;
mod waits;

use std::collections::BTreeMap;

use model::adapter::{AdapterReport, BalancerReport, PumaReport};
use model::gap::Gap;
use model::histogram::DelayHistogram;
use model::id::{BootId, CgroupId, NodeId, TaskName, WorkloadName};
use model::node::{Incarnation, Inventory, Receipt, TaskInfo};
use model::workload::Workload;

pub use self::clusters::{Clusters, Reported};
pub use self::network::NetworkView;
pub use self::standing::Standing;
pub use self::table::{ENDED_LIMIT, EndedTask, Ingest, NodeTable, SLOT_LIMIT, TaskView};
pub use self::waits::WaitView;
use crate::event::{ClusterDigest, Time};

/// Everything that is measured now.
#[derive(Debug, Default)]
pub struct Fleet {
    nodes: BTreeMap<NodeId, NodeTable>,
    /// Newest report of each backend: where, when, what.
    balancers: BTreeMap<String, (NodeId, Time, BalancerReport)>,
    pumas: BTreeMap<TaskName, (Time, PumaReport)>,
    clusters: Clusters,
    /// Of each workload's cluster, when the newest report came that was handed on.
    handed: BTreeMap<WorkloadName, Time>,
}

/// Longest that an adapter's report is kept after its node went silent, ms: ages past this say nothing new.
const REPORT_KEPT_MS: u64 = 3_600_000;

/// One node, for people.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct NodeView {
    /// Which.
    pub node: NodeId,
    /// Its stream is up.
    pub connected: bool,
    /// The kernel's boot.
    pub boot: BootId,
    /// What it has and can.
    pub inventory: Inventory,
    /// Age of its newest sample, ms.
    pub age_ms: Option<u64>,
    /// CPU used by all its tasks, cores; `None` when that of none is known.
    pub cpu_cores: Option<f64>,
    /// Memory charged to all its tasks, bytes; likewise.
    pub memory_bytes: Option<u64>,
    /// Tasks now.
    pub tasks: u32,
    /// Samples taken from it since it connected.
    pub samples: u64,
    /// Samples that were refused (a total fell, or time stood still).
    pub refused: u64,
    /// How well its agent keeps up.
    pub standing: Standing,
    /// How long its tasks wait; `None` until there is enough of it.
    pub waits: Option<WaitView>,
    /// What goes over its network; `None` when its agent tells of none, or only once yet.
    pub network: Option<NetworkView>,
}

/// A replica that runs, by the name under which history has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// On which node.
    pub node: NodeId,
    /// In which boot of it.
    pub boot: BootId,
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// Whose.
    pub workload: WorkloadName,
    /// Its name.
    pub task: TaskName,
}

impl Fleet {
    /// An empty fleet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A node's stream came up. The slots of an earlier stream are forgotten.
    pub fn node_up(&mut self, node: NodeId, incarnation: Incarnation, inventory: Inventory, now: Time) {
        let mut table = NodeTable::new(incarnation, inventory, now);
        if let Some(before) = self.nodes.remove(&node) {
            table.succeed(before);
        }
        self.nodes.insert(node, table);
    }

    /// A node's stream went down: its values stay, and age.
    pub fn node_down(&mut self, node: &NodeId, _now: Time) {
        if let Some(table) = self.nodes.get_mut(node) {
            table.disconnected();
        }
    }

    /// A node's table, for ingest: hold it for a whole batch and there is one lookup per batch.
    pub fn node(&mut self, node: &NodeId) -> Option<&mut NodeTable> {
        self.nodes.get_mut(node)
    }

    /// A node's table, to read.
    #[must_use]
    pub fn table(&self, node: &NodeId) -> Option<&NodeTable> {
        self.nodes.get(node)
    }

    /// What an adapter on `node` saw. A report that says "unreachable" leaves the last one to grow old.
    pub fn report(&mut self, node: &NodeId, report: AdapterReport, now: Time) {
        match report {
            AdapterReport::Balancer(report) => {
                self.balancers.insert(report.backend.clone(), (node.clone(), now, report));
            }
            AdapterReport::Puma(report) => {
                self.pumas.insert(report.task.clone(), (now, report));
            }
            AdapterReport::Unreachable { .. } => {}
            cluster => self.clusters.take(node, cluster, now),
        }
        self.clusters.forget(REPORT_KEPT_MS, now);
        self.balancers.retain(|_, (_, at, _)| now.since(*at) < REPORT_KEPT_MS);
        self.pumas.retain(|_, (at, _)| now.since(*at) < REPORT_KEPT_MS);
    }

    /// The newest report of each cluster.
    #[must_use]
    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// What agents said of these workloads' clusters since the last call.
    pub fn cluster_digests<'a>(
        &mut self,
        workloads: impl IntoIterator<Item = &'a Workload>,
    ) -> Vec<ClusterDigest> {
        let mut all = Vec::new();
        let mut handed = BTreeMap::new();
        for workload in workloads {
            let (digests, newest) = self.clusters.digests(workload, self.handed.get(&workload.name).copied());
            all.extend(digests);
            handed.extend(newest.map(|newest| (workload.name.clone(), newest)));
        }
        self.handed = handed;
        all
    }

    /// A node's comparison of its CPU ledgers.
    pub fn receipt(&mut self, node: &NodeId, receipt: Receipt) {
        if let Some(table) = self.nodes.get_mut(node) {
            table.standing.receipt = Some(receipt);
        }
    }

    /// A node's agent tells of a hole in its data.
    pub fn gap(&mut self, node: &NodeId, gap: Gap, now: Time) {
        if let Some(table) = self.nodes.get_mut(node) {
            table.standing.gap(gap, now);
        }
    }

    /// How far a node's wall clock was ahead of the controller's when its newest batch came, ms.
    pub fn clock_skew(&mut self, node: &NodeId, ms: i64) {
        if let Some(table) = self.nodes.get_mut(node) {
            table.standing.clock_skew_ms = Some(ms);
        }
    }

    /// All nodes, by name.
    #[must_use]
    pub fn nodes(&self, now: Time) -> Vec<NodeView> {
        self.nodes.iter().map(|(node, table)| table.view(node, now)).collect()
    }

    /// One node.
    #[must_use]
    pub fn view(&self, node: &NodeId, now: Time) -> Option<NodeView> {
        Some(self.nodes.get(node)?.view(node, now))
    }

    /// Run-queue delays of all tasks of a node over about the last minute, by length; `None` when the node is not known.
    #[must_use]
    pub fn delays(&self, node: &NodeId) -> Option<DelayHistogram> {
        Some(self.nodes.get(node)?.delays())
    }

    /// All tasks of all nodes, or of one, with their usage; by node, then slot.
    #[must_use]
    pub fn tasks(&self, node: Option<&NodeId>, now: Time) -> Vec<TaskView> {
        self.nodes
            .iter()
            .filter(|(name, _)| node.is_none_or(|wanted| wanted == *name))
            .flat_map(|(name, table)| table.tasks(name, now))
            .collect()
    }

    /// The cgroup of each replica that runs, as far as nodes have named it; by node.
    #[must_use]
    pub fn replicas(&self) -> Vec<Running> {
        let of = |(node, table): (&NodeId, &NodeTable)| {
            let boot = table.incarnation().boot;
            let named = |info: &TaskInfo| {
                let (workload, task) = (info.class.workload.clone()?, info.class.task.clone()?);
                Some(Running { node: node.clone(), boot, cgroup: info.cgroup, workload, task })
            };
            table.replicas().filter_map(named).collect::<Vec<_>>()
        };
        self.nodes.iter().flat_map(of).collect()
    }

    /// Tasks that ended since the last call, with their final totals: what the shell writes to history.
    pub fn take_ended(&mut self) -> Vec<(NodeId, EndedTask)> {
        self.nodes
            .iter_mut()
            .flat_map(|(name, table)| table.take_ended().into_iter().map(|t| (name.clone(), t)))
            .collect()
    }
}

#[cfg(test)]
mod tests;
