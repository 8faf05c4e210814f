//! What an owner asks for: one workload, its bounds, its target, how far Trimtab may go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{LauncherName, WorkloadName};
use crate::units::{Bytes, MilliCpu, Millis, Share};

mod cluster;

pub use cluster::{Advertise, ClusterSpec, Offer, Slots};

/// A workload as specified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WorkloadSpec {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: WorkloadKind,
    /// Bounds that always hold.
    pub replicas: Replicas,
    /// What must hold.
    pub target: Target,
    /// Vertical sizing.
    #[serde(default)]
    pub size: SizePolicy,
    /// How far Trimtab may go by itself.
    #[serde(default)]
    pub mode: Mode,
    /// Which policy decides on replicas.
    #[serde(default)]
    pub policy: Policy,
    /// How its tasks stand to others on their node; absent = as its kind says, [`WorkloadSpec::class`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// What a `rails` workload needs beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rails: Option<RailsSpec>,
    /// What a `service` workload needs beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSpec>,
    /// What a `yarn` workload needs beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yarn: Option<Box<ClusterSpec>>,
    /// What an `hdfs` workload needs beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hdfs: Option<Box<ClusterSpec>>,
    /// What a `cassandra` workload needs beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cassandra: Option<Box<ClusterSpec>>,
    /// How careful to be.
    #[serde(default)]
    pub behavior: Behavior,
}

impl WorkloadSpec {
    /// The class in force: what its owner says; else somebody waits for Rails and Cassandra, YARN's containers take what those
    /// leave, and of a service nothing is known.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class.unwrap_or(match self.kind {
            WorkloadKind::Rails | WorkloadKind::Cassandra => Class::LatencyCritical,
            WorkloadKind::Service | WorkloadKind::Hdfs => Class::Standard,
            WorkloadKind::Yarn => Class::BestEffort,
        })
    }

    /// The cluster, when its kind is one.
    #[must_use]
    pub fn cluster(&self) -> Option<&ClusterSpec> {
        match self.kind {
            WorkloadKind::Rails | WorkloadKind::Service => None,
            WorkloadKind::Yarn => self.yarn.as_deref(),
            WorkloadKind::Hdfs => self.hdfs.as_deref(),
            WorkloadKind::Cassandra => self.cassandra.as_deref(),
        }
    }
}

/// How a workload's tasks stand to others on their node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Somebody waits for its answers: best-effort work gives way to it.
    LatencyCritical,
    /// Neither.
    #[default]
    Standard,
    /// It takes what is left, may be slowed, frozen or, when memory runs out, ended.
    BestEffort,
}

impl Class {
    /// Its word in specifications, in `trimtab-agent qos` and in metric labels.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Class::LatencyCritical => "latency-critical",
            Class::Standard => "standard",
            Class::BestEffort => "best-effort",
        }
    }

    /// True for the class that nothing is said of.
    #[must_use]
    pub fn is_standard(&self) -> bool {
        *self == Class::Standard
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// The kinds of workload that can be scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WorkloadKind {
    /// Puma clusters behind HAProxy.
    Rails,
    /// Replicas of a launcher, without a balancer.
    Service,
    /// NodeManagers of a YARN cluster.
    Yarn,
    /// DataNodes of an HDFS file system.
    Hdfs,
    /// Nodes of a Cassandra cluster.
    Cassandra,
}

/// How many replicas, at least and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Replicas {
    /// At least; ≥ 1.
    pub min: u32,
    /// At most; ≥ `min`.
    pub max: u32,
}

/// What must hold; at least one is given.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Target {
    /// 95 % of requests wait at most this long for a free thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_delay_p95: Option<Millis>,
    /// Mean CPU use of a replica, as a share of what it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Share>,
    /// YARN: containers wait at most this long for a place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_wait: Option<Millis>,
    /// HDFS, Cassandra: disks are at most so full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Share>,
    /// Cassandra: 99 % of requests, as their coordinators see them, are answered within this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_p99: Option<Millis>,
}

/// How far Trimtab may go by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Measure only.
    #[default]
    Observe,
    /// Say what would be done.
    Recommend,
    /// Do it.
    Auto,
}

/// Which policy decides on replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Trimtab's own: forecast at the time when a replica would be ready, learned capacity.
    #[default]
    Trimtab,
    /// The Horizontal Pod Autoscaler's rule, exactly.
    Hpa,
}

/// Vertical sizing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SizePolicy {
    /// Say or do.
    #[serde(default)]
    pub mode: SizeMode,
    /// What one replica is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<MilliCpu>,
    /// Memory of one replica (memory.max).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// CPU of a replica until it is healthy for the first time; ≥ `cpu`. Absent = `cpu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_cpu: Option<MilliCpu>,
    /// History that a recommendation needs.
    #[serde(default = "two_hours")]
    pub after: Millis,
    /// How long a new size is watched, on one replica and then on all, before it counts as good.
    #[serde(default = "minute")]
    pub verify: Millis,
}

impl Default for SizePolicy {
    fn default() -> Self {
        Self {
            mode: SizeMode::default(),
            cpu: None,
            memory: None,
            startup_cpu: None,
            after: two_hours(),
            verify: minute(),
        }
    }
}

fn two_hours() -> Millis {
    Millis(7_200_000)
}

fn minute() -> Millis {
    Millis(60_000)
}

/// Whether sizes are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SizeMode {
    /// Say what a size should be.
    #[default]
    Recommend,
    /// Set it.
    Apply,
}

/// A Rails application: Puma clusters behind HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RailsSpec {
    /// Where requests come from.
    pub balancer: Balancer,
    /// What starts one replica.
    pub launcher: LauncherName,
    /// Worker processes of one replica.
    #[serde(default = "one")]
    pub workers: u32,
    /// Threads of one worker.
    #[serde(default = "one")]
    pub threads: u32,
    /// Ports for replicas: a task listens on `ports.from + n`, its control server on `ports.from + span + n`.
    #[serde(default)]
    pub ports: PortRange,
    /// The database's limit on connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseLimit>,
    /// Further parameters of the launcher.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
}

/// Replicas of a launcher without a balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// What starts one replica.
    pub launcher: LauncherName,
    /// Its parameters.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Ports, when the launcher declares `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortRange>,
}

/// Where requests come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Balancer {
    /// HAProxy's runtime socket on the host of the agent that has it in its configuration.
    pub haproxy: String,
    /// The backend.
    pub backend: String,
}

/// A range of ports for the replicas of one workload on one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// First port for requests.
    pub from: u16,
    /// How many; the control ports follow.
    pub span: u16,
}

impl Default for PortRange {
    fn default() -> Self {
        Self { from: 9300, span: 100 }
    }
}

/// A ceiling that many replicas share: Σ (workers × pool) + others ≤ connections − reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DatabaseLimit {
    /// The database's `max_connections`.
    pub max_connections: u32,
    /// Connections kept for the superuser and for other clients.
    #[serde(default)]
    pub reserved: u32,
    /// Connections of one worker (ActiveRecord's `pool`).
    pub pool: u32,
}

/// How careful to be. The defaults are start values; each can be set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Behavior {
    /// The need must be there this long before it grows.
    pub grow_after: Millis,
    /// All must have been low this long before it shrinks.
    pub shrink_after: Millis,
    /// After a change nothing shrinks for this long; ≥ 5 × `grow_cooldown`.
    pub shrink_cooldown: Millis,
    /// After growing it grows again only after this long.
    pub grow_cooldown: Millis,
    /// Most replicas added at once.
    pub step_up: u32,
    /// Most replicas removed at once.
    pub step_down: u32,
    /// Predicted use of the survivors must stay under this for a replica to be removed.
    pub survivors_below: Share,
    /// A drain may take this long before the replica is stopped all the same.
    pub drain_deadline: Millis,
    /// Time between SIGTERM and SIGKILL.
    pub stop_grace: Millis,
}

impl Default for Behavior {
    /// Start values of the design's Rails rules; `HPA` has its own.
    fn default() -> Self {
        Self {
            grow_after: Millis(30_000),
            shrink_after: Millis(600_000),
            shrink_cooldown: Millis(300_000),
            grow_cooldown: Millis(30_000),
            step_up: 4,
            step_down: 1,
            survivors_below: Share(0.7),
            drain_deadline: Millis(60_000),
            stop_grace: Millis(30_000),
        }
    }
}

impl Behavior {
    /// The start values of a kind (workloads.md): YARN's target is a wait already, and its jobs come and go; data takes hours to move.
    #[must_use]
    pub fn of(kind: WorkloadKind) -> Self {
        const MINUTE: u64 = 60_000;
        const HOUR: u64 = 60 * MINUTE;
        let slow = |grow_after: u64, cooldown: u64, survivors_below: f64| Self {
            grow_after: Millis(grow_after),
            shrink_after: Millis(24 * HOUR),
            grow_cooldown: Millis(cooldown),
            shrink_cooldown: Millis(24 * HOUR),
            step_up: 1,
            step_down: 1,
            survivors_below: Share(survivors_below),
            ..Self::default()
        };
        match kind {
            WorkloadKind::Rails | WorkloadKind::Service => Self::default(),
            WorkloadKind::Yarn => Self {
                grow_after: Millis(0),
                shrink_after: Millis(10 * MINUTE),
                grow_cooldown: Millis(2 * MINUTE),
                shrink_cooldown: Millis(10 * MINUTE),
                step_up: 2,
                survivors_below: Share(0.9),
                ..Self::default()
            },
            WorkloadKind::Hdfs => slow(10 * MINUTE, HOUR, 0.7),
            WorkloadKind::Cassandra => slow(30 * MINUTE, HOUR, 0.4),
        }
    }
}

fn one() -> u32 {
    1
}

/// A named workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Its name.
    pub name: WorkloadName,
    /// What is asked.
    pub spec: WorkloadSpec,
}
