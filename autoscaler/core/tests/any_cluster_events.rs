//! Whatever is said of a cluster in whatever order and with whatever numbers: no panic, fences grow, and a replay decides the same to the bit.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use autoscaler_core::brain::{Brain, Config};
use autoscaler_core::event::{
    ClusterDigest, ClusterReport, Digest, Event, NodeDigest, ReplicaDigest, RunningTask, Time,
};
use model::action::{Command, Outcome, OutcomeKind, TaskEvent, TaskEventKind};
use model::cassandra::{CassandraMode, CassandraReport, RequestTimes, RingView};
use model::decision::DecisionId;
use model::hdfs::{AdminState, DataNode, HdfsReport};
use model::id::{AgentEpoch, BootId, CgroupId, CommandId, ControllerEpoch, Generation, NodeId, TaskName};
use model::node::{Incarnation, Inventory, Tier};
use model::workload::Workload;
use model::yarn::{Excluded, Resources, YarnNode, YarnReport, YarnState};
use proptest::prelude::*;
use serde_json::json;

const KINDS: [(&str, &str, &str); 3] =
    [("yarn", "containerWait", "5s"), ("hdfs", "disk", "50%"), ("cassandra", "disk", "40%")];

fn workload(kind: u8, mode: u8) -> Workload {
    let (kind, target, value) = KINDS[usize::from(kind % 3)];
    let mut of =
        json!({"cluster": "c", "launcher": "run", "member": "m{slot}", "slots": {"from": 1, "span": 5}});
    if kind == "yarn" && mode & 4 == 0 {
        of["advertise"] =
            json!({"least": {"memory": "256Mi", "vcores": 1}, "most": {"memory": "2Gi", "vcores": 4}});
    }
    let behavior =
        json!({"growAfter": "1s", "shrinkAfter": "3s", "shrinkCooldown": "2s", "growCooldown": "1s"});
    let mode = ["auto", "auto", "recommend", "observe"][usize::from(mode % 4)];
    let spec = json!({
        "type": kind, "mode": mode,
        "replicas": {"min": 1, "max": 4}, "target": {(target): value}, (kind): of, "behavior": behavior
    });
    serde_json::from_value(json!({"name": "c", "spec": spec})).unwrap()
}

fn node(n: u8) -> NodeId {
    NodeId::new(format!("node-{}", n % 3)).unwrap()
}

fn task(n: u8) -> TaskName {
    TaskName::new(format!("c-{}", n % 6)).unwrap()
}

/// Members of ours, somebody else's, and a name that is none.
fn member(n: u8) -> String {
    match n % 7 {
        6 => "<b>\u{202e}".to_owned(),
        5 => String::new(),
        n => format!("m{n}"),
    }
}

fn number(n: u8) -> u64 {
    [0, 0, 1, 7, 100, 1 << 30, u64::MAX / 2, u64::MAX][usize::from(n % 8)]
}

/// Some of six members; one may be there twice.
fn some(a: u8) -> impl Iterator<Item = u8> {
    (0..7u8).filter(move |n| (a >> (n % 7)) & 1 == 1).chain((a.is_multiple_of(31)).then_some(1))
}

fn yarn(a: u8, b: u8, c: u8) -> YarnReport {
    use YarnState as S;
    let state = |n: u8| {
        [
            S::Running,
            S::Running,
            S::New,
            S::Unhealthy,
            S::Decommissioning,
            S::Decommissioned,
            S::Lost,
            S::Shutdown,
        ][usize::from(n % 8)]
    };
    let small = |n: u8| u32::try_from(number(n)).unwrap_or(u32::MAX);
    let amount = |n: u8| Resources { memory_mib: number(n), vcores: small(n) };
    let one = |n: u8| YarnNode {
        host: member(n),
        port: (!b.is_multiple_of(3)).then_some(8041),
        state: state(b.wrapping_mul(n | 1)),
        total: amount(c.wrapping_add(n)),
        used: amount(c.wrapping_mul(n)),
        containers: small(c ^ n),
        masters: u32::from(c.wrapping_add(n).is_multiple_of(5)),
        health: String::new(),
    };
    YarnReport {
        cluster: "c".into(),
        started_ms: u64::from(b % 3),
        labels: b == 9,
        pending: amount(b),
        containers_pending: small(c),
        apps_running: small(a),
        apps_pending: small(b),
        excluded: (!c.is_multiple_of(7))
            .then(|| some(c).map(|n| Excluded { host: member(n), timeout_s: Some(small(n)) }).collect()),
        nodes: some(a).map(one).collect(),
    }
}

fn hdfs(a: u8, b: u8, c: u8) -> HdfsReport {
    use AdminState as S;
    let state = |n: u8| {
        [S::Normal, S::Normal, S::Decommissioning, S::Decommissioned, S::InMaintenance][usize::from(n % 5)]
    };
    let one = |n: u8| DataNode {
        name: member(n),
        address: member(n),
        alive: !b.wrapping_add(n).is_multiple_of(5),
        state: state(b.wrapping_mul(n | 1)),
        capacity_bytes: number(c.wrapping_add(n)),
        used_bytes: number(c.wrapping_mul(n)),
        remaining_bytes: number(b ^ n),
        blocks: number(n),
        to_copy: n.is_multiple_of(2).then(|| number(c)),
        rack: if b & 64 == 0 { "/r".into() } else { member(n) },
    };
    HdfsReport {
        cluster: "c".into(),
        started_ms: u64::from(b % 3),
        safe_mode: if c == 3 { "on".into() } else { String::new() },
        missing_blocks: if c.is_multiple_of(9) { number(b) } else { 0 },
        corrupt_blocks: if c.is_multiple_of(11) { number(a) } else { 0 },
        under_replicated_blocks: if c.is_multiple_of(5) { number(a) } else { 0 },
        blocks: number(c),
        replication: (!a.is_multiple_of(9)).then_some(u32::from(b % 4)),
        transfers: Some(number(a)),
        nodes: some(a).map(one).collect(),
    }
}

fn ring(a: u8, b: u8, c: u8) -> CassandraReport {
    use CassandraMode as M;
    let names = |bits: u8| some(bits).map(member).collect::<Vec<_>>();
    let times = |n: u8| RequestTimes { count: number(n), ..RequestTimes::default() };
    CassandraReport {
        cluster: "c".into(),
        address: member(b),
        dc: "dc".into(),
        rack: member(b >> 4),
        started_ms: u64::from(c % 3),
        mode: [
            M::Normal,
            M::Normal,
            M::Joining,
            M::Leaving,
            M::Decommissioned,
            M::DecommissionFailed,
            M::Drained,
        ][usize::from(c % 7)],
        ring: RingView {
            members: names(a),
            live: names(a | b),
            joining: if c & 8 == 0 { Vec::new() } else { names(c) },
            leaving: if c & 16 == 0 { Vec::new() } else { names(b) },
            seeds: names(a & 3),
            schema: "s".into(),
            ..RingView::default()
        },
        replication: BTreeMap::from([("k".to_owned(), u32::from(c % 4))]),
        pending_compactions: number(c),
        streams: u32::from(c.is_multiple_of(5)),
        hints: u32::from(c.is_multiple_of(13)),
        reads: times(a),
        writes: times(c),
        dropped: number(b),
        load_bytes: number(a),
        disk_bytes: Some(number(b)),
        disk_free_bytes: (a != 4).then(|| number(c)),
    }
}

/// One event from four bytes; `sent` are the commands of the last plans.
fn event(kind: u8, bytes: [u8; 4], sent: &[(NodeId, Command)], now: Time) -> Event {
    let [what, a, b, c] = bytes;
    let workload_name = || "c".parse().unwrap();
    let answer = |kind| {
        let known = sent.get(usize::from(a) % sent.len().max(1));
        let (at, id, generation, task) = known.map_or_else(
            || (node(a), CommandId(u64::from(b)), Generation(1), task(c)),
            |(at, command)| (at.clone(), command.id, command.generation, command.task.clone()),
        );
        let why = "because".to_owned();
        let outcome = Outcome { command: id, generation, task, kind, why, read_back: BTreeMap::new() };
        Event::Outcome { node: at, outcome }
    };
    let happened = |kind| {
        let (task, workload) = (task(b), workload_name());
        Event::Task {
            node: node(a),
            event: TaskEvent { task, workload, cgroup: CgroupId(1), kind, at_ns: 0 },
        }
    };
    match what % 26 {
        0 => Event::Started { epoch: ControllerEpoch(u64::from(a) + 2) },
        1 => Event::SpecApplied { workload: workload(kind, b) },
        2 if a < 9 => Event::SpecRemoved { workload: workload_name() },
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
                    workload: workload_name(),
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
        13 => happened(TaskEventKind::Healthy),
        14 => happened(TaskEventKind::Ended {
            status: Some(1),
            signal: None,
            cpu_total_us: None,
            asked: a.is_multiple_of(2),
        }),
        15 if b < 128 => {
            let for_ms = (b < 64).then(|| u64::from(b) * 60_000);
            let decision = DecisionId(number(a));
            Event::Declined { workload: workload_name(), decision, reason: "x".into(), for_ms }
        }
        15 => Event::Approved { workload: workload_name(), decision: DecisionId(number(a)) },
        16 => Event::Cancelled { workload: workload_name(), reason: "x".into() },
        17 if a < 160 => Event::NodeDrained { node: node(a), reason: "kernel".into() },
        17 => Event::NodeReturned { node: node(a) },
        18 => Event::Nodes {
            nodes: vec![NodeDigest {
                node: node(a),
                age_ms: Some(u64::from(b)),
                cpu_cores: Some([0.5, 1e18, -1.0, f64::NAN, f64::INFINITY][usize::from(c % 5)]),
                memory_bytes: Some(number(b)),
                tasks: 1,
            }],
        },
        19 => Event::Digest(Digest {
            workload: workload_name(),
            replicas: vec![ReplicaDigest {
                task: task(a),
                node: node(b),
                age_ms: Some(1),
                cpu_cores: Some([0.5, 1e18, f64::NAN][usize::from(c % 3)]),
                throttled_ratio: None,
                run_delay_mean_seconds: None,
                memory_bytes: Some(number(c)),
                oom_kills: None,
                puma: None,
            }],
            balancer: None,
        }),
        _ => {
            let report = match kind % 3 {
                0 => ClusterReport::Yarn(yarn(a, b, c)),
                1 => ClusterReport::Hdfs(hdfs(a, b, c)),
                _ => ClusterReport::Cassandra(Box::new(ring(a, b, c))),
            };
            Event::Cluster(Box::new(ClusterDigest {
                workload: workload_name(),
                node: node(a),
                at: now,
                report,
            }))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn nothing_breaks(
        kind in any::<u8>(),
        script in prop::collection::vec((any::<[u8; 4]>(), 0u64..20_000), 1..150)
    ) {
        let (mut brain, mut again) = (Brain::new(Config::default()), Brain::new(Config::default()));
        let mut now = Time(1);
        let (mut sent, mut last) = (Vec::new(), (CommandId(0), Generation(0)));
        // Started, its specification, three nodes; then anything.
        let first = [[0; 4], [1, 0, 0, 0], [5, 0, 0, 0], [5, 1, 0, 0], [5, 2, 0, 0]].map(|bytes| (bytes, 0));
        for (bytes, ms) in first.into_iter().chain(script) {
            now = now.after(ms);
            let told = event(kind, bytes, &sent, now);
            if matches!(told, Event::Started { .. }) {
                last = (CommandId(0), Generation(0));
            }
            again.observe(told.clone(), now);
            brain.observe(told, now);
            let (plan, other) = (brain.next(now), again.next(now));
            prop_assert_eq!(&plan, &other);
            prop_assert!(plan.wake_at.is_none_or(|at| at > now), "{:?} at {:?}", plan.wake_at, now);
            for decision in &plan.decisions {
                serde_json::to_string(decision).unwrap();
                prop_assert!(!decision.reasons.is_empty(), "{decision}");
            }
            for (_, command) in &plan.commands {
                prop_assert!(command.id > last.0 && command.generation > last.1, "{command:?}");
                last = (command.id, command.generation);
            }
            serde_json::to_string(&brain.workloads(now)).unwrap();
            sent.extend(plan.commands);
            let spare = sent.len().saturating_sub(8);
            sent.drain(..spare);
            brain.take_idle();
            again.take_idle();
        }
    }
}
