//! The brain: everything that decides, behind two methods.
//!
//! Problem: decisions must be reproducible, or nobody can trust or debug them. Method: [`Brain::observe`] only takes facts
//! in, [`Brain::next`] only answers; neither reads a clock, a file or a random number, and all order comes from sorted
//! maps. So feeding a journal to a new brain gives the same plans, bit for bit. Bounds: work per call grows with workloads
//! and their replicas, not with tasks; what is remembered per workload is limited where it is declared.

mod shown;

use std::collections::{BTreeMap, BTreeSet};

use model::action::Command;
use model::id::{Generation, NodeId, WorkloadName};
use model::reason::Reason;
use model::workload::Workload;

use crate::controller::{Context, Controller, Pause};
use crate::event::{Event, Memory, Plan, Time};
use crate::idle::{Ledger, NodeFacts, Page};
use crate::place::{Link, Node};
use crate::record::DecisionIds;
use crate::rollout::Fence;
use crate::uses::Uses;
use crate::{check, cluster};

/// Settings of the whole brain; a workload's own are in its specification.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// Time between two rounds of digests, ms. Data older than three of them is stale.
    pub round_ms: u64,
    /// After a controller's start, a node that has not connected for this long counts as lost, ms.
    pub reconnect_ms: u64,
    /// The risk setting, 0 (save most) ..= 1 (most cautious).
    pub risk: f64,
    /// The idle ledger closes a page this often, ms.
    pub idle_ms: u64,
}

impl Default for Config {
    /// Digests each second (face.md); agents reconnect within 30 s (protocol.md 7); the middle risk; pages of a minute.
    fn default() -> Self {
        Self { round_ms: 1_000, reconnect_ms: 30_000, risk: 0.5, idle_ms: 60_000 }
    }
}

/// The decision core. Deterministic: the same calls give the same answers.
#[derive(Debug)]
pub struct Brain {
    config: Config,
    fence: Fence,
    ids: DecisionIds,
    nodes: BTreeMap<NodeId, Node>,
    workloads: BTreeMap<WorkloadName, Controller>,
    clusters: BTreeMap<WorkloadName, cluster::Controller>,
    uses: Uses,
    pause: Option<Pause>,
    ledger: Ledger,
    refused: u64,
}

impl Brain {
    /// A brain that knows nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            fence: Fence::default(),
            ids: DecisionIds::default(),
            nodes: BTreeMap::new(),
            workloads: BTreeMap::new(),
            clusters: BTreeMap::new(),
            uses: Uses::default(),
            pause: None,
            ledger: Ledger::new(config.idle_ms),
            refused: 0,
        }
    }

    /// Takes one event. The shell has journalled it before, with the same `now`.
    pub fn observe(&mut self, event: Event, now: Time) {
        match event {
            Event::Started { epoch } => {
                self.fence.started(epoch);
                self.ids = DecisionIds { epoch: epoch.0, given: 0 };
                for node in self.nodes.values_mut() {
                    node.link = Link::Awaited { since: now };
                }
                self.each(|workload| workload.started(epoch, now));
                self.each_cluster(|cluster| cluster.started(epoch, now));
            }
            Event::SpecApplied { workload } => self.apply(workload),
            Event::SpecRemoved { workload } => {
                self.uses.forget(&workload);
                if let Some(cluster) = self.clusters.get_mut(&workload) {
                    cluster.in_force = false;
                }
                if let Some(workload) = self.workloads.get_mut(&workload) {
                    workload.in_force = false;
                }
            }
            Event::Remembered { workload, memory } => {
                let own = memory.cluster.iter().flat_map(|cluster| &cluster.own).map(|own| &own.node);
                for node in memory.replicas.iter().map(|replica| &replica.node).chain(own) {
                    self.await_node(node, now);
                }
                if let Some(cluster) = self.clusters.get_mut(&workload) {
                    cluster.remember(memory, now);
                } else if let Some(workload) = self.workloads.get_mut(&workload) {
                    workload.remember(memory, now);
                }
            }
            Event::Paused { workload, reason, until } => {
                self.set_pause(workload.as_ref(), Some(Pause { why: reason, until }));
            }
            Event::Resumed { workload } => self.set_pause(workload.as_ref(), None),
            Event::NodeDrained { node, reason } => {
                self.await_node(&node, now);
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.drained = Some(reason);
                }
            }
            Event::NodeReturned { node } => {
                let was = self.nodes.get_mut(&node).and_then(|node| node.drained.take());
                let drained: BTreeSet<NodeId> = self.drains().into_keys().collect();
                if was.is_some() {
                    self.each(|workload| workload.drain_ended(&drained));
                }
            }
            Event::NodeUp { node, inventory, tasks, .. } => {
                let old = self.nodes.remove(&node);
                let (load, drained) = old.map_or((None, None), |old| (old.load, old.drained));
                let inventory = Some(inventory);
                self.nodes
                    .insert(node.clone(), Node { inventory, link: Link::Up, load, failed_at: None, drained });
                self.each(|workload| workload.node_up(&node, &tasks, now));
                self.each_cluster(|cluster| cluster.node_up(&node, &tasks, now));
            }
            Event::NodeDown { node, .. } => {
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.link = Link::Down { since: now };
                }
            }
            Event::Outcome { node: _, outcome } => {
                self.each(|workload| workload.outcome(&outcome, now));
                self.each_cluster(|cluster| cluster.outcome(&outcome, now));
            }
            Event::Task { node, event } => {
                if let Some(workload) = self.workloads.get_mut(&event.workload) {
                    workload.task(&node, &event, now);
                } else if let Some(cluster) = self.clusters.get_mut(&event.workload) {
                    cluster.task(&node, &event, now);
                }
            }
            Event::Gap { node, gap } => self.each(|workload| workload.gap(&node, &gap, now)),
            Event::Receipt { .. } => {}
            Event::Digest(digest) => {
                self.uses.take(&digest);
                if let Some(cluster) = self.clusters.get_mut(&digest.workload) {
                    cluster.usage(&digest);
                } else if let Some(workload) = self.workloads.get_mut(&digest.workload) {
                    workload.digest(digest, &self.config, now);
                }
            }
            Event::Nodes { nodes } => {
                for digest in nodes {
                    if let Some(node) = self.nodes.get_mut(&digest.node) {
                        node.load = Some(digest);
                    }
                }
            }
            Event::Cluster(digest) => {
                if let Some(cluster) = self.clusters.get_mut(&digest.workload) {
                    cluster.report(*digest, now);
                }
            }
            Event::Approved { workload, decision } => {
                if let Some(cluster) = self.clusters.get_mut(&workload) {
                    cluster.approve(decision, now);
                }
            }
            Event::Declined { workload, decision, reason, for_ms } => {
                if let Some(cluster) = self.clusters.get_mut(&workload) {
                    cluster.decline(decision, reason, for_ms, now);
                }
            }
            Event::Cancelled { workload, reason } => {
                if let Some(cluster) = self.clusters.get_mut(&workload) {
                    cluster.cancel(reason, now);
                }
            }
        }
    }

    /// What to do now. Call it after each round of digests, after each event that is not a digest, and at `wake_at`.
    /// Replay must repeat these calls: the shell journals each with its `now`, also when the plan is empty.
    pub fn next(&mut self, now: Time) -> Plan {
        let mut plan = Plan::default();
        let context = Context {
            now,
            nodes: &self.nodes,
            uses: &self.uses,
            config: &self.config,
            paused: self.pause.as_ref(),
        };
        for workload in self.workloads.values_mut() {
            let (decisions, followed) = workload.round(&mut self.ids, &context);
            plan.decisions.extend(decisions);
            plan.realised.extend(followed);
            let before = workload.generation;
            let commands = workload.orders(&mut self.fence, &context);
            let of = (workload.workload.name.clone(), before);
            let (sound, refused) = lint(&self.fence, &self.nodes, of, commands, now);
            plan.commands.extend(sound);
            self.refused += refused;
        }
        for cluster in self.clusters.values_mut() {
            plan.decisions.extend(cluster.round(&mut self.ids, &context));
            let of = (cluster.workload.name.clone(), cluster.generation);
            let commands = cluster.orders(&mut self.fence, &context);
            let (sound, refused) = lint(&self.fence, &self.nodes, of, commands, now);
            plan.commands.extend(sound);
            self.refused += refused;
        }
        let workloads =
            self.workloads.values_mut().map(|w| (w.wake_at(now), std::mem::take(&mut w.failed_on)));
        let clusters = self.clusters.values_mut().map(|c| (c.wake_at(now), std::mem::take(&mut c.failed_on)));
        for (wake_at, failed_on) in workloads.chain(clusters) {
            for node in failed_on {
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.failed_at = Some(now);
                }
            }
            plan.wake_at = plan.wake_at.into_iter().chain(wake_at).min();
        }
        self.account(now);
        plan
    }

    /// Pages of the idle ledger that were closed since the last call. They follow from the events, so they need no
    /// place in the journal; the shell keeps them for people.
    pub fn take_idle(&mut self) -> Vec<Page> {
        self.ledger.take()
    }

    /// The specifications in force, by name: what [`Fleet::digests`](crate::fleet::Fleet::digests) needs.
    pub fn specs(&self) -> impl Iterator<Item = &Workload> {
        let plain = self.workloads.values().filter(|w| w.in_force).map(|w| &w.workload);
        plain.chain(self.cluster_specs())
    }

    /// Those of clusters: what [`Fleet::cluster_digests`](crate::fleet::Fleet::cluster_digests) needs.
    pub fn cluster_specs(&self) -> impl Iterator<Item = &Workload> {
        self.clusters.values().filter(|c| c.in_force).map(|c| &c.workload)
    }

    /// The events that tell a new brain what this one must not forget: specifications, pauses, and what no node can
    /// tell. A journal that begins anew begins with them.
    #[must_use]
    pub fn memory(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for workload in self.workloads.values() {
            let known = (workload.as_asked(), workload.memory());
            events.extend(remembered(known, workload.pause.as_ref(), workload.in_force));
        }
        for cluster in self.clusters.values() {
            let known = (cluster.workload.clone(), cluster.memory());
            events.extend(remembered(known, cluster.pause.as_ref(), cluster.in_force));
        }
        for (node, known) in &self.nodes {
            if let Some(reason) = known.drained.clone() {
                events.push(Event::NodeDrained { node: node.clone(), reason });
            }
        }
        if let Some(pause) = &self.pause {
            events.push(Event::Paused { workload: None, reason: pause.why.clone(), until: pause.until });
        }
        events
    }

    /// Commands that the linter held back since the start; anything but 0 is a fault of this crate.
    #[must_use]
    pub fn refused_commands(&self) -> u64 {
        self.refused
    }

    fn context(&self, now: Time) -> Context<'_> {
        Context {
            now,
            nodes: &self.nodes,
            uses: &self.uses,
            config: &self.config,
            paused: self.pause.as_ref(),
        }
    }

    fn each(&mut self, mut of: impl FnMut(&mut Controller)) {
        self.workloads.values_mut().for_each(&mut of);
    }

    fn each_cluster(&mut self, mut of: impl FnMut(&mut cluster::Controller)) {
        self.clusters.values_mut().for_each(&mut of);
    }

    fn apply(&mut self, workload: Workload) {
        if workload.spec.kind.is_cluster() {
            // A name does not change its kind while anything has it; the shell has refused that.
            self.workloads.remove(&workload.name);
            let epoch = self.fence.epoch();
            let cluster = self.clusters.entry(workload.name.clone()).or_insert_with(|| {
                let mut cluster = cluster::Controller::new(workload.clone());
                cluster.generation = Generation(epoch.0 << 32);
                cluster
            });
            return cluster.apply(workload);
        }
        self.clusters.remove(&workload.name);
        match self.workloads.get_mut(&workload.name) {
            Some(controller) => controller.apply(workload, &self.config),
            None => {
                let name = workload.name.clone();
                let mut controller = Controller::new(workload, &self.config);
                controller.generation = Generation(self.fence.epoch().0 << 32);
                self.workloads.insert(name, controller);
            }
        }
    }

    fn set_pause(&mut self, workload: Option<&WorkloadName>, pause: Option<Pause>) {
        match workload {
            None => self.pause = pause,
            Some(name) => {
                if let Some(workload) = self.workloads.get_mut(name) {
                    workload.pause = pause;
                } else if let Some(cluster) = self.clusters.get_mut(name) {
                    cluster.pause = pause;
                }
            }
        }
    }

    /// Books the time since the last call in the idle ledger.
    fn account(&mut self, now: Time) {
        let stale = 3 * self.config.round_ms;
        let workloads = || self.workloads.values().filter(|w| w.in_force);
        let facts: Vec<NodeFacts> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.link == Link::Up)
            .filter_map(|(name, node)| {
                let has = node.inventory.as_ref()?;
                let fresh = node.load.as_ref().filter(|l| l.age_ms.is_some_and(|age| age <= stale));
                let units = workloads()
                    .filter(|w| node.can_start(w.starts_by()))
                    .map(|w| w.given())
                    .map(|(cpu, memory)| (cpu, memory.unwrap_or(0)));
                Some(NodeFacts {
                    node: name.clone(),
                    cpu_millis: u64::from(has.cpus) * 1_000,
                    memory_kib: has.memory_bytes / 1_024,
                    used: (
                        fresh.and_then(|l| l.cpu_cores).map(|cores| (cores.max(0.0) * 1e3) as u64),
                        fresh.and_then(|l| l.memory_bytes).map(|bytes| bytes / 1_024),
                    ),
                    acts: has.acts && node.drained.is_none(),
                    unit: units.min(),
                })
            })
            .collect();
        let clusters = self.clusters.values().filter(|c| c.in_force);
        let claims: Vec<_> = workloads()
            .flat_map(Controller::claims)
            .chain(clusters.flat_map(cluster::Controller::claims))
            .collect();
        self.ledger.spend(&facts, &claims, now);
    }

    /// A node that nothing else is known of yet counts as awaited until it connects.
    fn await_node(&mut self, node: &NodeId, now: Time) {
        self.nodes.entry(node.clone()).or_insert_with(|| Node {
            inventory: None,
            link: Link::Awaited { since: now },
            load: None,
            failed_at: None,
            drained: None,
        });
    }
}

/// Lets through what the linter finds nothing wrong with, and counts what it found.
fn lint(
    fence: &Fence,
    nodes: &BTreeMap<NodeId, Node>,
    (workload, before): (WorkloadName, Generation),
    commands: Vec<(NodeId, Command)>,
    now: Time,
) -> (Vec<(NodeId, Command)>, u64) {
    let generations = BTreeMap::from([(workload, before)]);
    let findings = check::commands(fence.epoch(), &generations, nodes, &commands, now);
    // What is held back here is ordered again once its answer is overdue.
    if findings.is_empty() { (commands, 0) } else { (Vec::new(), findings.len() as u64) }
}

/// The reason of a refusal, for the log of the shell.
impl From<check::Finding> for Reason {
    fn from(finding: check::Finding) -> Self {
        Reason::PlanRefused { finding: finding.to_string() }
    }
}

/// The events by which a new brain knows one workload again.
fn remembered(
    (workload, memory): (Workload, Memory),
    pause: Option<&Pause>,
    in_force: bool,
) -> impl Iterator<Item = Event> {
    let name = workload.name.clone();
    let paused = pause.map(|pause| Event::Paused {
        workload: Some(name.clone()),
        reason: pause.why.clone(),
        until: pause.until,
    });
    let removed = (!in_force).then(|| Event::SpecRemoved { workload: name.clone() });
    [Event::SpecApplied { workload }, Event::Remembered { workload: name, memory }]
        .into_iter()
        .chain(paused)
        .chain(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NodeDigest;
    use crate::idle::Cause;
    use model::id::{AgentEpoch, BootId};
    use model::node::{Incarnation, Inventory, Tier};

    /// The cause of what is idle on one node with nothing on it.
    fn idle(brain: &mut Brain, from: u64) -> Vec<Cause> {
        let node = NodeId::new("a").unwrap();
        for second in from..from + 3 {
            let now = Time(second * 1_000);
            let load = NodeDigest {
                node: node.clone(),
                age_ms: Some(0),
                cpu_cores: Some(0.0),
                memory_bytes: Some(0),
                tasks: 0,
            };
            brain.observe(Event::Nodes { nodes: vec![load] }, now);
            brain.next(now);
        }
        brain.take_idle().pop().unwrap().idle.into_iter().map(|idle| idle.cause).collect()
    }

    #[test]
    fn capacity_of_a_drained_node_is_not_free() {
        let mut brain = Brain::new(Config { idle_ms: 1_000, ..Config::default() });
        let node = NodeId::new("a").unwrap();
        let incarnation = Incarnation { boot: BootId(1), agent: AgentEpoch(1) };
        let inventory = Inventory { acts: true, ..Inventory::new(2, 1 << 30, Tier::A) };
        let up = Event::NodeUp { node: node.clone(), incarnation, inventory, tasks: vec![] };
        brain.observe(up.clone(), Time(0));
        assert_eq!(idle(&mut brain, 1), [Cause::NoDemand]);
        brain.observe(Event::NodeDrained { node: node.clone(), reason: "disk".into() }, Time(5_000));
        // The word outlives its stream.
        brain.observe(up, Time(5_000));
        assert_eq!(idle(&mut brain, 10), [Cause::Unmanaged]);
        assert!(brain.memory().contains(&Event::NodeDrained { node: node.clone(), reason: "disk".into() }));
        brain.observe(Event::NodeReturned { node }, Time(15_000));
        assert_eq!(idle(&mut brain, 20), [Cause::NoDemand]);
    }
}
