//! A small world of clusters for the brain: daemons that keep their own lists, agents, people, and faults, all from one seed.
//!
//! Time runs in seconds. A cluster does what it is told as the real ones were seen to do, traps included, and notes what must never happen
//! ([`Cluster::wrong`]). Nothing here knows how the brain decides: commands are lost, late or doubled, and reports say what was so when they
//! were read.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod hdfs;
pub(crate) mod ring;
pub(crate) mod yarn;

use std::collections::BTreeMap;

use autoscaler_core::brain::{Brain, Config};
use autoscaler_core::event::{
    ClusterDigest, ClusterReport, Digest, Event, NodeDigest, Plan, ReplicaDigest, RunningTask, Time,
};
use model::action::{Command, Outcome, OutcomeKind, TaskEvent, TaskEventKind, Verb};
use model::id::{AgentEpoch, BootId, CgroupId, ControllerEpoch, Generation, NodeId, TaskName};
use model::node::{Incarnation, Inventory, Tier};
use model::workload::Workload;
use serde_json::json;

use crate::dice::Dice;

/// Something that keeps its own list of members.
pub(crate) trait Cluster {
    /// A second passes. Members whose process ends by itself.
    fn pass(&mut self, now: u64, dice: &mut Dice) -> Vec<String>;
    /// What agents read now, each with the member beside which it was read; `None` = beside the manager.
    fn reports(&self, now: u64) -> Vec<(Option<String>, ClusterReport)>;
    /// A verb arrives.
    fn verb(&mut self, verb: &Verb, now: u64) -> (OutcomeKind, String);
    /// How long a verb takes, s.
    fn takes(&self, verb: &Verb, dice: &mut Dice) -> u64;
    /// A member's process starts.
    fn started(&mut self, member: &str, task: &TaskName, now: u64);
    /// A member's process ended; `asked` = Trimtab stopped it.
    fn ended(&mut self, member: &str, asked: bool, now: u64);
    /// What people, or bad luck, may do to it.
    const FAULTS: &'static [&'static str];
    /// They do one of these.
    fn fault(&mut self, which: &str, now: u64, dice: &mut Dice);
    /// What there is to do changes.
    fn load(&mut self, level: f64);
    /// Members in service.
    fn members(&self) -> usize;
    /// What must never happen, and did.
    fn wrong(&self) -> &[String];
}

/// A process of ours.
#[derive(Debug, Clone)]
struct Process {
    node: NodeId,
    member: String,
    generation: Generation,
}

/// A line of the journal.
enum Entry {
    Told(Box<Event>),
    Answered(Plan),
}

#[derive(Debug, Clone)]
enum Sent {
    Command(NodeId, Command),
    Answer(NodeId, Outcome),
    Event(Box<Event>),
}

/// How likely things go wrong, per second or per message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) lose: f64,
    pub(crate) agent: f64,
    pub(crate) autoscaler: f64,
    pub(crate) process: f64,
    pub(crate) cluster: f64,
    pub(crate) people: f64,
}

pub(crate) struct World<C> {
    pub(crate) brain: Brain,
    pub(crate) cluster: C,
    pub(crate) now: u64,
    pub(crate) dice: Dice,
    pub(crate) faults: Faults,
    pub(crate) log: Vec<String>,
    pub(crate) changes: u32,
    /// What others use on each node, cores of eight and bytes of 16 GiB; `None` = nodes are not measured.
    pub(crate) others: Option<(f64, u64)>,
    pub(crate) workload: Workload,
    epoch: u64,
    /// What the brain of now was told and answered.
    journal: Vec<(Time, Entry)>,
    wire: Vec<(u64, Sent)>,
    processes: BTreeMap<TaskName, Process>,
    /// Agents that are away, and until when.
    away: BTreeMap<NodeId, u64>,
    incarnation: u64,
}

/// A cluster between bounds, in a hurry.
pub(crate) fn workload(
    kind: &str,
    cluster: &str,
    target: &serde_json::Value,
    (min, max): (u32, u32),
) -> Workload {
    let spec = json!({
        "type": kind, "mode": "auto",
        "replicas": {"min": min, "max": max},
        "target": target,
        (kind): {
            "cluster": cluster, "launcher": "member", "member": "10.0.0.{slot}",
            "slots": {"from": 1, "span": 9}
        },
        "behavior": {
            "growAfter": "5s", "shrinkAfter": "30s", "shrinkCooldown": "30s", "growCooldown": "5s",
            "stepUp": 2, "survivorsBelow": "90%", "stopGrace": "5s"
        }
    });
    serde_json::from_value(json!({"name": cluster, "spec": spec})).unwrap()
}

fn nodes() -> [NodeId; 3] {
    ["h1", "h2", "h3"].map(|node| node.parse().unwrap())
}

impl<C: Cluster> World<C> {
    pub(crate) fn new(seed: u64, workload: Workload, cluster: C) -> Self {
        let mut world = Self {
            brain: Brain::new(Config::default()),
            cluster,
            now: 1_000,
            dice: Dice(seed),
            faults: Faults::default(),
            log: Vec::new(),
            changes: 0,
            others: None,
            workload,
            epoch: 1,
            journal: Vec::new(),
            wire: Vec::new(),
            processes: BTreeMap::new(),
            away: BTreeMap::new(),
            incarnation: 0,
        };
        world.tell(Event::Started { epoch: ControllerEpoch(1) });
        world.tell(Event::SpecApplied { workload: world.workload.clone() });
        for node in nodes() {
            world.connect(&node);
        }
        world
    }

    fn time(&self) -> Time {
        Time(self.now * 1_000)
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.journal.push((self.time(), Entry::Told(Box::new(event.clone()))));
        self.brain.observe(event, self.time());
    }

    /// A new brain that is told the same answers the same, bit for bit; and what is journalled reads back.
    pub(crate) fn replays(&self) {
        let mut brain = Brain::new(Config::default());
        for (at, entry) in &self.journal {
            match entry {
                Entry::Told(event) => {
                    let text = serde_json::to_string(event).unwrap();
                    brain.observe(serde_json::from_str::<Event>(&text).unwrap(), *at);
                }
                Entry::Answered(plan) => assert_eq!(&brain.next(*at), plan, "at {at:?}"),
            }
        }
    }

    /// Changes the bounds.
    pub(crate) fn bounds(&mut self, min: u32, max: u32) {
        (self.workload.spec.replicas.min, self.workload.spec.replicas.max) = (min, max);
        self.tell(Event::SpecApplied { workload: self.workload.clone() });
    }

    fn connect(&mut self, node: &NodeId) {
        self.incarnation += 1;
        let of = |(task, process): (&TaskName, &Process)| RunningTask {
            task: task.clone(),
            workload: self.workload.name.clone(),
            cgroup: CgroupId(1),
            generation: process.generation,
            healthy: true,
            class: None,
        };
        let tasks = self.processes.iter().filter(|(_, process)| process.node == *node).map(of).collect();
        let inventory = Inventory {
            acts: true,
            launchers: vec!["member".to_owned()],
            ..Inventory::new(8, 16 << 30, Tier::A)
        };
        let incarnation = Incarnation { boot: BootId(1), agent: AgentEpoch(self.incarnation) };
        self.tell(Event::NodeUp { node: node.clone(), incarnation, inventory, tasks });
    }

    /// The autoscaler dies and comes back with what it kept.
    pub(crate) fn restart(&mut self) {
        self.epoch += 1;
        let memory = self.brain.memory();
        self.brain = Brain::new(Config::default());
        self.journal.clear();
        for event in memory {
            self.tell(event);
        }
        self.tell(Event::Started { epoch: ControllerEpoch(self.epoch) });
        // Reports and events that were on their way to it are lost.
        self.wire.retain(|(_, sent)| !matches!(sent, Sent::Event(..)));
        for node in nodes() {
            if !self.away.contains_key(&node) {
                self.connect(&node);
            }
        }
        self.log.push(format!("{} the autoscaler starts anew", self.now));
    }

    /// Lets so many seconds pass.
    pub(crate) fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1;
            self.second();
            assert!(self.cluster.wrong().is_empty(), "{:?}\n{}", self.cluster.wrong(), self.told());
            assert_eq!(self.brain.refused_commands(), 0, "{}", self.told());
        }
    }

    /// An operator wants a node empty, or has it back.
    pub(crate) fn drain(&mut self, node: &str, drained: bool) {
        let node: NodeId = node.parse().unwrap();
        for one in self.brain.keeps(&node, Time(self.now * 1_000)) {
            let (price, stays) =
                (&one.price, one.stays.map_or_else(String::new, |why| format!("; stays: {why}")));
            let waits: Vec<String> = one.gates.iter().map(ToString::to_string).collect();
            self.log.push(format!(
                "{} {node} has {} of {}: {} s, {} bytes, {}; {}{stays}",
                self.now,
                one.tasks,
                one.workload,
                price.seconds,
                price.bytes,
                price.risk,
                waits.join("; ")
            ));
        }
        self.log.push(format!("{} {node} drained: {drained}", self.now));
        self.tell(match drained {
            true => Event::NodeDrained { node, reason: "a test".into() },
            false => Event::NodeReturned { node },
        });
    }

    /// Processes that run on a node.
    pub(crate) fn processes_on(&self, node: &str) -> usize {
        self.processes.values().filter(|process| process.node.as_str() == node).count()
    }

    /// The end of what happened, for people.
    pub(crate) fn told(&self) -> String {
        self.log[self.log.len().saturating_sub(60)..].join("\n")
    }

    fn second(&mut self) {
        let now = self.now;
        for member in self.cluster.pass(now, &mut self.dice) {
            self.process_ends(&member, "by itself", false);
        }
        self.go_wrong();
        let (due, later) = std::mem::take(&mut self.wire).into_iter().partition(|(at, _)| *at <= now);
        self.wire = later;
        let due: Vec<(u64, Sent)> = due;
        for (_, sent) in due {
            self.arrives(sent);
        }
        if now.is_multiple_of(5) {
            self.report();
        }
        self.measure();
        let plan = self.brain.next(self.time());
        self.journal.push((self.time(), Entry::Answered(plan.clone())));
        for decision in plan.decisions {
            self.changes += u32::from(decision.act);
            self.log.push(format!("{now} {}{decision}", if decision.act { "ACT " } else { "" }));
        }
        for (node, command) in plan.commands {
            self.log.push(format!("{now} to {node}: {} {}", command.task, command.verb));
            if self.dice.chance(self.faults.lose) {
                // Nothing is lost but with its stream, which comes back.
                self.away.entry(node).or_insert(now + self.dice.of(1, 6));
                continue;
            }
            for _ in 0..1 + u32::from(self.dice.chance(self.faults.lose)) {
                let at = now + self.dice.of(0, 3);
                self.wire.push((at, Sent::Command(node.clone(), command.clone())));
            }
        }
    }

    /// What nodes and processes use; a member of ours takes half a core.
    fn measure(&mut self) {
        let Some((cores, bytes)) = self.others else { return };
        let ours = |node: &NodeId| self.processes.values().filter(|process| process.node == *node).count();
        let load = |node: NodeId| {
            let ours = ours(&node);
            NodeDigest {
                node,
                age_ms: Some(0),
                cpu_cores: Some(cores + 0.5 * ours as f64),
                memory_bytes: Some(bytes + ((ours as u64) << 30)),
                tasks: 1,
            }
        };
        let nodes = nodes().map(load).to_vec();
        let of = |(task, process): (&TaskName, &Process)| ReplicaDigest {
            task: task.clone(),
            node: process.node.clone(),
            age_ms: Some(0),
            cpu_cores: Some(0.5),
            throttled_ratio: None,
            run_delay_mean_seconds: None,
            memory_bytes: Some(1 << 30),
            oom_kills: None,
            puma: None,
        };
        let workload = self.workload.name.clone();
        let replicas = self.processes.iter().map(of).collect();
        self.tell(Event::Digest(Digest { workload, replicas, balancer: None }));
        self.tell(Event::Nodes { nodes });
    }

    fn report(&mut self) {
        for (beside, report) in self.cluster.reports(self.now) {
            let of = |member: &String| self.processes.values().find(|process| process.member == *member);
            let node = beside
                .as_ref()
                .and_then(of)
                .map_or_else(|| nodes()[0].clone(), |process| process.node.clone());
            if self.away.contains_key(&node) || self.dice.chance(self.faults.lose) {
                continue;
            }
            let at = self.now + self.dice.of(0, 4);
            let workload = self.workload.name.clone();
            // Stamped when it comes.
            let digest = ClusterDigest { workload, node, at: Time(at * 1_000), report };
            self.wire.push((at, Sent::Event(Box::new(Event::Cluster(Box::new(digest))))));
        }
    }

    fn arrives(&mut self, sent: Sent) {
        match sent {
            Sent::Command(node, command) if !self.away.contains_key(&node) => self.carry_out(&node, &command),
            Sent::Answer(node, outcome) if !self.away.contains_key(&node) => {
                self.tell(Event::Outcome { node, outcome });
            }
            Sent::Answer(node, outcome) => self.wire.push((self.now + 5, Sent::Answer(node, outcome))),
            Sent::Event(event) => self.tell(*event),
            Sent::Command(..) => {}
        }
    }

    fn carry_out(&mut self, node: &NodeId, command: &Command) {
        let task = &command.task;
        let took = self.cluster.takes(&command.verb, &mut self.dice);
        let (kind, why) = match &command.verb {
            Verb::Start { parameters, .. } => match self.processes.get(task) {
                Some(_) => (OutcomeKind::Already, String::new()),
                None if self.dice.chance(self.faults.process * 20.0) => {
                    (OutcomeKind::Failed, "no memory".to_owned())
                }
                None => {
                    let member = format!("10.0.0.{}", parameters["slot"]);
                    let process = Process {
                        node: node.clone(),
                        member: member.clone(),
                        generation: command.generation,
                    };
                    self.processes.insert(task.clone(), process);
                    self.cluster.started(&member, task, self.now);
                    self.event(node, task, TaskEventKind::Started { pid: 1 });
                    (OutcomeKind::Applied, String::new())
                }
            },
            Verb::Stop { .. } => match self.processes.get(task).map(|process| process.member.clone()) {
                Some(member) => {
                    self.process_ends(&member, "stopped", true);
                    (OutcomeKind::Applied, String::new())
                }
                None => (OutcomeKind::Already, String::new()),
            },
            verb => self.cluster.verb(verb, self.now),
        };
        self.log.push(format!("{} {task} {}: {kind:?} {why}", self.now, command.verb));
        let outcome = Outcome {
            command: command.id,
            generation: command.generation,
            task: task.clone(),
            kind,
            why,
            read_back: BTreeMap::new(),
        };
        // Agents keep answers until they are acknowledged: they come late, and never not at all.
        let late = if self.dice.chance(self.faults.lose) { self.dice.of(10, 240) } else { 0 };
        self.wire.push((self.now + took + late, Sent::Answer(node.clone(), outcome)));
    }

    pub(crate) fn fault(&mut self, which: &str) {
        self.log.push(format!("{} {which}", self.now));
        self.cluster.fault(which, self.now, &mut self.dice);
    }

    /// The state of the change that is on its way.
    pub(crate) fn state(&self) -> Option<String> {
        let explained = self.brain.explain(&self.workload.name, self.time()).unwrap();
        Some(explained.workload.cluster?.change?.state.to_owned())
    }

    /// The agent on a node is away for so many seconds.
    pub(crate) fn agent_leaves(&mut self, node: &NodeId, seconds: u64) {
        self.log.push(format!("{} the agent on {node} is away", self.now));
        self.away.insert(node.clone(), self.now + seconds);
        self.tell(Event::NodeDown { node: node.clone(), why: "silent".into() });
    }

    fn event(&mut self, node: &NodeId, task: &TaskName, kind: TaskEventKind) {
        let workload = self.workload.name.clone();
        let event = TaskEvent { task: task.clone(), workload, cgroup: CgroupId(1), kind, at_ns: self.now };
        if !self.away.contains_key(node) {
            let at = self.now + self.dice.of(0, 2);
            self.wire.push((at, Sent::Event(Box::new(Event::Task { node: node.clone(), event }))));
        }
    }

    /// The process of a member ends, if it is one of ours.
    pub(crate) fn process_ends(&mut self, member: &str, how: &str, asked: bool) {
        let found = self.processes.iter().find(|(_, process)| process.member == member);
        let Some((task, process)) = found.map(|(task, process)| (task.clone(), process.clone())) else {
            return;
        };
        self.log.push(format!("{} the process of {member} ends {how}", self.now));
        self.processes.remove(&task);
        self.cluster.ended(member, asked, self.now);
        let kind = TaskEventKind::Ended { status: Some(0), signal: None, cpu_total_us: None, asked };
        self.event(&process.node, &task, kind);
    }

    fn go_wrong(&mut self) {
        let faults = self.faults;
        let back: Vec<NodeId> =
            self.away.iter().filter(|(_, until)| **until <= self.now).map(|(node, _)| node.clone()).collect();
        for node in back {
            self.away.remove(&node);
            self.connect(&node);
        }
        if self.dice.chance(faults.agent) {
            let node = nodes()[self.dice.of(0, 3) as usize].clone();
            if !self.away.contains_key(&node) {
                let seconds = self.dice.of(5, 90);
                self.agent_leaves(&node, seconds);
            }
        }
        if self.dice.chance(faults.autoscaler) {
            self.restart();
        }
        if self.dice.chance(faults.process) && !self.processes.is_empty() {
            let at = self.dice.of(0, self.processes.len() as u64) as usize;
            let member = self.processes.values().nth(at).map(|process| process.member.clone()).unwrap();
            self.process_ends(&member, "by a fault", false);
        }
        if self.dice.chance(faults.cluster) {
            let which = C::FAULTS[self.dice.of(0, C::FAULTS.len() as u64) as usize];
            self.fault(which);
        }
        if self.dice.chance(faults.people) {
            let (workload, reason) = (self.workload.name.clone(), "a test".to_owned());
            let node = nodes()[self.dice.of(0, 3) as usize].clone();
            let said = match self.dice.of(0, 6) {
                0 => Event::Cancelled { workload, reason },
                1 => Event::Paused {
                    workload: Some(workload),
                    reason,
                    until: Some(Time((self.now + 60) * 1_000)),
                },
                2 => Event::NodeDrained { node, reason },
                3 | 4 => Event::NodeReturned { node },
                _ => Event::Resumed { workload: Some(workload) },
            };
            self.log.push(format!("{} {said:?}", self.now));
            self.tell(said);
        }
    }

    /// Nothing is on its way, and as many are members as are wanted.
    pub(crate) fn at_rest(&self) -> Result<(), String> {
        let explained = self.brain.explain(&self.workload.name, self.time()).unwrap();
        let view = explained.workload;
        let change = view.cluster.as_ref().and_then(|cluster| cluster.change.clone());
        let bounds = (view.min as usize)..=(view.max as usize);
        let there = self.cluster.members();
        if change.is_none() && there == view.wanted as usize && bounds.contains(&there) {
            return Ok(());
        }
        Err(format!("{there} members, {} wanted, change {change:?}", view.wanted))
    }
}
