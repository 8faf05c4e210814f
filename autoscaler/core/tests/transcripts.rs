//! Golden transcripts: scripts of events with what the brain answered. A bug report becomes a text file.
//!
//! In a file under `tests/transcripts`, lines that begin with `> ` are input, all others output. `UPDATE=1` writes the
//! output anew. The world of a script does what it is told at once: a start is answered and healthy, a server is what the
//! last step made it; only the numbers of `load` and the faults come from the script.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod golden;

use std::collections::BTreeMap;
use std::fmt::Write;

use autoscaler_core::brain::{Brain, Config};
use autoscaler_core::event::{BalancerDigest, Digest, Event, ReplicaDigest, RunningTask, Time};
use model::action::{
    BalancerStep, Command, Crowded, Outcome, OutcomeKind, Strain, TaskEvent, TaskEventKind, Verb,
};
use model::adapter::{BalancerReport, Quantiles, ServerReport, ServerState};
use model::gap::{Gap, GapKind};
use model::id::{AgentEpoch, BootId, CgroupId, ControllerEpoch, Generation, NodeId, TaskName};
use model::node::{Incarnation, Inventory, Tier};

struct Script {
    brain: Brain,
    now: u64,
    tasks: BTreeMap<TaskName, NodeId>,
    servers: BTreeMap<TaskName, ServerState>,
    load: BTreeMap<String, f64>,
    came: f64,
    report_at: u64,
    stale_until: u64,
    silent: Option<NodeId>,
    deaf: bool,
    out: String,
}

impl Script {
    fn new() -> Self {
        Self {
            brain: Brain::new(Config::default()),
            now: 0,
            tasks: BTreeMap::new(),
            servers: BTreeMap::new(),
            load: BTreeMap::new(),
            came: 0.0,
            report_at: 0,
            stale_until: 0,
            silent: None,
            deaf: false,
            out: String::new(),
        }
    }

    fn tell(&mut self, event: Event) {
        self.brain.observe(event, Time(self.now));
    }

    fn input(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap();
        let rest: Vec<&str> = words.collect();
        let number = |name: &str, default: f64| {
            let found = rest.iter().find_map(|w| w.strip_prefix(name)?.strip_prefix('='));
            found.map_or(default, |v| v.parse().unwrap())
        };
        match verb {
            "start" => self.tell(Event::Started { epoch: ControllerEpoch(number("epoch", 1.0) as u64) }),
            "apply" => self.apply(&rest),
            "node" => self.node(rest[0]),
            // Its tasks go on, and nobody hears of it.
            "silent" => {
                let node: NodeId = rest[0].parse().unwrap();
                self.silent = Some(node.clone());
                self.tell(Event::NodeDown { node, why: "silent".into() });
            }
            "back" => {
                self.silent = None;
                self.node(rest[0]);
            }
            "down" => {
                let node: NodeId = rest[0].parse().unwrap();
                self.tasks.retain(|_, on| *on != node);
                self.tell(Event::NodeDown { node, why: "silent".into() });
            }
            "load" => {
                for name in ["rate", "busy", "queued", "p95"] {
                    self.load.insert(name.to_owned(), number(name, 0.0));
                }
            }
            "strain" => {
                let task: TaskName = rest[0].parse().unwrap();
                let strain = Strain {
                    oom_kills: number("oom", 0.0) as u64,
                    forks_refused: number("forks", 0.0) as u64,
                };
                let node = self.tasks[&task].clone();
                self.task(node, task, TaskEventKind::Strained { strain });
            }
            "crowd" => {
                let task: TaskName = rest[0].parse().unwrap();
                let crowded = Crowded {
                    stalled_ppm: number("stalled", 0.0) as u32,
                    by: rest.get(1).filter(|word| !word.contains('=')).map(|by| by.parse().unwrap()),
                    bytes_per_s: 45_000_000,
                    share_ppm: 930_000,
                };
                let node = self.tasks[&task].clone();
                self.task(node, task, TaskEventKind::Crowded { crowded });
            }
            "kill" => self.end(&rest[0].parse().unwrap()),
            "server" => {
                let state = if rest[1] == "up" { ServerState::Up } else { ServerState::Down };
                self.servers.insert(rest[0].parse().unwrap(), state);
            }
            "fail" => {
                self.servers.insert(rest[0].parse().unwrap(), ServerState::Failing);
            }
            "stale" => self.stale_until = self.now + number("for", 10.0) as u64 * 1_000,
            "deaf" => self.deaf = rest[0] == "on",
            "restart-balancer" => self.servers.clear(),
            "gap" => {
                let gap = Gap { kind: GapKind::Lost, from_ns: 0, to_ns: 1, cause: "spool full".into() };
                self.tell(Event::Gap { node: rest[0].parse().unwrap(), gap });
            }
            "pause" => {
                let reason = rest.join(" ");
                self.tell(Event::Paused { workload: None, reason, until: None });
            }
            "resume" => self.tell(Event::Resumed { workload: None }),
            "drain" => {
                let (node, reason) = (rest[0].parse().unwrap(), rest[1..].join(" "));
                for (workload, left, why) in self.brain.would_stay(&node, Time(self.now)) {
                    writeln!(self.out, "     {left} of {workload} would stay: {why}").unwrap();
                }
                self.tell(Event::NodeDrained { node, reason });
            }
            "return" => self.tell(Event::NodeReturned { node: rest[0].parse().unwrap() }),
            "run" => {
                for _ in 0..rest[0].parse::<u64>().unwrap() {
                    self.round();
                }
            }
            "explain" => self.explain(),
            other => panic!("{other}?"),
        }
    }

    fn apply(&mut self, rest: &[&str]) {
        let value = |name: &str, default: &str| {
            let found = rest.iter().find_map(|w| w.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or(default).to_owned()
        };
        let number = |name: &str, default: &str| value(name, default).parse::<u32>().unwrap();
        let mut rails = serde_json::json!({
            "balancer": {"haproxy": "/run/haproxy.sock", "backend": "web"}, "launcher": "puma",
            "workers": 2, "threads": 2, "ports": {"from": 9300, "span": 50}
        });
        if number("connections", "0") > 0 {
            rails["database"] = serde_json::json!({"maxConnections": number("connections", "0"), "pool": 2});
        }
        let workload = serde_json::json!({"name": "web", "spec": {
            "type": "rails", "mode": value("mode", "auto"), "policy": value("policy", "trimtab"), "rails": rails,
            "replicas": {"min": number("min", "1"), "max": number("max", "4")},
            "target": {"queueDelayP95": "20ms"},
            "behavior": {"growAfter": "2s", "shrinkAfter": "10s", "shrinkCooldown": "10s", "growCooldown": "2s",
                "drainDeadline": "10s", "stopGrace": "5s"}
        }});
        self.tell(Event::SpecApplied { workload: serde_json::from_value(workload).unwrap() });
    }

    fn node(&mut self, name: &str) {
        let inventory =
            Inventory { launchers: vec!["puma".into()], acts: true, ..Inventory::new(4, 8 << 30, Tier::A) };
        let incarnation = Incarnation { boot: BootId(1), agent: AgentEpoch(self.now) };
        let node: NodeId = name.parse().unwrap();
        let here = self.tasks.iter().filter(|(_, on)| **on == node);
        let tasks = here.map(|(task, _)| RunningTask {
            task: task.clone(),
            workload: "web".parse().unwrap(),
            cgroup: CgroupId(1),
            generation: Generation(1),
            healthy: false,
            class: None,
        });
        let tasks = tasks.collect();
        self.tell(Event::NodeUp { node, incarnation, inventory, tasks });
    }

    fn end(&mut self, task: &TaskName) {
        if let Some(node) = self.tasks.remove(task) {
            let kind =
                TaskEventKind::Ended { status: None, signal: Some(9), cpu_total_us: None, asked: false };
            self.task(node, task.clone(), kind);
        }
    }

    fn task(&mut self, node: NodeId, task: TaskName, kind: TaskEventKind) {
        let workload = "web".parse().unwrap();
        let event = TaskEvent { task, workload, cgroup: CgroupId(1), kind, at_ns: 0 };
        self.tell(Event::Task { node, event });
    }

    fn round(&mut self) {
        self.now += 1_000;
        let number = |name: &str| self.load.get(name).copied().unwrap_or(0.0);
        self.came += number("rate");
        let heard = self.silent.as_ref().is_none_or(|node| node.as_str() != "a");
        if self.now >= self.stale_until && heard {
            self.report_at = self.now;
        }
        let up = self.servers.values().filter(|s| **s == ServerState::Up).count().max(1) as f64;
        let p95 = number("p95");
        let report = BalancerReport {
            backend: "web".into(),
            queued: number("queued") as u64,
            requests_total: self.came as u64,
            errors_5xx_total: 0,
            errors_connection_total: 0,
            queue_delay: (number("rate") > 0.0).then_some(Quantiles {
                count: number("rate") as u64,
                p50_ms: 0.0,
                p95_ms: p95,
                p99_ms: p95,
                max_ms: p95,
            }),
            response_time: None,
            servers: self
                .servers
                .iter()
                .map(|(task, state)| ServerReport {
                    server: task.to_string(),
                    address: "10.0.0.1:9300".into(),
                    state: *state,
                    active: if *state == ServerState::Up { (number("busy") / up).round() as u64 } else { 0 },
                    queued: 0,
                    limit: 4,
                    check: if *state == ServerState::Failing { "L7TOUT".into() } else { "L7OK".into() },
                })
                .collect(),
            started_ms: 1,
        };
        let age_ms = self.now - self.report_at;
        let replicas = self.tasks.iter().map(|(task, node)| ReplicaDigest {
            task: task.clone(),
            node: node.clone(),
            age_ms: Some(age_ms),
            cpu_cores: Some(0.25 * number("busy") / up),
            throttled_ratio: None,
            run_delay_mean_seconds: None,
            memory_bytes: Some(200 << 20),
            oom_kills: None,
            puma: None,
        });
        let digest = Digest {
            workload: "web".parse().unwrap(),
            replicas: replicas.collect(),
            balancer: Some(BalancerDigest { node: "a".parse().unwrap(), report, age_ms }),
        };
        self.tell(Event::Digest(digest));
        let plan = self.brain.next(Time(self.now));
        let at = self.now / 1_000;
        for decision in &plan.decisions {
            writeln!(self.out, "{at:>4} {decision}").unwrap();
            if let Some(binding) = &decision.binding {
                writeln!(self.out, "       bound by: {binding}").unwrap();
            }
        }
        for (node, command) in plan.commands {
            writeln!(self.out, "{at:>4} -> {node}: {} {}", command.task, command.verb).unwrap();
            if !self.deaf {
                self.obey(node, &command);
            }
        }
    }

    fn obey(&mut self, node: NodeId, command: &Command) {
        let task = command.task.clone();
        let mut read_back = BTreeMap::new();
        match &command.verb {
            Verb::Start { .. } => {
                self.tasks.insert(task.clone(), node.clone());
                read_back.insert("host".to_owned(), "10.0.0.1".to_owned());
            }
            Verb::Stop { .. } => {
                self.tasks.remove(&task);
            }
            Verb::Balancer { step, .. } => {
                let state = match step {
                    BalancerStep::Add { .. } | BalancerStep::Ready => Some(ServerState::Up),
                    BalancerStep::Drain => Some(ServerState::Draining),
                    BalancerStep::Maintenance => Some(ServerState::Maintenance),
                    BalancerStep::Remove => None,
                };
                match state {
                    Some(state) => self.servers.insert(task.clone(), state),
                    None => self.servers.remove(&task),
                };
            }
            verb => panic!("{verb} is not expected"),
        }
        let started = matches!(command.verb, Verb::Start { .. });
        let outcome = Outcome {
            command: command.id,
            generation: command.generation,
            task: task.clone(),
            kind: OutcomeKind::Applied,
            why: String::new(),
            read_back,
        };
        self.tell(Event::Outcome { node: node.clone(), outcome });
        if started {
            self.task(node, task, TaskEventKind::Healthy);
        }
    }

    fn explain(&mut self) {
        let explained = self.brain.explain(&"web".parse().unwrap(), Time(self.now)).unwrap();
        let view = explained.workload;
        writeln!(self.out, "     wanted {}, up {}", view.wanted, view.up).unwrap();
        for replica in view.replicas {
            let (task, node, state) = (replica.task, replica.node, replica.state);
            writeln!(self.out, "     {task} on {node}: {state}, {}", replica.detail).unwrap();
        }
        for (node, drain) in self.brain.drains() {
            writeln!(self.out, "     {node} is drained ({}): {} left", drain.why, drain.left).unwrap();
        }
        for block in explained.blocks {
            writeln!(self.out, "     blocked: {block}").unwrap();
        }
        for line in explained.would_act {
            writeln!(self.out, "     would act: {line}").unwrap();
        }
        for anomaly in explained.anomalies {
            writeln!(self.out, "     odd: {} {}", anomaly.task, anomaly.what).unwrap();
        }
    }
}

fn play(text: &str) -> String {
    let mut script = Script::new();
    let mut out = String::new();
    for line in text.lines() {
        if let Some(input) = line.strip_prefix("> ") {
            writeln!(out, "{line}").unwrap();
            script.input(input);
            out.push_str(&std::mem::take(&mut script.out));
        } else if line.starts_with('#') {
            writeln!(out, "{line}").unwrap();
        }
    }
    out
}

#[test]
fn scripts_give_what_is_written_in_them() {
    golden::replay("transcripts", 6, play);
}
