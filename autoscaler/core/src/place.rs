//! Where a new replica goes: among the nodes that may start it, the one that measured usage leaves the most room.
//!
//! Requests are no measure of room; what runs there is. A replica that was placed but not measured yet counts with the
//! mean use of its siblings, so that a step of four does not land on one node. A node on which a start failed lately is
//! taken only when there is no other.

use std::collections::BTreeMap;

use model::id::NodeId;
use model::node::Inventory;

use crate::event::{NodeDigest, Time};

/// How long after a failed start a node is avoided, ms: the order of a person's or a supervisor's repair.
pub const AVOID_MS: u64 = 300_000;

/// A node, as far as decisions need it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it has and can.
    pub inventory: Inventory,
    /// Whether it is there.
    pub link: Link,
    /// What all its tasks use.
    pub load: Option<NodeDigest>,
    /// The last failed start on it.
    pub failed_at: Option<Time>,
}

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Its stream is up.
    Up,
    /// It was lost.
    Down {
        /// Since when.
        since: Time,
    },
    /// The controller started, and it has not connected yet.
    Awaited {
        /// Since when.
        since: Time,
    },
}

impl Node {
    /// It may start tasks of this launcher now.
    #[must_use]
    pub fn can_start(&self, launcher: &str) -> bool {
        self.link == Link::Up
            && self.inventory.acts
            && self.inventory.launchers.iter().any(|listed| listed == launcher)
    }
}

/// The best node for one more replica; `placed` are replicas that are on their way up, by node, each counted with
/// `replica_cores`.
#[must_use]
pub fn choose(
    nodes: &BTreeMap<NodeId, Node>,
    launcher: &str,
    placed: &BTreeMap<NodeId, u32>,
    replica_cores: f64,
    now: Time,
) -> Option<NodeId> {
    let busy = |name: &NodeId, node: &Node| {
        let cpus = f64::from(node.inventory.cpus.max(1));
        let coming = f64::from(placed.get(name).copied().unwrap_or(0)) * replica_cores;
        let (cpu, memory) = node.load.as_ref().map_or((0.0, 0), |load| (load.cpu_cores, load.memory_bytes));
        let memory = memory as f64 / node.inventory.memory_bytes.max(1) as f64;
        ((cpu + coming) / cpus).max(memory)
    };
    nodes
        .iter()
        .filter(|(_, node)| node.can_start(launcher))
        .min_by(|(a_name, a), (b_name, b)| {
            let avoided = |node: &Node| node.failed_at.is_some_and(|at| now.since(at) < AVOID_MS);
            avoided(a).cmp(&avoided(b)).then_with(|| busy(a_name, a).total_cmp(&busy(b_name, b)))
        })
        .map(|(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::node::Tier;

    fn node(used: f64, launcher: &str, link: Link) -> Node {
        Node {
            inventory: Inventory {
                cpus: 4,
                memory_bytes: 8 << 30,
                kernel: String::new(),
                tier: Tier::B,
                features: vec![],
                unavailable: vec![],
                launchers: vec![launcher.to_owned()],
                acts: true,
            },
            link,
            load: Some(NodeDigest {
                node: NodeId::new("x").unwrap(),
                age_ms: Some(0),
                cpu_cores: used,
                memory_bytes: 1 << 30,
                tasks: 1,
            }),
            failed_at: None,
        }
    }

    #[test]
    fn it_takes_the_emptiest_node_that_may_and_spreads_a_step() {
        let name = |n: &str| NodeId::new(n).unwrap();
        let mut nodes = BTreeMap::from([
            (name("a"), node(0.1, "puma", Link::Down { since: Time(0) })),
            (name("b"), node(0.2, "java", Link::Up)),
            (name("c"), node(2.0, "puma", Link::Up)),
            (name("d"), node(1.5, "puma", Link::Up)),
        ]);
        let none = BTreeMap::new();
        assert_eq!(choose(&nodes, "puma", &none, 1.0, Time(0)), Some(name("d")));
        let placed = BTreeMap::from([(name("d"), 1)]);
        assert_eq!(choose(&nodes, "puma", &placed, 1.0, Time(0)), Some(name("c")), "one is coming to d");
        nodes.get_mut(&name("d")).unwrap().failed_at = Some(Time(5));
        assert_eq!(choose(&nodes, "puma", &none, 1.0, Time(9)), Some(name("c")), "a start failed on d");
        assert_eq!(choose(&nodes, "ruby", &none, 1.0, Time(9)), None);
    }
}
