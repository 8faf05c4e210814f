//! Where a new replica goes: among the nodes that may start it and have room, the one with the fewest of its siblings, and
//! of those the one that measured usage leaves the most room.
//!
//! Requests are no measure of room; what runs there is. Siblings come before room, because the loss of a node should take
//! few of them, and idle ones use nothing by which they could be told apart. A replica that was placed but not measured yet
//! counts with the mean use of its siblings. A node on which a start failed lately is taken only when there is no other.

use std::collections::BTreeMap;

use model::id::NodeId;
use model::node::Inventory;

use crate::event::{NodeDigest, Time};

/// How long after a failed start a node is avoided, ms: the order of a person's or a supervisor's repair.
pub const AVOID_MS: u64 = 300_000;

/// A node that would be busier than this, share of its CPUs or memory, is taken only when all are: above it waiting grows faster
/// than the load (in a queue with one server the wait is 4 times the service time there).
pub const ROOM: f64 = 0.8;

/// A node, as far as decisions need it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it has and can; `None` until it has connected once.
    pub inventory: Option<Inventory>,
    /// Whether it is there.
    pub link: Link,
    /// What all its tasks use.
    pub load: Option<NodeDigest>,
    /// The last failed start on it.
    pub failed_at: Option<Time>,
    /// An operator wants it empty: why.
    pub drained: Option<String>,
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
        let may = |inventory: &Inventory| {
            inventory.acts && inventory.launchers.iter().any(|listed| listed == launcher)
        };
        self.link == Link::Up && self.drained.is_none() && self.inventory.as_ref().is_some_and(may)
    }
}

/// The best node for one more replica; `siblings` are the workload's replicas by node, and of them `placed` are on their way up,
/// each counted with `replica_cores`.
#[must_use]
pub fn choose(
    nodes: &BTreeMap<NodeId, Node>,
    launcher: &str,
    siblings: &BTreeMap<NodeId, u32>,
    placed: &BTreeMap<NodeId, u32>,
    replica_cores: f64,
    now: Time,
) -> Option<NodeId> {
    let coming = |name: &NodeId| f64::from(placed.get(name).copied().unwrap_or(0)) * replica_cores;
    // Without a measurement nobody knows how full it is: infinitely, so that any node that was measured comes first.
    let busy = |name: &NodeId, node: &Node| {
        let known = node.inventory.as_ref().zip(node.load.as_ref());
        let busy = known.and_then(|(has, load)| {
            let cpu = (load.cpu_cores? + coming(name)) / f64::from(has.cpus.max(1));
            // Where no memory is counted, CPU alone decides.
            let memory = load.memory_bytes.map(|bytes| bytes as f64 / has.memory_bytes.max(1) as f64);
            Some(memory.map_or(cpu, |memory| cpu.max(memory)))
        });
        busy.unwrap_or(f64::INFINITY)
    };
    nodes
        .iter()
        .filter(|(_, node)| node.can_start(launcher))
        .min_by(|(a_name, a), (b_name, b)| {
            let avoided = |node: &Node| node.failed_at.is_some_and(|at| now.since(at) < AVOID_MS);
            let crowded = |name: &NodeId, node: &Node| busy(name, node) > ROOM;
            let beside = |name: &NodeId| siblings.get(name).copied().unwrap_or(0);
            avoided(a)
                .cmp(&avoided(b))
                .then_with(|| crowded(a_name, a).cmp(&crowded(b_name, b)))
                .then_with(|| beside(a_name).cmp(&beside(b_name)))
                .then_with(|| busy(a_name, a).total_cmp(&busy(b_name, b)))
                .then_with(|| coming(a_name).total_cmp(&coming(b_name)))
        })
        .map(|(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::node::Tier;

    fn node(used: f64, launcher: &str, link: Link) -> Node {
        Node {
            inventory: Some(Inventory {
                launchers: vec![launcher.to_owned()],
                acts: true,
                ..Inventory::new(4, 8 << 30, Tier::B)
            }),
            link,
            load: Some(NodeDigest {
                node: NodeId::new("x").unwrap(),
                age_ms: Some(0),
                cpu_cores: Some(used),
                memory_bytes: Some(1 << 30),
                tasks: 1,
            }),
            failed_at: None,
            drained: None,
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
        assert_eq!(choose(&nodes, "puma", &none, &none, 1.0, Time(0)), Some(name("d")));
        let placed = BTreeMap::from([(name("d"), 1)]);
        assert_eq!(
            choose(&nodes, "puma", &placed, &placed, 1.0, Time(0)),
            Some(name("c")),
            "one is coming to d"
        );
        nodes.get_mut(&name("d")).unwrap().failed_at = Some(Time(5));
        assert_eq!(
            choose(&nodes, "puma", &none, &none, 1.0, Time(9)),
            Some(name("c")),
            "a start failed on d"
        );
        assert_eq!(choose(&nodes, "ruby", &none, &none, 1.0, Time(9)), None);
        nodes.get_mut(&name("c")).unwrap().drained = Some(String::new());
        assert_eq!(choose(&nodes, "puma", &none, &none, 1.0, Time(9)), Some(name("d")), "c is to be empty");
    }

    /// Replicas that use next to nothing went to the emptiest node, all of them.
    #[test]
    fn siblings_are_spread_while_there_is_room() {
        let name = |n: &str| NodeId::new(n).unwrap();
        let nodes = BTreeMap::from([
            (name("a"), node(0.1, "puma", Link::Up)),
            (name("b"), node(0.4, "puma", Link::Up)),
            (name("c"), node(3.6, "puma", Link::Up)),
        ]);
        let mut siblings = BTreeMap::new();
        for expected in ["a", "b", "a", "b"] {
            let chosen = choose(&nodes, "puma", &siblings, &siblings, 0.0, Time(0)).unwrap();
            assert_eq!(chosen, name(expected), "c has no room");
            *siblings.entry(chosen).or_default() += 1;
        }
    }

    #[test]
    fn a_node_that_nothing_is_known_of_is_no_empty_one() {
        let name = |n: &str| NodeId::new(n).unwrap();
        let unmeasured = Node { load: None, ..node(0.0, "puma", Link::Up) };
        let unknown = Node { inventory: None, ..unmeasured.clone() };
        let mut nodes = BTreeMap::from([
            (name("a"), unknown),
            (name("b"), unmeasured.clone()),
            (name("c"), unmeasured),
            (name("d"), node(3.9, "puma", Link::Up)),
        ]);
        let none = BTreeMap::new();
        assert_eq!(choose(&nodes, "puma", &none, &none, 1.0, Time(0)), Some(name("d")), "d was measured");
        nodes.remove(&name("d"));
        let placed = BTreeMap::from([(name("b"), 1)]);
        assert_eq!(
            choose(&nodes, "puma", &placed, &placed, 1.0, Time(0)),
            Some(name("c")),
            "one is coming to b"
        );
    }
}
