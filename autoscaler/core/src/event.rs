//! What the brain is told, and what it answers: the seam between the pure core and its shell.
//!
//! Everything in [`Event`] is journalled by the shell before it is observed, and everything in [`Plan`] before it is
//! carried out; feeding the same events to a new brain gives the same plans, bit for bit. Per-task samples are not
//! events: the [`fleet`](crate::fleet) takes them at full rate and reduces them to one [`Digest`] a round.

use model::action::{Command, Outcome, Size, TaskEvent};
use model::adapter::{BalancerReport, PumaReport};
use model::cassandra::CassandraReport;
use model::decision::{Decision, DecisionId, Realised};
use model::gap::Gap;
use model::hdfs::HdfsReport;
use model::id::{CgroupId, ControllerEpoch, Generation, NodeId, TaskName, WorkloadName};
use model::node::{Incarnation, Inventory, Receipt};
use model::workload::{Class, Workload};
use model::yarn::YarnReport;
use serde::{Deserialize, Serialize};

/// A point in controller time, ms. Starts near the wall clock and never steps: the shell advances it by the boot
/// clock and continues behind the last journalled value after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub u64);

impl Time {
    /// Milliseconds since `earlier`, 0 when it is later.
    #[must_use]
    pub fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This time and `ms` more.
    #[must_use]
    pub fn after(self, ms: u64) -> Time {
        Time(self.0.saturating_add(ms))
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Event {
    /// The controller started, with a new epoch; nothing shrinks until it has seen enough.
    Started {
        /// Fences commands of earlier controllers.
        epoch: ControllerEpoch,
    },
    /// A specification was applied, anew or changed.
    SpecApplied {
        /// The whole of it.
        workload: Workload,
    },
    /// A specification was withdrawn: its tasks are left alone.
    SpecRemoved {
        /// Which.
        workload: WorkloadName,
    },
    /// What an earlier brain knew that no node can tell: it follows the specification in the first events that a new
    /// brain is told (see [`Brain::memory`](crate::brain::Brain::memory)).
    Remembered {
        /// Of which workload.
        workload: WorkloadName,
        /// What.
        memory: Memory,
    },
    /// An operator stopped all acting (or one workload's).
    Paused {
        /// One workload, or all.
        workload: Option<WorkloadName>,
        /// Why, in the operator's words.
        reason: String,
        /// Until when; `None` = until resumed.
        until: Option<Time>,
    },
    /// An operator let it act again.
    Resumed {
        /// One workload, or all.
        workload: Option<WorkloadName>,
    },
    /// An operator wants a node empty: nothing starts there, and what runs there moves.
    NodeDrained {
        /// Which node.
        node: NodeId,
        /// Why, in the operator's words.
        reason: String,
    },
    /// An operator lets replicas start on a node again.
    NodeReturned {
        /// Which node.
        node: NodeId,
    },
    /// An agent connected: its stream is up, and these are the tasks that it runs for us.
    NodeUp {
        /// Which node.
        node: NodeId,
        /// Which run of agent and kernel.
        incarnation: Incarnation,
        /// What it has and can.
        inventory: Inventory,
        /// Trimtab's own tasks on it.
        tasks: Vec<RunningTask>,
    },
    /// Nothing was heard from a node for the time after which it counts as lost.
    NodeDown {
        /// Which node.
        node: NodeId,
        /// What was seen.
        why: String,
    },
    /// An agent answered a command.
    Outcome {
        /// From which node.
        node: NodeId,
        /// The answer.
        outcome: Outcome,
    },
    /// A task started, became healthy, ended.
    Task {
        /// On which node.
        node: NodeId,
        /// What happened.
        event: TaskEvent,
    },
    /// A hole in a node's data.
    Gap {
        /// Which node.
        node: NodeId,
        /// The hole.
        gap: Gap,
    },
    /// A node's ledgers were compared.
    Receipt {
        /// Which node.
        node: NodeId,
        /// The comparison.
        receipt: Receipt,
    },
    /// One round's measurements of one workload.
    Digest(Digest),
    /// One round's measurements of the nodes.
    Nodes {
        /// Those that were heard of.
        nodes: Vec<NodeDigest>,
    },
    /// What an agent said of a workload's cluster.
    Cluster(Box<ClusterDigest>),
    /// An operator lets a recommended change of a cluster be carried out.
    Approved {
        /// Of which workload.
        workload: WorkloadName,
        /// The decision that recommends it.
        decision: DecisionId,
    },
    /// An operator does not want a recommended change of a cluster, or not now.
    Declined {
        /// Of which workload.
        workload: WorkloadName,
        /// The decision that recommends it.
        decision: DecisionId,
        /// Why, in the operator's words.
        reason: String,
        /// For how long it is not offered again, ms; absent: a day.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_ms: Option<u64>,
    },
    /// An operator wants the change of a cluster that is on its way taken back, as far as it can be.
    Cancelled {
        /// Of which workload.
        workload: WorkloadName,
        /// Why, in the operator's words.
        reason: String,
    },
}

/// What must survive of one workload when a journal begins anew: names that were used, and replicas with their steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// The number of the next replica; lower ones were used.
    pub next_number: u32,
    /// The newest generation.
    pub generation: Generation,
    /// Replicas wanted.
    pub wanted: u32,
    /// All that is not gone.
    pub replicas: Vec<Remembered>,
    /// The size in force, when it is another than the specification's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Of a cluster: its processes, and the change on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<crate::cluster::Memory>,
}

/// What an agent said of a workload's cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterDigest {
    /// Which workload.
    pub workload: WorkloadName,
    /// The node whose agent says so: steps go there.
    pub node: NodeId,
    /// When it came.
    pub at: Time,
    /// What it says.
    pub report: ClusterReport,
}

/// A cluster's report, of any kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ClusterReport {
    /// A ResourceManager's.
    Yarn(YarnReport),
    /// A NameNode's.
    Hdfs(HdfsReport),
    /// A Cassandra node's.
    Cassandra(Box<CassandraReport>),
}

/// One replica of a [`Memory`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// Its name.
    pub task: TaskName,
    /// Its number.
    pub number: u32,
    /// Where it runs.
    pub node: NodeId,
    /// How far it was.
    pub state: crate::replica::State,
    /// Its port for requests.
    pub port: Option<u16>,
    /// Its control server's port.
    pub control_port: Option<u16>,
    /// Its address.
    pub host: Option<String>,
    /// Ordered at.
    pub created: Time,
    /// First took requests at.
    pub up_at: Option<Time>,
}

/// A task of ours that an agent found running when it connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningTask {
    /// Its name.
    pub task: TaskName,
    /// Whose.
    pub workload: WorkloadName,
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// The generation that started it.
    pub generation: Generation,
    /// Its health check passes.
    pub healthy: bool,
    /// How it stands to other tasks of its node, when its agent says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
}

/// One round's measurements of one workload. Ages say how fresh each part is; a part that is missing is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Digest {
    /// Which workload.
    pub workload: WorkloadName,
    /// Its tasks that samples or reports were seen of.
    pub replicas: Vec<ReplicaDigest>,
    /// The balancer's report; `None` when no agent ever reported the backend.
    pub balancer: Option<BalancerDigest>,
}

/// The newest report of a workload's backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BalancerDigest {
    /// The node whose agent reports it: steps on the balancer go there.
    pub node: NodeId,
    /// The report.
    pub report: BalancerReport,
    /// Its age, ms.
    pub age_ms: u64,
}

/// One round's measurements of one node, all its tasks together. Serves placement and the idle ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeDigest {
    /// Which node.
    pub node: NodeId,
    /// Age of its newest sample, ms; `None` when there was none yet.
    pub age_ms: Option<u64>,
    /// CPU used by all its tasks, cores; `None` when that of none is known.
    pub cpu_cores: Option<f64>,
    /// Memory charged to all its tasks, bytes; likewise.
    pub memory_bytes: Option<u64>,
    /// Tasks on it.
    pub tasks: u32,
}

/// One round's measurements of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaDigest {
    /// Its name.
    pub task: TaskName,
    /// Where it runs.
    pub node: NodeId,
    /// Age of its newest sample, ms; `None` when there was none yet.
    pub age_ms: Option<u64>,
    /// CPU used since the last round, cores.
    pub cpu_cores: Option<f64>,
    /// Held back by a quota, share of the interval.
    pub throttled_ratio: Option<f64>,
    /// Mean run-queue delay, seconds.
    pub run_delay_mean_seconds: Option<f64>,
    /// Memory charged, bytes.
    pub memory_bytes: Option<u64>,
    /// Processes killed for lack of memory since its start.
    #[serde(default)]
    pub oom_kills: Option<u64>,
    /// Puma's own report, and its age in ms.
    pub puma: Option<(PumaReport, u64)>,
}

/// What followed from an earlier decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    /// Which.
    pub decision: DecisionId,
    /// About which workload.
    pub workload: WorkloadName,
    /// When it was taken, ms of controller time.
    pub at_ms: u64,
    /// What followed.
    pub realised: Realised,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Orders for agents, in the order in which they must be sent.
    pub commands: Vec<(NodeId, Command)>,
    /// Acts and non-acts, each with its reasons. A non-act that only repeats the last one is not repeated here.
    pub decisions: Vec<Decision>,
    /// What followed from earlier decisions, now that their time has come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub realised: Vec<Followed>,
    /// Ask again at the latest then.
    pub wake_at: Option<Time>,
}
