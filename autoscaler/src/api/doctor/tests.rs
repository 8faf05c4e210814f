use super::*;
use crate::api::{Pause, Unavailable};
use autoscaler_core::event::Time;
use autoscaler_core::fleet::Fleet;
use model::id::{AgentEpoch, BootId, NodeId};
use model::node::{Incarnation, Inventory, Tier};

const HOUR: u64 = 3600;

fn status() -> Status {
    Status {
        api_version: "trimtab/v1".into(),
        version: "1.2.3".into(),
        state: "acting".into(),
        frozen: None,
        pauses: Vec::new(),
        epoch: 1,
        agents: 1,
        now_ms: 1_000_000_000,
    }
}

/// A node as it should be.
fn node(name: &str) -> Node {
    let mut fleet = Fleet::new();
    let id = NodeId::new(name).unwrap();
    let incarnation = Incarnation { boot: BootId(1), agent: AgentEpoch(1) };
    fleet.node_up(id.clone(), incarnation, Inventory::new(2, 1 << 30, Tier::A), Time(0));
    let node = Node::from(fleet.view(&id, Time(0)).unwrap());
    Node { agent_version: Some("1.2.3".into()), samples: 1000, age_ms: Some(900), ..node }
}

fn ill(status: &Status, service: &Service, nodes: &[Node]) -> Vec<(Verdict, String)> {
    let all = Doctor::of(status, service, nodes).findings;
    for finding in &all {
        assert_eq!(finding.fix.is_none(), finding.verdict == Verdict::Pass, "{finding:?}");
        assert!(!finding.found.is_empty() && finding.fix.as_deref() != Some(""), "{finding:?}");
    }
    all.into_iter()
        .filter(|finding| finding.verdict != Verdict::Pass)
        .map(|finding| (finding.verdict, format!("{}: {}", finding.check, finding.found)))
        .collect()
}

fn one(change: impl FnOnce(&mut Node)) -> Vec<(Verdict, String)> {
    let mut changed = node("n2");
    change(&mut changed);
    ill(&status(), &Service::default(), &[node("n1"), changed])
}

fn warned(found: &str) -> Vec<(Verdict, String)> {
    vec![(Verdict::Warn, found.to_owned())]
}

#[test]
fn what_is_as_it_should_be_passes() {
    assert_eq!(ill(&status(), &Service::default(), &[node("n1"), node("n2")]), []);
    let answer = Doctor::of(&status(), &Service::default(), &[node("n1")]);
    let checks: Vec<&str> = answer.findings.iter().map(|finding| finding.check.as_str()).collect();
    let expected = [
        "store",
        "acting",
        "history",
        "certificate",
        "agents",
        "versions",
        "samples",
        "clocks",
        "backlog",
        "refused samples",
        "CPU ledgers",
        "measured",
    ];
    assert_eq!((answer.ok, checks), (true, expected.to_vec()));
}

#[test]
fn what_is_not_known_yet_is_no_fault() {
    let unknown = |node: &mut Node| {
        (node.age_ms, node.clock_skew_ms, node.spooled_rounds, node.accounting_error_ratio) =
            (None, None, None, None);
        (node.samples, node.refused_samples) = (0, 0);
    };
    assert_eq!(one(unknown), []);
}

#[test]
fn each_fault_of_a_node_is_found_at_its_threshold_and_named() {
    assert_eq!(one(|node| node.age_ms = Some(60_000)), []);
    assert_eq!(
        one(|node| node.age_ms = Some(60_001)),
        warned("samples: connected, and none for over a minute: n2")
    );
    assert_eq!(one(|node| node.clock_skew_ms = Some(999)), []);
    for ms in [-1_000, 1_000, i64::MIN] {
        let found = "clocks: a second or more from the autoscaler's: n2";
        assert_eq!(one(|node| node.clock_skew_ms = Some(ms)), warned(found));
    }
    assert_eq!(one(|node| node.spooled_rounds = Some(59)), []);
    let found = "backlog: a minute or more waits on the disk of n2";
    assert_eq!(one(|node| node.spooled_rounds = Some(60)), warned(found));
    assert_eq!(one(|node| node.refused_samples = 10), []);
    let found = "refused samples: more than one in a hundred, since they connected: n2";
    assert_eq!(one(|node| node.refused_samples = 11), warned(found));
    let differ =
        |error, cores| one(|node| (node.accounting_error_ratio, node.cpu_cores) = (Some(error), cores));
    assert_eq!(differ(0.05, Some(0.1)), []);
    assert_eq!(differ(0.051, Some(0.1)), warned("CPU ledgers: differ by more than 5 %: n2"));
    assert_eq!((differ(0.5, Some(0.09)), differ(0.5, None)), (vec![], vec![]));
    for version in [None, Some("1.2.2".to_owned())] {
        let found = "versions: another than 1.2.3, or one that does not tell it: n2";
        assert_eq!(one(|node| node.agent_version = version), warned(found));
    }
}

#[test]
fn of_a_node_that_is_away_it_is_said_once() {
    let away = |node: &mut Node| {
        (node.connected, node.age_ms, node.agent_version) = (false, Some(9_000_000), None);
    };
    assert_eq!(one(away), warned("agents: 1 of 2 connected; not n2"));
    let none = ill(&status(), &Service::default(), &[]);
    assert_eq!(none, warned("agents: no node has connected yet"));
    let many: Vec<Node> = (1..=7).map(|n| Node { connected: false, ..node(&format!("n{n}")) }).collect();
    let found = "agents: 0 of 7 connected; not n1, n2, n3, n4, n5 and 2 more";
    assert_eq!(ill(&status(), &Service::default(), &many), warned(found));
}

#[test]
fn what_cannot_be_measured_is_told_by_its_reason() {
    let lacking = |name: &str, why: &str| {
        let unavailable = vec![Unavailable { what: "pressure".into(), why: why.into() }];
        Node { unavailable, ..node(name) }
    };
    let nodes = [
        lacking("a", "boot with psi=1"),
        lacking("b", "no /proc"),
        lacking("c", "boot with psi=1"),
        node("d"),
    ];
    let answer = Doctor::of(&status(), &Service::default(), &nodes);
    let told: Vec<_> = answer.findings.iter().filter(|f| f.check.starts_with("measured")).cloned().collect();
    assert_eq!(
        told,
        [
            Finding::warn("measured: pressure", "not on 2 of 4: a, c", "boot with psi=1"),
            Finding::warn("measured: pressure", "not on 1 of 4: b", "no /proc"),
        ]
    );
    let each: Vec<Node> = (0..30).map(|n| lacking(&format!("n{n}"), &format!("why {n:02}"))).collect();
    let many = ill(&status(), &Service::default(), &each);
    assert_eq!((many.len(), many.last().unwrap().1.as_str()), (LACKING + 1, "measured: 10 other reasons"));
}

#[test]
fn the_service_itself_is_looked_at() {
    let frozen = Status { state: "frozen".into(), frozen: Some("disk full".into()), ..status() };
    let found = ill(&frozen, &Service::default(), &[node("n1")]);
    assert_eq!(found[0], (Verdict::Fail, "store: disk full".into()));
    assert_eq!((found.len(), found[1].0), (2, Verdict::Fail));
    assert!(!Doctor::of(&frozen, &Service::default(), &[]).ok);

    let pause = |workload: Option<&str>, reason: &str| Pause {
        workload: workload.map(Into::into),
        reason: reason.into(),
        since_ms: 0,
        until_ms: None,
    };
    let pauses = vec![pause(Some("web"), "one only"), pause(None, "holidays")];
    let paused = Status { state: "paused".into(), pauses, ..status() };
    assert_eq!(ill(&paused, &Service::default(), &[node("n1")]), warned("acting: paused: holidays"));

    let lost = Service { history_failed: 2, history_dropped: 3, ..Service::default() };
    let found = "history: since its start 2 writes failed and 3 batches were dropped";
    assert_eq!(ill(&status(), &lost, &[node("n1")]), warned(found));

    let now = status().now_ms / 1000;
    let ends = |at| Service { certificate_expiry_s: Some(at), ..Service::default() };
    assert_eq!(ill(&status(), &ends(now + 4 * HOUR), &[node("n1")]), []);
    for (at, found) in [
        (now + 4 * HOUR - 1, "certificate: it ends in 240 min"),
        (now, "certificate: it has ended: agents cannot connect"),
        (0, "certificate: it has ended: agents cannot connect"),
    ] {
        let found = vec![(Verdict::Fail, found.to_owned())];
        assert_eq!(ill(&status(), &ends(at), &[node("n1")]), found);
    }
}
