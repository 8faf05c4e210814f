//! An HDFS file system: nodes with blocks that are copied, counters that are late, a list that others break.

use std::collections::BTreeMap;

use autoscaler_core::event::ClusterReport;
use model::action::{OutcomeKind, Verb};
use model::hdfs::{AdminState, DataNode, HdfsReport, HdfsStep};
use model::id::TaskName;

use super::{Cluster, Dice};

const REPLICAS: usize = 2;
const CAPACITY: u64 = 1_000;

#[derive(Debug, Clone)]
struct Node {
    alive: bool,
    state: AdminState,
    to_copy: u64,
    since: u64,
    runs: bool,
    /// When others put it back in service.
    put_back: u64,
    /// It has its share of all blocks: one that has just come has none.
    filled: bool,
    /// A NameNode that was started anew has not heard of it before.
    back: u64,
}

impl Node {
    fn is_back(&self, now: u64) -> bool {
        now >= self.back
    }
}

pub(crate) struct Hdfs {
    nodes: BTreeMap<String, Node>,
    /// All data with its replicas.
    used: u64,
    level: f64,
    /// Blocks with too few replicas after a death, and since when that is counted.
    under: u64,
    /// Until then some blocks are corrupt.
    corrupt_until: u64,
    min: usize,
    started: u64,
    away_until: u64,
    /// When blocks were moved to one that came.
    pub(crate) balanced: Vec<u64>,
    wrong: Vec<String>,
}

impl Hdfs {
    pub(crate) fn new(min: usize) -> Self {
        Self {
            nodes: BTreeMap::new(),
            used: 600,
            level: 0.3,
            under: 0,
            corrupt_until: 0,
            min,
            started: 1,
            away_until: 0,
            balanced: Vec::new(),
            wrong: Vec::new(),
        }
    }

    fn serving(&self) -> usize {
        self.nodes.values().filter(|node| node.alive && node.state == AdminState::Normal).count()
    }

    fn share(&self) -> u64 {
        let holds = |node: &&Node| node.alive && node.filled && node.state != AdminState::Decommissioned;
        self.used / (self.nodes.values().filter(holds).count() as u64).max(1)
    }

    /// Blocks were copied or moved: everybody who serves has some.
    fn fill(&mut self) {
        for node in self.nodes.values_mut().filter(|node| node.alive) {
            node.filled = true;
        }
    }
}

impl Cluster for Hdfs {
    fn pass(&mut self, now: u64, dice: &mut Dice) -> Vec<String> {
        let wanted = (self.level * 2_000.0) as u64;
        self.used = if self.used < wanted { self.used + 2 } else { self.used.saturating_sub(2).max(100) };
        self.under = self.under.saturating_sub(3);
        let enough = self.serving() >= REPLICAS;
        let mut copied = false;
        for node in self.nodes.values_mut() {
            if node.runs && !node.alive && now >= node.since + 4 {
                node.alive = true;
            }
            if !node.runs && node.alive && now >= node.since + 25 {
                node.alive = false;
                if node.state != AdminState::Decommissioned {
                    self.under += 60;
                }
                (node.filled, copied) = (false, true);
            }
            // With too few to copy to, it stays as it is.
            if node.state == AdminState::Decommissioning && now > node.since + 1 && enough && dice.chance(0.9)
            {
                node.to_copy = node.to_copy.saturating_sub(4);
                if node.to_copy == 0 {
                    (node.state, node.filled, copied) = (AdminState::Decommissioned, false, true);
                }
            }
        }
        if copied || !self.nodes.values().any(|node| node.alive && node.filled) {
            self.fill();
        }
        Vec::new()
    }

    fn reports(&self, now: u64) -> Vec<(Option<String>, ClusterReport)> {
        if now < self.away_until {
            return Vec::new();
        }
        let share = self.share();
        let node = |(name, node): (&String, &Node)| {
            let holds = node.alive && node.filled && node.state != AdminState::Decommissioned;
            let used = if holds { share.min(CAPACITY) } else { 0 };
            // In the first second nothing is counted yet.
            let counted = node.state == AdminState::Decommissioning && now > node.since + 1;
            // Until it comes back to a NameNode that was started anew, its entry in the list is all that is known of it: it is dead, and out.
            let node = &match node.is_back(now) {
                true => node.clone(),
                false => Node { alive: false, state: AdminState::Decommissioned, ..node.clone() },
            };
            DataNode {
                name: name.clone(),
                address: name.clone(),
                alive: node.alive,
                state: node.state,
                capacity_bytes: CAPACITY,
                used_bytes: used,
                remaining_bytes: CAPACITY - used,
                blocks: used,
                to_copy: counted.then_some(node.to_copy),
                rack: "/default-rack".into(),
            }
        };
        let report = HdfsReport {
            cluster: "store".into(),
            started_ms: self.started,
            safe_mode: if self.nodes.values().all(|node| node.is_back(now) || !node.runs) {
                String::new()
            } else {
                "blocks are not reported yet".into()
            },
            missing_blocks: 0,
            corrupt_blocks: u64::from(now < self.corrupt_until),
            under_replicated_blocks: self.under,
            blocks: self.used,
            replication: Some(REPLICAS as u32),
            // Nights have few.
            transfers: Some(if now / 3_600 % 24 < 6 { 10 } else { 300 }),
            nodes: self
                .nodes
                .iter()
                .filter(|(_, n)| n.is_back(now) || n.state != AdminState::Normal)
                .map(node)
                .collect(),
        };
        vec![(None, ClusterReport::Hdfs(report))]
    }

    fn verb(&mut self, verb: &Verb, now: u64) -> (OutcomeKind, String) {
        let Verb::Hdfs { step, .. } = verb else { return (OutcomeKind::Refused, "not of HDFS".into()) };
        if now < self.away_until {
            return (OutcomeKind::Failed, "the NameNode does not answer".into());
        }
        let name = step.node().to_owned();
        let serving = self.serving();
        let drains = self
            .nodes
            .iter()
            .any(|(other, n)| n.alive && n.state == AdminState::Decommissioning && *other != name);
        let share = self.share();
        let Some(node) = self.nodes.get_mut(&name) else {
            return (
                if matches!(step, HdfsStep::Recommission { .. }) {
                    OutcomeKind::Already
                } else {
                    OutcomeKind::Refused
                },
                "no such node".into(),
            );
        };
        match step {
            HdfsStep::Balance { .. } => {
                self.fill();
                self.balanced.push(now);
                (OutcomeKind::Applied, String::new())
            }
            HdfsStep::Decommission { .. } => match node.state {
                AdminState::Decommissioning | AdminState::Decommissioned => {
                    (OutcomeKind::Already, String::new())
                }
                _ if !node.is_back(now) => (OutcomeKind::Refused, "the NameNode knows no such node".into()),
                _ => {
                    let others = serving - usize::from(node.alive);
                    // The agent asks the NameNode once more.
                    if others < REPLICAS {
                        return (OutcomeKind::Refused, format!("{others} others are in service"));
                    }
                    if drains {
                        self.wrong.push(format!("{now}: two nodes are decommissioned"));
                    }
                    (node.state, node.to_copy, node.since) = (AdminState::Decommissioning, share, now);
                    (OutcomeKind::Applied, String::new())
                }
            },
            HdfsStep::Recommission { .. } => {
                if node.state == AdminState::Normal {
                    return (OutcomeKind::Already, String::new());
                }
                node.state = AdminState::Normal;
                (OutcomeKind::Applied, String::new())
            }
        }
    }

    fn takes(&self, verb: &Verb, dice: &mut Dice) -> u64 {
        if matches!(verb, Verb::Hdfs { .. }) { dice.of(2, 12) } else { dice.of(0, 3) }
    }

    fn started(&mut self, member: &str, _task: &TaskName, now: u64) {
        let node = Node {
            alive: false,
            state: AdminState::Normal,
            to_copy: 0,
            since: now,
            runs: true,
            put_back: 0,
            filled: false,
            back: 0,
        };
        let known = self.nodes.entry(member.to_owned()).or_insert(node);
        (known.runs, known.since, known.back) = (true, now, 0);
    }

    fn ended(&mut self, member: &str, asked: bool, now: u64) {
        let Some(node) = self.nodes.get_mut(member) else { return };
        // What others did a moment ago cannot have been known.
        let needed = node.alive && node.state != AdminState::Decommissioned && now >= node.put_back + 15;
        if asked && needed {
            self.wrong.push(format!("{now}: {member} was stopped while it was {}", node.state));
        }
        (node.runs, node.since) = (false, now);
        if node.state == AdminState::Decommissioned {
            node.alive = false;
        }
    }

    const FAULTS: &'static [&'static str] = &[
        "a refresh puts everybody back into service",
        "blocks have too few replicas",
        "blocks are corrupt",
        "the NameNode is started anew",
    ];

    fn fault(&mut self, which: &str, now: u64, dice: &mut Dice) {
        match which {
            // It was of a list that cannot be read.
            "a refresh puts everybody back into service" => {
                for node in self.nodes.values_mut().filter(|node| node.state != AdminState::Normal) {
                    (node.state, node.put_back) = (AdminState::Normal, now);
                }
            }
            "blocks have too few replicas" => self.under += 30,
            // Who does not run then is not heard of again.
            "the NameNode is started anew" => {
                (self.started, self.away_until) = (now, now + dice.of(5, 30));
                for node in self.nodes.values_mut() {
                    node.back = if node.runs { self.away_until + dice.of(1, 40) } else { u64::MAX };
                }
            }
            "blocks are corrupt" => self.corrupt_until = now + 30,
            other => panic!("{other}"),
        }
    }

    fn load(&mut self, level: f64) {
        self.level = level;
    }

    fn members(&self) -> usize {
        self.serving()
    }

    fn wrong(&self) -> &[String] {
        &self.wrong
    }
}
