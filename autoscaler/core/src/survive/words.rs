//! The answer in words.

use std::fmt::Write as _;

use model::id::NodeId;

use super::{Doubt, Known, Loss, Lost, Short, Verdict};
use crate::room::Room;

/// There is nothing that could be lost.
pub(super) const NOBODY: &str = "no node is connected";
/// Nobody said where a node stands.
pub(super) const NO_RACK: &str = "no node tells its rack: set `rack` in the agents' configuration";

/// So many names are told, and the number of the others.
const NAMED: usize = 3;

impl Loss {
    /// Why it is not survived, or cannot be told; `None` when it is.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        let said: Vec<String> = match self.verdict {
            Verdict::Yes => return None,
            Verdict::No => self.short.iter().map(Short::to_string).collect(),
            Verdict::Unknown => self.doubts.iter().map(Doubt::to_string).collect(),
        };
        Some(format!("{}: {}", self.lost, few(&said, "; ")))
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Lost::Node(node) => write!(f, "node {node}"),
            Lost::Rack(rack) => write!(f, "rack {rack}"),
        }
    }
}

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Short { workload, replicas, of, .. } = self;
        write!(f, "{replicas} of {of} replicas of {workload} would have no place")?;
        match &self.best {
            None => f.write_str(", no other node may start them"),
            Some((node, free)) => {
                write!(f, ", each takes {}, and {node} has {} left", of_known(self.given), amount(*free))
            }
        }
    }
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Doubt::NoSize { workload } => {
                write!(f, "the specification of {workload} does not give both CPU and memory (`size`)")
            }
            Doubt::Unmeasured { node } => write!(f, "it is not known what is free on {node}"),
            Doubt::Search => f.write_str("no way to place them was found, and none was excluded"),
        }
    }
}

/// Nodes whose rack nobody told.
pub(super) fn homeless(nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
    format!("the rack is not told of {}: set `rack` in the agents' configuration", few(&names, ", "))
}

fn few(said: &[String], between: &str) -> String {
    let mut text = said.iter().take(NAMED).cloned().collect::<Vec<_>>().join(between);
    if let Some(more) = said.len().checked_sub(NAMED).filter(|more| *more > 0) {
        let _ = write!(text, "{between}and {more} more");
    }
    text
}

fn of_known((cpu, memory): Known) -> String {
    match (cpu, memory) {
        (Some(cpu_millis), Some(memory_bytes)) => amount(Room { cpu_millis, memory_bytes }),
        _ => "an amount that is not told".to_owned(),
    }
}

fn amount(room: Room) -> String {
    let cores = room.cpu_millis as f64 / 1e3;
    let gib = room.memory_bytes as f64 / (1_u64 << 30) as f64;
    format!("{cores:.2} cores and {gib:.2} GiB")
}
