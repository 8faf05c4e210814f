//! The closed set of what an agent can be asked to do, and how it answers.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cassandra::CassandraStep;
use crate::hdfs::HdfsStep;
use crate::id::{CommandId, ControllerEpoch, Generation, LauncherName, TaskName, WorkloadName};
use crate::workload::Class;
use crate::yarn::YarnStep;

/// How much a task may use. `None` leaves a limit as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Size {
    /// Share under contention, cgroup v2 scale 1..=10000 (100 = default).
    pub cpu_weight: Option<u32>,
    /// Quota in thousandths of a core.
    pub cpu_max_millis: Option<u32>,
    /// Above this memory is reclaimed (memory.high), bytes.
    pub memory_high_bytes: Option<u64>,
    /// Above this the task is killed (memory.max), bytes.
    pub memory_max_bytes: Option<u64>,
}

/// One thing to do. Each is idempotent and can be read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Verb {
    /// Start a task by a launcher that the node's owner lists.
    Start {
        /// Which launcher.
        launcher: LauncherName,
        /// Its declared parameters.
        parameters: BTreeMap<String, String>,
        /// Limits from the start.
        size: Size,
        /// CPU quota until the task is healthy, thousandths of a core; `None` = that of `size` from the start.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        startup_cpu_millis: Option<u32>,
        /// How it stands to other tasks of the node.
        #[serde(default, skip_serializing_if = "Class::is_standard")]
        class: Class,
    },
    /// Stop a task: SIGTERM, then SIGKILL after the grace.
    Stop {
        /// Time between the two signals, ms.
        grace_ms: u32,
    },
    /// Change limits.
    Resize {
        /// The new limits.
        size: Size,
    },
    /// Change how it stands to other tasks of the node.
    Classify {
        /// From now on.
        class: Class,
    },
    /// Stop scheduling the task's processes.
    Freeze,
    /// Schedule them again.
    Thaw,
    /// Ask the kernel to take memory back from the task.
    Reclaim {
        /// How much, bytes.
        bytes: u64,
    },
    /// A step on a balancer.
    Balancer {
        /// The backend.
        backend: String,
        /// Which step.
        step: BalancerStep,
    },
    /// One more or one less worker process of a Puma cluster (TTIN, TTOU).
    PumaWorkers {
        /// +1 or −1.
        by: i8,
    },
    /// A step on a YARN cluster.
    Yarn {
        /// Which, as the agent's configuration names it.
        cluster: String,
        /// Which step.
        step: YarnStep,
    },
    /// A step on an HDFS file system.
    Hdfs {
        /// Which, as the agent's configuration names it.
        cluster: String,
        /// Which step.
        step: HdfsStep,
    },
    /// A step on a Cassandra node.
    Cassandra {
        /// The cluster, as the agent's configuration names it.
        cluster: String,
        /// The node's address in the ring.
        node: String,
        /// Which step.
        step: CassandraStep,
    },
}

/// A step on a balancer, about the server that is named like the command's task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum BalancerStep {
    /// Add the server in maintenance, with checks, and let it take requests.
    Add {
        /// Host of the server, an IP address.
        host: String,
        /// Its port for requests.
        port: u16,
        /// The port that checks use (Puma's control port).
        check_port: u16,
        /// Most requests at once: workers × threads.
        limit: u32,
    },
    /// Let it take requests again (aborts a drain).
    Ready,
    /// Take no new requests.
    Drain,
    /// Take it out.
    Maintenance,
    /// Remove it; only in maintenance and without connections.
    Remove,
}

/// One order with its fence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Its identity: an answer names it.
    pub id: CommandId,
    /// Which controller orders it. A lower one than seen before is refused.
    pub epoch: ControllerEpoch,
    /// The workload's generation. A lower one, or other content at the same one, is refused.
    pub generation: Generation,
    /// Whose.
    pub workload: WorkloadName,
    /// Which task.
    pub task: TaskName,
    /// What.
    pub verb: Verb,
    /// Not after this, ms since the Unix epoch on the controller's clock (the agent corrects by the measured offset).
    pub deadline_ms: u64,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// Done now, and read back.
    Applied,
    /// It was so already.
    Already,
    /// Not allowed or not sensible; nothing was changed.
    Refused,
    /// Tried, and it did not succeed; the reason says what is left behind.
    Failed,
}

/// An agent's answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which command.
    pub command: CommandId,
    /// At which generation.
    pub generation: Generation,
    /// About which task.
    pub task: TaskName,
    /// How it ended.
    pub kind: OutcomeKind,
    /// Why, in words that a person can act on.
    pub why: String,
    /// What was read back, by name (limits in force, the server's state, the address of a started task).
    pub read_back: BTreeMap<String, String>,
}

/// A change of a task that no command asked for, or the end of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskEvent {
    /// Which task.
    pub task: TaskName,
    /// Whose.
    pub workload: WorkloadName,
    /// Its cgroup.
    pub cgroup: crate::id::CgroupId,
    /// What happened.
    pub kind: TaskEventKind,
    /// When, CLOCK_BOOTTIME ns of the node.
    pub at_ns: u64,
}

/// What a task's own limits did to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Strain {
    /// Processes that the kernel killed because there was no memory below the task's limit.
    pub oom_kills: u64,
    /// Processes and threads that it could not make because of its limit of them (events, not attempts, on some kernels).
    pub forks_refused: u64,
}

impl Strain {
    /// What came on top of `before`; `None` when nothing did. A count that fell is a new cgroup's: it counts whole.
    #[must_use]
    pub fn since(self, before: Self) -> Option<Self> {
        let gain = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        let gained = Self {
            oom_kills: gain(self.oom_kills, before.oom_kills),
            forks_refused: gain(self.forks_refused, before.forks_refused),
        };
        (gained != Self::default()).then_some(gained)
    }
}

impl fmt::Display for Strain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = match self.oom_kills {
            0 => None,
            1 => Some("the kernel killed a process of it for lack of memory below its limit".to_owned()),
            n => Some(format!("the kernel killed {n} processes of it for lack of memory below its limit")),
        };
        let forks = (self.forks_refused > 0)
            .then(|| "it could not make more processes or threads: its limit is reached".to_owned());
        f.write_str(&memory.into_iter().chain(forks).collect::<Vec<_>>().join("; "))
    }
}

/// A task that waits for its node's disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crowded {
    /// Share of the last seconds in which some thread of it waited for a disk, parts per million.
    pub stalled_ppm: u32,
    /// The task that moved at least half of what our tasks on the node moved; `None` when none did.
    pub by: Option<TaskName>,
    /// What that one moved, bytes per second.
    pub bytes_per_s: u64,
    /// Its share of what our tasks moved, parts per million.
    pub share_ppm: u32,
}

impl fmt::Display for Crowded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |ppm: u32| (f64::from(ppm) / 10_000.0).round();
        write!(f, "it waited for a disk {} % of the time; ", percent(self.stalled_ppm))?;
        match &self.by {
            Some(by) => {
                let (megabytes, share) = (self.bytes_per_s as f64 / 1e6, percent(self.share_ppm));
                write!(f, "{by} moves {share} % of what tasks move here, {megabytes:.1} MB/s")
            }
            None => f.write_str("no single task of Trimtab's moves most of what is moved there"),
        }
    }
}

/// What happened to a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TaskEventKind {
    /// Its first process runs.
    Started {
        /// Process id on the node.
        pid: u32,
    },
    /// It was found running after the agent's start.
    Adopted {
        /// Process id on the node.
        pid: u32,
    },
    /// Its health check passes (or, without a check, it has run for a second).
    Healthy,
    /// Its health check fails.
    Unhealthy {
        /// What the check saw.
        why: String,
    },
    /// Its own limits hurt it.
    Strained {
        /// What happened since the last word of it.
        strain: Strain,
    },
    /// It waits for the node's disks.
    Crowded {
        /// How much, and who moves the bytes.
        crowded: Crowded,
    },
    /// It ended, and these are its final totals.
    Ended {
        /// Exit status, when it exited.
        status: Option<i32>,
        /// Signal, when it was killed.
        signal: Option<i32>,
        /// CPU total by the kernel's ledger after the last process was gone, µs.
        cpu_total_us: Option<u64>,
        /// True when a Stop command asked for it.
        asked: bool,
    },
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verb::Start { launcher, .. } => write!(f, "start by launcher {launcher}"),
            Verb::Stop { grace_ms } => write!(f, "stop within {grace_ms} ms"),
            Verb::Resize { .. } => f.write_str("resize"),
            Verb::Classify { class } => write!(f, "make {class}"),
            Verb::Freeze => f.write_str("freeze"),
            Verb::Thaw => f.write_str("thaw"),
            Verb::Reclaim { bytes } => write!(f, "reclaim {bytes} bytes"),
            Verb::Balancer { backend, step } => {
                let step = match step {
                    BalancerStep::Add { .. } => "add",
                    BalancerStep::Ready => "ready",
                    BalancerStep::Drain => "drain",
                    BalancerStep::Maintenance => "maintenance",
                    BalancerStep::Remove => "remove",
                };
                write!(f, "balancer {backend}: {step}")
            }
            Verb::PumaWorkers { by } => write!(f, "puma workers {by:+}"),
            Verb::Yarn { cluster, step } => write!(f, "yarn {cluster}: {step}"),
            Verb::Hdfs { cluster, step } => write!(f, "hdfs {cluster}: {step}"),
            Verb::Cassandra { cluster, node, step } => write!(f, "cassandra {cluster}: {node}: {step}"),
        }
    }
}
