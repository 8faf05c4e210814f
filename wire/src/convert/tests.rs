use std::collections::BTreeMap;

use model::action::{
    BalancerStep, Command, Crowded, Outcome, OutcomeKind, Size, Strain, TaskEvent, TaskEventKind, Verb,
};
use model::adapter::{AdapterReport, BalancerReport, PumaReport, Quantiles, ServerReport, ServerState};
use model::gap::{Gap, GapKind, Unavailable};
use model::id::{AgentEpoch, BootId, CgroupId, CommandId, ControllerEpoch, Generation};
use model::node::{Incarnation, Inventory, Receipt, Spooled, Tier};
use model::workload::Class;

use super::*;
use crate::pb;

fn command(verb: Verb) -> Command {
    Command {
        id: CommandId(7),
        epoch: ControllerEpoch(3),
        generation: Generation(11),
        workload: "web".parse().unwrap(),
        task: "web-4".parse().unwrap(),
        verb,
        deadline_ms: 1_800_000_000_000,
    }
}

#[test]
fn every_verb_survives_the_wire() {
    let size = Size { cpu_max_millis: Some(1500), memory_max_bytes: Some(0), ..Size::default() };
    let step = |step| Verb::Balancer { backend: "web".to_owned(), step };
    let add = BalancerStep::Add { host: "127.0.0.1".to_owned(), port: 9300, check_port: 9400, limit: 8 };
    let parameters = BTreeMap::from([("port".to_owned(), "9300".to_owned())]);
    for verb in [
        Verb::Start {
            launcher: "puma-web".parse().unwrap(),
            parameters,
            size,
            startup_cpu_millis: Some(2_000),
            class: Class::BestEffort,
        },
        Verb::Classify { class: Class::LatencyCritical },
        Verb::Classify { class: Class::Standard },
        Verb::Stop { grace_ms: 30_000 },
        Verb::Resize { size },
        Verb::Freeze,
        Verb::Thaw,
        Verb::Reclaim { bytes: 1 << 20 },
        step(add),
        step(BalancerStep::Ready),
        step(BalancerStep::Drain),
        step(BalancerStep::Maintenance),
        step(BalancerStep::Remove),
        Verb::PumaWorkers { by: -1 },
    ] {
        let sent = command(verb);
        assert_eq!(Command::try_from(pb::Command::from(sent.clone())), Ok(sent));
    }
}

#[test]
fn a_hostile_command_is_refused() {
    let good = pb::Command::from(command(Verb::Freeze));
    let cases: [(&str, pb::Command); 4] = [
        ("path", pb::Command { task: "../../etc".into(), ..good.clone() }),
        ("shell", pb::Command { workload: "$(id)".into(), ..good.clone() }),
        ("no verb", pb::Command { verb: None, ..good.clone() }),
        ("workers", pb::Command { verb: Some(pb::command::Verb::PumaWorkers(90)), ..good }),
    ];
    for (what, message) in cases {
        assert!(Command::try_from(message).is_err(), "{what}");
    }
}

#[test]
fn reports_and_events_survive_the_wire() {
    let q = Quantiles { count: 10, p50_ms: 1.0, p95_ms: 4.0, p99_ms: 9.0, max_ms: 20.0 };
    let balancer = BalancerReport {
        backend: "web".into(),
        queued: 3,
        requests_total: 100,
        errors_5xx_total: 1,
        errors_connection_total: 2,
        queue_delay: Some(q),
        response_time: None,
        servers: vec![ServerReport {
            server: "web-1".into(),
            address: "127.0.0.1:9301".into(),
            state: ServerState::Failing,
            active: 2,
            queued: 0,
            limit: 4,
            check: "L7TOUT".into(),
        }],
        started_ms: 5,
    };
    let puma = PumaReport {
        task: "web-1".parse().unwrap(),
        booted_workers: 2,
        workers: 2,
        max_threads: 4,
        busy_threads: 1,
        accept_queue: None,
    };
    for report in [
        AdapterReport::Balancer(balancer),
        AdapterReport::Puma(puma),
        AdapterReport::Unreachable { endpoint: "/run/x.sock".into(), why: "connection refused".into() },
    ] {
        assert_eq!(AdapterReport::try_from(pb::AdapterReport::from((9, report.clone()))), Ok(report));
    }
    for kind in [
        TaskEventKind::Started { pid: 4 },
        TaskEventKind::Adopted { pid: 4 },
        TaskEventKind::Healthy,
        TaskEventKind::Unhealthy { why: "timeout".into() },
        TaskEventKind::Strained { strain: Strain { oom_kills: 2, forks_refused: 0 } },
        TaskEventKind::Crowded {
            crowded: Crowded {
                stalled_ppm: 620_000,
                by: Some("hog-1".parse().unwrap()),
                bytes_per_s: 45_000_000,
                share_ppm: 930_000,
            },
        },
        TaskEventKind::Crowded {
            crowded: Crowded { stalled_ppm: 1_000_000, by: None, bytes_per_s: 0, share_ppm: 0 },
        },
        TaskEventKind::Ended { status: None, signal: Some(9), cpu_total_us: Some(12), asked: false },
    ] {
        let (task, workload) = ("web-1".parse().unwrap(), "web".parse().unwrap());
        let event = TaskEvent { task, workload, cgroup: CgroupId(5), kind, at_ns: 77 };
        assert_eq!(TaskEvent::try_from(pb::TaskEvent::from(event.clone())), Ok(event));
    }
    let gap = Gap { kind: GapKind::Merged, from_ns: 1, to_ns: 2, cause: "spool full".into() };
    assert_eq!(Gap::try_from(pb::Gap::from(gap.clone())), Ok(gap));
    let outcome = Outcome {
        command: CommandId(1),
        generation: Generation(2),
        task: "web-1".parse().unwrap(),
        kind: OutcomeKind::Refused,
        why: "lower generation".into(),
        read_back: BTreeMap::new(),
    };
    assert_eq!(Outcome::try_from(pb::Outcome::from(outcome.clone())), Ok(outcome));
}

#[test]
fn quantiles_that_make_no_sense_are_refused() {
    let good = pb::Quantiles { count: 1, p50_ms: 1.0, p95_ms: 2.0, p99_ms: 3.0, max_ms: 4.0 };
    for bad in [
        pb::Quantiles { count: 0, ..good },
        pb::Quantiles { p95_ms: f64::NAN, ..good },
        pb::Quantiles { p50_ms: -1.0, ..good },
        pb::Quantiles { p95_ms: 9.0, ..good },
    ] {
        let report = pb::BalancerReport { queue_delay: Some(bad), ..Default::default() };
        assert!(BalancerReport::try_from(report).is_err(), "{bad:?}");
    }
}

#[test]
fn an_introduction_survives_and_another_major_version_is_refused() {
    let sent = Hello {
        node: "node-1.example".parse().unwrap(),
        incarnation: Incarnation { boot: BootId(42), agent: AgentEpoch(9) },
        inventory: Inventory {
            cpus: 2,
            memory_bytes: 1 << 34,
            kernel: "6.18".into(),
            tier: Tier::C,
            features: vec!["switch".into()],
            unavailable: vec![Unavailable { what: "io".into(), why: "no io controller".into() }],
            launchers: vec!["puma-web".into()],
            acts: true,
            rack: Some("r1".parse().unwrap()),
            version: Some("0.1.0".into()),
        },
        tasks: [None, Some(Class::BestEffort)]
            .map(|class| RunsHere {
                task: "web-1".parse().unwrap(),
                workload: "web".parse().unwrap(),
                cgroup: CgroupId(3),
                generation: Generation(1),
                healthy: true,
                class,
            })
            .into(),
        boot_ns: 1,
        wall_ms: 2,
    };
    let message = hello_to_pb(sent.clone());
    assert_eq!(hello(message.clone()), Ok(sent));
    let future = pb::Hello { version: Some(pb::Version { major: 2, minor: 0 }), ..message };
    assert!(hello(future).unwrap_err().to_string().contains("upgrade the older one"));
}

#[test]
fn a_receipt_survives_and_what_an_agent_does_not_say_is_absent() {
    let said = Receipt {
        interval_ns: 10,
        kernel_us: 5,
        switch_us: Some(6),
        proc_stat_us: 7,
        iterator_error_us: Some(0),
        spool: Some(Spooled { rounds: 3, bytes: 4096 }),
    };
    assert_eq!(Receipt::from(pb::Receipt::from(said)), said);
    let less = Receipt { switch_us: None, iterator_error_us: None, spool: None, ..said };
    assert_eq!(Receipt::from(pb::Receipt::from(less)), less);
}

#[test]
fn a_long_text_of_ours_is_cut_to_what_the_wire_allows() {
    let cut = fit("é".repeat(400));
    assert!(cut.len() <= TEXT_LIMIT && cut.ends_with('…'));
    assert_eq!(fit("short".to_owned()), "short");
}
