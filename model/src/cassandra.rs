//! Cassandra: what an agent beside a node says of it and of the ring as that node sees it, and what it can be asked to do there.
//!
//! A node's view of itself is not the truth about its membership: who has left keeps a frozen view of the ring, and a refused decommission
//! calls a healthy node failed. What the others see is.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A node, and the ring as it sees it. Addresses are without ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CassandraReport {
    /// The cluster, as the agent's configuration names it.
    pub cluster: String,
    /// Its address in the ring.
    pub address: String,
    /// Its data centre.
    pub dc: String,
    /// Its rack.
    pub rack: String,
    /// Start of its process, ms since the Unix epoch.
    pub started_ms: u64,
    /// What it says that it does (`OperationMode`).
    pub mode: CassandraMode,
    /// The ring as it sees it.
    pub ring: RingView,
    /// Replicas of each keyspace in its data centre, as far as there are members for them; empty when not known yet.
    pub replication: BTreeMap<String, u32>,
    /// Compactions that wait.
    pub pending_compactions: u64,
    /// Streams between it and others that are not finished.
    pub streams: u32,
    /// Members for which it keeps hints.
    pub hints: u32,
    /// Reads that it coordinated.
    pub reads: RequestTimes,
    /// Writes that it coordinated.
    pub writes: RequestTimes,
    /// Messages dropped because they were too old, since its start.
    pub dropped: u64,
    /// Data on it, bytes.
    pub load_bytes: u64,
    /// Size of the file system of its data without what is kept for the superuser, bytes; `None` when it cannot be read.
    pub disk_bytes: Option<u64>,
    /// What is free there, bytes.
    pub disk_free_bytes: Option<u64>,
}

/// The ring as one of its members sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RingView {
    /// All that own tokens, those that join among them.
    pub members: Vec<String>,
    /// Those that answer, as far as it knows.
    pub live: Vec<String>,
    /// Those that do not; who left stays here for days.
    pub unreachable: Vec<String>,
    /// Those that join.
    pub joining: Vec<String>,
    /// Those that leave.
    pub leaving: Vec<String>,
    /// Those that move to other tokens.
    pub moving: Vec<String>,
    /// Members from which new nodes learn of the ring.
    pub seeds: Vec<String>,
    /// The schema's version.
    pub schema: String,
}

/// What a node says that it does (`StorageService.Mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CassandraMode {
    /// Starting.
    Starting,
    /// Full member.
    Normal,
    /// Receives what it will own.
    Joining,
    /// Sends what it owned.
    Leaving,
    /// It left.
    Decommissioned,
    /// A decommission was refused or did not come to its end; it may be a full member all the same.
    DecommissionFailed,
    /// Moves to other tokens.
    Moving,
    /// Writes out what it has and takes no more.
    Draining,
    /// It did.
    Drained,
}

impl CassandraMode {
    /// It is a full member by its own word: a refused decommission leaves one that calls itself failed.
    #[must_use]
    pub fn is_full(self) -> bool {
        matches!(self, Self::Normal | Self::DecommissionFailed)
    }
}

impl fmt::Display for CassandraMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Normal => "normal",
            Self::Joining => "joining",
            Self::Leaving => "leaving",
            Self::Decommissioned => "decommissioned",
            Self::DecommissionFailed => "decommission failed",
            Self::Moving => "moving",
            Self::Draining => "draining",
            Self::Drained => "drained",
        })
    }
}

/// Requests of one kind since the node's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RequestTimes {
    /// How many.
    pub count: u64,
    /// 99th percentile as the node keeps it (weighted to the last five minutes), µs; `None` before the first one.
    pub p99_us: Option<u64>,
}

/// What can be asked of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum CassandraStep {
    /// Leave the ring: hand over what it owns, without force.
    Decommission,
    /// Delete what it does not own any more, one compaction at a time.
    Cleanup,
}

impl fmt::Display for CassandraStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Decommission => "leave the ring",
            Self::Cleanup => "delete what it does not own any more",
        })
    }
}
