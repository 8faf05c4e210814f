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
    /// Transfers under way on all DataNodes (`TotalLoad`); `None` = not said.
    pub transfers: Option<u64>,
    /// DataNodes by name, those that are alive and those that are known to be dead.
    pub nodes: Vec<DataNode>,
}

/// Disks are as full as each other when none differs from their mean by more: the threshold of Hadoop's balancer where nothing else is said.
pub const EVEN: f64 = 0.1;

impl HdfsReport {
    /// How far the fullest or the emptiest node in service is from their mean, as a share of a disk, from 0 to 1; `None` when one of them has
    /// not said yet what it has, or there is none.
    #[must_use]
    pub fn unevenness(&self) -> Option<f64> {
        let serving = || self.nodes.iter().filter(|node| node.alive && node.state == AdminState::Normal);
        let (used, capacity) = serving().fold((0.0, 0.0), |(used, capacity), node| {
            (used + node.used_bytes as f64, capacity + node.capacity_bytes as f64)
        });
        let known = capacity > 0.0 && serving().all(|node| node.capacity_bytes > 0);
        let off =
            |node: &DataNode| (node.used_bytes as f64 / node.capacity_bytes as f64 - used / capacity).abs();
        known.then(|| serving().map(off).fold(0.0, f64::max))
    }

    /// Nothing need be moved to any node: all are about as full ([`EVEN`]), as far as all have said what they have.
    #[must_use]
    pub fn is_even(&self) -> bool {
        self.unevenness().is_some_and(|off| off <= EVEN)
    }
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
    /// Move blocks between nodes until all disks are about as full ([`EVEN`]): one that has just come is empty. It may take hours, and may be
    /// ended at any time.
    Balance {
        /// `HOST:TRANSFERPORT` of the one that came.
        node: String,
    },
}

impl HdfsStep {
    /// The node that it is about.
    #[must_use]
    pub fn node(&self) -> &str {
        match self {
            Self::Decommission { node } | Self::Recommission { node } | Self::Balance { node } => node,
        }
    }
}

impl fmt::Display for HdfsStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decommission { node } => write!(f, "copy the blocks of {node} elsewhere"),
            Self::Recommission { node } => write!(f, "{node} takes blocks again"),
            Self::Balance { node } => write!(f, "blocks are moved until {node} is as full as others"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(nodes: &[(u64, u64, AdminState)]) -> HdfsReport {
        let node = |(n, &(used, capacity, state)): (usize, &(u64, u64, AdminState))| DataNode {
            name: format!("d{n}:9866"),
            address: format!("10.0.0.{n}:9866"),
            alive: true,
            state,
            capacity_bytes: capacity,
            used_bytes: used,
            remaining_bytes: capacity - used,
            blocks: used,
            to_copy: None,
            rack: String::new(),
        };
        HdfsReport {
            cluster: "store".into(),
            started_ms: 1,
            safe_mode: String::new(),
            missing_blocks: 0,
            corrupt_blocks: 0,
            under_replicated_blocks: 0,
            blocks: 1,
            replication: Some(2),
            transfers: None,
            nodes: nodes.iter().enumerate().map(node).collect(),
        }
    }

    #[test]
    fn nodes_in_service_are_compared_with_their_mean_by_their_shares() {
        use AdminState::{Decommissioned, Normal};
        let off = |nodes: &[_]| report(nodes).unevenness();
        assert_eq!(off(&[(40, 100, Normal), (400, 1_000, Normal)]), Some(0.0), "disks of different sizes");
        assert_eq!(off(&[(50, 100, Normal), (0, 100, Normal)]), Some(0.25));
        assert_eq!(off(&[(50, 100, Normal), (0, 100, Decommissioned)]), Some(0.0));
        assert_eq!(
            off(&[(50, 100, Normal), (0, 0, Normal)]),
            None,
            "it has just come, and has said nothing yet"
        );
        assert_eq!(off(&[]), None);
    }
}
