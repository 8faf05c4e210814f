use std::collections::BTreeMap;

use autoscaler_core::event::Time;
use autoscaler_core::fleet::Fleet;
use autoscaler_core::idle::{Cause, Idle};
use autoscaler_core::room::Room;
use autoscaler_core::survive::{Host, Kind, Piece, Question, Role};
use autoscaler_core::view::{DrainView, LoadView, SizeView};
use model::action::Size;
use model::decision::DecisionKind;
use model::id::{AgentEpoch, BootId, NodeId, WorkloadName};
use model::node::{Incarnation, Inventory, Tier};
use model::units::{Millis, Share};
use model::workload::{Mode, Policy, SizeMode, WorkloadKind};

use super::*;
use crate::control::Decided;

const NOW: Time = Time(1_000_000);

fn workload(name: &str) -> WorkloadView {
    WorkloadView {
        name: WorkloadName::new(name).unwrap(),
        kind: WorkloadKind::Rails,
        mode: Mode::Auto,
        policy: Policy::Trimtab,
        min: 2,
        max: 9,
        wanted: 4,
        up: 3,
        starting: 1,
        leaving: 0,
        replicas: Vec::new(),
        paused: None,
        frozen: Vec::new(),
        load: LoadView { queue_delay_p95_ms: Some(30.0), ..LoadView::default() },
        size: SizeView {
            mode: SizeMode::Recommend,
            given: Size { cpu_max_millis: Some(1_500), ..Size::default() },
            phase: "steady",
            to: None,
            canary: None,
            held: None,
            advice: None,
        },
        last: None,
        cluster: None,
    }
}

/// A member on `n1` of which no memory is said.
fn member(cpu_millis: Option<u64>) -> Piece {
    let (workload, node) = (WorkloadName::new("web").unwrap(), NodeId::new("n1").unwrap());
    Piece { workload, node, role: Role::Member, given: (cpu_millis, None), used: (None, None) }
}

/// Two nodes, of which `n2` fell silent, and one workload.
fn facts() -> Facts {
    let mut fleet = Fleet::new();
    for (name, boot) in [("n1", 1), ("n2", 2)] {
        let node = NodeId::new(name).unwrap();
        let incarnation = Incarnation { boot: BootId(boot), agent: AgentEpoch(1) };
        fleet.node_up(node.clone(), incarnation, Inventory::new(8, 16 << 30, Tier::B), NOW);
        if name == "n2" {
            fleet.node_down(&node, NOW);
        }
    }
    let target = Target { queue_delay_p95: Some(Millis(20)), cpu: Some(Share(0.65)), ..Target::default() };
    Facts {
        now: NOW,
        epoch: 3,
        waiting: 0,
        nodes: fleet.nodes(NOW),
        drains: BTreeMap::from([(NodeId::new("n2").unwrap(), DrainView { why: "disk".into(), left: 2 })]),
        workloads: vec![(workload("web"), target)],
        losses: Question { pieces: [Some(2_500), None].map(member).into(), ..Question::default() },
        decided: BTreeMap::from([(
            Decided {
                workload: WorkloadName::new("web").unwrap(),
                kind: DecisionKind::ScaleOut,
                reason: "forecast_above",
                act: true,
            },
            5,
        )]),
    }
}

fn said(facts: &Facts, stored: Option<&Stored>) -> String {
    Metrics::new().scrape(Format::OpenMetrics, Some(facts), stored)
}

/// The value of a sample, by all that is before it.
fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn what_is_not_known_is_absent_and_what_is_known_is_told() {
    let text = said(&facts(), None);
    for (sample, expected) in [
        ("trimtab_node_connected{node=\"n1\"}", Some(1.0)),
        ("trimtab_node_connected{node=\"n2\"}", Some(0.0)),
        ("trimtab_node_capacity_cpu_cores{node=\"n1\"}", Some(8.0)),
        ("trimtab_node_capacity_cpu_cores{node=\"n2\"}", None),
        ("trimtab_node_used_cpu_cores{node=\"n1\"}", None),
        ("trimtab_node_sample_age_seconds{node=\"n1\"}", None),
        ("trimtab_node_reserved_cpu_cores{node=\"n1\"}", Some(2.5)),
        ("trimtab_node_reserved_memory_bytes{node=\"n1\"}", None),
        ("trimtab_node_reserved_cpu_cores{node=\"n2\"}", None),
        ("trimtab_node_network_received_bytes_total{node=\"n1\"}", None),
        ("trimtab_node_drain_replicas{node=\"n2\"}", Some(2.0)),
        ("trimtab_node_drain_replicas{node=\"n1\"}", None),
        ("trimtab_node_info{node=\"n1\",tier=\"B\"}", Some(1.0)),
        ("trimtab_replicas{workload=\"web\",state=\"up\"}", Some(3.0)),
        ("trimtab_replicas_max{workload=\"web\"}", Some(9.0)),
        ("trimtab_queue_delay_p95_seconds{workload=\"web\"}", Some(0.03)),
        ("trimtab_target_queue_delay_p95_seconds{workload=\"web\"}", Some(0.02)),
        ("trimtab_target_reached_ratio{workload=\"web\",signal=\"queue_delay\"}", Some(1.5)),
        ("trimtab_target_reached_ratio{workload=\"web\",signal=\"cpu\"}", None),
        ("trimtab_workload_reserved_cpu_cores{workload=\"web\"}", Some(6.0)),
        ("trimtab_workload_reserved_memory_bytes{workload=\"web\"}", None),
        (
            "trimtab_workload_info{workload=\"web\",kind=\"rails\",mode=\"auto\",policy=\"trimtab\"}",
            Some(1.0),
        ),
        (
            "trimtab_decisions_total{workload=\"web\",kind=\"scale_out\",reason=\"forecast_above\",act=\"true\"}",
            Some(5.0),
        ),
        ("trimtab_certificate_expiry_seconds", None),
        ("trimtab_paused", None),
        ("trimtab_loop_answers", Some(1.0)),
    ] {
        assert_eq!(value(&text, sample), expected, "{sample} in {text}");
    }
}

#[test]
fn nothing_of_the_fleet_is_told_when_the_loop_does_not_answer() {
    let metrics = Metrics::new();
    metrics.certificate_expiry.set(77);
    let text = metrics.scrape(Format::OpenMetrics, None, Some(&Stored::default()));
    assert_eq!(value(&text, "trimtab_loop_answers"), Some(0.0));
    assert_eq!(value(&text, "trimtab_certificate_expiry_seconds"), Some(77.0));
    assert!(value(&text, "trimtab_cpu_seconds_total").is_some_and(|used| used > 0.0));
    assert!(value(&text, "trimtab_resident_memory_bytes").is_some_and(|bytes| bytes > 1e5));
    assert!(!text.contains("node=") && !text.contains("workload=") && !text.contains("paused"), "{text}");
}

#[test]
fn use_and_causes_of_the_ledger_add_up_to_the_capacity_and_an_old_page_says_nothing() {
    let amount = |cores: u64, gib: u64| Amount {
        cpu_millicore_ms: cores * 1_000 * 60_000,
        memory_kib_ms: gib * 1_048_576 * 60_000,
    };
    let web = WorkloadName::new("web").unwrap();
    let blocked = Cause::Blocked { workload: web.clone(), rule: "step".into() };
    let page = Page {
        from: Time(NOW.0 - 70_000),
        to: Time(NOW.0 - 10_000),
        capacity: amount(8, 16),
        used: amount(3, 4),
        idle: vec![
            Idle { cause: blocked, amount: amount(1, 2) },
            Idle { cause: Cause::OverSized { workload: web }, amount: amount(1, 4) },
            Idle { cause: Cause::NoDemand, amount: amount(3, 6) },
        ],
    };
    let stored = |page: &Page| Stored { page: Some(page.clone()), ..Stored::default() };
    let text = said(&facts(), Some(&stored(&page)));
    assert_eq!(
        value(&text, "trimtab_idle_cpu_cores{cause=\"blocked\",workload=\"web\",reason=\"step\"}"),
        Some(1.0)
    );
    assert_eq!(value(&text, "trimtab_idle_memory_bytes{cause=\"no_demand\"}"), Some(6.0 * GIB));
    for (unit, capacity) in [("cpu_cores", 8.0), ("memory_bytes", 16.0 * GIB)] {
        let idle: f64 = text
            .lines()
            .filter(|line| line.starts_with(&format!("trimtab_idle_{unit}{{")))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        let used = value(&text, &format!("trimtab_ledger_used_{unit}")).unwrap();
        assert_eq!(value(&text, &format!("trimtab_ledger_capacity_{unit}")), Some(capacity));
        assert!((idle + used - capacity).abs() < 1e-6 * capacity, "{unit}: {idle} + {used}");
    }
    let old = Page { from: Time(0), to: Time(NOW.0 - PAGE_SHOWN_MS - 1), ..page };
    assert!(!said(&facts(), Some(&stored(&old))).contains("trimtab_idle_"));
}

/// Two nodes of 8 cores, and on `n1` a replica that `n2` has room for when it is of 2 cores.
fn losses(cores: Option<u64>) -> Question {
    let host = |name: &str| Host {
        name: NodeId::new(name).unwrap(),
        rack: None,
        launchers: ["puma".to_owned()].into(),
        capacity: Room { cpu_millis: 8_000, memory_bytes: 16 << 30 },
        used: (Some(1_000), Some(1 << 30)),
    };
    let given = (cores.map(|cores| cores * 1_000), Some(1 << 30));
    let workload = WorkloadName::new("web").unwrap();
    let role = Role::Moves { launcher: "puma".to_owned() };
    let node = NodeId::new("n1").unwrap();
    let piece = Piece { workload: workload.clone(), node, role, given, used: (Some(0), Some(0)) };
    let kinds = vec![Kind { workload, launcher: "puma".to_owned(), given }];
    Question { hosts: vec![host("n1"), host("n2")], pieces: vec![piece], kinds }
}

#[test]
fn whether_a_loss_is_survived_is_told_only_when_it_is_known() {
    let text = |cores| said(&Facts { losses: losses(cores), ..facts() }, None);
    let of_all = |text: &str| value(text, "trimtab_survives_loss{of=\"node\"}");
    let of = |text: &str, node: &str| value(text, &format!("trimtab_node_loss_survived{{node=\"{node}\"}}"));
    let small = text(Some(2));
    assert_eq!((of_all(&small), of(&small, "n1"), of(&small, "n2")), (Some(1.0), Some(1.0), Some(1.0)));
    assert_eq!(value(&small, "trimtab_headroom_cpu_cores"), Some(12.0));
    assert_eq!(value(&small, "trimtab_headroom_memory_bytes"), Some(29.0 * GIB));
    assert_eq!(value(&small, "trimtab_workload_room_replicas{workload=\"web\"}"), Some(2.0 + 3.0));
    let large = text(Some(8));
    assert_eq!((of_all(&large), of(&large, "n1"), of(&large, "n2")), (Some(0.0), Some(0.0), Some(1.0)));
    let unknown = text(None);
    assert_eq!((of_all(&unknown), of(&unknown, "n1"), of(&unknown, "n2")), (None, None, Some(1.0)));
    assert!(!unknown.contains("workload_room") && !unknown.contains("of=\"rack\""), "{unknown}");
}

#[test]
fn a_pause_of_all_and_one_of_a_workload_are_told_apart() {
    let pause = |workload: Option<&str>| PauseRow {
        workload: workload.map(|name| WorkloadName::new(name).unwrap()),
        reason: "deploy".into(),
        at_ms: NOW.0 - 5_000,
        until_ms: None,
    };
    let stored = |pauses: Vec<PauseRow>| Stored { pauses, ..Stored::default() };
    let text = said(&facts(), Some(&stored(vec![pause(Some("web"))])));
    assert_eq!(value(&text, "trimtab_paused"), Some(0.0));
    assert_eq!(value(&text, "trimtab_paused_seconds"), None);
    assert_eq!(value(&text, "trimtab_workload_paused_seconds{workload=\"web\"}"), Some(5.0));
    let gone = said(&facts(), Some(&stored(vec![pause(Some("withdrawn"))])));
    assert!(!gone.contains("withdrawn"), "{gone}");
    let text = said(&facts(), Some(&stored(vec![pause(None)])));
    assert_eq!(
        (value(&text, "trimtab_paused"), value(&text, "trimtab_paused_seconds")),
        (Some(1.0), Some(5.0))
    );
    assert!(!text.contains("deploy"), "free text is no label");
}

#[test]
fn no_label_can_be_given_by_an_owner_that_samples_have_themselves() {
    let metrics = Metrics::new();
    metrics.round_seconds.observe(0.1);
    metrics.refused.get_or_create(&crate::metrics::Reason { reason: "x" }).inc();
    metrics.remote_write.waiting(crate::metrics::Waiting::default());
    let page = Page {
        from: Time(NOW.0 - 60_000),
        to: NOW,
        capacity: Amount { cpu_millicore_ms: 1, memory_kib_ms: 1 },
        used: Amount::default(),
        idle: vec![Idle {
            cause: Cause::Blocked { workload: WorkloadName::new("web").unwrap(), rule: "step".into() },
            amount: Amount { cpu_millicore_ms: 1, memory_kib_ms: 1 },
        }],
    };
    let stored = Stored { page: Some(page), ..Stored::default() };
    let text = metrics.scrape(Format::OpenMetrics, Some(&facts()), Some(&stored));
    let mut seen = std::collections::BTreeSet::new();
    for part in text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| line.split("=\"")) {
        if let Some((_, name)) = part.rsplit_once(['{', ',']) {
            seen.insert(name.to_owned());
        }
    }
    let own = crate::config::OWN_LABELS.map(str::to_owned);
    let more: Vec<&String> = seen.iter().filter(|name| !own.contains(name)).collect();
    assert!(more.is_empty() && seen.len() > 8, "{seen:?}, beyond {own:?}: {more:?}");
}

#[test]
fn prices_are_told_where_there_are_some() {
    let spec: PriceSpec = serde_json::from_value(
        serde_json::json!({"currency": "EUR", "perCoreHour": 3.5, "perGibHour": 0.25}),
    )
    .unwrap();
    let text = said(&facts(), Some(&Stored { prices: Some(spec), ..Stored::default() }));
    assert_eq!(value(&text, "trimtab_price_core_hour{currency=\"EUR\"}"), Some(3.5));
    assert_eq!(value(&text, "trimtab_price_gib_hour{currency=\"EUR\"}"), Some(0.25));
    assert!(!said(&facts(), Some(&Stored::default())).contains("trimtab_price"));
}
