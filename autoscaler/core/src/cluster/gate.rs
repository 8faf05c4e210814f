//! What must hold before a change is asked for. Decided here, before: clusters' own guards are weaker, and some punish the question.
//!
//! Each function answers with everything that stands in the way, not with the first of it, so that a person sees it all at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::cassandra::CassandraReport;
use model::hdfs::{AdminState, DataNode, HdfsReport};
use model::yarn::{Resources, YarnReport, YarnState};
use serde::{Deserialize, Serialize};

use super::cassandra::Place;

/// Free space that others need for what a leaving node has: so much more than that (workloads.md: free × 0.8 ≥ used).
pub const SPACE: f64 = 1.25;
/// The others' disks are at most so full afterwards, if nothing else is said (workloads.md: disk after ≤ 50 %): a compaction may need as much again.
pub const DISK_AFTER: f64 = 0.5;
/// A ring in which a node has more compactions waiting than this is not at rest (workloads.md).
pub const COMPACTIONS: u64 = 20;
/// A ring keeps at least so many seeds.
pub const SEEDS: usize = 2;

/// Why a change may not begin now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "gate", rename_all = "snake_case")]
pub enum Gate {
    /// There is no such member.
    Unknown {
        /// Which.
        member: String,
    },
    /// Nodes have labels: totals do not say where a container can go.
    Labels,
    /// A member is not as it should be.
    NotWell {
        /// Which.
        member: String,
        /// How it is.
        state: String,
    },
    /// An ApplicationMaster runs on it.
    Master {
        /// Which node.
        member: String,
    },
    /// The others do not have room for what runs on it.
    NoRoom {
        /// What runs on it.
        used: Resources,
        /// What the others have left.
        left: Resources,
    },
    /// So few would be left.
    TooFew {
        /// Members after it.
        left: usize,
        /// At least.
        least: usize,
        /// Of what.
        of: String,
    },
    /// Its exclude list cannot be read.
    NoList,
    /// The NameNode is in safe mode.
    SafeMode {
        /// Its words.
        why: String,
    },
    /// Blocks are missing, corrupt or have too few replicas.
    Blocks {
        /// Without any replica.
        missing: u64,
        /// With a corrupt one.
        corrupt: u64,
        /// With too few.
        under_replicated: u64,
    },
    /// The others do not have the space for what it has.
    NoSpace {
        /// What it has, bytes.
        used: u64,
        /// What the others have free, bytes.
        free: u64,
    },
    /// Receivers' disks would be too full.
    DiskAfter {
        /// Share in use afterwards.
        share: f64,
    },
    /// Nobody would be left in a rack.
    LastOfRack {
        /// Which.
        rack: String,
    },
    /// Somebody else comes, goes or moves.
    Moves {
        /// Who.
        member: String,
        /// What it does.
        how: String,
    },
    /// A member does not answer.
    Down {
        /// Which.
        member: String,
        /// Who says so.
        seen_by: String,
    },
    /// No agent reports a member: what it sees is not known.
    NotSeen {
        /// Which.
        member: String,
    },
    /// Members do not agree on who belongs to the ring, or on the schema.
    Disagree {
        /// Two of them.
        members: (String, String),
        /// About what.
        about: String,
    },
    /// Streams, hints or compactions are not finished.
    Busy {
        /// Where.
        member: String,
        /// With what.
        with: String,
    },
    /// It is not known how often data is replicated.
    NoReplication,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: &u64| *bytes as f64 / f64::from(1 << 30);
        match self {
            Self::Unknown { member } => write!(f, "{member} is no member"),
            Self::Labels => f.write_str(
                "nodes have labels: totals do not say where a container can go, so none is drained",
            ),
            Self::NotWell { member, state } => write!(f, "{member} is {state}"),
            Self::Master { member } => write!(f, "an ApplicationMaster runs on {member}"),
            Self::NoRoom { used, left } => {
                write!(f, "its containers have {used}, and the others have {left} left")
            }
            Self::TooFew { left, least, of } => {
                write!(f, "{left} would be left, and {of} needs {least}")
            }
            Self::NoList => f.write_str("the exclude list is not configured or cannot be read"),
            Self::SafeMode { why } => write!(f, "the NameNode is in safe mode: {why}"),
            Self::Blocks { missing, corrupt, under_replicated } => write!(
                f,
                "{missing} blocks are missing, {corrupt} corrupt, {under_replicated} have too few replicas"
            ),
            Self::NoSpace { used, free } => {
                write!(f, "it has {:.1} GiB, and the others have {:.1} GiB free", gib(used), gib(free))
            }
            Self::DiskAfter { share } => {
                write!(f, "disks would be {:.0} % full afterwards", share * 100.0)
            }
            Self::LastOfRack { rack } => write!(f, "nobody would be left in rack {rack}"),
            Self::Moves { member, how } => write!(f, "{member} {how}"),
            Self::Down { member, seen_by } => write!(f, "{member} does not answer {seen_by}"),
            Self::NotSeen { member } => write!(f, "no agent reports {member}"),
            Self::Disagree { members: (one, other), about } => {
                write!(f, "{one} and {other} do not agree on {about}")
            }
            Self::Busy { member, with } => write!(f, "{member} has {with}"),
            Self::NoReplication => f.write_str("it is not known how often data is replicated"),
        }
    }
}

/// What keeps a NodeManager from leaving. `least` = nodes that must stay, `margin` = what must be left free after it.
#[must_use]
pub fn yarn_leave(report: &YarnReport, host: &str, least: usize, margin: Resources) -> Vec<Gate> {
    let Some(node) = report.nodes.iter().find(|node| node.host == host) else {
        return vec![Gate::Unknown { member: host.to_owned() }];
    };
    let mut gates = Vec::new();
    if report.excluded.is_none() {
        gates.push(Gate::NoList);
    }
    if report.labels {
        gates.push(Gate::Labels);
    }
    if node.state != YarnState::Running {
        gates.push(Gate::NotWell { member: host.to_owned(), state: node.state.to_string() });
    }
    let others = || report.nodes.iter().filter(|other| other.host != host);
    for other in others() {
        match other.state {
            YarnState::Lost | YarnState::Unhealthy | YarnState::Rebooted => {
                gates.push(Gate::NotWell { member: other.host.clone(), state: other.state.to_string() });
            }
            YarnState::Decommissioning => {
                gates.push(Gate::Moves { member: other.host.clone(), how: "is being drained".to_owned() });
            }
            _ => {}
        }
    }
    if node.masters > 0 {
        gates.push(Gate::Master { member: host.to_owned() });
    }
    let running: Vec<_> = others().filter(|other| other.state == YarnState::Running).collect();
    if running.len() < least {
        gates.push(Gate::TooFew { left: running.len(), least, of: "the cluster".to_owned() });
    }
    let left: Resources = running.iter().map(|other| other.total.without(other.used)).sum();
    if !left.holds(node.used + margin) {
        gates.push(Gate::NoRoom { used: node.used, left });
    }
    gates
}

/// What keeps a DataNode from leaving. `least` = nodes that must stay.
#[must_use]
pub fn hdfs_leave(report: &HdfsReport, name: &str, least: usize) -> Vec<Gate> {
    let Some(node) = report.nodes.iter().find(|node| node.name == name) else {
        return vec![Gate::Unknown { member: name.to_owned() }];
    };
    let mut gates = hdfs_well(report);
    if node.state != AdminState::Normal || !node.alive {
        let state = if node.alive { node.state.to_string() } else { "dead".to_owned() };
        gates.push(Gate::NotWell { member: name.to_owned(), state });
    }
    let others = || report.nodes.iter().filter(|other| other.name != name);
    gates.extend(others().filter(|other| other.alive).filter_map(|other| {
        let how = match other.state {
            AdminState::Decommissioning => "is being decommissioned",
            AdminState::EnteringMaintenance => "enters maintenance",
            _ => return None,
        };
        Some(Gate::Moves { member: other.name.clone(), how: how.to_owned() })
    }));
    let serving: Vec<&DataNode> =
        others().filter(|other| other.alive && other.state == AdminState::Normal).collect();
    match report.replication {
        None => gates.push(Gate::NoReplication),
        Some(replicas) if serving.len() < replicas as usize => {
            let (left, least) = (serving.len(), replicas as usize);
            gates.push(Gate::TooFew { left, least, of: "a block".to_owned() });
        }
        Some(_) => {}
    }
    if serving.len() < least {
        gates.push(Gate::TooFew { left: serving.len(), least, of: "the file system".to_owned() });
    }
    let free = serving.iter().map(|other| other.remaining_bytes).fold(0, u64::saturating_add);
    if (free as f64) < node.used_bytes as f64 * SPACE {
        gates.push(Gate::NoSpace { used: node.used_bytes, free });
    }
    let racks: BTreeSet<&str> = serving.iter().map(|other| other.rack.as_str()).collect();
    let all: BTreeSet<&str> = report.nodes.iter().filter(|n| n.alive).map(|n| n.rack.as_str()).collect();
    if all.len() > 1 && !racks.contains(node.rack.as_str()) {
        gates.push(Gate::LastOfRack { rack: node.rack.clone() });
    }
    gates
}

fn hdfs_well(report: &HdfsReport) -> Vec<Gate> {
    let mut gates = Vec::new();
    if !report.safe_mode.is_empty() {
        gates.push(Gate::SafeMode { why: report.safe_mode.clone() });
    }
    let (missing, corrupt) = (report.missing_blocks, report.corrupt_blocks);
    let under_replicated = report.under_replicated_blocks;
    if [missing, corrupt, under_replicated].iter().any(|blocks| *blocks > 0) {
        gates.push(Gate::Blocks { missing, corrupt, under_replicated });
    }
    gates
}

/// A ring by the reports of its members: address to report. Stale reports are not in it.
pub type Ring = BTreeMap<String, CassandraReport>;

/// Where a node is, as all other live members see it.
#[must_use]
pub fn place(ring: &Ring, member: &str) -> Place {
    let has = |list: &[String]| list.iter().any(|one| one == member);
    // Who has left, or has not joined, keeps a view of its own.
    let views = ring.values().filter(|view| view.address != member && view.mode.is_full());
    let mut seen = BTreeSet::new();
    for view in views {
        let ring = &view.ring;
        seen.insert(if has(&ring.joining) {
            Place::Joining
        } else if has(&ring.members) && has(&ring.unreachable) {
            Place::Down
        } else if has(&ring.leaving) {
            Place::Leaving
        } else if has(&ring.members) {
            Place::Normal
        } else {
            Place::Out
        });
    }
    match seen.len() {
        1 => seen.first().copied().unwrap_or(Place::Unclear),
        0 => Place::Unclear,
        // One that still sees it joining or leaving has not heard the end of it; one that cannot reach it may be alone with that.
        _ if seen.contains(&Place::Joining) => Place::Joining,
        _ if seen.contains(&Place::Leaving) => Place::Leaving,
        _ => Place::Unclear,
    }
}

/// What keeps the ring from being at rest.
#[must_use]
pub fn ring_at_rest(ring: &Ring) -> Vec<Gate> {
    let mut gates = Vec::new();
    let members: BTreeSet<&String> = ring.values().flat_map(|view| &view.ring.members).collect();
    for member in &members {
        if !ring.contains_key(*member) {
            gates.push(Gate::NotSeen { member: (*member).clone() });
        }
    }
    let mut views = ring.values().filter(|view| members.contains(&view.address));
    let Some(first) = views.next() else { return vec![Gate::NoReplication] };
    for view in ring.values().filter(|view| members.contains(&view.address)) {
        let pair = || (first.address.clone(), view.address.clone());
        if view.ring.members != first.ring.members {
            gates.push(Gate::Disagree { members: pair(), about: "who belongs to the ring".to_owned() });
        }
        if view.ring.schema != first.ring.schema {
            gates.push(Gate::Disagree { members: pair(), about: "the schema".to_owned() });
        }
        let moving =
            [("joins", &view.ring.joining), ("leaves", &view.ring.leaving), ("moves", &view.ring.moving)];
        for (how, who) in moving {
            gates.extend(who.iter().map(|m| Gate::Moves { member: m.clone(), how: how.to_owned() }));
        }
        // Who has left stays among the unreachable for days.
        let down = view.ring.unreachable.iter().filter(|one| members.contains(one));
        gates.extend(down.map(|m| Gate::Down { member: m.clone(), seen_by: view.address.clone() }));
        let busy = [
            (u64::from(view.streams), 0, "streams"),
            (u64::from(view.hints), 0, "members it keeps hints for"),
            (view.pending_compactions, COMPACTIONS, "waiting compactions"),
        ];
        for (_, _, with) in busy.iter().filter(|(now, most, _)| now > most) {
            gates.push(Gate::Busy { member: view.address.clone(), with: (*with).to_owned() });
        }
        if !view.mode.is_full() {
            gates.push(Gate::NotWell { member: view.address.clone(), state: view.mode.to_string() });
        }
    }
    gates.dedup();
    gates
}

/// What keeps a node from leaving the ring. `least` = members that must stay in its data centre, `disk_after` = share of the others' disks that
/// may be in use then, 0..=1.
#[must_use]
pub fn ring_leave(ring: &Ring, member: &str, least: usize, disk_after: f64) -> Vec<Gate> {
    let Some(node) = ring.get(member) else { return vec![Gate::NotSeen { member: member.to_owned() }] };
    let mut gates = ring_at_rest(ring);
    let here: Vec<&CassandraReport> =
        ring.values().filter(|view| view.dc == node.dc && view.address != member).collect();
    if here.len() < least {
        gates.push(Gate::TooFew { left: here.len(), least, of: "the cluster".to_owned() });
    }
    let most = ring.values().filter(|view| view.dc == node.dc).flat_map(|view| &view.replication);
    match most.max_by_key(|(_, replicas)| **replicas) {
        None => gates.push(Gate::NoReplication),
        Some((keyspace, replicas)) if here.len() < *replicas as usize => {
            let (left, least) = (here.len(), *replicas as usize);
            gates.push(Gate::TooFew { left, least, of: format!("keyspace {keyspace}") });
        }
        Some(_) => {}
    }
    if !here.iter().any(|view| view.rack == node.rack) && !here.is_empty() {
        gates.push(Gate::LastOfRack { rack: node.rack.clone() });
    }
    let seeds: BTreeSet<&String> =
        ring.values().flat_map(|view| &view.ring.seeds).filter(|seed| *seed != member).collect();
    let among = seeds.iter().filter(|seed| ring.contains_key(**seed)).count();
    if among < SEEDS.min(here.len()) {
        gates.push(Gate::TooFew {
            left: among,
            least: SEEDS.min(here.len()),
            of: "joining (seeds)".to_owned(),
        });
    }
    gates.extend(receivers(node, &here, disk_after));
    gates
}

/// Its data must fit onto the others, wherever it goes.
fn receivers(node: &CassandraReport, others: &[&CassandraReport], disk_after: f64) -> Vec<Gate> {
    let mut gates = Vec::new();
    // What one did not say is not known of all.
    let sum = |of: fn(&CassandraReport) -> Option<u64>| {
        others.iter().try_fold(0_u64, |sum, view| Some(sum.saturating_add(of(view)?)))
    };
    let (Some(free), Some(all)) = (sum(|view| view.disk_free_bytes), sum(|view| view.disk_bytes)) else {
        return vec![Gate::NoSpace { used: node.load_bytes, free: 0 }];
    };
    if (free as f64) < node.load_bytes as f64 * SPACE {
        gates.push(Gate::NoSpace { used: node.load_bytes, free });
    }
    let used = all.saturating_sub(free).saturating_add(node.load_bytes);
    let share = used as f64 / (all as f64).max(1.0);
    if share > disk_after {
        gates.push(Gate::DiskAfter { share });
    }
    gates
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
