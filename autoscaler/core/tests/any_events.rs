//! Whatever is told in whatever order: no panic, bounds hold, fences grow, and the linter has nothing to refuse.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use autoscaler_core::brain::{Brain, Config};
use autoscaler_core::event::{BalancerDigest, Digest, Event, NodeDigest, ReplicaDigest, RunningTask, Time};
use model::action::{Command, Outcome, OutcomeKind, TaskEvent, TaskEventKind};
use model::adapter::{BalancerReport, Quantiles, ServerReport, ServerState};
use model::gap::{Gap, GapKind};
use model::id::{AgentEpoch, BootId, CgroupId, CommandId, ControllerEpoch, Generation, NodeId, TaskName};
use model::node::{Incarnation, Inventory, Tier};
use model::reason::Reason;
use model::workload::Workload;
use proptest::prelude::*;

const MAX: u32 = 4;

fn workload(kind: u8, mode: u8) -> Workload {
    let mode = ["auto", "auto", "auto", "recommend", "observe"][usize::from(mode % 5)];
    let policy = if kind & 2 == 0 { "trimtab" } else { "hpa" };
    let behavior = serde_json::json!({"growAfter": "1s", "shrinkAfter": "3s", "shrinkCooldown": "2s",
        "growCooldown": "100ms", "drainDeadline": "3s", "stopGrace": "1s", "stepDown": 2});
    let mut spec = serde_json::json!({"mode": mode, "policy": policy, "behavior": behavior,
        "replicas": {"min": 1, "max": MAX}});
    if kind & 1 == 0 {
        spec["type"] = "rails".into();
        spec["target"] = serde_json::json!({"queueDelayP95": "20ms"});
        spec["rails"] = serde_json::json!({"balancer": {"haproxy": "/s", "backend": "web"}, "launcher": "run",
            "workers": 1, "threads": 2, "ports": {"from": 9000, "span": 7},
            "database": {"maxConnections": 12, "pool": 2}});
    } else {
        spec["type"] = "service".into();
        spec["target"] = serde_json::json!({"cpu": "65%"});
        spec["service"] = serde_json::json!({"launcher": "run"});
    }
    serde_json::from_value(serde_json::json!({"name": "web", "spec": spec})).unwrap()
}

fn node(n: u8) -> NodeId {
    NodeId::new(format!("node-{}", n % 3)).unwrap()
}

fn task(n: u8) -> TaskName {
    TaskName::new(format!("web-{}", n % 12)).unwrap()
}

fn state(n: u8) -> ServerState {
    [
        ServerState::Up,
        ServerState::Up,
        ServerState::Failing,
        ServerState::Down,
        ServerState::Draining,
        ServerState::Maintenance,
    ][usize::from(n % 6)]
}

fn number(n: u8) -> f64 {
    [0.0, 0.5, 3.0, 40.0, 1e9, -1.0, f64::NAN, f64::INFINITY][usize::from(n % 8)]
}

/// One event from four bytes; `sent` are the commands of the last plans.
fn event(bytes: [u8; 4], sent: &[(NodeId, Command)]) -> Event {
    let [what, a, b, c] = bytes;
    let answer = |kind| {
        let known = sent.get(usize::from(a) % sent.len().max(1));
        let (at, id, generation, task) = known.map_or_else(
            || (node(a), CommandId(u64::from(b)), Generation(1), task(c)),
            |(at, command)| (at.clone(), command.id, command.generation, command.task.clone()),
        );
        let read_back = [("host".to_owned(), "10.0.0.1".to_owned())].into();
        let why = "because".to_owned();
        Event::Outcome { node: at, outcome: Outcome { command: id, generation, task, kind, why, read_back } }
    };
    let happened = |kind| Event::Task {
        node: node(a),
        event: TaskEvent {
            task: task(b),
            workload: "web".parse().unwrap(),
            cgroup: CgroupId(1),
            kind,
            at_ns: 0,
        },
    };
    match what % 24 {
        0 => Event::Started { epoch: ControllerEpoch(u64::from(a) + 2) },
        1 => Event::SpecApplied { workload: workload(a, b) },
        2 if a == 0 => Event::SpecRemoved { workload: "web".parse().unwrap() },
        3 if a < 40 => {
            Event::Paused { workload: None, reason: "x".into(), until: Some(Time(u64::from(b) * 500)) }
        }
        4 => Event::Resumed { workload: None },
        5 | 6 => Event::NodeUp {
            node: node(a),
            incarnation: Incarnation { boot: BootId(1), agent: AgentEpoch(1) },
            inventory: Inventory {
                launchers: vec!["run".into()],
                acts: a < 200,
                ..Inventory::new(2, 1 << 30, Tier::C)
            },
            tasks: (0..b % 4)
                .map(|n| RunningTask {
                    task: task(c.wrapping_add(n)),
                    workload: "web".parse().unwrap(),
                    cgroup: CgroupId(1),
                    generation: Generation(1),
                    healthy: n % 2 == 0,
                    class: None,
                })
                .collect(),
        },
        7 => Event::NodeDown { node: node(a), why: "silent".into() },
        8..=11 => answer(OutcomeKind::Applied),
        12 => answer([OutcomeKind::Already, OutcomeKind::Refused, OutcomeKind::Failed][usize::from(b % 3)]),
        13 | 14 => happened(TaskEventKind::Healthy),
        15 => {
            happened(TaskEventKind::Ended { status: Some(1), signal: None, cpu_total_us: None, asked: false })
        }
        16 => Event::Gap {
            node: node(a),
            gap: Gap { kind: GapKind::Lost, from_ns: 0, to_ns: 1, cause: String::new() },
        },
        17 => Event::Nodes {
            nodes: vec![NodeDigest {
                node: node(a),
                age_ms: None,
                cpu_cores: Some(number(b)),
                memory_bytes: None,
                tasks: 1,
            }],
        },
        18 if a < 160 => Event::NodeDrained { node: node(a), reason: "kernel".into() },
        18 => Event::NodeReturned { node: node(a) },
        _ => digest(a, b, c),
    }
}

fn digest(a: u8, b: u8, c: u8) -> Event {
    let servers = (0..12u8).filter(|n| !(n ^ a).is_multiple_of(5)).map(|n| ServerReport {
        server: task(n).to_string(),
        address: "10.0.0.1:1".into(),
        state: state(b.wrapping_mul(n | 1)),
        active: u64::from(c % 3),
        queued: 0,
        limit: 2,
        check: if c == 9 { "L7TOUT".into() } else { "L7OK".into() },
    });
    let p95_ms = number(c);
    let report = BalancerReport {
        backend: "web".into(),
        queued: u64::from(c) * 3,
        requests_total: u64::from(b) * 100,
        errors_5xx_total: 0,
        errors_connection_total: 0,
        queue_delay: Some(Quantiles { count: 5, p50_ms: 0.0, p95_ms, p99_ms: p95_ms, max_ms: p95_ms }),
        response_time: None,
        servers: servers.collect(),
        started_ms: u64::from(a % 2),
    };
    let age_ms = u64::from(c % 5) * 1_000;
    let replicas = (0..12u8).map(|n| ReplicaDigest {
        task: task(n),
        node: node(n),
        age_ms: (!a.is_multiple_of(7)).then_some(age_ms),
        cpu_cores: Some(number(b.wrapping_add(n))),
        throttled_ratio: Some(number(c)),
        run_delay_mean_seconds: None,
        memory_bytes: Some(1 << 28),
        oom_kills: Some(u64::from(a % 2)),
        puma: None,
    });
    let balancer = (!a.is_multiple_of(11)).then(|| BalancerDigest { node: node(b), report, age_ms });
    Event::Digest(Digest { workload: "web".parse().unwrap(), replicas: replicas.collect(), balancer })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn nothing_breaks(
        kind in any::<u8>(),
        script in prop::collection::vec((any::<[u8; 4]>(), 0u64..1_500), 1..150)
    ) {
        let mut brain = Brain::new(Config { idle_ms: 1_000, ..Config::default() });
        let mut now = Time(1);
        brain.observe(Event::Started { epoch: ControllerEpoch(1) }, now);
        brain.observe(Event::SpecApplied { workload: workload(kind, 0) }, now);
        for n in 0..3 {
            brain.observe(event([5, n, 0, 0], &[]), now);
        }
        let mut sent = vec![];
        let mut last = (CommandId(0), Generation(0));
        for (bytes, ms) in script {
            now = now.after(ms);
            let told = event(bytes, &sent);
            // Replay restarts a fence on purpose: only within one epoch do ids and generations grow.
            if matches!(told, Event::Started { .. }) {
                last = (CommandId(0), Generation(0));
            }
            brain.observe(told, now);
            let plan = brain.next(now);
            prop_assert!(plan.wake_at.is_none_or(|at| at > now), "{:?} at {:?}", plan.wake_at, now);
            for decision in &plan.decisions {
                let refused = decision.reasons.iter().any(|r| matches!(r, Reason::PlanRefused { .. }));
                prop_assert!(!refused, "{decision}");
                prop_assert!((1..=MAX).contains(&decision.after), "{decision}");
                serde_json::to_string(decision).unwrap();
            }
            for (_, command) in &plan.commands {
                prop_assert!(command.id > last.0 && command.generation > last.1, "{command:?}");
                last = (command.id, command.generation);
            }
            for view in brain.workloads(now) {
                prop_assert!(view.wanted <= MAX && view.up + view.starting <= MAX + 12, "{view:?}");
            }
            prop_assert_eq!(brain.refused_commands(), 0);
            sent.extend(plan.commands);
            let spare = sent.len().saturating_sub(8);
            sent.drain(..spare);
            brain.take_idle();
        }
    }
}
