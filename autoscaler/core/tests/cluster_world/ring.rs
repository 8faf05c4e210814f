//! A ring of Cassandra nodes: views that lag, a decommission that cannot be stopped, directories that must not be used twice.

use std::collections::{BTreeMap, BTreeSet};

use autoscaler_core::event::ClusterReport;
use model::action::{OutcomeKind, Verb};
use model::cassandra::{CassandraMode, CassandraReport, CassandraStep, RequestTimes, RingView};
use model::id::TaskName;

use super::{Cluster, Dice};

const REPLICAS: usize = 2;
const DISK: u64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Joining { until: u64 },
    Normal,
    Leaving { until: u64 },
    Left,
}

#[derive(Debug, Clone)]
struct Node {
    is: Is,
    runs: bool,
    /// When it answers after a start.
    up_at: u64,
    task: String,
    busy_until: u64,
    failed: bool,
}

pub(crate) struct Ring {
    nodes: BTreeMap<String, Node>,
    /// Directories of nodes that left or never joined.
    spent: BTreeSet<String>,
    used: u64,
    level: f64,
    /// Requests of each node since the beginning: 300 a second, and 10 from midnight to six.
    requests: u64,
    /// When a node was told to delete what it does not own any more.
    pub(crate) cleaned: Vec<u64>,
    min: usize,
    wrong: Vec<String>,
}

impl Ring {
    /// With so many nodes that others started.
    pub(crate) fn new(found: u32, min: usize) -> Self {
        let node = |n: u32| Node {
            is: Is::Normal,
            runs: true,
            up_at: 0,
            task: format!("found-{n}"),
            busy_until: 0,
            failed: false,
        };
        // Beyond the slots.
        let nodes = (1..=found).map(|n| (format!("10.0.0.{}", 100 + n), node(n))).collect();
        Self {
            nodes,
            spent: BTreeSet::new(),
            used: 600,
            level: 0.3,
            requests: 0,
            cleaned: Vec::new(),
            min,
            wrong: Vec::new(),
        }
    }

    fn moving(&self, but: &str) -> Option<&String> {
        let moves = |is| matches!(is, Is::Joining { .. } | Is::Leaving { .. });
        self.nodes.iter().find(|(name, node)| moves(node.is) && *name != but).map(|(name, _)| name)
    }

    fn live(&self) -> usize {
        self.nodes.values().filter(|node| node.runs && matches!(node.is, Is::Normal)).count()
    }
}

impl Cluster for Ring {
    fn pass(&mut self, now: u64, dice: &mut Dice) -> Vec<String> {
        self.requests += if now / 3_600 % 24 < 6 { 10 } else { 300 };
        let wanted = (self.level * 2_000.0) as u64;
        self.used = if self.used < wanted { self.used + 1 } else { self.used.saturating_sub(1).max(100) };
        for node in self.nodes.values_mut().filter(|node| node.runs) {
            match node.is {
                Is::Joining { until } if until <= now => {
                    (node.is, node.busy_until) = (Is::Normal, now + dice.of(0, 40));
                }
                Is::Leaving { until } if until <= now => {
                    node.is = Is::Left;
                    self.spent.insert(node.task.clone());
                }
                _ => {}
            }
        }
        Vec::new()
    }

    fn reports(&self, now: u64) -> Vec<(Option<String>, ClusterReport)> {
        let named = |which: &dyn Fn(&Node) -> bool| -> Vec<String> {
            self.nodes.iter().filter(|(_, node)| which(node)).map(|(name, _)| name.clone()).collect()
        };
        let joins = |node: &Node| matches!(node.is, Is::Joining { .. });
        let leaves = |node: &Node| matches!(node.is, Is::Leaving { .. });
        let has_tokens = |node: &Node| !matches!(node.is, Is::Left);
        let answers = |node: &Node| node.runs && node.up_at <= now;
        let ring = RingView {
            members: named(&|node| has_tokens(node)),
            live: named(&|node| has_tokens(node) && answers(node)),
            unreachable: named(&|node| !answers(node) || node.is == Is::Left),
            joining: named(&|node| joins(node)),
            leaving: named(&|node| leaves(node)),
            moving: Vec::new(),
            seeds: named(&|node| node.task.starts_with("found")),
            schema: "s".into(),
        };
        let members = ring.members.len() as u64;
        let share = (self.used / members.max(1)).min(DISK);
        let report = |(address, node): (&String, &Node)| {
            let mode = match node.is {
                Is::Joining { .. } => CassandraMode::Joining,
                Is::Normal if node.failed => CassandraMode::DecommissionFailed,
                Is::Normal => CassandraMode::Normal,
                Is::Leaving { .. } => CassandraMode::Leaving,
                Is::Left => CassandraMode::Decommissioned,
            };
            let report = CassandraReport {
                cluster: "ring".into(),
                address: address.clone(),
                dc: "dc1".into(),
                rack: "rack1".into(),
                started_ms: 1,
                mode,
                ring: ring.clone(),
                replication: BTreeMap::from([("shop".to_owned(), REPLICAS as u32)]),
                pending_compactions: if node.busy_until > now { 50 } else { 0 },
                streams: 0,
                hints: 0,
                reads: RequestTimes { count: self.requests, p99_us: None },
                writes: RequestTimes::default(),
                dropped: 0,
                load_bytes: share,
                disk_bytes: Some(DISK),
                disk_free_bytes: Some(DISK - share),
            };
            (Some(address.clone()), ClusterReport::Cassandra(Box::new(report)))
        };
        self.nodes.iter().filter(|(_, node)| answers(node)).map(report).collect()
    }

    fn verb(&mut self, verb: &Verb, now: u64) -> (OutcomeKind, String) {
        let Verb::Cassandra { node: name, step, .. } = verb else {
            return (OutcomeKind::Refused, "not of Cassandra".into());
        };
        let moves = self.moving(name).cloned();
        let left =
            self.live() - usize::from(self.nodes.get(name).is_some_and(|n| n.runs && n.is == Is::Normal));
        let min = self.min;
        let Some(node) = self.nodes.get_mut(name).filter(|node| node.runs && node.up_at <= now) else {
            return (OutcomeKind::Failed, "it does not answer".into());
        };
        match step {
            CassandraStep::Decommission => match node.is {
                Is::Leaving { .. } | Is::Left => (OutcomeKind::Already, String::new()),
                Is::Joining { .. } => (OutcomeKind::Refused, "it joins".into()),
                Is::Normal => {
                    // The agent asks its node once more.
                    if let Some(other) = moves {
                        return (OutcomeKind::Refused, format!("{other} moves"));
                    }
                    if left < REPLICAS {
                        return (OutcomeKind::Refused, format!("{left} would be left"));
                    }
                    if left < min {
                        self.wrong.push(format!("{now}: {left} live members would be left, {min} must be"));
                    }
                    node.is = Is::Leaving { until: now + 15 + self.used / 20 };
                    (OutcomeKind::Applied, String::new())
                }
            },
            CassandraStep::Cleanup => match moves {
                Some(other) => (OutcomeKind::Refused, format!("{other} moves")),
                None => {
                    self.cleaned.push(now);
                    (OutcomeKind::Applied, String::new())
                }
            },
        }
    }

    fn takes(&self, verb: &Verb, dice: &mut Dice) -> u64 {
        match verb {
            Verb::Cassandra { step: CassandraStep::Cleanup, .. } => dice.of(5, 60),
            Verb::Cassandra { .. } => dice.of(1, 8),
            _ => dice.of(0, 3),
        }
    }

    fn started(&mut self, member: &str, task: &TaskName, now: u64) {
        if self.spent.contains(task.as_str()) {
            self.wrong
                .push(format!("{now}: {task} was started on the directory of one that left or never joined"));
        }
        if let Some(node) = self.nodes.get_mut(member).filter(|node| node.task == task.as_str()) {
            // With its data it is what it was; a leave that was on its way is not.
            if matches!(node.is, Is::Leaving { .. }) {
                node.is = Is::Normal;
            }
            (node.runs, node.up_at) = (true, now + 20);
            return;
        }
        if let Some(other) = self.moving(member).cloned() {
            self.wrong.push(format!("{now}: {member} joins while {other} moves"));
        }
        let node = Node {
            is: Is::Joining { until: now + 15 + self.used / 20 },
            runs: true,
            up_at: now + 5,
            task: task.to_string(),
            busy_until: 0,
            failed: false,
        };
        self.nodes.insert(member.to_owned(), node);
    }

    fn ended(&mut self, member: &str, asked: bool, now: u64) {
        let Some(node) = self.nodes.get_mut(member) else { return };
        if asked && matches!(node.is, Is::Normal | Is::Leaving { .. }) {
            self.wrong.push(format!("{now}: {member} was stopped while it was {:?}", node.is));
        }
        node.runs = false;
        if matches!(node.is, Is::Joining { .. }) {
            self.spent.insert(node.task.clone());
            // The others forget it.
            self.nodes.remove(member);
        }
    }

    const FAULTS: &'static [&'static str] =
        &["who leaves cannot hand over its data", "a person starts a dead one again", "somebody compacts"];

    fn fault(&mut self, which: &str, now: u64, dice: &mut Dice) {
        let at = dice.of(0, self.nodes.len() as u64) as usize;
        match which {
            "who leaves cannot hand over its data" => {
                for node in self.nodes.values_mut().filter(|node| matches!(node.is, Is::Leaving { .. })) {
                    (node.is, node.failed) = (Is::Normal, true);
                }
            }
            "a person starts a dead one again" => {
                let dead = |node: &&mut Node| matches!(node.is, Is::Normal) && !node.runs;
                if let Some(node) = self.nodes.values_mut().find(dead) {
                    (node.runs, node.up_at) = (true, now + 20);
                }
            }
            "somebody compacts" => {
                if let Some(node) = self.nodes.values_mut().nth(at) {
                    node.busy_until = now + 60;
                }
            }
            other => panic!("{other}"),
        }
    }

    fn load(&mut self, level: f64) {
        self.level = level;
    }

    fn members(&self) -> usize {
        self.nodes.values().filter(|node| matches!(node.is, Is::Normal | Is::Leaving { .. })).count()
    }

    fn wrong(&self) -> &[String] {
        &self.wrong
    }
}
