//! YARN: what an agent beside the ResourceManager says of its cluster, and what it can be asked to do there.
//!
//! A node is known by its host name alone. Its port is part of its name at the ResourceManager while it is registered, and −1 after a
//! restart of the ResourceManager during its decommission.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Memory and virtual cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// MiB.
    pub memory_mib: u64,
    /// Virtual cores: what one is worth is the cluster's owner's to say.
    pub vcores: u32,
}

impl Resources {
    /// Whether `other` fits into this.
    #[must_use]
    pub fn holds(self, other: Self) -> bool {
        self.memory_mib >= other.memory_mib && self.vcores >= other.vcores
    }

    /// What is left of this without `other`, at least nothing.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self {
            memory_mib: self.memory_mib.saturating_sub(other.memory_mib),
            vcores: self.vcores.saturating_sub(other.vcores),
        }
    }
}

impl std::ops::Add for Resources {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
            vcores: self.vcores.saturating_add(other.vcores),
        }
    }
}

impl std::iter::Sum for Resources {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| sum + one)
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB and {} vcores", self.memory_mib, self.vcores)
    }
}

/// A cluster as its ResourceManager sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct YarnReport {
    /// The cluster, as the agent's configuration names it.
    pub cluster: String,
    /// Start of the ResourceManager, ms since the Unix epoch; another one means that drains lost their timeouts.
    pub started_ms: u64,
    /// Nodes have labels: the cluster's totals do not say where a container can go.
    pub labels: bool,
    /// Asked for and not given yet.
    pub pending: Resources,
    /// The same in containers.
    pub containers_pending: u32,
    /// Applications that run.
    pub apps_running: u32,
    /// Applications that wait to be admitted.
    pub apps_pending: u32,
    /// Hosts on the exclude list as it is on disk, with their timeouts in seconds; `None` = it is not configured or cannot be read.
    pub excluded: Option<Vec<Excluded>>,
    /// All nodes that it knows, by host.
    pub nodes: Vec<YarnNode>,
}

/// An entry of the exclude list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Excluded {
    /// The host.
    pub host: String,
    /// After so many seconds its containers are killed; `None` = what the refresh says.
    pub timeout_s: Option<u32>,
}

/// A NodeManager as its ResourceManager sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct YarnNode {
    /// Its host name.
    pub host: String,
    /// Its port; `None` when it is not registered.
    pub port: Option<u16>,
    /// How it is.
    pub state: YarnState,
    /// What it advertises. While it is decommissioning, what it uses.
    pub total: Resources,
    /// What its containers were given.
    pub used: Resources,
    /// Containers on it.
    pub containers: u32,
    /// ApplicationMasters on it, of applications that run.
    pub masters: u32,
    /// What it says of its health, when it is not healthy.
    pub health: String,
}

/// State of a NodeManager (Hadoop's `NodeState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum YarnState {
    /// Registered, not heard of yet.
    New,
    /// Takes containers.
    Running,
    /// Its own checks fail: it takes none.
    Unhealthy,
    /// Takes none; those that it has may end.
    Decommissioning,
    /// Out, by decommission.
    Decommissioned,
    /// Not heard of for the expiry interval.
    Lost,
    /// It was started again; it registers anew.
    Rebooted,
    /// It ended and said so.
    Shutdown,
}

impl fmt::Display for YarnState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::New => "new",
            Self::Running => "running",
            Self::Unhealthy => "unhealthy",
            Self::Decommissioning => "decommissioning",
            Self::Decommissioned => "decommissioned",
            Self::Lost => "lost",
            Self::Rebooted => "rebooted",
            Self::Shutdown => "shut down",
        })
    }
}

/// What can be asked of a cluster, one node at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum YarnStep {
    /// Let a node advertise other resources. Containers beyond them run on, for as long as they like.
    Advertise {
        /// The node's host.
        host: String,
        /// From now on; both above 0.
        resources: Resources,
    },
    /// Let a node take no more containers, and wait for those that it has.
    Exclude {
        /// Its host.
        host: String,
        /// After so many seconds they are killed; above 0.
        timeout_s: u32,
    },
    /// Let it take containers again, if it was not decommissioned meanwhile.
    Include {
        /// Its host.
        host: String,
    },
}

impl YarnStep {
    /// The node that it is about.
    #[must_use]
    pub fn host(&self) -> &str {
        match self {
            Self::Advertise { host, .. } | Self::Exclude { host, .. } | Self::Include { host } => host,
        }
    }
}

impl fmt::Display for YarnStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Advertise { host, resources } => write!(f, "{host} advertises {resources}"),
            Self::Exclude { host, timeout_s } => {
                write!(f, "{host} takes no more containers, {timeout_s} s for those it has")
            }
            Self::Include { host } => write!(f, "{host} takes containers again"),
        }
    }
}
