use model::id::{AgentEpoch, CgroupId};
use model::metric::Metric;
use model::node::{TaskClass, TaskInfo, Tier};
use model::sample::Values;
use model::workload::Workload;

use super::*;

fn node() -> NodeId {
    NodeId::new("a").unwrap()
}

fn up(fleet: &mut Fleet, boot: u128) {
    let inventory = Inventory {
        cpus: 2,
        memory_bytes: 1 << 30,
        kernel: String::new(),
        tier: Tier::A,
        features: vec![],
        unavailable: vec![],
        launchers: vec![],
        acts: true,
    };
    fleet.node_up(node(), Incarnation { boot: BootId(boot), agent: AgentEpoch(1) }, inventory, Time(0));
}

fn info(cgroup: u64, task: Option<&str>) -> TaskInfo {
    TaskInfo {
        cgroup: CgroupId(cgroup),
        since_ns: 0,
        class: TaskClass {
            kind: "puma".into(),
            name: "web".into(),
            workload: task.map(|_| "web".parse().unwrap()),
            task: task.map(|t| t.parse().unwrap()),
        },
    }
}

fn values(cpu_us: u64, memory: u64) -> Values {
    let mut values = Values::default();
    values.set(Metric::CpuTime, cpu_us);
    values.set(Metric::MemoryCurrent, memory);
    values
}

const SECOND: u64 = 1_000_000_000;

fn service() -> Workload {
    serde_json::from_value(serde_json::json!({"name": "web", "spec": {
        "type": "service", "replicas": {"min": 1, "max": 2}, "target": {"cpu": "65%"},
        "service": {"launcher": "worker"}
    }}))
    .unwrap()
}

#[test]
fn usage_of_a_round_spans_all_its_samples() {
    let mut fleet = Fleet::new();
    up(&mut fleet, 1);
    let table = fleet.node(&node()).unwrap();
    assert!(table.task_appeared(3, info(9, Some("web-1")), Time(0)));
    for second in 0..=4u64 {
        let sample = values(second * 250_000, 5);
        let taken = table.sample(3, second * SECOND, &sample, Time(second * 1_000));
        assert_eq!(taken, Ingest::Taken);
    }
    let digest = &fleet.digests([&service()], Time(4_500))[0];
    assert_eq!(digest.replicas[0].cpu_cores, Some(0.25));
    assert_eq!(digest.replicas[0].age_ms, Some(500));
    // A round without a new sample repeats the usage, and its age says so.
    let digest = &fleet.digests([&service()], Time(9_000))[0];
    assert_eq!((digest.replicas[0].cpu_cores, digest.replicas[0].age_ms), (Some(0.25), Some(5_000)));
}

#[test]
fn odd_samples_change_no_total() {
    let mut fleet = Fleet::new();
    up(&mut fleet, 1);
    let table = fleet.node(&node()).unwrap();
    table.task_appeared(0, info(9, None), Time(0));
    assert_eq!(table.sample(0, 5, &values(100, 0), Time(1)), Ingest::Taken);
    assert_eq!(table.sample(0, 5, &values(100, 0), Time(2)), Ingest::Duplicate);
    assert_eq!(table.sample(0, 4, &values(90, 0), Time(3)), Ingest::Older);
    assert_eq!(table.sample(1, 6, &values(90, 0), Time(3)), Ingest::UnknownSlot);
    assert_eq!(table.cpu_total_us(), 100);
    assert_eq!(table.sample(0, 6, &values(10, 0), Time(4)), Ingest::Restarted(Metric::CpuTime));
    assert!(!table.task_appeared(SLOT_LIMIT, info(1, None), Time(5)));
}

#[test]
fn the_totals_of_an_ended_task_are_those_read_after_its_end() {
    let mut fleet = Fleet::new();
    up(&mut fleet, 1);
    let table = fleet.node(&node()).unwrap();
    table.task_appeared(0, info(9, None), Time(0));
    table.sample(0, SECOND, &values(1_000, 7), Time(1_000));
    table.task_gone(0, Some((2 * SECOND, &values(1_234, 0))));
    assert_eq!(table.cpu_total_us(), 1_234);
    up(&mut fleet, 1);
    let ended = fleet.take_ended();
    assert_eq!(ended.len(), 1, "a new stream does not lose what nobody took");
    assert_eq!(ended[0].1.totals.unwrap().get(Metric::CpuTime), Some(1_234));
}

#[test]
fn a_boot_ends_all_tasks_of_the_one_before() {
    let mut fleet = Fleet::new();
    up(&mut fleet, 1);
    let table = fleet.node(&node()).unwrap();
    table.task_appeared(0, info(9, None), Time(0));
    table.sample(0, SECOND, &values(1_000, 7), Time(1_000));
    up(&mut fleet, 2);
    let ended = fleet.take_ended();
    assert_eq!(ended[0].1.key.boot, BootId(1));
    assert_eq!(ended[0].1.totals.unwrap().get(Metric::CpuTime), Some(1_000));
}

#[test]
fn an_unreachable_adapter_leaves_its_last_report_to_grow_old() {
    let mut fleet = Fleet::new();
    up(&mut fleet, 1);
    let report = PumaReport {
        task: "web-1".parse().unwrap(),
        booted_workers: 1,
        workers: 1,
        max_threads: 2,
        busy_threads: 1,
        accept_queue: None,
    };
    fleet.report(&node(), AdapterReport::Puma(report), Time(1_000));
    let silent = AdapterReport::Unreachable { endpoint: "x".into(), why: "refused".into() };
    fleet.report(&node(), silent, Time(3_000));
    fleet.node(&node()).unwrap().task_appeared(0, info(9, Some("web-1")), Time(0));
    let digest = &fleet.digests([&service()], Time(5_000))[0];
    assert_eq!(digest.replicas[0].puma.as_ref().unwrap().1, 4_000);
}
