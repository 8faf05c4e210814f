//! What a node is, what runs on it, and how well it can be measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::gap::Unavailable;
use crate::id::{BootId, CgroupId, RackName, TaskName, WorkloadName};

/// How well a host can be measured; found by trial, never by version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// eBPF, cgroup v2 and PSI.
    A,
    /// cgroup v2 and PSI, no eBPF.
    B,
    /// Hybrid or v1 host: CPU from the unified mount where it exists, memory from v1.
    C,
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Tier::A => "A",
            Tier::B => "B",
            Tier::C => "C",
        })
    }
}

/// A node's capacity and what its agent can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Online logical CPUs.
    pub cpus: u32,
    /// Usable memory, bytes.
    pub memory_bytes: u64,
    /// `uname -r`.
    pub kernel: String,
    /// How it is measured.
    pub tier: Tier,
    /// Which BPF features run (beside tier C a hybrid host may still have them).
    pub features: Vec<String>,
    /// What cannot be had, and why.
    pub unavailable: Vec<Unavailable>,
    /// What the node's owner allows to be started.
    pub launchers: Vec<String>,
    /// True when the agent may act; false when it only observes.
    pub acts: bool,
    /// The rack that it stands in, when its owner says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<RackName>,
    /// The agent's version, when it says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Inventory {
    /// A node of this size (CPUs, bytes) of which nothing else is known: no feature, no launcher, and it does not act.
    #[must_use]
    pub fn new(cpus: u32, memory_bytes: u64, tier: Tier) -> Self {
        Self {
            cpus,
            memory_bytes,
            kernel: String::new(),
            tier,
            features: Vec::new(),
            unavailable: Vec::new(),
            launchers: Vec::new(),
            acts: false,
            rack: None,
            version: None,
        }
    }
}

/// What kind of thing a task is; from the classification rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskClass {
    /// `service`, `container`, `puma`, `yarn-container`, `cassandra`, `system`, … : what a rule named it.
    pub kind: String,
    /// A readable name made safe for display.
    pub name: String,
    /// The workload that it belongs to, when a rule or its start says so.
    pub workload: Option<WorkloadName>,
    /// Its name when Trimtab started it.
    pub task: Option<TaskName>,
    /// What its runtime says of the container that it is, or is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Box<Container>>,
}

impl TaskClass {
    /// A task of which only this is known. The name must be safe for display.
    #[must_use]
    pub fn new(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: kind.into(), name: name.into(), workload: None, task: None, container: None }
    }
}

/// A container as its runtime describes it; all texts are safe for display.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Container {
    /// The runtime's id: 64 hexadecimal digits, or YARN's `container_…`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image by the name that it was started with.
    pub image: String,
    /// Labels, ascending by key.
    pub labels: BTreeMap<String, String>,
}

/// Most labels of a container that are carried.
pub const LABEL_LIMIT: usize = 32;

/// A task as it appears on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskInfo {
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// First seen, CLOCK_BOOTTIME ns.
    pub since_ns: u64,
    /// What it is.
    pub class: TaskClass,
}

/// One run of an agent on one boot of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// The kernel's boot.
    pub boot: BootId,
    /// The agent's start, ms since the Unix epoch.
    pub agent: crate::id::AgentEpoch,
}

/// Three ledgers of CPU time over the same interval, and how far they agree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Length of the interval, ns.
    pub interval_ns: u64,
    /// Sum over all tasks by cpu.stat, µs.
    pub kernel_us: u64,
    /// The same by the switch ledger, µs; absent without eBPF.
    pub switch_us: Option<u64>,
    /// Busy time of all CPUs by /proc/stat, µs (tick-sampled: approximate).
    pub proc_stat_us: u64,
    /// Largest difference between the iterator and the cpu.stat file among the tasks compared, µs.
    pub iterator_error_us: Option<u64>,
    /// What waits on the agent's disk at the end of the interval; absent when it does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spool: Option<Spooled>,
}

/// Rounds that an agent could not send yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spooled {
    /// How many.
    pub rounds: u64,
    /// What they take on its disk.
    pub bytes: u64,
}

impl Receipt {
    /// |kernel − switch| ÷ kernel, when both are known and the kernel's is not 0.
    #[must_use]
    pub fn error_ratio(&self) -> Option<f64> {
        let switch = self.switch_us?;
        (self.kernel_us > 0).then(|| self.kernel_us.abs_diff(switch) as f64 / self.kernel_us as f64)
    }
}
