//! HDFS: what an agent beside the NameNode says of its cluster, and what it can be asked to do there.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A file system as its NameNode sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HdfsReport {
    /// The cluster, as the agent's configuration names it.
    pub cluster: String,
    /// Start of the NameNode, ms since the Unix epoch.
    pub started_ms: u64,
    /// Why nothing may be changed now, in the NameNode's words; empty = it is not in safe mode.
    pub safe_mode: String,
    /// Blocks without any replica.
    pub missing_blocks: u64,
    /// Blocks of which some replica is corrupt.
    pub corrupt_blocks: u64,
    /// Blocks with fewer replicas than they should have. In the first second of a decommission it does not count that one's blocks yet.
    pub under_replicated_blocks: u64,
    /// Blocks.
    pub blocks: u64,
    /// Replicas of a file for which nothing else is said (`dfs.replication`); `None` when it could not be read.
    pub replication: Option<u32>,
    /// DataNodes by name, those that are alive and those that are known to be dead.
    pub nodes: Vec<DataNode>,
}

/// A DataNode as its NameNode sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataNode {
    /// `HOST:TRANSFERPORT`, with the host name that it gave.
    pub name: String,
    /// `ADDRESS:TRANSFERPORT`, with the address that it came from: by this the NameNode's list of hosts knows it.
    pub address: String,
    /// It is heard of.
    pub alive: bool,
    /// Its administrative state.
    pub state: AdminState,
    /// Space that it may use, bytes.
    pub capacity_bytes: u64,
    /// Space that blocks take, bytes.
    pub used_bytes: u64,
    /// Space that is free for blocks, bytes.
    pub remaining_bytes: u64,
    /// Replicas on it.
    pub blocks: u64,
    /// While it is being decommissioned: of its blocks, those that still need a replica elsewhere.
    pub to_copy: Option<u64>,
    /// Its rack; empty when the NameNode does not say.
    pub rack: String,
}

/// Administrative state of a DataNode (Hadoop's `AdminStates`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminState {
    /// Takes and serves blocks.
    Normal,
    /// Its blocks are being copied elsewhere.
    Decommissioning,
    /// None of its replicas is needed.
    Decommissioned,
    /// Blocks that only it has are being copied.
    EnteringMaintenance,
    /// It may be away until its maintenance expires.
    InMaintenance,
}

impl fmt::Display for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Normal => "in service",
            Self::Decommissioning => "being decommissioned",
            Self::Decommissioned => "decommissioned",
            Self::EnteringMaintenance => "entering maintenance",
            Self::InMaintenance => "in maintenance",
        })
    }
}

/// What can be asked of a file system, one node at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum HdfsStep {
    /// Copy its blocks elsewhere, until none of its replicas is needed. There is no time limit.
    Decommission {
        /// `HOST:TRANSFERPORT`.
        node: String,
    },
    /// Take blocks again, whatever was asked of it before.
    Recommission {
        /// `HOST:TRANSFERPORT`.
        node: String,
    },
}

impl HdfsStep {
    /// The node that it is about.
    #[must_use]
    pub fn node(&self) -> &str {
        match self {
            Self::Decommission { node } | Self::Recommission { node } => node,
        }
    }
}

impl fmt::Display for HdfsStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decommission { node } => write!(f, "copy the blocks of {node} elsewhere"),
            Self::Recommission { node } => write!(f, "{node} takes blocks again"),
        }
    }
}
