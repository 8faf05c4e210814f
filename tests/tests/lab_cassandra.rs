//! The agent beside real Cassandra nodes: what each sees, a decommission, a cleanup, and what is refused before Cassandra is asked.
//!
//! Needs the lab with four nodes: `cargo xtask lab-test adapters` starts it and says where it is in `TRIMTAB_LAB`.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use model::action::{OutcomeKind, Verb};
use model::adapter::AdapterReport;
use model::cassandra::{CassandraMode, CassandraReport, CassandraStep};
use support::controller::Controller;
use support::lab;

const NODES: [&str; 4] = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];

fn seen(controller: &Controller, address: &str, is: impl Fn(&CassandraReport) -> bool) -> CassandraReport {
    controller.report(&format!("Cassandra {address}"), |report| match report {
        AdapterReport::Cassandra(report) if report.address == address && is(report) => {
            Some(CassandraReport::clone(report))
        }
        _ => None,
    })
}

fn verb(node: &str, step: CassandraStep) -> Verb {
    Verb::Cassandra { cluster: "ring".into(), node: node.into(), step }
}

fn order(controller: &mut Controller, task: &str, node: &str, step: CassandraStep) -> (OutcomeKind, String) {
    let outcome = controller.order(task, verb(node, step));
    println!("{node} {step}: {:?} {} {:?}", outcome.kind, outcome.why, outcome.read_back);
    (outcome.kind, outcome.why)
}

#[test]
fn a_node_leaves_when_it_may_and_nobody_leaves_beside_it() {
    let Some(lab) = lab::directory() else { return };
    let Some((stage, mut controller)) = lab::agent(&lab) else { return };
    // The agent is told of nodes that may come, too; those are silent.
    let (silent, found): (Vec<_>, Vec<_>) =
        lab::check(&stage).into_iter().partition(|(check, _)| check.contains("http"));
    assert_eq!(silent.len(), 2, "{silent:?}");
    assert_eq!(found.len(), NODES.len(), "{found:?}");
    assert!(found.iter().all(|(_, what)| what.contains("system_auth has one replica")), "{found:?}");
    for address in NODES {
        let report = seen(&controller, address, |report| !report.replication.is_empty());
        println!("{report:?}");
        assert_eq!((report.mode, report.streams), (CassandraMode::Normal, 0));
        assert_eq!(report.ring.members, NODES);
        assert_eq!(report.replication["system_distributed"], 3, "its default");
        assert_eq!(report.replication["system_auth"], 1, "its default");
        assert_eq!((report.dc.as_str(), report.rack.as_str()), ("dc1", "rack1"));
        assert!(report.disk_bytes > report.disk_free_bytes && report.load_bytes > 0);
    }
    let (kind, why) = order(&mut controller, "ring-9", "127.0.0.9", CassandraStep::Decommission);
    assert!(kind == OutcomeKind::Failed && why.contains("no node of that cluster"), "{why}");
    let (kind, why) = order(&mut controller, "ring-8", "n1; rm", CassandraStep::Decommission);
    assert!(kind == OutcomeKind::Refused && why.contains("no name of a node"), "{why}");

    assert_eq!(
        order(&mut controller, "ring-4", NODES[3], CassandraStep::Decommission).0,
        OutcomeKind::Applied
    );
    assert_eq!(
        order(&mut controller, "ring-4", NODES[3], CassandraStep::Decommission).0,
        OutcomeKind::Already
    );
    seen(&controller, NODES[0], |report| report.ring.leaving.iter().any(|node| node == NODES[3]));
    for step in [CassandraStep::Decommission, CassandraStep::Cleanup] {
        let (kind, why) = order(&mut controller, "ring-3", NODES[2], step);
        assert!(kind == OutcomeKind::Refused && why.contains("127.0.0.4 leaves"), "{why}");
    }
    for address in &NODES[..3] {
        seen(&controller, address, |report| {
            report.ring.members == NODES[..3] && report.ring.leaving.is_empty()
        });
    }
    let left = seen(&controller, NODES[3], |report| report.mode == CassandraMode::Decommissioned);
    println!("{left:?}");
    let healthy = seen(&controller, NODES[2], |_| true);
    assert_eq!(healthy.mode, CassandraMode::Normal, "what was refused here was never asked of it");

    let (kind, why) = order(&mut controller, "ring-3", NODES[2], CassandraStep::Decommission);
    assert!(kind == OutcomeKind::Refused && why.contains("2 members would be left"), "{why}");
    assert_eq!(order(&mut controller, "ring-1", NODES[0], CassandraStep::Cleanup).0, OutcomeKind::Applied);
}
