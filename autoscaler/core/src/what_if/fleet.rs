//! How many nodes it takes: of those that are there, after a loss of some, or of another type.
//!
//! What a workload is given at its peak is put onto nodes in whole replicas ([`super::pack`]); everything else counts with what it uses
//! now. That is more than measured use would need, and is what limits promise. A loss takes the nodes with most room: if all fits without
//! those, it fits without any others of that number, as far as room goes. Money is only what somebody gave a price for.

use model::id::{NodeId, WorkloadName};
use model::workload::WorkloadSpec;

use super::pack::{self, Pieces};
use crate::room::Room;

/// A node that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Which.
    pub node: NodeId,
    /// All that it has.
    pub has: Room,
    /// What everything uses there that is not asked about; `None` when it is not known: then nobody knows its room.
    pub others: Option<Room>,
    /// What may be started there, by its owner's list; empty: nothing.
    pub launchers: Vec<String>,
}

/// Replicas of one workload at their most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Whose.
    pub workload: WorkloadName,
    /// What starts them.
    pub launcher: String,
    /// What one is given; without memory where nothing is known of it.
    pub size: Room,
    /// Its memory is neither given nor recorded.
    pub memory_unknown: bool,
    /// How many.
    pub count: u32,
}

/// A type of node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeType {
    /// What one has.
    pub has: Room,
    /// Price of an hour, in whatever currency.
    pub price: Option<f64>,
}

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced {
    /// Replicas of this workload; `None`: what is not asked about, on so many nodes.
    pub workload: Option<WorkloadName>,
    /// How many.
    pub count: u32,
}

/// What it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    /// Given to all replicas.
    pub given: Room,
    /// What everything else uses now, as far as it is known.
    pub others: Room,
    /// Nodes that are connected, may start something, and whose room is known.
    pub nodes: u32,
    /// Those of them that replicas are put on.
    pub used: u32,
    /// What does not fit onto them.
    pub unplaced: Vec<Unplaced>,
    /// After the loss; absent when none is asked about.
    pub loss: Option<Loss>,
    /// Of the type that is asked about.
    pub of_type: Option<OfType>,
    /// Workloads whose memory is not known: they are packed by CPU alone.
    pub memory_unknown: Vec<WorkloadName>,
}

/// The fleet without some of its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Which were taken away: those with most room.
    pub lost: Vec<NodeId>,
    /// What does not fit onto the others. What else ran on lost nodes is lost with them.
    pub unplaced: Vec<Unplaced>,
}

/// Nodes of another type, for all that there is.
#[derive(Debug, Clone, PartialEq)]
pub struct OfType {
    /// How many, with those that may be lost.
    pub nodes: u32,
    /// No packing does with fewer, without those that may be lost.
    pub least: u32,
    /// Price of an hour of all of them; absent without a price.
    pub price: Option<f64>,
    /// What is larger than one of them.
    pub unplaced: Vec<Unplaced>,
}

/// What starts a workload's replicas.
#[must_use]
pub fn launcher(spec: &WorkloadSpec) -> String {
    let rails = spec.rails.as_ref().map(|rails| rails.launcher.as_str());
    rails.or(spec.service.as_ref().map(|s| s.launcher.as_str())).unwrap_or_default().to_owned()
}

/// What these replicas take of these nodes, when `lose` of them may be lost.
#[must_use]
pub fn need(asked: &[Asked], present: &[Present], lose: u32, of_type: Option<NodeType>) -> Need {
    let pieces: Vec<Pieces<&Asked>> =
        asked.iter().map(|of| Pieces { of, size: of.size, count: of.count }).collect();
    let usable: Vec<&Present> =
        present.iter().filter(|node| node.others.is_some() && !node.launchers.is_empty()).collect();
    let (used, unplaced) = onto(&pieces, &usable);
    let sum = |rooms: &mut dyn Iterator<Item = (Room, u64)>| {
        rooms.fold(Room::default(), |sum, (room, times)| sum.and(room.times(times)))
    };
    Need {
        given: sum(&mut asked.iter().map(|of| (of.size, u64::from(of.count)))),
        others: sum(&mut present.iter().filter_map(|node| Some((node.others?, 1)))),
        nodes: u32::try_from(usable.len()).unwrap_or(u32::MAX),
        used,
        unplaced,
        loss: (lose > 0).then(|| loss(&pieces, usable, lose)),
        of_type: of_type.map(|of_type| types(&pieces, present, lose, of_type)),
        memory_unknown: asked.iter().filter(|of| of.memory_unknown).map(|of| of.workload.clone()).collect(),
    }
}

/// What nothing else takes.
fn free(node: &Present) -> Room {
    let others = node.others.unwrap_or(node.has);
    Room {
        cpu_millis: node.has.cpu_millis.saturating_sub(others.cpu_millis),
        memory_bytes: node.has.memory_bytes.saturating_sub(others.memory_bytes),
    }
}

/// Nodes that are needed, and what does not fit.
fn onto(pieces: &[Pieces<&Asked>], nodes: &[&Present]) -> (u32, Vec<Unplaced>) {
    let rooms: Vec<Room> = nodes.iter().map(|node| free(node)).collect();
    let packed = pack::onto(pieces, &rooms, |of, node| nodes[node].launchers.contains(&of.launcher));
    (u32::try_from(packed.used.len()).unwrap_or(u32::MAX), over(pieces, &packed.unplaced))
}

fn over(pieces: &[Pieces<&Asked>], unplaced: &[u32]) -> Vec<Unplaced> {
    let some = pieces.iter().zip(unplaced).filter(|(_, count)| **count > 0);
    some.map(|(kind, count)| Unplaced { workload: Some(kind.of.workload.clone()), count: *count }).collect()
}

fn loss(pieces: &[Pieces<&Asked>], mut nodes: Vec<&Present>, lose: u32) -> Loss {
    let room = |node: &Present| {
        let free = free(node);
        (free.cpu_millis, free.memory_bytes)
    };
    nodes.sort_by(|a, b| room(b).cmp(&room(a)).then_with(|| a.node.cmp(&b.node)));
    let left = nodes.split_off(nodes.len().min(usize::try_from(lose).unwrap_or(usize::MAX)));
    let lost = nodes.into_iter().map(|node| node.node.clone()).collect();
    Loss { lost, unplaced: onto(pieces, &left).1 }
}

fn types(pieces: &[Pieces<&Asked>], present: &[Present], lose: u32, of_type: NodeType) -> OfType {
    let mut all: Vec<Pieces<Option<&WorkloadName>>> = pieces
        .iter()
        .map(|kind| Pieces { of: Some(&kind.of.workload), size: kind.size, count: kind.count })
        .collect();
    // What nobody asks about moves as it is: that of each node in one piece.
    all.extend(present.iter().filter_map(|node| {
        let size = node.others.filter(|others| *others != Room::default())?;
        Some(Pieces { of: None, size, count: 1 })
    }));
    let (nodes, unplaced) = pack::count(&all, of_type.has);
    let nodes = nodes.saturating_add(if nodes > 0 { lose } else { 0 });
    let mut over: Vec<Unplaced> = Vec::new();
    for (kind, count) in all.iter().zip(unplaced).filter(|(_, count)| *count > 0) {
        match over.last_mut() {
            Some(last) if kind.of.is_none() && last.workload.is_none() => last.count += count,
            _ => over.push(Unplaced { workload: kind.of.cloned(), count }),
        }
    }
    OfType {
        nodes,
        least: pack::least(&all, of_type.has),
        price: of_type.price.map(|price| price * f64::from(nodes)),
        unplaced: over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn room(cores: u64, gib: u64) -> Room {
        Room { cpu_millis: cores * 1_000, memory_bytes: gib * GIB }
    }

    fn node(name: &str, has: Room, others: Option<Room>) -> Present {
        Present { node: NodeId::new(name).unwrap(), has, others, launchers: vec!["worker".to_owned()] }
    }

    fn jobs(count: u32) -> Asked {
        Asked {
            workload: WorkloadName::new("jobs").unwrap(),
            launcher: "worker".to_owned(),
            size: room(2, 4),
            memory_unknown: false,
            count,
        }
    }

    #[test]
    fn a_loss_takes_the_nodes_with_most_room_and_says_what_does_not_fit() {
        let nodes = [
            node("small", room(4, 8), Some(Room::default())),
            node("large", room(8, 16), Some(Room::default())),
            node("busy", room(8, 16), Some(room(7, 8))),
            node("dark", room(64, 64), None),
        ];
        let fits = need(&[jobs(6)], &nodes, 0, None);
        assert_eq!((fits.nodes, fits.used, fits.unplaced.len(), fits.loss.is_none()), (3, 2, 0, true));
        let lost = need(&[jobs(6)], &nodes, 1, None).loss.unwrap();
        assert_eq!(lost.lost, [NodeId::new("large").unwrap()]);
        assert_eq!(lost.unplaced, [Unplaced { workload: Some("jobs".parse().unwrap()), count: 4 }]);
        let all = need(&[jobs(1)], &nodes, 9, None).loss.unwrap();
        assert_eq!((all.lost.len(), all.unplaced.len()), (3, 1));
    }

    #[test]
    fn what_may_not_be_started_there_does_not_fit_there() {
        let nodes =
            [Present { launchers: vec!["puma".to_owned()], ..node("a", room(9, 9), Some(room(0, 0))) }];
        let need = need(&[jobs(1)], &nodes, 0, None);
        assert_eq!((need.nodes, need.used, need.unplaced.len()), (1, 0, 1));
    }

    #[test]
    fn another_type_holds_everything_and_costs_only_when_a_price_is_given() {
        let nodes = [node("a", room(8, 32), Some(room(1, 2))), node("b", room(8, 32), Some(room(6, 2)))];
        let of = |price| Some(NodeType { has: room(4, 16), price });
        let got = need(&[jobs(3)], &nodes, 1, of(Some(0.5))).of_type.unwrap();
        // Three replicas and the others of a: 7 cores on two nodes; the others of b are larger than one. And one may be lost.
        assert_eq!((got.nodes, got.price), (3, Some(1.5)));
        assert_eq!(got.unplaced, [Unplaced { workload: None, count: 1 }]);
        assert_eq!(got.least, 4, "13 cores on nodes of four, whatever is too large");
        assert_eq!(need(&[jobs(3)], &nodes, 0, of(None)).of_type.unwrap().price, None);
        assert_eq!(need(&[], &[], 3, of(Some(1.0))).of_type.unwrap().nodes, 0);
    }
}
