//! A YARN cluster: nodes with containers, an exclude list, a ResourceManager that forgets timeouts.

use std::collections::{BTreeMap, BTreeSet};

use autoscaler_core::event::ClusterReport;
use model::action::{OutcomeKind, Verb};
use model::id::TaskName;
use model::yarn::{Excluded, Resources, YarnNode, YarnReport, YarnState, YarnStep};

use super::{Cluster, Dice};

/// Containers of a node.
const SLOTS: u32 = 4;

#[derive(Debug, Clone)]
struct Node {
    state: YarnState,
    /// Containers by when they end; the first of an application is its master.
    containers: Vec<(u64, bool)>,
    since: u64,
    runs: bool,
    /// When its process ends by itself.
    exits: Option<u64>,
    /// What it advertises, in containers.
    slots: u32,
    /// A ResourceManager that was started anew knows nothing of it before.
    listed_from: u64,
}

impl Node {
    fn is_listed(&self, now: u64) -> bool {
        self.state != YarnState::New && now >= self.listed_from
    }
}

pub(crate) struct Yarn {
    nodes: BTreeMap<String, Node>,
    excluded: BTreeSet<String>,
    started: u64,
    away_until: u64,
    pending: u32,
    level: f64,
    min: usize,
    wrong: Vec<String>,
    pub(crate) killed_by_others: u32,
}

impl Yarn {
    pub(crate) fn new(min: usize) -> Self {
        Self {
            nodes: BTreeMap::new(),
            excluded: BTreeSet::new(),
            started: 1,
            away_until: 0,
            pending: 0,
            level: 0.3,
            min,
            wrong: Vec::new(),
            killed_by_others: 0,
        }
    }

    /// What nodes in service advertise, in containers.
    pub(crate) fn advertised(&self) -> Vec<u32> {
        let running = self.nodes.values().filter(|node| node.state == YarnState::Running);
        running.map(|node| node.slots).collect()
    }

    fn running(&self) -> usize {
        self.nodes.values().filter(|node| node.state == YarnState::Running).count()
    }

    /// What drains is put out at once, with all that runs there: nobody here asked for that.
    fn force(&mut self, now: u64) {
        for node in self.nodes.values_mut().filter(|node| node.state == YarnState::Decommissioning) {
            self.killed_by_others += node.containers.len() as u32;
            node.containers.clear();
            (node.state, node.exits) = (YarnState::Decommissioned, Some(now + 12));
        }
    }
}

impl Cluster for Yarn {
    fn pass(&mut self, now: u64, dice: &mut Dice) -> Vec<String> {
        if dice.chance(self.level * 0.5) {
            self.pending += 1;
        }
        let mut exits = Vec::new();
        for (host, node) in &mut self.nodes {
            node.containers.retain(|(ends, _)| *ends > now);
            match node.state {
                YarnState::New if now >= node.since + 5 && now >= self.away_until => {
                    // A node on the list is refused, and its process ends.
                    let listed = self.excluded.contains(host);
                    node.state = if listed { YarnState::Decommissioned } else { YarnState::Running };
                    node.exits = listed.then_some(now + 2);
                }
                YarnState::Running
                    if self.pending > 0
                        && now >= node.listed_from
                        && (node.containers.len() as u32) < node.slots
                        && now >= self.away_until =>
                {
                    self.pending -= 1;
                    node.containers.push((now + dice.of(10, 120), dice.chance(0.15)));
                }
                YarnState::Decommissioning if node.containers.is_empty() && now >= node.since + 3 => {
                    (node.state, node.exits) = (YarnState::Decommissioned, Some(now + dice.of(10, 22)));
                }
                YarnState::Running | YarnState::Decommissioning if !node.runs && now >= node.since + 30 => {
                    node.state = YarnState::Lost;
                    node.containers.clear();
                }
                _ => {}
            }
            if node.exits.is_some_and(|at| at <= now) {
                node.exits = None;
                exits.push(host.clone());
            }
        }
        exits
    }

    fn reports(&self, now: u64) -> Vec<(Option<String>, ClusterReport)> {
        if now < self.away_until {
            return Vec::new();
        }
        let unit = |n: u32| Resources { memory_mib: u64::from(n) * 256, vcores: n };
        let node = |(host, node): (&String, &Node)| YarnNode {
            host: host.clone(),
            port: (node.state != YarnState::Decommissioned).then_some(8041),
            state: node.state,
            total: unit(node.slots),
            used: unit(node.containers.len() as u32),
            containers: node.containers.len() as u32,
            masters: node.containers.iter().filter(|(_, master)| *master).count() as u32,
            health: String::new(),
        };
        let report = YarnReport {
            cluster: "batch".into(),
            started_ms: self.started,
            labels: false,
            pending: unit(self.pending),
            containers_pending: self.pending,
            apps_running: 1,
            apps_pending: 0,
            excluded: Some(
                self.excluded
                    .iter()
                    .map(|host| Excluded { host: host.clone(), timeout_s: Some(1) })
                    .collect(),
            ),
            nodes: self.nodes.iter().filter(|(_, n)| n.is_listed(now)).map(node).collect(),
        };
        vec![(None, ClusterReport::Yarn(report))]
    }

    fn verb(&mut self, verb: &Verb, now: u64) -> (OutcomeKind, String) {
        let Verb::Yarn { step, .. } = verb else { return (OutcomeKind::Refused, "not of YARN".into()) };
        if now < self.away_until {
            return (OutcomeKind::Failed, "the ResourceManager does not answer".into());
        }
        match step {
            YarnStep::Exclude { host, .. } => {
                let others = self.running()
                    - usize::from(self.nodes.get(host).is_some_and(|n| n.state == YarnState::Running));
                let drains =
                    self.nodes.iter().any(|(name, n)| n.state == YarnState::Decommissioning && name != host);
                let Some(node) = self.nodes.get_mut(host).filter(|node| node.is_listed(now)) else {
                    return (OutcomeKind::Refused, "the ResourceManager knows no such node".into());
                };
                if node.containers.iter().any(|(_, master)| *master) {
                    return (OutcomeKind::Refused, "an ApplicationMaster runs on it".into());
                }
                if !self.excluded.insert(host.clone()) {
                    return (OutcomeKind::Already, String::new());
                }
                if node.state == YarnState::Running {
                    if drains {
                        self.wrong.push(format!("{now}: two nodes drain"));
                    }
                    // A restart of the ResourceManager may have put others out a moment ago.
                    if others < self.min && self.started + 60 < now {
                        self.wrong.push(format!("{now}: {others} nodes are left, {} must be", self.min));
                    }
                    (node.state, node.since) = (YarnState::Decommissioning, now);
                }
                (OutcomeKind::Applied, String::new())
            }
            YarnStep::Include { host } => {
                if !self.excluded.remove(host) {
                    return (OutcomeKind::Already, String::new());
                }
                if let Some(node) = self.nodes.get_mut(host).filter(|n| n.state == YarnState::Decommissioning)
                {
                    (node.state, node.since) = (YarnState::Running, now);
                }
                (OutcomeKind::Applied, String::new())
            }
            YarnStep::Advertise { host, resources } => match self.nodes.get_mut(host) {
                Some(node) if node.state == YarnState::Running && node.is_listed(now) => {
                    // What runs there runs on.
                    node.slots = resources.vcores.min((resources.memory_mib / 256) as u32);
                    (OutcomeKind::Applied, String::new())
                }
                _ => (OutcomeKind::Refused, "it is not running".into()),
            },
        }
    }

    fn takes(&self, verb: &Verb, dice: &mut Dice) -> u64 {
        if matches!(verb, Verb::Yarn { .. }) { dice.of(2, 12) } else { dice.of(0, 3) }
    }

    fn started(&mut self, member: &str, _task: &TaskName, now: u64) {
        let node = Node {
            state: YarnState::New,
            containers: Vec::new(),
            since: now,
            runs: true,
            exits: None,
            slots: SLOTS,
            listed_from: 0,
        };
        self.nodes.insert(member.to_owned(), node);
    }

    fn ended(&mut self, member: &str, asked: bool, now: u64) {
        let Some(node) = self.nodes.get_mut(member) else { return };
        if asked
            && matches!(node.state, YarnState::Running | YarnState::Decommissioning)
            && !node.containers.is_empty()
        {
            self.wrong.push(format!("{now}: {member} was stopped with {} containers", node.containers.len()));
        }
        (node.runs, node.exits) = (false, None);
        if node.state == YarnState::New {
            node.state = YarnState::Lost;
        } else if matches!(node.state, YarnState::Running | YarnState::Decommissioning) {
            node.since = now;
        }
    }

    const FAULTS: &'static [&'static str] = &[
        "somebody refreshes without a grace",
        "the ResourceManager is started anew",
        "somebody clears the list",
    ];

    fn fault(&mut self, which: &str, now: u64, dice: &mut Dice) {
        match which {
            "somebody refreshes without a grace" => self.force(now),
            "the ResourceManager is started anew" => {
                self.force(now);
                (self.started, self.away_until) = (now, now + dice.of(5, 30));
                // It has those on the list, and learns of the others anew; who is gone is not heard of again.
                for (host, node) in &mut self.nodes {
                    node.listed_from = match node.state {
                        YarnState::New => 0,
                        _ if self.excluded.contains(host) => 0,
                        YarnState::Running if node.runs => self.away_until + dice.of(1, 60),
                        _ => u64::MAX,
                    };
                }
            }
            "somebody clears the list" => {
                self.excluded.clear();
                for node in self.nodes.values_mut().filter(|node| node.state == YarnState::Decommissioning) {
                    node.state = YarnState::Running;
                }
            }
            other => panic!("{other}"),
        }
    }

    fn load(&mut self, level: f64) {
        self.level = level;
    }

    fn members(&self) -> usize {
        self.running()
    }

    fn wrong(&self) -> &[String] {
        &self.wrong
    }
}
