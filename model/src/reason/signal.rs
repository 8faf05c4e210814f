//! What is measured and can ask for more or for less, and of what.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that is measured and can ask for more or for less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// 95th percentile of the time that requests wait for a free thread.
    QueueDelay,
    /// Requests waiting in the balancer now.
    BackendQueue,
    /// Requests that come and wait, against what the replicas carry within the target.
    #[serde(alias = "busy_threads")]
    Demand,
    /// CPU used ÷ CPU given, mean over the replicas.
    Cpu,
    /// Load expected when a replica that is started now would be ready.
    Forecast,
    /// How many replicas must at least be there.
    Bounds,
    /// The balancer's own report.
    Balancer,
    /// Samples of the replicas.
    Samples,
    /// Containers that run and that wait, in what they ask for.
    Containers,
    /// What a cluster says of its members.
    Members,
    /// Space in use on disks.
    Disk,
    /// 99th percentile of the time that requests take, as their coordinators see it.
    Latency,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::QueueDelay => "queue delay",
            Signal::BackendQueue => "requests queued at the balancer",
            Signal::Demand => "demand",
            Signal::Cpu => "CPU use",
            Signal::Forecast => "forecast load",
            Signal::Bounds => "bounds",
            Signal::Balancer => "the balancer's report",
            Signal::Samples => "samples of the replicas",
            Signal::Containers => "containers that run or wait",
            Signal::Members => "what the cluster says of its members",
            Signal::Disk => "space in use on disks",
            Signal::Latency => "request latency",
        })
    }
}

/// What a task is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// CPU, counted in thousandths of a core.
    Cpu,
    /// Memory, counted in bytes.
    Memory,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resource::Cpu => "CPU",
            Resource::Memory => "memory",
        })
    }
}
