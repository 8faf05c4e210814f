//! A small world for the brain: nodes with agents, a balancer with a queue, clients, and faults, all from one seed.
//!
//! Time runs in steps of 10 ms; requests have exponential service times on threads; the balancer holds each server to its
//! limit and queues the rest. Nothing here knows how the brain decides: it carries out commands, late or twice or never,
//! and reports what is so.

use std::collections::{BTreeMap, VecDeque};

use autoscaler_core::brain::{Brain, Config};
use autoscaler_core::event::{
    BalancerDigest, Digest, Event, NodeDigest, Plan, ReplicaDigest, RunningTask, Time,
};
use model::action::{BalancerStep, Command, Outcome, OutcomeKind, TaskEvent, TaskEventKind, Verb};
use model::adapter::{BalancerReport, Quantiles, ServerReport, ServerState};
use model::id::{AgentEpoch, BootId, CgroupId, ControllerEpoch, Generation, NodeId, TaskName};
use model::node::{Incarnation, Inventory, Tier};
use model::workload::Workload;

use crate::dice::Dice;

/// Length of a step of the world, ms.
pub(crate) const STEP_MS: u64 = 10;

/// What goes wrong, as probabilities per second (or per command).
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) lose_command: f64,
    pub(crate) kill_replica: f64,
    pub(crate) lose_node: f64,
    pub(crate) restart_balancer: f64,
    pub(crate) stale: f64,
    pub(crate) ignore_term: bool,
    pub(crate) start_fails: f64,
}

struct Process {
    workload: String,
    ready_at: u64,
    healthy: bool,
    ends_at: Option<u64>,
    generation: Generation,
    cpu_max_millis: Option<u32>,
}

#[derive(Default)]
struct Machine {
    up: bool,
    down_until: u64,
    tasks: BTreeMap<TaskName, Process>,
}

struct Server {
    state: ServerState,
    limit: usize,
    busy: Vec<u64>,
    task: TaskName,
    up_at: u64,
}

/// What the tests look at.
#[derive(Default, Debug)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) grown: u32,
    pub(crate) shrunk: u32,
    pub(crate) replaced: u32,
    pub(crate) most_serving: usize,
    pub(crate) most_counted: u32,
    pub(crate) waits_ms: Vec<u64>,
    pub(crate) stale_shrinks: u32,
    /// Limits that were set: when, whose, thousandths of a core.
    pub(crate) resizes: Vec<(u64, String, u32)>,
    pub(crate) log: Vec<String>,
}

pub(crate) struct World {
    pub(crate) brain: Brain,
    pub(crate) now: u64,
    pub(crate) dice: Dice,
    pub(crate) faults: Faults,
    pub(crate) tally: Tally,
    pub(crate) journal: Vec<(Time, Option<Event>)>,
    pub(crate) plans: Vec<String>,
    /// CPU that a request uses while it is served, cores.
    pub(crate) cores_per_request: f64,
    /// Time from a start to healthy, ms.
    pub(crate) boot_ms: u64,
    workload: Workload,
    machines: BTreeMap<NodeId, Machine>,
    balancer_at: NodeId,
    balancer_started: u64,
    servers: BTreeMap<TaskName, Server>,
    queue: VecDeque<u64>,
    came: u64,
    waits: Vec<u64>,
    answers: VecDeque<(u64, NodeId, Outcome)>,
    seen: BTreeMap<TaskName, Generation>,
    stale_until: u64,
    report: Option<(u64, BalancerReport)>,
    wake: Option<Time>,
}

fn inventory() -> Inventory {
    Inventory {
        kernel: "6.1".into(),
        launchers: vec!["puma".into()],
        acts: true,
        ..Inventory::new(4, 8 << 30, Tier::A)
    }
}

impl World {
    pub(crate) fn new(seed: u64, machines: usize, workload: Workload, faults: Faults) -> Self {
        let names = (0..machines).map(|n| NodeId::new(format!("node-{n}")).unwrap());
        let machines: BTreeMap<_, _> =
            names.map(|n| (n, Machine { up: true, ..Machine::default() })).collect();
        let mut world = Self {
            brain: Brain::new(Config::default()),
            now: 1_000_000,
            dice: Dice(seed),
            faults,
            tally: Tally::default(),
            journal: vec![],
            plans: vec![],
            cores_per_request: 0.5,
            boot_ms: 1_500,
            workload: workload.clone(),
            balancer_at: machines.keys().next().unwrap().clone(),
            machines,
            balancer_started: 1,
            servers: BTreeMap::new(),
            queue: VecDeque::new(),
            came: 0,
            waits: vec![],
            answers: VecDeque::new(),
            seen: BTreeMap::new(),
            stale_until: 0,
            report: None,
            wake: None,
        };
        world.tell(Event::Started { epoch: ControllerEpoch(1) });
        world.tell(Event::SpecApplied { workload });
        for node in world.machines.keys().cloned().collect::<Vec<_>>() {
            world.connect(&node);
        }
        world
    }

    pub(crate) fn tell(&mut self, event: Event) {
        let now = Time(self.now);
        self.journal.push((now, Some(event.clone())));
        self.brain.observe(event, now);
    }

    fn connect(&mut self, node: &NodeId) {
        let tasks = self.machines[node]
            .tasks
            .iter()
            .map(|(task, process)| RunningTask {
                task: task.clone(),
                workload: process.workload.parse().unwrap(),
                cgroup: CgroupId(7),
                generation: process.generation,
                healthy: process.healthy,
                class: None,
            })
            .collect();
        let incarnation = Incarnation { boot: BootId(1), agent: AgentEpoch(self.now) };
        self.tell(Event::NodeUp { node: node.clone(), incarnation, inventory: inventory(), tasks });
    }

    /// Lets the controller die and start anew, with all nodes connecting again.
    pub(crate) fn restart_controller(&mut self, epoch: u64) {
        self.tell(Event::Started { epoch: ControllerEpoch(epoch) });
        for node in self.machines.keys().cloned().collect::<Vec<_>>() {
            if self.machines[&node].up {
                self.connect(&node);
            }
        }
    }

    /// The journal begins anew: another brain, which is told what this one must not forget.
    pub(crate) fn begin_anew(&mut self, epoch: u64) {
        let memory = std::mem::replace(&mut self.brain, Brain::new(Config::default())).memory();
        self.journal.clear();
        self.plans.clear();
        for event in memory {
            self.tell(event);
        }
        self.restart_controller(epoch);
    }

    /// Runs for `ms` with `rate` requests per second, `service_ms` each.
    pub(crate) fn run(&mut self, ms: u64, rate: f64, service_ms: f64) {
        let end = self.now + ms;
        while self.now < end {
            self.now += STEP_MS;
            self.clients(rate, service_ms);
            self.processes();
            self.answer();
            if self.now.is_multiple_of(1_000) {
                self.misfortune();
                self.measure();
            }
            if self.now.is_multiple_of(1_000) || self.wake.is_some_and(|at| at.0 <= self.now) {
                self.think();
            }
        }
    }

    pub(crate) fn serving(&self) -> usize {
        self.servers.values().filter(|s| s.state == ServerState::Up).count()
    }

    pub(crate) fn changing(&self) -> bool {
        self.brain.workloads(Time(self.now)).iter().any(|view| view.starting + view.leaving > 0)
    }

    /// CPU limits in force, thousandths of a core.
    pub(crate) fn limits(&self) -> Vec<Option<u32>> {
        self.machines.values().flat_map(|m| m.tasks.values().map(|p| p.cpu_max_millis)).collect()
    }

    pub(crate) fn processes_alive(&self) -> usize {
        self.machines.values().map(|m| m.tasks.len()).sum()
    }

    fn clients(&mut self, rate: f64, service_ms: f64) {
        let mut coming = rate * STEP_MS as f64 / 1_000.0;
        while coming >= 1.0 || self.dice.roll() < coming {
            coming -= 1.0;
            self.queue.push_back(self.now);
            self.tally.requests += 1;
            self.came += 1;
            if coming <= 0.0 {
                break;
            }
        }
        for server in self.servers.values_mut() {
            server.busy.retain(|until| *until > self.now);
        }
        while let Some(since) = self.queue.front().copied() {
            let free = self
                .servers
                .values_mut()
                .filter(|s| matches!(s.state, ServerState::Up | ServerState::Failing))
                .filter(|s| s.busy.len() < s.limit)
                .min_by_key(|s| s.busy.len());
            let Some(server) = free else { break };
            let work = self.dice.exponential(service_ms).max(1.0) as u64;
            server.busy.push(self.now + work);
            self.waits.push(self.now - since);
            self.tally.waits_ms.push(self.now - since);
            self.queue.pop_front();
        }
        // A client gives up after ten seconds.
        while self.queue.front().is_some_and(|since| self.now - since > 10_000) {
            self.queue.pop_front();
            self.tally.errors += 1;
        }
        self.tally.most_serving = self.tally.most_serving.max(self.serving());
    }

    fn processes(&mut self) {
        let now = self.now;
        let mut told = vec![];
        for (node, machine) in &mut self.machines {
            for (task, process) in &mut machine.tasks {
                if !process.healthy && process.ready_at <= now && process.ends_at.is_none() {
                    process.healthy = true;
                    told.push((node.clone(), task.clone(), TaskEventKind::Healthy, machine.up));
                }
            }
            let over: Vec<TaskName> = machine
                .tasks
                .iter()
                .filter(|(_, p)| p.ends_at.is_some_and(|at| at <= now))
                .map(|(t, _)| t.clone())
                .collect();
            for task in over {
                machine.tasks.remove(&task);
                let kind =
                    TaskEventKind::Ended { status: Some(0), signal: None, cpu_total_us: None, asked: true };
                told.push((node.clone(), task, kind, machine.up));
            }
        }
        for (node, task, kind, heard) in told {
            if matches!(kind, TaskEventKind::Ended { .. }) {
                self.crash(&task);
            }
            if heard {
                self.task_event(&node, task, kind);
            }
        }
        for server in self.servers.values_mut() {
            let alive = self.machines.values().any(|m| m.tasks.get(&server.task).is_some_and(|p| p.healthy));
            match server.state {
                ServerState::Up if !alive => server.state = ServerState::Down,
                ServerState::Down if alive && server.up_at <= now => server.state = ServerState::Up,
                _ => {}
            }
        }
    }

    fn task_event(&mut self, node: &NodeId, task: TaskName, kind: TaskEventKind) {
        let event =
            TaskEvent { task, workload: self.workload.name.clone(), cgroup: CgroupId(7), kind, at_ns: 0 };
        self.tell(Event::Task { node: node.clone(), event });
    }

    /// The requests that a process had when it ended are lost.
    fn crash(&mut self, task: &TaskName) {
        if let Some(server) = self.servers.get_mut(task) {
            self.tally.errors += server.busy.len() as u64;
            server.busy.clear();
        }
    }

    fn answer(&mut self) {
        while self.answers.front().is_some_and(|(at, _, _)| *at <= self.now) {
            let (_, node, outcome) = self.answers.pop_front().unwrap();
            if self.machines[&node].up {
                self.tell(Event::Outcome { node, outcome });
            }
        }
    }

    fn misfortune(&mut self) {
        let faults = self.faults;
        if self.dice.roll() < faults.kill_replica {
            let all: Vec<(NodeId, TaskName)> = self
                .machines
                .iter()
                .flat_map(|(n, m)| m.tasks.keys().map(|t| (n.clone(), t.clone())))
                .collect();
            if !all.is_empty() {
                let (node, task) = all[(self.dice.roll() * all.len() as f64) as usize].clone();
                self.machines.get_mut(&node).unwrap().tasks.remove(&task);
                self.crash(&task);
                let kind =
                    TaskEventKind::Ended { status: None, signal: Some(9), cpu_total_us: None, asked: false };
                if self.machines[&node].up {
                    self.task_event(&node, task, kind);
                }
            }
        }
        let names: Vec<NodeId> = self.machines.keys().cloned().collect();
        for node in names {
            if self.machines[&node].up && self.dice.roll() < faults.lose_node {
                let machine = self.machines.get_mut(&node).unwrap();
                machine.up = false;
                machine.down_until = self.now + 20_000;
                self.tell(Event::NodeDown { node: node.clone(), why: "silent".into() });
            } else if !self.machines[&node].up && self.machines[&node].down_until <= self.now {
                self.machines.get_mut(&node).unwrap().up = true;
                self.connect(&node);
            }
        }
        if self.dice.roll() < faults.restart_balancer {
            self.restart_balancer();
        }
        if self.dice.roll() < faults.stale {
            self.stale_until = self.now + 8_000;
        }
    }

    pub(crate) fn restart_balancer(&mut self) {
        self.balancer_started = self.now;
        self.came = 0;
        self.servers.clear();
    }

    pub(crate) fn go_stale(&mut self, ms: u64) {
        self.stale_until = self.now + ms;
    }

    fn measure(&mut self) {
        if self.now >= self.stale_until && self.machines[&self.balancer_at].up {
            let mut waits = std::mem::take(&mut self.waits);
            waits.sort_unstable();
            let at = |q: f64| waits[((waits.len() - 1) as f64 * q) as usize] as f64;
            let queue_delay = (!waits.is_empty()).then(|| Quantiles {
                count: waits.len() as u64,
                p50_ms: at(0.5),
                p95_ms: at(0.95),
                p99_ms: at(0.99),
                max_ms: at(1.0),
            });
            let servers = self.servers.iter().map(|(task, s)| ServerReport {
                server: task.to_string(),
                address: "10.0.0.1:9300".into(),
                state: s.state,
                active: s.busy.len() as u64,
                queued: 0,
                limit: s.limit as u64,
                check: "L7OK".into(),
            });
            let report = BalancerReport {
                backend: "web".into(),
                queued: self.queue.len() as u64,
                requests_total: self.came,
                errors_5xx_total: 0,
                errors_connection_total: 0,
                queue_delay,
                response_time: None,
                servers: servers.collect(),
                started_ms: self.balancer_started,
            };
            self.report = Some((self.now, report));
        }
        let age = self.report.as_ref().map_or(0, |(at, _)| self.now - at);
        let balancer = self.report.as_ref().map(|(_, report)| BalancerDigest {
            node: self.balancer_at.clone(),
            report: report.clone(),
            age_ms: age,
        });
        let mut replicas = vec![];
        for (node, machine) in &self.machines {
            for (task, process) in &machine.tasks {
                let busy = self.servers.get(task).map_or(0, |s| s.busy.len());
                let wanted = busy as f64 * self.cores_per_request;
                let quota = process.cpu_max_millis.map_or(f64::INFINITY, |millis| f64::from(millis) / 1e3);
                replicas.push(ReplicaDigest {
                    task: task.clone(),
                    node: node.clone(),
                    age_ms: Some(if machine.up { age } else { self.now - (machine.down_until - 20_000) }),
                    cpu_cores: Some(wanted.min(quota)),
                    throttled_ratio: None,
                    run_delay_mean_seconds: None,
                    memory_bytes: Some(200 << 20),
                    oom_kills: None,
                    puma: None,
                });
            }
        }
        replicas.sort_by(|a, b| a.task.cmp(&b.task));
        let nodes = self
            .machines
            .iter()
            .map(|(node, m)| NodeDigest {
                node: node.clone(),
                age_ms: Some(0),
                cpu_cores: Some(m.tasks.len() as f64 * 0.3),
                memory_bytes: Some(m.tasks.len() as u64 * (200 << 20)),
                tasks: m.tasks.len() as u32,
            })
            .collect();
        self.tell(Event::Nodes { nodes });
        self.tell(Event::Digest(Digest { workload: self.workload.name.clone(), replicas, balancer }));
    }

    fn think(&mut self) {
        let plan = self.brain.next(Time(self.now));
        self.journal.push((Time(self.now), None));
        self.plans.push(serde_json::to_string(&plan).unwrap());
        self.wake = plan.wake_at;
        for view in self.brain.workloads(Time(self.now)) {
            self.tally.most_counted = self.tally.most_counted.max(view.up + view.starting);
        }
        self.note(&plan);
        for (node, command) in plan.commands {
            self.carry_out(&node, &command);
        }
    }

    fn note(&mut self, plan: &Plan) {
        for decision in &plan.decisions {
            self.tally.log.push(format!("{:>4} {decision}", (self.now - 1_000_000) / 1_000));
            if !decision.act {
                continue;
            }
            match decision.kind {
                model::decision::DecisionKind::ScaleOut => self.tally.grown += 1,
                model::decision::DecisionKind::ScaleIn => {
                    self.tally.shrunk += 1;
                    let seen = self.report.as_ref().map_or(0, |(at, _)| *at);
                    self.tally.stale_shrinks += u32::from(self.now - seen > 3_000);
                }
                model::decision::DecisionKind::Replace => self.tally.replaced += 1,
                _ => {}
            }
        }
    }

    fn carry_out(&mut self, node: &NodeId, command: &Command) {
        if !self.machines[node].up || self.dice.roll() < self.faults.lose_command {
            return;
        }
        let seen = self.seen.entry(command.task.clone()).or_default();
        assert!(command.generation > *seen, "generations grow: {command:?}");
        *seen = command.generation;
        let now = self.now;
        let mut read_back = BTreeMap::new();
        let mut kind = OutcomeKind::Applied;
        let mut delay = 100;
        match &command.verb {
            Verb::Start { size, .. } => {
                if self.dice.roll() < self.faults.start_fails {
                    kind = OutcomeKind::Failed;
                } else {
                    let machine = self.machines.get_mut(node).unwrap();
                    let process = Process {
                        workload: command.workload.to_string(),
                        ready_at: now + self.boot_ms,
                        healthy: false,
                        ends_at: None,
                        generation: command.generation,
                        cpu_max_millis: size.cpu_max_millis,
                    };
                    machine.tasks.entry(command.task.clone()).or_insert(process);
                    read_back.insert("host".to_owned(), "10.0.0.1".to_owned());
                }
            }
            Verb::Stop { grace_ms } => {
                let ms = if self.faults.ignore_term { u64::from(*grace_ms) } else { 300 };
                match self.machines.get_mut(node).unwrap().tasks.get_mut(&command.task) {
                    Some(process) => process.ends_at = process.ends_at.or(Some(now + ms)),
                    None => kind = OutcomeKind::Already,
                }
                delay = ms + 100;
            }
            Verb::Resize { size } => {
                let machine = self.machines.get_mut(node).unwrap();
                match (machine.tasks.get_mut(&command.task), size.cpu_max_millis) {
                    (Some(process), Some(millis)) => {
                        process.cpu_max_millis = Some(millis);
                        self.tally.resizes.push((now, command.task.to_string(), millis));
                    }
                    _ => kind = OutcomeKind::Failed,
                }
            }
            Verb::Balancer { step, .. } => kind = self.step(&command.task, step),
            verb => panic!("{verb:?} is not expected"),
        }
        let outcome = Outcome {
            command: command.id,
            generation: command.generation,
            task: command.task.clone(),
            kind,
            why: String::new(),
            read_back,
        };
        let at = self.answers.partition_point(|(at, _, _)| *at <= now + delay);
        self.answers.insert(at, (now + delay, node.clone(), outcome));
    }

    fn step(&mut self, task: &TaskName, step: &BalancerStep) -> OutcomeKind {
        let now = self.now;
        let server = self.servers.get_mut(task);
        match (step, server) {
            (BalancerStep::Add { limit, .. }, None) => {
                let server = Server {
                    state: ServerState::Down,
                    limit: *limit as usize,
                    busy: vec![],
                    task: task.clone(),
                    up_at: now + 500,
                };
                self.servers.insert(task.clone(), server);
                OutcomeKind::Applied
            }
            (BalancerStep::Add { .. }, Some(_)) => OutcomeKind::Already,
            (BalancerStep::Ready, Some(server)) => {
                server.state = ServerState::Up;
                OutcomeKind::Applied
            }
            (BalancerStep::Drain, Some(server)) => {
                server.state = ServerState::Draining;
                OutcomeKind::Applied
            }
            (BalancerStep::Maintenance, Some(server)) => {
                server.state = ServerState::Maintenance;
                OutcomeKind::Applied
            }
            (BalancerStep::Remove, Some(server)) => {
                if server.state != ServerState::Maintenance || !server.busy.is_empty() {
                    return OutcomeKind::Failed;
                }
                self.servers.remove(task);
                OutcomeKind::Applied
            }
            (_, None) => OutcomeKind::Failed,
        }
    }
}
